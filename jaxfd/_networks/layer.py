"""Marked layers: what users put around them, and programs in which they can be found.

A mark is a name that every transform of JAX leaves in place, so marks are found in the traced
program and no state is kept anywhere: wrapping a layer changes nothing but that. This room must
not know how the values it replaces come about.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, tree_util
from jax.ad_checkpoint import checkpoint_name

from jaxfd._arrays import is_array, register
from jaxfd._jaxpr import evaluate, walk

# The names of a layer's outputs and inputs in a traced program.
_OUTPUT, _INPUT = "jaxfd.layer", "jaxfd.layer.input"
# Calls that are run as if they were written out, so that layers inside are seen.
_ALWAYS_INLINED = ("jit", "pjit", "closed_call")
_INLINED = (*_ALWAYS_INLINED, "checkpoint", "remat", "remat2")
# Operations on real numbers whose derivative is zero for JAX.
_FLAT = ("ceil", "floor", "round", "sign")


@register
@dataclasses.dataclass(frozen=True)
class _Layer:
    """What `layer` returns; a pytree that holds the parameters of what it wraps."""

    fun: Callable[..., Any]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        args, kwargs = _named((args, kwargs), _INPUT)
        return _named(self.fun(*args, **kwargs), _OUTPUT)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)


def _named(tree: Any, name: str) -> Any:
    """The same values; those that have a derivative can be found by the name."""

    def mark(leaf: Any) -> Any:
        differentiable = is_array(leaf) and jnp.issubdtype(jnp.result_type(leaf), np.inexact)
        return checkpoint_name(leaf, name) if differentiable else leaf

    return tree_util.tree_map(mark, tree)


def layer(fun: Callable[..., Any]) -> Callable[..., Any]:
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
    return _Layer(fun)


class Network:
    """A function of one sample as a traced program, and the marked values in it.

    Args:
        fun: the function.
        inputs: its arguments, arrays.
        active: the numbers of those that are differentiated.
        samples: the numbers of those that belong to the sample.
        name: what errors call an argument.

    Attributes:
        out: shape and dtype of the result.

    Raises:
        TypeError: some of the active arguments cannot be reached through marked values.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        inputs: Sequence[Any],
        active: frozenset[int],
        samples: frozenset[int],
        name: Callable[[int], str],
    ) -> None:
        self._closed, self.out = jax.make_jaxpr(fun, return_shape=True)(*inputs)
        # For each marked value whether an active argument has a way to it past all others.
        self._reached: list[bool] = []
        # Arguments are followed by number ``i``, and by ``~i`` as long as JAX sees a slope.
        both = active | {~i for i in active}
        seen: set[int] = set()
        outside: set[int] = set()

        def cut(names: frozenset[int]) -> frozenset[int]:
            self._reached.append(bool(names & active))
            seen.update(names & both)
            return names - both

        def apply(eqn: Any, values: Sequence[frozenset[int]]) -> list[frozenset[int]]:
            names = frozenset().union(*values)
            if eqn.primitive.name == "stop_gradient":
                names -= both
            if _is_named(eqn, _INPUT) and names & samples:
                outside.update(names & active)
            sloped = eqn.primitive.name not in _FLAT
            return [
                names if sloped and _has_slope(var.aval) else frozenset(n for n in names if n >= 0)
                for var in eqn.outvars
            ]

        ids = [frozenset([i, ~i]) for i in range(len(inputs))]
        outside.update(active.intersection(*_walk(self._closed, ids, cut, apply, frozenset())))
        if not self._reached:
            raise TypeError(
                "per_sample found no marked layer in the loss: write jaxfd.layer(fun)(...) where "
                "a layer is called as fun(...)."
            )
        if outside:
            raise TypeError(
                f"per_sample: argument {_listed(outside, name)} meets samples, or the loss, "
                "outside of marked layers: wrap that layer with jaxfd.layer, or add a penalty on "
                "parameters outside of per_sample."
            )
        flat = {i for i in seen if i >= 0 and ~i not in seen}
        if flat:
            raise TypeError(
                f"per_sample: argument {_listed(flat, name)} is rounded or compared inside of its "
                "layer, where JAX sees no slope: move what is done to pre-activations behind the "
                "layer, and let gradients pass a rounding of parameters straight through, as in "
                "w + lax.stop_gradient(jnp.round(w) - w)."
            )

    def _run(self, operands: Sequence[Any], mark: Callable[[Any], Any]) -> Any:
        """The loss, with those marked values replaced that active operands have a way to."""
        reached = iter(self._reached)
        return _walk(self._closed, operands, lambda z: mark(z) if next(reached) else z, evaluate)[0]

    def cut(self, operands: Sequence[Any]) -> tuple[list[Any], Any]:
        """Marked values, differentiable as far as the marked ones before them, and the loss."""
        found = []

        def keep(z: Any) -> Any:
            found.append(z)
            return lax.stop_gradient(z)

        loss = self._run(operands, keep)
        return found, loss

    def moved(self, z: Sequence[Any], at_x: Sequence[Any], operands: Sequence[Any]) -> Any:
        """The loss where marked values are moved from ``at_x`` to ``z``."""
        moves = iter(zip(z, at_x, strict=True))

        def move(value: Any) -> Any:
            new, old = next(moves)
            return value + (new - old)

        return self._run(operands, move)


def _listed(numbers: set[int], name: Callable[[int], str]) -> str:
    more = f" and {len(numbers) - 3} more" if len(numbers) > 3 else ""
    return ", ".join(name(i) for i in sorted(numbers)[:3]) + more


def _has_slope(aval: Any) -> bool:
    return hasattr(aval, "dtype") and bool(jnp.issubdtype(aval.dtype, np.inexact))


def _is_named(eqn: Any, name: str) -> bool:
    return eqn.primitive.name == "name" and eqn.params["name"] == name


def _inner(eqn: Any) -> list[Any]:
    """The programs that an operation runs."""
    values = [v for p in eqn.params.values() for v in (p if isinstance(p, tuple) else (p,))]
    return [v for v in values if hasattr(getattr(v, "jaxpr", v), "eqns")]


def _marks(eqn: Any) -> bool:
    """Whether an operation is a mark, or runs a program with one."""
    if _is_named(eqn, _OUTPUT):
        return True
    return any(_marks(e) for inner in _inner(eqn) for e in getattr(inner, "jaxpr", inner).eqns)


def _walk(
    closed: Any,
    inputs: Sequence[Any],
    mark: Callable[[Any], Any],
    apply: Callable[[Any, Sequence[Any]], Any],
    known: Any = None,
) -> list[Any]:
    """Runs a traced program with marked values replaced.

    Args:
        closed: the program.
        inputs: its arguments: numbers, or whatever ``apply`` knows how to handle.
        mark: makes a marked value's replacement.
        apply: what an operation does.
        known: stands for constants; None takes themselves.
    """
    jaxpr, consts = getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())

    def step(eqn: Any, values: Sequence[Any]) -> Any:
        name, marked = eqn.primitive.name, _marks(eqn)
        if _is_named(eqn, _OUTPUT):
            return [mark(values[0])]
        if name in _ALWAYS_INLINED or (marked and name in _INLINED):
            return _walk(_inner(eqn)[0], values, mark, apply, known)
        if marked:
            raise TypeError(
                f"per_sample: a layer is called inside of {name}, where its values cannot be told "
                "apart: write a loop as a Python loop, and put no layer inside of a function with "
                "a derivative of its own."
            )
        return apply(eqn, values)

    if known is None:
        return walk(jaxpr, consts, inputs, step)
    return walk(jaxpr, [known] * len(consts), inputs, step, lambda value: known)
