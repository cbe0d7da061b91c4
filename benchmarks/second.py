"""Second derivatives of functions with noise, or of few digits, beside numdifftools' Hessian.

Random smooth functions whose Hessians are known, in 2 and in 5 variables, as black boxes. An error
is the largest of all entries over the largest entry of the Hessian; a bar holds where no entry is
off by more than its own, and an infinite one always does.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

import jaxfd
from benchmarks._timing import row

_SCALAR = jax.ShapeDtypeStruct((), np.float64)
_FUNCTIONS = 100
# Each shape with its second derivative.
_SHAPES: tuple[tuple[Callable[[Any], Any], Callable[[Any], Any]], ...] = (
    (np.sin, lambda u: -np.sin(u)),
    (np.cos, lambda u: -np.cos(u)),
    (np.tanh, lambda u: -2 * np.tanh(u) / np.cosh(u) ** 2),
    (lambda u: np.exp(u / 2), lambda u: np.exp(u / 2) / 4),
    (lambda u: u * u / 2, np.ones_like),
    (lambda u: 1 / (1 + u * u), lambda u: (6 * u * u - 2) / (1 + u * u) ** 3),
    (lambda u: np.log1p(np.exp(u)), lambda u: np.exp(u) / (1 + np.exp(u)) ** 2),
)
KINDS: dict[str, Callable[[float, np.random.Generator], float]] = {
    "exact": lambda v, rng: v,
    "noise 1e-8": lambda v, rng: v * (1 + 1e-8 * rng.standard_normal()),
    "noise 1e-6": lambda v, rng: v * (1 + 1e-6 * rng.standard_normal()),
    "noise 1e-4": lambda v, rng: v * (1 + 1e-4 * rng.standard_normal()),
    "8 digits": lambda v, rng: float(f"{v:.8g}"),
}


@dataclasses.dataclass
class Problem:
    """A sum of ridges: smooth, with a Hessian in closed form; counts its calls.

    Attributes:
        seed: what it is drawn from.
        size: the number of variables.
        kind: what becomes of its values, a key of `KINDS`.
    """

    seed: int
    size: int
    kind: str
    calls: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng([self.seed, self.size])
        self.x = rng.normal(size=self.size)
        self._slopes = rng.normal(size=(len(_SHAPES), self.size)) / np.sqrt(self.size)
        self._shifts, self._heights = rng.normal(size=(2, len(_SHAPES)))
        self._offset = rng.normal()
        self._rng = np.random.default_rng([self.seed, self.size, 1])

    def __call__(self, x: Any) -> float:
        self.calls += 1
        ridges = self._slopes @ np.asarray(x) + self._shifts
        value = self._offset + sum(
            a * f(u) for a, (f, _), u in zip(self._heights, _SHAPES, ridges, strict=True)
        )
        return KINDS[self.kind](float(value), self._rng)

    @property
    def hessian(self) -> np.ndarray:
        """The Hessian at ``x``."""
        ridges = self._slopes @ self.x + self._shifts
        curved = [a * d(u) for a, (_, d), u in zip(self._heights, _SHAPES, ridges, strict=True)]
        return np.einsum("r,ri,rj->ij", curved, self._slopes, self._slopes)


class _Current:
    """Whatever function is measured at the moment, as one black box."""

    fun: Problem

    def __call__(self, x: Any) -> float:
        return self.fun(x)


_current = _Current()
_box = jaxfd.blackbox(_current, _SCALAR)
_plain = jaxfd.hessian(_box)


def _numdifftools(problem: Problem) -> tuple[Any, Any]:
    import numdifftools

    return numdifftools.Hessian(problem)(problem.x), None


def _default(problem: Problem) -> tuple[Any, Any]:
    _current.fun = problem
    return np.asarray(_plain(problem.x)), None


def _with_bars(method: Any) -> Callable[[Problem], tuple[Any, Any]]:
    estimate = jaxfd.estimate(_box, derivative=2, method=method)

    def run(problem: Problem) -> tuple[Any, Any]:
        _current.fun = problem
        found = estimate(problem.x)
        return np.asarray(found.hessian), np.asarray(found.error)

    return run


def methods() -> dict[str, Callable[[Problem], tuple[Any, Any]]]:
    """Who is measured: what an older tree does not have is left out."""
    found: dict[str, Callable[[Problem], tuple[Any, Any]]] = {
        "numdifftools.Hessian": _numdifftools,
        "hessian(f)": _default,
    }
    try:
        found["estimate(f, derivative=2)"] = _with_bars(jaxfd.Central())
        found["the same, Adaptive()"] = _with_bars(jaxfd.Adaptive())
    except TypeError:
        pass
    return found


@dataclasses.dataclass
class Result:
    """What a method makes of all functions of a kind.

    Attributes:
        error: the median of the relative errors.
        high: their 90th percentile.
        calls: the mean number of evaluations.
        most: the largest.
        holds: the share of functions all of whose bars hold; NaN without bars.
        unknown: the share of infinite bars.
        ratio: the median of bar over error, of finite ones.
    """

    error: float
    high: float
    calls: float
    most: int
    holds: float
    unknown: float
    ratio: float


def measure(run: Callable[[Problem], tuple[Any, Any]], size: int, kind: str, count: int) -> Result:
    """Runs a method on random functions."""
    errors, calls, held, infinite, ratios = [], [], [], [], []
    for seed in range(count):
        problem = Problem(seed, size, kind)
        found, bars = run(problem)
        exact = problem.hessian
        off = np.abs(found - exact)
        errors.append(np.nan_to_num(np.max(off) / np.max(np.abs(exact)), nan=np.inf))
        calls.append(problem.calls)
        if bars is not None:
            held.append(off <= bars)
            infinite.append(~np.isfinite(bars))
            known = np.isfinite(bars) & (off > 0)
            ratios += list(bars[known] / off[known])
    return Result(
        float(np.median(errors)),
        float(np.percentile(errors, 90)),
        float(np.mean(calls)),
        max(calls),
        float(np.mean(held)) if held else np.nan,
        float(np.mean(infinite)) if held else np.nan,
        float(np.median(ratios)) if ratios else np.nan,
    )


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--functions", type=int, default=_FUNCTIONS)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    count, kinds = (options := parser.parse_args()).functions, options.kinds
    rows = []
    for size in (2, 5):
        for kind in kinds:
            print(f"\n{size} x {size}, {kind}: {count} functions")
            print(
                f"{'relative error':<28} median    90th pc   evals   most   bars hold  infinite  "
                "bar / error"
            )
            found = {name: measure(run, size, kind, count) for name, run in methods().items()}
            for name, r in found.items():
                print(
                    f"{name:<28} {r.error:>8.1e} {r.high:>9.1e} {r.calls:>7.0f} {r.most:>6} "
                    f"{r.holds:>11.3f} {r.unknown:>9.2f} {r.ratio:>12.1f}"
                )
            rows.append((f"{size} x {size}, {kind}", found))
    print()
    for what, found in rows:
        peer, ours = found["numdifftools.Hessian"], found.get("the same, Adaptive()")
        if ours is None:
            continue
        for name in ("error", "high"):
            ratio = getattr(ours, name) / getattr(peer, name)
            part = {"error": "median error", "high": "90th percentile"}[name]
            row(f"{what}: {part} over numdifftools'", ratio, "<= 1", ratio <= 1)
        spent = ours.most / peer.calls
        row(f"{what}: most evaluations over numdifftools'", spent, "<= 2", spent <= 2)
        row(f"{what}: bars that hold", ours.holds, ">= 0.95", ours.holds >= 0.95)


if __name__ == "__main__":
    main()
