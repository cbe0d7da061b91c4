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
from jaxfd._estimate.adaptive.close import (
    beyond,
    denied,
    kinks,
    leaps,
    missed,
    stairs,
    teeth,
    unmoved,
)
from jaxfd._estimate.adaptive.fits import MOST_SETS, BestFit, Evidence, add
from jaxfd._estimate.adaptive.ground import survey
from jaxfd._estimate.adaptive.radius import begin, climb
from jaxfd._estimate.adaptive.reading import (
    FRESH_POINTS,
    SPAN,
    Search,
    fresh,
    gather,
    halvings_of,
)
from jaxfd._estimate.estimator import Wish, derivatives
from jaxfd._estimate.found import Derivatives, derivatives_by_leaf
from jaxfd._estimate.task import Call
from jaxfd._methods import Adaptive
from jaxfd._places import Place

# A bar is this many times the error that a fit promises, for it is the best of many.
BAR = 2.5
# To one side of a wall a scale that is not resolved makes bars so many times too short.
_VAGUE = 10.0
# What noise alone would leave, times this: a fit that leaves more is limited by truncation.
_NOISY = 40.0
# A bar this many times rounding is never too wide.
_ROUNDING = 30.0
# A fit's error over that of its noise, about.
_QUANTILE = 2.5
# A kink is certain where it is so many times the noise.
_CERTAIN = 16.0
# An error of so many derivatives: nothing is seen but noise.
_LOST = 4.0
# The slope of a tooth, over what a fit of low degree leaves of a jump, and the radius.
_REST = 10.0
# A larger radius where nothing is seen but noise.
_GROW = 64.0


class Demands(NamedTuple):
    """When a bar is too wide, and what is done then.

    Attributes:
        coarse: the share of the derivative that it may be, where noise is the reason.
        fine: the same where truncation is, as a power of eps.
        shrink: the factor of a smaller radius, against truncation.
        stretch: that of a larger one, against noise; 1 for none.
    """

    coarse: float
    fine: float
    shrink: float
    stretch: float


_FIRST = Demands(0.1, 0.4, 1 / 16, 1.0)
# Noise costs higher derivatives more, and a larger radius gains more.
_HIGHER = Demands(0.02, 0.6, 1 / 4, 3.0)


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
        stuck: where the last fit made nothing better.
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
    stuck: Any
    number: Any
    spent: Any


class Explored(NamedTuple):
    """What is known along every coordinate.

    Attributes:
        search: the search.
        centre: the outputs at ``x``, the auxiliary ones too.
        value: the derivative, shape ``(*lead, N, O)``, all outputs in one row.
        error: a bound of its error; None where not wanted.
        side: to which side of ``x`` the points lie, 0 for both, shape ``(*lead, N)``.
        radius: the radius of the last fit.
        step: how far the points of the best one go.
        spread: how far the values lie from the best fit, shape ``(*lead, N, O)``.
        evaluations: how many points were evaluated, shape ``(*lead,)``.
    """

    search: Search
    centre: list[Any]
    value: Any
    error: Any
    side: Any
    radius: Any
    step: Any
    spread: Any
    evaluations: Any


@derivatives.register
def search(method: Adaptive, place: Place, call: Call, wish: Wish) -> Derivatives:
    """Finds the derivative along every coordinate, and how far it can be trusted.

    See `derivatives`; the outputs at ``x`` come along whether wanted or not.
    """
    with np.errstate(all="ignore"), advised(place, call):
        told = explore(method, place, call, wish.order or 1, barred=wish.error)
        ground, base = told.search.ground, told.search.centre
        return derivatives_by_leaf(
            place,
            call.parts.real,
            centre=told.centre,
            values=ground.restore(told.value, base),
            errors=ground.restore(told.error, base) if wish.error else [],
            step=told.step,
            one_sided=told.side != 0,
            evaluations=told.evaluations,
        )


