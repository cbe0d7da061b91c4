"""Accuracy of gradients on test problems, against automatic differentiation.

The unconstrained problems of sif2jax whose name starts with A to M and that have at most 12
variables, at their starting point plus normal noise of 0.01. Digits are
``-log10(max |g - g_AD| / max |g_AD|)``, at most 16. Nothing was decided on those from N
to Z, ``--holdout``. Noisy problems are in `_trust`.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd
from benchmarks import _trust
from benchmarks._timing import row

# Values to divide by in a gradient that vanishes to rounding would measure nothing.
_SMALLEST = 1e-300


def problems(
    first: str = "A", last: str = "M", largest: int = 12
) -> Iterator[tuple[str, Callable[[Any], Any], np.ndarray]]:
    """Names, objectives and points of the test set."""
    import sif2jax

    rng = np.random.default_rng(0)
    chosen = {type(p).__name__: p for p in sif2jax.unconstrained_minimisation_problems}
    for name, problem in sorted(chosen.items()):
        y0 = problem.y0
        if not (first <= name[0] <= last) or not isinstance(y0, jax.Array) or y0.size > largest:
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


def _ours() -> dict[str, Any]:
    return {
        "jaxfd Forward()": jaxfd.Forward(),
        "jaxfd Central()": jaxfd.Central(),
        "jaxfd Central(order=4)": jaxfd.Central(order=4),
        "jaxfd Central(order=6)": jaxfd.Central(order=6),
        "jaxfd Adaptive()": jaxfd.Adaptive(),
    }


# Steps relative to max(|x|, 1), among which hindsight chooses.
_STEPS = 10.0 ** np.arange(-5, 0.01, 0.25)


def _hindsight(fun: Callable[[Any], Any], point: Any, exact: Any) -> np.ndarray:
    """Digits of central differences for each of `_STEPS`."""

    def one(rel: Any) -> Any:
        return jaxfd.grad(fun, method=jaxfd.Central(step=jaxfd.Relative(rel=rel)))(point)

    gradients = jax.jit(jax.vmap(one))(jnp.asarray(_STEPS, point.dtype))
    return np.array([digits(g, exact) for g in gradients])


@dataclasses.dataclass
class Measured:
    """What was measured on the problems.

    Attributes:
        found: digits and evaluations per coordinate of every method on every problem.
        errors: the true error of every entry, by `jaxfd.Adaptive`.
        bars: the reported bound of each.
        steps: digits for each of `_STEPS`, on every problem.
    """

    found: dict[str, list[tuple[float, float]]]
    errors: np.ndarray
    bars: np.ndarray
    steps: np.ndarray


def measure(dtype: Any, peers: bool, letters: tuple[str, str] = ("A", "M")) -> Measured:
    """Runs every method on every problem."""
    found: dict[str, list[tuple[float, float]]] = {}
    errors, bars, steps = [], [], []
    for _, fun, x in problems(*letters):
        point = jnp.asarray(x, dtype)
        # In float32 too the reference is the float64 gradient, at the same point.
        exact = np.asarray(jax.jit(jax.grad(fun))(jnp.asarray(point, jnp.float64)))
        if not np.all(np.isfinite(exact)) or not np.any(exact):
            continue
        for name, method in _ours().items():
            result = jaxfd.estimate(fun, method=method)(point)
            # The value comes with it, for one evaluation.
            cost = (float(result.evaluations) - 1) / max(1, x.size)
            found.setdefault(name, []).append((digits(result.grad, exact), cost))
        errors.append(np.abs(np.asarray(result.grad, np.float64) - exact).reshape(-1))
        bars.append(np.asarray(result.error, np.float64).reshape(-1))
        if dtype == np.float32:
            steps.append(_hindsight(fun, point, exact))
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
    return Measured(found, np.concatenate(errors), np.concatenate(bars), np.array(steps))


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
    parser.add_argument("--holdout", action="store_true", help="the problems N to Z alone")
    options, _ = parser.parse_known_args()
    jax.config.update("jax_enable_x64", True)
    print(f"device: {jax.devices()[0].device_kind}, jax {jax.__version__}")
    if options.holdout:
        print("\nfloat64, problems N to Z")
        held = measure(np.float64, False, ("N", "Z"))
        table(held.found)
        _trust.bounds(held.errors, held.bars, "N to Z")
        return
    print("\nfloat64")
    wide = measure(np.float64, not options.no_peers)
    lines = table(wide.found)
    central, fourth = lines["jaxfd Central()"], lines["jaxfd Central(order=4)"]
    row("Central(), float64: median digits", central[0], ">= 10.2", central[0] >= 10.2)
    row("Central(), float64: 10th percentile", central[1], ">= 5.7", central[1] >= 5.7)
    row("Central(order=4), float64: median digits", fourth[0], ">= 11.5", fourth[0] >= 11.5)
    ours = lines["jaxfd Adaptive()"]
    row("Adaptive(), float64: median digits", ours[0], ">= 13.6", ours[0] >= 13.6)
    row("Adaptive(), float64: 10th percentile", ours[1], ">= 11.4", ours[1] >= 11.4)
    row("Adaptive(), float64: evaluations, value included", ours[3] + 1, "<= 25", ours[3] <= 24)
    _trust.bounds(wide.errors, wide.bars, "float64")
    print("\nfloat32")
    narrow = measure(np.float32, False)
    lines = table(narrow.found)
    each, one = np.median(narrow.steps.max(axis=1)), np.median(narrow.steps, axis=0).max()
    print(f"best single step with hindsight: {each:.2f} for each problem, {one:.2f} for all")
    ours = lines["jaxfd Adaptive()"]
    row(
        "Adaptive(), float32: median digits", ours[0], f">= {each - 0.5:.2f}", ours[0] >= each - 0.5
    )
    _trust.bounds(narrow.errors, narrow.bars, "float32")
    x = jnp.array([1e6, 2e6, 3e6, 4e6], np.float32)
    estimate = jaxfd.grad(lambda x: jnp.sum(x**2))(x)
    error = float(jnp.max(jnp.abs(estimate / (2 * x) - 1)))
    row("float32, sum of squares at 1e6 .. 4e6: relative error", error, "<= 1e-3", error <= 1e-3)
    estimate = jaxfd.grad(jnp.log, bounds=(0, jnp.inf))(0.01)
    error = abs(float(estimate) / 100 - 1)
    row("log at 0.01 with bounds: relative error", error, "<= 1e-6", error <= 1e-6)
    _trust.main()


if __name__ == "__main__":
    main()
