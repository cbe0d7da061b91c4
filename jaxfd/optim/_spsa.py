"""Simultaneous perturbation with Spall's gain sequences, ready-made.

It exists because the two sequences belong together, few remember their exponents, and the size of
the first depends on how steep the function is. `estimate_gradient` estimates; this room must not
know how.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from jaxfd._arrays import PyTree, check_positive
from jaxfd._random import SPSA
from jaxfd.optim._gradient import estimate_gradient

# The gradients that the gain is calibrated from, one each update.
_FIRST = 10


class GainState(NamedTuple):
    """What the gain is known by.

    Attributes:
        count: updates so far.
        seen: those of the first ones whose gradient was not 0.
        total: the sum of the mean sizes of these gradients' entries.
    """

    count: Int[Array, ""]  # type: ignore[assignment]
    seen: Int[Array, ""]
    total: Float[Array, ""]


def spsa(
    key: Any,
    a: float | None = None,
    c: float = 0.1,
    *,
    step: float | None = None,
    stability: float = 100.0,
    alpha: float = 0.602,
    gamma: float = 0.101,
    num_samples: int = 1,
    chunk_size: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Stochastic approximation by simultaneous perturbation: two evaluations a step.

    Step ``k`` = 0, 1, ... moves by ``a / (stability + k + 1)^alpha`` times an estimate of the
    gradient from points ``c / (k + 1)^gamma`` away. Hand the function to ``update`` as
    ``value_fn=``, as for `estimate_gradient`.

    Without ``a`` it is calibrated, as Spall advises: such that the first steps, ``a /
    (stability + 1)^alpha`` times the mean size of the entries of the first ten gradients, are
    ``step`` long; and no later one moves entries farther than that on average, however steep the
    function becomes. Spall's other guidelines: ``c`` about the standard deviation of the function's
    noise (small where there is none), and ``stability`` a tenth of the steps to come or less.

    Args:
        key: a PRNG key.
        a: the size of the steps, in units of the parameters squared over those of the function.
            None calibrates it; a number is taken as it is, and diverges where it is too large.
        c: how far points go, in the parameters' units.
        step: how far entries move in the first steps, in the parameters' units; None is ``c``.
        stability: Spall's ``A``, a number of steps.
        alpha: the exponent of the steps.
        gamma: the exponent of the perturbations.
        num_samples: directions of each step, of two evaluations each; their mean counts.
        chunk_size: as for `jaxfd.grad`.

    Returns:
        A transformation.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jax, jax.numpy as jnp, jaxfd, optax
        >>> def loss(x):
        ...     return jnp.sum((x - 3.0) ** 2)
        >>> optimizer = jaxfd.optim.spsa(jax.random.key(0), step=0.3, stability=10.0)
        >>> def step(carry, _):
        ...     x, state = carry
        ...     updates, state = optimizer.update(x, state, x, value_fn=loss)
        ...     return (optax.apply_updates(x, updates), state), None
        >>> x = jnp.zeros(5)
        >>> (x, _), _ = jax.lax.scan(step, (x, optimizer.init(x)), length=300)
        >>> print(bool(loss(x) < 1e-2))
        True

    Reference:
        J. Spall, "Implementation of the simultaneous perturbation algorithm for stochastic
        optimization", IEEE Trans. Aerospace and Electronic Systems 34 (1998) 817-823, section III.
    """
    for name, value in (("c", c), ("alpha", alpha), ("gamma", gamma)):
        check_positive(value, name)
    for name, given in (("a", a), ("step", step)):
        if given is not None:
            check_positive(given, name)
    if a is not None and step is not None:
        raise ValueError("spsa takes a or step, not both: step is what a is calibrated for.")
    check_positive(stability, "stability", zero=True)
    SPSA(key, num_samples).check()

    def method(count: Any) -> SPSA:
        k = jnp.asarray(count, jnp.float32)
        return SPSA(key, num_samples, sigma=c / (k + 1.0) ** gamma)

    def falling(count: Any) -> Any:
        """The rate of a step over that of the first, by Spall's exponent."""
        k = jnp.asarray(count, jnp.float32)
        return 1.0 / (stability + k + 1.0) ** alpha

    estimates = estimate_gradient(method, chunk_size=chunk_size)
    if a is not None:
        return optax.chain(
            estimates, optax.scale_by_learning_rate(lambda count: a * falling(count))
        )
    length = c if step is None else step
    return optax.chain(estimates, _calibrated(length, lambda k: falling(k) / falling(0)))


def _calibrated(length: float, falling: Any) -> optax.GradientTransformation:
    """Scales gradients by a gain that the first of them tell.

    Args:
        length: how far entries move on average in the first step, and at most in any.
        falling: the rate of a step over that of the first, a function of its number.
    """

    def init(params: PyTree) -> GainState:
        del params
        zero = jnp.zeros((), jnp.int32)
        return GainState(zero, zero, jnp.zeros((), jnp.float32))

    def update(
        updates: PyTree, state: GainState, params: PyTree | None = None
    ) -> tuple[PyTree, GainState]:
        del params
        size = _mean_size(updates)
        counts = (state.seen < _FIRST) & (size > 0)
        seen = state.seen + counts.astype(jnp.int32)
        total = state.total + jnp.where(counts, size, 0.0)
        usual = total / jnp.maximum(seen, 1).astype(total.dtype)
        # In units of the length: what the gain makes of this gradient, and one at most.
        share = jnp.where(usual > 0, size / jnp.where(usual > 0, usual, 1.0), 0.0)
        share = jnp.minimum(falling(state.count) * share, 1.0)
        rate = -length * jnp.where(size > 0, share / jnp.where(size > 0, size, 1.0), 0.0)
        scaled = jax.tree.map(lambda g: g * rate.astype(g.dtype), updates)
        return scaled, GainState(optax.safe_increment(state.count), seen, total)

    return optax.GradientTransformation(init, update)


def _mean_size(updates: PyTree) -> Float[Array, ""]:
    """The mean size of all entries."""
    leaves = [g for g in jax.tree.leaves(updates) if g.size]
    if not leaves:
        return jnp.zeros((), jnp.float32)
    total = sum(jnp.sum(jnp.abs(g), dtype=jnp.float32) for g in leaves)
    return jnp.asarray(total / sum(g.size for g in leaves), jnp.float32)
