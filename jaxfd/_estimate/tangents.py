"""Tangents: how far points go along one, which way where there are walls, and where they lie.

It exists because a tangent moves many entries at once: none of them may go farther than its own
step, and none may leave its box. Must not know what is differentiated along it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxfd._arrays import constant, is_complex, over, promote, real_of
from jaxfd._estimate.layout import offsets_of_row, weigh
from jaxfd._estimate.task import Call
from jaxfd._methods import Stencil, is_default, steps
from jaxfd._places import Place
from jaxfd._points import Box

# A step that an entry near a wall makes so many times smaller, it makes so for itself alone.
_TOGETHER = 8


def scaled(place: Place, tangents: Sequence[Any]) -> tuple[list[Any], Any]:
    """A tangent brought to size one, so that its square stays in the range of the dtype.

    Returns:
        Its leaves, and the power of two they were divided by, shape ``(*lead,)``.
    """
    xp, lead = place.xp, place.lead
    dtype = promote(np.float32, *(real_of(v.dtype) for v in tangents))
    largest = xp.zeros(lead, dtype)
    for v in tangents:
        size = xp.abs(constant(xp, v)).astype(dtype).reshape(*lead, -1)
        largest = xp.maximum(largest, xp.max(size, axis=-1, initial=0))
    usable = xp.isfinite(largest) & (largest >= 4 * float(np.finfo(dtype).tiny))
    largest = xp.where(usable, largest, 1)
    # A quarter of the next power of two: it and its inverse are both normal numbers.
    rest = 4 * xp.frexp(largest)[0]
    scale, inverse = largest / rest, rest / largest

    def divided(v: Any) -> Any:
        if is_complex(v):
            return place.complex(divided(v.real), divided(v.imag))
        return v.astype(dtype) * over(inverse, v)

    return [divided(v) for v in tangents], scale


def tangent_step(
    place: Place, call: Call, tangents: Sequence[Any], power: float
) -> tuple[Any, Any]:
    """The step along a tangent: the largest with which no entry goes farther than its own step.

    It is ``min_i h_i / |v_i|``. Rounding then costs no more than it costs a gradient that is
    multiplied by the tangent, ``eps |f| sum_i |v_i| / h_i``.

    Returns:
        The step, and the squared length of the tangent, both of shape ``(*lead,)``.
    """
    return _common_step(place, call, tangents, _widths(place, call, power))


def _widths(place: Place, call: Call, power: float) -> list[Any]:
    """The step of every entry."""
    size = [place.xp.abs(x) for x in call.parts.real]
    eps = [place.eps(x.dtype) for x in size]
    step, owner = call.method.step, call.parts.owner
    return steps(place.xp, call.arguments, step, size, owner, eps, power, together=True)


def _common_step(
    place: Place, call: Call, tangents: Sequence[Any], widths: Sequence[Any]
) -> tuple[Any, Any]:
    """The largest step with which no entry goes farther than its width; see `tangent_step`."""
    xp, lead = place.xp, place.lead
    dtype = _dtype(place, call)
    h, squared = xp.full(lead, np.inf, dtype), xp.zeros(lead, dtype)
    for width, v in zip(widths, tangents, strict=True):
        reach = _reach(xp, width, v, dtype).reshape(*lead, -1)
        v = constant(xp, xp.abs(v)).astype(dtype).reshape(*lead, -1)
        h = xp.minimum(h, xp.min(reach, axis=-1, initial=np.inf))
        squared = squared + xp.sum(v * v, axis=-1)
    return xp.where(xp.isfinite(h), h, 1), squared


def _dtype(place: Place, call: Call) -> Any:
    """What steps along a tangent are computed in."""
    dtype = real_of(call.parts.real[0].dtype)
    for x in call.parts.real:
        dtype = place.compute_dtype(dtype, real_of(x.dtype))
    return dtype


def _reach(xp: Any, width: Any, v: Any, dtype: Any) -> Any:
    """How many tangents a width is; nothing limits an entry that the tangent leaves where it is."""
    v, width = constant(xp, xp.abs(v)).astype(dtype), constant(xp, width).astype(dtype)
    return xp.where(v > 0, width / xp.where(v > 0, v, 1), np.inf)


def step_along(x: Any, v: Any, distance: Any) -> Any:
    """``x + distance v`` in the dtype of ``x``."""
    dtype = promote(distance.dtype, v.dtype)
    return x + (over(distance, v).astype(dtype) * v.astype(dtype)).astype(x.dtype)


def tangent_points(
    place: Place,
    x: Sequence[Any],
    tangents: Sequence[Any],
    distances: Sequence[Float[Any, "*lead"]],
    squared: Float[Any, "*lead"],
    boxes: Sequence[Box] | None = None,
) -> tuple[list[Any], Float[Any, "k *lead"]]:
    """The points along a tangent, and the distances really stepped (least squares).

    Args:
        place: where this runs.
        x: the leaves.
        tangents: the tangent's leaves.
        distances: how far each of the K points is from ``x``, in tangents.
        squared: the tangent's squared length, shape ``(*lead,)``.
        boxes: the boxes of the leaves, None without bounds.

    Returns:
        Leaves of shape ``(K, *lead, *shape)``, and distances of shape ``(K, *lead)``.
    """
    xp, lead = place.xp, place.lead
    points: list[list[Any]] = [[] for _ in x]
    gone = []
    for t in distances:
        total = xp.zeros_like(t)
        for leaf, (z, v) in enumerate(zip(x, tangents, strict=True)):
            point = step_along(z, v, t)
            if boxes is not None:
                point = boxes[leaf].clip(point)
            points[leaf].append(point)
            dtype = promote(t.dtype, v.dtype)
            away = constant(xp, point - z).astype(dtype)
            product = (away * xp.conj(constant(xp, v)).astype(dtype)).real
            total = total + xp.sum(product.reshape(*lead, -1), axis=-1)
        gone.append(xp.where(squared == 0, t, total / xp.where(squared == 0, 1, squared)))
    return [xp.stack(p) for p in points], xp.stack(gone)


class Way(NamedTuple):
    """A row of points along a tangent, or along a part of it.

    Attributes:
        tangents: the part, leaf by leaf.
        h: the step, shape ``(*lead,)``.
        squared: the squared length of the part.
        row: with walls, which row of points there is; see `jaxfd._points.box.Row`.
        flat: with walls, 0 where they leave nothing to move and NaN where ``x`` is outside, else 1.
    """

    tangents: list[Any]
    h: Float[Any, "*lead"]
    squared: Float[Any, "*lead"]
    row: Int[Any, "*lead"] | None = None
    flat: Float[Any, "*lead"] | None = None

    def points(
        self, place: Place, x: Sequence[Any], stencil: Stencil, boxes: Sequence[Box] | None
    ) -> tuple[list[Any], Float[Any, "k *lead"]]:
        """The points of a stencil, and their distances; see `tangent_points`."""
        shares: list[Any] = [float(s) for s in stencil.moving]
        if self.row is not None:
            shares = offsets_of_row(place.xp, stencil, self.row, self.h.dtype)
        distances = [s * self.h for s in shares]
        return tangent_points(place, x, self.tangents, distances, self.squared, boxes)

    def combine(
        self,
        place: Place,
        stencil: Stencil,
        centre: Shaped[Any, "*lead *out"] | None,
        outputs: Shaped[Any, "k *lead *out"],
        distances: Float[Any, "k *lead"],
    ) -> Shaped[Any, "*lead *out"]:
        """The first derivative along the way."""
        h = self.h.astype(distances.dtype)
        return weigh(place, stencil, centre, outputs, distances, h, self.row, self.flat)


def ways(
    place: Place,
    call: Call,
    tangents: Sequence[Any],
    stencil: Stencil,
    derivative: int = 1,
    stretch: float = 1.0,
) -> list[Way]:
    """How points go along a tangent: one way, or two of parts.

    There are two where walls leave no common way, or where an entry is so close to a wall at 0 that
    its step would hardly move the others.

    Args:
        place: where this runs.
        call: the call, with its method and boxes.
        tangents: the tangent's leaves, of size one.
        stencil: the stencil.
        derivative: the order of derivative that the step is to suit.
        stretch: what steps are multiplied by.
    """
    xp, lead, boxes = place.xp, place.lead, call.boxes
    power = 1.0 / (stencil.accuracy + derivative)
    if boxes is None:
        h, squared = tangent_step(place, call, tangents, power)
        return [Way(list(tangents), stretch * h, squared)]
    boxes = [
        dataclasses.replace(box, x=constant(xp, x))
        for box, x in zip(boxes, call.parts.real, strict=True)
    ]
    widths = [constant(xp, stretch * width) for width in _widths(place, call, power)]
    # What cannot move is left where it is.
    tangents = [
        xp.where(box.fit(width, stencil.moving).wide, v, 0)
        for box, width, v in zip(boxes, widths, tangents, strict=True)
    ]
    # Where gradients keep their step, so does a difference along the tangent.
    shrinks = is_default(call.method.step) and derivative == 1
    apart = [xp.zeros(v.shape, bool) for v in tangents]
    if shrinks:
        widths, apart = _shrunken(
            place, call, boxes, tangents, widths, stencil, 1 - derivative * power
        )
    h, _ = _common_step(place, call, _only(xp, tangents, apart, False), widths)
    rooms = [_rooms(xp, box, v, h.dtype) for box, v in zip(boxes, tangents, strict=True)]

    def every(flags: Sequence[Any]) -> Bool[Any, "*lead"]:
        good = xp.ones(lead, bool)
        for flag, free in zip(flags, apart, strict=True):
            good = good & xp.all((flag | free).reshape(*lead, -1), axis=-1)
        return good

    nodes = len(stencil.moving)
    farthest = max(abs(s) for s in stencil.moving)
    ahead = every([a >= over(nodes * h, a) for _, a in rooms])
    behind = every([b >= over(nodes * h, b) for b, _ in rooms])
    both = every([(b >= over(farthest * h, b)) & (a >= over(farthest * h, a)) for b, a in rooms])
    one = ahead | behind | both
    second = [free | ((a < b) & ~over(one, a)) for free, (b, a) in zip(apart, rooms, strict=True)]
    outside = xp.zeros(lead, bool)
    for box in boxes:
        outside = outside | xp.any(box.outside.reshape(*lead, -1), axis=-1)
    groups = [_only(xp, tangents, second, chosen) for chosen in (False, True)]
    if place.concrete:
        # A part in which nothing moves needs no points.
        groups = [group for group in groups if any(np.any(v != 0) for v in group)] or groups[:1]
    return [_within(place, call, group, stencil, widths, outside) for group in groups]


def _only(xp: Any, tangents: Sequence[Any], flags: Sequence[Any], chosen: bool) -> list[Any]:
    """A tangent's entries that are flagged, or those that are not, and 0 for the others."""
    return [
        xp.where(flag == chosen, v, xp.zeros_like(v))
        for flag, v in zip(flags, tangents, strict=True)
    ]


