"""Where searches begin: at ``x0``, and at others that are given or drawn.

It must not know what is searched for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxfd._arrays import check_integer, is_integer
from jaxfd.optim._fits.parameters import Parameters

# What x0 is multiplied by, for its order of magnitude may be wrong, and how far starts are drawn
# around that, in shares of its entries: one after the other.
_AROUND = ((1.0, 0.3), (0.1, 0.03), (1.0, 1.0), (10.0, 3.0))


def starts_of(parameters: Parameters, starts: Any, key: Any) -> list[Float[np.ndarray, "p"]]:
    """All starts in the search's numbers, that of ``x0`` first.

    Args:
        parameters: what is fitted.
        starts: how many, or further ones; None for ``x0`` alone.
        key: for those that are drawn.

    Raises:
        TypeError, ValueError: an argument does not fit.
    """
    first = parameters.start
    if starts is None:
        if key is not None:
            raise ValueError("key is for starts: give starts=5, say, or leave key out.")
        return [first]
    if isinstance(starts, (int, np.integer, float, bool)):
        check_integer(starts, "starts", numpy=True)
        if starts == 1:
            return [first]
        if key is None:
            raise ValueError(
                f"starts={starts} are drawn: give key=jax.random.key(0) or an integer for them."
            )
        rng = np.random.default_rng(_seed(key))
        return [first, *(_drawn(parameters, rng, k) for k in range(int(starts) - 1))]
    if not isinstance(starts, Sequence) or isinstance(starts, str):
        raise TypeError(
            f"starts must be an integer or a sequence of pytrees like x0, got {starts!r:.60}."
        )
    if key is not None:
        raise ValueError("key is for starts that are drawn, but they are given: leave key out.")
    return [first, *(parameters.start_of(x, k) for k, x in enumerate(starts))]


def _drawn(parameters: Parameters, rng: np.random.Generator, number: int) -> Float[np.ndarray, "p"]:
    """A start: uniform between two walls, else around ``x0``."""
    u, low, high = parameters.start, parameters.lower, parameters.upper
    even, normal = rng.uniform(size=len(u)), rng.standard_normal(len(u))
    between = np.isfinite(low) & np.isfinite(high)
    with np.errstate(invalid="ignore"):
        inside = np.where(between, low + even * (high - low), 0.0)
    factor, far = _AROUND[number % len(_AROUND)]
    # A logarithm is moved instead, and 0 has no order of magnitude.
    centre = np.where(parameters.log[parameters.free], u + np.log(factor), factor * u)
    around = centre + far * parameters.size * normal
    return np.where(between, inside, np.clip(around, low, high))


def _seed(key: Any) -> Any:
    """Plain integers of a key."""
    if is_integer(key):
        return int(key) if key >= 0 else int(key) % 2**64
    if isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    bits = np.asarray(key)
    if bits.dtype.kind not in "iu":
        raise TypeError(f"key must be a PRNG key or an integer, got {key!r}.")
    return bits.reshape(-1).astype(np.uint32).tolist()
