"""The model behind a bar: noise, resolution and truncation, told apart by what the values do.

A bar bounds the distance to the slope of the smooth function whose values were rounded or
disturbed. Written against the namespace of the place; must not know who asks.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxfd._arrays import over, promote
from jaxfd._estimate.bars.nodes import gain, node_weights
from jaxfd._estimate.bars.own import Shown, own_grid, roughness, unseen
from jaxfd._estimate.bars.rays import Ray, Rays
from jaxfd._estimate.bars.resolution import UNIFORM, grid_of, sample
from jaxfd._estimate.bars.told import Told, measured, unpredicted
from jaxfd._estimate.bars.trend import Slope, contradicted

# A bar is so many standard deviations of noise, by how many entries tell it, and for more.
_SIGMAS = (5.0, 5.0, 4.0)
_SIGMA = 3.0
# Where entries have one point each they tell no noise: it is known from the rays alone.
_FROM_RAYS = 8.0
# Noise that hides behind the function's own changes is so many times what one ray shows of it.
_HIDDEN = 2.0
# The rounding of one value, in its spacing.
_ROUNDING = 0.5
# A slope along a ray is a sum over entries that may cancel: what it says of one of them.
_CANCEL = 5.0
# And what a truncation along rays says of an entry's, by the number of directions.
_SHARE = {2: 2.0, 1: 1.25}
# However little an entry bends.
_LEAST_SHARE = 0.1
# Two rays tell the same error where they differ by less than this share of it.
_ALIKE = 0.3
# And where one reaches so many times as far as the other, and the nearest sees such a share.
_FARTHER, _SHARED = 1.2, 0.03
# A ray that is no nearer than this many steps tells truncation.
_NEAREST = 1.2
# A ray that sees the slope itself errs too: what it tells is taken so many times, and where it
# reaches nearly as far as the stencil, as if this share of the error were left at least.
_SEEN, _LEFT = 1.5, 0.2
# Differences that grow so much along a ray, where its slope errs so much less than they, are the
# function's own.
_GROWS, _CALM = 4.0, 5.0
# A jump is so many times the resolution, and as high anywhere, to this share of it.
_CERTAIN, _SAME = 4.0, 0.02
# The value at x stands out from its neighbours where they are so many times closer together.
_OUT = 8.0


class _Seen(NamedTuple):
    """What a ray tells.

    Attributes:
        shown: by how much its values differ from what the slopes predict, with sign.
        off: the size of that.
        bend: its highest difference.
        clean: the same without truncation, where that is known.
        gain: the error of ``off`` for noise of size 1.
        lost: whether a value of it is not finite.
    """

    shown: Any
    off: Any
    bend: Any
    clean: Any
    gain: Any
    lost: Any


def bars(
    xp: Any,
    axis: int,
    told: Told,
    distances: Float[Any, "k *lead n"],
    h: Float[Any, "*lead n"],
    accuracy: int,
    rays: Rays,
    eps: float,
) -> Float[Any, "*lead n *out"]:
    """A bar for every entry; infinite where the values do not tell.

    Args:
        xp: the array namespace.
        axis: the number of leading axes.
        told: the values.
        distances: how far the points of the stencil really are from ``x``.
        h: the step.
        accuracy: the order of the method.
        rays: the rays.
        eps: the relative spacing of the values.
    """
    # Powers of distances leave the range of floats of 16 bits.
    wide = promote(h.dtype, np.float32)
    distances, h = distances.astype(wide), h.astype(wide)
    rays = dataclasses.replace(rays, moved=rays.moved.astype(wide), reach=rays.reach.astype(wide))
    # The grid is told by the values as they are, everything else by those of a size whose squares
    # every dtype holds.
    grid = _grid(xp, axis, told)
    told, unit, size = measured(xp, axis, told)
    grid = grid / unit
    values, slope = told.values, told.slope
    dtype, count = h.dtype, h.shape[-1]
    centre = xp.expand_dims(told.centre, axis)
    step = over(h, slope)
    usable = h > 0
    t = over(distances / xp.where(usable, h, 1), values)
    w, c = node_weights(xp, t)
    whole = xp.all(xp.isfinite(values), axis=0) & xp.isfinite(centre)
    changes = xp.where(whole, values - centre, 0)
    own_gain = gain(xp, w)
    difference = xp.sum(c * changes, axis=0)
    single = xp.abs(difference) / gain(xp, c)
    # -- what all values together tell
    floor = _ROUNDING * eps * size
    known = xp.sum(whole, axis=axis).astype(dtype)
    scatter = noise = xp.sqrt(xp.sum(single**2, axis=axis) / xp.maximum(known, 1))
    if len(t) < 2:
        scatter = noise = xp.zeros_like(noise)
    bias = xp.sum(w * t ** (accuracy + 1), axis=0)
    seen = [_look(xp, axis, told, w, bias, rays, k) for k in range(len(rays.every))]
    near = seen[0]
    bent = xp.abs(near.bend) / rays.every[0].bend_gain
    calm = near.clean / near.gain
    smooth = (bent > _GROWS * noise) & (_CALM * calm < noise) & ~near.lost
    calm = xp.maximum(calm, _agreed(xp, axis, told, own_gain, rays))
    noise = xp.where(smooth, _HIDDEN * calm, xp.maximum(noise, xp.where(near.lost, 0, calm)))
    # Where no entry moves the value, its own steps are seen at the rays at best.
    still = xp.all(changes == 0, axis=(0, axis + 1))
    ray_changes = xp.abs(told.along - told.centre)
    gaps = xp.where(xp.isfinite(ray_changes) & (ray_changes > 0), ray_changes, np.inf)
    gap = xp.min(gaps, axis=0)
    blind = still & ~xp.isfinite(gap) & (size == 0)
    steps = xp.where(still & xp.isfinite(gap), gap, 0)
    least = xp.maximum(floor, UNIFORM * xp.maximum(grid, steps))
    noise = xp.maximum(noise, least)
    # -- what that makes of an entry
    own = own_grid(xp, axis, changes, over(distances, values), floor, unit)
    level = xp.maximum(xp.expand_dims(noise, axis), UNIFORM * own)
    sigmas = _SIGMAS[count - 1] if count <= len(_SIGMAS) else _SIGMA
    if len(t) < 2 and count > 1:
        sigmas = _FROM_RAYS
    cut_off, seen_at_all = xp.zeros_like(single), xp.zeros(single.shape, bool)
    for ray, reach, s in zip(rays.every, rays.reach, seen, strict=True):
        if ray.order < min(accuracy, 4):
            continue
        r = over(reach, single)
        part = xp.expand_dims(xp.where(s.lost, 0, s.off), axis)
        share = part * bias / (ray.bias * xp.maximum(r, _NEAREST) ** (ray.order + 1) - bias)
        shown = (r >= _NEAREST) & ~xp.expand_dims(s.lost, axis)
        cut_off = xp.maximum(cut_off, xp.where(shown, xp.abs(share), 0))
        seen_at_all = seen_at_all | shown
    for ray, reach, s in zip(rays.every, rays.reach, seen, strict=True):
        # A ray within the step, or a near one of a higher order, sees the slope itself.
        r = over(reach, single)
        better = s is near and ray.order > accuracy
        sees = (r > 0) & ((r < 1) | better) & ~xp.expand_dims(s.lost, axis)
        r = xp.where(sees, r, 1.0)
        rest = xp.where(r < 1, xp.maximum(1 - r**ray.order, _LEFT), 1.0)
        off = _SEEN * xp.expand_dims(s.off, axis) / (r * rest)
        cut_off = xp.maximum(cut_off, xp.where(sees, off, 0))
        seen_at_all = seen_at_all | sees
    # Entries that no ray moves far enough are taken for the worst of the others; without any, what
    # the highest difference itself makes of the slope.
    rough = xp.abs(difference) * xp.max(xp.abs(t), axis=0) ** (len(t) - 1)
    worst = xp.max(cut_off, axis=axis, keepdims=True)
    worst = xp.where(xp.any(seen_at_all, axis=axis, keepdims=True), worst, rough)
    cut_off = xp.where(seen_at_all, cut_off, worst)
    share, cancel = 1.0, 1.0
    if count > 1:
        share = _SHARE[len(rays.every) - 1]
        cancel = _CANCEL
        # Entries that change and bend less than others are truncated less.
        own = xp.full_like(single, max(_LEAST_SHARE, 1 / count))
        for part in (single, xp.abs(xp.where(xp.isfinite(slope), slope * step, 0))):
            most = xp.max(part, axis=axis, keepdims=True)
            own = xp.maximum(own, part / xp.where(most > 0, most, 1))
        cut_off = cut_off * own
    told_by_rays = xp.full_like(single, np.inf)
    for ray, reach, s in zip(rays.every, rays.reach, seen, strict=True):
        r = xp.maximum(over(reach, single), 1e-3)
        # What truncation adds to a ray: nothing where it is taken away, but for the entry's own.
        off = xp.expand_dims(s.clean, axis) + sigmas * ray.slope_gain * level
        grown = 1.0 if s is near else r**accuracy
        own = cancel * off / r + cut_off * grown
        told_by_rays = xp.minimum(told_by_rays, xp.where(xp.expand_dims(s.lost, axis), np.inf, own))
    alone = roughness(
        xp, axis, changes, difference, single, near.bend, near.lost, rays, floor, least
    )
    own = sigmas * own_gain * xp.maximum(level, alone) + share * cut_off
    result = xp.minimum(own, told_by_rays)
    shown = [Shown(s.shown, s.gain, s.lost) for s in seen]
    joined = _off_line(xp, axis, told, rays)
    calm = xp.minimum(noise, xp.maximum(scatter, least))
    result = xp.maximum(result, unseen(xp, axis, changes, shown, joined, rays, calm))
    steps = xp.where(usable, h, 1).reshape(step.shape)
    result = result / steps + 2 * eps * xp.abs(slope)
    of = Slope(own_gain / steps, bias, steps, accuracy)
    if count == 1:
        calm = xp.minimum(calm, xp.maximum(_apart(xp, axis, difference, c, near.bend, rays), least))
    result = xp.maximum(result, contradicted(xp, axis, told, of, rays, calm, result))
    # -- what is not known
    spread = _scatter(xp, axis, changes, told, rays)
    unknown = blind | (spread[1] > _OUT * xp.maximum(spread[0], UNIFORM * grid + 4 * floor))
    unknown = xp.expand_dims(unknown, axis) | over(~usable, step)
    unknown = unknown | _leaps(xp, axis, changes, told, rays, xp.expand_dims(least, axis))
    return xp.where(unknown, np.inf, result * xp.expand_dims(unit, axis))


def _look(xp: Any, axis: int, told: Told, w: Any, bias: Any, rays: Rays, which: int) -> _Seen:
    """What one ray tells."""
    ray = rays.every[which]
    reach = over(rays.reach[which], told.slope)
    all_gain = xp.sqrt(xp.sum((reach * gain(xp, w)) ** 2, axis=axis) + ray.slope_gain**2)
    off, bend, lost = _off(xp, axis, told, rays, ray)
    clean = xp.abs(off)
    if which == 0:
        better, missing = _off_line(xp, axis, told, rays)
        # What is left of the truncation of the entries, were the function a sum over them.
        r, own = xp.max(reach, axis=axis), xp.mean(bias, axis=axis)
        r = xp.maximum(r, _NEAREST)
        left = better + off * own * r / (ray.bias * r ** (ray.order + 1) - own * r)
        for other in (better, left) if told.slope.shape[axis] > 1 else (better,):
            clean = xp.where(missing, clean, xp.minimum(clean, xp.abs(other)))
    return _Seen(off, xp.abs(off), bend, clean, all_gain, lost)


def _agreed(xp: Any, axis: int, told: Told, own_gain: Any, rays: Rays) -> Any:
    """The noise of a single entry whose slope is wrong by the same on the two farther rays.

    Truncation would differ on them, and be less on the nearest.
    """
    if told.slope.shape[axis] > 1 or len(rays.every) < 3:
        return 0.0
    errors, known = [], True
    for ray, reach in zip(rays.every, rays.reach, strict=True):
        off, _, lost = _off(xp, axis, told, rays, ray)
        away = xp.sign(rays.moved[ray.points][-1]) * xp.where(reach > 0, reach, 1)
        errors.append(off / over(away[..., 0], off))
        known = known & ~lost & over(reach[..., 0] > 0, off)
    near, *far = map(xp.abs, errors)
    small, large = xp.minimum(*far), xp.maximum(*far)
    known = known & (xp.abs(errors[1] - errors[2]) < _ALIKE * large) & (near > _SHARED * large)
    apart = rays.reach[2] > _FARTHER * rays.reach[1]
    known = known & over(apart[..., 0], known)
    return xp.where(known, small / xp.squeeze(own_gain, axis), 0)


def _apart(xp: Any, axis: int, difference: Any, weights: Any, bend: Any, rays: Rays) -> Any:
    """The noise of a single entry told by its highest differences at two distances.

    They are the same but for that, where they are of one degree; infinite where they are not.
    """
    ray = rays.every[0]
    if len(weights) != ray.order:
        return np.inf
    reach = over(xp.squeeze(rays.reach[0], axis), bend)
    scale = math.factorial(ray.order) * xp.where(reach > 0, reach, 1) ** ray.order
    noise = xp.hypot(xp.squeeze(gain(xp, weights), axis), ray.bend_gain / scale)
    return xp.abs(xp.squeeze(difference, axis) - bend / scale) / noise


def _off(xp: Any, axis: int, told: Told, rays: Rays, ray: Ray) -> tuple[Any, Any, Any]:
    """What a ray's slope and highest difference are beside those of the entries, and if at all."""
    change, lost = unpredicted(xp, axis, told, ray.points, rays.moved)
    weights, bend = (v.reshape(-1, *(1,) * (change.ndim - 1)) for v in (ray.slope, ray.bend))
    found = [xp.sum(v.astype(change.dtype) * change, axis=0) for v in (weights, bend)]
    return found[0], found[1], lost


