"""Simultaneous perturbation with Spall's gain sequences, ready-made.

It exists because the two sequences belong together and few remember their exponents. Nothing is
computed here: `estimate_gradient` estimates, optax steps.
"""

from __future__ import annotations

from typing import Any

import optax
from jax import numpy as jnp

from jaxfd._arrays import check_positive
from jaxfd._random import SPSA
from jaxfd.optim._gradient import estimate_gradient


def spsa(
    key: Any,
    a: float = 0.1,
    c: float = 0.1,
    *,
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

    Spall's guidelines: ``c`` about the standard deviation of the function's noise (small where
    there is none), ``stability`` a tenth of the steps to come or less, and ``a`` such that early
    steps, ``a / (stability + 1)^alpha`` times the size of the gradient's entries, are as long as
    parameters should move.

    Args:
        key: a PRNG key.
        a: the size of the steps, in units of the parameters squared over those of the function.
        c: how far points go, in the parameters' units.
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
        >>> optimizer = jaxfd.optim.spsa(jax.random.key(0), a=1.0, stability=10.0)
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
        optimization", IEEE Trans. Aerospace and Electronic Systems 34 (1998) 817-823.
    """
    for name, value in (("a", a), ("c", c), ("alpha", alpha), ("gamma", gamma)):
        check_positive(value, name)
    check_positive(stability, "stability", zero=True)
    SPSA(key, num_samples).check()

    def method(count: Any) -> SPSA:
        k = jnp.asarray(count, jnp.float32)
        return SPSA(key, num_samples, sigma=c / (k + 1.0) ** gamma)

    def rate(count: Any) -> Any:
        k = jnp.asarray(count, jnp.float32)
        return a / (stability + k + 1.0) ** alpha

    return optax.chain(
        estimate_gradient(method, chunk_size=chunk_size), optax.scale_by_learning_rate(rate)
    )
