"""The coordinates a search moves along: how large they are, how much room they have, their points.

All entries of all leaves in one row. Must not know what is searched for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxfd._arrays import (
    constant,
    cut,
    flatten,
    is_complex,
    is_tiny,
    power_of_two,
    promote,
    real_of,
)
from jaxfd._estimate.bars import grid_of, sample
from jaxfd._estimate.task import Call
from jaxfd._methods import Adaptive
from jaxfd._places import Place
from jaxfd._points import Box, Coordinates

# The points of a fit to one side.
ONE_SIDED = 16


@dataclasses.dataclass(frozen=True)
class Ground:
    """Where the points of a search may lie.

    Attributes:
        place: where they are evaluated.
        leaves: the real leaves, shape ``(*lead, *shape)``.
        boxes: for each leaf its box, or None.
        size: ``|x|`` of every entry, shape ``(*lead, N)``.
        scale: the larger of that and what is typical.
        eps: the relative spacing of the coarser of leaf and output.
        below: the room below ``x``.
        above: the room above.
        flat: 0 where the box has no width that points can be told apart in, NaN where ``x`` is
            outside, else 1.
        repeats: how many times each point is evaluated.
    """

    place: Place
    leaves: Sequence[Any]
    boxes: Sequence[Box | None]
    size: Float[Any, "*lead n"]
    scale: Float[Any, "*lead n"]
    eps: Float[np.ndarray, "n"]
    below: Float[Any, "*lead n"]
    above: Float[Any, "*lead n"]
    flat: Float[Any, "*lead n"]
    repeats: int

    @property
    def boxed(self) -> bool:
        """Whether there are walls."""
        return any(box is not None for box in self.boxes)

    @property
    def unseen(self) -> Float[Any, "*lead n"]:
        """What a derivative may be off by that is 0 for want of points: 0 without any width."""
        return self.place.xp.where(self.below + self.above > 0, np.inf, 0.0)

    def room(self, side: Float[Any, "*lead n"]) -> Float[Any, "*lead n"]:
        """How far points may go below ``x`` (-1), above it (1), or to both sides (0)."""
        xp = self.place.xp
        both = xp.minimum(self.below, self.above)
        return xp.where(side == 0, both, xp.where(side > 0, self.above, self.below))

    def points(
        self, distances: Float[Any, "k *lead n"]
    ) -> tuple[Coordinates, Float[Any, "k *lead n"]]:
        """The points at signed distances from ``x``, and the distances really moved."""
        xp, axis = self.place.xp, len(self.place.lead)
        values, moved = [], []
        parts = cut(distances, [x.shape[axis:] for x in self.leaves])
        for x, box, t in zip(self.leaves, self.boxes, parts, strict=True):
            t = constant(xp, t.astype(x.dtype))
            still = constant(xp, x)
            nodes, away = x + t, still + t
            if box is not None:
                nodes, away = box.clip(nodes), box.clip(away)
            values.append(nodes)
            moved.append(away - still)
        if not values:
            values, moved = [distances], [distances]
        points = Coordinates(self.leaves, self.place.lead, flatten(xp, values, axis + 1))
        if self.repeats > 1:
            again = xp.concatenate([points.values] * self.repeats)
            points = dataclasses.replace(points, values=again)
        return points, flatten(xp, moved, axis + 1).astype(distances.dtype)

    def changes(
        self, outputs: Sequence[Any], centre: Sequence[Any], dtype: Any
    ) -> tuple[Float[Any, "k *lead n o"], Float[Any, "*lead n o"]]:
        """Changes of all outputs from the centre, and the scatter of repeated evaluations.

        Args:
            outputs: shape ``(K, *lead, N, *out)`` each.
            centre: shape ``(*lead, *out)`` each.
            dtype: what they are formed in.

        Returns:
            Shape ``(K, *lead, N, O)`` with all outputs in one row, complex ones as two; and the
            standard deviation of a mean over the repeats.
        """
        xp, axis = self.place.xp, len(self.place.lead)
        rows = []
        for output, base in zip(outputs, centre, strict=True):
            own = promote(output.dtype, dtype) if is_complex(output) else dtype
            change = output.astype(own) - xp.expand_dims(base.astype(own), axis)
            count = int(np.prod(output.shape[axis + 2 :], dtype=int))
            rows.append(change.reshape(*output.shape[: axis + 2], count))
        row = _in_a_row(xp, rows, dtype)
        if self.repeats == 1:
            return row, xp.zeros(row.shape[1:], dtype)
        row = row.reshape(self.repeats, -1, *row.shape[1:])
        spread = xp.mean(xp.var(constant(xp, row), axis=0, ddof=1), axis=0)
        return xp.mean(row, axis=0), xp.sqrt(spread / self.repeats)

    def grid(
        self, outputs: Sequence[Any], centre: Sequence[Any], dtype: Any
    ) -> Float[Any, "*lead 1 o"]:
        """The grid that the values of each output lie on; see `grid_of`."""
        xp, axis = self.place.xp, len(self.place.lead)
        rows = []
        for output in outputs:
            count = int(np.prod(output.shape[axis + 2 :], dtype=int))
            rows.append(output.reshape(*output.shape[: axis + 2], count))
        still, base = constant(xp, _in_a_row(xp, rows, dtype)), self.at_centre(centre, dtype)
        base = constant(xp, base)
        row = xp.moveaxis(sample(xp, still, base, axis + 1), axis + 1, 0)
        base = base[..., 0, :]
        row = row.reshape(row.shape[0] * row.shape[1], *base.shape)
        every = xp.concatenate([base[None], row])
        return xp.expand_dims(grid_of(xp, every), axis)

    def at_centre(self, centre: Sequence[Any], dtype: Any) -> Float[Any, "*lead 1 o"]:
        """All outputs at ``x`` in one row, complex ones as two."""
        axis = len(self.place.lead)
        rows = [base.reshape(*base.shape[:axis], 1, -1) for base in centre]
        return _in_a_row(self.place.xp, rows, dtype)

    def restore(self, row: Float[Any, "*lead n o"], centre: Sequence[Any]) -> list[Any]:
        """Undoes the row of outputs: shape ``(*lead, N, *out)`` each."""
        axis = len(self.place.lead)
        result, start = [], 0
        for base in centre:
            shape = base.shape[axis:]
            count = int(np.prod(shape, dtype=int))
            value = row[..., start : start + count]
            start += count
            if is_complex(base):
                value = self.place.complex(value, row[..., start : start + count])
                start += count
            result.append(value.reshape(*row.shape[:-1], *shape))
        return result


def _in_a_row(xp: Any, outputs: Sequence[Any], dtype: Any) -> Any:
    """Joins outputs along their last axis, complex ones as two."""
    rows: list[Any] = []
    for output in outputs:
        rows += [output.real, output.imag] if is_complex(output) else [output]
    return xp.concatenate([row.astype(dtype) for row in rows], axis=-1)


def _parted(xp: Any, box: Box, scale: Any) -> Any:
    """Where the points of a fit can be told apart, as far as walls let them go."""
    dtype = promote(np.float32, box.x.dtype)
    below, above = box.below.astype(dtype), box.above.astype(dtype)
    room = xp.maximum(below, above)
    step = power_of_two(xp, room) / ONE_SIDED
    step = xp.where(above >= below, step, -step).astype(box.x.dtype)
    # In a room of subnormal numbers there is no power of two to step by.
    large = room >= ONE_SIDED * np.finfo(dtype).tiny
    return large & ((room >= scale.astype(dtype)) | (box.x + step != box.x))


def survey(place: Place, call: Call, method: Adaptive) -> Ground:
    """Looks at the coordinates of a call."""
    xp, axis, parts = place.xp, len(place.lead), call.parts
    typical = call.arguments.spread(method.typical, "typical", 1.0)
    boxes: list[Box | None] = [None] * len(parts.real) if call.boxes is None else [*call.boxes]
    size, scale, eps, below, above, flat = [], [], [], [], [], []
    for x, owner, box in zip(parts.real, parts.owner, boxes, strict=True):
        still = constant(xp, x)
        size.append(xp.abs(still))
        scale.append(xp.maximum(size[-1], xp.asarray(typical[owner], dtype=x.dtype)))
        eps.append(np.full(int(np.prod(x.shape[axis:], dtype=int)), place.eps(x.dtype)))
        if box is None:
            below.append(xp.full_like(still, np.inf))
            above.append(xp.full_like(still, np.inf))
            flat.append(xp.ones_like(still))
            continue
        box = dataclasses.replace(box, x=still)
        below.append(box.below)
        above.append(box.above)
        flat.append(box.flat(_parted(xp, box, scale[-1])))
    if any(is_tiny(x.dtype) for x in parts.real):
        raise TypeError(
            "Adaptive needs floats of 16 bits or more, got some of 8, whose steps hold no digits: "
            "use Central(), or convert the argument."
        )
    dtype = promote(np.float32, *(real_of(x.dtype) for x in parts.real))
    rows = [
        flatten(xp, row, axis).astype(dtype) if row else xp.zeros((*place.lead, 0), dtype)
        for row in (size, scale, below, above, flat)
    ]
    return Ground(
        place,
        parts.real,
        boxes,
        size=rows[0],
        scale=rows[1],
        eps=np.concatenate(eps) if eps else np.zeros(0),
        below=rows[2],
        above=rows[3],
        flat=rows[4],
        repeats=method.repeats,
    )
