"""The estimator of second derivatives with fixed stencils: axes first, then pairs of entries.

With the first-derivative weights ``a_s`` of the method, and points along the axes shared::

    H_ij ~ sum_s a_s / s [f(s h_i + s h_j) - f(s h_i) - f(s h_j) + f] / (h_i h_j)

which for `Central` of order 2 takes ``n^2 + n + 1`` points and for `Forward` of order 1
``(n + 1)(n + 2) / 2``. With walls each entry has a row of its own, and a pair takes the product of
both. Must not know who asks, nor what becomes of the numbers.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped

from jaxfd._arrays import constant, over
from jaxfd._estimate.corners import corners
from jaxfd._estimate.decimals import scatter_of_digits
from jaxfd._estimate.estimator import Wish, second_derivatives
from jaxfd._estimate.found import SecondDerivatives, by_leaf, evaluate_all, in_square
from jaxfd._estimate.layout import Layout, lay
from jaxfd._estimate.task import Call
from jaxfd._methods import Stencil, StencilMethod, is_default, search_like
from jaxfd._places import Place

# Values of a pair that differ by more than this share of what they are to show: noise drowns it, or
# the function varies within the step.
_DROWNED = 1e-2
# The same where two steps show that it is noise; it grows less than by this factor then.
_NOTICED, _GROWTH = 1e-3, 4.0
# Noise is what lies above so many times the spacing of the values.
_SPACINGS = 100.0
# A bar is so many times what two steps differ by.
_CAUTION = 1.5
# What the computation of one value may lose, in spacings.
_ROUNDING = 4.0


class _Square(NamedTuple):
    """Second derivatives from one set of points.

    Attributes:
        centre: the outputs at ``x``, the auxiliary ones too.
        values: for each output, shape ``(*lead, N, N, *out)``.
        size: for each output how large its values are, shape ``(*lead, *out)``.
        noise: for each output the noise that the values show, of the same shape; what a smooth
            function does looks like noise too, but grows with the step.
        share: for each output the largest share of what a pair is to show that this is.
        layout: the points along the axes.
        points: how many points there are besides the centre.
    """

    centre: list[Any]
    values: list[Shaped[Any, "*lead n n *out"]]
    size: list[Shaped[Any, "*lead *out"]]
    noise: list[Shaped[Any, "*lead *out"]]
    share: list[Shaped[Any, "*lead *out"]]
    layout: Layout
    points: int


@second_derivatives.register
def along_pairs(method: StencilMethod, place: Place, call: Call, wish: Wish) -> SecondDerivatives:
    """Lays a method's stencils along every pair; see `second_derivatives`."""
    first = method.stencil()
    second = method.stencil(2).with_offsets(first.moving)
    near = _square(place, call, first, second, None, 1.0)
    xp, real = place.xp, call.parts.real
    errors, points = None, near.points
    drowned = _anywhere(place, [share > _DROWNED for share in near.share])
    if wish.error:
        far = _square(place, call, first, second, near.centre, 2.0)
        bars = _bars(place, second, near, far)
        errors, points = [bar for bar, _ in bars], points + far.points
        drowned = drowned | _anywhere(place, [hides for _, hides in bars])
    found = SecondDerivatives(
        centre=near.centre,
        values=near.values,
        errors=errors,
        step=by_leaf(place, [near.layout.h], real)[0],
        one_sided=by_leaf(place, [near.layout.sideways(place)], real)[0],
        evaluations=xp.full(place.lead, points + 1, np.int32),
    )
    if place.concrete and is_default(method.step) and np.any(drowned):
        return _searched(place, call, wish, found, drowned)
    return found


def _searched(
    place: Place, call: Call, wish: Wish, found: SecondDerivatives, drowned: Any
) -> SecondDerivatives:
    """What a search finds, in the place of what noise drowns."""
    search: Any = search_like(call.method.step)
    other = second_derivatives(search, place, dataclasses.replace(call, method=search), wish)

    def chosen(new: Any, old: Any) -> Any:
        new = new.astype(old.dtype)
        return place.xp.where(over(drowned, new), new, old)

    def each(new: Any, old: Any) -> Any:
        return None if old is None else [chosen(a, b) for a, b in zip(new, old, strict=True)]

    return SecondDerivatives(
        centre=found.centre,
        values=each(other.values, found.values),
        errors=each(other.errors, found.errors),
        step=each(other.step, found.step),
        one_sided=each(other.one_sided, found.one_sided),
        # The value at x is not counted twice.
        evaluations=found.evaluations + place.xp.where(drowned, other.evaluations, 0),
    )


def _square(
    place: Place,
    call: Call,
    first: Stencil,
    second: Stencil,
    centre: list[Any] | None,
    stretch: float,
) -> _Square:
    """Evaluates axes and pairs, and weighs them.

    Args:
        place: where points are evaluated.
        call: the call.
        first: the stencil of first derivatives.
        second: that of second ones, with points on the offsets of the other.
        centre: the outputs at ``x`` where they are known.
        stretch: what steps are multiplied by.
    """
    xp, axis = place.xp, len(place.lead)
    layout = lay(place, call, second, stretch=stretch)
    at_x, along = evaluate_all(place, layout.points, centre, ride=centre is None)
    centre = at_x if centre is None else centre
    assert centre is not None
    base = centre
    diagonal = [layout.combine(place, base[i], v, slice(None)) for i, v in enumerate(along)]
    number = layout.h.shape[-1]
    low, high = np.triu_indices(number, 1)
    cross = corners(place, layout, first, (low, high))

    def mixed(centre: Any, outputs: list[Any], d: Any) -> Any:
        i, j = xp.asarray(low)[d], xp.asarray(high)[d]
        return [
            cross.weigh(place, centre[o], along[o], output, i, j)
            for o, output in enumerate(outputs)
        ]

    _, pairs = place.evaluate(cross.points, mixed, base, ride=False)
    values, noises, sizes, shares = [], [], [], []
    for o, (d, (pair, apart)) in enumerate(zip(diagonal, pairs, strict=True)):
        values.append(in_square(place, d, pair))
        size = xp.maximum(xp.abs(base[o]), xp.max(xp.abs(along[o]), axis=(0, axis + 1), initial=0))
        sizes.append(constant(xp, size))
        coarse: Any = 0.0
        if place.concrete:
            lines = np.moveaxis(along[o], axis + 1, 0).reshape(-1, *base[o].shape)
            coarse = scatter_of_digits(np.concatenate([base[o][None], lines]))
        noise, share = _noise(place, layout, (low, high), d, pair, apart, sizes[-1], coarse)
        noises.append(noise)
        shares.append(share)
    spent = layout.points.nodes * number + cross.points.nodes * int(low.size)
    return _Square(base, values, sizes, noises, shares, layout, spent)


