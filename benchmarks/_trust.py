"""Steps, bounds and noise: `jaxfd.Adaptive` on the problems of numericalderivative and others.

Each figure stands beside its peers'. The relative noise of the functions is uniform and not told to
`Adaptive`; the step search of Shi, Xie, Xuan and Nocedal is told it, as it must be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd
from benchmarks._timing import ratios, row

_SCALAR = jax.ShapeDtypeStruct((), np.float64)
_SEEDS = 10
# Seeds of a second, longer run: what ten seeds show is partly chance.
_MORE_SEEDS = 100


@dataclasses.dataclass
class Counted:
    """A function of one number, noisy or not, that counts its calls."""

    fun: Callable[[float], float]
    noise: float = 0.0
    seed: Any = 0
    calls: int = 0

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def __call__(self, x: Any) -> float:
        self.calls += 1
        try:
            value = float(self.fun(float(x)))
        except (ValueError, OverflowError, ZeroDivisionError, TypeError):
            return np.nan
        return value * (1 + self.noise * self._rng.uniform(-1, 1))


@dataclasses.dataclass
class Found:
    """What a method found on a problem.

    Attributes:
        error: the relative error.
        calls: the evaluations.
        bound: the reported bound, relative; NaN without one.
    """

    error: float
    calls: int
    bound: float = np.nan


class _Current:
    """Whatever function is measured at the moment, as one black box that is traced once."""

    fun: Counted

    def __call__(self, x: Any) -> float:
        return self.fun(x)


_current = _Current()
_estimate = jaxfd.estimate(jaxfd.blackbox(_current, _SCALAR), method=jaxfd.Adaptive())


def _adaptive(counted: Counted, x: float, noise: float) -> tuple[float, float]:
    del noise
    _current.fun = counted
    found = _estimate(x)
    return float(found.grad), float(found.error)


def _scipy(counted: Counted, x: float, noise: float) -> tuple[float, float]:
    from scipy.differentiate import derivative

    del noise
    return float(derivative(np.vectorize(counted), x).df), np.nan


def _numdifftools(counted: Counted, x: float, noise: float) -> tuple[float, float]:
    import numdifftools

    del noise
    return float(numdifftools.Derivative(counted)(x)), np.nan


def _shi(counted: Counted, x: float, noise: float) -> tuple[float, float]:
    from numericalderivative import ShiXieXuanNocedalForward

    level = max(noise, 1e-16) * abs(counted.fun(x)) or 1e-16
    search = ShiXieXuanNocedalForward(counted, x, absolute_precision=level)
    step, _ = search.find_step(initial_step=4 * np.sqrt(level / 3))
    return float(search.compute_first_derivative(step)), np.nan


METHODS: dict[str, Callable[[Counted, float, float], tuple[float, float]]] = {
    "jaxfd Adaptive()": _adaptive,
    "scipy.differentiate": _scipy,
    "numdifftools": _numdifftools,
    "Shi et al. (given the level)": _shi,
}


def solve(name: str, noise: float, seeds: range) -> list[Found]:
    """Runs a method on the 16 problems, for each seed."""
    from numericalderivative import build_benchmark

    found = []
    for seed in seeds:
        for number, problem in enumerate(build_benchmark()):
            counted = Counted(problem.function, noise, [seed, number])
            exact = problem.first_derivative(problem.x)
            try:
                value, bound = METHODS[name](counted, problem.x, noise)
            except Exception as error:  # a peer's failure is a result
                print(f"  {name} failed on {problem.name}: {error}")
                value, bound = np.nan, np.nan
            found.append(Found(abs(value / exact - 1), counted.calls, bound / abs(exact)))
    return found


def _line(name: str, found: list[Found]) -> tuple[float, float, float, int]:
    errors = np.array([f.error for f in found])
    calls = [f.calls for f in found]
    failed = int(np.sum(~np.isfinite(errors)))
    errors = np.nan_to_num(errors, nan=np.inf)
    median, high, worst = np.median(errors), np.percentile(errors, 90), np.max(errors)
    print(
        f"{name:<30} {median:>10.1e} {high:>10.1e} {worst:>10.1e} {failed:>8} "
        f"{np.median(calls):>10.0f} {max(calls):>7}"
    )
    return float(median), float(high), float(worst), failed


def _problems() -> list[Found]:
    every = []
    for noise in (0.0, 1e-8, 1e-3):
        print(f"\nnumericalderivative's 16 problems, relative noise {noise:g}")
        print(f"{'relative error':<30} median    90th pc      worst   failures      evals   worst")
        ours: Any = None
        for name in METHODS:
            found = solve(name, noise, range(_SEEDS if noise else 1))
            line = _line(name, found)
            if ours is None:
                ours = line
                every += found
        median, high, worst, failed = ours
        if not noise:
            row("noise-free: worst relative error", worst, "<= 4.4e-9", worst <= 4.4e-9)
        else:
            goals = {1e-8: (1.6e-7, 1.3e-5), 1e-3: (2.3e-3, 0.23)}[noise]
            row(f"noise {noise:g}: median", median, f"<= {goals[0]:g}", median <= goals[0])
            row(f"noise {noise:g}: 90th percentile", high, f"<= {goals[1]:g}", high <= goals[1])
            more = solve("jaxfd Adaptive()", noise, range(_SEEDS, _SEEDS + _MORE_SEEDS))
            _line(f"  the same, {_MORE_SEEDS} other seeds", more)
        row(f"noise {noise:g}: failures", failed, "0", failed == 0)
    return every


def _evaluations(found: list[Found]) -> None:
    calls = [f.calls for f in found]
    median = float(np.median(calls))
    row("evaluations of all of these, median", median, "<= 25", median <= 25)
    row("evaluations of all of these, worst", max(calls), "<= 60", max(calls) <= 60)


def bounds(errors: np.ndarray, bars: np.ndarray, what: str) -> None:
    """Prints how often bounds hold, and how wide they are."""
    held = float(np.mean(errors <= bars))
    some = errors > 0
    ratio = float(np.median(bars[some] / errors[some]))
    row(f"{what}: share of true errors within the bound", held, ">= 0.95", held >= 0.95)
    row(f"{what}: median of bound / true error", ratio, "<= 10", ratio <= 10)


def _sine() -> None:
    errors: dict[str, list[float]] = {}
    for name, method in METHODS.items():
        for seed in range(25):
            rng = np.random.default_rng(seed)
            counted = Counted(lambda x, rng=rng: np.sin(x) * (1 + 1e-6 * rng.normal()))  # type: ignore[misc]
            value, _ = method(counted, 1.0, 1e-6)
            errors.setdefault(name, []).append(abs(value - np.cos(1.0)))
    print("\nsin(x) (1 + 1e-6 N(0, 1)) at 1, 25 seeds: median absolute error")
    for name, found in errors.items():
        print(f"{name:<30} {np.median(found):>10.1e}")
    median = float(np.median(errors["jaxfd Adaptive()"]))
    row("noisy sine: median absolute error", median, "<= 5e-6", median <= 5e-6)


def _log() -> None:
    value = float(jaxfd.grad(jnp.log, method=jaxfd.Adaptive())(1e-9))
    error = abs(value * 1e-9 - 1)
    row("log at 1e-9, unaided: relative error", error, "<= 1e-6", error <= 1e-6)


def _speed() -> None:
    import numdifftools

    def rosenbrock(x: Any) -> Any:
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()

    x = np.random.default_rng(0).normal(size=100)
    point = jnp.asarray(x)
    exact = np.asarray(jax.grad(rosenbrock)(point))
    ours = jax.jit(jaxfd.grad(rosenbrock, method=jaxfd.Adaptive()))
    compiled = jax.jit(rosenbrock)
    peer = numdifftools.Gradient(lambda x: float(compiled(x)))
    in_numpy = numdifftools.Gradient(rosenbrock)
    print("\nRosenbrock, n = 100: a JAX function, compiled, and for numdifftools also in NumPy")
    for name, value in (("jaxfd Adaptive()", ours(point)), ("numdifftools", peer(x))):
        error = np.max(np.abs(np.asarray(value) - exact)) / np.max(np.abs(exact))
        print(f"{name:<30} {-np.log10(max(error, 1e-16)):>8.1f} digits")
    _, ratio, numpy = ratios([lambda: ours(point), lambda: peer(x), lambda: in_numpy(x)], seconds=4)
    row("numdifftools over Adaptive(): time", ratio, ">= 100", ratio >= 100)
    print(f"numdifftools over Adaptive(), where it gets the function in NumPy: {numpy:.0f}")


def main() -> None:
    found = _problems()
    _evaluations(found)
    bounds(np.array([f.error for f in found]), np.array([f.bound for f in found]), "these")
    _sine()
    _log()
    _speed()
