"""Rays: a few points that move all entries at once, for error bars alone.

What a stencil tells of one entry are its own few values, and these know neither their truncation
nor, where they are equal, their resolution, nor whether all of them lie on one tooth. Six more
points, shared by all entries, do: the same directions near by and far away, where a slope that is
right predicts the value. They are a part of the one batch. This room must not know what the values
are made into.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxfd._arrays import constant, cut, flatten
from jaxfd._estimate.bars.nodes import gain, node_weights
from jaxfd._estimate.layout import Layout
from jaxfd._estimate.task import Call
from jaxfd._methods import Stencil, is_default, weights
from jaxfd._places import Place
from jaxfd._points import Box

# The nearest points lie so many steps away, for stencils of order 2 and of a higher one.
_NEAR, _NEAR_HIGH = 6.0, 1.75
# The others lie in the same direction: with the usual step at these shares of |x|, so that teeth as
# wide as that are seen.
_SECOND_SHARE, _FAR_SHARE, _FAR_SHARE_HIGH = 0.02, 0.052, 0.052
# Between walls those of a higher order stay nearer, or the nearest would come within the stencil.
_FAR_SHARE_WALLED = 0.0155
# The nearest come nearer where there is no room for that, to so many steps at first; then the
# second ones, to so many times as far as the nearest.
_LEAST_NEAR, _LEAST_NEAR_HIGH = 4.0, 1.75
_SECOND, _SECOND_HIGH = 16, 12
# The farthest lie so many times as far as the second, or not in line with them.
_APART = 1.5
# With steps of the user's own the farthest lie at this share of |x|, or so many steps away at
# least.
_FAR, _LEAST = 0.03, 3.0
# Where x is 0 in the eyes of the step they lie so many steps away.
_FAR_AT_ZERO = 4096.0
# With steps of the user's own an entry that is 0 in their eyes has so many steps of room at least.
_LEAST_ROOM = 16.0
# No ray goes farther than this share of |x|: it does not cross 0 where the stencil does not.
_SHARE = 0.25


@dataclasses.dataclass(frozen=True)
class Ray:
    """Points on one line through ``x``.

    Attributes:
        points: which points they are.
        offsets: where they lie, in units of the ray's reach, without ``x``.
        order: the order of accuracy of the slope that they make.
        slope: their weights in the slope at ``x``; that of ``x`` is minus their sum.
        bend: their weights in the highest difference.
        bias: the slope that they make of ``t^(order + 1)``, which has none.
    """

    points: slice
    offsets: tuple[int, ...]
    order: int
    slope: np.ndarray
    bend: np.ndarray
    bias: float

    @property
    def slope_gain(self) -> float:
        """The error of the slope for noise of size 1 in the values."""
        return float(gain(np, self.slope))

    @property
    def bend_gain(self) -> float:
        """The error of the highest difference for noise of size 1."""
        return float(gain(np, self.bend))


@functools.cache
def _ray(first: int, offsets: tuple[int, ...]) -> Ray:
    nodes = tuple(sorted({0, *offsets}))

    def of(derivative: int) -> np.ndarray:
        solved = dict(zip(nodes, weights(nodes, derivative), strict=True))
        return np.array([float(solved[s]) for s in offsets])

    slope = of(1)
    order = len(offsets)
    bias = sum(float(w) * s ** (order + 1) for w, s in zip(slope, offsets, strict=True))
    points = slice(first, first + len(offsets))
    return Ray(points, offsets, order, slope, of(len(offsets)), bias)


@dataclasses.dataclass(frozen=True)
class Line:
    """The two nearest rays, as one of a higher order.

    Attributes:
        points: which points they are.
        slope: their weights in the slope at ``x``, in units of the nearest's reach: ``(K, *lead)``.
        gain: the error of the slope for noise of size 1, shape ``(*lead)``.
        lever: the share of the slope that the farther ray makes, shape ``(*lead)``.
    """

    points: slice
    slope: Float[Any, "k *lead"]
    gain: Float[Any, "*lead"]
    lever: Float[Any, "*lead"]


@dataclasses.dataclass(frozen=True)
class Rays:
    """The points of all rays.

    Attributes:
        every: the rays, the nearest one first.
        whole: the two nearest as one.
        leaves: for each real leaf the points, shape ``(P, *lead, *shape)``.
        moved: how far each entry really moved, shape ``(P, *lead, N)``.
        reach: the reach of each ray, in steps, shape ``(L, *lead, N)``.
        share: the same as a share of the size of the entry that moves most, shape ``(L, *lead)``.
    """

    every: tuple[Ray, ...]
    whole: Line
    leaves: Sequence[Float[Any, "p *lead ..."]]
    moved: Float[Any, "p *lead n"]
    reach: Float[Any, "l *lead n"]
    share: Float[Any, "l *lead"]

    @property
    def count(self) -> int:
        """The number of points."""
        return len(self.moved)


def _every(high: bool, both: bool) -> tuple[Ray, ...]:
    """The rays: three pairs; for stencils of a higher order four points near by, and a pair."""
    pair, four = ((-1, 1), (-2, -1, 1, 2)) if both else ((1, 2), (1, 2, 3, 4))
    if high:
        return _ray(0, four), _ray(4, pair)
    return _ray(0, pair), _ray(2, pair), _ray(4, pair)


def _joined(xp: Any, near: Ray, far: Ray, ratio: Any) -> Line:
    """Two rays in line as one.

    Args:
        xp: the array namespace.
        near: the nearer one.
        far: the farther one.
        ratio: how many times as far it reaches.
    """
    t = [xp.full_like(ratio, s) for s in near.offsets] + [s * ratio for s in far.offsets]
    w, _ = node_weights(xp, xp.stack(t))
    first = len(near.offsets)
    lever = sum(w[k] * t[k] for k in range(first, len(t)))
    return Line(slice(near.points.start, far.points.stop), w, gain(xp, w), xp.abs(lever))


def lay_rays(place: Place, call: Call, layout: Layout) -> Rays:
    """Lays the rays of a stencil.

    Points of a stencil that looks to one side do not pass 0 to the other: one entry alone is looked
    at on that side, and of several those at 0 stay. With walls each entry goes where it has more
    room, and no farther than there is.

    Args:
        place: where the points will be evaluated.
        call: the call, with its boxes.
        layout: where the points of the stencil lie.
    """
    xp, axis = place.xp, len(place.lead)
    stencil, real = layout.stencil, call.parts.real
    single = stencil.offsets[0] >= 0 or stencil.offsets[-1] <= 0
    h = constant(xp, layout.h)
    alone = h.shape[-1] == 1
    both = not ((single and alone) or call.boxes is not None)
    usual = is_default(call.method.step)
    every = _every(stencil.accuracy > 2, both)
    size = _row(xp, real, axis, h, xp.abs)
    reach, share, ratio = _reaches(
        xp,
        h,
        size,
        stencil,
        place.eps(h.dtype) if usual else None,
        single and both,
        call.boxes is not None,
    )
    number = np.arange(h.shape[-1], dtype=np.uint32)
    sign: Any = np.where(_bits(number), 1.0, -1.0)
    if single and alone:
        sign = np.full(number.shape, 1.0 if stencil.offsets[-1] > 0 else -1.0)
    towards = xp.broadcast_to(xp.asarray(sign, dtype=h.dtype), h.shape)
    if call.boxes is not None:
        below, above = (
            _row(xp, call.boxes, axis, h, lambda box, side=side: getattr(box, side))
            for side in ("below", "above")
        )
        need = (
            xp.max(
                xp.stack([r * max(ray.offsets) for r, ray in zip(reach, every, strict=True)]),
                axis=0,
            )
            * h
        )
        own = xp.where(towards > 0, above, below)
        stays = (own >= need) | (own >= xp.maximum(above, below))
        towards = xp.where(stays, towards, -towards)
        room = xp.where(towards > 0, above, below)
        fits = xp.minimum(1, room / xp.where(need > 0, need, 1))
        reach = [r * fits for r in reach]
    distances = xp.stack(
        [
            offset * (towards * r * h)
            for ray, r in zip(every, reach, strict=True)
            for offset in ray.offsets
        ]
    )
    leaves, moved = [], []
    boxes: list[Box | None] = [None] * len(real) if call.boxes is None else [*call.boxes]
    for x, t, box in zip(real, cut(distances, [x.shape[axis:] for x in real]), boxes, strict=True):
        still = constant(xp, x)
        points = still + t.astype(x.dtype)
        if box is not None:
            points = dataclasses.replace(box, x=still).clip(points)
        leaves.append(points)
        moved.append((points - still).astype(h.dtype))
    whole = _joined(xp, every[0], every[1], ratio)
    return Rays(
        every, whole, leaves, flatten(xp, moved, axis + 1), xp.stack(reach), xp.stack(share)
    )


def _row(xp: Any, leaves: Any, axis: int, like: Any, of: Any) -> Any:
    """Something of every leaf, in one row and in the dtype of steps."""
    return flatten(xp, [constant(xp, of(leaf)).astype(like.dtype) for leaf in leaves], axis)


def _reaches(
    xp: Any,
    h: Any,
    size: Any,
    stencil: Stencil,
    eps: float | None,
    still: bool,
    walled: bool,
) -> tuple[list[Any], list[Any], Any]:
    """How far each ray reaches, in steps, and as a share of the entry that moves most of its size.

    And how many times as far as the first the second does.

    Args:
        xp: the array namespace.
        h: the steps.
        size: the size of each entry.
        stencil: the stencil.
        eps: the relative spacing that the steps suit; None for steps of the user's own, which may
            be as large as all that the function does.
        still: whether entries at 0 stay there.
        walled: whether there are walls, which would bring all rays nearer at once.
    """
    steps = xp.where(h > 0, h, 1)
    own = size / steps
    free = own < max(abs(s) for s in stencil.offsets)
    room = xp.maximum(1 / steps, _LEAST_ROOM) if eps is None else np.inf
    share = xp.where(free, room, own) * _SHARE
    high = stencil.accuracy > 2
    most, least = (_NEAR_HIGH, _LEAST_NEAR_HIGH) if high else (_NEAR, _LEAST_NEAR)
    low = _SECOND_HIGH if high else _SECOND
    # How many times as far as the nearest the others are wanted.
    second = farthest = float(low)
    sizes = xp.where(free, room, own)
    if eps is not None:
        relative = eps ** (1 / (stencil.accuracy + 1))
        wanted = most * relative
        sizes = xp.where(free, 1 / relative, own)
        most_high = _FAR_SHARE_WALLED if walled else _FAR_SHARE_HIGH
        farthest = max(low, (most_high if high else _FAR_SHARE) / wanted)
        second = farthest if high else max(low, _SECOND_SHARE / wanted)
    near = xp.minimum(most, xp.maximum(share / farthest, xp.minimum(least, share / low)))
    # All entries go the same way: so many times as far as all can.
    all_can = xp.min(xp.where(h > 0, share / near, np.inf), axis=-1, initial=farthest)
    apart = 1 if high else farthest / second
    ratio = xp.clip(all_can / apart, low, second)
    reach = [near, ratio[..., None] * near]
    if not high and eps is not None:
        alone = xp.minimum(farthest * most, share)
        in_line = (all_can >= _APART * ratio)[..., None]
        reach.append(xp.where(in_line, all_can[..., None] * near, alone))
    elif not high:
        at_zero = xp.clip(room * _FAR, _LEAST, _FAR_AT_ZERO)
        reach.append(xp.where(free, at_zero, xp.maximum(own * _FAR, _LEAST)))
    if still:
        reach = [xp.where(free, 0, r) for r in reach]
    shares = [xp.max(xp.where(h > 0, r / sizes, 0), axis=-1).astype(h.dtype) for r in reach]
    return [r.astype(h.dtype) for r in reach], shares, ratio.astype(h.dtype)


def _bits(number: np.ndarray) -> np.ndarray:
    """Bits without a pattern: those of a multiplicative hash."""
    mixed = (number + np.uint32(1)) * np.uint32(2654435761)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(2246822519)
    return np.asarray((mixed >> np.uint32(13)) & 1, bool)
