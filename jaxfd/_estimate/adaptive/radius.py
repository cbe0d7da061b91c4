"""The radius to fit each coordinate in: a ladder of steps, and further ones below or above.

Every coordinate goes its own way; the lines are the same in a kernel and on the host. Must
not know what is fitted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxfd._arrays import constant, power_of_two, promote, real_of
from jaxfd._estimate.adaptive.climb import Climb
from jaxfd._estimate.adaptive.close import jumps, leaps, noise_near
from jaxfd._estimate.adaptive.ground import Ground
from jaxfd._estimate.adaptive.ladder import CLAIMS, Reading
from jaxfd._estimate.adaptive.reading import SPAN, Search, rungs
from jaxfd._estimate.bars import UNIFORM
from jaxfd._estimate.found import evaluate_all

# Ladders after the first.
_LADDERS = 3
# A wall nearer than this share of the top step leaves too little room on its side.
_NEAR = 1 / 64
# Points this close to x, in powers of eps times |x|, show noise and nothing else.
_CLOSE = 0.75
# From one top of a ladder to the next above.
_RISE = 1024.0
# The lowest rungs of a ladder, to either side.
_BOTTOM = 3
# Two estimates of a derivative may differ by so many bars.
_APART = 3.0


def begin(ground: Ground, noise: Any, derivative: int) -> tuple[Search, list[Any], Climb]:
    """The first batch: a ladder, and two points very close to ``x``.

    Returns:
        The search, the outputs at the centre, and the state.
    """
    xp, size = ground.place.xp, ground.size
    eps = ground.eps.astype(size.dtype)
    start = power_of_two(xp, ground.scale) / 2
    away = xp.where(ground.above >= ground.below, 1.0, -1.0)
    wide = xp.minimum(ground.below, ground.above) >= start * _NEAR
    side = xp.where(wide, 0.0, away).astype(size.dtype)
    room = ground.room(side)
    top = xp.where(room < start, power_of_two(xp, room), start)
    close = power_of_two(xp, xp.maximum(size, eps * ground.scale) * eps**_CLOSE)
    close = xp.minimum(close, top / 1024)
    first = xp.where(side == 0, close, side * close)
    second = xp.where(side == 0, -close, 2 * side * close)
    ladder = rungs(xp, side, top)
    count = len(ladder)
    points, moved = ground.points(xp.concatenate([ladder, xp.stack([first, second])]))
    centre, outputs = evaluate_all(ground.place, points, None, ride=True)
    base = centre[: len(outputs)]
    dtype = promote(size.dtype, *(real_of(c.dtype) for c in base))
    changes, scatter = ground.changes(outputs, base, dtype)
    rounding = (
        xp.abs(constant(xp, ground.at_centre(base, dtype))) * (eps / 2).astype(dtype)[:, None]
    )
    level, lift = noise_near(ground, side, close, changes, moved, rounding)
    grid = ground.grid(outputs, base, dtype)
    # Values on a grid scatter by it; one that is the same everywhere tells no grid, nor does one
    # that is another at x alone.
    still = constant(xp, changes) == 0
    leapt = leaps(xp, side, changes[:count], rounding) & xp.all(still[count:], axis=0)
    leapt = xp.all(leapt | xp.all(still, axis=0), axis=-2, keepdims=True)
    grid = xp.where(leapt, 0, grid)
    coarse = xp.where(UNIFORM * grid > 4 * rounding, UNIFORM * grid, 0)
    level, floor = xp.maximum(xp.maximum(level, scatter), rounding), rounding / 2**0.5
    level, floor = xp.maximum(level, coarse), xp.maximum(floor, coarse)
    if noise is not None:
        level = xp.maximum(xp.asarray(noise, dtype=dtype) / ground.repeats**0.5, rounding)
        floor, lift = level / 2**0.5, xp.ones_like(level)
    search = Search(ground, base, dtype, level, lift, floor, rounding, grid, derivative)
    told = search.read(side, changes[:count], moved[:count], top)
    coordinates = xp.ones_like(top)
    state = Climb(
        side=side,
        top=top,
        low=top,
        high=top,
        went=xp.zeros_like(top),
        spent=len(moved) * coordinates,
        active=ground.flat != 0,
        kept_side=side,
        kept_top=top,
        changes=changes[:count],
        moved=moved[:count],
        radius=xp.zeros_like(top),
        score=xp.zeros_like(top).astype(dtype),
        unresolved=coordinates > 0,
        slope=told.slope,
        bar=told.bar,
        doubt=xp.zeros_like(told.bar),
        close=changes[count:],
        close_side=side,
        close_moved=moved[count:],
        jump=xp.zeros(told.bar.shape, bool),
        least=told.least,
        jumps=xp.isfinite(told.rough_bar),
        rough=told.rough,
        rough_bar=told.rough_bar,
        tooth=told.tooth,
    )
    state = consider(search, state, told, changes[:count], moved[:count], first=True)
    return search, centre, state


def consider(
    search: Search,
    state: Climb,
    told: Reading,
    changes: Any,
    moved: Any,
    first: bool = False,
) -> Climb:
    """Keeps the ladder just read where it is the better one, and plans the next."""
    xp, ground = search.xp, search.ground
    active, went, side = state.active, state.went, state.side
    seen = xp.any(told.any, axis=-1)
    unresolved = xp.any(told.unresolved & (told.any | ~seen[..., None]), axis=-1)
    straight = xp.all(told.straight | ~told.moves, axis=-1) & xp.any(told.straight, axis=-1)
    score = search.score(told.bar)
    apart = xp.abs(told.slope - state.slope) > _APART * (told.bar + state.bar)
    keep = active & (
        (state.unresolved & ~unresolved)
        | ((state.unresolved == unresolved) & (score < state.score))
    )
    # Far out a bounded function looks flat: only a slope that is seen there says anything.
    shown = xp.any(xp.abs(told.slope) > 2 * told.bar, axis=-1)
    keep = keep & ((went <= 0) | (shown & ~xp.any(apart, axis=-1)))
    if first:
        keep = active
    # Ladder after ladder another slope, and none of them resolved: no fit knows how wrong it is.
    change = xp.abs(told.slope - state.slope)
    lasting = (active & state.unresolved & unresolved)[..., None] & apart
    doubt = xp.where(lasting & (not first), xp.maximum(state.doubt, change), state.doubt)
    radius = xp.min(told.radius, axis=-1, initial=np.inf).astype(state.top.dtype)
    kept = {
        "kept_side": side,
        "kept_top": state.top,
        "radius": radius,
        "score": score,
        "unresolved": unresolved,
    }
    result = {name: xp.where(keep, new, getattr(state, name)) for name, new in kept.items()}
    wide = keep[..., None]
    result["changes"] = xp.where(wide, changes, state.changes)
    result["moved"] = xp.where(keep, moved, state.moved)
    result["slope"] = xp.where(wide, told.slope, state.slope)
    result["bar"] = xp.where(wide, told.bar, state.bar)
    between = xp.isfinite(told.rough_bar) & ~told.unresolved
    if not first:
        below = (went < 0)[..., None] & (
            (told.claim > CLAIMS * state.least) | _on_tread(xp, changes, state)
        )
        between = between | below
    result["jumps"] = xp.where(wide, between, state.jumps)
    rougher = active[..., None] & (told.rough_bar < state.rough_bar)
    result["rough"] = xp.where(rougher, told.rough, state.rough)
    result["rough_bar"] = xp.where(rougher, told.rough_bar, state.rough_bar)
    lower = active[..., None] & (told.tooth > 0) & ((went <= 0)[..., None])
    result["tooth"] = xp.where(lower, told.tooth, state.tooth)
    least = xp.minimum(state.least, told.least)
    result["least"] = xp.where(active[..., None], least, state.least)
    # Down where the scale lies below, up where nothing but a straight line and noise is seen.
    half = power_of_two(xp, ground.size) / 2
    lower = state.low / SPAN
    leap = ~seen & (ground.size > 0) & (half < lower)
    lower = xp.where(leap, half, lower)
    eps = ground.eps.astype(lower.dtype)
    down = active & unresolved & (went <= 0) & (lower > eps * ground.size)
    room = ground.room(side)
    higher = state.high * _RISE
    higher = xp.where(room < higher, power_of_two(xp, room), higher)
    up = active & ~unresolved & straight & (went >= 0) & (higher > state.high)
    result["low"] = xp.where(down, lower, state.low)
    result["high"] = xp.where(up, higher, state.high)
    result["went"] = xp.where(down, -1.0, xp.where(up, 1.0, went)).astype(went.dtype)
    result["top"] = xp.where(down, lower, xp.where(up, higher, state.top))
    # Where a wall is near and what lies beyond it does not resolve: to both sides, within the room.
    near = xp.minimum(ground.below, ground.above)
    enter = active & (side != 0) & unresolved & (near > 16 * eps * ground.size)
    inside = power_of_two(xp, near)
    result["side"] = xp.where(enter, 0.0, side).astype(side.dtype)
    for name in ("low", "high", "top"):
        result[name] = xp.where(enter, inside, result[name])
    result["went"] = xp.where(enter, 0.0, result["went"]).astype(went.dtype)
    jump = jumps(search, side, constant(xp, changes), constant(xp, state.close))
    jump = jump & (active & (side == state.close_side))[..., None]
    result["jump"] = state.jump | jump
    result["active"] = (down | up | enter) & ~xp.all(result["jump"], axis=-1)
    return state._replace(**result, doubt=doubt)


def _on_tread(xp: Any, changes: Any, state: Climb) -> Any:
    """Where nothing moves at the bottom of a ladder below one that rises to both sides: on a stair.

    A function that rises to one side only may well be flat at ``x``.
    """
    low, high = constant(xp, changes), constant(xp, state.changes)
    count = len(low) // 2
    up, down = high[:count], high[count:]
    rises = xp.any((up != 0) & (down != 0) & (up != down), axis=0)
    bottom = xp.concatenate([low[count - _BOTTOM : count], low[-_BOTTOM:]])
    return xp.all(bottom == 0, axis=0) & rises & (state.kept_side == 0)[..., None]


def climb(search: Search, state: Climb) -> Climb:
    """Reads further ladders, until every coordinate has the one it needs."""
    xp = search.xp

    def step(state: Climb) -> Climb:
        changes, moved = search.sample(rungs(xp, state.side, state.top), state.active)
        told = search.read(state.side, changes, moved, state.top)
        spent = state.spent + xp.where(state.active, len(moved), 0).astype(state.spent.dtype)
        return consider(search, state._replace(spent=spent), told, changes, moved)

    return search.ground.place.repeat(step, state, _LADDERS, lambda s: xp.any(s.active))
