"""The estimator of fixed stencils: the same points along every coordinate."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jaxfd._arrays import constant, finfo, flatten, is_tiny, over, unknown
from jaxfd._estimate.analyticity import check_along, looks_unreal, moved_all, where_real
from jaxfd._estimate.bars import Told, bars, lay_rays
from jaxfd._estimate.estimator import Wish, derivatives
from jaxfd._estimate.found import Derivatives, derivatives_by_leaf
from jaxfd._estimate.layout import lay
from jaxfd._estimate.task import Call, complexified
from jaxfd._methods import StencilMethod
from jaxfd._places import Place


@derivatives.register
def along_coordinates(method: StencilMethod, place: Place, call: Call, wish: Wish) -> Derivatives:
    """Lays a method's stencil along every coordinate; see `derivatives`.

    Where bars are wanted a few points on rays are evaluated in the same batch. Complex steps and
    higher derivatives have none: their bars are NaN.
    """
    xp, axis, real = place.xp, len(place.lead), call.parts.real
    layout = lay(place, call, method.stencil(wish.order or 1))
    imaginary = layout.stencil.imaginary
    barred = wish.error and not imaginary and layout.stencil.derivative == 1
    # Steps in floats of 8 bits hold too few digits for a bar.
    tiny = is_tiny(layout.h.dtype)
    barred = barred and layout.points.count > 0 and not tiny

    def reduce(centre: Any, outputs: list[Any], d: Any) -> Any:
        result = []
        for i, output in enumerate(outputs):
            base = None if centre is None else centre[i]
            value = layout.combine(place, base, output, d)
            side = raw = None
            if wish.error and i == 0:
                side = layout.one_sided(place, base, output, d)
            odd = looks_unreal(place, output, layout.h[..., d]) if imaginary else None
            if barred:
                raw = xp.moveaxis(output, 0, axis + 1)
            result.append((value, side, raw, odd))
        return result

    points = layout.points
    if imaginary:
        points = dataclasses.replace(points, x=complexified(real, True))
    checked = imaginary and (place.opaque or call.remade) and points.count > 0
    spent = points.nodes * points.count + 1
    along: list[Any] = []
    centre: Any
    if barred:
        rays = lay_rays(place, call, layout)
        centre, reduced, along = place.evaluate_beside(points, reduce, rays.leaves)
        spent += rays.count
    else:
        ride = wish.centre or layout.needs_centre or checked
        centre, reduced = place.evaluate(points, reduce, None, ride)
    values, sides, raws, odd = ([entry[i] for entry in reduced] for i in range(4))
    if imaginary and points.count:
        values = where_real(place, points.x, centre, values, odd)
    if checked:
        assert centre is not None
        values = _checked(place, call, centre, values)
    errors: list[Any] = []
    if barred:
        eps = place.eps(layout.h.dtype)
        accuracy = layout.stencil.accuracy
        every = zip(values, raws, centre, along, call.out, strict=False)
        for value, raw, base, on_rays, out in every:
            dtype = place.compute_dtype(raw.dtype, layout.h.dtype)
            told = Told(
                centre=constant(xp, base.astype(dtype)),
                values=constant(xp, xp.moveaxis(raw, axis + 1, 0).astype(dtype)),
                along=constant(xp, on_rays.astype(dtype)),
                slope=constant(xp, value),
            )
            bar = bars(xp, axis, told, layout.distances, layout.h, accuracy, rays, eps)
            if layout.flat is not None:
                # Nothing was seen of an entry that cannot move.
                bar = xp.where(over(layout.flat == 0, bar), np.inf, bar)
            # No bar is finer than what the dtype of the result resolves.
            wide = np.float64 if finfo(out.dtype).bits > 32 else np.float32
            errors.append(xp.maximum(bar, np.asarray(np.finfo(wide).tiny, bar.dtype)))
    elif wish.error:
        missing = np.inf if tiny else unknown()
        errors = [xp.full_like(xp.abs(value), missing) for value in values]
    return derivatives_by_leaf(
        place,
        real,
        centre=centre,
        values=values,
        errors=errors,
        step=layout.h,
        one_sided=sides[0] if sides else None,
        evaluations=xp.full(place.lead, spent, np.int32),
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
