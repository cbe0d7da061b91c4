"""A program whose batch is cut to pieces: under ``vmap`` only so many members run side by side.

It exists because a program that fills the memory it may take fills it as many times as ``vmap``
has members, and only a batching rule learns how many there are. What a program takes is the
largest value in it; how many of that fit is asked of whoever applies it. This room must not know
what the programs do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax, tree_util
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
from jaxtyping import PyTree

# How many of so many members run side by side, each of so many bytes.
Fits = Callable[[int, int], int]

pieces_p: Any = Primitive("jaxfd_pieces")
pieces_p.multiple_results = True
# Its own operands and results are arrays; what is inside is lowered where the program is written
# out. JAX 0.12 would ask for a rule otherwise wherever there is a custom derivative inside.
pieces_p.is_high = lambda *_, **__: False


def in_pieces(fun: Callable[[], PyTree], fits: Fits, size: Callable[[Any], int]) -> PyTree:
    """Runs a function so that ``vmap`` around it takes no more memory than it may.

    Args:
        fun: a function without arguments; what it closes over is what it is batched along.
        fits: ``(count, bytes)`` to how many of ``count`` members run side by side.
        size: the bytes that a closed jaxpr takes.

    Returns:
        What ``fun`` returns.
    """
    void: list[Any] = []

    def flat() -> list[Any]:
        leaves, tree = tree_util.tree_flatten(fun())
        void.append((tree, [x if x.dtype == jax.dtypes.float0 else None for x in leaves]))
        return [jnp.asarray(x) for x in leaves if x.dtype != jax.dtypes.float0]

    closed = jax.make_jaxpr(flat)()
    tree, kept = void[-1]
    if closed.effects:
        # Effects have an order, and collectives an axis: nothing of that may be cut.
        found = iter(jaxpr_as_fun(closed)())
    else:
        found = iter(
            pieces_p.bind(*closed.consts, jaxpr=closed.jaxpr, fits=fits, bytes=size(closed))
        )
    return tree_util.tree_unflatten(tree, [next(found) if x is None else x for x in kept])


def _apply(*operands: Any, jaxpr: Any, **params: Any) -> list[Any]:
    """Runs the program as if it were written out."""
    del params
    found: list[Any] = jaxpr_as_fun(ClosedJaxpr(jaxpr, operands))()
    return found


def _abstract(*avals: Any, jaxpr: Any, **params: Any) -> list[Any]:
    del avals, params
    return [var.aval for var in jaxpr.outvars]


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Any:
    """The program is written out, so that what is linear in it can be transposed."""
    moved = [
        i
        for i, t in enumerate(tangents)
        if not isinstance(t, ad.Zero) and t.dtype != jax.dtypes.float0
    ]

    def of_moved(*values: Any) -> list[Any]:
        operands = list(primals)
        for i, value in zip(moved, values, strict=True):
            operands[i] = value
        return _apply(*operands, **params)

    return jax.jvp(of_moved, [primals[i] for i in moved], [tangents[i] for i in moved])


def _batch(
    operands: Sequence[Any], axes: Sequence[Any], *, jaxpr: Any, fits: Fits, bytes: int
) -> tuple[list[Any], list[int]]:
    moved = [i for i, axis in enumerate(axes) if isinstance(axis, int)]
    mapped = [jnp.moveaxis(operands[i], axes[i], 0) for i in moved]
    count = mapped[0].shape[0]

    def member(values: Sequence[Any]) -> list[Any]:
        inputs = list(operands)
        for i, value in zip(moved, values, strict=True):
            inputs[i] = value
        found: list[Any] = pieces_p.bind(*inputs, jaxpr=jaxpr, fits=fits, bytes=bytes)
        return found

    def written_out(values: Sequence[Any]) -> list[Any]:
        inputs = list(operands)
        for i, value in zip(moved, values, strict=True):
            inputs[i] = value
        return _apply(*inputs, jaxpr=jaxpr)

    def side_by_side(mapped: Sequence[Any], count: int) -> list[Any]:
        # A program again, of so many times the size: there may be a ``vmap`` around this one.
        results: list[Any] = in_pieces(
            lambda: jax.vmap(written_out)(mapped), fits, lambda _: bytes * count
        )
        return results

    at_once = fits(count, bytes)
    if at_once >= count or any(map(_lies_apart, mapped)):
        return side_by_side(mapped, count), [0] * len(jaxpr.outvars)
    whole = count // at_once * at_once
    results = _one_after_the_other([x[:whole] for x in mapped], at_once, member, side_by_side)
    if whole < count:
        rest = side_by_side([x[whole:] for x in mapped], count - whole)
        results = [jnp.concatenate(pair) for pair in zip(results, rest, strict=True)]
    return results, [0] * len(results)


def _one_after_the_other(
    mapped: Sequence[Any], at_once: int, member: Callable[..., Any], several: Callable[..., Any]
) -> list[Any]:
    """Runs members in pieces of so many."""
    if at_once == 1:
        return list(lax.map(member, list(mapped)))
    # A piece takes members from all over the batch: where devices share it, all of them work.
    strided = [jnp.swapaxes(x.reshape(at_once, -1, *x.shape[1:]), 0, 1) for x in mapped]
    found = lax.map(lambda values: several(values, at_once), strided)
    return [jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]) for x in found]


def _lies_apart(array: Any) -> bool:
    """Whether the type of an array says that devices share its first axis."""
    spec: Any = getattr(getattr(jax.typeof(array), "sharding", None), "spec", None)
    return bool(spec) and spec[0] is not None


pieces_p.def_impl(_apply)
pieces_p.def_abstract_eval(_abstract)
mlir.register_lowering(pieces_p, mlir.lower_fun(_apply, multiple_results=True))
ad.primitive_jvps[pieces_p] = _jvp
batching.primitive_batchers[pieces_p] = _batch
