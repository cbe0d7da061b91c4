"""Gradients of a batch: differences at pre-activations, and from there to parameters by JAX.

The pre-activations of all samples are perturbed at once, unit by unit, which gives the gradient of
every sample's loss with respect to them; ``jax.vjp`` of the layers does the rest. This room knows
the door `grad` and nothing of points, steps, or how layers are found.
"""

from __future__ import annotations

import dataclasses
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
    fits = _fits(call, operands, value, losses)
    return value, [jnp.where(fits, g, np.nan) for g in gradients], fits


def _fits(call: BatchCall, operands: Sequence[Any], value: Any, losses: Any) -> Any:
    """Whether the loss is the mean of its samples' losses."""
    count = losses.size
    fits = _is_mean(value, losses)

    def of_a_half() -> Any:
        found = []
        for part in np.array_split(np.arange(count), 2):
            rows = np.resize(part, count)
            leaves = [leaf[rows] if i in call.batched else leaf for i, leaf in enumerate(operands)]
            found.append(_is_mean(call.whole(leaves), losses[rows]))
        return found[0] | found[1]

    fits = fits if count < _HALVED else lax.cond(fits, lambda: fits, of_a_half)
    return fits & _keeps_apart(call, operands, count) if count > 1 else fits


def _keeps_apart(call: BatchCall, operands: Sequence[Any], size: int) -> Any:
    """Whether a few samples know nothing of each other where parameters are others.

    While a head or a gain is zero, as many begin, a loss shows nothing of what samples know.
    """
    batched = call.batched
    shared = [i for i, x in enumerate(operands) if i not in batched and is_inexact(jnp.asarray(x))]
    few = {i: operands[i][:_FEW] for i in batched}
    ends = np.cumsum([jnp.size(operands[i]) for i in shared], dtype=int).tolist()
    # The few fill the batch, whose size a loss may know: labels that it closes over.
    rows = np.resize(np.arange(min(_FEW, size)), size)

    def fits(draw: Any) -> Any:
        draws = iter(jnp.split(draw, ends[:-1]))
        moved = [_moved(x, next(draws)) if i in shared else x for i, x in enumerate(operands)]

        def alone(sample: dict[int, Any]) -> Any:
            return call.whole([sample[i][None] if i in sample else x for i, x in enumerate(moved)])

        filled = [few[i][rows] if i in batched else x for i, x in enumerate(moved)]
        return _is_mean(call.whole(filled), jax.vmap(alone)(few)[rows])

    def elsewhere() -> Any:
        # The rounding of a layer hardly ever takes a sample over the edge of a threshold twice.
        # One draw for all parameters: drawing for each is what would take long to compile.
        draws = jax.random.normal(jax.random.key(0), (2, ends[-1]), np.float32)
        return jnp.any(jax.vmap(fits)(draws))

    hiding = [
        jnp.any(jnp.abs(operands[i]) <= jnp.finfo(operands[i].dtype).eps ** 0.5) for i in shared
    ]
    yes = jnp.ones((), bool)
    return lax.cond(jnp.any(jnp.stack(hiding)), elsewhere, lambda: yes) if hiding else yes


def _moved(leaf: Any, draw: Any) -> Any:
    """A parameter elsewhere, by as much as its entries are large; at zero, as layers begin.

    Args:
        leaf: the parameter.
        draw: normal numbers, as many as it has entries.
    """
    leaf = jnp.asarray(leaf)
    if not jnp.issubdtype(leaf.dtype, np.floating):
        return leaf
    wide = leaf if jnp.finfo(leaf.dtype).bits >= 32 else leaf.astype(np.float32)
    size = jnp.sqrt(jnp.mean(wide**2))
    first = np.asarray((*leaf.shape, 1)[0] ** -0.5 if leaf.size else 1, wide.dtype)
    size = jnp.where(size > 0, size, first)
    noise = draw.reshape(leaf.shape).astype(wide.dtype)
    return (wide + size * noise).astype(leaf.dtype)


def _at_once(count: int, values: Sequence[Any]) -> int:
    """How many of so many samples are differenced at once, given the marked values of all."""
    # Bytes of a layer's marked values at all points of a sample.
    sample = max((2 * (v.size // count) ** 2 * v.dtype.itemsize for v in values), default=1)
    return batch_size(count, sample)


def _is_mean(value: Any, losses: Any) -> Any:
    """Whether a loss is the mean of its samples' losses, NaN and half of the digits apart."""
    dtype = promote(losses.dtype, np.float32)
    single, eps = losses.astype(dtype), float(jnp.finfo(losses.dtype).eps)
    bound = eps**0.5 * jnp.mean(jnp.abs(single))
    return ~(jnp.abs(value.astype(dtype) - jnp.mean(single)) > bound)
