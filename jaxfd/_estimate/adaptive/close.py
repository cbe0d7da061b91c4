"""What the points closest to ``x`` tell, beside a ladder: noise, jumps, kinks, waves.

It exists because no ladder shows what happens between ``x`` and its lowest rung. It must not know
which ladders were climbed, nor what is fitted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxfd._arrays import apply, constant
from jaxfd._estimate.adaptive.climb import Climb
from jaxfd._estimate.adaptive.fits import BestFit, odd_polynomials
from jaxfd._estimate.adaptive.ground import Ground
from jaxfd._estimate.adaptive.ladder import LIFT
from jaxfd._estimate.adaptive.reading import SPAN, Search
from jaxfd._estimate.bars import UNIFORM

# Changes that stay within this factor while the step falls by orders are a jump.
_SAME = 1.25
# The third-order part of a smooth function that bends, over its slope and the square of a scale.
_BENT = 1 / 60
# How far outside of a radius polynomials foretell a function, in radii, and what is left of it over
# the difference of two of them.
_OUTSIDE, _FORETOLD = (1.1, 10.0), 10.0
# A jump over what polynomials leave of it on a few rungs.
_HEIGHT = 3.0
# The bar of a wide window knows its own scatter from two polynomials at best.
_ROUGH = 2.0
# What a cubic through four rungs says of the value at x, from the longest rung to the shortest, and
# by how much less than a slope allows that falls from rung to rung; it is certain where it is so
# many times the noise.
_CUBIC, _CERTAIN = ((-1 / 21, 2 / 3, -8 / 3, 64 / 21), 1.75), 64.0
# The slope very close to x speaks against another one by so many times the noise.
_DENIED = 10.0


def noise_near(
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
    near, far, bottom = (constant(xp, changes[k]) for k in (-2, -1, 4))
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
    lift = xp.where(stairs, np.inf, LIFT).astype(dtype)
    return xp.where(xp.isfinite(seen), seen, 0), lift


def jumps(search: Search, side: Any, changes: Any, close: Any) -> Any:
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


def leaps(xp: Any, side: Any, changes: Any, rounding: Any) -> Any:
    """Where all rungs show one and the same change: it happens before them."""
    single = (side != 0)[..., None]
    rows = constant(xp, changes)
    count = len(rows) // 2
    odd = (rows[:count] - rows[count:]) / 2
    return xp.where(single, _alike(xp, rounding, *rows), _alike(xp, rounding, *odd))


def _apart(xp: Any, both: Any, near: Any, far: Any) -> tuple[Any, Any]:
    """Odd and even part of the closest changes; to one side, change and second difference."""
    odd, even = (near - far) / 2, (near + far) / 2
    return xp.where(both, odd, near), xp.where(both, even, far - 2 * near)


def kinks(search: Search, climbed: Climb) -> Any:
    """Half the jump of the slope at ``x``: there the even part falls like the step."""
    xp, changes = search.xp, constant(search.xp, climbed.changes)
    upper, lower = (changes[3:5] + changes[8:10]) / 2
    kink = (climbed.kept_side == 0)[..., None] & _same(search, 4 * lower, upper)
    bottom = climbed.kept_top.astype(search.dtype) / SPAN
    return xp.where(kink, xp.abs(lower) / bottom[..., None], 0)


def stairs(search: Search, climbed: Climb, slope: Any, radius: Any) -> Any:
    """By how much the slope changes on the stair that ``x`` stands on.

    Where a program rounds its argument, as it does its values or more coarsely, differences tell
    the slope at another point of the stair.

    Args:
        search: the search.
        climbed: its ladder.
        slope: the slope that was found.
        radius: that of the fit.
    """
    xp, changes = search.xp, constant(search.xp, climbed.changes)
    count, top = len(changes) // 2, climbed.kept_top.astype(search.dtype)
    up, down = changes[:count], changes[count:]
    rungs = xp.stack([top / 4.0**k for k in range(count)])[..., None]
    moves = ((up != 0) | (down != 0)) & xp.isfinite(up + down)
    width = xp.min(xp.where(moves, rungs, xp.max(rungs, axis=0)), axis=0)
    value = search.rounding / (search.ground.eps / 2).astype(search.dtype)[:, None]
    share = search.noise / UNIFORM / xp.where(value > 0, value, 1)
    share = xp.where(value > 0, xp.minimum(share, 1), 1)
    capped = xp.minimum(width, share * search.ground.size.astype(search.dtype)[..., None])
    # Unless values have all their digits, and none moves where that slope would show.
    close = xp.abs(climbed.close_moved[0]).astype(search.dtype)[..., None]
    wide = xp.abs(slope) * close > _DENIED * search.noise
    wide = wide & (search.noise <= _DENIED * search.rounding)
    width = xp.where(wide, width, capped)
    # The curvature on the rung next to the radius: farther out the function is another one.
    own = rungs[..., 0] <= radius.astype(search.dtype)
    which = xp.where(xp.any(own, axis=0), xp.argmax(own, axis=0), count - 1)[None, ..., None]
    bend = xp.where(xp.isfinite(up + down), xp.abs(up + down), 0) / rungs**2
    bend = xp.take_along_axis(bend, xp.broadcast_to(which, (1, *bend.shape[1:])), axis=0)[0]
    still = xp.all(constant(xp, climbed.close) == 0, axis=0)
    known = still & (climbed.kept_side == 0)[..., None]
    return xp.where(known, bend * width, 0)


def teeth(search: Search, climbed: Climb, value: Any) -> Any:
    """By how much the slope inside a tooth differs from the one that wide windows see.

    What the closest points follow to a far larger scale than that of wider ones jumps in between: a
    smooth function claims the same scale everywhere, or a larger one where it is not resolved.
    """
    xp, changes = search.xp, constant(search.xp, climbed.changes)
    differs = xp.abs(value - climbed.rough)
    # A smooth function whose slope differs so much within the scale that wide windows see bends.
    count, top = len(changes) // 2, climbed.kept_top.astype(search.dtype)
    rungs = xp.stack([top / 4.0**k for k in range(count)])[..., None]
    share = rungs / climbed.least
    bent = _BENT * differs * share**2 * rungs
    straight = xp.abs((changes[:count] - changes[count:]) / 2 - value * rungs) < bent
    straight = straight & (bent > 4 * search.noise) & (share < 1)
    straight = xp.any(straight, axis=0) & (climbed.kept_side == 0)[..., None]
    known = (climbed.jumps | straight) & xp.isfinite(climbed.rough_bar) & xp.isfinite(differs)
    more = xp.maximum(_ROUGH * climbed.rough_bar, _HEIGHT * climbed.tooth)
    return xp.where(known, differs + more, 0)


def beyond(search: Search, climbed: Climb, odd: Any, radius: Any) -> Any:
    """What jumps do to the slope that lie between the points of a fit and the rungs outside.

    Polynomials through the points foretell a smooth function a little farther out, and two of them
    tell how well.

    Args:
        search: the search.
        climbed: its ladder.
        odd: the odd parts at the points of the fit, shape ``(8, *lead, N, O)``.
        radius: that of the fit.
    """
    xp, changes = search.xp, constant(search.xp, climbed.changes)
    count, top = len(changes) // 2, climbed.kept_top.astype(search.dtype)[..., None]
    r = radius.astype(search.dtype)[..., None]
    five, seven = odd_polynomials()
    coefficients = [apply(xp, w, xp.where(xp.isfinite(odd), odd, 0)) for w in (five, seven)]
    height = xp.zeros_like(odd[0])
    for k in range(count):
        u = top / 4.0**k / xp.where(r > 0, r, 1)
        near = (u > _OUTSIDE[0]) & (u < _OUTSIDE[1])
        u = xp.where(near, u, 1)
        low, high = (sum(c * u ** (2 * i + 1) for i, c in enumerate(cs)) for cs in coefficients)
        gain = sum(u ** (2 * i + 1) * float(np.linalg.norm(w)) for i, w in enumerate(seven))
        off = xp.abs((changes[k] - changes[count + k]) / 2 - high)
        known = _FORETOLD * xp.abs(high - low) + _DENIED * gain * search.noise
        height = xp.where(near & (off > known), xp.maximum(height, off), height)
    both = (climbed.kept_side == 0)[..., None] & xp.all(xp.isfinite(odd), axis=0)
    return xp.where(both, _HEIGHT / 2 * height / xp.where(r > 0, r, 1), 0)


def unmoved(search: Search, climbed: Climb) -> Any:
    """The least slope that would show on the ladder, where nothing does."""
    xp = search.xp
    top = climbed.kept_top.astype(search.dtype)[..., None]
    still = xp.all(constant(xp, climbed.changes) == 0, axis=0)
    return xp.where(still, search.grid / xp.where(top > 0, top, 1), 0)


def denied(search: Search, climbed: Climb, best: BestFit, radius: Any) -> Any:
    """By how much the slope very close to ``x`` differs from the one found, where noise cannot.

    A function that waves many times between any two points of a ladder looks smooth on it.
    """
    xp = search.xp
    moved = climbed.close_moved.astype(search.dtype)[..., None]
    both = (climbed.close_side == 0)[..., None]
    odd, even = _apart(xp, both, *constant(xp, climbed.close))
    t = xp.where(both, (moved[0] - moved[1]) / 2, moved[0])
    spread = best.error * radius.astype(search.dtype)[..., None] / best.gain
    known = xp.maximum(_DENIED * xp.maximum(search.rounding, xp.abs(even)), 2 * spread)
    gap = xp.abs(odd - best.value * t)
    return xp.where(gap > known, gap / xp.abs(t), 0)


def missed(search: Search, climbed: Climb, best: BestFit, reach: Any) -> Any:
    """Where the closest rungs miss the value at ``x`` beside a wall.

    Fits to one side leave the value at ``x`` free. What cubics through the closest rungs are off it
    falls faster than the distance where there is a slope; where it does not, something happens
    before them.
    """
    xp, (weights, falls) = search.xp, _CUBIC
    changes = constant(xp, climbed.changes)
    wide, near = (
        xp.abs(sum(w * c for w, c in zip(weights, changes[k : k + 4], strict=True)))
        for k in (len(changes) - 5, len(changes) - 4)
    )
    far, close = (xp.abs(climbed.moved[k]).astype(search.dtype)[..., None] for k in (-5, -1))
    inside = far <= reach.astype(search.dtype)[..., None]
    stays = (climbed.kept_side != 0)[..., None] & (wide <= falls * near) & inside
    known = _CERTAIN * xp.maximum(search.noise, search.rounding) + best.error * close
    return xp.where(stays & (near > known), np.inf, 0).astype(search.dtype)


def _same(search: Search, *numbers: Any) -> Any:
    """Whether numbers are about the same, and more than rounding."""
    return _alike(search.xp, search.rounding, *numbers)


def _alike(xp: Any, rounding: Any, *numbers: Any) -> Any:
    """The same for that rounding."""
    stack = xp.stack(numbers)
    big, small = xp.max(xp.abs(stack), axis=0), xp.min(xp.abs(stack), axis=0)
    together = xp.abs(xp.sum(xp.sign(stack), axis=0)) == len(numbers)
    return together & (big <= _SAME * small) & (small > 4 * rounding)
