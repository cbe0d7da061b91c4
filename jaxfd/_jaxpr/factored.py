"""Matrices that differ from a shared one by a product of thin factors, and programs of them.

The population of a low-rank estimate multiplies one matrix for all members and two thin
factors for each: a product with `Factored` never builds the sum. Whatever else a program does
with such a matrix gets the sum. This room must not know where the factors come from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from jaxfd._arrays import finfo, promote
from jaxfd._jaxpr.walk import evaluate, walk


@dataclasses.dataclass(frozen=True)
class Factored:
    """The matrix ``base + left right^T``.

    Attributes:
        base: shape ``(m, k)``.
        left: shape ``(m, r)``.
        right: shape ``(k, r)``.
    """

    base: Float[Any, "m k"]
    left: Float[Any, "m r"]
    right: Float[Any, "k r"]

    def dense(self) -> Float[Any, "m k"]:
        """The matrix as an array."""
        product = jnp.matmul(self.left, self.right.T, precision="highest")
        return self.base + product.astype(self.base.dtype)


def _dense(value: Any) -> Any:
    return value.dense() if isinstance(value, Factored) else value


def _transpose(params: dict[str, Any], matrix: Factored) -> Factored:
    if tuple(params["permutation"]) == (0, 1):
        return matrix
    return Factored(matrix.base.T, matrix.right, matrix.left)


def _convert(params: dict[str, Any], matrix: Factored) -> Factored | None:
    dtype = params["new_dtype"]
    # What is coarser than this rounds a sum to something else than the sum of what it rounds.
    if not jnp.issubdtype(dtype, jnp.floating) or finfo(dtype).bits < 16:
        return None
    parts = (matrix.base, matrix.left, matrix.right)
    return Factored(*(part.astype(dtype) for part in parts))


def _product(params: dict[str, Any], left: Any, right: Any) -> Any:
    """A matrix product with one factored operand; None where it is another kind of product."""
    (axes_left, axes_right), batch = params["dimension_numbers"]
    first = isinstance(left, Factored)
    if (first and isinstance(right, Factored)) or batch != ((), ()) or len(axes_left) != 1:
        return None
    options = {key: value for key, value in params.items() if key != "dimension_numbers"}

    def dot(a: Any, b: Any, axis_a: int, axis_b: int) -> Any:
        numbers = (((axis_a,), (axis_b,)), ((), ()))
        return lax.dot_general(a, b, dimension_numbers=numbers, **options)

    axis_left, axis_right = axes_left[0], axes_right[0]
    matrix, axis = (left, axis_left) if first else (right, axis_right)
    summed, free = (matrix.left, matrix.right) if axis == 0 else (matrix.right, matrix.left)
    if first:
        base = dot(matrix.base, right, axis_left, axis_right)
        thin = dot(summed, right, 0, axis_right)
        return base + dot(*_alike(free, thin), 1, 0)
    base = dot(left, matrix.base, axis_left, axis_right)
    thin = dot(left, summed, axis_left, 0)
    return base + dot(*_alike(thin, free), thin.ndim - 1, 1)


def _alike(a: Any, b: Any) -> tuple[Any, Any]:
    """Both in the dtype that holds either: the other operand may be wider, or complex."""
    dtype = promote(a.dtype, b.dtype)
    return a.astype(dtype), b.astype(dtype)


_RULES: dict[str, Callable[..., Any]] = {
    "dot_general": _product,
    "transpose": _transpose,
    "convert_element_type": _convert,
}


def outputs(closed: Any, values: Sequence[Any]) -> list[Any]:
    """Runs a program on values of which some are `Factored`.

    Args:
        closed: the program, a closed jaxpr.
        values: its inputs.

    Returns:
        Its outputs, arrays.
    """

    def enter(eqn: Any, operands: Sequence[Any]) -> bool:
        del eqn
        return any(isinstance(operand, Factored) for operand in operands)

    found = walk(closed.jaxpr, closed.consts, values, _apply, enter=enter)
    return [_dense(value) for value in found]


def _apply(eqn: Any, operands: Sequence[Any]) -> list[Any]:
    """What one operation results in."""
    if any(isinstance(operand, Factored) for operand in operands):
        rule = _RULES.get(eqn.primitive.name)
        found = rule(eqn.params, *operands) if rule else None
        if found is not None:
            return [found]
    return evaluate(eqn, [_dense(operand) for operand in operands])