def _off_line(xp: Any, axis: int, told: Told, rays: Rays) -> tuple[Any, Any]:
    """What the slope along the two nearest rays is beside those of the entries, and if at all."""
    change, lost = unpredicted(xp, axis, told, rays.whole.points, rays.moved)
    weights = over(rays.whole.slope, change).astype(change.dtype)
    return xp.sum(weights * change, axis=0), lost


def _grid(xp: Any, axis: int, told: Told) -> Any:
    """The grid that the values lie on."""
    base = xp.expand_dims(told.centre, axis)
    some = xp.moveaxis(sample(xp, told.values, base, axis + 1), axis + 1, 0)
    some = some.reshape(len(some) * some.shape[1], *told.centre.shape)
    every = [told.centre[None], told.along, some]
    return grid_of(xp, xp.concatenate(every))


def _leaps(xp: Any, axis: int, changes: Any, told: Told, rays: Rays, least: Any) -> Any:
    """Where values along an entry span no less than those on rays far beyond: a jump at ``x``."""

    def span(values: Any) -> Any:
        return xp.maximum(xp.max(values, axis=0), 0) - xp.minimum(xp.min(values, axis=0), 0)

    own = span(changes)
    found = own > _CERTAIN * least
    slope = xp.where(xp.isfinite(told.slope), told.slope, 0)
    for ray in rays.every[:2]:
        # What the other entries do there is known from their slopes.
        change, _ = unpredicted(xp, axis, told, ray.points, rays.moved)
        moved = over(rays.moved[ray.points], slope[None])
        far = span(xp.expand_dims(change, axis + 1) + moved * slope)
        found = found & (xp.abs(far - own) <= _SAME * own)
    return found


def _scatter(xp: Any, axis: int, changes: Any, told: Told, rays: Rays) -> tuple[Any, Any]:
    """How the values next to ``x`` scatter, and how far the one at ``x`` is from their mean."""
    near = told.along[rays.every[0].points] - told.centre
    near = xp.where(xp.isfinite(near), near, 0)
    every = xp.moveaxis(changes, axis + 1, 0)
    every = every.reshape(len(every) * every.shape[1], *told.centre.shape)
    every = xp.concatenate([every, near])
    return xp.std(every, axis=0), xp.abs(xp.mean(every, axis=0))
