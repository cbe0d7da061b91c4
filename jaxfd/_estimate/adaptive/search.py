"""The search for step and derivative along every coordinate, in a few batches of points.

1. A ladder of steps, and two points very close to ``x``: scale and noise.
2. Where these do not settle the radius: another ladder below or above.
3. The points of a fit within the radius.
4. Where the fit shows truncation, a fit in a smaller radius; where noise makes its bar wide, more
   points, or a larger radius.

Steps 1 and 2 are `_radius`. This room fits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jax import tree_util

from jaxfd._arrays import Parts, constant
from jaxfd._estimate.adaptive.fits import MOST_SETS, add
from jaxfd._estimate.adaptive.ground import survey
from jaxfd._estimate.adaptive.radius import begin, climb, denied, kinks
from jaxfd._estimate.adaptive.reading import Search, fresh, gather, halvings_of, spread
from jaxfd._estimate.found import Found, found_by_leaf
from jaxfd._estimate.task import Call
from jaxfd._methods import Adaptive

# An entry that has had so many evaluations gets no further fit: that would pass sixty.
_ENOUGH = 43
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
# A smaller radius against truncation, a larger one against noise.
_SHRINK, _GROW = 1 / 16, 64.0

State = dict[str, Any]


def search(
    place: Any,
    call: Call,
    method: Adaptive,
    parts: Parts,
    bounds: Any,
    centre: Any,
) -> Found:
    """Finds the derivative along every coordinate, and how far it can be trusted.

    Args:
        place: where the points are evaluated.
        call: the call.
        method: its method.
        parts: the real leaves.
        bounds: a pair of lower and upper bounds, or None.
        centre: the outputs at ``x`` where they are known already.
    """
    with np.errstate(all="ignore"):
        ground = survey(place, call, method, parts, bounds)
        found, centre, state = begin(ground, method.noise, centre)
        scouted = climb(found, state)
        state = _refine(found, _fit(found, scouted, centre))
        xp, judged = (
            place.xp,
            tree_util.tree_map(lambda leaf: constant(place.xp, leaf), state["judged"]),
        )
        value, error = state["judged"].value, _BAR * judged.error
        vague = scouted["unresolved"]
        error = (
            xp.where((vague & (state["side"] != 0))[..., None], _VAGUE, 1.0).astype(error.dtype)
            * error
        )
        doubt = xp.where(vague[..., None], scouted["doubt"], 0)
        denial = denied(found, scouted, judged, state["radius"])
        for more in (kinks(found, scouted), doubt, denial):
            error = xp.maximum(error, more)
        lost = state["jump"] | ~xp.isfinite(value)
        error = xp.where(lost, np.inf, error)
        flat = ground.flat.astype(found.dtype)[..., None]
        value = xp.where(flat == 0, 0, value * flat)
        error = xp.where(flat == 0, 0, error)
        base = found.centre
        evaluations = xp.sum(state["spent"], axis=-1) * ground.repeats + 1
        return found_by_leaf(
            place,
            parts.real,
            centre=centre,
            values=ground.restore(value, base),
            errors=ground.restore(error, base),
            step=state["radius"] * xp.max(judged.reach, axis=-1).astype(state["radius"].dtype),
            one_sided=state["side"] != 0,
            evaluations=evaluations.astype(np.int32),
        )


def _fit(search: Search, state: State, centre: Any) -> State:
    """The first fit along every coordinate, with what the ladder has in it already."""
    xp = search.xp
    side, top, ladder = state["kept_side"], state["kept_top"], constant(xp, state["changes"])
    halvings = halvings_of(xp, side, top, state["radius"], ladder)
    radius = xp.ldexp(top, -halvings)
    changes, moved = search.sample_all(fresh(xp, side, halvings, radius), centre)
    changes = gather(xp, side, halvings, changes, state["changes"])
    moved = gather(xp, side, halvings, moved, state["moved"])
    evidence = search.weigh(changes, moved, radius)
    return {
        "side": side,
        "radius": radius,
        "jump": state["jump"],
        "judged": search.judge(side, evidence),
        "evidence": evidence,
        "round": xp.zeros((), np.int32),
        "spent": state["spent"] + 12,
    }


def _refine(search: Search, state: State) -> State:
    """Fits once more where the bar is wider than it should be."""
    xp, ground = search.xp, search.ground
    room = ground.room(state["side"])

    def look(state: State) -> tuple[Any, Any, Any]:
        """Where the bar is too wide; there, whether noise is the reason, and all there is."""
        judged = tree_util.tree_map(lambda leaf: constant(xp, leaf), state["judged"])
        value, error = xp.abs(judged.value), judged.error
        alone = judged.gain / state["radius"].astype(search.dtype)[..., None]
        noisy = error < _NOISY * alone * search.noise
        fine = (ground.eps**_FINE).astype(search.dtype)[:, None]
        wide = error > xp.where(noisy, _COARSE, fine) * value
        wide = (wide & (error > _ROUNDING * alone * search.rounding)) | xp.isinf(error)
        unsettled = xp.any(wide, axis=-1) & (state["spent"] <= _ENOUGH) & (ground.flat != 0)
        unsettled = unsettled & ~xp.all(state["jump"], axis=-1)
        by_noise = xp.all(noisy | ~wide, axis=-1)
        lost = xp.all((error > _LOST * value) | ~wide, axis=-1)
        return unsettled, by_noise, lost

    def step(state: State) -> State:
        unsettled, by_noise, lost = look(state)
        side, radius, old = state["side"], state["radius"], state["judged"]
        higher = radius * _GROW
        grow = by_noise & lost & (higher <= room)
        again = by_noise & ~grow
        # The same points once more would show the same noise, were it a function of the point.
        nudge = (1 - (state["round"] + 1).astype(radius.dtype) / 16) * radius
        new = xp.where(grow, higher, xp.where(again, nudge, radius * _SHRINK))
        changes, moved = search.sample(spread(xp, side, new), unsettled)
        alone = search.weigh(changes, moved, new)
        more = [add(a, b) for a, b in zip(state["evidence"], alone, strict=True)]
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

        return {
            "side": side,
            "jump": state["jump"],
            "radius": xp.where(move, new, radius),
            "judged": tree_util.tree_map(choose, fresh, joined, old),
            "evidence": tree_util.tree_map(choose, alone, more, state["evidence"]),
            "round": state["round"] + 1,
            "spent": state["spent"] + xp.where(unsettled, 16, 0).astype(radius.dtype),
        }

    return ground.place.repeat(step, state, MOST_SETS - 1, lambda s: xp.any(look(s)[0]))
