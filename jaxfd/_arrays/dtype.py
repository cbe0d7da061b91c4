"""Dtypes, promoted explicitly: the library keeps working under strict promotion.

Wherever numbers are made, this room is asked what kind they are to be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Limits of a floating dtype, of those too that NumPy does not know. JAX's own is not typed.
finfo: Any = jnp.finfo


def promote(*dtypes: Any) -> Any:
    """The dtype that holds all of the given ones.

    JAX promotes 8-bit floats to nothing of itself; beside others they count as float32.
    """
    if any(dtype != dtypes[0] for dtype in dtypes):
        dtypes = tuple(np.dtype(np.float32) if is_tiny(dtype) else dtype for dtype in dtypes)
    with jax.numpy_dtype_promotion("standard"):
        result = dtypes[0]
        for dtype in dtypes[1:]:
            result = jnp.promote_types(result, dtype)
        return result


def is_tiny(dtype: Any) -> bool:
    """Whether this is a float of 8 bits or fewer."""
    return bool(jnp.issubdtype(dtype, np.floating)) and int(finfo(dtype).bits) <= 8


def unknown() -> float:
    """What stands for an error that a method cannot tell: NaN, or infinite where JAX traps NaN."""
    return np.inf if jax.debug_nans.value else np.nan


@contextlib.contextmanager
def own_arithmetic() -> Iterator[None]:
    """Only the user's own lines are held to be explicit about ranks and dtypes, not these."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def real_of(dtype: Any) -> Any:
    """The dtype of the real part."""
    return finfo(dtype).dtype


def widest(dtypes: Iterable[Any], default: Any = np.dtype(np.float32)) -> Any:
    """The floating dtype of the most bits, the first of several; ``default`` for none."""
    return max(dtypes, key=lambda dtype: finfo(dtype).bits, default=default)


def complex_of(dtype: Any) -> Any:
    """The complex dtype whose parts hold the given one."""
    return promote(dtype, np.complex64)


def complexify(x: Any) -> Any:
    """The same numbers in a complex dtype."""
    return x.astype(complex_of(x.dtype))


def weakened(x: Any) -> Any:
    """A JAX array with the weak type of Python's numbers."""
    return lax.convert_element_type_p.bind(x, new_dtype=x.dtype, weak_type=True, sharding=None)


def is_complex(x: Any) -> bool:
    """Whether an array, or something with a dtype, is complex."""
    return bool(jnp.issubdtype(x.dtype, np.complexfloating))


def is_inexact(x: Any) -> bool:
    """Whether an array, or something with a dtype, is real floating or complex."""
    return bool(jnp.issubdtype(x.dtype, np.inexact))
