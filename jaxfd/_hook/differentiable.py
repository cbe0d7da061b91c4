"""The hook: JAX's own transforms, fed by differences.

``jax.grad`` and its kin work on a hooked function because its derivative rule, in
`derivative_rules`, runs a task instead of tracing the function.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import jax.numpy as jnp
import numpy as np
from jax import tree_util

from jaxfd._arrays import PyTree, Static, freeze, has_static
from jaxfd._estimate import Needs, Program, ProgramHolder, Value, check_call, program_of
from jaxfd._hook.derivative_rules import Hook, recompute, value
from jaxfd._methods import Central, Method
from jaxfd._places import Schedule
from jaxfd._system import ShortTracebacks
from jaxfd._transforms import check_method, check_pair, schedule_of

P = ParamSpec("P")
R = TypeVar("R")
MODES = ("reverse", "forward", "recompute")


class Hooked(ProgramHolder):
    """A function whose derivatives are differences; see `differentiable` and `blackbox`."""

    def __init__(
        self,
        program: Program,
        method: Method,
        mode: str,
        nondiff_argnums: Sequence[int] = (),
        schedule: Schedule = Schedule(),
        bounds: tuple[PyTree, PyTree] | None = None,
    ) -> None:
        check_method(method)
        self._bounds = check_pair(bounds)
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(map(repr, MODES))}, got {mode!r}.")
        self.program = program
        self._method = method
        self._mode = mode
        self._nondiff = tuple(nondiff_argnums)
        self._schedule = schedule

    def reads(self) -> tuple[Any, ...]:
        return (*super().reads(), self._method, self._bounds)

    def __reduce__(self) -> Any:
        """By its name where it is a module's own, as functions are; else by what it was made of."""
        name = getattr(self, "__qualname__", "")
        found: Any = sys.modules.get(self.__module__)
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is self:
            return name
        if not self.program.traced:
            raise TypeError(
                f"{name} is a jaxfd.blackbox, which holds executors and files, and is pickled by "
                "its name alone: give it one at the top of a module, or make it where it is used."
            )
        parts = (self._method, self._mode, self._nondiff, self._schedule, self._bounds)
        return _hooked, (getattr(self, "__wrapped__"), *parts)  # noqa: B009

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        fixed_args = set()
        for position in self._nondiff:
            if not -len(args) <= position < len(args):
                raise ValueError(
                    f"nondiff_argnums names argument {position}, but the function was called with "
                    f"{len(args)} positional argument(s)."
                )
            fixed_args.add(position % len(args))
        inexact: list[int] = []
        fixed: set[int] = set()
        number = 0
        frozen = freeze(_marked((args, kwargs)) if self.program.traced else (args, kwargs))
        owners = [p for p, arg in enumerate(frozen[0]) for _ in tree_util.tree_leaves(arg)]
        for i, leaf in enumerate(tree_util.tree_leaves(frozen)):
            if not jnp.issubdtype(jnp.result_type(leaf), np.inexact):
                inexact.append(-1)
                continue
            if i < len(owners) and owners[i] in fixed_args:
                fixed.add(number)
            inexact.append(number)
            number += 1
        with ShortTracebacks():
            return self._call(args, kwargs, frozen, tuple(inexact), frozenset(fixed))

    def _call(
        self, args: Any, kwargs: Any, frozen: Any, inexact: tuple[int, ...], fixed: frozenset[int]
    ) -> Any:
        if self._bounds is not None:
            task, needs = Value("differentiable", everything=True), Needs(bounds=self._bounds)
            check_call(task, args, kwargs, needs)
        operands, tree = tree_util.tree_flatten((*frozen, self._method, self._bounds))
        hook = Hook(
            self.program,
            tree,
            inexact,
            fixed,
            self._mode,
            self._schedule,
            frozen=self.program.traced and has_static(frozen),
        )
        entry = recompute if self._mode == "recompute" else value
        return entry(hook, *operands)


def _marked(tree: Any) -> Any:
    """NumPy's integers and truth values fixed, as Python's are: a program that may traces them."""
    return tree_util.tree_map(
        lambda leaf: Static(leaf) if isinstance(leaf, (np.integer, np.bool_)) else leaf, tree
    )


def differentiable(
    fun: Callable[P, R],
    *,
    method: Method = Central(),
    mode: str = "reverse",
    nondiff_argnums: Sequence[int] = (),
    chunk_size: int | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
) -> Callable[P, R]:
    """Makes ``jax.grad`` and its kin differentiate ``fun`` by differences.

    ``jax.grad``, ``value_and_grad``, ``jvp``, ``jacfwd``, ``jacrev``, ``hessian``, ``vmap``,
    ``jit``, ``scan``, ``linearize`` and ``remat`` work on the result, and so does everything
    built on them. Only arguments that are being differentiated are perturbed.

    Args:
        fun: a function that JAX can call.
        method: stencil and step.
        mode: ``"reverse"`` forms value and Jacobian in one batch (``2n + 1`` evaluations for
            ``Central()``) and contracts with the tangent; ``"forward"`` spends two evaluations
            per tangent, for few tangents and many parameters; ``"recompute"`` stores the input
            only and differences ``<cotangent, fun(x)>`` in the backward pass, for large outputs
            (no ``jvp``, no second derivatives).
        nondiff_argnums: positions that are constants: never perturbed, with zero derivative.
        chunk_size: how many points are evaluated at once; None lets the library choose.
        bounds: a pair ``(lower, upper)`` of numbers, or of pytrees like the argument (like the
            tuple of all, if there are several). No difference leaves the box; where ``x`` itself is
            outside, the value is what ``fun`` returns there, and derivatives are NaN.

    Returns:
        A function with the values of ``fun``.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jax, jax.numpy as jnp, jaxfd
        >>> hard = jaxfd.differentiable(
        ...     lambda x: jnp.mean(x > jnp.linspace(0, 1, 101)),
        ...     method=jaxfd.Central(step=0.1),
        ... )
        >>> print(f"{jax.grad(hard)(0.505):.2f}")
        0.99
    """
    schedule = schedule_of(chunk_size)
    return _hooked(fun, method, mode, nondiff_argnums, schedule, bounds)


def _hooked(fun: Callable[P, R], *options: Any) -> Callable[P, R]:
    """A function that is hooked, with its own name and signature."""
    hooked = Hooked(program_of(fun), *options)
    return cast(Callable[P, R], functools.wraps(fun, updated=())(hooked))
