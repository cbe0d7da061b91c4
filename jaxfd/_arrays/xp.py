"""Small tools that run on NumPy's arrays and on JAX's alike.

The pipeline is written once, against an array namespace ``xp``. This room exists so that what the
namespaces do not share is written once too; it must not know what the numbers mean. It is asked on
many lines, as a namespace is: that it lies apart from who asks is on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from jaxfd._arrays.dtype import finfo, promote


def over(small: Any, big: Any) -> Any:
    """Appends axes to ``small`` until it lines up with the leading axes of ``big``."""
    return small.reshape(small.shape + (1,) * (big.ndim - small.ndim))


def realise(x: Float[Any, "*n"], h: Float[Any, "*n"]) -> Float[Any, "*n"]:
    """Makes a step exact: the distance between ``x`` and ``x + h`` as they are stored."""
    return (x + h) - x


def moving(xp: Any, x: Float[Any, "*n"]) -> Float[Any, "*n"]:
    """The smallest step, to a factor of two, that is not lost in the rounding of ``x``."""
    kind = finfo(x.dtype)
    least = xp.asarray(kind.smallest_normal, dtype=x.dtype)
    return xp.maximum(xp.abs(x) * xp.asarray(kind.eps, dtype=x.dtype), least)


def farther(
    xp: Any, x: Float[Any, "*n"], h: Float[Any, "*n"], least: Float[Any, "*n"]
) -> Float[Any, "*n"]:
    """By which power of two a step grows to ``least`` where it is lost in the rounding of ``x``.

    1 elsewhere.
    """
    lost = ((x + h) - x == 0) & xp.isfinite(least)
    wide = promote(x.dtype, np.float32)
    share = xp.where(lost, least.astype(wide) / h.astype(wide), 1)
    return xp.where(lost, 2 * power_of_two(xp, share), 1).astype(x.dtype)


def constant(xp: Any, x: Any) -> Any:
    """What automatic differentiation of an estimate shall not look into: steps and distances."""
    return x if xp is np else jax.lax.stop_gradient(x)


def apply(xp: Any, matrix: np.ndarray, data: Float[Any, "m *s"]) -> Float[Any, "c *s"]:
    """Sums of the first axis of ``data``, weighted by the rows of a matrix, at full precision."""
    if xp is np:
        flat = data.reshape(len(data), math.prod(data.shape[1:]))
        return (matrix.astype(data.dtype) @ flat).reshape(len(matrix), *data.shape[1:])
    weights = jnp.asarray(matrix, data.dtype)
    return jnp.tensordot(weights, data, axes=1, precision=lax.Precision.HIGHEST)


def column(vector: np.ndarray, like: Any) -> Any:
    """A vector as a first axis in front of another array's, in its dtype."""
    return vector.reshape(-1, *(1,) * like.ndim).astype(like.dtype)


def power_of_two(xp: Any, x: Float[Any, "*s"]) -> Float[Any, "*s"]:
    """The largest power of two that is no larger, exactly; 1 for 0 and what is not finite.

    It is the number without the bits of its mantissa.
    """
    kind = np.finfo(x.dtype)
    exponent = ~((1 << kind.nmant) - 1)
    whole = np.dtype(f"int{kind.bits}")
    good = xp.isfinite(x) & (x >= kind.tiny)
    x = xp.where(good, x, 1)
    if xp is np:
        return (x.view(whole) & whole.type(exponent)).view(x.dtype)
    bits = lax.bitcast_convert_type(x, whole) & whole.type(exponent)
    return lax.bitcast_convert_type(bits, x.dtype)


def stack(xp: Any, arrays: Sequence[Any]) -> Any:
    """Arrays of one shape and dtype as one, with a new first axis."""
    return np.array(arrays) if xp is np else xp.stack(arrays)
