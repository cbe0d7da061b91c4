"""Traced functions in float64, whatever they were traced in.

The function is the widened program; what JAX's own differentiation makes of it is the derivative of
the program as the user wrote it, with the rules that were given for it, widened in turn. This room
must not know which points a function is run at.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxfd._arrays import is_array, is_inexact
from jaxfd._jaxpr.factored import Factored
from jaxfd._jaxpr.trace import TracedFunction, bound, program_of_jaxpr
from jaxfd._jaxpr.widen import cast, wide_dtype, widened


def wider(tree: Any) -> Any:
    """The arrays of a tree in float64 and complex128; others, and what is no array, as they are."""

    def wide(leaf: Any) -> Any:
        if not is_array(leaf):
            return leaf
        array = jnp.asarray(leaf)
        return cast(array, wide_dtype(array.dtype))

    return tree_util.tree_map(wide, tree)


def in_double(program: TracedFunction) -> TracedFunction:
    """A traced function in float64, of leaves in float64, to be run where ``enable_x64`` is on.

    Args:
        program: the function, traced in float32.
    """
    closed = program.closed
    with jax.enable_x64(True):
        wide, eps = widened(closed)
    aux = tree_util.tree_unflatten(program.aux_tree, closed.out_avals[len(program.out) :])
    out = tree_util.tree_unflatten(
        program.out_tree,
        [jax.ShapeDtypeStruct(o.shape, wide_dtype(o.dtype)) for o in program.out],
    )
    found = program_of_jaxpr(bound(wide, closed.consts), out, aux)
    run = _differentiable(closed, wide)

    def call(values: Sequence[Any]) -> list[Any]:
        if any(isinstance(value, Factored) for value in values):
            return found.call(values)
        return list(run(*values, *closed.consts))

    return dataclasses.replace(found, call=call, eps=eps, rounded=True)


def _differentiable(closed: Any, wide: Any) -> Callable[..., Sequence[Any]]:
    """A widened program with the derivative of the program that it was made of."""
    count = len(closed.in_avals)
    as_traced = jax.dtypes.canonicalize_dtype(np.float64) == np.float64
    narrow = [
        *closed.in_avals,
        *(jax.ShapeDtypeStruct(jnp.shape(c), jnp.result_type(c)) for c in closed.consts),
    ]

    @jax.custom_jvp
    def run(*values: Any) -> Sequence[Any]:
        return list(jaxpr_as_fun(wide)(*values))

    @functools.partial(run.defjvp, symbolic_zeros=True)
    def rule(values: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
        moved = [i for i, t in enumerate(tangents) if not isinstance(t, SymbolicZero)]

        def pushed(*arrays: Any) -> list[Any]:
            along, at = arrays[: len(moved)], list(arrays[len(moved) :])

            def original(*some: Any) -> list[Any]:
                for i, value in zip(moved, some, strict=True):
                    at[i] = value
                program = ClosedJaxpr(closed.jaxpr, at[count:])
                return [o for o in jaxpr_as_fun(program)(*at[:count]) if is_inexact(o)]

            images: list[Any] = jax.jvp(original, [at[i] for i in moved], list(along))[1]
            return images

        with jax.enable_x64(as_traced):
            traced = jax.make_jaxpr(pushed)(*(narrow[i] for i in moved), *narrow)
        results = run(*values)
        with jax.enable_x64(True):
            inputs = wider([*(tangents[i] for i in moved), *values])
            found = iter(jaxpr_as_fun(widened(traced)[0])(*inputs, *traced.consts))
        images = [
            next(found) if is_inexact(r) else np.zeros(r.shape, jax.dtypes.float0) for r in results
        ]
        return results, images

    return run