def explore(
    method: Adaptive, place: Place, call: Call, derivative: int, barred: bool = True
) -> Explored:
    """Looks for the derivative of an order along every coordinate.

    Args:
        method: the method.
        place: where points are evaluated.
        call: the call.
        derivative: the order.
        barred: whether bounds of the errors are wanted.
    """
    ground = survey(place, call, method)
    found, centre, start = begin(ground, method.noise, derivative)
    climbed = climb(found, start)
    state = refine(found, _fit(found, climbed, centre))
    xp = place.xp
    best = tree_util.tree_map(lambda leaf: constant(xp, leaf), state.best)
    value = state.best.value
    flat, unseen = (row.astype(found.dtype)[..., None] for row in (ground.flat, ground.unseen))
    # Nothing was seen of the slope along an entry that cannot move.
    still = np.inf if derivative == 1 else unseen
    reach = xp.max(best.reach, axis=-1, initial=0).astype(state.radius.dtype)
    return Explored(
        search=found,
        centre=centre,
        value=xp.where(flat == 0, 0, value * flat),
        error=xp.where(flat == 0, still, _bar(found, climbed, state, best)) if barred else None,
        side=state.side,
        radius=state.radius,
        step=state.radius * reach,
        spread=best.error / found.per_radius(best.gain, state.radius) / _QUANTILE,
        evaluations=(xp.sum(state.spent, axis=-1) * ground.repeats + 1).astype(np.int32),
    )


def _bar(search: Search, climbed: Climb, state: Round, best: BestFit) -> Any:
    """A bound of the error of the derivative."""
    xp, vague = search.xp, climbed.unresolved
    error = BAR * best.error
    error = (
        xp.where((vague & (state.side != 0))[..., None], _VAGUE, 1.0).astype(error.dtype) * error
    )
    error = xp.maximum(error, xp.where(vague[..., None], climbed.doubt, 0))
    of_order = _of_slopes if search.derivative == 1 else _of_curves
    for more in of_order(search, climbed, state, best):
        error = xp.maximum(error, more)
    leapt = leaps(search.xp, climbed.kept_side, climbed.changes, search.rounding)
    return xp.where(leapt | state.jump | ~xp.isfinite(state.best.value), np.inf, error)


def _of_slopes(search: Search, climbed: Climb, state: Round, best: BestFit) -> list[Any]:
    """By how much a first derivative may be off besides what its fit promises."""
    xp, radius = search.xp, state.radius
    wide = xp.abs(best.value - best.wide) + BAR * best.wide_error
    reach = xp.where(radius > 0, radius, 1).astype(search.dtype)[..., None]
    wide = xp.maximum(wide, _REST * best.rest / reach)
    farthest = xp.max(best.reach, axis=-1, initial=0)
    return [
        kinks(search, climbed),
        denied(search, climbed, best, radius),
        stairs(search, climbed, best.value, radius),
        unmoved(search, climbed),
        missed(search, climbed, best, radius * farthest.astype(radius.dtype)),
        teeth(search, climbed, best.value),
        xp.where(best.jumps, wide, 0),
        beyond(search, climbed, state.odd, radius),
        state.doubt,
    ]


def _of_curves(search: Search, climbed: Climb, state: Round, best: BestFit) -> list[Any]:
    """The same of a higher derivative: at a kink it is infinite, unless noise looks like one."""
    del state, best
    bottom = (climbed.kept_top / SPAN).astype(search.dtype)[..., None]
    kink = kinks(search, climbed) * bottom > _CERTAIN * search.noise
    return [search.xp.where(kink, np.inf, 0)]


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
        stuck=xp.zeros(radius.shape, bool),
        number=xp.zeros((), np.int32),
        spent=state.spent + FRESH_POINTS,
    )


