"""Primitives that work entry by entry: what changes in an operand changes in the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxfd._jaxpr.patch import Index, Patch, PatchedValue, Refusal, merge
from jaxfd._jaxpr.rules.registry import rule

# fmt: off
_NAMES = (
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh",
    "cbrt", "ceil", "clamp", "complex", "conj", "convert_element_type", "copy", "cos", "cosh",
    "digamma", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt",
    "imag", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p", "logistic", "lt", "max",
    "min", "mul", "name", "ne", "neg", "nextafter", "not", "or", "pow", "real", "reduce_precision",
    "rem", "round", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient",
    "sub", "tan", "tanh", "xor",
)
# fmt: on


@rule(*_NAMES)
def _elementwise(eqn: Any, operands: Sequence[PatchedValue], at_x: Any) -> list[Patch]:
    shape = jnp.shape(at_x)
    patches = []
    for v in operands:
        if v.shape and len(v.shape) != len(shape):
            raise Refusal("operands of several ranks")
        # Scalars are stretched, and axes of length one.
        own = v.shape or (None,) * len(shape)
        for patch in v.patches:
            old = patch.index if v.shape else own
            index = tuple(i if a == b else None for i, a, b in zip(old, own, shape, strict=True))
            patches.append(dataclasses.replace(patch, index=index))

    def read(v: PatchedValue, index: Index) -> Any:
        own = zip(index, v.shape or shape, shape, strict=True)
        return v.read(tuple(i if i is None or a == b else np.int32(0) for i, a, b in own))

    return [
        dataclasses.replace(
            patch, value=eqn.primitive.bind(*(read(v, patch.index) for v in operands), **eqn.params)
        )
        for patch in merge(patches)
    ]