def _shrunken(
    place: Place,
    call: Call,
    boxes: Sequence[Box],
    tangents: Sequence[Any],
    widths: Sequence[Any],
    stencil: Stencil,
    power: float,
) -> tuple[list[Any], list[Any]]:
    """Steps of entries near a wall at 0, and which of them shall not hold up the others.

    An entry that no common step suits keeps the step that it has far from walls: were another one
    lost in its rounding, the derivative would miss a term that it had.

    Args:
        place: where this runs.
        call: the call.
        boxes: its boxes.
        tangents: the tangent's leaves.
        widths: the steps far from walls.
        stencil: the stencil.
        power: that of `Box.near`.

    Returns:
        The widths, and for each leaf the entries that need a way of their own.
    """
    xp, lead, dtype = place.xp, place.lead, _dtype(place, call)
    near = [
        box.near(width, stencil.moving, power) for box, width in zip(boxes, widths, strict=True)
    ]
    common, _ = _common_step(place, call, tangents, widths)
    apart, least = [], xp.zeros(lead, dtype)
    for box, width, v in zip(boxes, near, tangents, strict=True):
        own = _reach(xp, width, v, dtype)
        apart.append(own < over(common, own) / _TOGETHER)
        # The smallest step that moves the entry by as many spacings as a usual one keeps.
        spacing = xp.abs(box.x) * float(place.eps(box.x.dtype)) ** (2 / 3)
        floor = xp.where(xp.isfinite(own), _reach(xp, spacing, v, dtype), 0)
        floor = xp.where(apart[-1], floor, 0).reshape(*lead, -1)
        least = xp.maximum(least, xp.max(floor, axis=-1, initial=0))
    for i, (width, v) in enumerate(zip(near, tangents, strict=True)):
        own = _reach(xp, width, v, dtype)
        lost = apart[i] & (own < over(least, own))
        near[i] = xp.where(lost, widths[i], width)
        apart[i] = apart[i] & ~lost
    return near, apart


