"""What states are made of: counts, values and keys as plain arrays, which everything can save.

This room must not know whose states they are.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxfd._arrays import path_name, real_of, widest


def number(value: int) -> Any:
    """A small integer as loops carry it."""
    return np.asarray(value, np.int32)


def add(count: Any, more: Any) -> Any:
    """Adds a small number to an int32 count that stays at its largest value once there."""
    room = np.iinfo(np.int32).max - count
    return count + jnp.minimum(jnp.asarray(more).astype(jnp.int32), room)


def key_bits(key: Any) -> Any:
    """A key as plain integers, which everything can save."""
    typed = isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(key) if typed else key


def key_of(bits: Any, like: Any) -> Any:
    """The key of the same kind as ``like`` that `key_bits` made these integers of."""
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(bits, impl=jax.random.key_impl(like))
    return bits


def value_dtype(name: str, params: PyTree) -> Any:
    """The widest real floating dtype among the parameters.

    Raises:
        TypeError: some of them are no floating numbers.
    """
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise TypeError(
                f"{name} needs real or complex parameters, but params{path_name(path)} is {dtype}: "
                "convert it to a floating dtype, or let value_fn close over it."
            )
    return widest(real_of(jnp.result_type(leaf)) for leaf in jax.tree.leaves(params))
