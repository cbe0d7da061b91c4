"""Gradients of a batch: differences at pre-activations, and from there to parameters by JAX.

The pre-activations of all samples are perturbed at once, unit by unit, which gives the gradient of
every sample's loss with respect to them; ``jax.vjp`` of the layers does the rest. This room knows
the door `grad` and nothing of points, steps, or how layers are found.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, tree_util

from jaxfd._arrays import is_inexact, promote
from jaxfd._networks.batch import BatchCall
from jaxfd._places import batch_size
from jaxfd._random import is_random
from jaxfd._transforms import grad

# From so many samples on a loss that is no mean is looked at once more, on either half of them:
# the rounding of a layer takes a sample over the edge of a hard threshold now and then, but hardly
# ever one in each half.
_HALVED = 4
# Samples that are looked at with other parameters.
_FEW = 4
# The part of a loss's spread by which its mean is off at least where samples know of each other.
_SHOWN = 0.01
# The last digits of a loss that rounding may change, in units of its precision.
_ROUNDED = 32


def batch_gradient(
    call: BatchCall, active: tuple[int, ...], *operands: Any
) -> tuple[Any, list[Any], Any]:
    """Differentiates the loss of a batch.

    Args:
        call: the call.
        active: the numbers of the operands that are differentiated.
        operands: the arrays of the arguments, then those of the method.

    Returns:
        The value; the gradients of the active operands, NaN where the loss is no mean; and
        whether it is one, a boolean.
    """
    axes, inputs = list(call.axes), list(operands[: len(call.axes)])
    method = tree_util.tree_unflatten(call.tree, operands)[1]
    chunk_size = call.owner.chunk_size
    value = call.whole(operands)
    network = call.network(active, operands)

    def layers(leaves: list[Any]) -> Any:
        moved = dict(zip(active, leaves, strict=True))
        mixed = [moved.get(i, leaf) for i, leaf in enumerate(inputs)]
        return jax.vmap(network.cut, in_axes=(axes,))(mixed)

    at_x, pull, losses = jax.vjp(layers, [inputs[i] for i in active], has_aux=True)
    random = is_random(method)
    # Directions of its own for every sample: their noise is averaged too.
    keys = jax.random.split(method.key, losses.size) if random else None

    def slope(z: Any, sample: dict[int, Any], key: Any) -> Any:
        own = dataclasses.replace(method, key=key) if random else method
        mixed = [sample.get(i, leaf) for i, leaf in enumerate(inputs)]
        return grad(network.moved, method=own, chunk_size=chunk_size)(z, z, mixed)

    samples = {i: inputs[i] for i in call.batched}
    if chunk_size is None:
        every = (at_x, samples, keys)
        slopes = lax.map(lambda one: slope(*one), every, batch_size=_at_once(losses.size, at_x))
    else:
        slopes = jax.vmap(slope)(at_x, samples, keys)
    (gradients,) = pull([s / losses.size for s in slopes])
    fits = _fits(call, operands, value, losses, network.eps)
    return value, [jnp.where(fits, g, np.nan) for g in gradients], fits


def _fits(call: BatchCall, operands: Sequence[Any], value: Any, losses: Any, eps: float) -> Any:
    """Whether the loss is the mean of its samples' losses, rounded to so much."""
    count = losses.size
    fits = _is_mean(value, losses)

    def of_a_half() -> Any:
        found = []
        # Every other sample: those that a batch ends with are often others, as padding is.
        for part in (np.arange(0, count, 2), np.arange(1, count, 2)):
            rows = np.resize(part, count)
            leaves = [leaf[rows] if i in call.batched else leaf for i, leaf in enumerate(operands)]
            found.append(_is_mean(call.whole(leaves), losses[rows]))
        return found[0] | found[1]

    fits = fits if count < _HALVED else lax.cond(fits, lambda: fits, of_a_half)
    fits &= _is_told(value, losses)
    return fits & _keeps_apart(call, operands, losses, eps) if count > 1 else fits


