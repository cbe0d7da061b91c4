"""Random numbers of few entries, drawn by an operation that is quickly compiled.

The numbers are those of `jax.random`, to the last bit. This room must not know what they are for.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt32

from jaxfd._primitives import threefry


def fold_in(key: UInt32[Array, "2"], number: Any) -> UInt32[Array, "2"]:
    """The bits of ``jax.random.fold_in``."""
    low = jnp.asarray(number).astype(np.uint32)
    return jnp.stack(threefry((key[0], key[1]), jnp.zeros_like(low), low))


def bits(key: UInt32[Array, "2"], size: int, width: int = 32) -> Array:
    """``size`` random words of 32 or 64 bits, as ``jax.random.bits`` makes them."""
    low = lax.iota(np.uint32, size)
    first, second = threefry((key[0], key[1]), jnp.zeros_like(low), low)
    if width == 32:
        return jnp.bitwise_xor(first, second)
    return (first.astype(np.uint64) << np.uint64(32)) | second.astype(np.uint64)


def normal(key: UInt32[Array, "2"], size: int, dtype: Any) -> Float[Array, "size"]:
    """Standard normal numbers in float32 or float64, as ``jax.random.normal`` makes them."""
    kind, number = np.finfo(dtype), np.dtype(dtype).type
    words = bits(key, size, kind.bits)
    word = words.dtype.type
    # A number from 1 to 2 has its random bits in the mantissa.
    mantissa = (words >> word(kind.bits - kind.nmant)) | np.ones((), dtype).view(word)
    share = lax.bitcast_convert_type(mantissa, dtype) - number(1)
    least = np.nextafter(number(-1), number(0))
    uniform = lax.max(jnp.full_like(share, least), share * (number(1) - least) + least)
    return jnp.multiply(number(np.sqrt(2)), lax.erf_inv(uniform))
