"""Marks: what users put around the layers of a network.

A mark is a name that every transform of JAX leaves in place, so marks are found in the traced
program and no state is kept anywhere: wrapping a layer changes nothing but that. This room must
not know what marks are for.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jax.ad_checkpoint import checkpoint_name

from jaxfd._arrays import is_array, register

P = ParamSpec("P")
R = TypeVar("R")
# The names of a layer's outputs and inputs in a traced program.
OUTPUT, INPUT = "jaxfd.layer", "jaxfd.layer.input"


@register
@dataclasses.dataclass(frozen=True)
class _Layer:
    """What `layer` returns; a pytree that holds the parameters of what it wraps."""

    fun: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _named((args, kwargs), INPUT)
        return _named(self.fun(*args, **kwargs), OUTPUT)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)


def _named(tree: Any, name: str) -> Any:
    """The same values; those that have a derivative can be found by the name."""

    def mark(leaf: Any) -> Any:
        differentiable = is_array(leaf) and jnp.issubdtype(jnp.result_type(leaf), np.inexact)
        return checkpoint_name(leaf, name) if differentiable else leaf

    return tree_util.tree_map(mark, tree)


def layer(fun: Callable[P, R]) -> Callable[P, R]:
    """Marks a layer for `per_sample`: a function that returns pre-activations.

    Anywhere else, and under all transforms of JAX, the result does what ``fun`` does. Inside the
    loss of `per_sample` its outputs are where differences end and ``jax.vjp`` takes over: whatever
    comes after is evaluated and never differentiated, so activations, thresholds and the loss
    belong outside. What happens to a parameter before (transposing, scaling, a straight-through
    rounding) is differentiated by JAX, up to the layer before.

    Args:
        fun: a function, a bound method or a module (Equinox, Flax), of any arguments. It returns an
            array or a pytree of them; each number of a sample costs as many evaluations as
            ``method`` spends on one entry. A parameter itself may be marked, with
            ``jaxfd.layer(lambda p: p)(p)``.

    Returns:
        A function like ``fun``. If ``fun`` is a pytree, as Equinox modules are, so is the result.

    Raises:
        TypeError: ``fun`` cannot be called.

    Example:
        >>> import jax.numpy as jnp, jaxfd
        >>> def network(params, x):
        ...     w1, w2 = params
        ...     hidden = jaxfd.layer(jnp.matmul)(x, w1)
        ...     return jaxfd.layer(jnp.matmul)(jnp.sign(hidden), w2)
        >>> print(network((jnp.ones((3, 2)), jnp.ones((2, 1))), jnp.ones((1, 3))))
        [[2.]]
    """
    if not callable(fun):
        raise TypeError(f"layer needs a function, got {type(fun).__name__}: wrap what makes it.")
    return cast(Callable[P, R], _Layer(fun))


def is_marked(eqn: Any, name: str) -> bool:
    """Whether an operation of a traced program is a mark of this name, `OUTPUT` or `INPUT`."""
    return bool(eqn.primitive.name == "name" and eqn.params["name"] == name)
