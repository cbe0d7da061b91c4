"""A custom loss without a gradient, done right in the three ways people try.

The model is a line, the loss the 80th percentile of the absolute residuals, rounded to
the resolution of the instrument that measured them: a number that a NumPy script computes in
one line, and that has no derivative worth the name. Three ways to a gradient:

1. central differences of the loss written in JAX,
2. forward differences of the same,
3. the NumPy script itself, as an external function.

In each the parameters flow through the model into the loss, which the script checks: a
gradient that is always zero is the commonest mistake, and differentiating something else
the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxfd

RESOLUTION = 0.01
# A difference must span many of the loss's stairs, and stay small against the parameters.
STEP = 0.1
TRUE = np.array([2.0, -1.0])


def data() -> tuple[np.ndarray, np.ndarray]:
    """Forty points on a line with noise, and four gross outliers."""
    rng = np.random.default_rng(0)
    t = np.linspace(0.0, 1.0, 40)
    y = TRUE[0] * t + TRUE[1] + 0.05 * rng.normal(size=t.size)
    y[::10] += 3.0
    return t, y


T, Y = data()


def loss(parameters: jax.Array) -> jax.Array:
    """The loss in JAX. It can be traced; ``jax.grad`` of it is zero because of the rounding."""
    prediction = parameters[0] * jnp.asarray(T, jnp.float32) + parameters[1]
    residual = jnp.percentile(jnp.abs(prediction - jnp.asarray(Y, jnp.float32)), 80)
    return jnp.round(residual / RESOLUTION) * RESOLUTION


def external_loss(parameters: np.ndarray) -> float:
    """The same loss in NumPy, which JAX cannot trace. It may as well be an executable."""
    prediction = parameters[0] * T + parameters[1]
    residual = np.percentile(np.abs(prediction - Y), 80)
    return float(np.round(residual / RESOLUTION) * RESOLUTION)


def ways() -> dict[str, Callable[[Any], tuple[Any, Any]]]:
    """For each way a function that returns value and gradient."""
    central, forward = jaxfd.Central(step=STEP), jaxfd.Forward(step=STEP)
    box = jaxfd.blackbox(external_loss, jax.ShapeDtypeStruct((), jnp.float32), method=central)
    return {
        "central differences": jaxfd.value_and_grad(loss, method=central),
        "forward differences": jaxfd.value_and_grad(loss, method=forward),
        "an external function": jax.value_and_grad(box),
    }


def fit(
    value_and_grad: Callable[[Any], tuple[Any, Any]], steps: int = 300
) -> tuple[np.ndarray, float]:
    """Runs Adam from zero; returns the parameters and the loss there."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, steps))

    @jax.jit
    def update(parameters: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        _, gradient = value_and_grad(parameters)
        change, state = optimizer.update(gradient, state)
        return jnp.asarray(optax.apply_updates(parameters, change)), state

    parameters = jnp.zeros(2)
    state = optimizer.init(parameters)
    for _ in range(steps):
        parameters, state = update(parameters, state)
    return np.asarray(parameters), external_loss(np.asarray(parameters, np.float64))


def main() -> None:
    start = jnp.zeros(2)
    print(f"jax.grad at the start: {np.asarray(jax.grad(loss)(start))} (the rounding hides it)\n")
    print(f"{'way':<24} {'gradient at the start':>24} {'fitted line':>20} {'loss':>6}")
    for name, way in ways().items():
        _, gradient = way(start)
        if not np.all(np.asarray(gradient)):
            raise RuntimeError(f"{name}: the parameters do not reach the loss: {gradient}")
        parameters, final = fit(way)
        g = "  ".join(f"{v:7.3f}" for v in np.asarray(gradient))
        p = "  ".join(f"{v:7.3f}" for v in parameters)
        print(f"{name:<24} {g:>24} {p:>20} {final:>6.2f}")
    print(f"{'the line behind the data':<24} {'':>24} {TRUE[0]:>11.3f}  {TRUE[1]:7.3f}")

    # The same differences on a smooth loss, where automatic differentiation can be asked.
    def smooth(parameters: jax.Array) -> jax.Array:
        return jnp.mean((parameters[0] * T + parameters[1] - Y) ** 2)

    here = jnp.array([1.0, 1.0])
    error = np.max(
        np.abs(np.asarray(jaxfd.grad(smooth)(here)) - np.asarray(jax.grad(smooth)(here)))
    )
    print(f"\non a smooth loss, jaxfd.grad and jax.grad differ by {error:.1e}")


if __name__ == "__main__":
    main()
