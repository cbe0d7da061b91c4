"""Ways along a tangent: one row of points, or two of parts where walls leave no common one.

It exists because an entry near a wall must not hold up the others. Must not know what is
differentiated along a way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxfd._arrays import constant, over
from jaxfd._estimate.layout import offsets_of_row, weigh
from jaxfd._estimate.tangents import (
    common_step,
    dtype_of,
    reach_of,
    tangent_points,
    tangent_step,
    widths_of,
)
from jaxfd._estimate.task import Call
from jaxfd._methods import Stencil, is_default
from jaxfd._places import Place
from jaxfd._points import Box

# A step that an entry near a wall makes so many times smaller, it makes so for itself alone.
_TOGETHER = 8


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
        self,
        place: Place,
        x: Sequence[Any],
        stencil: Stencil,
        boxes: Sequence[Box] | None,
        axes: Sequence[Any] = (),
    ) -> tuple[list[Any], Float[Any, "k *lead"]]:
        """The points of a stencil, and their distances; see `tangent_points`."""
        shares: list[Any] = [float(s) for s in stencil.moving]
        if self.row is not None:
            shares = offsets_of_row(place.xp, stencil, self.row, self.h.dtype)
        distances = [s * self.h for s in shares]
        return tangent_points(place, x, self.tangents, distances, self.squared, boxes, axes)

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
    widths = [constant(xp, stretch * width) for width in widths_of(place, call, power)]
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
    h, _ = common_step(place, call, _only(xp, tangents, apart, False), widths)
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
    xp, lead, dtype = place.xp, place.lead, dtype_of(place, call)
    near = [
        box.near(width, stencil.moving, power) for box, width in zip(boxes, widths, strict=True)
    ]
    common, _ = common_step(place, call, tangents, widths)
    apart, least = [], xp.zeros(lead, dtype)
    for box, width, v in zip(boxes, near, tangents, strict=True):
        own = reach_of(xp, width, v, dtype)
        apart.append(own < over(common, own) / _TOGETHER)
        # The smallest step that moves the entry by as many spacings as a usual one keeps.
        spacing = xp.abs(box.x) * float(place.eps(box.x.dtype)) ** (2 / 3)
        floor = xp.where(xp.isfinite(own), reach_of(xp, spacing, v, dtype), 0)
        floor = xp.where(apart[-1], floor, 0).reshape(*lead, -1)
        least = xp.maximum(least, xp.max(floor, axis=-1, initial=0))
    for i, (width, v) in enumerate(zip(near, tangents, strict=True)):
        own = reach_of(xp, width, v, dtype)
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
    h, squared = common_step(place, call, tangents, widths)
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
