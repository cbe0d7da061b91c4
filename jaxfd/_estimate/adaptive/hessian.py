"""Hessians by search: curvatures along every coordinate, then fits along every pair.

The search along a coordinate tells how far its points may go; a pair goes as far along both of its
entries, and has further points of its own where that does not do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxfd._arrays import constant, power_of_two
from jaxfd._estimate.adaptive.advice import advised
from jaxfd._estimate.adaptive.crossed import Crossed
from jaxfd._estimate.adaptive.ground import Ground
from jaxfd._estimate.adaptive.search import BAR, Explored, Round, explore, refine
from jaxfd._estimate.estimator import Wish, second_derivatives
from jaxfd._estimate.found import SecondDerivatives, by_leaf, in_square
from jaxfd._estimate.task import Call
from jaxfd._methods import Adaptive
from jaxfd._places import Place

# How far a pair goes at first, in units of what suits its entries: its corners lie farther out.
_SHARE = 0.625


class _Mixed(NamedTuple):
    """What is known along pairs: derivatives, bounds, evaluations."""

    value: Any
    error: Any
    spent: Any


@second_derivatives.register
def search_pairs(method: Adaptive, place: Place, call: Call, wish: Wish) -> SecondDerivatives:
    """Finds second derivatives, and how far they can be trusted; see `second_derivatives`."""
    with np.errstate(all="ignore"), advised(place, call):
        told = explore(method, place, call, 2)
        number = told.side.shape[-1]
        low, high = np.triu_indices(number, 1)
        mixed = _mixed(told, low, high)

        def square(diagonal: Any, pairs: Any) -> list[Any]:
            whole = in_square(place, diagonal, pairs)
            return told.search.ground.restore(whole, told.search.centre)

        real = call.parts.real
        return SecondDerivatives(
            centre=told.centre,
            values=square(told.value, mixed.value),
            errors=square(told.error, mixed.error),
            step=by_leaf(place, [told.step], real)[0],
            one_sided=by_leaf(place, [told.side != 0], real)[0],
            evaluations=told.evaluations + mixed.spent,
        )


def _mixed(told: Explored, low: np.ndarray, high: np.ndarray) -> _Mixed:
    """The mixed derivatives of all pairs of entries."""
    found, ground = told.search, told.search.ground
    xp = found.xp
    if not low.size:
        empty = told.value[..., :0, :]
        return _Mixed(empty, empty, np.int32(0))
    crossed, side = _cross(told, low, high)
    radius = xp.full_like(crossed.units[0], _SHARE)
    changes, moved = crossed.sample_every(side, radius)
    evidence = crossed.weigh(changes, moved, radius)
    start = Round(
        side=side,
        radius=radius,
        jump=xp.zeros((*radius.shape, told.value.shape[-1]), bool),
        best=crossed.judge(side, evidence),
        evidence=evidence,
        odd=crossed.odd(changes, moved, radius),
        doubt=xp.zeros((*radius.shape, told.value.shape[-1]), crossed.dtype),
        stuck=xp.zeros(radius.shape, bool),
        number=xp.zeros((), np.int32),
        spent=xp.full_like(radius, crossed.fit_points),
    )
    state = refine(crossed, start)
    value, error = crossed.mixed(side, state.best, told.value, told.error, BAR)
    # At a jump or a kink along one of its entries a pair knows nothing.
    broken = xp.isinf(told.error)
    broken = broken[..., low, :] | broken[..., high, :]
    error = xp.where(broken | ~xp.isfinite(value), np.inf, constant(xp, error))
    flat = crossed.ground.flat.astype(crossed.dtype)[..., None]
    # Along an entry that cannot move there is nothing to know.
    still = (ground.flat == 0) & (ground.unseen == 0)
    still = (still[..., low] | still[..., high])[..., None]
    value, error = xp.where(flat == 0, 0, value * flat), xp.where(still, 0, error)
    spent = xp.sum(state.spent, axis=-1) * ground.repeats
    return _Mixed(value, error, spent.astype(np.int32))


def _cross(told: Explored, low: np.ndarray, high: np.ndarray) -> tuple[Crossed, Any]:
    """The search along pairs, and for each pair 1 where its points lie on a ray, else 0."""
    found, ground = told.search, told.search.ground
    xp = found.xp
    # Far out, where nothing but noise and a straight line was seen, the pairs are not known to be.
    units = xp.minimum(told.radius, power_of_two(xp, ground.scale) / 2)
    one, two = units[..., low], units[..., high]
    side, below, above = told.side, ground.below, ground.above
    away = xp.where(side == 0, xp.where(above >= below, 1.0, -1.0), side).astype(side.dtype)
    ray = (side[..., low] != 0) | (side[..., high] != 0)
    # In units: how far there is room, to all sides and on the ray.
    both = xp.minimum(below, above) / units
    room = xp.minimum(both[..., low], both[..., high])
    ahead = xp.where(away > 0, above, below) / units
    ahead = xp.minimum(ahead[..., low], ahead[..., high])
    size = xp.zeros_like(one)

    def larger(values: Any) -> Any:
        values = xp.broadcast_to(values, told.value.shape)
        return xp.maximum(values[..., low, :], values[..., high, :])

    pairs = Ground(
        place=ground.place,
        leaves=ground.leaves,
        boxes=ground.boxes,
        size=size,
        scale=xp.ones_like(one),
        eps=np.maximum(ground.eps[low], ground.eps[high]),
        below=room,
        above=xp.maximum(ahead, room),
        flat=ground.flat[..., low] * ground.flat[..., high],
        repeats=ground.repeats,
    )
    # What both entries leave of a fit is noise for their pair.
    left = xp.where(xp.isfinite(told.spread), told.spread, 0)
    left = xp.minimum(left[..., low, :], left[..., high, :])
    crossed = Crossed(
        ground=pairs,
        centre=found.centre,
        dtype=found.dtype,
        noise=xp.maximum(larger(found.noise), left),
        lift=larger(found.lift),
        floor=larger(found.floor),
        rounding=larger(found.rounding),
        grid=found.grid,
        derivative=2,
        pairs=(low, high),
        units=(one, two),
        away=(away[..., low], away[..., high]),
    )
    return crossed, xp.where(ray, 1.0, 0.0).astype(one.dtype)
