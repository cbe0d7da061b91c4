"""Numbers of 64 bits on their way from the host into a program of a JAX that has none.

JAX rounds what a callback returns to the dtypes that it was told to have, so that a float64 would
come as a float32 into a program that wants a float64. As bits, in pairs of 32, it passes. This room
must not know who calls, nor what.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

Shapes = Sequence[tuple[tuple[int, ...], np.dtype]]


def travels_as_bits(dtype: np.dtype) -> bool:
    """Whether JAX may round results of a dtype: it asks in the thread that calls, for itself."""
    return dtype.itemsize >= 8 and dtype.kind in "fciu" and dtype != np.complex64


def carried(expected: Shapes) -> list[tuple[tuple[int, ...], np.dtype]]:
    """Shapes and dtypes of what is handed over in place of results."""
    return [
        ((*shape, dtype.itemsize // 4), np.dtype(np.uint32))
        if travels_as_bits(dtype)
        else (shape, dtype)
        for shape, dtype in expected
    ]


def pack(results: Sequence[np.ndarray], handed: Shapes) -> tuple[np.ndarray, ...]:
    """Results as they are handed over, on the host."""
    return tuple(
        r if r.dtype == dtype else np.ascontiguousarray(r).reshape(-1).view(dtype).reshape(shape)
        for r, (shape, dtype) in zip(results, handed, strict=True)
    )


def unpack(arrays: Sequence[Any], expected: Shapes) -> list[Any]:
    """The results themselves, in the program."""
    with jax.enable_x64(True):
        return [
            a if a.dtype == dtype else _of_bits(a, dtype)
            for a, (_, dtype) in zip(arrays, expected, strict=True)
        ]


def _of_bits(bits: Any, dtype: np.dtype) -> Any:
    if dtype.kind != "c":
        return lax.bitcast_convert_type(bits, dtype)
    parts = lax.bitcast_convert_type(bits.reshape(*bits.shape[:-1], 2, 2), np.dtype(np.float64))
    return lax.complex(parts[..., 0], parts[..., 1])
