"""What executors and the journal cost and gain: ``python -m benchmarks.runs``."""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd
from benchmarks import _simulators
from benchmarks._timing import ratios, row

_SCALAR = jax.ShapeDtypeStruct((), np.float32)
_N = 20


def _gradient(fun: Callable[..., Any], **options: Any) -> Callable[[], Any]:
    """A compiled value and gradient of 20 numbers: 41 points."""
    box = jaxfd.blackbox(fun, _SCALAR, **options)
    call, x = jax.jit(jax.value_and_grad(box)), jnp.linspace(0.1, 2.0, _N)
    return lambda: call(x)


def _wall(call: Callable[[], Any], rounds: int = 7) -> float:
    """Median time of a call, in seconds."""
    jax.block_until_ready(call())
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def _pools() -> list[bool]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        calls = [_gradient(_simulators.busy, executor=pool), _gradient(_simulators.busy)]
        gain = ratios(calls, seconds=15.0)[1]
    row("20 ms of Python, n = 20: one by one over a process pool of 2", gain, ">= 1.8", gain >= 1.8)
    with ThreadPoolExecutor(16) as pool16:
        wall = _wall(_gradient(_simulators.asleep, executor=pool16))
    over = wall / (-(-(2 * _N + 1) // 16) * 0.05)
    row("50 ms of sleep, n = 20: 16 threads over the ideal", over, "<= 1.3", over <= 1.3)
    return [gain >= 1.8, over <= 1.3]


def _vectorized(folder: Path) -> list[bool]:
    """50 gradients of 100 numbers: 10,000 points in one call."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(50, 100)), np.float32)
    points = jnp.repeat(x, 200, axis=0)

    def host(points: Any) -> np.ndarray:
        return _simulators.rosenbrock(np.asarray(points, np.float64)).astype(np.float32)

    shape = jax.ShapeDtypeStruct((10_000,), np.float32)
    bare = jax.jit(lambda p: jax.pure_callback(host, shape, p))
    box = jaxfd.blackbox(_simulators.rosenbrock, _SCALAR, vectorized=True)
    gradient = jax.jit(jax.vmap(jax.grad(box)))
    over = ratios([lambda: bare(points), lambda: gradient(x)], seconds=6.0)[1]
    row("10,000 points at once, n = 100, over pure_callback", over, "<= 1.25", over <= 1.25)

    box = jaxfd.blackbox(
        _simulators.rosenbrock, _SCALAR, vectorized=True, journal=folder / "many.sqlite"
    )
    kept = jax.jit(jax.vmap(jax.grad(box)))
    jax.block_until_ready(kept(x))
    plain = _wall(lambda: gradient(x))
    times = []
    for k in range(1, 6):
        start = time.perf_counter()
        jax.block_until_ready(kept(x + k))
        times.append(time.perf_counter() - start)
    cost = 1e6 * (float(np.median(times)) - plain) / 10_000
    row("journal, 10,000 points at once: cost of a point, us", cost, "<= 100", cost <= 100)
    return [over <= 1.25, cost <= 100]


def _journal(folder: Path) -> list[bool]:
    calls = 0

    def count(x: np.ndarray) -> float:
        nonlocal calls
        calls += 1
        return float(np.sum(x**2))

    box = jaxfd.blackbox(count, _SCALAR, journal=folder / "one.sqlite", name="count")
    plain = jax.jit(jax.value_and_grad(jaxfd.blackbox(count, _SCALAR)))
    kept, x = jax.jit(jax.value_and_grad(box)), jnp.linspace(0.1, 2.0, _N)
    jax.block_until_ready((kept(x), plain(x)))
    times = []
    for k in range(1, 21):
        start = time.perf_counter()
        jax.block_until_ready(kept(x + k))
        middle = time.perf_counter()
        jax.block_until_ready(plain(x + k))
        times.append(2 * middle - start - time.perf_counter())
    assert calls == 2 * 21 * (2 * _N + 1)
    cost = 1e6 * float(np.median(times)) / (2 * _N + 1)
    row("journal, point by point: cost of a point, us", cost, "<= 100", cost <= 100)

    evaluate = _wall(_gradient(_simulators.busy), rounds=3)
    hit = _wall(_gradient(_simulators.busy, journal=folder / "busy.sqlite"), rounds=21)
    gain = evaluate / hit
    row("20 ms of Python, n = 20: evaluating over the journal", gain, ">= 100", gain >= 100)
    return [cost <= 100, gain >= 100]


def main() -> int:
    """Prints the table."""
    print(f"jax {jax.__version__}, CPU")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reached = [*_pools(), *_vectorized(folder), *_journal(folder)]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
