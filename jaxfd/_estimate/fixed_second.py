"""The estimator of second derivatives with fixed stencils: one set of points, and second looks.

What noise drowns a search finds, on the host. Beside a wall, where a function may vary on another
scale than its entry does, a look with smaller steps tells: a search takes its place on the host,
the look itself in a kernel. Must not know who asks, nor what becomes of the numbers.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxfd._arrays import over
from jaxfd._estimate.estimator import Wish, second_derivatives
from jaxfd._estimate.found import SecondDerivatives, by_leaf
from jaxfd._estimate.layout import lay
from jaxfd._estimate.square import (
    DROWNED,
    Square,
    bars_of,
    is_blank_square,
    rounding_of,
    square,
)
from jaxfd._estimate.task import Call
from jaxfd._estimate.twice import drowned_along
from jaxfd._estimate.walls import LOOKS, differs, mends, where_any
from jaxfd._methods import Stencil, StencilMethod, is_default, search_like
from jaxfd._places import Place


class _Judged(NamedTuple):
    """What is known after some looks; a pytree.

    Attributes:
        drowned: the calls that a search is to find better.
        values: for each output the derivatives, shape ``(*lead, N, N, *out)``.
        errors: for each output what is known of their errors, or None.
        step: the steps along the axes.
        one_sided: where their points lie to one side though the method's do not.
        evaluations: how many points were evaluated.
    """

    drowned: Bool[Any, "*lead"]
    values: list[Shaped[Any, "*lead n n *out"]]
    errors: list[Float[Any, "*lead n n *out"]] | None
    step: Float[Any, "*lead n"]
    one_sided: Bool[Any, "*lead n"]
    evaluations: Int[Any, "*lead"]


@second_derivatives.register
def along_pairs(method: StencilMethod, place: Place, call: Call, wish: Wish) -> SecondDerivatives:
    """Lays a method's stencils along every pair; see `second_derivatives`."""
    first = method.stencil()
    second = method.stencil(2).with_offsets(first.moving)
    near = square(place, call, first, second, None)
    xp, real, looks = place.xp, call.parts.real, is_default(method.step)
    errors, points = None, near.points
    drowned = _anywhere(place, [share > DROWNED for share in near.share])
    if wish.error:
        far = square(place, call, first, second, near.centre, stretch=2.0)
        bars = bars_of(place, second, near, far)
        errors, points = [bar for bar, _ in bars], points + far.points
        drowned = drowned | _anywhere(place, [hides for _, hides in bars])
    judged = _Judged(
        drowned=drowned,
        values=near.values,
        errors=errors,
        step=near.layout.h,
        one_sided=near.layout.sideways(place),
        evaluations=xp.full(place.lead, points + 1, np.int32),
    )
    if looks and place.concrete:
        judged = _looked_at_twice(place, call, second, near, judged)
    if looks and call.boxes is not None:
        judged = _beside_walls(place, call, (first, second), near, judged)
    found = SecondDerivatives(
        centre=near.centre,
        values=judged.values,
        errors=judged.errors,
        step=by_leaf(place, [judged.step], real)[0],
        one_sided=by_leaf(place, [judged.one_sided], real)[0],
        evaluations=judged.evaluations,
    )
    if looks and place.concrete and np.any(judged.drowned):
        return _searched(place, call, wish, found, judged.drowned)
    return found


def _looked_at_twice(
    place: Place, call: Call, second: Stencil, near: Square, judged: _Judged
) -> _Judged:
    """Whether noise along a single entry, or few digits, hide what one set of points shows.

    Noise that follows one entry cancels in the pairs. Two sets of points show it.
    """
    axis, number = len(place.lead), near.layout.h.shape[-1]
    blank = _anywhere(place, [is_blank_square(place, near, o) for o in range(len(near.values))])
    drowned = judged.drowned | blank
    if judged.errors is not None:
        return judged._replace(drowned=drowned)
    diagonals = [np.abs(np.diagonal(v, 0, axis, axis + 1)) for v in near.values]
    again = drowned_along(
        place,
        call,
        second,
        near.layout.h,
        [d.reshape(*place.lead, -1, number) for d in diagonals],
        near.centre,
        [size.reshape(*place.lead, -1) for size in near.size],
        drowned,
        [level.reshape(*place.lead, -1) for level in near.levels],
        zeros=False,
    )
    return judged._replace(drowned=again)


def _beside_walls(
    place: Place, call: Call, stencils: tuple[Stencil, Stencil], near: Square, judged: _Judged
) -> _Judged:
    """What a look with smaller steps makes of it where a wall is near."""
    xp, axis = place.xp, len(place.lead)
    first, second = stencils
    close = lay(place, call, second, beside=LOOKS[0]).h < near.layout.h
    if place.concrete:
        close = close & ~judged.drowned[..., None]
    pairs = close[..., :, None] | close[..., None, :]

    def look(known: _Judged) -> _Judged:
        one = square(place, call, first, second, near.centre, beside=LOOKS[0])
        lost = [rounding_of(place, second, one, o) for o in range(len(near.values))]
        spent = known.evaluations + np.int32(one.points)
        both = list(zip(known.values, one.values, lost, strict=True))
        if place.concrete:
            flags = [over(pairs, old) & differs(xp, old, new, w) for old, new, w in both]
            return known._replace(
                drowned=known.drowned | _anywhere(place, flags), evaluations=spent
            )
        two = square(place, call, first, second, near.centre, beside=LOOKS[1])
        better = [
            over(pairs, old) & mends(xp, old, new, wider, w)
            for (old, new, w), wider in zip(both, two.values, strict=True)
        ]
        errors = known.errors
        if errors is not None:
            bars = [bar for bar, _ in bars_of(place, second, one, two)]
            errors = [xp.where(*each) for each in zip(better, bars, errors, strict=True)]
        own = [xp.diagonal(b, 0, axis, axis + 1) for b in better]
        own = [xp.any(d.reshape(-1, d.shape[-1]), axis=0) for d in own]
        moved = functools.reduce(xp.logical_or, own)
        return _Judged(
            drowned=known.drowned,
            values=[xp.where(b, new, old) for b, (old, new, _) in zip(better, both, strict=True)],
            errors=errors,
            step=xp.where(moved, one.layout.h, known.step),
            one_sided=xp.where(moved, one.layout.sideways(place), known.one_sided),
            evaluations=spent + np.int32(two.points),
        )

    return where_any(place, close, look, judged)


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


def _anywhere(place: Place, flags: list[Any]) -> Bool[Any, "*lead"]:
    """Whether a flag is set for any output."""
    xp = place.xp
    each = [xp.any(flag.reshape(*place.lead, -1), axis=-1) for flag in flags]
    return functools.reduce(xp.logical_or, each)
