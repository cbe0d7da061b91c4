"""The radius to fit each coordinate in: a ladder of steps, and further ones below or above.

Every coordinate goes its own way; the lines are the same in a kernel and on the host. Must
not know what is fitted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxfd._arrays import constant, power_of_two, promote, real_of
from jaxfd._estimate.adaptive import ladder as _scout
from jaxfd._estimate.adaptive.fits import Judged
from jaxfd._estimate.adaptive.ground import Ground
from jaxfd._estimate.adaptive.reading import Search, evaluate_all, rungs

# Ladders after the first.
_LADDERS = 3
# A wall nearer than this share of the top step leaves too little room on its side.
_NEAR = 1 / 64
# Points this close to x, in powers of eps times |x|, show noise and nothing else.
_CLOSE = 0.75
# From the top of a ladder to its bottom, and from one top to the next above.
_SPAN, _RISE = 256.0, 1024.0
# Two estimates of a derivative may differ by so many bars.
_APART = 3.0
# Changes that stay within this factor while the step falls by orders are a jump.
_SAME = 1.25
# The slope very close to x speaks against another one by so many times the noise.
_DENIED = 10.0

State = dict[str, Any]


def begin(ground: Ground, noise: Any, centre: Any) -> tuple[Search, Any, State]:
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
    moves, moved = ground.points(xp.concatenate([rungs(xp, side, top), xp.stack([first, second])]))
    centre, outputs = evaluate_all(ground, moves, centre, ride=centre is None)
    centre = list(centre)
    base = centre[: len(outputs)]
    dtype = promote(size.dtype, *(real_of(c.dtype) for c in base))
    changes, scatter = ground.changes(outputs, base, dtype)
    rounding = (
        xp.abs(constant(xp, ground.at_centre(base, dtype))) * (eps / 2).astype(dtype)[:, None]
    )
    level, lift = _noise(ground, side, close, changes, moved, rounding)
    level, floor = xp.maximum(xp.maximum(level, scatter), rounding), rounding
    if noise is not None:
        level = xp.maximum(xp.asarray(noise, dtype=dtype) / ground.repeats**0.5, rounding)
        floor, lift = level, xp.ones_like(level)
    search = Search(ground, base, dtype, level, lift, floor / 2**0.5, rounding)
    scouted = search.read(side, changes[:10], moved[:10], top)
    coordinates = xp.ones_like(top)
    state = {
        "side": side,
        "top": top,
        "low": top,
        "high": top,
        "went": xp.zeros_like(top),
        "spent": 12 * coordinates,
        "active": ground.flat != 0,
        "kept_side": side,
        "kept_top": top,
        "changes": changes[:10],
        "moved": moved[:10],
        "radius": xp.zeros_like(top),
        "score": xp.zeros_like(top).astype(dtype),
        "unresolved": coordinates > 0,
        "slope": scouted.slope,
        "bar": scouted.bar,
        "doubt": xp.zeros_like(scouted.bar),
        "close": changes[10:],
        "close_side": side,
        "close_moved": moved[10:],
        "jump": xp.zeros(scouted.bar.shape, bool),
    }
    state = consider(search, state, scouted, changes[:10], moved[:10], first=True)
    return search, centre, state


def _noise(
    ground: Ground, side: Any, close: Any, changes: Any, moved: Any, rounding: Any
) -> tuple[Any, Any]:
    """The noise, where the function itself hardly changes, and by how much it may be larger.

    Args:
        ground: the coordinates.
        side: to which side of ``x`` the points lie, 0 for both.
        close: the distance of the closest points.
        changes: changes on the ladder, and at these two points.
        moved: the distances.
        rounding: the rounding of the value.
    """
    xp, dtype = ground.place.xp, changes.dtype
    near, far, bottom = (constant(xp, changes[k]) for k in (10, 11, 4))
    both = (side == 0)[..., None]
    odd, even = _apart(xp, both, near, far)
    slope = xp.abs(
        xp.where(xp.isfinite(bottom), bottom, 0) / xp.abs(moved[4]).astype(dtype)[..., None]
    )
    own = xp.maximum(xp.abs(odd) - 2 * slope * close.astype(dtype)[..., None], 0)
    # The variances of these parts for noise of size 1.
    of_even, of_odd = xp.where(both, 1.5, 6.0), xp.where(both, 0.5, 2.0)
    seen = xp.sqrt((even**2 / of_even + own**2 / of_odd).astype(dtype) / 2)
    # A function that stands still there, where its slope should show, moves in stairs.
    stairs = (near == 0) & (far == 0) & (slope * close.astype(dtype)[..., None] > 4 * rounding)
    lift = xp.where(stairs, np.inf, _scout.LIFT).astype(dtype)
    return xp.where(xp.isfinite(seen), seen, 0), lift


def _jumps(search: Search, side: Any, changes: Any, close: Any) -> Any:
    """Where changes stay the same while the step falls by orders."""
    xp, both = search.xp, (side == 0)[..., None]
    odd, even = _apart(xp, both, *close)
    # Three rungs besides, so that noise hardly ever looks like that.
    up, down = changes[2:5], changes[7:10]
    return xp.where(
        both,
        _same(search, odd, *((up - down) / 2)) | _same(search, even, *((up + down) / 2)),
        _same(search, odd, *down),
    )


def _apart(xp: Any, both: Any, near: Any, far: Any) -> tuple[Any, Any]:
    """Odd and even part of the closest changes; to one side, change and second difference."""
    odd, even = (near - far) / 2, (near + far) / 2
    return xp.where(both, odd, near), xp.where(both, even, far - 2 * near)


def kinks(search: Search, state: State) -> Any:
    """Half the jump of the slope at ``x``: there the even part falls like the step."""
    xp, changes = search.xp, constant(search.xp, state["changes"])
    upper, lower = (changes[3:5] + changes[8:10]) / 2
    kink = (state["kept_side"] == 0)[..., None] & _same(search, 4 * lower, upper)
    bottom = state["kept_top"].astype(search.dtype) / _SPAN
    return xp.where(kink, xp.abs(lower) / bottom[..., None], 0)


def denied(search: Search, state: State, judged: Judged, radius: Any) -> Any:
    """By how much the slope very close to ``x`` differs from the one found, where noise cannot.

    A function that waves many times between any two points of a ladder looks smooth on it.
    """
    xp = search.xp
    moved = state["close_moved"].astype(search.dtype)[..., None]
    both = (state["close_side"] == 0)[..., None]
    odd, even = _apart(xp, both, *constant(xp, state["close"]))
    t = xp.where(both, (moved[0] - moved[1]) / 2, moved[0])
    spread = judged.error * radius.astype(search.dtype)[..., None] / judged.gain
    known = xp.maximum(_DENIED * xp.maximum(search.rounding, xp.abs(even)), 2 * spread)
    gap = xp.abs(odd - judged.value * t)
    return xp.where(gap > known, gap / xp.abs(t), 0)


def _same(search: Search, *numbers: Any) -> Any:
    """Whether numbers are about the same, and more than rounding."""
    xp, stack = search.xp, search.xp.stack(numbers)
    big, small = xp.max(xp.abs(stack), axis=0), xp.min(xp.abs(stack), axis=0)
    together = xp.abs(xp.sum(xp.sign(stack), axis=0)) == len(numbers)
    return together & (big <= _SAME * small) & (small > 4 * search.rounding)


def consider(
    search: Search,
    state: State,
    scouted: _scout.Scouted,
    changes: Any,
    moved: Any,
    first: bool = False,
) -> State:
    """Keeps the ladder just read where it is the better one, and plans the next."""
    xp, ground = search.xp, search.ground
    active, went, side = state["active"], state["went"], state["side"]
    seen = xp.any(scouted.any, axis=-1)
    unresolved = xp.any(scouted.unresolved & (scouted.any | ~seen[..., None]), axis=-1)
    straight = xp.all(scouted.straight | ~scouted.moves, axis=-1) & xp.any(
        scouted.straight, axis=-1
    )
    score = search.score(scouted.bar)
    apart = xp.abs(scouted.slope - state["slope"]) > _APART * (scouted.bar + state["bar"])
    keep = active & (
        (state["unresolved"] & ~unresolved)
        | ((state["unresolved"] == unresolved) & (score < state["score"]))
    )
    # Far out a bounded function looks flat: only a slope that is seen there says anything.
    shown = xp.any(xp.abs(scouted.slope) > 2 * scouted.bar, axis=-1)
    keep = keep & ((went <= 0) | (shown & ~xp.any(apart, axis=-1)))
    if first:
        keep = active
    # Ladder after ladder another slope, and none of them resolved: no fit knows how wrong it is.
    change = xp.abs(scouted.slope - state["slope"])
    lasting = (active & state["unresolved"] & unresolved)[..., None] & apart
    doubt = xp.where(lasting & (not first), xp.maximum(state["doubt"], change), state["doubt"])
    radius = xp.min(scouted.radius, axis=-1).astype(state["top"].dtype)
    kept = {
        "kept_side": side,
        "kept_top": state["top"],
        "radius": radius,
        "score": score,
        "unresolved": unresolved,
    }
    result = {name: xp.where(keep, new, state[name]) for name, new in kept.items()}
    wide = keep[..., None]
    result["changes"] = xp.where(wide, changes, state["changes"])
    result["moved"] = xp.where(keep, moved, state["moved"])
    result["slope"] = xp.where(wide, scouted.slope, state["slope"])
    result["bar"] = xp.where(wide, scouted.bar, state["bar"])
    # Down where the scale lies below, up where nothing but a straight line and noise is seen.
    half = power_of_two(xp, ground.size) / 2
    lower = state["low"] / _SPAN
    leap = ~seen & (ground.size > 0) & (half < lower)
    lower = xp.where(leap, half, lower)
    eps = ground.eps.astype(lower.dtype)
    down = active & unresolved & (went <= 0) & (lower > eps * ground.size)
    room = ground.room(side)
    higher = state["high"] * _RISE
    higher = xp.where(room < higher, power_of_two(xp, room), higher)
    up = active & ~unresolved & straight & (went >= 0) & (higher > state["high"])
    result["low"] = xp.where(down, lower, state["low"])
    result["high"] = xp.where(up, higher, state["high"])
    result["went"] = xp.where(down, -1.0, xp.where(up, 1.0, went)).astype(went.dtype)
    result["top"] = xp.where(down, lower, xp.where(up, higher, state["top"]))
    # Where a wall is near and what lies beyond it does not resolve: to both sides, within the room.
    near = xp.minimum(ground.below, ground.above)
    enter = active & (side != 0) & unresolved & (near > 16 * eps * ground.size)
    inside = power_of_two(xp, near)
    result["side"] = xp.where(enter, 0.0, side).astype(side.dtype)
    for name in ("low", "high", "top"):
        result[name] = xp.where(enter, inside, result[name])
    result["went"] = xp.where(enter, 0.0, result["went"]).astype(went.dtype)
    jump = _jumps(search, side, constant(xp, changes), constant(xp, state["close"]))
    jump = jump & (active & (side == state["close_side"]))[..., None]
    result["jump"] = state["jump"] | jump
    result["active"] = (down | up | enter) & ~xp.all(result["jump"], axis=-1)
    return {**state, **result, "doubt": doubt}


def climb(search: Search, state: State) -> State:
    """Reads further ladders, until every coordinate has the one it needs."""
    xp = search.xp

    def step(state: State) -> State:
        changes, moved = search.sample(rungs(xp, state["side"], state["top"]), state["active"])
        scouted = search.read(state["side"], changes, moved, state["top"])
        spent = state["spent"] + xp.where(state["active"], 10, 0).astype(state["spent"].dtype)
        return consider(search, {**state, "spent": spent}, scouted, changes, moved)

    return search.ground.place.repeat(step, state, _LADDERS, lambda s: xp.any(s["active"]))
