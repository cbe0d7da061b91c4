"""First calls and small ones: what compilation, bookkeeping and memory cost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd
from benchmarks._timing import ratios, row

# A child process: warms JAX up, and says how much CPU time one call takes, compilation included.
_CHILD = """
import sys, time
import jax, jax.numpy as jnp
import benchmarks.small_calls as cases
x = jnp.linspace(0.0, 1.0, 50)
jax.block_until_ready(jax.jit(lambda a: jnp.sum(2 * a))(x))
jax.block_until_ready(jax.grad(lambda a: jnp.sum(a * a))(x))
call = getattr(cases, sys.argv[1])(getattr(cases, sys.argv[2]))
start = time.process_time()
jax.block_until_ready(call(x))
print(time.process_time() - start)
"""


def _first_call(how: str, fun: str, times: int = 5) -> float:
    """CPU seconds of a first call, the median of so many fresh processes."""
    command = [sys.executable, "-c", _CHILD, how, fun]
    found = [subprocess.run(command, capture_output=True, check=True) for _ in range(times)]
    return float(np.median([float(f.stdout) for f in found]))


def sines(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.sin(x))


def rosenbrock(x: jax.Array) -> jax.Array:
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def smoothed_by_hand(fun: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What one writes without the library: 64 pairs of points, and the mean."""
    key, sigma = jax.random.key(0), 0.1

    @jax.jit
    def gradient(x: jax.Array) -> jax.Array:
        directions = jax.random.normal(key, (64, x.size))
        slopes = jax.vmap(lambda u: (fun(x + sigma * u) - fun(x - sigma * u)) / (2 * sigma))
        return jnp.mean(slopes(directions)[:, None] * directions, axis=0)

    return gradient


def smoothed(fun: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return jaxfd.grad(fun, method=jaxfd.GaussianSmoothing(jax.random.key(0), 64, sigma=0.1))


def smoothing() -> None:
    """`GaussianSmoothing` over the same by hand: CPU time of the first call."""
    for fun in ("sines", "rosenbrock"):
        ratio = _first_call("smoothed", fun) / _first_call("smoothed_by_hand", fun)
        name = f"GaussianSmoothing gradient / by hand, first call, {fun}, n=50"
        row(name, ratio, "<= 1.3", ratio <= 1.3)


def squares(x: np.ndarray) -> np.ndarray:
    """About 2.5 us for 50 numbers."""
    return np.sum(x * x, axis=-1)


def cheap_boxes() -> None:
    """A black box of microseconds, over its bare calls."""
    points = np.random.default_rng(0).normal(size=(101, 50))
    x = jnp.asarray(points[0])
    out = jax.ShapeDtypeStruct((), x.dtype)
    box = jaxfd.blackbox(squares, out)
    ours, hooked = jaxfd.value_and_grad(box), jax.grad(box)
    _, ratio, hook = ratios(
        [lambda: [squares(p) for p in points], lambda: ours(x), lambda: hooked(x)]
    )
    row("black box, eager value_and_grad / 101 bare calls, n=50", ratio, "<= 1.6", ratio <= 1.6)
    print(f"{'the same through jax.grad, whose own part is the most of it':<68} {hook:>12.4g}")
    many = jaxfd.value_and_grad(jaxfd.blackbox(squares, out, vectorized=True))
    ratio = ratios([lambda: squares(points), lambda: many(x)])[1]
    row("vectorised / one bare call of 101 points", ratio, "<= 3", ratio <= 3)


def outer(x: jax.Array) -> jax.Array:
    """A million numbers on the way to one."""
    return jnp.sum(jnp.tanh(jnp.outer(x, jnp.linspace(0.0, 1.0, 10**6 // x.size))))


def _megabytes(fun: Callable[[Any], Any], *lead: int) -> float:
    shape = jax.ShapeDtypeStruct((*lead, 100), np.float32)
    analysis: Any = jax.jit(fun).lower(shape).compile().memory_analysis()
    return float(analysis.temp_size_in_bytes / 1e6)


def memory() -> None:
    """Temporaries that XLA plans for: 1e6 intermediates of float32, n = 100."""
    size = _megabytes(jaxfd.grad(outer))
    row("temporaries in MB of grad, 1e6 intermediates", size, "<= 20", size <= 20)
    values = _megabytes(jax.vmap(outer), 32)
    hooked = jax.grad(jaxfd.differentiable(outer))
    for name, derivative in (("grads", jaxfd.grad(outer)), ("hooks", hooked)):
        size = _megabytes(jax.vmap(derivative), 32)
        title = f"temporaries of vmap of 32 {name} ({size:.0f} MB) / of 32 values"
        row(title, size / values, "<= 1.3", size <= 1.3 * values)


def main() -> None:
    print(f"device: {jax.devices()[0].device_kind}, jax {jax.__version__}")
    smoothing()
    cheap_boxes()
    memory()


if __name__ == "__main__":
    main()
