"""First derivatives along random directions.

Points are evaluated, their values weighed, and the directions added up: each made once for a
point and once more for the sum.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Shaped

from jaxfd._arrays import Parts, constant, is_complex, over, promote
from jaxfd._estimate.found import Found
from jaxfd._estimate.task import Call, Task
from jaxfd._methods import Method, Relative
from jaxfd._points import Cloud, walls_of
from jaxfd._random import Drawn, RandomDirections, Stored, differences, shaped


@dataclasses.dataclass(frozen=True)
class Weighed:
    """What random points have told, before directions are added up.

    Attributes:
        method: the method.
        cloud: the points, with their directions.
        centre: the outputs at ``x``; None where not wanted.
        values: the first output at all points, shape ``(K, N, *lead, *out)``.
        shares: for each output and each real leaf what every direction counts, shape
            ``(N, *lead, *out)``.
        good: which samples of the first output there are, shape ``(N, *lead, *out)``.
    """

    method: RandomDirections
    cloud: Cloud
    centre: Any
    values: Any
    shares: list[list[Any]]
    good: Any

    def mean(self, xp: Any) -> Any:
        """The mean of the first output over the points where it is finite, else NaN."""
        flat = self.values.reshape(-1, *self.values.shape[2:])
        good = xp.isfinite(flat)
        count = xp.sum(good, axis=0).astype(flat.dtype)
        total = xp.sum(xp.where(good, flat, 0), axis=0)
        return total / xp.where(count > 0, count, np.nan)


def drawn(task: Task, args: Any, kwargs: Any, method: RandomDirections) -> Method:
    """A random method as the host gets it: without its key, and with directions drawn."""
    keyless = dataclasses.replace(method, key=None)
    if not task.draws(method):
        return keyless
    leaves = [jnp.asarray(leaf) for leaf in task.bind(args, kwargs).leaves]
    like = task.split(leaves, method).real
    method.check_size(sum(x.size for x in like))
    return Drawn(
        keyless, _draw(method, tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in like))
    )


@functools.partial(jax.jit, static_argnums=1)
def _draw(method: RandomDirections, like: tuple[jax.ShapeDtypeStruct, ...]) -> list[Any]:
    return method.directions(like).several(lax.iota(np.int32, method.num_samples))


def weigh(
    place: Any,
    call: Call,
    parts: Parts,
    bounds: Any = None,
    centre: Any = None,
    wanted: bool = False,
) -> Weighed:
    """Evaluates random points and weighs their values.

    Args:
        place: where the points are evaluated.
        call: the call, with its method.
        parts: the real leaves.
        bounds: a pair of lower and upper bounds, or None.
        centre: the outputs at ``x`` where they are known already.
        wanted: whether these are wanted.
    """
    xp, axis = place.xp, len(place.lead)
    method: Any = call.method
    drawn = isinstance(method, Drawn)
    directions = Stored(method.u) if drawn else method.directions(parts.real)
    method = method.method if drawn else method
    size = sum(math.prod(x.shape[axis:]) for x in parts.real)
    method.check_size(size)
    h = _distances(place, call, parts, method)
    compared = not method.antithetic and method.baseline == "centre"
    cloud = Cloud(
        directions,
        parts.real,
        place.lead,
        h,
        signs=(1, -1) if method.antithetic else (1,),
        count=method.num_samples,
        box=None if bounds is None else _box(xp, call, parts, bounds),
    )
    known = centre
    centre, outputs = place.scatter(cloud, known is None and (wanted or compared))
    centre = centre if known is None else known
    # Samples before the batch of calls: (K, N, *lead, *out).
    values = [
        xp.moveaxis(o.astype(place.compute_dtype(o.dtype, h[0].dtype)), axis + 1, 1)
        for o in outputs
    ]
    shares, good = [], []
    for number, value in enumerate(values):
        base = centre[number].astype(value.dtype) if compared else None
        if method.shaping and is_complex(value):
            raise TypeError(
                f"{type(method).__name__}: shaping needs real outputs, got {value.dtype}: leave "
                "shaping out, or take the real and imaginary parts one by one."
            )
        changes = differences(xp, *shaped(xp, method.shaping, value, base))
        good.append(xp.isfinite(changes))
        counted = _counted(xp, method, directions, changes, size)
        shares.append([counted / over(d.astype(value.dtype), counted[0]) for d in h])
    return Weighed(method, cloud, centre, values[0], shares, good[0])


def sample(
    place: Any, call: Call, parts: Parts, bounds: Any, centre: Any, wanted: bool, error: bool
) -> Found:
    """Estimates derivatives by a random method.

    Args:
        place: as for `weigh`, like the next five.
        call: see there.
        parts: see there.
        bounds: see there.
        centre: see there.
        wanted: see there.
        error: whether the standard error is wanted.
    """
    weighed = weigh(place, call, parts, bounds, centre, wanted)
    xp, cloud, shares = place.xp, weighed.cloud, weighed.shares
    sums = [_unclipped(xp, cloud, _summed(place, cloud.directions, each)) for each in shares]
    errors = None
    if error:
        errors = _unclipped(xp, cloud, _standard_errors(xp, weighed, shares[0]))
        errors = _unless_unseen(xp, weighed, shares[0], errors)
    evaluations = cloud.count * len(cloud.signs) + 1
    return Found(
        centre=weighed.centre,
        rows=[
            [value.astype(each[0].dtype) for value in found]
            for each, found in zip(shares, sums, strict=True)
        ],
        errors=errors,
        step=[
            xp.broadcast_to(over(d, x), x.shape) for d, x in zip(cloud.h, parts.real, strict=True)
        ],
        one_sided=[xp.zeros(x.shape, bool) for x in parts.real],
        evaluations=xp.full(place.lead, evaluations, np.int32),
    )


def _distances(place: Any, call: Call, parts: Parts, method: RandomDirections) -> list[Any]:
    """How far the points of each leaf go, shape ``(*lead,)``: one number a leaf."""
    xp, sigma = place.xp, method.sigma
    rule = sigma if isinstance(sigma, Relative) else Relative()
    fixed = None if isinstance(sigma, Relative) else sigma
    typical = call.arguments.spread(rule.typical, "typical", 1.0)
    wanted = call.arguments.spread(fixed, "sigma", None)
    # One spacing for all: entries that go much less far than others would drown in their noise.
    eps = max(place.eps(x.dtype) for x in parts.real)
    result = []
    for x, owner in zip(parts.real, parts.owner, strict=True):
        for name, value in (("typical", typical[owner]), ("sigma", wanted[owner])):
            if np.ndim(value):
                raise ValueError(
                    f"{type(method).__name__}: {name} has a leaf of shape {np.shape(value)}: give "
                    "one number for each leaf, as random directions move all its entries at once."
                )
        x = constant(xp, x)
        largest = xp.max(xp.abs(x.reshape(*place.lead, -1)), axis=-1, initial=0)
        power = 1 / 3 if method.antithetic else 1 / 2
        h = rule.size(xp, largest, typical[owner], eps, power)
        if wanted[owner] is not None:
            asked = xp.broadcast_to(xp.asarray(wanted[owner], dtype=x.dtype), h.shape)
            # A distance lost in the rounding of x would divide nothing by nothing.
            sizes = xp.abs(x.reshape(*place.lead, -1)).astype(promote(x.dtype, np.float32))
            common = (xp.sum(sizes, axis=-1) / max(sizes.shape[-1], 1)).astype(x.dtype)
            h = xp.where((common + asked) - common == 0, h, asked)
        result.append(h)
    return result


def _counted(
    xp: Any, method: RandomDirections, directions: Any, changes: Shaped[Any, "n *rest"], size: int
) -> Shaped[Any, "n *rest"]:
    """What each direction counts in the gradient; NaN where all samples are lost."""
    good = xp.isfinite(changes)
    known = xp.where(good, changes, 0)
    if method.combine == "mean":
        counted = known * method.weights(xp, good.astype(changes.dtype), size)
    else:
        kept = xp.all(good.reshape(good.shape[0], -1), axis=1).astype(changes.dtype)
        gram = directions.gram(method.num_samples, changes.dtype) * kept * kept[:, None]
        rtol = float(np.finfo(changes.dtype).eps) * len(kept)
        inverse = xp.linalg.pinv(gram, hermitian=True, rtol=rtol)
        known = known * over(kept, known)
        counted = (inverse @ known.reshape(len(kept), -1)).reshape(known.shape)
    return xp.where(xp.any(good, axis=0), counted, np.nan)


def _summed(place: Any, directions: Any, shares: Sequence[Any]) -> list[Any]:
    """The sum of what directions count; of a complex output both parts."""
    if not any(map(is_complex, shares)):
        return directions.sum(shares)
    parts = [directions.sum([part(s) for s in shares]) for part in (place.xp.real, place.xp.imag)]
    return [place.complex(re, im) for re, im in zip(*parts, strict=True)]


def _standard_errors(xp: Any, weighed: Weighed, shares: Sequence[Any]) -> list[Any]:
    """Standard errors of the mean, from the spread of the samples; NaN where there is no mean."""
    method, directions = weighed.method, weighed.cloud.directions
    random = np.arange(method.num_samples) >= method.fixed
    number = xp.sum(weighed.good & over(random, weighed.good), axis=0)
    shares = [xp.where(over(random, s), s, 0) for s in shares]
    squares, sums = directions.sum([s * s for s in shares], squared=True), directions.sum(shares)
    result = []
    for square, total in zip(squares, sums, strict=True):
        count = over(number, total).astype(total.dtype)
        variance = xp.maximum(count * square - total * total, 0) / xp.maximum(count - 1, 1)
        known = (count > 1) & (method.combine == "mean")
        result.append(xp.where(known, xp.sqrt(variance), np.nan))
    return result


def _unless_unseen(
    xp: Any, weighed: Weighed, shares: Sequence[Any], errors: Sequence[Any]
) -> list[Any]:
    """Infinity in place of the error of entries that no sample has moved."""
    if weighed.method.everywhere:
        return list(errors)
    times = weighed.cloud.directions.sum([weighed.good.astype(s.dtype) for s in shares], True)
    return [xp.where(seen == 0, np.inf, error) for seen, error in zip(times, errors, strict=True)]


def _box(xp: Any, call: Call, parts: Parts, bounds: Any) -> list[tuple[Any, Any]]:
    """Lower and upper bounds of every real leaf."""
    lower, upper = walls_of(call.arguments, bounds)
    return [
        (xp.asarray(lower[owner], dtype=x.dtype), xp.asarray(upper[owner], dtype=x.dtype))
        for x, owner in zip(parts.real, parts.owner, strict=True)
    ]


def _unclipped(xp: Any, cloud: Cloud, found: Sequence[Any]) -> list[Any]:
    """Sums over directions, for entries that clipping has moved less than it should.

    Exact for directions of signs. NaN where ``x`` is outside the box, 0 where that has no width.
    """
    if cloud.box is None:
        return list(found)
    result = []
    for value, x, h, walls in zip(found, cloud.x, cloud.h, cloud.box, strict=True):
        reach = over(h, x)
        span = xp.clip(x + reach, *walls) - xp.clip(x - reach, *walls)
        factor = xp.where(span > 0, 2 * reach / xp.where(span > 0, span, 1), 0)
        factor = xp.where((x < walls[0]) | (x > walls[1]), np.nan, factor)
        lead = len(cloud.lead)
        between = (1,) * (value.ndim - factor.ndim)
        shape = factor.shape[:lead] + between + factor.shape[lead:]
        result.append(value * factor.reshape(shape).astype(value.dtype))
    return result
