"""First calls: what compiling costs. ``python -m benchmarks first_calls``

Each figure is the CPU time of a first call in a fresh process, after JAX itself is warm.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd
from benchmarks._timing import row

_N = 50
_REPEATS = 3


def warm_up() -> None:
    """Compiles and runs something, so that JAX's own start is not measured."""
    jax.jit(lambda x: x + 1)(jnp.ones(3)).block_until_ready()
    (jnp.arange(3.0) * 2).block_until_ready()


def sines(x: Any) -> Any:
    return jnp.sum(jnp.sin(x))


def rosenbrock(x: Any) -> Any:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def products(x: Any) -> Any:
    """Thirty products of 50 x 50 matrices."""
    result = jnp.diag(x)
    for factor in np.random.default_rng(0).normal(size=(30, _N, _N)) / _N**0.5:
        result = jnp.asarray(factor, x.dtype) @ result
    return jnp.sum(result)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "sum(sin(x))": sines,
    "Rosenbrock": rosenbrock,
    "30 products of 50 x 50": products,
}
# What a child can be asked for: a maker of gradients.
GRADIENTS: dict[str, Callable[[Callable[[Any], Any]], Callable[[Any], Any]]] = {
    "Central": jaxfd.grad,
    "Adaptive": lambda fun: jaxfd.grad(fun, method=jaxfd.Adaptive()),
    "Adaptive under jit": lambda fun: jax.jit(jaxfd.grad(fun, method=jaxfd.Adaptive())),
}


def first_call(gradient: str, function: str) -> float:
    """CPU seconds of a first call, in this process."""
    warm_up()
    x = jnp.linspace(0.1, 1.0, _N).block_until_ready()
    start = time.process_time()
    GRADIENTS[gradient](FUNCTIONS[function])(x).block_until_ready()
    return time.process_time() - start


def in_a_child(gradient: str, function: str) -> float:
    """The same in fresh processes: the median."""
    command = [sys.executable, "-m", "benchmarks.first_calls", gradient, function]
    return float(np.median([_output(command) for _ in range(_REPEATS)]))


def _output(command: list[str]) -> float:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def adaptive() -> None:
    """`Adaptive` over `Central`."""
    for function, goal in zip(FUNCTIONS, (6, 6, 4), strict=True):
        central = in_a_child("Central", function)
        ratio = in_a_child("Adaptive", function) / central
        row(f"Adaptive / Central(), {function}", ratio, f"<= {goal}", ratio <= goal)
        print(f"    Central() takes {central:.2f} s of CPU time")
        under_jit = in_a_child("Adaptive under jit", function) / central
        print(f"    under jit, where the search is compiled too: {under_jit:.1f}")


def main() -> None:
    if len(sys.argv) > 1:
        print(first_call(*sys.argv[1:]))
        return
    print("== first calls")
    print(f"device: {jax.default_backend()}, jax {jax.__version__}")
    adaptive()


if __name__ == "__main__":
    main()
