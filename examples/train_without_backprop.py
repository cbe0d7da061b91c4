"""Trains a network on handwritten digits without backpropagation, in four ways.

The network has 64 inputs, 128 tanh units and 10 outputs: 9,610 parameters. The same steps of Adam
are taken with gradients from

- full differences: every weight is moved on its own, 19,220 evaluations a step;
- the per-sample trick: every unit is moved instead, for all samples at once, and the weights'
  gradient is a product of that with the layer's input: 278 evaluations a step, of which all but
  two begin at the moved unit;
- random directions, SPSA and low-rank: a few evaluations a step, whatever the number of
  parameters, and a noisy gradient;
- backpropagation, for scale.

    python examples/train_without_backprop.py [--steps N] [--save-plot FILE]

Needs ``pip install jaxfd[examples]``.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxfd

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SIZES = (64, 128, 10)
BATCH = 64
RATE = 1e-2
# A random direction says little about 9,610 parameters, so Adam takes smaller steps, and more.
RANDOM_SAMPLES, RANDOM_RANK, RANDOM_SIGMA, RANDOM_RATE, RANDOM_TIMES = 32, 4, 1e-2, 3e-3, 10

Params = list[dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Digits:
    """Images of 8 x 8 pixels between 0 and 1, and which digits they show."""

    x: jax.Array
    y: jax.Array
    x_test: jax.Array
    y_test: jax.Array


def digits() -> Digits:
    """The digits that come with scikit-learn, a fifth of them set aside."""
    pixels, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(pixels / 16, labels, test_size=0.2, random_state=0)
    return Digits(
        *(jnp.asarray(a, t) for a, t in [(x, np.float32), (y, np.int32)]),
        *(jnp.asarray(a, t) for a, t in [(x_test, np.float32), (y_test, np.int32)]),
    )


def start(key: jax.Array) -> Params:
    """The first weights."""
    keys = jax.random.split(key, 2)
    return [
        {"w": jax.random.normal(k, (n, m)) / np.sqrt(n), "b": jnp.zeros(m)}
        for k, n, m in zip(keys, SIZES[:-1], SIZES[1:], strict=True)
    ]


@jaxfd.layer  # all that the per-sample trick needs to be told
def dense(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """The pre-activations of a layer."""
    return x @ p["w"] + p["b"]


def logits(params: Params, x: jax.Array) -> jax.Array:
    """What the network says, shape ``(samples, 10)``."""
    return dense(params[1], jnp.tanh(dense(params[0], x)))


def loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """The mean cross-entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()


@dataclasses.dataclass
class Run:
    """What came of a training.

    Attributes:
        name: how gradients were made.
        evaluations: how often a step evaluates the loss, whole or in part.
        accuracy: per cent of test digits right, after each step looked at.
        steps: those steps.
        seconds: how long it took, compilation aside.
    """

    name: str
    evaluations: int
    accuracy: list[float]
    steps: list[int]
    seconds: float


