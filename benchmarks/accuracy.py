"""Accuracy of gradients on test problems, against automatic differentiation.

The unconstrained problems of sif2jax whose name starts with A to M and that have at most 12
variables, at their starting point plus normal noise of 0.01. Digits are
``-log10(max |g - g_AD| / max |g_AD|)``, at most 16.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd
from benchmarks._timing import row

# Values to divide by in a gradient that vanishes to rounding would measure nothing.
_SMALLEST = 1e-300


def problems(largest: int = 12) -> Iterator[tuple[str, Callable[[Any], Any], np.ndarray]]:
    """Names, objectives and points of the test set."""
    import sif2jax

    rng = np.random.default_rng(0)
    chosen = {type(p).__name__: p for p in sif2jax.unconstrained_minimisation_problems}
    for name, problem in sorted(chosen.items()):
        y0 = problem.y0
        if not ("A" <= name[0] <= "M") or not isinstance(y0, jax.Array) or y0.size > largest:
            continue
        x = np.asarray(y0, np.float64) + 0.01 * rng.normal(size=y0.shape)
        yield name, functools.partial(_objective, problem), x


def _objective(problem: Any, x: Any) -> Any:
    return problem.objective(x, problem.args)


def digits(estimate: Any, exact: Any) -> float:
    """Decimal digits that an estimated gradient shares with the exact one."""
    estimate, exact = np.asarray(estimate, np.float64), np.asarray(exact, np.float64)
    error = np.max(np.abs(estimate - exact)) / max(np.max(np.abs(exact)), _SMALLEST)
    if not np.isfinite(error):
        return 0.0
    return float(np.clip(-np.log10(max(error, 1e-16)), 0.0, 16.0))


class _Counted:
    """A NumPy function that counts the points it is given."""

    def __init__(self, fun: Callable[[Any], Any]) -> None:
        self.fun = fun
        self.points = 0

    def __call__(self, x: Any) -> float:
        self.points += 1
        return float(self.fun(x))

    def columns(self, x: Any) -> np.ndarray:
        """For callers that lay points out as columns."""
        flat = np.reshape(x, (x.shape[0], -1))
        values = [self(flat[:, i]) for i in range(flat.shape[1])]
        return np.reshape(values, x.shape[1:])


def _peers() -> dict[str, Callable[[_Counted, np.ndarray], Any]]:
    import numdifftools
    from scipy.differentiate import jacobian
    from scipy.optimize._numdiff import approx_derivative

    return {
        "scipy 2-point": lambda f, x: approx_derivative(f, x, method="2-point"),
        "scipy 3-point": lambda f, x: approx_derivative(f, x, method="3-point"),
        "scipy differentiate": lambda f, x: jacobian(f.columns, x).df,
        "numdifftools": lambda f, x: numdifftools.Gradient(f)(x),
    }


def _ours() -> dict[str, tuple[jaxfd.Central | jaxfd.Forward, int]]:
    return {
        "jaxfd Forward()": (jaxfd.Forward(), 1),
        "jaxfd Central()": (jaxfd.Central(), 2),
        "jaxfd Central(order=4)": (jaxfd.Central(order=4), 4),
        "jaxfd Central(order=6)": (jaxfd.Central(order=6), 6),
    }


def measure(dtype: Any, peers: bool) -> dict[str, list[tuple[float, float]]]:
    """Digits and evaluations per coordinate of every method on every problem."""
    found: dict[str, list[tuple[float, float]]] = {}
    for _, fun, x in problems():
        point = jnp.asarray(x, dtype)
        # In float32 too the reference is the float64 gradient, at the same point.
        exact = jax.jit(jax.grad(fun))(jnp.asarray(point, jnp.float64))
        if not np.all(np.isfinite(exact)) or not np.any(exact):
            continue
        for name, (method, cost) in _ours().items():
            estimate = jaxfd.grad(fun, method=method)(point)
            found.setdefault(name, []).append((digits(estimate, exact), cost))
        if not peers:
            continue
        compiled = jax.jit(fun)
        for name, peer in _peers().items():
            counted = _Counted(compiled)
            try:
                estimate = peer(counted, np.asarray(point))
            except Exception as error:  # a peer's failure is a result
                print(f"  {name} failed: {error}")
                estimate = np.full_like(x, np.nan)
            found.setdefault(name, []).append(
                (digits(estimate, exact), counted.points / max(1, x.size))
            )
    return found


def table(found: dict[str, list[tuple[float, float]]]) -> dict[str, np.ndarray]:
    """Prints the table; returns median, 10th percentile, worst and evaluations of each."""
    result = {}
    print(f"{'digits':<26} {'median':>8} {'10th pc':>8} {'worst':>8} {'evals per coordinate':>22}")
    for name, pairs in found.items():
        d, cost = np.array(pairs).T
        line = np.array([np.median(d), np.percentile(d, 10), d.min(), np.median(cost)])
        result[name] = line
        print(f"{name:<26} {line[0]:>8.2f} {line[1]:>8.2f} {line[2]:>8.2f} {line[3]:>22.1f}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-peers", action="store_true", help="measure jaxfd alone")
    options, _ = parser.parse_known_args()
    jax.config.update("jax_enable_x64", True)
    print(f"device: {jax.devices()[0].device_kind}, jax {jax.__version__}")
    print("\nfloat64")
    lines = table(measure(np.float64, not options.no_peers))
    central, fourth = lines["jaxfd Central()"], lines["jaxfd Central(order=4)"]
    row("Central(), float64: median digits", central[0], ">= 10.2", central[0] >= 10.2)
    row("Central(), float64: 10th percentile", central[1], ">= 5.7", central[1] >= 5.7)
    row("Central(order=4), float64: median digits", fourth[0], ">= 11.5", fourth[0] >= 11.5)
    print("\nfloat32")
    table(measure(np.float32, False))
    x = jnp.array([1e6, 2e6, 3e6, 4e6], np.float32)
    estimate = jaxfd.grad(lambda x: jnp.sum(x**2))(x)
    error = float(jnp.max(jnp.abs(estimate / (2 * x) - 1)))
    row("float32, sum of squares at 1e6 .. 4e6: relative error", error, "<= 1e-3", error <= 1e-3)
    estimate = jaxfd.grad(jnp.log, bounds=(0, jnp.inf))(0.01)
    error = abs(float(estimate) / 100 - 1)
    row("log at 0.01 with bounds: relative error", error, "<= 1e-6", error <= 1e-6)


if __name__ == "__main__":
    main()
