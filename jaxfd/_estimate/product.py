"""Products of a Hessian with a vector, by the kind of method.

A fixed stencil takes differences of gradients along the vector. Any other method finds the Hessian
and multiplies: it has no step along a vector. Must not know who asks.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxfd._arrays import constant, flatten, over, whole
from jaxfd._estimate.estimator import Wish, second_derivatives
from jaxfd._estimate.layout import lay
from jaxfd._estimate.task import Call
from jaxfd._estimate.walls import LOOKS, where_any
from jaxfd._estimate.ways import ways
from jaxfd._methods import Method, Stencil, StencilMethod, is_default
from jaxfd._places import Place
from jaxfd._points import Box

# A product that changes by more than this share of itself between two steps is drowned in noise.
_DROWNED = 1e-2
# A gradient that changes by so many times itself over the usual scale may be noise.
_SUSPECT = 8.0
# Noise is what lies above so many times the spacing of the values.
_SPACINGS = 100.0
# With so few entries a whole Hessian may take the place of a product.
_FEW = 64
# However noisy, no relative step is larger.
_LARGEST = 0.1


@functools.singledispatch
def times_vector(
    method: Method, place: Place, call: Call, tangents: Sequence[Any]
) -> Float[Any, "*lead n"]:
    """The product of the Hessian with a vector.

    Args:
        method: the call's method, whose kind chooses the way.
        place: where points are evaluated.
        call: the call.
        tangents: the vector, leaf by leaf.

    Returns:
        All entries in a row.
    """
    return _whole(method, place, call, tangents)


def _whole(
    method: Method, place: Place, call: Call, tangents: Sequence[Any]
) -> Float[Any, "*lead n"]:
    """The product by way of the whole Hessian."""
    found = second_derivatives(method, place, call, Wish(True, order=2)).values[0]
    xp, axis = place.xp, len(place.lead)
    v = flatten(
        xp, [v.reshape(x.shape) for v, x in zip(tangents, call.parts.real, strict=True)], axis
    )
    # A sum in place of a product of matrices, which devices round.
    return xp.sum(found * v[..., None, :].astype(found.dtype), axis=-1)


@times_vector.register
def _(
    method: StencilMethod, place: Place, call: Call, tangents: Sequence[Any]
) -> Float[Any, "*lead n"]:
    stencil = method.stencil()
    near = _is_near_a_wall(method, place, call)
    if near is not None and place.concrete and np.any(near):
        return _whole(method, place, call, tangents)
    product, gradients, size = _differenced(place, call, stencil, tangents)
    if near is not None and not place.concrete:

        def look(known: Any) -> Any:
            return _whole(method, place, call, tangents).astype(known.dtype)

        product = where_any(place, near, look, product)
    if not place.concrete or not is_default(method.step):
        return product
    reach = max(stencil.offsets) - min(stencil.offsets)
    usual = _SUSPECT * reach * place.eps(product.dtype) ** (1 / (stencil.accuracy + 2))
    ends = gradients[: len(stencil.moving)]
    suspect = np.abs(ends[-1] - ends[0]) > usual * np.abs(ends[0])
    if not np.any(np.mean(suspect, axis=-1) > 0.5):
        return product
    # Twice the step costs as much again, and tells noise from a curvature that is there.
    other, _, _ = _differenced(place, call, stencil, tangents, 2.0)
    apart = np.abs(product - other)
    largest = np.max(np.maximum(np.abs(product), np.abs(other)), axis=-1, initial=0)
    noise = _noise_of(place, call, stencil, tangents, apart)
    drowned = np.max(apart, axis=-1, initial=0) > _DROWNED * largest
    drowned = drowned & (noise > _SPACINGS * place.eps(product.dtype) * size)
    if not np.any(drowned):
        return product
    # The step that suits noise instead of rounding.
    eps = place.eps(product.dtype)
    level = np.max(np.where(drowned, noise / np.maximum(size, np.finfo(float).tiny), 0))
    power = 1 / (stencil.accuracy + 2)
    stretch = (min(float(level), _LARGEST ** (1 / power)) / eps) ** power
    better, _, _ = _differenced(place, call, stencil, tangents, max(stretch, 2.0))
    return np.where(over(drowned, product), better, product)


def _is_near_a_wall(method: StencilMethod, place: Place, call: Call) -> Bool[Any, "*lead n"] | None:
    """Entries beside which a function may vary on a scale that only a Hessian's looks tell.

    None where there are no walls, the user chose the step, or there are too many entries.
    """
    axis = len(place.lead)
    count = sum(math.prod(x.shape[axis:]) for x in call.parts.real)
    if call.boxes is None or not is_default(method.step) or count > _FEW:
        return None
    usual, close = (lay(place, call, method.stencil(2), beside=b).h for b in (0.0, LOOKS[0]))
    near: Bool[Any, "*lead n"] = close < usual
    return near


def _noise_of(
    place: Place, call: Call, stencil: Stencil, tangents: Sequence[Any], apart: Any
) -> Any:
    """The noise of values that makes products differ so much between two steps."""
    h = lay(place, call, stencil, derivative=2).h
    way = ways(place, call, tangents, stencil, 2)[0]
    return np.sqrt(np.mean((apart * h * over(way.h, h)) ** 2, axis=-1))


def _differenced(
    place: Place,
    call: Call,
    stencil: Stencil,
    tangents: Sequence[Any],
    stretch: float = 1.0,
) -> tuple[Any, list[Any], Any]:
    """The gradient's difference along a vector, with steps stretched by a factor.

    Returns:
        The product, the gradients it is made of, and how large the function's values are.
    """
    xp, x = place.xp, list(call.parts.real)
    total: Any = None
    every, sizes = [], []
    for way in ways(place, call, tangents, stencil, 2, stretch):
        points, moved = way.points(place, x, stencil, call.boxes)
        bases = [[p[k] for p in points] for k in range(len(stencil.moving))]
        if stencil.uses_centre or way.row is not None:
            bases.append(x)
        boxes = _common(place, call, bases)
        found = [
            _gradient(place, call, stencil, base, box, stretch)
            for base, box in zip(bases, boxes, strict=True)
        ]
        gradients = [gradient for gradient, _ in found]
        sizes += [size for _, size in found]
        every += gradients
        centre = gradients.pop() if len(gradients) > len(stencil.moving) else None
        outputs = xp.stack(gradients)
        part = way.combine(place, stencil, centre, outputs, moved.astype(outputs.dtype))
        total = part if total is None else total + part
    return total, every, functools.reduce(xp.maximum, sizes)


def _common(place: Place, call: Call, bases: Sequence[Sequence[Any]]) -> list[Sequence[Box] | None]:
    """The boxes around several points, all with the least room that any of them has.

    Gradients that look to different sides would differ by their errors.
    """
    if call.boxes is None:
        return [None] * len(bases)
    xp = place.xp
    result: list[list[Box]] = [[] for _ in bases]
    for leaf, box in enumerate(call.boxes):
        still = [constant(xp, base[leaf]) for base in bases]
        down = functools.reduce(xp.minimum, [x - box.lower for x in still])
        up = functools.reduce(xp.minimum, [box.upper - x for x in still])
        for own, x in zip(result, still, strict=True):
            # A rounded wall may not lie outside of the user's.
            lower, upper = xp.maximum(x - down, box.lower), xp.minimum(x + up, box.upper)
            own.append(dataclasses.replace(box, x=x, lower=lower, upper=upper))
    return list(result)


def _gradient(
    place: Place,
    call: Call,
    stencil: Stencil,
    base: Sequence[Any],
    boxes: Sequence[Box] | None,
    stretch: float,
) -> tuple[Any, Any]:
    """The gradient at a point, with a step that suits a second derivative; the size of values."""
    call = dataclasses.replace(call, boxes=boxes)
    layout = lay(place, call, stencil, whole(base, None), derivative=2, stretch=stretch)
    xp, axis = place.xp, len(place.lead)

    def reduce(centre: Any, outputs: list[Any], d: Any) -> Any:
        base = None if centre is None else centre[0]
        value = layout.combine(place, base, outputs[0], d)
        return value, xp.moveaxis(xp.max(xp.abs(outputs[0]), axis=0), axis, -1)

    _, (gradient, sizes) = place.evaluate(layout.points, reduce, None, ride=layout.needs_centre)
    return gradient, xp.max(sizes, axis=-1, initial=0)
