"""Structured evaluation: what one moved entry changes, and nothing else.

Where a program moves its argument entry by entry through slices, elementwise operations
and sums, a point differs from ``x`` in a few entries of every intermediate value. These
changes are carried beside the values at ``x``, which are computed once for all points: a
point then costs a few numbers instead of a whole evaluation. What cannot be followed
raises `Unstructured`, and the caller evaluates points as arrays. This room must not know
what the points are for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal
from jaxtyping import Int, Shaped

from jaxfd._dtype import is_inexact, promote
from jaxfd._eqns import called, evaluate
from jaxfd._followed import TRUE, Entry, Followed, Unstructured, entry_of, merge

# Entries of one value that may change at a point before it counts as a whole array.
_MOST = 12

# fmt: off
_ELEMENTWISE = frozenset([
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh",
    "cbrt", "ceil", "clamp", "complex", "conj", "convert_element_type", "copy", "cos", "cosh",
    "digamma", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt",
    "imag", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p", "logistic", "lt", "max",
    "min", "mul", "name", "ne", "neg", "nextafter", "not", "or", "pow", "real", "reduce_precision",
    "rem", "round", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient",
    "sub", "tan", "tanh", "xor",
])
# fmt: on


def _elementwise(eqn: Any, values: Sequence[Followed], base: Any) -> Followed:
    shape = jnp.shape(base)
    for v in values:
        # Operations stretch axes of length one, and scalars: unchanged ones may be read anywhere,
        # but a change would spread.
        own = jnp.shape(v.base)
        stretched = own != shape
        fits = not own or all(a in (1, b) for a, b in zip(own, shape, strict=False))
        if stretched and (v.entries or not fits or (own and len(own) != len(shape))):
            raise Unstructured("operands of several shapes")
    touched = merge([e for v in values for e in v.entries]) if shape else [Entry((), TRUE, None)]
    return Followed(
        base,
        tuple(
            dataclasses.replace(
                entry,
                value=eqn.primitive.bind(*(v.read(entry.index) for v in values), **eqn.params),
            )
            for entry in touched
        ),
    )


def _reduce_sum(value: Followed, axes: Sequence[int], base: Any) -> Followed:
    """The sum at ``x``, and for each sum that changes the difference of its entries."""
    kept = [a for a in range(jnp.ndim(value.base)) if a not in axes]
    dtype = promote(base.dtype, np.float32) if is_inexact(base) else base.dtype
    moved = []
    for k, entry in enumerate(value.entries):
        first = entry.valid
        for earlier in value.entries[:k]:
            first = first & ~earlier.at(entry.index)
        old = entry_of(value.base, entry.index).astype(dtype)
        change = jnp.where(first, entry.value.astype(dtype) - old, 0)
        moved.append((tuple(entry.index[a] for a in kept), entry.valid, change))
    if not kept:
        total = base.astype(dtype)
        for _, _, change in moved:
            total = total + change
        return Followed(base, (Entry((), TRUE, total.astype(base.dtype)),))
    entries = []
    for index, valid, _ in moved:
        total = entry_of(base, index).astype(dtype)
        for other, _, change in moved:
            here = Entry(other, TRUE, None).at(index)
            total = total + jnp.where(here, change, 0)
        entries.append(Entry(index, valid, total.astype(base.dtype)))
    # Sums that are the same hold the same total, so whichever is kept is right.
    return Followed(base, tuple(merge(entries)))


def _dot(eqn: Any, values: Sequence[Followed], base: Any) -> Followed:
    """The inner product of two vectors."""
    a, b = values
    if (
        jnp.ndim(a.base) != 1
        or jnp.ndim(b.base) != 1
        or eqn.params["dimension_numbers"][0]
        != (
            (0,),
            (0,),
        )
    ):
        raise Unstructured("dot_general")
    dtype = base.dtype
    product = Followed(a.base.astype(dtype) * b.base.astype(dtype))
    entries = tuple(
        dataclasses.replace(e, value=a.read(e.index).astype(dtype) * b.read(e.index).astype(dtype))
        for e in merge([*a.entries, *b.entries])
    )
    return _reduce_sum(dataclasses.replace(product, entries=entries), (0,), base)


def _move(eqn: Any, value: Followed, base: Any) -> Followed:
    """Operations that only put entries elsewhere."""
    name, params, shape = eqn.primitive.name, eqn.params, jnp.shape(value.base)
    new_shape = jnp.shape(base)

    def moved(entry: Entry) -> Entry:
        index, valid = entry.index, entry.valid
        if name == "slice":
            strides = params["strides"] or (1,) * len(shape)
            result: list[Any] = []
            for i, start, stop, stride in zip(
                index, params["start_indices"], params["limit_indices"], strides, strict=True
            ):
                if start or stop < shape[len(result)] or stride != 1:
                    valid = valid & (i >= start) & (i < stop) & ((i - start) % stride == 0)
                    i = (i - start) // stride if stride != 1 else i - start if start else i
                result.append(i)
            return dataclasses.replace(entry, index=tuple(result), valid=valid)
        if name == "rev":
            index = tuple(
                shape[a] - 1 - i if a in params["dimensions"] else i for a, i in enumerate(index)
            )
        elif name == "transpose":
            index = tuple(index[a] for a in params["permutation"])
        elif name == "squeeze":
            drop = {a % len(shape) for a in params["dimensions"]}
            index = tuple(i for a, i in enumerate(index) if a not in drop)
        elif name == "broadcast_in_dim":
            where = params["broadcast_dimensions"]
            index = tuple(
                index[where.index(a)] if a in where else jnp.int32(0) for a in range(len(new_shape))
            )
        elif name == "reshape":
            flat = jnp.int32(0)
            for i, size in zip(index, shape, strict=True):
                flat = flat * np.int32(size) + i
            index = tuple(jnp.unravel_index(flat, new_shape)) if new_shape else ()
        return dataclasses.replace(entry, index=index, valid=valid)

    if math.prod(new_shape) > math.prod(shape) or (
        name == "reshape" and params.get("dimensions") is not None
    ):
        raise Unstructured(name)
    return Followed(base, tuple(moved(e) for e in value.entries))


def _concatenate(eqn: Any, values: Sequence[Followed], base: Any) -> Followed:
    axis, start, entries = eqn.params["dimension"], 0, []
    for value in values:
        for entry in value.entries:
            index = list(entry.index)
            index[axis] = index[axis] + np.int32(start)
            entries.append(dataclasses.replace(entry, index=tuple(index)))
        start += value.base.shape[axis]
    return Followed(base, tuple(entries))


def _pad(eqn: Any, values: Sequence[Followed], base: Any) -> Followed:
    value, filler = values
    if filler.entries:
        raise Unstructured("pad")
    entries = []
    for entry in value.entries:
        index, valid = [], entry.valid
        for i, (low, _, inner), size in zip(
            entry.index, eqn.params["padding_config"], base.shape, strict=True
        ):
            i = np.int32(low) + i * np.int32(inner + 1)
            valid = valid & (i >= 0) & (i < size)
            index.append(i)
        entries.append(Entry(tuple(index), valid, entry.value))
    return Followed(base, tuple(entries))


_MOVES = frozenset(["slice", "rev", "transpose", "squeeze", "broadcast_in_dim", "reshape"])


def _follow(
    jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Followed], finite: list[Any]
) -> list[Followed]:
    """Runs a jaxpr on followed values; collects what must be finite for sums to be trusted."""
    env: dict[Any, Followed] = {}

    def read(var: Any) -> Followed:
        return Followed(var.val) if isinstance(var, Literal) else env[var]

    env.update(zip(jaxpr.constvars, (Followed(c) for c in consts), strict=True))
    env.update(zip(jaxpr.invars, inputs, strict=True))
    for eqn in jaxpr.eqns:
        values = [read(v) for v in eqn.invars]
        name = eqn.primitive.name
        if not any(v.entries for v in values):
            results = [Followed(o) for o in evaluate(eqn, [v.base for v in values])]
        elif (inner := called(eqn)) is not None:
            results = _follow(*inner, values, finite)
        else:
            results = [_rule(eqn, name, values, finite)]
        if any(len(r.entries) > _MOST for r in results):
            raise Unstructured("too many changed entries")
        env.update(zip(eqn.outvars, results, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _rule(eqn: Any, name: str, values: Sequence[Followed], finite: list[Any]) -> Followed:
    """What one operation does to changes."""
    summed = name in ("reduce_sum", "dot_general")
    if not (summed or name in _ELEMENTWISE or name in _MOVES or name in ("concatenate", "pad")):
        raise Unstructured(name)
    base = eqn.primitive.bind(*(v.base for v in values), **eqn.params)
    if summed:
        finite.append(jnp.all(jnp.isfinite(base)))
        if name == "dot_general":
            return _dot(eqn, values, base)
        return _reduce_sum(values[0], eqn.params["axes"], base)
    if name in _ELEMENTWISE:
        return _elementwise(eqn, values, base)
    if name == "concatenate":
        return _concatenate(eqn, values, base)
    if name == "pad":
        return _pad(eqn, values, base)
    if any(v.entries for v in values[1:]):
        raise Unstructured(name)
    return _move(eqn, values[0], base)


def outputs(
    closed: Any,
    count: int,
    leaves: Sequence[Any],
    number: int,
    ids: Int[Any, "p"],
    values: Shaped[Any, "p"],
    otherwise: Callable[[], list[Any]],
) -> tuple[list[Shaped[Any, ""]], list[Shaped[Any, "p"]]] | None:
    """Outputs at points that move one entry of one leaf, or None where that is not followed.

    Args:
        closed: the program, a closed jaxpr.
        count: how many of its outputs are wanted, from the first.
        leaves: the arguments at ``x``.
        number: the leaf that is moved.
        ids: which of its entries, shape ``(P,)``.
        values: to which value, shape ``(P,)``.
        otherwise: evaluates the points as arrays. It is taken where a sum at ``x`` is not finite:
            from there on, differences of sums would say nothing.

    Returns:
        The outputs at ``x``, and those at the points, of shape ``(P,)``.
    """
    if closed.effects or any(v.aval.shape != () for v in closed.jaxpr.outvars[:count]):
        return None
    shape = leaves[number].shape

    def one(flat: Any, value: Any) -> tuple[list[Any], list[Any], list[Any]]:
        index = (flat,) if len(shape) == 1 else tuple(jnp.unravel_index(flat, shape))
        inputs = [Followed(leaf) for leaf in leaves]
        inputs[number] = Followed(leaves[number], (Entry(index, TRUE, value),))
        finite: list[Any] = []
        results = _follow(closed.jaxpr, closed.consts, inputs, finite)[:count]
        dtypes = [v.aval.dtype for v in closed.jaxpr.outvars[:count]]
        points = [jnp.asarray(r.read(()), d) for r, d in zip(results, dtypes, strict=True)]
        centre = [jnp.asarray(r.base, d) for r, d in zip(results, dtypes, strict=True)]
        return points, centre, finite

    try:
        points, centre, finite = jax.vmap(one, out_axes=(0, None, None))(ids, values)
    except Unstructured:
        return None
    if finite:
        points = lax.cond(jnp.stack(finite).all(), lambda: points, otherwise)
    return centre, points
