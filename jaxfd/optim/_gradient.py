"""The estimated gradient as an optax transformation: the first link of a chain.

It exists so that everything optax can do with a gradient, it can do with an estimated one: the
gradient that comes in is ignored, and an estimate goes out. It must not know who comes after it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Shaped

from jaxfd._arrays import PyTree
from jaxfd._methods import Method
from jaxfd._random import RandomDirections, is_random
from jaxfd._transforms import check_method, counted, grad, schedule_of
from jaxfd.optim._objective import ObjectiveCache, accepted, check_loss, is_masked, unmasked
from jaxfd.optim._state import add, key_bits, key_of, value_dtype

MethodSchedule = Callable[[Any], Method]


class EstimateState(NamedTuple):
    """The state of `estimate_gradient`: arrays only, so it can be pickled and saved by orbax.

    Attributes:
        count: updates so far.
        skipped: updates in which an entry of the gradient was not finite.
        evaluations: evaluations so far; it stays at the largest int32 when that is reached.
        value: the function's value at the last parameters; NaN before the first update.
        key: the bits of the key that the next update splits; None for a method without one.
        carried: what else a random method takes from one update to the next, such as the subspace
            of `jaxfd.Guided`.
    """

    count: Int[Array, ""]  # type: ignore[assignment]
    skipped: Int[Array, ""]
    evaluations: Int[Array, ""]
    value: Float[Array, ""]
    key: Any
    carried: tuple[Any, ...]


def estimate_gradient(
    method: Method | MethodSchedule,
    *,
    bounds: tuple[PyTree, PyTree] | None = None,
    value: bool = False,
    chunk_size: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Replaces the incoming gradient by an estimate, made by evaluating the function.

    Put it first in ``optax.chain``, and hand the function to ``update`` as optax's line searches
    want it: ``value_fn=``. It is called with the parameters, and with those of the other extra
    arguments of ``update`` that its signature names (a batch of data, say), or with all but
    ``value`` and ``grad`` if it takes ``**kwargs``; as everywhere in optax, others are ignored.
    Works under ``jit``, ``scan`` and ``vmap``, and inside of every wrapper that optax has.

    A random method gets a new key at every update: the state holds one and splits it. The subspace
    of `jaxfd.Guided` follows the last gradients, unless ``method`` is a function; where none is
    given it begins as zeros, half as many as samples. Entries of the gradient that are not finite
    become zero, and the update is counted in ``skipped``: parameters are never poisoned.

    Under ``optax.masked`` and ``optax.multi_transform`` only some of the parameters arrive here.
    Hand all of them to ``update`` as ``full_params=`` too: the function gets its missing ones from
    there, and only ours are perturbed.

    Args:
        method: how to estimate, or a function of the number of updates so far, an int32 scalar,
            that returns it: ``lambda count: jaxfd.Central(step=0.1 / (count + 1))``. The key is
            taken from its first method.
        bounds: as for `jaxfd.grad`: a box outside of which nothing is evaluated. The parameters
            must be in it.
        value: whether the state shall know the value for random methods too whose points come in
            pairs, for one evaluation more. It is NaN otherwise.
        chunk_size: as for `jaxfd.grad`.

    Returns:
        A transformation whose state is an `EstimateState`. Its gradients have the shapes and dtypes
        of the parameters.

    Raises:
        TypeError: ``method`` is neither; parameters are integers; at the update, ``value_fn`` is
            missing, or returns something else than one number.
        ValueError: at the update, ``params`` or ``full_params`` are missing.

    Example:
        >>> import jax.numpy as jnp, jaxfd, optax
        >>> def loss(x):
        ...     return jnp.sum(jnp.floor(8 * x) ** 2)
        >>> method = jaxfd.Central(step=0.25)
        >>> optimizer = optax.chain(jaxfd.optim.estimate_gradient(method), optax.sgd(1e-3))
        >>> x = jnp.array([1.0, -2.0])
        >>> state = optimizer.init(x)
        >>> for _ in range(60):
        ...     updates, state = optimizer.update(x, state, x, value_fn=loss)
        ...     x = optax.apply_updates(x, updates)
        >>> print(bool(loss(x) < 2), state[0].evaluations)
        True 300

    Reference:
        The interface: optax, ``optax.scale_by_backtracking_linesearch``.
    """
    if not callable(method) or isinstance(method, type):
        check_method(_started(method, jnp.zeros(1)))

    schedule_of(chunk_size)
    options: dict[str, Any] = {"bounds": bounds, "chunk_size": chunk_size}
    objective = ObjectiveCache()

    def at(count: Any) -> Method:
        if isinstance(method, Method):
            return method
        found = method(count)
        check_method(found)
        return found

    def init(params: PyTree) -> EstimateState:
        zero = jnp.zeros((), jnp.int32)
        unknown = jnp.full((), jnp.nan, value_dtype("estimate_gradient", params))
        first = at(zero)
        if not is_random(first):
            return EstimateState(zero, zero, zero, unknown, None, ())
        follows = first is method
        first = _started(first, params) if follows else first
        first.check()
        carried = _carried(first) if follows else ()
        return EstimateState(zero, zero, zero, unknown, key_bits(first.key), carried)

    def update(
        updates: PyTree,
        state: EstimateState,
        params: PyTree | None = None,
        *,
        value_fn: Callable[..., Any] | None = None,
        full_params: PyTree | None = None,
        **extra: Any,
    ) -> tuple[PyTree, EstimateState]:
        del updates
        if value_fn is None:
            raise TypeError(
                "estimate_gradient needs the function whose gradient it estimates: write "
                "optimizer.update(grads, state, params, value_fn=loss)."
            )
        if params is None:
            raise ValueError(
                "estimate_gradient needs the parameters: write optimizer.update(grads, state, "
                "params, value_fn=loss)."
            )
        masked = any(map(is_masked, jax.tree.leaves(params, is_leaf=is_masked)))
        if masked and full_params is None:
            raise ValueError(
                "estimate_gradient got masked parameters, with which the function cannot be "
                "called: write optimizer.update(grads, state, params, value_fn=loss, "
                "full_params=params)."
            )
        fun = objective(value_fn, masked)
        args, named = (params, full_params) if masked else (params,), accepted(value_fn, extra)
        now = at(state.count)
        key, carried = state.key, state.carried
        if is_random(now):
            pair = jax.random.split(key_of(key, now.key))
            now = _resumed(_started(now, params) if carried else now, pair[1], carried)
            key = key_bits(pair[0])
        try:
            if is_random(now) and now.antithetic and not value:
                cost: Any = 2 * now.num_samples
                raw, seen = grad(fun, method=now, **options)(*args, **named), jnp.nan
            else:
                found = counted(fun, now, **options)(*args, **named)
                raw, seen, cost = found.derivative, found.value, found.evaluations
        except TypeError:
            whole = unmasked(value_fn) if masked else value_fn
            check_loss("estimate_gradient", functools.partial(whole, **named), *args)
            raise
        gradient, finite = _finite_entries(raw)
        if carried and is_random(now):
            carried = _carried(now.following(None, gradient))
        return gradient, EstimateState(
            optax.safe_increment(state.count),
            state.skipped + jnp.where(finite, 0, 1).astype(jnp.int32),
            add(state.evaluations, cost),
            jnp.asarray(seen).astype(state.value.dtype),
            key,
            carried,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _started(method: Any, params: PyTree) -> Any:
    """A method that has all the numbers that it follows gradients with."""
    return method.started(params) if is_random(method) else method


def _carried(method: RandomDirections) -> tuple[Any, ...]:
    """The numbers of a random method, all but its key."""
    keyless = dataclasses.replace(method, key=None)
    return tuple(jnp.asarray(leaf) for leaf in jax.tree.leaves(keyless))


def _resumed(method: RandomDirections, key: Any, carried: tuple[Any, ...]) -> RandomDirections:
    """A method with another key, and with other numbers where there are some."""
    keyless = dataclasses.replace(method, key=None)
    if carried:
        keyless = jax.tree.unflatten(jax.tree.structure(keyless), carried)
    return dataclasses.replace(keyless, key=key)


def _finite_entries(gradient: PyTree) -> tuple[PyTree, Shaped[Array, ""]]:
    """A gradient with zeros where it is not finite, and whether it is finite everywhere."""
    finite = jnp.array(True)
    for leaf in jax.tree.leaves(gradient):
        finite &= jnp.all(jnp.isfinite(leaf))
    return jax.tree.map(
        lambda g: jnp.where(jnp.isfinite(g), g, jnp.zeros_like(g)), gradient
    ), finite
