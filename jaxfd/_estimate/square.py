"""Second derivatives along all pairs from one set of points: axes first, then corners.

With the first-derivative weights ``a_s`` of the method, and points along the axes shared::

    H_ij ~ sum_s a_s / s [f(s h_i + s h_j) - f(s h_i) - f(s h_j) + f] / (h_i h_j)

which for `Central` of order 2 takes ``n^2 + n + 1`` points and for `Forward` of order 1
``(n + 1)(n + 2) / 2``. With walls each entry has a row of its own, and a pair takes the product of
both. Must not know what becomes of it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from jaxfd._arrays import constant, over
from jaxfd._estimate.corners import corners
from jaxfd._estimate.decimals import scatter_of_digits
from jaxfd._estimate.found import evaluate_all, in_square
from jaxfd._estimate.layout import Layout, lay
from jaxfd._estimate.task import Call
from jaxfd._methods import Stencil
from jaxfd._places import Place

# Values of a pair that differ by more than this share of what they are to show: noise drowns it, or
# the function varies within the step.
DROWNED = 1e-2
# The same where two steps show that it is noise; it grows less than by this factor then.
_NOTICED, _GROWTH = 1e-3, 4.0
# Noise is what lies above so many times the spacing of the values.
_SPACINGS = 100.0
# A bar is so many times what two steps differ by.
_CAUTION = 1.5
# What the computation of one value may lose, in spacings.
_ROUNDING = 4.0


class Square(NamedTuple):
    """Second derivatives from one set of points.

    Attributes:
        centre: the outputs at ``x``, the auxiliary ones too.
        values: for each output, shape ``(*lead, N, N, *out)``.
        size: for each output how large its values are, shape ``(*lead, *out)``.
        levels: for each output the larger of that and what it changes by on the scale of an entry.
        noise: for each output the noise that the values show, of the same shape; what a smooth
            function does looks like noise too, but grows with the step.
        share: for each output the largest share of what a pair is to show that this is.
        layout: the points along the axes.
        points: how many points there are besides the centre.
    """

    centre: list[Any]
    values: list[Shaped[Any, "*lead n n *out"]]
    size: list[Shaped[Any, "*lead *out"]]
    levels: list[Shaped[Any, "*lead *out"]]
    noise: list[Shaped[Any, "*lead *out"]]
    share: list[Shaped[Any, "*lead *out"]]
    layout: Layout
    points: int


def square(
    place: Place,
    call: Call,
    first: Stencil,
    second: Stencil,
    centre: list[Any] | None,
    stretch: float = 1.0,
    beside: float = 0.0,
) -> Square:
    """Evaluates axes and pairs, and weighs them.

    Args:
        place: where points are evaluated.
        call: the call.
        first: the stencil of first derivatives.
        second: that of second ones, with points on the offsets of the other.
        centre: the outputs at ``x`` where they are known.
        stretch: what steps are multiplied by.
        beside: which look beside walls this is; see `lay`.
    """
    xp, axis = place.xp, len(place.lead)
    layout = lay(place, call, second, stretch=stretch, beside=beside)
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
    values, noises, sizes, levels, shares = [], [], [], [], []
    wide = place.eps(layout.h.dtype) ** (-1 / (second.accuracy + 2))
    for o, (d, (pair, apart)) in enumerate(zip(diagonal, pairs, strict=True)):
        values.append(in_square(place, d, pair))
        size = xp.maximum(xp.abs(base[o]), xp.max(xp.abs(along[o]), axis=(0, axis + 1), initial=0))
        sizes.append(constant(xp, size))
        change = xp.max(along[o], axis=0) - xp.min(along[o], axis=0)
        change = wide * xp.max(xp.abs(change), axis=axis, initial=0)
        levels.append(constant(xp, xp.maximum(size, change)))
        coarse: Any = 0.0
        if place.concrete:
            lines = np.moveaxis(along[o], axis + 1, 0).reshape(-1, *base[o].shape)
            coarse = scatter_of_digits(np.concatenate([base[o][None], lines]))
        noise, share = _noise(place, layout, (low, high), d, pair, apart, sizes[-1], coarse)
        noises.append(noise)
        shares.append(share)
    spent = layout.points.nodes * number + cross.points.nodes * int(low.size)
    return Square(base, values, sizes, levels, noises, shares, layout, spent)


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


def bars_of(place: Place, second: Stencil, near: Square, far: Square) -> list[tuple[Any, Any]]:
    """For each output a bound of the error, and what of it drowns: by entries of the output."""
    xp, axis = place.xp, len(place.lead)
    h, wide = constant(xp, near.layout.h), constant(xp, far.layout.h)
    area = h[..., :, None] * h[..., None, :]
    # A box may have left no room for larger steps: they have nothing to tell.
    told = wide[..., :, None] * wide[..., None, :] > 2 * area
    factor = max(2.0 / (2**second.accuracy - 1), _CAUTION)
    weight = _weight(second)
    result = []
    for o, value in enumerate(near.values):
        apart = xp.abs(constant(xp, value - far.values[o]))
        span = over(area, apart)
        lost = _ROUNDING * weight * place.eps(h.dtype) * near.size[o]
        # What a smooth function does grows with the third power of the step, noise does not.
        stands = far.noise[o] < _GROWTH * near.noise[o]
        noise = xp.where(stands, xp.maximum(near.noise[o], far.noise[o]), 0)
        hides = (stands & (near.share[o] > _NOTICED)) | (far.share[o] > DROWNED)
        spread = xp.expand_dims(lost + weight * noise, (axis, axis + 1)) / span
        # Noise does about the same to all entries, and to both steps now and then.
        alike = xp.sqrt(
            xp.mean((xp.where(xp.isfinite(apart), apart, 0) * span) ** 2, (axis, axis + 1))
        )
        spread = spread + _CAUTION * xp.expand_dims(alike, (axis, axis + 1)) / span
        bar = xp.where(over(told, apart), factor * apart + spread, np.inf)
        blank = xp.expand_dims(is_blank_square(place, near, o), (axis, axis + 1))
        bar = xp.where(xp.isfinite(value) & ~blank, bar, np.inf)
        if near.layout.flat is not None:
            flat = near.layout.flat[..., :, None] * near.layout.flat[..., None, :]
            bar = xp.where(over(flat, bar) == 0, 0, bar)
        size = xp.maximum(xp.abs(constant(xp, value)), xp.abs(constant(xp, far.values[o])))
        least = xp.expand_dims(lost, (axis, axis + 1)) / span
        seen = over(told, apart) & (apart > least)
        largest = xp.max(size, axis=(axis, axis + 1), keepdims=True, initial=0)
        drowns = seen & (apart > DROWNED * largest)
        result.append((bar.astype(value.dtype), hides | xp.any(drowns, axis=(axis, axis + 1))))
    return result


def rounding_of(
    place: Place, second: Stencil, found: Square, number: int
) -> Float[Any, "*lead n n *out"]:
    """What rounding may do to the derivatives of one output."""
    xp, axis = place.xp, len(place.lead)
    h = constant(xp, found.layout.h)
    lost = _ROUNDING * _weight(second) * place.eps(h.dtype) * found.size[number]
    lost = xp.expand_dims(lost, (axis, axis + 1))
    return lost / over(h[..., :, None] * h[..., None, :], found.values[number])


def is_blank_square(place: Place, found: Square, number: int) -> Bool[Any, "*lead *out"]:
    """Whether all that was seen of an output is 0: nothing is known of its digits then."""
    axis = len(place.lead)
    none = place.xp.all(found.values[number] == 0, axis=(axis, axis + 1))
    return none & (found.size[number] == 0) & (found.layout.h.shape[-1] > 0)


def _weight(second: Stencil) -> float:
    return max(4.0, float(sum(abs(w) for w in second.weights)))
