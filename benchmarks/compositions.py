"""Gradients of random JAX programs with black boxes inside, with JAX in float32."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd
from benchmarks._programs import Program
from benchmarks._timing import row

_COUNT = 60
# Programs that do not depend on their argument, to the digits of a float32, have no gradient to
# compare with.
_FLAT = 1e-5


def _error(found: Any, exact: np.ndarray) -> float:
    """The largest error, of the largest entry."""
    return float(np.abs(np.asarray(found, np.float64) - exact).max() / np.abs(exact).max())


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else _COUNT
    print(f"device: {jax.devices()[0].device_kind}, jax {jax.__version__}, x64 off")
    ways: dict[str, Callable[..., Any]] = {"eager": lambda fun: fun, "jit": jax.jit}
    errors: dict[str, list[float]] = {name: [] for name in ways}
    calls: dict[str, list[int]] = {name: [] for name in ways}
    reached = dict.fromkeys(ways, 0)
    tried = flat = 0
    while tried < count:
        program = Program(tried + flat)
        value, exact = program.exact()
        if np.abs(exact).max() < _FLAT * abs(value):
            flat += 1
            continue
        tried += 1
        x, fun = jnp.asarray(program.x), program.with_boxes()
        of_jax = _error(jax.grad(fun)(x), exact)
        for name, way in ways.items():
            for box in program.boxes:
                box.calls = 0
            error = _error(way(jaxfd.grad(fun))(x), exact)
            errors[name].append(error)
            calls[name].append(max(box.calls for box in program.boxes))
            good = error <= max(1e-5, 10 * of_jax)
            reached[name] += good
            if not good:
                print(f"  {tried + flat - 1}, {name}: {error:.2e}, jax.grad {of_jax:.2e}")
    print(f"{tried} programs, {flat} more are flat")
    for name in ways:
        share, middle = reached[name] / count, float(np.median(errors[name]))
        row(f"{name}: error <= 1e-5 or <= 10 x jax.grad's, share", share, "= 1", share == 1)
        row(f"{name}: median error", middle, "<= 1e-6", middle <= 1e-6)
        most = max(calls[name])
        row(f"{name}: most calls of one box for one gradient", most, "<= 1", most <= 1)


if __name__ == "__main__":
    main()