def train(
    name: str,
    gradient: Callable[[jax.Array, Params, jax.Array, jax.Array], Params],
    data: Digits,
    steps: int,
    evaluations: int,
    rate: float = RATE,
) -> Run:
    """An ordinary optax loop; ``gradient`` gets a new key each step."""
    solver = optax.adam(rate)

    @jax.jit
    def step(params: Params, state: Any, key: jax.Array, rows: jax.Array) -> tuple[Params, Any]:
        updates, state = solver.update(gradient(key, params, data.x[rows], data.y[rows]), state)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def accuracy(params: Params) -> jax.Array:
        return 100 * jnp.mean(jnp.argmax(logits(params, data.x_test), -1) == data.y_test)

    params = start(jax.random.key(0))
    state = solver.init(params)
    keys = jax.random.split(jax.random.key(1), steps)
    batches = np.random.default_rng(0).integers(0, len(data.x), (steps, BATCH))
    jax.block_until_ready(step(params, state, keys[0], batches[0]))
    run = Run(name, evaluations, [float(accuracy(params))], [0], 0.0)
    for k in range(steps):
        before = time.perf_counter()
        params, state = jax.block_until_ready(step(params, state, keys[k], batches[k]))
        run.seconds += time.perf_counter() - before
        if (k + 1) % max(steps // 30, 1) == 0 or k + 1 == steps:
            run.steps.append(k + 1)
            run.accuracy.append(float(accuracy(params)))
    print(
        f"  {name:26}{steps:8d}{evaluations:14d}{run.seconds:12.1f}{run.accuracy[-1]:14.1f}",
        flush=True,
    )
    return run


def by_differences(data: Digits, steps: int) -> list[Run]:
    """Every weight, and every unit."""
    weights = sum(leaf.size for leaf in jax.tree.leaves(start(jax.random.key(0))))
    units = sum(SIZES[1:])
    full, trick = jaxfd.grad(loss), jax.grad(jaxfd.per_sample(loss))
    return [
        train("full differences", lambda key, *call: full(*call), data, steps, 2 * weights),
        train(
            "per-sample differences", lambda key, *call: trick(*call), data, steps, 2 * units + 2
        ),
    ]


def by_random_directions(data: Digits, steps: int) -> list[Run]:
    """A few directions through all parameters at once, new ones each step."""

    def spsa(key: jax.Array, *call: Any) -> Params:
        method = jaxfd.SPSA(key, RANDOM_SAMPLES, sigma=RANDOM_SIGMA)
        return jaxfd.grad(loss, method=method)(*call)

    def low_rank(key: jax.Array, *call: Any) -> Params:
        method = jaxfd.LowRank(key, RANDOM_SAMPLES, rank=RANDOM_RANK, sigma=RANDOM_SIGMA)
        return jaxfd.grad(loss, method=method)(*call)

    times, cost = RANDOM_TIMES * steps, 2 * RANDOM_SAMPLES
    return [
        train("SPSA", spsa, data, times, cost, RANDOM_RATE),
        train(f"random matrices, rank {RANDOM_RANK}", low_rank, data, times, cost, RANDOM_RATE),
    ]


def by_backpropagation(data: Digits, steps: int) -> Run:
    """What all others are measured against."""
    return train("backpropagation", lambda key, *call: jax.grad(loss)(*call), data, steps, 1)


def draw(runs: Sequence[Run], file: Path) -> None:
    """Accuracy against evaluations of the loss."""
    _, axes = plt.subplots(figsize=(7, 4.5))
    for run in runs:
        spent = run.evaluations * np.array(run.steps[1:])
        axes.plot(spent, run.accuracy[1:], label=run.name)
    axes.set(xscale="log", xlabel="evaluations of the loss", ylabel="test digits right, per cent")
    axes.grid(alpha=0.3)
    axes.set_title("Handwritten digits, learnt in five ways")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    plt.savefig(file, dpi=150, bbox_inches="tight")
    plt.close()
    print(f"picture  {file}")


def main(argv: Sequence[str] | None = None) -> None:
    """Trains in all ways, prints a table and perhaps draws it."""
    parser = argparse.ArgumentParser(description="Training without backpropagation.")
    parser.add_argument("--steps", type=int, default=100, help="steps of Adam")
    parser.add_argument("--save-plot", type=Path, metavar="FILE", help="where the picture goes")
    options = parser.parse_args(argv)
    data = digits()
    print(f"  {'gradient':26}{'steps':>8}{'evaluations':>14}{'seconds':>12}{'accuracy':>14}")
    exact = by_backpropagation(data, options.steps)
    full, trick = by_differences(data, options.steps)
    random = by_random_directions(data, options.steps)
    for run in (full, trick):
        assert abs(run.accuracy[-1] - exact.accuracy[-1]) <= 0.5, run.name
    assert trick.seconds < full.seconds / 10
    if options.save_plot is not None:
        draw([exact, full, trick, *random], options.save_plot)


if __name__ == "__main__":
    main()