def _noise(
    place: Place,
    layout: Layout,
    pairs: tuple[np.ndarray, np.ndarray],
    diagonal: Any,
    mixed: Any,
    apart: Any,
    size: Any,
    coarse: Any,
) -> tuple[Any, Any]:
    """The noise that the pairs show, and its largest share of what they are to show; of an output.

    The corners ``+ +`` and ``- -`` of a pair tell its derivative twice. A smooth function makes
    little difference between them. What values of few digits lose they need not show.
    """
    xp, axis = place.xp, len(place.lead)
    h = constant(xp, layout.h)
    own = over(h, diagonal) ** 2 * xp.abs(constant(xp, diagonal))
    if not pairs[0].size:
        level = coarse + xp.zeros_like(size)
        return level, _share(xp, level, xp.max(own, axis=axis, initial=0))
    if apart is None:
        apart = xp.zeros_like(mixed)
    area = over(h[..., pairs[0]] * h[..., pairs[1]], apart)
    own = xp.maximum(xp.take(own, pairs[0], axis=axis), xp.take(own, pairs[1], axis=axis))
    shown = xp.maximum(own, area * xp.abs(constant(xp, mixed)))
    # Six values, of variance 1 each.
    noise = area * constant(xp, apart) / 6**0.5
    if place.concrete:
        noise = xp.maximum(noise, xp.expand_dims(coarse, axis))
    least = _SPACINGS * place.eps(layout.h.dtype) * xp.expand_dims(size, axis)
    known = xp.where(noise > least, noise, 0)
    share = xp.max(_share(xp, known, shown), axis=axis)
    return xp.sqrt(xp.mean(known**2, axis=axis)), share


def _share(xp: Any, part: Any, whole: Any) -> Any:
    """The share of a part; infinite of nothing, and 0 where both are."""
    return xp.where(whole > 0, part / xp.where(whole > 0, whole, 1), xp.where(part > 0, np.inf, 0))


def _anywhere(place: Place, flags: list[Any]) -> Bool[Any, "*lead"]:
    """Whether a flag is set for any output."""
    xp = place.xp
    each = [xp.any(flag.reshape(*place.lead, -1), axis=-1) for flag in flags]
    return functools.reduce(xp.logical_or, each)


def _bars(place: Place, second: Stencil, near: _Square, far: _Square) -> list[tuple[Any, Any]]:
    """For each output a bound of the error, and what of it drowns: by entries of the output."""
    xp, axis = place.xp, len(place.lead)
    h, wide = constant(xp, near.layout.h), constant(xp, far.layout.h)
    area = h[..., :, None] * h[..., None, :]
    # A box may have left no room for larger steps: they have nothing to tell.
    told = wide[..., :, None] * wide[..., None, :] > 2 * area
    factor = max(2.0 / (2**second.accuracy - 1), _CAUTION)
    weight = max(4.0, float(sum(abs(w) for w in second.weights)))
    result = []
    for o, value in enumerate(near.values):
        apart = xp.abs(constant(xp, value - far.values[o]))
        span = over(area, apart)
        lost = _ROUNDING * weight * place.eps(h.dtype) * near.size[o]
        # What a smooth function does grows with the third power of the step, noise does not.
        stands = far.noise[o] < _GROWTH * near.noise[o]
        noise = xp.where(stands, xp.maximum(near.noise[o], far.noise[o]), 0)
        hides = (stands & (near.share[o] > _NOTICED)) | (far.share[o] > _DROWNED)
        spread = xp.expand_dims(lost + weight * noise, (axis, axis + 1)) / span
        # Noise does about the same to all entries, and to both steps now and then.
        alike = xp.sqrt(
            xp.mean((xp.where(xp.isfinite(apart), apart, 0) * span) ** 2, (axis, axis + 1))
        )
        spread = spread + _CAUTION * xp.expand_dims(alike, (axis, axis + 1)) / span
        bar = xp.where(over(told, apart), factor * apart + spread, np.inf)
        bar = xp.where(xp.isfinite(value), bar, np.inf)
        if near.layout.flat is not None:
            flat = near.layout.flat[..., :, None] * near.layout.flat[..., None, :]
            bar = xp.where(over(flat, bar) == 0, 0, bar)
        size = xp.maximum(xp.abs(constant(xp, value)), xp.abs(constant(xp, far.values[o])))
        least = xp.expand_dims(lost, (axis, axis + 1)) / span
        seen = over(told, apart) & (apart > least)
        largest = xp.max(size, axis=(axis, axis + 1), keepdims=True, initial=0)
        drowns = seen & (apart > _DROWNED * largest)
        result.append((bar.astype(value.dtype), hides | xp.any(drowns, axis=(axis, axis + 1))))
    return result