def _keeps_apart(call: BatchCall, operands: Sequence[Any], losses: Any, eps: float) -> Any:
    """Whether a few samples know nothing of each other where parameters are others.

    While a head, a gain or a branch is small, as many begin, a loss hardly shows what samples know.
    It is looked at where the deviation of the mean could be less than what is allowed.
    """
    batched, size = call.batched, losses.size
    arrays = operands[: len(call.axes)]
    shared = [i for i, x in enumerate(arrays) if i not in batched and is_inexact(jnp.asarray(x))]
    if not shared:
        return jnp.ones((), bool)
    chosen = np.linspace(0, size - 1, min(_FEW, size)).astype(int)
    few = {i: operands[i][chosen] for i in batched}
    ends = np.cumsum([jnp.size(operands[i]) for i in shared], dtype=int).tolist()
    # The few fill the batch, whose size a loss may know: labels that it closes over.
    rows = np.resize(np.arange(len(chosen)), size)

    def evaluated(draw: Any) -> Any:
        draws = iter(jnp.split(draw, ends[:-1]))
        moved = [_moved(x, next(draws)) if i in shared else x for i, x in enumerate(operands)]

        def alone(sample: dict[int, Any]) -> Any:
            return call.whole([sample[i][None] if i in sample else x for i, x in enumerate(moved)])

        filled = [few[i][rows] if i in batched else x for i, x in enumerate(moved)]
        return call.whole(filled), jax.vmap(alone)(few)

    def elsewhere() -> Any:
        # The rounding of a layer hardly ever takes a sample over the edge of a threshold twice.
        # One draw for all parameters: drawing for each is what would take long to compile.
        draws = jax.random.normal(jax.random.key(0), (2, ends[-1]), np.float32)
        values, found = jax.vmap(evaluated)(draws)
        # What is the same for all samples and parameters, an offset say, shows nothing.
        told = eps**0.5 * _spread(found) + _ROUNDED * eps * jnp.mean(jnp.abs(_wide(found)))
        bound = jnp.minimum(told, _bound(found, eps))
        apart = jnp.abs(_wide(values) - jnp.mean(_wide(found)[:, rows], 1))
        return jnp.any(~(apart > bound) & jax.vmap(_is_told)(values, found))

    # What the loss would show of samples behind parameters of this size: a deviation is a square
    # of them at least, as the mean of what is normalised is zero.
    small = jnp.stack([_smallness(operands[i]) for i in shared])
    spread = _spread(losses)
    shown = _SHOWN * spread * jnp.prod(small).astype(spread.dtype) ** 2
    return lax.cond(shown > _bound(losses, eps), lambda: jnp.ones((), bool), elsewhere)


def _smallness(leaf: Any) -> Any:
    """How large a parameter is next to what layers begin with, 1 at most; 0 with an entry at 0."""
    wide = _wide(leaf)
    nothing = jnp.any(jnp.abs(wide) <= jnp.finfo(jnp.asarray(leaf).dtype).eps ** 0.5)
    return jnp.where(nothing, 0, jnp.minimum(_size(wide) / _first(leaf), 1)).astype(np.float32)


def _moved(leaf: Any, draw: Any) -> Any:
    """A parameter elsewhere: as large as it is, but no smaller than layers begin.

    Args:
        leaf: the parameter.
        draw: normal numbers, as many as it has entries.
    """
    leaf = jnp.asarray(leaf)
    wide = _wide(leaf)
    size = _size(wide)
    large = jnp.maximum(size, _first(leaf)).astype(size.dtype)
    noise = (large * draw.reshape(leaf.shape).astype(size.dtype)).astype(wide.dtype)
    moved = (wide + noise) * (large / jnp.hypot(size, large)).astype(wide.dtype)
    if not jnp.iscomplexobj(leaf):
        # A width or a variance stays positive.
        moved = jnp.where(wide == 0, moved, jnp.copysign(moved, wide))
    return moved.astype(leaf.dtype)


def _first(leaf: Any) -> float:
    """The size that the entries of a layer begin with: one over the root of its inputs."""
    shape = jnp.shape(leaf)
    return 1 / math.sqrt(max(*shape[:1], math.prod(shape[:-1]), 1))


def _size(wide: Any) -> Any:
    return jnp.sqrt(jnp.mean(jnp.abs(wide) ** 2)) if wide.size else jnp.ones((), np.float32)


def _spread(losses: Any) -> Any:
    wide = _wide(losses)
    return jnp.mean(jnp.abs(wide - jnp.mean(wide)))


def _wide(leaf: Any) -> Any:
    leaf = jnp.asarray(leaf)
    return leaf.astype(promote(leaf.dtype, np.float32))


def _at_once(count: int, values: Sequence[Any]) -> int:
    """How many of so many samples are differenced at once, given the marked values of all."""
    # Bytes of a layer's marked values at all points of a sample.
    sample = max((2 * (v.size // count) ** 2 * v.dtype.itemsize for v in values), default=1)
    return batch_size(count, sample)


def _is_mean(value: Any, losses: Any) -> Any:
    """Whether a loss is the mean of its samples' losses, NaN and half of the digits apart."""
    bound = _bound(losses, float(jnp.finfo(losses.dtype).eps))
    return ~(jnp.abs(_wide(value) - jnp.mean(_wide(losses))) > bound)


def _is_told(value: Any, losses: Any) -> Any:
    """Whether no sample's loss is NaN or infinite that has a finite share in the mean."""
    return jnp.all(jnp.isfinite(losses)) | ~jnp.isfinite(value)


def _bound(losses: Any, eps: float) -> Any:
    return eps**0.5 * jnp.mean(jnp.abs(_wide(losses)))
