"""The estimator of fixed stencils: the same points along every coordinate."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxfd._arrays import flatten, over
from jaxfd._estimate.analyticity import check_along, looks_unreal, moved_all, where_real
from jaxfd._estimate.estimator import Wish, derivatives
from jaxfd._estimate.found import Derivatives, derivatives_by_leaf
from jaxfd._estimate.layout import lay
from jaxfd._estimate.task import Call, complexified
from jaxfd._methods import StencilMethod
from jaxfd._places import Place


@derivatives.register
def along_coordinates(method: StencilMethod, place: Place, call: Call, wish: Wish) -> Derivatives:
    """Lays a method's stencil along every coordinate; see `derivatives`."""
    real = call.parts.real
    layout = lay(place, call, method.stencil(wish.order or 1))
    eps = place.eps(layout.h.dtype)

    def reduce(centre: Any, outputs: list[Any], d: Any) -> Any:
        result = []
        for i, output in enumerate(outputs):
            base = None if centre is None else centre[i]
            value = layout.combine(place, base, output, d)
            bar = side = None
            if wish.error:
                bar = layout.error(place, base, output, d, value, eps)
                side = layout.one_sided(place, base, output, d)
            odd = looks_unreal(place, output, layout.h[..., d]) if imaginary else None
            result.append((value, bar, side, odd))
        return result

    points = layout.points
    if layout.stencil.imaginary:
        points = dataclasses.replace(points, x=complexified(real, True))
    imaginary = layout.stencil.imaginary
    checked = imaginary and (place.opaque or call.remade) and points.count > 0
    ride = wish.centre or layout.needs_centre or checked
    centre, reduced = place.evaluate(points, reduce, None, ride)
    values, bars, sides, odd = ([entry[i] for entry in reduced] for i in range(4))
    if imaginary and points.count:
        values = where_real(place, points.x, centre, values, odd)
    if checked:
        assert centre is not None
        values = _checked(place, call, centre, values)
    spent = points.nodes * points.count + 1
    return derivatives_by_leaf(
        place,
        real,
        centre=centre,
        values=values,
        errors=bars if wish.error else [],
        step=layout.h,
        one_sided=sides[0] if sides else None,
        evaluations=place.xp.full(place.lead, spent, np.int32),
    )


def _checked(place: Place, call: Call, centre: list[Any], values: list[Any]) -> list[Any]:
    """Derivatives of a black box by a complex step; NaN where its real values say otherwise."""
    xp, axis = place.xp, len(place.lead)

    def move(size: float) -> tuple[list[Any], list[Any]]:
        point, moves = moved_all(place, call, size)
        row = flatten(xp, moves, axis)
        changes = [xp.sum(v * over(row.astype(v.dtype), v), axis=axis) for v in values]
        return point, changes

    agree = check_along(place, call, centre, move)
    return [
        xp.where(xp.expand_dims(good, axis), value, np.nan)
        for good, value in zip(agree, values, strict=True)
    ]
