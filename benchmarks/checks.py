"""Whether `jaxfd.check_grads` can be trusted: right gradients, wrong ones, kinks, narrow features.

The 60 functions are the twelve of `bars` with five numbers of entries; the twelve settings are six
kinds of values, each looked at by two methods. A right gradient is that of the smooth function
whose values were rounded or disturbed. Beside a kink, and on a feature so narrow that few numbers
lie across it, the derivative at the point is right.

    python -m benchmarks.checks [--seed N]
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import jaxfd
from benchmarks._timing import row
from benchmarks.bars import KINDS, PROBLEMS, Problem

jax.config.update("jax_enable_x64", True)

SIZES = (1, 2, 3, 5, 8)
KIND_NAMES = ("exact", "six digits", "four decimals", "float32 inside", "noise 1e-6", "noise 1e-3")
METHODS = {"Adaptive()": jaxfd.Adaptive(), "Central(order=4)": jaxfd.Central(order=4)}
_SCALAR = jax.ShapeDtypeStruct((), np.float64)


class _Current:
    """Whatever function is looked at, as one black box that is traced once for all."""

    fun: Callable[[np.ndarray], np.ndarray]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            return np.asarray(self.fun(x), np.float64)


_current = _Current()
_box = jaxfd.blackbox(_current, _SCALAR, vectorized=True)


def verdict(fun: Callable[[Any], Any], x: np.ndarray, claim: np.ndarray, method: Any) -> str:
    """What is said of a claimed gradient of a function of points of shape ``(m, n)``."""
    _current.fun = fun
    return jaxfd.check_grads(_box, x, claim, method=method).verdict


def settings(seed: int) -> Iterator[tuple[str, str, Problem, np.ndarray, Callable[[Any], Any]]]:
    """Each method and kind of value with each function, a point and the function as it is seen."""
    for method, kind in itertools.product(METHODS, KIND_NAMES):
        for number, (problem, n) in enumerate(itertools.product(PROBLEMS, SIZES)):
            rng = np.random.default_rng([seed, number, KIND_NAMES.index(kind)])
            x = problem.points(rng, 1, n)[0]

            def fun(rows: Any, kind: str = kind, problem: Any = problem, rng: Any = rng) -> Any:
                return KINDS[kind](problem.value, rows, rng)

            yield method, kind, problem, x, fun


# What may be wrong with a gradient, plainly.
PLAINLY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sign": lambda g: -g,
    "twice": lambda g: 2 * g,
    "zero": lambda g: 0 * g,
}


def smooth(seed: int) -> None:
    """Right gradients, such with 0.1 % of error in the largest entry, and plainly wrong ones."""
    right, found, passed = Counter[str](), Counter[str](), Counter[str]()
    total = 0
    for method, kind, problem, x, fun in settings(seed):
        claim = problem.slope(x[None])[0]
        total += 1
        said = verdict(fun, x, claim, METHODS[method])
        right[said] += 1
        if said == "differs":
            print(f"  right, and called wrong: {problem.name}, n = {x.size}, {kind}, {method}")
        wrong = claim.copy()
        wrong[np.argmax(np.abs(claim))] *= 1.001
        said = verdict(fun, x, wrong, METHODS[method])
        found[said] += 1
        found[kind] += said == "differs"
        for name, bad in PLAINLY.items():
            said = verdict(fun, x, bad(claim), METHODS[method])
            passed[said] += 1
            if said == "agrees" and np.any(bad(claim) != claim):
                print(f"  {name}, and called right: {problem.name}, n = {x.size}, {kind}, {method}")
    row("right gradients called wrong", right["differs"], f"0 of {total}", right["differs"] == 0)
    print(f"right ones called right: {right['agrees'] / total:.1%}")
    for kind in KIND_NAMES:
        print(f"errors of 0.1 % found, {kind}: {found[kind] / (total / len(KIND_NAMES)):.1%}")
    print(f"errors of 0.1 % found: {found['differs'] / total:.2%}")
    print(f"errors of 0.1 % called right: {found['agrees'] / total:.2%}")
    print(f"plainly wrong ones found: {passed['differs'] / passed.total():.2%}")


# Functions of a distance from a kink, and their slopes on either side.
KINKS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "ramp": (lambda u: np.maximum(u, 0), lambda u: 1.0 * (u > 0)),
    "modulus": (np.abs, np.sign),
    "bend": (
        lambda u: np.where(u > 0, u * u + u, np.sin(3 * u)),
        lambda u: np.where(u > 0, 2 * u + 1, 3 * np.cos(3 * u)),
    ),
    "leak": (lambda u: np.where(u > 0, u, 0.01 * u), lambda u: np.where(u > 0, 1.0, 0.01)),
    "bowl and ramp": (lambda u: u * u + np.maximum(u, 0), lambda u: 2 * u + (u > 0)),
}
AWAY = 10.0 ** -np.arange(1, 13)


def kinks() -> None:
    """Right gradients on either side of a kink, however near, alone and among smooth entries."""
    said = Counter[str]()
    for (name, (f, slope)), away, side, at, method, n in itertools.product(
        KINKS.items(), AWAY, (-1, 1), (0.0, 1.0, 40.0), METHODS, (1, 3)
    ):
        x = np.full(n, 0.7)
        x[0] = at + side * away

        def fun(rows: Any, f: Any = f, at: float = at) -> Any:
            return f(rows[:, 0] - at) + np.sum(np.sin(rows[:, 1:]), axis=1)

        claim = np.cos(x)
        claim[0] = slope(x[0] - at)
        word = verdict(fun, x, claim, METHODS[method])
        said[word] += 1
        if word == "differs":
            print(
                f"  right, and called wrong: {name} {side * away:g} from {at:g}, n = {n}, {method}"
            )
    row(
        "right beside a kink, called wrong",
        said["differs"],
        f"0 of {said.total()}",
        not said["differs"],
    )


FEATURES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "peak": (lambda u: np.exp(-u * u / 2), lambda u: -u * np.exp(-u * u / 2)),
    "dip in a slope": (
        lambda u: u / 9 - np.exp(-u * u / 2),
        lambda u: 1 / 9 + u * np.exp(-u * u / 2),
    ),
    "front": (np.tanh, lambda u: 1 / np.cosh(u) ** 2),
    "wave": (np.sin, np.cos),
    "resonance": (lambda u: 1 / (1 + u * u), lambda u: -2 * u / (1 + u * u) ** 2),
}
WIDTHS = 10.0 ** -np.arange(1, 14)


def features() -> None:
    """Right gradients of features, from wide ones to such as few numbers lie across."""
    said = Counter[str]()
    for (name, (f, slope)), width, at, place, method, n in itertools.product(
        FEATURES.items(), WIDTHS, (1.0, 300.0, 2457958.47), (0.3, -1.1), METHODS, (1, 3)
    ):
        w = width * at
        x = np.full(n, 0.7)
        x[0] = at + place * w

        def fun(rows: Any, f: Any = f, at: float = at, w: float = w) -> Any:
            return f((rows[:, 0] - at) / w) + np.sum(np.sin(rows[:, 1:]), axis=1)

        claim = np.cos(x)
        claim[0] = slope((x[0] - at) / w) / w
        word = verdict(fun, x, claim, METHODS[method])
        said[word] += 1
        if word == "differs":
            print(f"  right, and called wrong: {name} of width {w:g} at {at:g}, n = {n}, {method}")
    row(
        "right on a narrow feature, called wrong",
        said["differs"],
        f"0 of {said.total()}",
        not said["differs"],
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=["smooth", "kinks", "features"])
    chosen = parser.parse_args()
    began = time.perf_counter()
    if "smooth" in chosen.only:
        smooth(chosen.seed)
    if "kinks" in chosen.only:
        kinks()
    if "features" in chosen.only:
        features()
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
