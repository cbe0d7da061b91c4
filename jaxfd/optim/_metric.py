"""What is known of a Hessian: a diagonal, and the last moves with what gradients changed by.

The limited-memory form of Broyden, Fletcher, Goldfarb and Shanno: the matrix is never formed. Pairs
without positive curvature, or with no more than the noise of their gradients explains, are left
out. This room must not know where the numbers come from, nor what directions are good for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxfd.optim._state import number

# Pairs that are kept.
_MEMORY = 20


class Metric(NamedTuple):
    """An approximation of the Hessian.

    Attributes:
        diagonal: where it begins, positive.
        scale: what the inverse of the diagonal is multiplied by.
        s: moves, the last one last.
        y: what gradients changed by.
        used: how many of these there are.
        wider: whether the last move saw no positive curvature.
    """

    diagonal: Float[Array, "n"]
    scale: Float[Array, ""]
    s: Float[Array, "m n"]
    y: Float[Array, "m n"]
    used: Int[Array, ""]
    wider: Bool[Array, ""]


def first_metric(zero: Float[Array, "n"]) -> Metric:
    """One that knows nothing, for vectors like ``zero``."""
    pairs = jnp.zeros((_MEMORY, zero.size), zero.dtype)
    one = jnp.ones((), zero.dtype)
    return Metric(zero + 1, one, pairs, pairs, number(0), jnp.zeros((), bool))


def learn(
    metric: Metric,
    diagonal: Float[Array, "n"],
    s: Float[Array, "n"],
    y: Float[Array, "n"],
    blur: Float[Array, "n"],
    moved: Bool[Array, ""],
    restart: Bool[Array, ""],
) -> Metric:
    """The metric with one more pair, where that can be.

    Args:
        metric: the metric so far.
        diagonal: its diagonal from now on.
        s: a move.
        y: what the gradient changed by.
        blur: the standard deviation of the gradient's noise.
        moved: whether there was a move.
        restart: whether to forget all pairs.
    """
    bend = jnp.vdot(s, y)
    certain = jnp.sqrt(jnp.vdot(s, s) * jnp.vdot(y, y)) * 1e-10
    blurred = 2 * jnp.sqrt(jnp.sum((s * blur) ** 2))
    good = moved & (bend > jnp.maximum(certain, blurred))
    bad = moved & ~good

    def push(pairs: Any, new: Any) -> Any:
        return jnp.where(good, jnp.roll(pairs, -1, 0).at[-1].set(new), pairs)

    # Nothing bends upwards here: go farther next time.
    scale = jnp.where(bad, 4 * metric.scale, metric.scale)
    scale = jnp.where(good, bend / jnp.vdot(y, y / diagonal), scale)
    used = jnp.minimum(metric.used + good.astype(np.int32), number(_MEMORY))
    return Metric(
        diagonal,
        jnp.where(restart, 1, scale).astype(scale.dtype),
        push(metric.s, s),
        push(metric.y, y),
        jnp.where(restart, number(0), used),
        bad,
    )


def inverse_times(metric: Metric, g: Float[Array, "n"]) -> Float[Array, "n"]:
    """The inverse of the approximate Hessian times a vector, in two loops over the pairs.

    Reference:
        J. Nocedal and S. Wright, "Numerical Optimization", 2nd ed., algorithm 7.4.
    """
    there = np.arange(_MEMORY, dtype=np.int32) >= _MEMORY - metric.used
    bends = jnp.where(there, jnp.sum(metric.s * metric.y, axis=1), 1)
    pairs = (metric.s, metric.y, jnp.where(there, 1 / bends, 0))

    def down(q: Any, pair: Any) -> tuple[Any, Any]:
        s, y, rho = pair
        a = rho * jnp.vdot(s, q)
        return q - a * y, a

    def up(q: Any, pair: Any) -> tuple[Any, None]:
        s, y, rho, a = pair
        return q + s * (a - rho * jnp.vdot(y, q)), None

    q, a = lax.scan(down, g, pairs, reverse=True)
    return lax.scan(up, q * metric.scale / metric.diagonal, (*pairs, a))[0]
