"""First derivatives along random directions.

Points are evaluated, their values weighed, and the directions added up: each made once for a
point and once more for the sum.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, PyTree, Shaped

from jaxfd._arrays import is_complex, over, own_arithmetic, unknown
from jaxfd._estimate.distances import distances_of, has_room
from jaxfd._estimate.estimator import Wish, derivatives, for_host
from jaxfd._estimate.fixed import along_coordinates
from jaxfd._estimate.found import Derivatives
from jaxfd._estimate.task import Call, Task, float0
from jaxfd._methods import Method, StencilMethod
from jaxfd._places import Place
from jaxfd._points import Cloud
from jaxfd._random import RandomDirections, TabledDirections, differences, shaped


@dataclasses.dataclass(frozen=True)
class Sample:
    """What random points have told, before directions are added up.

    Attributes:
        family: the method.
        cloud: the points, with their directions.
        centre: the outputs at ``x``; None where not wanted.
        values: the first output at all points, shape ``(K, N, *lead, *out)``.
        shares: for each output and each real leaf what every direction counts, shape
            ``(N, *lead, *out)``.
        good: for each output which samples there are, shape ``(N, *lead, *out)``.
    """

    family: RandomDirections
    cloud: Cloud
    centre: list[Any] | None
    values: Shaped[Any, "k n *rest"]
    shares: list[list[Any]]
    good: list[Bool[Any, "n *rest"]]

    def mean(self, xp: Any) -> Any:
        """The mean of the first output over the points where it is finite, else NaN."""
        flat = self.values.reshape(-1, *self.values.shape[2:])
        good = xp.isfinite(flat)
        count = xp.sum(good, axis=0).astype(flat.dtype)
        total = xp.sum(xp.where(good, flat, 0), axis=0)
        return total / xp.where(count > 0, count, np.nan)


@for_host.register
def _(method: RandomDirections, task: Task, args: Any, kwargs: Any) -> Method:
    """A random method as the host gets it: without its key, and with directions drawn."""
    keyless = dataclasses.replace(method, key=None)
    if not task.sampled:
        return keyless
    leaves = [jnp.asarray(leaf) for leaf in task.bind(args, kwargs).leaves]
    like = task.split(leaves, method).real
    method.check_size(sum(x.size for x in like))
    return TabledDirections(
        keyless, _draw(method, tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in like))
    )


@functools.partial(jax.jit, static_argnums=1)
def _draw(method: RandomDirections, like: tuple[jax.ShapeDtypeStruct, ...]) -> list[Any]:
    with own_arithmetic():
        return method.directions(like).arrays(method.num_samples)


def weigh(place: Place, call: Call, wanted: bool = False, apart: bool = True) -> Sample:
    """Evaluates random points and weighs their values.

    Args:
        place: where the points are evaluated.
        call: the call, with a random method.
        wanted: whether the outputs at ``x`` are wanted.
        apart: whether an entry may go farther than the others of its leaf; sums over directions
            are then of entries that all go equally far, see `_unclipped`.
    """
    xp, axis, real = place.xp, len(place.lead), call.parts.real
    method: Any = call.method
    family: RandomDirections = method.family
    directions = method.directions(real).held(family.num_samples)
    size = sum(math.prod(x.shape[axis:]) for x in real)
    family.check_size(size)
    h, stretch = distances_of(place, call, family, apart)
    compared = not family.antithetic and family.baseline == "centre"
    cloud = Cloud(
        directions,
        real,
        place.lead,
        h,
        signs=(1, -1) if family.antithetic else (1,),
        count=family.num_samples,
        boxes=call.boxes,
        stretch=stretch,
    )
    centre, outputs = place.scatter(cloud, wanted or compared)
    # Samples before the batch of calls: (K, N, *lead, *out).
    values = [
        xp.moveaxis(o.astype(place.compute_dtype(o.dtype, h[0].dtype)), axis + 1, 1)
        for o in outputs
    ]
    shares, good = [], []
    for number, value in enumerate(values):
        base = centre[number].astype(value.dtype) if compared and centre is not None else None
        if family.shaping and is_complex(value):
            raise TypeError(
                f"{type(family).__name__}: shaping needs real outputs, got {value.dtype}: leave "
                "shaping out, or take the real and imaginary parts one by one."
            )
        changes = differences(xp, *shaped(xp, family.shaping, value, base))
        good.append(xp.isfinite(changes))
        counted = _counted(xp, family, directions, changes, size)
        shares.append([counted / over(d.astype(value.dtype), counted[0]) for d in h])
    return Sample(family, cloud, centre, values[0], shares, good)


@derivatives.register(RandomDirections)
@derivatives.register(TabledDirections)
def along_directions(method: StencilMethod, place: Place, call: Call, wish: Wish) -> Derivatives:
    """Estimates derivatives by random points; see `derivatives`."""
    real = call.parts.real
    if wish.order is not None or not any(x.size for x in real):
        return along_coordinates(method, place, call, wish)
    found = weigh(place, call, wish.centre)
    xp, cloud, shares = place.xp, found.cloud, found.shares
    sums = [_unclipped(cloud, _summed(place, cloud.directions, each)) for each in shares]
    errors = None
    if wish.error:
        errors = [
            _unless_unseen(
                xp, found, good, each, _unclipped(cloud, _standard_errors(xp, found, good, each))
            )
            for good, each in zip(found.good, shares, strict=True)
        ]
    evaluations = cloud.count * len(cloud.signs) + 1
    return Derivatives(
        centre=found.centre,
        rows=[
            [value.astype(each[0].dtype) for value in leaves]
            for each, leaves in zip(shares, sums, strict=True)
        ],
        errors=errors,
        step=[xp.broadcast_to(d, x.shape) for d, x in zip(cloud.reaches(), real, strict=True)],
        one_sided=[xp.zeros(x.shape, bool) for x in real],
        evaluations=xp.full(place.lead, evaluations, np.int32),
    )


class MovedArgument(NamedTuple):
    """What a step in place returns; a pytree.

    Attributes:
        argument: the argument after the step.
        lost: whether any sample was not finite, shape ``(*lead,)``.
        value: the mean of the function at the points, shape ``(*lead,)``.
    """

    argument: PyTree
    lost: Bool[Any, "*lead"]
    value: Shaped[Any, "*lead"]


@dataclasses.dataclass(frozen=True)
class StepInPlace(Task):
    """Moves the argument by minus ``rate`` times its gradient, which is never formed.

    Directions are added to the parameters themselves, one after the other; nothing is moved where
    no sample is finite. Returns `MovedArgument`.
    """

    @property
    def sampled(self) -> bool:
        return True

    def run(self, place: Place, call: Call) -> MovedArgument:
        self.check_output(call, scalar=True)
        xp, rate = place.xp, call.needs.rate
        assert rate is not None
        found = weigh(place, call, apart=False)
        shares = found.shares[0]
        known = [xp.isfinite(share) for share in shares]
        values = found.values.reshape(-1, *found.values.shape[2:])
        moves = [
            xp.where(good, -rate.astype(share.dtype) * share, 0)
            for good, share in zip(known, shares, strict=True)
        ]
        moved = found.cloud.directions.sum(moves, onto=call.parts.real)
        leaves = call.parts.join(place.complex, moved)
        return MovedArgument(
            call.arguments.restore(leaves, float0),
            ~(xp.all(xp.isfinite(values), axis=0) & xp.all(known[0], axis=0)),
            found.mean(xp),
        )


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
    # A sum that weights are made of as well.
    number = xp.sum(good.astype(changes.dtype), axis=0)
    return xp.where(xp.real(number) > 0, counted, np.nan)


def _summed(place: Place, directions: Any, shares: Sequence[Any]) -> list[Any]:
    """The sum of what directions count; of a complex output both parts."""
    if not any(map(is_complex, shares)):
        return list(directions.sum(shares))
    parts = [directions.sum([part(s) for s in shares]) for part in (place.xp.real, place.xp.imag)]
    return [place.complex(re, im) for re, im in zip(*parts, strict=True)]


def _standard_errors(xp: Any, found: Sample, good: Any, shares: Sequence[Any]) -> list[Any]:
    """Standard errors of the mean, from the spread of the samples; NaN where there is no mean."""
    method, directions = found.family, found.cloud.directions
    random = np.arange(method.num_samples) >= method.fixed
    number = xp.sum(good & over(random, good), axis=0)
    shares = [xp.where(over(random, s), s, 0) for s in shares]
    squares, sums = directions.sum([s * s for s in shares], squared=True), directions.sum(shares)
    result = []
    for square, total in zip(squares, sums, strict=True):
        count = over(number, total).astype(total.dtype)
        variance = xp.maximum(count * square - total * total, 0) / xp.maximum(count - 1, 1)
        known = (count > 1) & (method.combine == "mean")
        result.append(xp.where(known, xp.sqrt(variance), unknown()))
    return result


def _unless_unseen(
    xp: Any, found: Sample, good: Any, shares: Sequence[Any], errors: Sequence[Any]
) -> list[Any]:
    """Infinity in place of the error of entries that no sample has moved."""
    if found.family.everywhere:
        return list(errors)
    times = found.cloud.directions.sum([good.astype(s.dtype) for s in shares], True)
    return [xp.where(seen == 0, np.inf, error) for seen, error in zip(times, errors, strict=True)]


def _unclipped(cloud: Cloud, found: Sequence[Any]) -> list[Any]:
    """Sums over directions, for entries that were not moved by as much as they should.

    Clipping cuts their way short, and rounding where all entries move equally far: other directions
    are rounded up as often as down. Exact for directions of signs. And for those that went farther
    than the others.
    """
    result = []
    stretches = cloud.stretch or [None] * len(cloud.x)
    every = zip(found, cloud.x, cloud.reaches(), stretches, strict=True)
    for number, (value, x, reach, times) in enumerate(every):
        factor: Any = None
        if cloud.boxes is not None:
            factor = cloud.boxes[number].unclipped(reach)
        elif cloud.directions.even and has_room(x):
            # A large leaf has no room for another one beside it, and is rounded little.
            factor = 2 * reach / ((x + reach) - (x - reach))
        if times is not None:
            factor = 1 / times if factor is None else factor / times
        if factor is None:
            result.append(value)
            continue
        lead = len(cloud.lead)
        between = (1,) * (value.ndim - factor.ndim)
        shape = factor.shape[:lead] + between + factor.shape[lead:]
        result.append(value * factor.reshape(shape).astype(value.dtype))
    return result
