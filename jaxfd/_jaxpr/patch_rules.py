"""What an operation makes of the parts of its operands that a point changes.

Sums and products are those at ``x`` plus what the changes add. This room must not know the
program that an operation stands in.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxfd._arrays import is_inexact, promote
from jaxfd._jaxpr.patch import TRUE, Followed, Index, Patch, Unstructured, merge, part_of

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


def _elementwise(eqn: Any, values: Sequence[Followed], base: Any) -> list[Patch]:
    shape = jnp.shape(base)
    patches = []
    for v in values:
        if v.shape and len(v.shape) != len(shape):
            raise Unstructured("operands of several ranks")
        # Scalars are stretched, and axes of length one.
        own = v.shape or (None,) * len(shape)
        for patch in v.patches:
            old = patch.index if v.shape else own
            index = tuple(i if a == b else None for i, a, b in zip(old, own, shape, strict=True))
            patches.append(dataclasses.replace(patch, index=index))

    def read(v: Followed, index: Index) -> Any:
        own = zip(index, v.shape or shape, shape, strict=True)
        return v.read(tuple(i if i is None or a == b else np.int32(0) for i, a, b in own))

    return [
        dataclasses.replace(
            patch, value=eqn.primitive.bind(*(read(v, patch.index) for v in values), **eqn.params)
        )
        for patch in merge(patches)
    ]


def _changes(value: Followed, dtype: Any) -> list[tuple[Patch, Any]]:
    """The patches of a value, and by how much each differs from ``x``; no part counts twice."""
    if len({patch.kind for patch in value.patches}) > 1:
        raise Unstructured("parts that overlap")
    changes = []
    for k, patch in enumerate(value.patches):
        first = patch.valid
        for earlier in value.patches[:k]:
            first = first & ~earlier.at(patch.index)
        old = part_of(value.base, patch.index).astype(dtype)
        changes.append((patch, jnp.where(first, patch.value.astype(dtype) - old, 0)))
    return changes


def _added(base: Any, found: Sequence[tuple[Index, Any, Any]]) -> list[Patch]:
    """Parts of a value with changes added.

    Args:
        base: the value at ``x``.
        found: parts of one kind: where, whether at all, and the change.
    """
    patches = []
    for index, valid, change in found:
        total = part_of(base, index).astype(change.dtype)
        for other, _, more in found:
            here = Patch(other, TRUE, None).at(index)
            total = total + (more if here is TRUE else jnp.where(here, more, 0))
        patches.append(Patch(index, valid, total.astype(base.dtype)))
    # Parts that are the same hold the same total, so whichever is kept is right.
    return merge(patches)


def _summed_dtype(base: Any) -> Any:
    return promote(base.dtype, np.float32) if is_inexact(base) else base.dtype


def _reduce_sum(eqn: Any, values: Sequence[Followed], base: Any) -> list[Patch]:
    """The sum at ``x``, and for each sum that changes the difference of its parts."""
    (value,), reduced = values, eqn.params["axes"]
    found = []
    for patch, change in _changes(value, _summed_dtype(base)):
        own = [k for k, a in enumerate(patch.axes) if a in reduced]
        index = tuple(i for a, i in enumerate(patch.index) if a not in reduced)
        valid = patch.valid if index else TRUE
        found.append((index, valid, jnp.sum(change, axis=tuple(own), dtype=change.dtype)))
    return _added(base, found)


_ALGORITHMS = (lax.DotAlgorithm, lax.DotAlgorithmPreset)


def _products(
    eqn: Any, first: bool, moved: Followed, other: Callable[[Index], Any], base: Any
) -> list[tuple[Index, Any, Any]]:
    """What the changes of one operand add to a product of arrays.

    Args:
        eqn: the product.
        first: whether it is the first operand.
        moved: the operand.
        other: parts of the other one.
        base: the product at ``x``.
    """
    (summed, summed_other), (batch, batch_other) = (
        pair if first else pair[::-1] for pair in eqn.params["dimension_numbers"]
    )
    free = [a for a in range(len(moved.shape)) if a not in (*summed, *batch)]
    rank = len(eqn.invars[1 if first else 0].aval.shape)
    dtype = _summed_dtype(base)
    found = []
    for patch, change in _changes(moved, dtype):
        index: list[Any] = [None] * rank
        for mine, theirs in zip((*summed, *batch), (*summed_other, *batch_other), strict=True):
            index[theirs] = patch.index[mine]
        mine = change, _left(summed, patch.index), _left(batch, patch.index)
        theirs = (
            other(tuple(index)).astype(dtype),
            _left(summed_other, index),
            _left(batch_other, index),
        )
        (a, summed_a, batch_a), (b, summed_b, batch_b) = (mine, theirs)[:: 1 if first else -1]
        product = lax.dot_general(
            a,
            b,
            ((summed_a, summed_b), (batch_a, batch_b)),
            precision=eqn.params["precision"],
            preferred_element_type=dtype,
        )
        rows = [patch.index[a] for a in free]
        columns = [None] * (rank - len(summed) - len(batch))
        shared = [patch.index[a] for a in batch]
        place = (*shared, *rows, *columns) if first else (*shared, *columns, *rows)
        found.append((place, patch.valid, product))
    return found


def _left(axes: Sequence[int], index: Sequence[Any]) -> list[int]:
    """The places that some axes have in a part, those that it has all of."""
    left = [a for a, i in enumerate(index) if i is None]
    return [left.index(a) for a in axes if index[a] is None]


def _dot_general(eqn: Any, values: Sequence[Followed], base: Any) -> list[Patch]:
    """The product at ``x``, and for each part of it that changes the products of the changes."""
    a, b = values
    precision = eqn.params["precision"]
    if eqn.params.get("out_sharding") is not None or isinstance(precision, _ALGORITHMS):
        raise Unstructured("a product that says how it is made")
    found = [
        *_products(eqn, True, a, lambda index: part_of(b.base, index), base),
        *_products(eqn, False, b, a.read, base),
    ]
    if len({tuple(i is None for i in index) for index, _, _ in found}) > 1:
        raise Unstructured("parts that overlap")
    return _added(base, found)


def _slice(eqn: Any, value: Followed, base: Any) -> list[Patch]:
    del base
    starts, stops = eqn.params["start_indices"], eqn.params["limit_indices"]
    steps = eqn.params["strides"] or (1,) * len(starts)

    def moved(patch: Patch) -> Patch:
        index, valid, cut = [], patch.valid, []
        for i, size, start, stop, step in zip(
            patch.index, value.shape, starts, stops, steps, strict=True
        ):
            if i is None:
                cut.append(slice(start, stop, step))
            elif start or stop < size or step != 1:
                valid = valid & (i >= start) & (i < stop) & ((i - start) % step == 0)
                i = (i - start) // step if step != 1 else i - start if start else i
            index.append(i)
        return Patch(tuple(index), valid, patch.value[tuple(cut)])

    return [moved(patch) for patch in value.patches]


def _rev(eqn: Any, value: Followed, base: Any) -> list[Patch]:
    del base
    turned = eqn.params["dimensions"]

    def moved(patch: Patch) -> Patch:
        index = tuple(
            size - 1 - i if a in turned and i is not None else i
            for a, (i, size) in enumerate(zip(patch.index, value.shape, strict=True))
        )
        flip = [k for k, a in enumerate(patch.axes) if a in turned]
        return dataclasses.replace(patch, index=index, value=jnp.flip(patch.value, flip))

    return [moved(patch) for patch in value.patches]


def _transpose(eqn: Any, value: Followed, base: Any) -> list[Patch]:
    del base
    order = eqn.params["permutation"]

    def moved(patch: Patch) -> Patch:
        axes = patch.axes
        turned = jnp.transpose(patch.value, [axes.index(a) for a in order if a in axes])
        return dataclasses.replace(patch, index=tuple(patch.index[a] for a in order), value=turned)

    return [moved(patch) for patch in value.patches]


def _squeeze(eqn: Any, value: Followed, base: Any) -> list[Patch]:
    del base
    drop = {a % len(value.shape) for a in eqn.params["dimensions"]}

    def moved(patch: Patch) -> Patch:
        index = tuple(i for a, i in enumerate(patch.index) if a not in drop)
        gone = tuple(k for k, a in enumerate(patch.axes) if a in drop)
        return dataclasses.replace(patch, index=index, value=jnp.squeeze(patch.value, gone))

    return [moved(patch) for patch in value.patches]


def _broadcast_in_dim(eqn: Any, value: Followed, base: Any) -> list[Patch]:
    where, shape = eqn.params["broadcast_dimensions"], jnp.shape(base)

    def moved(patch: Patch) -> Patch:
        index: list[Any] = [None if size != 1 else np.int32(0) for size in shape]
        for a, (i, size) in enumerate(zip(patch.index, value.shape, strict=True)):
            # An axis of length one is read at its one entry, unless it is stretched.
            if size == shape[where[a]]:
                index[where[a]] = i
        left = [a for a, i in enumerate(index) if i is None]
        own = [left.index(where[a]) for a in patch.axes]
        spread = lax.broadcast_in_dim(patch.value, [shape[a] for a in left], own)
        return Patch(tuple(index), patch.valid, spread)

    return [moved(patch) for patch in value.patches]


def _reshape(eqn: Any, value: Followed, base: Any) -> list[Patch]:
    if eqn.params.get("dimensions") is not None:
        raise Unstructured("reshape")
    shape = jnp.shape(base)

    def moved(patch: Patch) -> Patch:
        if patch.axes:
            return _same_axes(patch, value.shape, shape)
        flat = np.int32(0)
        for i, size in zip(patch.index, value.shape, strict=True):
            flat = flat * np.int32(size) + i
        index = tuple(jnp.unravel_index(flat, shape)) if shape else ()
        return dataclasses.replace(patch, index=index)

    return [moved(patch) for patch in value.patches]


def _same_axes(patch: Patch, old: Sequence[int], new: Sequence[int]) -> Patch:
    """A patch where only axes of length one come and go."""
    if [size for size in old if size != 1] != [size for size in new if size != 1]:
        raise Unstructured("reshape")
    kept = iter([i for i, size in zip(patch.index, old, strict=True) if size != 1])
    index = tuple(next(kept) if size != 1 else np.int32(0) for size in new)
    shape = [size for i, size in zip(index, new, strict=True) if i is None]
    return Patch(index, patch.valid, patch.value.reshape(shape))


def _concatenate(eqn: Any, values: Sequence[Followed], base: Any) -> list[Patch]:
    del base
    axis, start, patches = eqn.params["dimension"], 0, []
    for value in values:
        for patch in value.patches:
            index = list(patch.index)
            if index[axis] is None:
                raise Unstructured("concatenate")
            index[axis] = index[axis] + np.int32(start)
            patches.append(dataclasses.replace(patch, index=tuple(index)))
        start += value.shape[axis]
    return patches


def _pad(eqn: Any, values: Sequence[Followed], base: Any) -> list[Patch]:
    value, filler = values
    if filler.patches:
        raise Unstructured("pad")
    config = eqn.params["padding_config"]

    def moved(patch: Patch) -> Patch:
        index, valid = [], patch.valid
        for i, (low, _, inner), size in zip(patch.index, config, jnp.shape(base), strict=True):
            if i is not None:
                i = np.int32(low) + i * np.int32(inner + 1)
                valid = valid & (i >= 0) & (i < size)
            index.append(i)
        padded = lax.pad(patch.value, filler.base, [config[a] for a in patch.axes])
        return Patch(tuple(index), valid, padded)

    return [moved(patch) for patch in value.patches]


def _alone(rule: Callable[[Any, Followed, Any], list[Patch]]) -> Callable[..., list[Patch]]:
    """The rule of an operation with one operand."""

    def of(eqn: Any, values: Sequence[Followed], base: Any) -> list[Patch]:
        if any(v.patches for v in values[1:]):
            raise Unstructured("more operands")
        return rule(eqn, values[0], base)

    return of


# Operations whose result is the one at ``x`` with changes added.
SUMS = ("reduce_sum", "dot_general")
# The changed parts of a result, given the operation, its operands and the result at ``x``.
RULES: dict[str, Callable[[Any, Sequence[Followed], Any], list[Patch]]] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    "reduce_sum": _reduce_sum,
    "dot_general": _dot_general,
    "slice": _alone(_slice),
    "rev": _alone(_rev),
    "transpose": _alone(_transpose),
    "squeeze": _alone(_squeeze),
    "broadcast_in_dim": _alone(_broadcast_in_dim),
    "reshape": _alone(_reshape),
    "concatenate": _concatenate,
    "pad": _pad,
}
