"""The one primitive that runs a part of a program in float64, where JAX has none.

``jax.enable_x64`` around a part of a traced function makes float64 of it, but the operations are
compiled later, where it is off again, and some are not made for that. This primitive holds the part
as a whole: it is batched and compiled with 64 bits at hand, and looks from outside like any
operation. It must not know what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import tree_util
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

double_p: Any = Primitive("jaxfd_double")
double_p.multiple_results = True


def double_call(fun: Callable[[], Any]) -> Any:
    """Runs a function of no arguments that returns a pytree of arrays, with 64 bits at hand.

    What it closes over may be of any dtype; what it returns should be of those that JAX has
    outside.
    A function with effects, such as collectives, is run as it is.
    """
    with jax.enable_x64(True):
        closed, shapes = jax.make_jaxpr(fun, return_shape=True)()
        if closed.effects:
            flat = jaxpr_as_fun(closed)()
            return tree_util.tree_unflatten(tree_util.tree_structure(shapes), flat)
    flat = _bind(closed, ())
    # JAX has no arrays of float0: it makes booleans of them.
    return tree_util.tree_map(_as, tree_util.tree_unflatten(_structure(shapes), flat), shapes)


def _bind(closed: Any, operands: Sequence[Any]) -> list[Any]:
    """Binds the primitive to a program whose constants become operands."""
    jaxpr = closed.jaxpr
    opened = jaxpr.replace(constvars=[], invars=[*jaxpr.constvars, *jaxpr.invars])
    results: list[Any] = double_p.bind(*closed.consts, *operands, program=ClosedJaxpr(opened, []))
    return results


def _structure(tree: Any) -> Any:
    return tree_util.tree_structure(tree)


def _as(value: Any, like: Any) -> Any:
    return np.zeros(like.shape, like.dtype) if like.dtype == jax.dtypes.float0 else value


def _run(*operands: Any, program: Any) -> list[Any]:
    with jax.enable_x64(True):
        return list(jaxpr_as_fun(program)(*operands))


def _abstract(*avals: Any, program: Any) -> Sequence[Any]:
    del avals
    results: Sequence[Any] = program.out_avals
    return results


def _batch(operands: Sequence[Any], axes: Sequence[Any], *, program: Any) -> tuple[Any, Any]:
    mapped = [axis if isinstance(axis, int) else None for axis in axes]
    with jax.enable_x64(True):
        batched = jax.make_jaxpr(jax.vmap(jaxpr_as_fun(program), in_axes=mapped))(*operands)
    results = _bind(batched, operands)
    return results, [0] * len(results)


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, program: Any) -> tuple[Any, Any]:
    moved = [i for i, t in enumerate(tangents) if not isinstance(t, ad.Zero)]

    def along(*some: Any) -> Any:
        values = list(primals)
        for i, value in zip(moved, some, strict=True):
            values[i] = value
        return jaxpr_as_fun(program)(*values)

    with jax.enable_x64(True):
        return jax.jvp(along, [primals[i] for i in moved], [tangents[i] for i in moved])


def _lower(ctx: Any, *operands: Any, program: Any) -> Any:
    rule: Callable[..., Any] = mlir.lower_fun(jaxpr_as_fun(program), multiple_results=True)
    with jax.enable_x64(True):
        return rule(ctx, *operands)


double_p.def_impl(_run)
double_p.def_abstract_eval(_abstract)
batching.primitive_batchers[double_p] = _batch
ad.primitive_jvps[double_p] = _jvp
mlir.register_lowering(double_p, _lower)
