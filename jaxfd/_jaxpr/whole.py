"""How large whole numbers may be for a traced program to compute with them as Python does.

Python's integers have no end, JAX's do: what a function computes of an integer argument alone, such
as ``n**3`` or ``2**-n``, may be another number once the argument is traced. This room follows what
comes of such arguments until it meets an array; it must not know whose arguments they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxfd._jaxpr.walk import always, walk

# How large an argument may be: the first of these that does no harm.
_SIZES = tuple(2**k for k in (31, 28, 24, 20, 16, 12, 8))

# Operations whose result is no larger than the largest operand.
_NO_LARGER = frozenset(
    {
        *("abs", "neg", "sign", "max", "min", "clamp", "select_n", "div"),
        *("convert_element_type", "copy", "broadcast_in_dim", "reshape", "squeeze"),
        *("expand_dims", "transpose", "slice", "rev", "concatenate", "pad", "stop_gradient"),
        *("dynamic_slice", "gather", "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not"),
        *("is_finite", "reduce_max", "reduce_min"),
    }
)


class _Size(NamedTuple):
    """What is known of a value made of arguments and constants alone; None stands for any other.

    Attributes:
        most: its largest magnitude.
        given: whether an argument went into it.
    """

    most: float
    given: bool


def largest_whole(closed: Any, is_given: Callable[[Any], bool], given: Sequence[bool] = ()) -> int:
    """The largest magnitude of integers with which a program computes as Python would.

    Args:
        closed: the jaxpr.
        is_given: which of its constants are such integers.
        given: which of its arguments are.

    Returns:
        A power of two; 0 where there is none.
    """
    jaxpr = closed.jaxpr
    given = given or [False] * len(jaxpr.invars)
    for size in _SIZES:
        harm: list[Any] = []

        def constant(value: Any, size: int = size) -> _Size | None:
            if is_given(value):
                return _Size(size - 1, True)
            if isinstance(value, jax.core.Tracer) or np.size(value) > 10**6:
                return None
            if not jnp.issubdtype(jnp.result_type(value), np.integer):
                return None
            return _Size(float(np.max(np.abs(np.asarray(value, float)), initial=0)), False)

        def apply(
            eqn: Any, operands: list[_Size | None], harm: list[Any] = harm
        ) -> list[_Size | None]:
            return [_result(eqn, operands, var.aval, harm) for var in eqn.outvars]

        inputs = [_Size(size - 1, True) if each else None for each in given]
        walk(jaxpr, closed.consts, inputs, apply, constant, always)
        if not harm:
            return size
    return 0


def _result(eqn: Any, operands: list[_Size | None], aval: Any, harm: list[Any]) -> _Size | None:
    """What is known of one result; an operation that may do harm is noted."""
    known = [operand for operand in operands if operand is not None]
    if not known or len(known) < len(operands):
        return None
    given = any(operand.given for operand in known)
    dtype = getattr(aval, "dtype", None)
    if dtype is None or not (dtype == np.bool_ or jnp.issubdtype(dtype, np.integer)):
        return None
    most = _most(eqn, [operand.most for operand in known])
    if most is None or (dtype != np.bool_ and most > float(jnp.iinfo(dtype).max)):
        harm += [eqn] * given
        return None
    return _Size(most, given)


def _most(eqn: Any, sizes: list[float]) -> float | None:
    name = eqn.primitive.name
    if name == "rem":
        return min(sizes)
    if name in ("add", "sub"):
        return sizes[0] + sizes[1]
    if name == "mul":
        return sizes[0] * sizes[1]
    if name == "square":
        return sizes[0] ** 2
    if name == "integer_pow" and eqn.params["y"] >= 0:
        return float(min(sizes[0], 2.0**100) ** min(eqn.params["y"], 9))
    return max(sizes) if name in _NO_LARGER else None
