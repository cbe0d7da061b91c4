"""Random numbers for directions, made where they are used and never kept.

Signs are drawn 32 to a word and unpacked beside the arithmetic that uses them; normal
numbers of large leaves are drawn in slabs. Both add to an array without a second one of
its size. This room knows keys and arrays, and nothing of directions.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Shaped, UInt32

from jaxfd._arrays import promote
from jaxfd._random import threefry

WORD = 32
# Entries drawn at once: drawing takes several times their memory.
_SLAB = 2**18
# So few are written out: that compiles in a fraction of the time, but what is written out may be
# computed once more for everything that it is used in.
_FEW = 2**10


def replayable(key: Any) -> Any:
    """A threefry key made of any other.

    Only threefry makes the same numbers for a key whatever else is drawn beside it; under
    ``vmap``, rbg does not.
    """
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    data = jnp.asarray(jax.random.key_data(key) if typed else key)
    found = _wrapped(data[:2])
    for k in range(2, data.size):
        found = fold_in(found, data[k])
    return found


def fold_in(key: Any, number: Any) -> Any:
    """The key of one of many, as ``jax.random.fold_in`` makes it."""
    return _wrapped(threefry.fold_in(jax.random.key_data(key), number))


def _wrapped(data: UInt32[Array, "2"]) -> Any:
    return jax.random.wrap_key_data(data, impl="threefry2x32")


def words(key: Any, size: int) -> UInt32[Array, "w"]:
    """Random words with at least ``size`` bits."""
    count = -(-size // WORD)
    if count <= _FEW:
        return threefry.bits(jax.random.key_data(key), count)
    return jax.random.bits(key, (count,), np.uint32)


def _normal(key: Any, size: int, dtype: Any) -> Float[Array, "size"]:
    """Normal numbers of a key."""
    if size <= _FEW:
        return threefry.normal(jax.random.key_data(key), size, np.dtype(dtype))
    return jax.random.normal(key, (size,), dtype)


def hadamard(row: Any, count: int) -> UInt32[Array, "w"]:
    """``count`` words of signs of one row of Sylvester's matrix: bit ``parity(row & column)``.

    The lower five bits of the column number pick the bit in a word, and the same pattern of
    them stands in every word, as it is or turned over.
    """
    row = row.astype(np.uint32)
    column = np.arange(WORD, dtype=np.uint32)
    pattern = jnp.sum(_parity(row & column) << column, dtype=np.uint32)
    word = lax.iota(np.uint32, count)
    turned: Any = jnp.zeros((), np.uint32) - _parity((row >> np.uint32(5)) & word)
    return jnp.bitwise_xor(pattern, turned)


def _parity(x: Any) -> Any:
    return lax.population_count(x) & np.uint32(1)


def bits_from(packed: UInt32[Array, "w"], start: int, size: int) -> UInt32[Array, "v"]:
    """Words of ``size`` bits from bit ``start`` on."""
    first, shift = divmod(start, WORD)
    count = -(-size // WORD)
    low = packed[first : first + count]
    if not shift or not count:
        return low
    high = packed[first + 1 : first + 1 + count]
    high = jnp.concatenate([high, jnp.zeros(count - high.size, np.uint32)])
    return (low >> np.uint32(shift)) | (high << np.uint32(WORD - shift))


def add_signs(
    x: Float[Array, "..."], packed: UInt32[Array, "w"], scale: Float[Array, ""]
) -> Float[Array, "..."]:
    """``x`` plus ``scale`` where a bit is 0, minus it where it is 1."""
    bits = (packed[:, None] >> np.arange(WORD, dtype=np.uint32)) & np.uint32(1)
    bits = bits.reshape(-1)[: x.size].reshape(x.shape)
    scale = scale.astype(x.dtype)
    return x + jnp.where(bits == 0, scale, -scale)


def normals(key: Any, shape: tuple[int, ...], dtype: Any) -> Float[Array, "..."]:
    """Normal numbers; those of a large array are made slab by slab."""
    return add_normals(jnp.zeros(shape, dtype), key, jnp.ones((), dtype))


def add_normals(x: Float[Array, "..."], key: Any, scale: Float[Array, ""]) -> Float[Array, "..."]:
    """``x`` plus ``scale`` times normal numbers, at least in float32."""
    dtype = promote(x.dtype, np.float32)

    def add(part: Array, key: Any) -> Array:
        drawn = _normal(key, part.size, dtype).reshape(part.shape)
        return jnp.add(part, (scale.astype(dtype) * drawn).astype(part.dtype))

    if x.size <= _SLAB:
        return add(x, key)
    count, rest = divmod(x.size, _SLAB)

    def slab(k: Any, flat: Any) -> Any:
        part = lax.dynamic_slice(flat, (k * _SLAB,), (_SLAB,))
        return lax.dynamic_update_slice(flat, add(part, fold_in(key, k)), (k * _SLAB,))

    flat: Array = lax.fori_loop(0, count, slab, x.reshape(-1))
    if rest:
        last = add(flat[-rest:], fold_in(key, count))
        flat = lax.dynamic_update_slice(flat, last, (count * _SLAB,))
    return flat.reshape(x.shape)


def squared_length(key: Any, size: int, dtype: Any) -> Shaped[Array, ""]:
    """The sum of the squares of the numbers that `add_normals` adds."""

    def square(key: Any, size: int) -> Array:
        drawn = _normal(key, size, dtype)
        return jnp.sum(drawn * drawn)

    if size <= _SLAB:
        return square(key, size)
    count, rest = divmod(size, _SLAB)
    total: Array = lax.fori_loop(
        0,
        count,
        lambda k, total: total + square(fold_in(key, k), _SLAB),
        jnp.zeros((), dtype),
    )
    return total + square(fold_in(key, count), rest) if rest else total
