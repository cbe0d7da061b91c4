"""What was found along the coordinates: the same for fixed stencils and for a search."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Found:
    """Derivatives along every coordinate.

    Attributes:
        centre: the outputs at ``x``, the auxiliary ones too; None where not wanted.
        rows: for each output and each real leaf the derivative, shape ``(*lead, *out, *leaf)``.
        errors: for each leaf a bound of the error of the first output's derivative, of its shape;
            None where not wanted, like the next two.
        step: for each leaf how far the points went, shape ``(*lead, *leaf)``.
        one_sided: for each leaf where they went to one side though the method's do not.
        evaluations: how many points were evaluated, the centre included, shape ``(*lead,)``.
    """

    centre: Any
    rows: Any
    errors: Any
    step: Any
    one_sided: Any
    evaluations: Any


def found_by_leaf(
    place: Any,
    real: Sequence[Any],
    centre: Any,
    values: Sequence[Any],
    errors: Sequence[Any],
    step: Any,
    one_sided: Any,
    evaluations: Any,
) -> Found:
    """What was found along all coordinates in a row, cut into leaves.

    Args:
        place: where this runs.
        real: the real leaves.
        centre: see `Found`.
        values: for each output the derivative, shape ``(*lead, N, *out)``.
        errors: for each output a bound of its error, of the same shape, or None.
        step: shape ``(*lead, N)``.
        one_sided: shaped as the first error, or None.
        evaluations: see `Found`.
    """

    def cut(value: Any) -> Any:
        return None if value is None else by_leaf(place, [value], real)[0]

    return Found(
        centre=centre,
        rows=by_leaf(place, values, real),
        errors=cut(errors[0]) if errors else None,
        step=cut(step),
        one_sided=cut(one_sided),
        evaluations=evaluations,
    )


def by_leaf(place: Any, values: Sequence[Any], real: Sequence[Any]) -> list[list[Any]]:
    """Cuts ``(*lead, N, *out)`` into ``[out leaf][real leaf]`` of ``(*lead, *out, *leaf)``."""
    xp, axis = place.xp, len(place.lead)
    shapes = [x.shape[axis:] for x in real]
    rows = []
    for value in values:
        last = xp.moveaxis(value, axis, -1) if value.ndim > axis + 1 else value
        row, start = [], 0
        for shape in shapes:
            stop = start + math.prod(shape)
            row.append(last[..., start:stop].reshape(*last.shape[:-1], *shape))
            start = stop
        rows.append(row)
    return rows
