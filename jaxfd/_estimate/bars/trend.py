"""The trend: what farther points say against the slope that the stencil sees.

A program whose grid follows its parameter returns a trend with teeth: within one tooth all values
are smooth, and their slope is the tooth's. Only points beyond the tooth tell. The slope of a smooth
function at larger and larger distances changes by a law: what the curvature near by explains is no
contradiction, and what it does not is more than any bar that knows the stencil alone. Must not know
who asks.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxfd._arrays import over
from jaxfd._estimate.bars.nodes import gain, node_weights
from jaxfd._estimate.bars.rays import Ray, Rays
from jaxfd._estimate.bars.told import Told, unpredicted

# A contradiction is told from noise where it is so many standard deviations.
_SIGMAS = 5.0
# The first coefficient that two rays do not know is so many times what their derivatives make of
# it, were it in proportion to a power of the scale: of one entry, and along several.
_MORE, _MORE_OF_SEVERAL = 2.0, 4.0
# Of a function with a singularity, whose coefficients are known better, so many times that.
_SINGULAR = 0.75
# Rays are in line where all entries move in the same proportion, to this share.
_IN_LINE = 1e-3
# And the farther one lies beyond the nearer one where it reaches so many times as far.
_BEYOND = 1.01
# A tooth ends within the reach of a ray that contradicts: its slope is so many times that.
_TOOTH = 2.0
# A contradiction is no larger than so many times what the farther ray itself sees.
_MOST = 4.0
# Of one among several entries, whose contradictions may cancel along the ray.
_OF_ONE = 5.0
# Curvature is gone where the next even coefficient is this share of it; an odd one is 0 by chance
# where it is less than this share of both.
_GONE, _CHANCE = 0.05, 0.01
# What is so much smaller than other coefficients is nothing.
_NOTHING = 1e-12


class Slope(NamedTuple):
    """The slope of each entry, as far as it errs for reasons that are known.

    Attributes:
        noise: its error for noise of size 1, shape ``(*lead, N, 1...)``.
        bias: what the first coefficient beyond the method's order adds to it, of the same shape, in
            units of the step to the power of the order.
        h: the step, of the same shape.
        order: the order of the method.
    """

    noise: Any
    bias: Any
    h: Any
    order: int


def contradicted(
    xp: Any,
    axis: int,
    told: Told,
    slope: Slope,
    rays: Rays,
    noise: Float[Any, "*lead *out"],
    bars: Float[Any, "*lead n *out"],
) -> Float[Any, "*lead n *out"]:
    """The least bar of a slope that farther points contradict; 0 where they do not.

    Args:
        xp: the array namespace.
        axis: the number of leading axes.
        told: the values.
        slope: what is known of the slopes' errors.
        rays: the rays.
        noise: the noise of the values.
        bars: the bars that are known without this: entries of which little is known explain it.
    """
    result = xp.zeros(told.slope.shape, noise.dtype)
    for near, far, share in zip(rays.every, rays.every[1:], rays.share[1:], strict=False):
        found = _between(xp, axis, told, slope, rays, near, far, over(share, noise), noise, bars)
        result = xp.maximum(result, found)
    return result


def _between(
    xp: Any,
    axis: int,
    told: Told,
    own: Slope,
    rays: Rays,
    near: Ray,
    far: Ray,
    share: Any,
    noise: Any,
    bars: Any,
) -> Any:
    """The same of one ray and a farther one, everything in the reach of the farther."""
    unit = rays.moved[far.points][-1] / far.offsets[-1]
    points = slice(near.points.start, far.points.stop)
    t, in_line = _places(xp, rays.moved[points], unit, len(near.offsets))
    change, lost = unpredicted(xp, axis, told, points, rays.moved)
    t, unit = over(t, change), over(unit, told.slope)
    first, order = len(near.offsets), len(near.offsets) + 3
    close, rest = t[:first], t[first:]
    # Differences of a smooth function are its coefficients: the second, the last two that are
    # known, and by how much the slope is off for those.
    last = xp.sum(node_weights(xp, t)[1] * change, axis=0)
    nearest = xp.sum(node_weights(xp, close)[0] * change[:first], axis=0)
    second, bent = _second(xp, close, change[:first])
    bias = xp.mean(own.bias * (own.h / xp.where(unit != 0, unit, np.inf)) ** own.order, axis)
    product = -xp.prod(close, axis=0)
    before = nearest / product
    off = 0.0
    if own.order == 1:
        off = bias * second
    elif own.order == first:
        before = nearest / (product - bias)
        off = bias * before
    # What both say beside that, and how much of it is said by the farther one.
    weights = node_weights(xp, t)[0]
    lever = xp.sum((weights * t)[first:], axis=0)
    beyond = (xp.sum(weights * change, axis=0) + off) / lever
    sees = xp.sum(node_weights(xp, rest)[0] * change[first:], axis=0) + off
    # What a smooth function explains of it.
    entries = told.slope.shape[axis]
    line = xp.sum(unit * xp.where(xp.isfinite(told.slope), told.slope, 0), axis=axis)
    before, last = xp.abs(before), xp.abs(last)
    # Curvature that is gone at the farther ray, without the odd coefficient that such a function
    # has but by chance, is a tooth's.
    straight = (last > _GONE * xp.abs(second)) & (
        before < _CHANCE * xp.minimum(last, xp.abs(second))
    )
    last = xp.where(straight, 0, last)
    rate = _rate(xp, xp.abs(line), xp.abs(second), before, last, order)
    more = before * rate**2 / (order * (order - 1)) + last * rate / (2 * order)
    times = _MORE_OF_SEVERAL if entries > 1 else _MORE
    more = xp.maximum(times * more, before * share**2 + last * share)
    # Those of a function with a singularity near by fall by a ratio that the nearest tell, where
    # they are no noise; they do not fall at all where that is within the reach.
    own_gain = xp.sum((unit * own.noise) ** 2, axis=axis)
    near_gain = xp.sqrt(own_gain + gain(xp, node_weights(xp, close)[0]) ** 2)
    clear = xp.maximum(before - _SIGMAS * noise * near_gain / xp.abs(product), 0)
    rate = _rate(xp, xp.abs(line), xp.abs(second), clear, 0.0, order)
    ratio = rate**2 / math.factorial(order - 2) ** (2 / (order - 3))
    falls = ratio < 1
    left = xp.where(falls, 1 - ratio, 1)
    rest_of = (before * ratio + last * xp.sqrt(ratio)) / left
    reaches = xp.prod(xp.abs(t), axis=0) / xp.abs(lever)
    singular = xp.where(falls, _SINGULAR * times * rest_of * reaches, np.inf)
    smooth = xp.maximum(more * reaches, singular)
    if entries > 1:
        smooth = smooth + _OF_ONE * xp.abs(off / lever)
    heard = _SIGMAS * noise * xp.sqrt(own_gain + gain(xp, weights) ** 2) / xp.abs(lever)
    # Of a function whose own scale is shorter than the way, points there say nothing, unless their
    # slope is off by more than its curvature near by foretells.
    bends = xp.abs(sees - beyond) + 2 * bent * xp.max(xp.abs(rest), axis=0)
    long = _rate(xp, xp.abs(line), xp.abs(second), before, 0.0, order) > 1
    most = xp.abs(sees)
    grows = (most > bends + heard) & (xp.abs(beyond) > singular + heard)
    against = xp.where(long, grows, xp.abs(beyond) > smooth + heard)
    against = against & ~lost & over(in_line, lost)
    if entries > 1:
        against = against & (most > xp.max(xp.abs(unit) * bars, axis=axis))
    size = _TOOTH * xp.maximum(most, xp.minimum(xp.abs(beyond), _MOST * most))
    size = xp.where(against, size * (_OF_ONE if entries > 1 else 1), 0)
    return xp.expand_dims(size, axis) / xp.where(unit != 0, xp.abs(unit), np.inf)


def _places(xp: Any, moved: Any, unit: Any, first: int) -> tuple[Any, Any]:
    """Where points lie along a ray, in its reach, shape ``(P, *lead)``; and if they are in line.

    Args:
        xp: the array namespace.
        moved: how far each entry moved.
        unit: the same in units of the reach.
        first: how many of the points are the nearer ray's, which the others must lie beyond.
    """
    moves = unit != 0
    share = moved / xp.where(moves, unit, 1)
    t = xp.max(xp.where(moves, share, -np.inf), axis=-1)
    low = xp.min(xp.where(moves, share, np.inf), axis=-1)
    size = xp.abs(t)
    in_line = xp.all((xp.abs(t - low) <= _IN_LINE * size) & (size > 0), axis=0)
    in_line = in_line & xp.any(moves, axis=-1)
    in_line = in_line & (xp.min(size[first:], axis=0) > _BEYOND * xp.max(size[:first], axis=0))
    # Where they are not, the numbers do not matter, but must be different ones.
    some = np.arange(1, len(t) + 1, dtype=t.dtype).reshape(-1, *(1,) * (t.ndim - 1))
    return xp.where(in_line, t, some), in_line


def _second(xp: Any, t: Any, change: Any) -> tuple[Any, Any]:
    """The coefficient of the square, and its size as far as pairs of points agree on it."""
    count = len(t)
    found = []
    for pair in ((k, count - 1 - k) for k in range(count // 2)):
        bend = node_weights(xp, xp.stack([t[k] for k in pair]))[1]
        found.append(sum(bend[i] * change[k] for i, k in enumerate(pair)))
    least = xp.min(xp.abs(xp.stack(found)), axis=0)
    return found[-1], xp.maximum(least - xp.abs(found[-1] - found[0]), 0)


def _rate(xp: Any, first: Any, second: Any, before: Any, last: Any, order: int) -> Any:
    """How fast the derivatives of a function grow, told by four of its coefficients.

    Those of a wave do by its frequency, of which every second one may be 0.

    Args:
        xp: the array namespace.
        first: the slope.
        second: the coefficient of the square.
        before: that two orders below ``order``.
        last: that one order below.
        order: the first that is not known.
    """
    before, last = math.factorial(order - 2) * before, math.factorial(order - 1) * last
    least = xp.maximum(_NOTHING * xp.maximum(before, last), np.finfo(first.dtype).tiny)
    first, second = xp.maximum(first, least), xp.maximum(2 * second, least)
    one = xp.maximum((before / first) ** (1 / (order - 3)), (last / first) ** (1 / (order - 2)))
    two = xp.maximum((before / second) ** (1 / (order - 4)), (last / second) ** (1 / (order - 3)))
    return xp.minimum(one, two)
