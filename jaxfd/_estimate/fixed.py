"""The estimator of fixed stencils: the same points along every coordinate."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

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
            result.append((value, bar, side))
        return result

    points = layout.points
    if layout.stencil.imaginary:
        points = dataclasses.replace(points, x=complexified(real, True))
    ride = wish.centre or layout.needs_centre
    centre, reduced = place.evaluate(points, reduce, None, ride)
    values, bars, sides = ([entry[i] for entry in reduced] for i in range(3))
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
