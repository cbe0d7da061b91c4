"""Derivatives of higher order along the coordinates, looked at twice where they may be wrong.

A default step suits rounding, and functions whose scale is that of the entry. Twice the step shows
noise far above rounding, and far smaller steps show a function that varies on the scale of the way
to a wall. Must not know who asks.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from jaxfd._arrays import constant, flatten, over
from jaxfd._estimate.estimator import Wish, derivatives
from jaxfd._estimate.found import Derivatives, by_leaf
from jaxfd._estimate.layout import Layout, lay
from jaxfd._estimate.task import Call
from jaxfd._estimate.twice import drowned_along
from jaxfd._estimate.walls import LOOKS, differs, mends, where_any
from jaxfd._methods import Adaptive, Stencil, is_default, search_like, stencil_of
from jaxfd._places import Place

# What values may lose by rounding, in spacings.
_ROUNDING = 4.0


def higher_derivatives(place: Place, call: Call, wish: Wish) -> Derivatives:
    """Derivatives of the order that is wished for, with steps that suit the function where seen.

    On the host a search finds what the usual step does not. In a kernel noise is not looked for,
    and a look beside a wall takes the place of what it contradicts.

    Args:
        place: where points are evaluated.
        call: the call.
        wish: what is wanted; its order is 2 or more.
    """
    method, order = call.method, wish.order or 1
    looks = is_default(method.step) and method.highest is None
    if not looks or not call.parts.real or (not place.concrete and call.boxes is None):
        return derivatives(method, place, call, wish)
    found = derivatives(method, place, call, wish._replace(centre=True))
    stencil = stencil_of(method, order)
    if not place.concrete:
        return _beside_walls(place, call, stencil, found)
    highest = Adaptive.highest
    if highest is None or order > highest:
        return found
    drowned = _drowned(place, call, stencil, found)
    if not np.any(drowned):
        return found
    search: Any = search_like(method.step)
    other = derivatives(search, place, dataclasses.replace(call, method=search), wish)
    rows = [
        [
            np.where(over(drowned, old), new.astype(old.dtype), old)
            for new, old in zip(*pair, strict=True)
        ]
        for pair in zip(other.rows, found.rows, strict=True)
    ]
    return dataclasses.replace(found, rows=rows)


def _in_rows(place: Place, found: Derivatives) -> list[Shaped[Any, "*lead o n"]]:
    """For each output its derivatives, its entries in a row, and all coordinates."""
    axis = len(place.lead)
    result = []
    for row, base in zip(found.rows, found.centre or (), strict=False):
        size = int(np.prod(base.shape[axis:], dtype=int))
        flat = [r.reshape(*place.lead, size, -1) for r in row]
        result.append(place.xp.concatenate(flat, axis=-1))
    return result


def _drowned(place: Place, call: Call, stencil: Stencil, found: Derivatives) -> Bool[Any, "*lead"]:
    """Whether a search is to be made: on the host, for every call of a batch."""
    assert found.centre is not None
    h = flatten(np, [step.astype(np.float64) for step in found.step], len(place.lead))
    rows = _in_rows(place, found)
    sizes = [np.abs(base).reshape(*place.lead, -1) for base in found.centre]
    sizes = sizes[: len(rows)]
    values = [np.abs(row) for row in rows]
    result = drowned_along(place, call, stencil, h, values, found.centre, sizes)
    if call.boxes is None or np.all(result):
        return result
    layout, near = _look(place, call, stencil, h, LOOKS[0])
    near = near & ~result[..., None]
    if not np.any(near):
        return result
    looks, lost = _weighed(place, layout, stencil, found.centre, near)
    for row, look, least in zip(rows, looks, lost, strict=True):
        other = differs(np, row, look, least) & near[..., None, :]
        result = result | np.any(other, axis=(-2, -1))
    return result


def _look(
    place: Place, call: Call, stencil: Stencil, h: Any, times: float
) -> tuple[Layout, Bool[Any, "*lead n"]]:
    """The points of a look beside walls, and the coordinates along which there is one."""
    layout = lay(place, call, stencil, beside=times)
    return layout, layout.h < h


def _weighed(
    place: Place, layout: Layout, stencil: Stencil, centre: list[Any], near: Bool[Any, "*lead n"]
) -> tuple[list[Any], list[Any]]:
    """For each output what a look says, as `_in_rows`, and what rounding may do to it."""
    xp, lead = place.xp, place.lead
    number = layout.h.shape[-1]
    weight = _ROUNDING * float(sum(abs(w) for w in stencil.weights)) * place.eps(layout.h.dtype)
    values, lost = [], []
    for output, base in zip(place.some(layout.points, near), centre, strict=False):
        value = layout.combine(place, base, output, slice(None))
        values.append(xp.moveaxis(value.reshape(*lead, number, -1), -2, -1))
        size = xp.max(xp.abs(output), axis=0).reshape(*lead, number, -1)
        size = constant(xp, xp.moveaxis(size, -2, -1))
        lost.append(weight * size / constant(xp, layout.h)[..., None, :] ** stencil.derivative)
    return values, lost


def _beside_walls(place: Place, call: Call, stencil: Stencil, found: Derivatives) -> Derivatives:
    """What was found in a kernel, mended beside walls."""
    xp, centre, real = place.xp, found.centre, call.parts.real
    assert centre is not None
    h = flatten(xp, [constant(xp, step) for step in found.step], len(place.lead))
    _, near = _look(place, call, stencil, h, LOOKS[0])

    def look(rows: list[Any]) -> list[Any]:
        laid = [lay(place, call, stencil, beside=times) for times in LOOKS]
        (first, lost), (second, _) = (_weighed(place, x, stencil, centre, near) for x in laid)
        result = []
        for row, one, two, least in zip(rows, first, second, lost, strict=True):
            better = mends(xp, row, one, two, least) & near[..., None, :]
            result.append(xp.where(better, one.astype(row.dtype), row))
        return result

    rows = where_any(place, near, look, _in_rows(place, found))
    shaped = []
    for row, base in zip(rows, centre, strict=False):
        last = xp.moveaxis(row, -1, len(place.lead))
        shaped.append(last.reshape(*last.shape[:-1], *base.shape[len(place.lead) :]))
    return dataclasses.replace(found, rows=by_leaf(place, shaped, real))
