"""How far error bars can be trusted: each method on each kind of values, for 1 and 10 entries.

A cell is a method, a kind of value and a number of entries, over twelve functions of 200 points
each. A bar holds that is no smaller than the distance to the slope of the smooth function whose
values were rounded or disturbed; an infinite one holds. Random methods and teeth follow.

    python -m benchmarks.bars [--seed N] [--cells WORD ...]
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import jaxfd
from benchmarks._timing import row

jax.config.update("jax_enable_x64", True)

_SCALAR = jax.ShapeDtypeStruct((), np.float64)
_POINTS = 200


@dataclasses.dataclass(frozen=True)
class Problem:
    """A smooth function, its gradient, and where it is looked at.

    Attributes:
        name: what it is called.
        value: of points of shape ``(m, n)``, in their dtype: shape ``(m,)``.
        slope: its gradient in float64, shape ``(m, n)``.
        points: points from a generator, a number of them, and ``n``.
    """

    name: str
    value: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    points: Callable[[np.random.Generator, int, int], np.ndarray]


def _between(low: float, high: float) -> Callable[[np.random.Generator, int, int], np.ndarray]:
    return lambda rng, m, n: rng.uniform(low, high, (m, n))


def _near_zero(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    """A quarter of the entries at exactly 0."""
    return rng.normal(size=(m, n)) * (rng.uniform(size=(m, n)) > 0.25)


def _wide(rng: np.random.Generator, m: int, n: int) -> np.ndarray:
    """Entries of sizes 0.01 to 1,000."""
    return _sizes(n) * rng.uniform(0.5, 2, (m, n))


def _sizes(n: int) -> np.ndarray:
    return 10.0 ** np.linspace(-2, 3, n) if n > 1 else np.array([30.0])


def _rates(n: int) -> np.ndarray:
    return np.linspace(1, 3, n)


def _feature(x: Any) -> Any:
    u = (x[:, :1] - 1.5) / 0.02
    return u, np.exp(-u * u / 2)


def _feature_slope(x: Any) -> Any:
    u, peak = _feature(x)
    result = 0.2 * x
    result[:, :1] += -peak * u / 0.02
    return result


def _rosenbrock(x: Any) -> Any:
    y = np.concatenate([x[:, 1:], np.ones_like(x[:, :1])], axis=1)
    return np.sum(10 * (y - x * x) ** 2 + (1 - x) ** 2, axis=1)


def _rosenbrock_slope(x: Any) -> Any:
    y = np.concatenate([x[:, 1:], np.ones_like(x[:, :1])], axis=1)
    result = -40 * x * (y - x * x) - 2 * (1 - x)
    result[:, 1:] += 20 * (x[:, 1:] - x[:, :-1] ** 2)
    return result


def _used(x: Any) -> Any:
    """All entries but the last; none of a single one."""
    return x[:, :-1]


PROBLEMS = (
    Problem(
        "waves",
        lambda x: np.sum(np.sin(_rates(x.shape[1]).astype(x.dtype) * x), axis=1),
        lambda x: _rates(x.shape[1]) * np.cos(_rates(x.shape[1]) * x),
        _between(-2, 2),
    ),
    Problem(
        "fast waves",
        lambda x: np.mean(np.sin(20 * x), axis=1),
        lambda x: 20 * np.cos(20 * x) / x.shape[1],
        _between(0, 2),
    ),
    Problem(
        "narrow feature",
        lambda x: _feature(x)[1][:, 0] + np.sum(x * x, axis=1) / 10,
        _feature_slope,
        lambda rng, m, n: 1.5 + 0.03 * rng.normal(size=(m, n)),
    ),
    Problem(
        "large offset",
        lambda x: 1000 + np.sum(np.sin(x), axis=1),
        np.cos,
        _between(0.1, 3),
    ),
    Problem(
        "odd",
        lambda x: np.sum(np.tanh(x) + x * x * x / 10, axis=1),
        lambda x: 1 / np.cosh(x) ** 2 + 0.3 * x**2,
        _near_zero,
    ),
    Problem(
        "flat entry",
        lambda x: 0.7 * np.exp(-np.sum(_used(x) ** 2, axis=1) / 4),
        lambda x: np.concatenate(
            [
                -0.35 * _used(x) * np.exp(-np.sum(_used(x) ** 2, axis=1) / 4)[:, None],
                0 * x[:, -1:],
            ],
            axis=1,
        ),
        _between(-1, 1),
    ),
    Problem(
        "Runge",
        lambda x: np.sum(1 / (1 + 25 * x * x), axis=1),
        lambda x: -50 * x / (1 + 25 * x * x) ** 2,
        _between(-1, 1),
    ),
    Problem(
        "log-sum-exp",
        lambda x: np.log(np.sum(np.exp(x), axis=1) + np.ones((), x.dtype)),
        lambda x: np.exp(x) / (1 + np.sum(np.exp(x), axis=1, keepdims=True)),
        lambda rng, m, n: 2 * rng.normal(size=(m, n)),
    ),
    Problem(
        "coupled",
        lambda x: np.sin(np.sum(x, axis=1)) * np.exp(x[:, 0] / 2),
        lambda x: (
            np.exp(x[:, :1] / 2)
            * (
                np.cos(np.sum(x, axis=1, keepdims=True))
                + np.sin(np.sum(x, axis=1, keepdims=True)) * np.eye(x.shape[1])[0] / 2
            )
        ),
        _between(-1, 2),
    ),
    Problem("Rosenbrock", _rosenbrock, _rosenbrock_slope, _between(-1, 2)),
    Problem(
        "powers",
        lambda x: np.sum(np.sqrt(x) * np.log(1 + x), axis=1),
        lambda x: np.log(1 + x) / (2 * np.sqrt(x)) + np.sqrt(x) / (1 + x),
        _between(0.2, 9),
    ),
    Problem(
        "units",
        lambda x: np.sum(
            np.sin(x / _sizes(x.shape[1]).astype(x.dtype)) / np.arange(1, x.shape[1] + 1), axis=1
        ),
        lambda x: (
            np.cos(x / _sizes(x.shape[1])) / (_sizes(x.shape[1]) * np.arange(1, x.shape[1] + 1))
        ),
        _wide,
    ),
)


def _digits(v: np.ndarray, n: int) -> np.ndarray:
    return np.array([float(f"%.{n}g" % a) for a in v.ravel()]).reshape(v.shape)


def _within(dtype: Any) -> Callable[..., np.ndarray]:
    def run(f: Callable[[Any], Any], x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        del rng
        return np.asarray(f(x.astype(dtype)), np.float64)

    return run


def _noisy(level: float) -> Callable[..., np.ndarray]:
    return lambda f, x, rng: f(x) * (1 + level * rng.standard_normal(len(x)))


KINDS: dict[str, Callable[..., np.ndarray]] = {
    "exact": lambda f, x, rng: f(x),
    "six digits": lambda f, x, rng: _digits(f(x), 6),
    "four digits": lambda f, x, rng: _digits(f(x), 4),
    "four decimals": lambda f, x, rng: np.round(f(x), 4),
    "two decimals": lambda f, x, rng: np.round(f(x), 2),
    "float32 inside": _within(np.float32),
    "float16 inside": _within(np.float16),
    "noise 1e-6": _noisy(1e-6),
    "noise 1e-3": _noisy(1e-3),
    "additive noise 1e-4": lambda f, x, rng: f(x) + 1e-4 * rng.standard_normal(len(x)),
}
COARSE = ("two decimals", "float16 inside")

METHODS = {
    "Central()": (jaxfd.Central(), lambda n: 2 * n + 7),
    "Central(order=4)": (jaxfd.Central(order=4), lambda n: 4 * n + 7),
    "Forward(order=2)": (jaxfd.Forward(order=2), lambda n: 2 * n + 7),
    "Adaptive()": (jaxfd.Adaptive(), lambda n: 60 * n + 1),
}


class _Current:
    """Whatever function is looked at, as one black box that is traced once for all."""

    fun: Callable[[np.ndarray], np.ndarray]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(self.fun(x), np.float64)


_current = _Current()
_box = jaxfd.blackbox(_current, _SCALAR, vectorized=True)
_estimates = {
    name: jax.vmap(jaxfd.estimate(_box, method=method)) for name, (method, _) in METHODS.items()
}


@dataclasses.dataclass
class Bars:
    """Errors and bars of a cell, all entries in a row; and the most evaluations of an estimate."""

    error: np.ndarray
    bar: np.ndarray
    spent: int

    @property
    def holds(self) -> float:
        """The share of the bars that hold; NaN is none."""
        return float(np.mean(self.error <= self.bar))

    @property
    def infinite(self) -> float:
        return float(np.mean(np.isinf(self.bar)))

    @property
    def ratio(self) -> float:
        """The median of bar over error, where the bar is finite and there is an error."""
        kept = np.isfinite(self.bar) & (self.error > 0)
        return float(np.median(self.bar[kept] / self.error[kept])) if np.any(kept) else np.nan


def look(name: str, problem: Problem, kind: str, n: int, seed: int, points: int = _POINTS) -> Bars:
    """Errors and bars of one method on one function."""
    rng = np.random.default_rng([seed, n, PROBLEMS.index(problem), list(KINDS).index(kind)])
    x = problem.points(rng, points, n)
    _current.fun = lambda rows: KINDS[kind](problem.value, rows, rng)
    found = _estimates[name](x)
    error = np.abs(np.asarray(found.grad) - problem.slope(x))
    # What the gradient itself is rounded to is no error of a method.
    error = np.where(error <= 2e-16 * np.abs(problem.slope(x)), 0, error)
    return Bars(error.ravel(), np.asarray(found.error).ravel(), int(np.max(found.evaluations)))


def _together(parts: list[Bars]) -> Bars:
    return Bars(
        np.concatenate([p.error for p in parts]),
        np.concatenate([p.bar for p in parts]),
        max(p.spent for p in parts),
    )


def cells(seed: int, words: list[str], detail: bool) -> None:
    """Every cell, and whether it reaches its goals."""
    print(f"{'':<44} {'holds':>7} {'infinite':>9} {'bar/error':>10} {'spent':>6}")
    missed = total = 0
    for name, (_, most) in METHODS.items():
        for n in (1, 10):
            for kind in KINDS:
                title = f"{name}, {kind}, n = {n}"
                if words and not all(w in title for w in words):
                    continue
                parts = [look(name, problem, kind, n, seed) for problem in PROBLEMS]
                cell = _together(parts)
                widest = 30 if kind == "exact" else 100
                goals = (
                    cell.holds >= 0.95,
                    cell.infinite <= (0.4 if kind in COARSE else 0.1),
                    cell.ratio <= widest,
                    cell.spent <= most(n),
                )
                total, missed = total + 1, missed + (not all(goals))
                print(_line(title, cell, "" if all(goals) else "MISSED"), flush=True)
                if detail:
                    for problem, part in zip(PROBLEMS, parts, strict=True):
                        print(_line(f"    {problem.name}", part, ""))
    row("cells that miss a goal", missed, f"0 of {total}", missed == 0)


# Trends that teeth stand on, and their slopes; and the shapes of teeth of height and width 1.
TRENDS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "sine": (np.sin, np.cos),
    "growth": (lambda x: np.exp(x / 2), lambda x: np.exp(x / 2) / 2),
    "square root": (lambda x: np.sqrt(1 + x), lambda x: 0.5 / np.sqrt(1 + x)),
    "waves": (lambda x: np.sin(4 * x) / 4 + x, lambda x: np.cos(4 * x) + 1),
}
SHAPES: dict[str, Callable[[Any], Any]] = {
    "saws": lambda u: u % 1,
    "falling saws": lambda u: -(u % 1),
    "bows": lambda u: (u % 1) ** 2,
    "levels": lambda u: np.sin(1e4 * np.sin(np.floor(u))),
}
WIDTHS = (1e-4, 1e-3, 1e-2, 1e-1)
HEIGHTS = (1e-6, 1e-5, 1e-4, 1e-3)


def teeth(name: str, width: float, height: float, seed: int, points: int = 50) -> Bars:
    """Errors and bars of a method on all trends with teeth of a width and height."""
    parts = []
    for number, (trend, slope) in enumerate(TRENDS.values()):
        for which, shape in enumerate(SHAPES.values()):
            rng = np.random.default_rng([seed, number, which, int(1 / width), int(1 / height)])
            x = rng.uniform(0.5, 2, (points, 1))
            phase = rng.uniform()

            def fun(rows: Any, trend: Any = trend, shape: Any = shape, phase: Any = phase) -> Any:
                return trend(rows[:, 0]) + height * shape(rows[:, 0] / width + phase)

            _current.fun = fun
            found = _estimates[name](x)
            error = np.abs(np.asarray(found.grad) - slope(x))
            parts.append(
                Bars(error.ravel(), np.asarray(found.error).ravel(), int(np.max(found.evaluations)))
            )
    return _together(parts)


def all_teeth(seed: int, name: str = "Adaptive()") -> None:
    """Each width and height of teeth, and how often bars hold for the slope of the trend."""
    print(f"\n{'teeth':<44} {'holds':>7} {'infinite':>9} {'bar/error':>10} {'spent':>6}")
    worst = 1.0
    for width in WIDTHS:
        for height in HEIGHTS:
            cell = teeth(name, width, height, seed)
            worst = min(worst, cell.holds)
            print(_line(f"{name}, width {width:g}, height {height:g}", cell, ""), flush=True)
    row(f"{name}: bars for the slope of the trend, least", worst, ">= 0.95", worst >= 0.95)


def _line(title: str, cell: Bars, remark: str) -> str:
    figures = f"{cell.holds:>7.1%} {cell.infinite:>9.1%} {cell.ratio:>10.3g} {cell.spent:>6}"
    return f"{title:<44} {figures}  {remark}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--cells", nargs="*", default=[])
    parser.add_argument("--detail", action="store_true")
    chosen = parser.parse_args()
    began = time.perf_counter()
    cells(chosen.seed, chosen.cells, chosen.detail)
    if not chosen.cells:
        for name in METHODS:
            all_teeth(chosen.seed, name)
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