def refine(search: Search, state: Round) -> Round:
    """Fits once more where the bar is wider than it should be."""
    xp, ground = search.xp, search.ground
    demands = _FIRST if search.derivative == 1 else _HIGHER
    room = ground.room(state.side)

    def look(state: Round) -> tuple[Any, Any, Any]:
        """Where the bar is too wide; there, whether noise is the reason, and all there is."""
        best = tree_util.tree_map(lambda leaf: constant(xp, leaf), state.best)
        value, error = xp.abs(best.value), best.error
        alone = search.per_radius(best.gain, state.radius)
        noisy = error < _NOISY * alone * search.noise
        fine = (ground.eps**demands.fine).astype(search.dtype)[:, None]
        wide = error > xp.where(noisy, demands.coarse, fine) * value
        wide = (wide & (error > _ROUNDING * alone * search.rounding)) | xp.isinf(error)
        unsettled = (
            xp.any(wide, axis=-1)
            & (state.spent + search.fit_points < search.most)
            & (ground.flat != 0)
        )
        unsettled = unsettled & ~xp.all(state.jump, axis=-1)
        by_noise = xp.all(noisy | ~wide, axis=-1)
        if search.derivative > 1:
            # What a smaller radius does not better was no truncation.
            by_noise = by_noise | state.stuck
        lost = xp.all((error > _LOST * value) | ~wide, axis=-1)
        return unsettled, by_noise, lost

    def step(state: Round) -> Round:
        unsettled, by_noise, lost = look(state)
        side, radius, old = state.side, state.radius, state.best
        # A little farther once, as far as a straight line and noise reach where nothing is seen.
        little = (state.number == 0) & (demands.stretch > 1) & ~lost
        higher = radius * xp.where(lost, _GROW, demands.stretch).astype(radius.dtype)
        grow = by_noise & (lost | little) & (higher <= room)
        again = by_noise & ~grow
        # The same points once more would show the same noise, were it a function of the point.
        nudge = (1 - (state.number + 1).astype(radius.dtype) / 16) * radius
        new = xp.where(grow, higher, xp.where(again, nudge, radius * demands.shrink))
        changes, moved = search.sample_fit(side, new, unsettled)
        alone = search.weigh(changes, moved, new)
        more = [add(a, b, search.derivative) for a, b in zip(state.evidence, alone, strict=True)]
        fresh, joined = search.judge(side, alone), search.judge(side, more)
        near = xp.abs(fresh.value - old.value) <= BAR * (fresh.error + old.error)
        near = xp.all(near | ~by_noise[..., None], axis=-1)
        # Far out a bounded function looks flat: only a slope that is seen there says anything.
        near = near & (~grow | xp.any(xp.abs(fresh.value) > fresh.error, axis=-1))
        better = search.score(fresh.error) < search.score(old.error)
        move, stay = unsettled & ~again & better & near, unsettled & again

        def choose(moved: Any, joined: Any, was: Any) -> Any:
            kept = xp.where(stay[..., None], joined, was)
            return xp.where(move[..., None], moved, kept)

        spoilt = (move & (new < radius))[..., None] & old.jumps
        differs = xp.abs(fresh.value - old.wide) + BAR * old.wide_error
        doubt = xp.where(spoilt, xp.maximum(state.doubt, differs), state.doubt)
        # A smaller radius that denies a bar says how little bars are worth here.
        change = xp.abs(fresh.value - old.value)
        denied = (move & (new < radius) & (side != 0))[..., None] & (change > BAR * old.error)
        doubt = xp.where(denied, xp.maximum(doubt, change), doubt)
        return Round(
            side=side,
            jump=state.jump,
            doubt=doubt,
            odd=xp.where(move[..., None], search.odd(changes, moved, new), state.odd),
            radius=xp.where(move, new, radius),
            best=tree_util.tree_map(choose, fresh, joined, old),
            evidence=tree_util.tree_map(choose, alone, more, state.evidence),
            stuck=unsettled & ~move & ~stay,
            number=state.number + 1,
            spent=state.spent + xp.where(unsettled, search.fit_points, 0).astype(radius.dtype),
        )

    return ground.place.repeat(step, state, MOST_SETS - 1, lambda s: xp.any(look(s)[0]))