def _within(
    place: Place,
    call: Call,
    tangents: list[Any],
    stencil: Stencil,
    widths: Sequence[Any],
    outside: Bool[Any, "*lead"],
) -> Way:
    """A way within the boxes."""
    xp, lead = place.xp, place.lead
    h, squared = _common_step(place, call, tangents, widths)
    behind, ahead = xp.full(lead, np.inf, h.dtype), xp.full(lead, np.inf, h.dtype)
    assert call.boxes is not None
    for box, x, v in zip(call.boxes, call.parts.real, tangents, strict=True):
        one, two = _rooms(xp, dataclasses.replace(box, x=constant(xp, x)), v, h.dtype)
        behind = xp.minimum(behind, xp.min(one.reshape(*lead, -1), axis=-1, initial=np.inf))
        ahead = xp.minimum(ahead, xp.min(two.reshape(*lead, -1), axis=-1, initial=np.inf))
    row = Box(xp, xp.zeros_like(h), -behind, ahead).fit(h, stencil.moving)
    moves = xp.where(row.wide & (squared > 0), 1.0, 0.0)
    return Way(tangents, row.h, squared, row.which, xp.where(outside, np.nan, moves))


def _rooms(xp: Any, box: Box, v: Any, dtype: Any) -> tuple[Any, Any]:
    """How many tangents an entry is from its walls, backwards and forwards."""
    v = constant(xp, v).astype(dtype)
    down, up = (box.x - box.lower).astype(dtype), (box.upper - box.x).astype(dtype)
    size = xp.where(v == 0, 1, xp.abs(v))
    down, up = (xp.where(v == 0, np.inf, xp.maximum(d, 0) / size) for d in (down, up))
    return xp.where(v > 0, down, up), xp.where(v > 0, up, down)
