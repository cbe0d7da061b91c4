"""The one primitive that runs a part of a program in float64, where JAX has none.

``jax.enable_x64`` around a part of a traced function makes float64 of it, but the operations are
compiled later, where it is off again, and some are not made for that. This primitive holds the part
as a whole: it is batched and compiled with 64 bits at hand, and looks from outside like any
operation. It must not know what is computed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import tree_util
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from jaxfd._arrays import is_inexact
from jaxfd._primitives.linear import LinearMap, apply_linear

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
    result = tree_util.tree_unflatten(tree_util.tree_structure(shapes), flat)
    return tree_util.tree_map(_as, result, shapes)


def _bind(closed: Any, operands: Sequence[Any]) -> list[Any]:
    """Binds the primitive to a program whose constants become operands."""
    jaxpr = closed.jaxpr
    opened = jaxpr.replace(constvars=[], invars=[*jaxpr.constvars, *jaxpr.invars])
    results: list[Any] = double_p.bind(*closed.consts, *operands, program=ClosedJaxpr(opened, []))
    return results


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


@dataclasses.dataclass(frozen=True, eq=False)
class _Linearised(LinearMap):
    """The derivative of a program at a point that is given by what it needs of there."""

    jaxpr: Any

    def apply(self, operands: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        images: list[Any] = double_call(lambda: self._map(operands, tangents))
        return images

    def transpose(self, operands: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        def pull() -> Any:
            like = [v.aval for v in self.jaxpr.invars]
            transposed = jax.linear_transpose(lambda *t: self._map(operands, t), *like)
            return list(transposed(list(cotangents)))

        images: list[Any] = double_call(pull)
        return images

    def refuse(self) -> None:
        raise TypeError(
            "JAX asked for the second derivative of a finished estimate of a function with a black "
            "box inside, which there is not with JAX in float32: enable x64, or estimate the "
            "outer derivative too, with jaxfd.grad."
        )

    def _map(self, operands: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        return list(jaxpr_as_fun(ClosedJaxpr(self.jaxpr, list(operands)))(*tangents))


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, program: Any) -> tuple[Any, Any]:
    moved = [i for i, t in enumerate(tangents) if not isinstance(t, ad.Zero)]
    found: list[Any] = []

    def along(*some: Any) -> list[Any]:
        values = list(primals)
        for i, value in zip(moved, some, strict=True):
            values[i] = value
        return list(jaxpr_as_fun(program)(*values))

    def split() -> Any:
        at = [primals[i] for i in moved]
        results, push = jax.linearize(along, *at)
        closed = jax.make_jaxpr(lambda *t: [i for i in push(*t) if is_inexact(i)])(*at)
        found.append(closed.jaxpr)
        return results, closed.consts

    results, needed = double_call(split)
    like = [r for r in results if is_inexact(r)]
    images = iter(apply_linear(_Linearised(found[0]), needed, [tangents[i] for i in moved], like))
    return results, [
        next(images) if is_inexact(r) else np.zeros(r.shape, jax.dtypes.float0) for r in results
    ]


def _lower(ctx: Any, *operands: Any, program: Any) -> Any:
    rule: Callable[..., Any] = mlir.lower_fun(jaxpr_as_fun(program), multiple_results=True)
    with jax.enable_x64(True):
        return rule(ctx, *operands)


# Whatever of JAX's own is in the program is lowered with it.
double_p.is_high = lambda *avals, **params: False
double_p.def_impl(_run)
double_p.def_abstract_eval(_abstract)
batching.primitive_batchers[double_p] = _batch
ad.primitive_jvps[double_p] = _jvp
mlir.register_lowering(double_p, _lower)
