"""Gradients of a network by differences at its units, against weight by weight and ``jax.grad``.

``python -m benchmarks.network``. Needs scikit-learn, for its digits.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxfd
from benchmarks._timing import ratios, row

_SIZES = (64, 128, 10)
_BATCH = 256
_DTYPES = (np.float32, np.float32, np.int32, np.int32)
_STEPS, _STEP_BATCH, _RATE = 150, 64, 1e-2

Unit = Callable[[jax.Array], jax.Array]
Params = list[dict[str, jax.Array]]


def _start(key: jax.Array) -> Params:
    """The first weights of a network."""
    return [
        {"w": jax.random.normal(k, (n, m)) / np.sqrt(n), "b": jnp.zeros(m)}
        for k, n, m in zip(jax.random.split(key, 2), _SIZES, _SIZES[1:], strict=False)
    ]


@jaxfd.layer
def _dense(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    return x @ p["w"] + p["b"]


def _logits(params: Params, x: jax.Array, unit: Unit = jnp.tanh) -> jax.Array:
    return _dense(params[1], unit(_dense(params[0], x)))


def _loss(unit: Unit) -> Callable[[Params, jax.Array, jax.Array], jax.Array]:
    """The mean cross-entropy of a network with units of some kind."""

    def loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = _logits(params, x, unit)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    return loss


def _evaluations(
    transform: Callable[..., Any], loss: Callable[..., Any], params: Params, x: Any, y: Any
) -> int:
    """How often a gradient evaluates the loss of one sample, counted."""
    count = 0

    def called() -> None:
        nonlocal count
        count += 1

    def counted(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
        value = loss(params, x, y)
        jax.debug.callback(lambda value: called(), value)
        return value

    jax.block_until_ready(transform(counted)(params, x[:1], y[:1]))
    jax.effects_barrier()
    return count


def _speed(data: tuple[Any, ...]) -> list[bool]:
    params, (x, y) = _start(jax.random.key(0)), (a[:_BATCH] for a in data[::2])
    reached = []
    for unit in (jnp.tanh, jax.nn.squareplus, jax.nn.relu):
        loss, name = _loss(unit), unit.__name__
        # With a chunk size every point is evaluated whole.
        chunks = (16, 64, 256) if unit is jnp.tanh else (64,)
        others = [jax.jit(jaxfd.grad(loss, chunk_size=size)) for size in (*chunks, None)]
        functions = [jax.jit(jax.grad(jaxfd.per_sample(loss))), *others]
        *whole, followed = ratios([partial(f, params, x, y) for f in functions], seconds=20.0)[1:]
        gain = min(whole)
        row(f"{name}: weight by weight, chunked / per sample", gain, ">= 80", gain >= 80)
        saved = f"{name}: weight by weight, chunked / as it is, changes followed (for scale)"
        print(f"{saved:<68} {gain / followed:>12.4g}")

        exact = jax.tree.leaves(jax.grad(loss)(params, x, y))
        found = jax.tree.leaves(jax.grad(jaxfd.per_sample(loss))(params, x, y))
        error = max(float(jnp.max(jnp.abs(a - b))) for a, b in zip(exact, found, strict=True))
        error /= max(float(jnp.max(jnp.abs(leaf))) for leaf in exact)
        row(f"{name}: largest error over the largest entry", error, "<= 1e-4", error <= 1e-4)
        # A difference across the kink of a relu is neither slope: its error is shown for scale.
        reached += [gain >= 80, error <= 1e-4 or unit is jax.nn.relu]

    few = _evaluations(lambda f: jax.grad(jaxfd.per_sample(f)), loss, params, x, y)
    many = _evaluations(jaxfd.grad, loss, params, x, y)
    row(f"evaluations (weight by weight {many})", few, "<= 278", few <= 278)
    return [*reached, few <= 278]


def _accuracy(gradient: Callable[..., Params], data: tuple[Any, ...]) -> float:
    """Per cent of test digits right after the same steps of Adam."""
    x, x_test, y, y_test = data
    solver = optax.adam(_RATE)

    @jax.jit
    def step(params: Params, state: Any, rows: jax.Array) -> tuple[Params, Any]:
        updates, state = solver.update(gradient(params, x[rows], y[rows]), state)
        return optax.apply_updates(params, updates), state

    params = _start(jax.random.key(1))
    state = solver.init(params)
    for rows in np.random.default_rng(0).integers(0, len(x), (_STEPS, _STEP_BATCH)):
        params, state = step(params, state, rows)
    return 100 * float(jnp.mean(jnp.argmax(_logits(params, x_test), -1) == y_test))


def _training(data: tuple[Any, ...]) -> list[bool]:
    loss = _loss(jnp.tanh)
    back = _accuracy(jax.grad(loss), data)
    print(f"  backpropagation, {_STEPS} steps of Adam: {back:.2f} % of test digits")
    reached = []
    for name, gradient in (
        ("per sample", jax.grad(jaxfd.per_sample(loss))),
        ("weight by weight", jaxfd.grad(loss)),
    ):
        found = _accuracy(gradient, data)
        gap = abs(found - back)
        row(f"{name}: {found:.2f} %, points from backpropagation", gap, "<= 0.5", gap <= 0.5)
        reached.append(gap <= 0.5)
    return reached


def _random(data: tuple[Any, ...]) -> list[bool]:
    """Test digits right after training along random directions for so many seconds."""
    x, x_test, y, y_test = data
    loss, seconds = _loss(jnp.tanh), 20.0
    reached = []
    methods: dict[str, tuple[Callable[[Any], Any], float]] = {
        "SPSA, 16 samples": (lambda key: jaxfd.SPSA(key, 16, sigma=1e-2), 3e-3),
        "low rank, 256 samples": (lambda key: jaxfd.LowRank(key, 256, 1, sigma=1e-2), 1e-2),
    }
    for name, (method, rate) in methods.items():
        solver = optax.adam(rate)

        @jax.jit
        def steps(
            params: Params, state: Any, key: Any, method: Any = method, solver: Any = solver
        ) -> Any:
            def step(carry: Any, key: Any) -> Any:
                params, state = carry
                rows = jax.random.randint(key, (_BATCH,), 0, len(x))
                slope = jaxfd.grad(loss, method=method(key))(params, x[rows], y[rows])
                updates, state = solver.update(slope, state)
                return (optax.apply_updates(params, updates), state), None

            return jax.lax.scan(step, (params, state), jax.random.split(key, 20))[0]

        params = _start(jax.random.key(1))
        state = solver.init(params)
        jax.block_until_ready(steps(params, state, jax.random.key(2)))
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            params, state = steps(params, state, jax.random.fold_in(jax.random.key(3), count))
            jax.block_until_ready(params)
            count += 1
        right = 100 * float(jnp.mean(jnp.argmax(_logits(params, x_test), -1) == y_test))
        row(f"{name} + adam, {seconds:g} s: per cent right", right, ">= 90", right >= 90)
        reached.append(right >= 90)
    return reached


def main() -> int:
    """Prints the table."""
    print(f"device: {jax.devices()[0].device_kind}, jax {jax.__version__}")
    pixels, labels = load_digits(return_X_y=True)
    split = train_test_split(pixels / 16, labels, test_size=0.2, random_state=0)
    data = tuple(jnp.asarray(a, t) for a, t in zip(split, _DTYPES, strict=True))
    return 0 if all([*_speed(data), *_training(data), *_random(data)]) else 1


if __name__ == "__main__":
    sys.exit(main())
