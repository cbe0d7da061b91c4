"""Trains a network whose units say yes or no and whose weights have four bits, as chips have them.

Backpropagation cannot: the sign of a pre-activation has no slope, so the gradient of every layer
but the last is zero. Differences whose step spans the jump see what the sign does.

Two kinds of rounding are in the network, and each is handled where it is.

- The units. A sample's loss jumps where a pre-activation changes its sign. ``Central(step=3.0)``
  moves pre-activations, which are of that size, by 3 to both sides: a unit whose sign changes on
  the way gets the change of the loss as its slope. `jaxfd.per_sample` does so for all samples at
  once, unit by unit, so a step takes 278 evaluations of a batch and not 17,940.
- The weights. Adam moves full-precision weights, and the network only ever sees them rounded. From
  the pre-activations to the weights nothing is differenced: a layer is what JAX differentiates, so
  it is there that rounding is told to pass gradients straight through. For one layer that is no
  approximation to worry about: seen from afar, rounding is the identity.

Every evaluation, those of the differences too, is one of the quantised network.

    python examples/quantised_network.py [--save-plot FILE]

Needs ``pip install jaxfd[examples]``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxfd

SIZES = (64, 64, 64, 10)
STEPS, BATCH, RATE = 400, 64, 1e-2
# Weights are -7/4, -6/4, ..., 7/4.
LEVELS, LARGEST = 4.0, 7.0
# As far as pre-activations are from zero. Much less, and few units are seen to change; much more,
# and all changes count the same, those that are nowhere near.
STEP = 3.0
# Logits are multiples of 1/4 up to 100 or so: this brings them to the size that softmax likes.
TEMPERATURE = 4.0

Params = list[dict[str, jax.Array]]


def quantised(w: jax.Array) -> jax.Array:
    """The weights as the network has them; gradients pass straight through."""
    four_bits = jnp.clip(jnp.round(LEVELS * w), -LARGEST, LARGEST) / LEVELS
    return w + lax.stop_gradient(four_bits - w)


@jaxfd.layer
def dense(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """The pre-activations of a layer."""
    return x @ quantised(p["w"]) + quantised(p["b"])


def logits(params: Params, x: jax.Array) -> jax.Array:
    """What the network says, shape ``(samples, 10)``."""
    for p in params[:-1]:
        x = jnp.sign(dense(p, x))
    return dense(params[-1], x) / TEMPERATURE


def loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """The mean cross-entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()


def start(key: jax.Array) -> Params:
    """The first weights, before rounding."""
    return [
        {"w": 0.5 * jax.random.normal(k, (n, m)), "b": jnp.zeros(m)}
        for k, n, m in zip(jax.random.split(key, 3), SIZES[:-1], SIZES[1:], strict=True)
    ]


def digits() -> list[jax.Array]:
    """Pixels between -1 and 1 and labels: to train with, and a fifth to test with."""
    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(pixels / 8 - 1, labels, test_size=0.2, random_state=0)
    dtypes = (np.float32, np.float32, np.int32, np.int32)
    return [jnp.asarray(part, dtype) for part, dtype in zip(parts, dtypes, strict=True)]


def train(
    gradient: Callable[[Params, jax.Array, jax.Array], Params], x: jax.Array, y: jax.Array
) -> Params:
    """An ordinary optax loop."""
    solver = optax.adam(optax.cosine_decay_schedule(RATE, STEPS))

    @jax.jit
    def step(params: Params, state: Any, rows: jax.Array) -> tuple[Params, Any]:
        updates, state = solver.update(gradient(params, x[rows], y[rows]), state)
        return optax.apply_updates(params, updates), state

    params = start(jax.random.key(0))
    state = solver.init(params)
    for rows in np.random.default_rng(0).integers(0, len(x), (STEPS, BATCH)):
        params, state = step(params, state, rows)
    return jax.block_until_ready(params)


def draw(right: dict[str, float], file: Path) -> None:
    """Test digits right, by the way of training."""
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(figsize=(7, 2.2), layout="constrained")
    bars = axes.barh(list(right), list(right.values()), color=["0.6", "#D55E00", "#0072B2"])
    axes.bar_label(bars, fmt="%.1f %%", padding=3)
    axes.set(xlim=(0, 112), xlabel="test digits right, per cent", title="Sign units, 4-bit weights")
    axes.invert_yaxis()
    plt.savefig(file, dpi=120)
    plt.close()
    print(f"\npicture  {file}")


def main(argv: Sequence[str] | None = None) -> None:
    """Compares gradients, trains, and prints what came of it."""
    parser = argparse.ArgumentParser(description="A quantised network, trained.")
    parser.add_argument("--save-plot", type=Path, metavar="FILE", help="where the picture goes")
    options = parser.parse_args(argv)
    x, x_test, y, y_test = digits()
    differences = jax.grad(jaxfd.per_sample(loss, method=jaxfd.Central(step=STEP)))
    gradients = {"backpropagation": jax.grad(loss), "jaxfd.per_sample": differences}

    def accuracy(params: Params) -> float:
        return 100 * float(jnp.mean(jnp.argmax(logits(params, x_test), -1) == y_test))

    print("largest gradient of the first weights       layer 1     layer 2     layer 3")
    found = {}
    for name, gradient in gradients.items():
        layers = gradient(start(jax.random.key(0)), x[:BATCH], y[:BATCH])
        found[name] = [float(jnp.max(jnp.abs(p["w"]))) for p in layers]
        print(f"  {name:38}" + "".join(f"{size:12.4f}" for size in found[name]))

    print(f"\ntest digits right after {STEPS} steps of Adam")
    before_training = accuracy(start(jax.random.key(0)))
    print(f"  {'before':38}{before_training:11.1f} %")
    right = {}
    for name, gradient in gradients.items():
        before = time.perf_counter()
        right[name] = accuracy(train(gradient, x, y))
        print(f"  {name:38}{right[name]:11.1f} %{time.perf_counter() - before:9.1f} s")

    if options.save_plot is not None:
        draw({"before training": before_training, **right}, options.save_plot)
    assert found["backpropagation"][:-1] == [0.0, 0.0], "backpropagation sees no slope in a sign"
    assert all(found["jaxfd.per_sample"])
    assert right["jaxfd.per_sample"] > 92 > right["backpropagation"] + 10


if __name__ == "__main__":
    main()
