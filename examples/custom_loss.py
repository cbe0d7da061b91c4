"""A custom loss without a gradient, done right in the three ways people try.

The model is a line, the loss the 80th percentile of the absolute residuals, rounded to
the resolution of the instrument that measured them: a number that a NumPy script computes in
one line, and that has no derivative worth the name. Three ways to a gradient:

1. central differences of the loss written in JAX,
2. forward differences of the same,
3. the NumPy script itself, as an external function.

In each the parameters flow through the model into the loss, which the script checks: a
gradient that is always zero is the commonest mistake (a loss that reads its parameters from
somewhere else than its argument), and differentiating something else the next.

    python examples/custom_loss.py [--save-plot FILE]

The picture needs ``pip install jaxfd[plot]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxfd

RESOLUTION = 0.01
# A difference must span many of the loss's stairs, and stay small against the parameters.
STEP = 0.1
# Below most of the data. Near a kink of the loss, as in its valley, two differences need not agree.
START = (0.0, -2.0)
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


def smooth_loss(parameters: jax.Array) -> jax.Array:
    """A loss that automatic differentiation can serve, to check the three ways against it."""
    prediction = parameters[0] * jnp.asarray(T, jnp.float32) + parameters[1]
    return jnp.mean((prediction - jnp.asarray(Y, jnp.float32)) ** 2)


def external_smooth_loss(parameters: np.ndarray) -> float:
    """The same loss in NumPy."""
    return float(np.mean((parameters[0] * T + parameters[1] - Y) ** 2))


def ways(
    loss: Callable[[jax.Array], jax.Array],
    external_loss: Callable[[np.ndarray], float],
    step: float | None,
) -> dict[str, Callable[[Any], tuple[Any, Any]]]:
    """For each way a function that returns value and gradient.

    Args:
        loss: in JAX.
        external_loss: the same in NumPy.
        step: how far the parameters are moved; None lets the library choose.
    """
    central, forward = jaxfd.Central(step=step), jaxfd.Forward(step=step)
    box = jaxfd.blackbox(external_loss, jax.ShapeDtypeStruct((), jnp.float32), method=central)
    return {
        "central differences": jaxfd.value_and_grad(loss, method=central),
        "forward differences": jaxfd.value_and_grad(loss, method=forward),
        "an external function": jax.value_and_grad(box),
    }


def fit(
    value_and_grad: Callable[[Any], tuple[Any, Any]], steps: int = 300
) -> tuple[np.ndarray, float]:
    """Runs Adam; returns the parameters and the loss there."""
    optimizer = optax.adam(optax.cosine_decay_schedule(0.1, steps))

    @jax.jit
    def update(parameters: jax.Array, state: Any) -> tuple[jax.Array, Any]:
        _, gradient = value_and_grad(parameters)
        change, state = optimizer.update(gradient, state)
        return jnp.asarray(optax.apply_updates(parameters, change)), state

    parameters = jnp.array(START)
    state = optimizer.init(parameters)
    for _ in range(steps):
        parameters, state = update(parameters, state)
    return np.asarray(parameters), external_loss(np.asarray(parameters, np.float64))


def text(numbers: Any) -> str:
    """Numbers in columns."""
    return "".join(f"{number:9.3f}" for number in np.asarray(numbers))


def draw(fits: dict[str, np.ndarray], file: Path) -> None:
    """The data, and the line that each way has found."""
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(T, Y, "o", color="0.5", ms=4, label="data, with outliers")
    looks = zip(fits.items(), ("-", "--", ":"), ("#0072B2", "#E69F00", "#009E73"), strict=True)
    for (name, line), style, colour in looks:
        axes.plot(T, line[0] * T + line[1], style, color=colour, label=name)
    axes.set(title="80th percentile of the residuals, minimised", xlabel="t", ylabel="y")
    axes.legend(frameon=False)
    plt.savefig(file, dpi=120)
    plt.close()
    print(f"\npicture  {file}")


def main(argv: Sequence[str] | None = None) -> None:
    """Checks the gradients, trains with each, and prints a table."""
    parser = argparse.ArgumentParser(description="A custom loss, in three ways.")
    parser.add_argument("--save-plot", type=Path, metavar="FILE", help="where the picture goes")
    options = parser.parse_args(argv)
    fits = {}
    start = jnp.array(START)
    smooth = ways(smooth_loss, external_smooth_loss, None)
    exact = jax.grad(smooth_loss)(start)
    gradients = {}
    print(
        f"{'':20}{'gradient at start':>20}{'fitted line':>20}{'loss':>7}{'error, smooth loss':>21}"
    )
    print(f"{'jax.grad':20}{text(jax.grad(loss)(start)):>20}  (the rounding hides it)")
    for name, value_and_grad in ways(loss, external_loss, STEP).items():
        _, gradients[name] = value_and_grad(start)
        error = np.max(np.abs(smooth[name](start)[1] - exact))
        parameters, final = fit(value_and_grad)
        fits[name] = parameters
        print(
            f"{name:20}{text(gradients[name]):>20}{text(parameters):>20}{final:7.2f}{error:21.1e}"
        )
        assert np.all(gradients[name]), "the parameters do not reach the loss"
        assert error < 1e-2, "a gradient, but not of this loss"
    print(f"{'behind the data':20}{'':20}{text(TRUE):>20}{external_loss(TRUE):7.2f}")
    # Rounding may move a difference by one resolution, and the quotient by that over the step.
    spread = np.ptp(list(gradients.values()), axis=0)
    assert np.all(spread <= RESOLUTION / STEP), "the three ways disagree"
    print(
        "\nThe error is the largest difference from jax.grad on mean squares. Forward differences "
        "are\nthe cheapest and see one side only: in a valley with a kink they settle beside it."
    )
    if options.save_plot is not None:
        draw(fits, options.save_plot)


if __name__ == "__main__":
    main()
