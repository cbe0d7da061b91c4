"""What an entry's own values tell of its bar, where the other entries do not speak for it.

Noise is a mean over entries, and one entry may be rougher than all others. Its highest difference
says so, unless it is the function's own: then the nearest ray bends by as much. Where values along
an entry do not change at all, or lie exactly on a line, they say nothing of noise, and the rays
alone do. Must not know who asks.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxfd._arrays import over, power_of_two
from jaxfd._estimate.bars.nodes import gain
from jaxfd._estimate.bars.rays import Rays
from jaxfd._estimate.bars.resolution import UNIFORM, decimals_of, lowest_bit

# An entry is rougher than others where its highest difference is so many times theirs.
_ROUGHER = 8.0
# And so many times the noise that all share for another reason.
_ABOVE = 3.0
# A difference is the function's own where the ray lacks less than this share of it.
_LACKS = 0.5
# Changes are the same, or multiples of something, to so many roundings.
_NONE = 8.0
# A grid of an entry's own is at least so many times as coarse as that.
_COARSE = 64.0
# Distances of fewer bits or digits are round numbers.
_ROUND_BITS, _ROUND_DIGITS = 2.0**12, 1e4
# What a ray shows beyond noise, beyond what other rays make of its truncation, and of one entry.
_BEYOND, _EXPLAINED, _OF_ONE = 4.0, 2.0, 5.0
# What two rays together lack of the nearest is its truncation, to so many times that.
_ITS_OWN = 1.5
# A slope that a farther ray misses is taken so many times, for the stair's own edge.
_SEEN = 1.5


class Shown(NamedTuple):
    """What a ray shows, as changes of value of shape ``(*lead, *out)``.

    Attributes:
        off: by how much its slope differs from what the entries predict.
        gain: the error of that for noise of size 1.
        lost: whether a value of it is not finite.
    """

    off: Any
    gain: Any
    lost: Any


def roughness(
    xp: Any,
    axis: int,
    changes: Any,
    difference: Any,
    single: Any,
    bend: Any,
    lost: Any,
    rays: Rays,
    floor: Any,
    least: Any,
) -> Any:
    """The noise in the values of an entry alone, ``(*lead, N, *out)``; infinite if only rays tell.

    Args:
        xp: the array namespace.
        axis: the number of leading axes.
        changes: the changes of the function, shape ``(K, *lead, N, *out)``.
        difference: the highest difference of an entry, for a step of 1.
        single: the noise that would explain it.
        bend: the highest difference of the nearest ray.
        lost: whether a value of that ray is not finite.
        rays: the rays.
        floor: what rounding does to a value.
        least: the noise that all entries have for certain.
    """
    degree, count = len(changes), changes.shape[axis + 1]
    if count == 1 or degree < 2:
        return xp.zeros_like(single)
    least, floor = xp.expand_dims(least, axis), xp.expand_dims(floor, axis)
    typical = xp.take(xp.sort(single, axis=axis), np.array([(count - 1) // 2]), axis=axis)
    rougher = (single > _ROUGHER * typical) & (single > _ABOVE * least)
    if degree == len(rays.every[0].offsets) and degree % 2 == 0:
        # Were the function a sum over its entries, the ray would bend by the sum of their bends.
        grown = difference * over(rays.reach[0], single) ** degree
        lacking = xp.abs(bend - xp.sum(grown, axis=axis))
        own = xp.expand_dims(lacking, axis) < _LACKS * xp.abs(grown)
        own = own & ~xp.expand_dims(lost, axis)
        rougher = rougher & ~own
    size = xp.abs(changes)
    step = xp.min(xp.where(size > 0, size, np.inf), axis=0)
    straight = xp.isfinite(step) & (step > _COARSE * _NONE * floor)
    straight = straight & _multiples(xp, changes, xp.where(straight, step, 1), _NONE * floor)
    return xp.where(rougher, np.inf, xp.where(straight, UNIFORM * step, 0))


def _multiples(xp: Any, changes: Any, step: Any, off: Any) -> Any:
    """Whether all changes are multiples of a step, to a distance that may be rounding."""
    rest = xp.abs(changes - step * xp.round(changes / step))
    return xp.all(rest <= off, axis=0)


def own_grid(xp: Any, axis: int, changes: Any, distances: Any, floor: Any, unit: Any) -> Any:
    """The grid that the changes along an entry lie on, ``(*lead, N, *out)``; 0 for none.

    A part of the function that depends on this entry may be rounded where the rest is not.
    Multiples of powers of ten and of two are looked for; where the distances are round numbers
    too, the function may be a line.

    Args:
        xp: the array namespace.
        axis: the number of leading axes.
        changes: the changes of the function, shape ``(K, *lead, N, *out)``.
        distances: how far the points really are from ``x``, of as many axes.
        floor: what rounding does to a value.
        unit: what changes are measured in.
    """
    kind = np.finfo(changes.dtype)
    if len(changes) < 2 or changes.shape[axis + 1] == 1:
        return xp.zeros(changes.shape[1:], changes.dtype)
    distances = distances.astype(changes.dtype)
    off, unit = _NONE * xp.expand_dims(floor, axis), xp.expand_dims(unit, axis)
    off = xp.where(off > 0, off, kind.tiny)
    most = xp.max(xp.abs(changes), axis=0)
    far = xp.max(xp.abs(distances), axis=0)
    far = xp.where(far > 0, far, 1)
    # Powers of two: what is left when rounding was taken away.
    fine = power_of_two(xp, 4 * off)
    whole = xp.round(xp.abs(changes) / fine)
    result = xp.min(xp.where(whole > 0, lowest_bit(xp, xp.maximum(whole, 1)), np.inf), axis=0)
    result = xp.where((result > _COARSE) & xp.isfinite(result), result * fine, 0)
    bits = xp.abs(distances)
    bits = xp.min(xp.where(bits > 0, lowest_bit(xp, xp.where(bits > 0, bits, 1)), np.inf), axis=0)
    straight = bits > far / _ROUND_BITS
    for k in decimals_of(changes.dtype):
        grid = 10.0**-k / unit
        coarse = (grid > _COARSE * off) & (grid <= 2 * most) & xp.isfinite(grid)
        fits = _multiples(xp, changes, xp.where(coarse, grid, 1), off)
        result = xp.where(coarse & fits, xp.maximum(result, grid), result)
        digits = 10.0**-k > far / _ROUND_DIGITS
        step = xp.where(digits, 10.0**-k, 1)
        straight = straight | (digits & _multiples(xp, distances, step, _NONE * kind.eps * far))
    return xp.where(straight | (most == 0), 0, result).astype(changes.dtype)


def unseen(
    xp: Any,
    axis: int,
    changes: Any,
    shown: list[Shown],
    joined: tuple[Any, Any],
    rays: Rays,
    noise: Any,
) -> Any:
    """The slope times step that an entry may have although nothing moves along it; 0 for others.

    Values that stay exactly the same belong to an entry without effect, or to a stair whose edge is
    out of reach: then the rays, which go farther, see what the entries do not predict.

    Args:
        xp: the array namespace.
        axis: the number of leading axes.
        changes: the changes of the function, shape ``(K, *lead, N, *out)``.
        shown: what each ray shows.
        joined: by how much the slope along the two nearest as one differs, and where it is lost.
        rays: the rays.
        noise: the noise that all entries share.
    """
    still = xp.all(changes == 0, axis=0)
    near = shown[0]
    beyond = [
        xp.where(s.lost, 0, xp.maximum(xp.abs(s.off) - _BEYOND * noise * s.gain, 0)) for s in shown
    ]
    if len(shown) > 2:
        # The truncation of one ray is told by the other two.
        heard = list(beyond)
        for k, others in ((1, (0, 2)), (2, (1,))):
            power = rays.every[k].order + 1
            for j in others:
                r = xp.where(rays.reach[j] > 0, rays.reach[k] / xp.maximum(rays.reach[j], 1e-9), 0)
                most = over(xp.max(r, axis=-1), noise) ** power
                beyond[k] = xp.maximum(beyond[k] - _EXPLAINED * heard[j] * most, 0)
        factors = [_OF_ONE, _SEEN, _SEEN]
    else:
        # The nearest ray knows its curvature and its truncation: the farther one shows what these
        # do not predict.
        more = rays.whole.slope
        near_slope = np.zeros(len(more), more.dtype)
        near_slope[: len(rays.every[0].slope)] = rays.every[0].slope
        more = more - near_slope.reshape(-1, *(1,) * (more.ndim - 1))
        off, lost = joined
        off = xp.abs(off - near.off) - _BEYOND * noise * over(gain(xp, more), noise)
        off = off - _ITS_OWN * xp.abs(near.off)
        lever = over(rays.whole.lever, noise)
        missed = xp.where(lost | near.lost, 0, xp.maximum(off, 0) / lever)
        beyond = [beyond[0], missed]
        factors = [_OF_ONE, _SEEN]
    result = xp.zeros(still.shape, noise.dtype)
    for k, (part, factor) in enumerate(zip(beyond, factors, strict=True)):
        # What the nearest ray does not predict is a slope in units of its own reach.
        r = over(rays.reach[0 if len(shown) == 2 else k], result)
        slope = factor * xp.expand_dims(part, axis) / xp.where(r > 0, r, 1)
        result = xp.maximum(result, xp.where(r > 0, slope, 0))
    return xp.where(still, result, 0)
