"""Dtypes, promoted explicitly: the library keeps working under strict promotion."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def promote(*dtypes: Any) -> Any:
    """The dtype that holds all of the given ones."""
    with jax.numpy_dtype_promotion("standard"):
        result = dtypes[0]
        for dtype in dtypes[1:]:
            result = jnp.promote_types(result, dtype)
        return result


def real_of(dtype: Any) -> Any:
    """The dtype of the real part."""
    return jnp.finfo(dtype).dtype


def complex_of(dtype: Any) -> Any:
    """The complex dtype whose parts hold the given one."""
    return promote(dtype, np.complex64)


def complexify(x: Any) -> Any:
    """The same numbers in a complex dtype."""
    return x.astype(complex_of(x.dtype))


def is_complex(x: Any) -> bool:
    """Whether an array, or something with a dtype, is complex."""
    return bool(jnp.issubdtype(x.dtype, np.complexfloating))


def is_inexact(x: Any) -> bool:
    """Whether an array, or something with a dtype, is real floating or complex."""
    return bool(jnp.issubdtype(x.dtype, np.inexact))
