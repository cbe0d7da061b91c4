"""What an estimator finds along the coordinates: the same for stencils, searches and samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxfd._arrays import cut
from jaxfd._places import Place
from jaxfd._points import Coordinates


@dataclasses.dataclass(frozen=True)
class Derivatives:
    """Derivatives along every coordinate, leaf by leaf.

    Attributes:
        centre: the outputs at ``x``, the auxiliary ones too; None where not wanted.
        rows: for each output and each real leaf the derivative, shape ``(*lead, *out, *leaf)``.
        errors: for each output and each leaf what is known of the derivative's error, of its shape;
            None where not wanted.
        step: for each leaf how far the points went, shape ``(*lead, *leaf)``.
        one_sided: for each leaf where they went to one side though the method's do not; None where
            not wanted.
        evaluations: how many points were evaluated, the centre included, shape ``(*lead,)``.
    """

    centre: list[Any] | None
    rows: Sequence[Sequence[Shaped[Any, "*lead ..."]]]
    errors: Sequence[Sequence[Float[Any, "*lead ..."]]] | None
    step: Sequence[Float[Any, "*lead ..."]]
    one_sided: Sequence[Bool[Any, "*lead ..."]] | None
    evaluations: Int[Any, "*lead"]


@dataclasses.dataclass(frozen=True)
class SecondDerivatives:
    """Second derivatives along every pair of coordinates, all entries in a row.

    Attributes:
        centre: the outputs at ``x``, the auxiliary ones too.
        values: for each output the derivatives, shape ``(*lead, N, N, *out)``.
        errors: for each output what is known of their errors, of the same shape; None where not
            wanted.
        step: for each leaf how far the points went, shape ``(*lead, *leaf)``.
        one_sided: for each leaf where they went to one side though the method's do not; None where
            not wanted.
        evaluations: how many points were evaluated, shape ``(*lead,)``.
    """

    centre: list[Any]
    values: Sequence[Shaped[Any, "*lead n n *out"]]
    errors: Sequence[Float[Any, "*lead n n *out"]] | None
    step: Sequence[Float[Any, "*lead ..."]]
    one_sided: Sequence[Bool[Any, "*lead ..."]] | None
    evaluations: Int[Any, "*lead"]


def derivatives_by_leaf(
    place: Place,
    real: Sequence[Any],
    *,
    centre: list[Any] | None,
    values: Sequence[Shaped[Any, "*lead n ..."]],
    errors: Sequence[Float[Any, "*lead n ..."]],
    step: Float[Any, "*lead n"],
    one_sided: Bool[Any, "*lead n ..."] | None,
    evaluations: Int[Any, "*lead"],
) -> Derivatives:
    """What was found along all coordinates in a row, cut into leaves.

    Args:
        place: where this runs.
        real: the real leaves.
        centre: see `Derivatives`.
        values: for each output the derivative, shape ``(*lead, N, *out)``.
        errors: for each output a bound of its error, of the same shape; empty where not wanted.
        step: shape ``(*lead, N)``.
        one_sided: of that shape, or as the first error; or None.
        evaluations: see `Derivatives`.
    """

    axis = len(place.lead) + 1

    def cut(value: Any) -> Any:
        return None if value is None else by_leaf(place, [value], real)[0]

    if one_sided is not None and one_sided.ndim > axis:
        one_sided = place.xp.any(one_sided, axis=tuple(range(axis, one_sided.ndim)))
    return Derivatives(
        centre=centre,
        rows=by_leaf(place, values, real),
        errors=by_leaf(place, errors, real) if errors else None,
        step=cut(step),
        one_sided=cut(one_sided),
        evaluations=evaluations,
    )


def by_leaf(place: Place, values: Sequence[Any], real: Sequence[Any]) -> list[list[Any]]:
    """Cuts ``(*lead, N, *out)`` into ``[out leaf][real leaf]`` of ``(*lead, *out, *leaf)``."""
    xp, axis = place.xp, len(place.lead)
    shapes = [x.shape[axis:] for x in real]
    along = [xp.moveaxis(v, axis, -1) if v.ndim > axis + 1 else v for v in values]
    return [cut(last, shapes) for last in along]


def evaluate_all(
    place: Place, points: Coordinates, centre: list[Any] | None, ride: bool
) -> tuple[Any, list[Shaped[Any, "k *lead n *out"]]]:
    """Outputs at ``x``, and at the points along all coordinates; see `Place.evaluate`."""
    axis = len(place.lead)

    def keep(centre: Any, outputs: list[Any], d: Any) -> list[Any]:
        del centre, d
        return [place.xp.moveaxis(output, 0, axis + 1) for output in outputs]

    at_x, outputs = place.evaluate(points, keep, centre, ride)
    return at_x, [place.xp.moveaxis(output, axis + 1, 0) for output in outputs]


def in_square(
    place: Place, diagonal: Shaped[Any, "*lead n *out"], pairs: Shaped[Any, "*lead m *out"]
) -> Shaped[Any, "*lead n n *out"]:
    """A symmetric matrix from its diagonal and the pairs above it, as ``triu_indices`` goes."""
    xp, axis = place.xp, len(place.lead)
    number = diagonal.shape[axis]
    low, high = np.triu_indices(number, 1)
    position = np.zeros((number, number), int)
    position[low, high] = position[high, low] = number + np.arange(low.size)
    position[np.diag_indices(number)] = np.arange(number)
    row = xp.concatenate([diagonal, pairs.astype(diagonal.dtype)], axis=axis)
    row = xp.take(row, position.reshape(-1), axis=axis)
    return row.reshape(*place.lead, number, number, *row.shape[axis + 1 :])
