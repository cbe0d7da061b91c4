"""Rays: a few points that move all entries at once, for error bars alone.

What a stencil tells of one entry are its own few values, and these know neither their truncation
nor, where they are equal, their resolution. Six more points, shared by all entries, do: the same
directions near by and far away, where a slope that is right predicts the value. They are a part of
the one batch. This room must not know what the values are made into.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxfd._arrays import constant, cut, flatten, over
from jaxfd._estimate.layout import Layout
from jaxfd._estimate.task import Call
from jaxfd._methods import Stencil, weights
from jaxfd._places import Place

# The farthest ray goes so far: this share of |x|, or, where x is 0, so many steps.
_FAR, _FAR_AT_ZERO = 0.03, 4096.0
# It goes at least so many steps, and the nearest at most so many.
_LEAST, _NEAR = 3.0, 4.0
# The nearest ray of a stencil of higher order, in steps.
_NEAR_HIGH = 1.75


@dataclasses.dataclass(frozen=True)
class Ray:
    """Points on one line through ``x``.

    Attributes:
        offsets: where they lie, in units of the ray's reach, without ``x``.
        order: the order of accuracy of the slope that they make.
        slope: their weights in the slope at ``x``; that of ``x`` is minus their sum.
        bend: their weights in the highest difference.
        bias: the slope's error for ``t^(order + 1)``.
    """

    offsets: tuple[int, ...]
    order: int
    slope: np.ndarray
    bend: np.ndarray
    bias: float

    @property
    def slope_gain(self) -> float:
        """The error of the slope for noise of size 1 in the values."""
        return _gain(self.slope)

    @property
    def bend_gain(self) -> float:
        """The error of the highest difference for noise of size 1."""
        return _gain(self.bend)


def _gain(w: np.ndarray) -> float:
    return math.sqrt(float(np.sum(w**2) + np.sum(w) ** 2))


@functools.cache
def _ray(offsets: tuple[int, ...]) -> Ray:
    nodes = tuple(sorted({0, *offsets}))

    def of(derivative: int) -> np.ndarray:
        solved = dict(zip(nodes, weights(nodes, derivative), strict=True))
        return np.array([float(solved[s]) for s in offsets])

    slope = of(1)
    order = len(offsets)
    bias = abs(sum((w * Fraction(s) ** (order + 1)) for w, s in zip(slope, offsets, strict=True)))
    return Ray(offsets, order, slope, of(len(offsets)), float(bias))


@dataclasses.dataclass(frozen=True)
class Rays:
    """The points of all rays.

    Attributes:
        every: the rays.
        leaves: for each real leaf the points, shape ``(P, *lead, *shape)``.
        moved: how far each entry really moved, shape ``(P, *lead, N)``.
        reach: the reach of each ray, in steps, shape ``(L, *lead, N)``.
    """

    every: tuple[Ray, ...]
    leaves: Sequence[Float[Any, "p *lead ..."]]
    moved: Float[Any, "p *lead n"]
    reach: Float[Any, "l *lead n"]

    @property
    def count(self) -> int:
        """The number of points."""
        return sum(len(ray.offsets) for ray in self.every)

    def parts(self) -> list[tuple[Ray, slice]]:
        """Each ray, and which of the points are its own."""
        stops = np.cumsum([len(ray.offsets) for ray in self.every])
        return [(r, slice(int(s) - len(r.offsets), int(s))) for r, s in zip(self.every, stops)]


def _every(stencil: Stencil, both: bool) -> tuple[Ray, ...]:
    """Three pairs near and far; for a higher order one ray of its own order, and a pair far off."""
    pair = _ray((-1, 1) if both else (1, 2))
    if stencil.accuracy <= 2:
        return (pair, pair, pair)
    return (_ray((-2, -1, 1, 2) if both else (1, 2, 3, 4)), pair)


def lay_rays(place: Place, call: Call, layout: Layout) -> Rays:
    """Lays the rays of a stencil.

    Points of a stencil that looks to one side stay on that side; with walls each entry goes where
    it has more room, and no farther than there is.

    Args:
        place: where the points will be evaluated.
        call: the call, with its boxes.
        layout: where the points of the stencil lie.
    """
    xp, axis = place.xp, len(place.lead)
    stencil, real = layout.stencil, call.parts.real
    single = stencil.offsets[0] >= 0 or stencil.offsets[-1] <= 0
    boxed = call.boxes is not None
    every = _every(stencil, both=not (single or boxed))
    h = constant(xp, layout.h)
    size = flatten(xp, [xp.abs(constant(xp, x)).astype(h.dtype) for x in real], axis)
    steps = xp.where(h > 0, h, 1)
    far = xp.where(size > 0, xp.maximum(size / steps * _FAR, _LEAST), _FAR_AT_ZERO)
    far = far.astype(h.dtype)
    if len(every) == 3:
        near = xp.minimum(xp.sqrt(far), _NEAR).astype(h.dtype)
        reach = [near, xp.sqrt(near * far), far]
    else:
        near = xp.full_like(far, _NEAR_HIGH * (1 if every[0].offsets[0] < 0 else 0.5))
        reach = [near, far]
    number = np.arange(h.shape[-1], dtype=np.uint32)
    towards = []
    for k in range(len(every)):
        sign = np.where(_bits(number, k), 1.0, -1.0)
        if single:
            # To one side only: lengths differ instead of signs.
            sign = np.where(sign > 0, 1.0, 0.7) * (1 if stencil.offsets[-1] > 0 else -1)
        towards.append(xp.broadcast_to(xp.asarray(sign, dtype=h.dtype), h.shape))
    if boxed:
        assert call.boxes is not None
        below, above = (
            flatten(xp, [constant(xp, getattr(b, s)).astype(h.dtype) for b in call.boxes], axis)
            for s in ("below", "above")
        )
        for k, ray in enumerate(every):
            need = reach[k] * h * max(ray.offsets)
            sign = xp.where(towards[k] > 0, 1.0, -1.0).astype(h.dtype)
            own = xp.where(sign > 0, above, below)
            sign = xp.where((own >= need) | (own >= xp.maximum(above, below)), sign, -sign)
            room = xp.where(sign > 0, above, below)
            towards[k] = sign * xp.minimum(1, room / xp.where(need > 0, need, 1))
    reach = [r * xp.abs(s) for r, s in zip(reach, towards, strict=True)]
    away = [
        offset * (xp.sign(s) * r * h)
        for ray, r, s in zip(every, reach, towards, strict=True)
        for offset in ray.offsets
    ]
    distances = xp.stack(away)
    shapes = [x.shape[axis:] for x in real]
    leaves, moved = [], []
    boxes = call.boxes or [None] * len(real)
    for x, t, box in zip(real, cut(distances, shapes), boxes, strict=True):
        still = constant(xp, x)
        points = still + t.astype(x.dtype)
        if box is not None:
            points = dataclasses.replace(box, x=still).clip(points)
        leaves.append(points)
        moved.append((points - still).astype(h.dtype))
    return Rays(every, leaves, flatten(xp, moved, axis + 1), xp.stack(reach))


def _bits(number: np.ndarray, k: int) -> np.ndarray:
    """Bits without a pattern, a row for each ``k``: bits of a multiplicative hash."""
    mixed = (number + np.uint32(1 + 77 * k)) * np.uint32(2654435761)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(2246822519)
    return np.asarray((mixed >> np.uint32(13 + k)) & 1, bool)
