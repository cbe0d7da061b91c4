"""Networks: the loss of one sample as a traced program in which marked layers can be found.

Says which arguments are reached through marked values, and runs the program with those values
replaced. This room must not know how the values that it puts there come about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxfd._jaxpr import evaluate, every_eqn, subprograms, walk
from jaxfd._networks.layer import INPUT, OUTPUT, is_marked

# Calls that are always run as if they were written out.
_WRITTEN_OUT = ("jit", "pjit", "closed_call")
# Those that are so only where a layer is inside: elsewhere they keep memory small.
_RUN_AGAIN = ("checkpoint", "remat", "remat2")
# Operations on real numbers whose derivative is zero for JAX.
_FLAT = ("ceil", "floor", "round", "sign")


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
        eps: the relative spacing of the coarsest floats that the program computes with.

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
        values = [var.aval for eqn in every_eqn(self._closed) for var in eqn.outvars]
        self.eps = max(float(jnp.finfo(v.dtype).eps) for v in (self.out, *values) if _has_slope(v))
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
            if is_marked(eqn, INPUT) and names & samples:
                outside.update(names & active)
            sloped = eqn.primitive.name not in _FLAT
            return [
                names if sloped and _has_slope(var.aval) else frozenset(n for n in names if n >= 0)
                for var in eqn.outvars
            ]

        ids = [frozenset([i, ~i]) for i in range(len(inputs))]
        outside.update(
            active.intersection(*_walk(self._closed, ids, cut, apply, lambda value: frozenset()))
        )
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


def _holds_mark(eqn: Any) -> bool:
    """Whether an operation is the mark of an output, or runs a program with one."""
    inside = (e for program in subprograms(eqn) for e in every_eqn(program))
    return any(is_marked(e, OUTPUT) for e in (eqn, *inside))


def _walk(
    closed: Any,
    inputs: Sequence[Any],
    mark: Callable[[Any], Any],
    apply: Callable[[Any, list[Any]], list[Any]],
    constant: Callable[[Any], Any] = lambda value: value,
) -> list[Any]:
    """Runs a traced program with marked values replaced.

    Args:
        closed: the program.
        inputs: its arguments: numbers, or whatever ``apply`` knows how to handle.
        mark: makes a marked value's replacement.
        apply: what an operation does.
        constant: what stands for a constant.
    """

    def enter(eqn: Any, operands: Sequence[Any]) -> bool:
        del operands
        name = eqn.primitive.name
        return name in _WRITTEN_OUT or (name in _RUN_AGAIN and _holds_mark(eqn))

    def step(eqn: Any, operands: list[Any]) -> list[Any]:
        if is_marked(eqn, OUTPUT):
            return [mark(operands[0])]
        if _holds_mark(eqn):
            raise TypeError(
                f"per_sample: a layer is called inside of {eqn.primitive.name}, where its values "
                "cannot be told apart: write a loop as a Python loop, and put no layer inside of a "
                "function with a derivative of its own."
            )
        return apply(eqn, operands)

    return walk(closed.jaxpr, closed.consts, inputs, step, constant, enter)
