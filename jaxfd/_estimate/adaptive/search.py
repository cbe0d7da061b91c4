"""The search for step and derivative along every coordinate, in a few batches of points.

1. A ladder of steps, and two points very close to ``x``: scale and noise.
2. Where these do not settle the radius: another ladder below or above.
3. The points of a fit within the radius.
4. Where the fit shows truncation, a fit in a smaller radius; where noise makes its bar wide, more
   points, or a larger radius.

Steps 1 and 2 are in `radius`. This room fits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jax import tree_util

from jaxfd._arrays import constant
from jaxfd._estimate.adaptive.advice import advised
from jaxfd._estimate.adaptive.climb import Climb
from jaxfd._estimate.adaptive.close import beyond, denied, kinks, stairs, teeth, unmoved
from jaxfd._estimate.adaptive.fits import MOST_SETS, BestFit, Evidence, add
from jaxfd._estimate.adaptive.ground import survey
from jaxfd._estimate.adaptive.radius import begin, climb
from jaxfd._estimate.adaptive.reading import (
    FIT_POINTS,
    FRESH_POINTS,
    Search,
    fresh,
    gather,
    halvings_of,
    spread,
)
from jaxfd._estimate.estimator import Wish, derivatives
from jaxfd._estimate.found import Derivatives, derivatives_by_leaf
from jaxfd._estimate.task import Call
from jaxfd._methods import Adaptive, stencil_of
from jaxfd._places import Place

# An entry gets no further fit where that would pass so many evaluations, the centre among them.
_MOST = 60
# A bar is this many times the error that a fit promises, for it is the best of many.
_BAR = 2.5
# To one side of a wall a scale that is not resolved makes bars so many times too short.
_VAGUE = 10.0
# What noise alone would leave, times this: a fit that leaves more is limited by truncation.
_NOISY = 40.0
# A bar is too wide when it is more than this share of the derivative: where noise is the reason,
# and, as a power of eps, where truncation is. A bar this many times rounding is never too wide.
_COARSE, _FINE, _ROUNDING = 0.1, 0.4, 30.0
# An error of so many derivatives: nothing is seen but noise.
_LOST = 4.0
# The slope of a tooth, over what a fit of low degree leaves of a jump, and the radius.
_REST = 10.0
# A smaller radius against truncation, a larger one against noise.
_SHRINK, _GROW = 1 / 16, 64.0


class Round(NamedTuple):
    """The state of the fits: the best one of every coordinate so far.

    Attributes:
        side: to which side of ``x`` its points lie, 0 for both, shape ``(*lead, N)``.
        radius: how far they may go.
        jump: where there is a jump at ``x``, shape ``(*lead, N, O)``.
        best: what it says.
        evidence: what all fits make of the points.
        odd: the odd parts at its points, shape ``(8, *lead, N, O)``.
        doubt: by how much a wider fit differed that jumps had spoilt, with its bar.
        number: how often was fitted again.
        spent: how many points were evaluated.
    """

    side: Any
    radius: Any
    jump: Any
    best: BestFit
    evidence: list[Evidence]
    odd: Any
    doubt: Any
    number: Any
    spent: Any


@derivatives.register
def search(method: Adaptive, place: Place, call: Call, wish: Wish) -> Derivatives:
    """Finds the derivative along every coordinate, and how far it can be trusted.

    See `derivatives`; the outputs at ``x`` and the errors come along whether wanted or not.
    """
    if wish.order is not None and wish.order > 1:
        stencil_of(method, wish.order)  # refuses
    with np.errstate(all="ignore"), advised(place, call):
        ground = survey(place, call, method)
        found, centre, start = begin(ground, method.noise)
        climbed = climb(found, start)
        state = _refine(found, _fit(found, climbed, centre))
        xp = place.xp
        best = tree_util.tree_map(lambda leaf: constant(xp, leaf), state.best)
        value, error = state.best.value, _BAR * best.error
        vague = climbed.unresolved
        error = (
            xp.where((vague & (state.side != 0))[..., None], _VAGUE, 1.0).astype(error.dtype)
            * error
        )
        doubt = xp.where(vague[..., None], climbed.doubt, 0)
        denial = denied(found, climbed, best, state.radius)
        stood = stairs(found, climbed, state.radius)
        saw = teeth(found, climbed, best.value)
        wide = xp.abs(best.value - best.wide) + _BAR * best.wide_error
        reach = xp.where(state.radius > 0, state.radius, 1).astype(found.dtype)[..., None]
        wide = xp.maximum(wide, _REST * best.rest / reach)
        saw = xp.maximum(saw, xp.where(best.jumps, wide, 0))
        saw = xp.maximum(saw, beyond(found, climbed, state.odd, state.radius))
        still = unmoved(found, climbed)
        for more in (kinks(found, climbed), doubt, denial, stood, still, saw, state.doubt):
            error = xp.maximum(error, more)
        lost = state.jump | ~xp.isfinite(value)
        error = xp.where(lost, np.inf, error)
        flat = ground.flat.astype(found.dtype)[..., None]
        value = xp.where(flat == 0, 0, value * flat)
        error = xp.where(flat == 0, 0, error)
        base = found.centre
        evaluations = xp.sum(state.spent, axis=-1) * ground.repeats + 1
        return derivatives_by_leaf(
            place,
            call.parts.real,
            centre=centre,
            values=ground.restore(value, base),
            errors=ground.restore(error, base),
            step=state.radius * xp.max(best.reach, axis=-1, initial=0).astype(state.radius.dtype),
            one_sided=state.side != 0,
            evaluations=evaluations.astype(np.int32),
        )


def _fit(search: Search, state: Climb, centre: Any) -> Round:
    """The first fit along every coordinate, with what the ladder has in it already."""
    xp = search.xp
    side, top, ladder = state.kept_side, state.kept_top, constant(xp, state.changes)
    halvings = halvings_of(xp, side, top, state.radius, ladder)
    radius = xp.ldexp(top, -halvings)
    changes, moved = search.sample_all(fresh(xp, side, halvings, radius), centre)
    changes = gather(xp, side, halvings, changes, state.changes)
    moved = gather(xp, side, halvings, moved, state.moved)
    evidence = search.weigh(changes, moved, radius)
    return Round(
        side=side,
        radius=radius,
        jump=state.jump,
        best=search.judge(side, evidence),
        evidence=evidence,
        odd=search.odd(changes, moved, radius),
        doubt=xp.zeros(state.jump.shape, search.dtype),
        number=xp.zeros((), np.int32),
        spent=state.spent + FRESH_POINTS,
    )


def _refine(search: Search, state: Round) -> Round:
    """Fits once more where the bar is wider than it should be."""
    xp, ground = search.xp, search.ground
    room = ground.room(state.side)

    def look(state: Round) -> tuple[Any, Any, Any]:
        """Where the bar is too wide; there, whether noise is the reason, and all there is."""
        best = tree_util.tree_map(lambda leaf: constant(xp, leaf), state.best)
        value, error = xp.abs(best.value), best.error
        alone = best.gain / state.radius.astype(search.dtype)[..., None]
        noisy = error < _NOISY * alone * search.noise
        fine = (ground.eps**_FINE).astype(search.dtype)[:, None]
        wide = error > xp.where(noisy, _COARSE, fine) * value
        wide = (wide & (error > _ROUNDING * alone * search.rounding)) | xp.isinf(error)
        unsettled = xp.any(wide, axis=-1) & (state.spent + FIT_POINTS < _MOST) & (ground.flat != 0)
        unsettled = unsettled & ~xp.all(state.jump, axis=-1)
        by_noise = xp.all(noisy | ~wide, axis=-1)
        lost = xp.all((error > _LOST * value) | ~wide, axis=-1)
        return unsettled, by_noise, lost

    def step(state: Round) -> Round:
        unsettled, by_noise, lost = look(state)
        side, radius, old = state.side, state.radius, state.best
        higher = radius * _GROW
        grow = by_noise & lost & (higher <= room)
        again = by_noise & ~grow
        # The same points once more would show the same noise, were it a function of the point.
        nudge = (1 - (state.number + 1).astype(radius.dtype) / 16) * radius
        new = xp.where(grow, higher, xp.where(again, nudge, radius * _SHRINK))
        changes, moved = search.sample(spread(xp, side, new), unsettled)
        alone = search.weigh(changes, moved, new)
        more = [add(a, b) for a, b in zip(state.evidence, alone, strict=True)]
        fresh, joined = search.judge(side, alone), search.judge(side, more)
        near = xp.abs(fresh.value - old.value) <= _BAR * (fresh.error + old.error)
        near = xp.all(near | ~by_noise[..., None], axis=-1)
        # Far out a bounded function looks flat: only a slope that is seen there says anything.
        near = near & (~grow | xp.any(xp.abs(fresh.value) > fresh.error, axis=-1))
        better = search.score(fresh.error) < search.score(old.error)
        move, stay = unsettled & ~again & better & near, unsettled & again

        def choose(moved: Any, joined: Any, was: Any) -> Any:
            kept = xp.where(stay[..., None], joined, was)
            return xp.where(move[..., None], moved, kept)

        spoilt = (move & (new < radius))[..., None] & old.jumps
        differs = xp.abs(fresh.value - old.wide) + _BAR * old.wide_error
        return Round(
            side=side,
            jump=state.jump,
            doubt=xp.where(spoilt, xp.maximum(state.doubt, differs), state.doubt),
            odd=xp.where(move[..., None], search.odd(changes, moved, new), state.odd),
            radius=xp.where(move, new, radius),
            best=tree_util.tree_map(choose, fresh, joined, old),
            evidence=tree_util.tree_map(choose, alone, more, state.evidence),
            number=state.number + 1,
            spent=state.spent + xp.where(unsettled, FIT_POINTS, 0).astype(radius.dtype),
        )

    return ground.place.repeat(step, state, MOST_SETS - 1, lambda s: xp.any(look(s)[0]))
