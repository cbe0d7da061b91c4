"""Fits on test problems, beside scipy's trf and DFO-LS: evaluations, batches, digits.

    python -m benchmarks fit --nist FOLDER

The 54 problems of Moré and Wild, as optimagic has them (extra ``bench``), each residual from the
host: a problem is solved once a point was evaluated whose sum of squares is within ``1e-5`` (or
``1e-7``) times ``f0 - fL`` of the published solution ``fL``. What is printed is how many
evaluations that took, in units of ``n + 1``, unsolved problems counted as infinite. Under noise
every residual is multiplied by ``1 + level * N(0, 1)``, drawn anew at each evaluation; what counts
is the value without noise. With 16 workers, batches are counted in place of evaluations, and
scipy's Jacobians and trials, one after the other, stand beside.

NIST's data sets for nonlinear regression are read from a folder, from both starts: digits of
parameters and standard deviations, and evaluations to the end of the call over ``p + 1``.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import dataclasses
import importlib.util
import re
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.optimize

import jaxfd
from benchmarks._timing import row
from jaxfd.optim import least_squares

# Nobody gets more evaluations than this, in units of n + 1.
_PATIENCE = 400
_LEVELS = (1e-5, 1e-7)


@dataclasses.dataclass
class Problem:
    """A problem of residuals.

    Attributes:
        name: its name.
        fun: the residuals.
        x0: the start.
        least: the published sum of squares.
    """

    name: str
    fun: Callable[[np.ndarray], np.ndarray]
    x0: np.ndarray
    least: float

    def __post_init__(self) -> None:
        r = self.fun(self.x0)
        self.first, self.count = float(r @ r), r.size


class SpentError(Exception):
    """Nothing is left to spend."""


class Record:
    """Residuals that remember the least sum of squares after each evaluation.

    Args:
        problem: the problem.
        noise: the relative noise of each residual.
        seed: of the noise.
    """

    def __init__(self, problem: Problem, noise: float = 0.0, seed: int = 0) -> None:
        self.problem, self.noise = problem, noise
        self.least: list[float] = []
        self.ends: list[int] = []
        self._rng = np.random.default_rng(seed)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if len(self.least) >= _PATIENCE * (len(self.problem.x0) + 1):
            raise SpentError
        r = self.problem.fun(np.asarray(x, float))
        value = float(r @ r)
        before = self.least[-1] if self.least else np.inf
        self.least.append(min(before, value) if np.isfinite(value) else before)
        return r * (1 + self.noise * self._rng.standard_normal(r.shape)) if self.noise else r

    def spent(self, level: float) -> float:
        """Evaluations until it was solved, over n + 1."""
        p = self.problem
        good = np.array(self.least) - p.least <= level * (p.first - p.least)
        return (int(np.argmax(good)) + 1) / (len(p.x0) + 1) if good.any() else np.inf


def more_wild() -> Iterator[Problem]:
    """The problems of Moré and Wild."""
    import optimagic

    for name, found in optimagic.get_benchmark_problems("more_wild").items():

        def fun(x: np.ndarray, own: Any = found["noise_free_fun"]) -> np.ndarray:
            return np.asarray(own(x), float)

        start = np.asarray(found["inputs"]["params"], float)
        yield Problem(name, fun, start, float(found["solution"]["value"]))


def ours(record: Record) -> Any:
    return least_squares(record, record.problem.x0)


def trf(record: Record) -> Any:
    tight = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    return scipy.optimize.least_squares(record, record.problem.x0, **tight)


def dfols(record: Record) -> Any:
    import dfols as peer

    if len(record.problem.x0) > 50:
        return None
    most = 200 * (len(record.problem.x0) + 1)
    noisy = bool(record.noise)
    return peer.solve(record, record.problem.x0, maxfun=most, objfun_has_noise=noisy)


def solvers() -> dict[str, Callable[[Record], Any]]:
    """Who is there."""
    found: dict[str, Callable[[Record], Any]] = {"jaxfd": ours, "scipy trf": trf}
    if importlib.util.find_spec("dfols") is None:
        print("DFO-LS is not installed (pip install DFO-LS)")
    else:
        found["DFO-LS"] = dfols
    return found


def run(solve: Callable[[Record], Any], found: list[Problem], noise: float) -> list[Record]:
    records = []
    for problem in found:
        record = Record(problem, noise)
        try:
            solve(record)
        except SpentError:
            pass
        except Exception as error:
            print(f"  {problem.name}: {type(error).__name__}: {error}"[:100])
        records.append(record)
    return records


def profile(name: str, records: list[Record], level: float) -> tuple[int, float, float]:
    """Prints and returns what was solved, and the median and upper quartile of what it took."""
    spent = np.array([r.spent(level) for r in records])
    solved = int(np.isfinite(spent).sum())
    middle, upper = np.quantile(spent, [0.5, 0.75], method="higher").tolist()
    missed = " ".join(r.problem.name for r in records if not np.isfinite(r.spent(level)))
    print(
        f"{name:<12} at {level:g}: {solved} solved, median {middle:.2f}, upper quartile "
        f"{upper:.2f}; misses {missed[:110]}"
    )
    return solved, middle, upper


def without_noise(found: list[Problem]) -> None:
    print(f"\nMoré-Wild, no noise: {len(found)} problems")
    records = {name: run(solve, found, 0.0) for name, solve in solvers().items()}
    for level, most, quarter in ((1e-5, 3.2, 6.0), (1e-7, 4.0, 9.0)):
        for name, own in records.items():
            figures = profile(name, own, level)
            if name == "jaxfd":
                solved, middle, upper = figures
        row(f"solved at {level:g}", solved, ">= 52", solved >= 52)
        row(f"median at {level:g}", middle, f"<= {most}", middle <= most)
        row(f"upper quartile at {level:g}", upper, f"<= {quarter}", upper <= quarter)


def with_noise(found: list[Problem], noise: float, level: float) -> None:
    print(f"\nMoré-Wild, relative noise {noise:g}")
    for name, solve in solvers().items():
        solved, middle, _ = profile(name, run(solve, found, noise), level)
        if name == "jaxfd" and noise == 1e-3:
            row("solved", solved, f"= {len(found)}", solved == len(found))
            row("median", middle, "<= 2.4", middle <= 2.4)


def side_by_side(found: list[Problem], workers: int = 16, level: float = 1e-5) -> None:
    """Batches with workers, beside scipy's Jacobians and trials in sequence."""
    print(f"\nMoré-Wild, {workers} workers")
    mine, theirs = [], []
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for problem in found:
            record = Record(problem)
            out = jax.ShapeDtypeStruct((problem.count,), np.float32)
            box = jaxfd.blackbox(record, out, executor=pool, name="residuals")

            def ends(fit: Any, own: Record = record) -> bool:
                own.ends.append(fit.num_batches)
                value = own.least[-1] - own.problem.least
                return value <= level * (own.problem.first - own.problem.least)

            try:
                fit = least_squares(box, problem.x0, callback=ends)
                done = record.spent(level) < np.inf
                mine.append(fit.num_batches if done else np.inf)
            except SpentError:
                mine.append(np.inf)
            theirs.append(_rounds(problem, level))
    middle, other = float(np.median(mine)), float(np.median(theirs))
    row("median batches", middle, "<= 6", middle <= 6)
    row(
        "the same over scipy trf's Jacobians and trials",
        middle / other,
        "<= 0.5",
        middle <= other / 2,
    )


def _rounds(problem: Problem, level: float) -> float:
    """Jacobians and trials of scipy's trf until a problem is solved."""
    record, rounds = Record(problem), [0]

    def solved() -> bool:
        return record.spent(level) < np.inf

    def fun(x: np.ndarray) -> np.ndarray:
        rounds[0] += not solved()
        return record(x)

    def jac(x: np.ndarray) -> np.ndarray:
        rounds[0] += not solved()
        step = 1.5e-8 * np.maximum(1, np.abs(x))
        return np.array([(problem.fun(x + h) - problem.fun(x)) / h.max() for h in np.diag(step)]).T

    with contextlib.suppress(SpentError, ValueError):
        scipy.optimize.least_squares(fun, problem.x0, jac, xtol=1e-15, ftol=1e-15, gtol=1e-15)
    return rounds[0] if solved() else np.inf


def several_starts(found: list[Problem]) -> None:
    print("\nMoré-Wild, five starts")
    missed = []
    for problem in found:
        record = Record(problem)
        with contextlib.suppress(SpentError):
            least_squares(record, problem.x0, starts=5, key=0)
        if not record.spent(1e-5) < np.inf:
            missed.append(problem.name)
    solved = len(found) - len(missed)
    row(f"solved ({' '.join(missed)} missed)"[:68], solved, f"= {len(found)}", not missed)


MODELS: dict[str, Callable[[Any, Any], Any]] = {
    "Bennett5": lambda b, x: b[0] * (b[1] + x) ** (-1 / b[2]),
    "Chwirut": lambda b, x: np.exp(-b[0] * x) / (b[1] + b[2] * x),
    "DanWood": lambda b, x: b[0] * x ** b[1],
    "Gauss": lambda b, x: (
        b[0] * np.exp(-b[1] * x)
        + b[2] * np.exp(-((x - b[3]) ** 2) / b[4] ** 2)
        + b[5] * np.exp(-((x - b[6]) ** 2) / b[7] ** 2)
    ),
    "Hahn1": lambda b, x: (
        (b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3) / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)
    ),
    "Kirby2": lambda b, x: (b[0] + b[1] * x + b[2] * x**2) / (1 + b[3] * x + b[4] * x**2),
    "Lanczos": lambda b, x: (
        b[0] * np.exp(-b[1] * x) + b[2] * np.exp(-b[3] * x) + b[4] * np.exp(-b[5] * x)
    ),
    "MGH09": lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
    "MGH10": lambda b, x: b[0] * np.exp(b[1] / (x + b[2])),
    "MGH17": lambda b, x: b[0] + b[1] * np.exp(-x * b[3]) + b[2] * np.exp(-x * b[4]),
    "Misra1a": lambda b, x: b[0] * (1 - np.exp(-b[1] * x)),
    "Misra1b": lambda b, x: b[0] * (1 - (1 + b[1] * x / 2) ** -2),
    "Misra1c": lambda b, x: b[0] * (1 - (1 + 2 * b[1] * x) ** -0.5),
    "Misra1d": lambda b, x: b[0] * b[1] * x / (1 + b[1] * x),
    "Nelson": lambda b, x: b[0] - b[1] * x[0] * np.exp(-b[2] * x[1]),
    "Rat42": lambda b, x: b[0] / (1 + np.exp(b[1] - b[2] * x)),
    "Rat43": lambda b, x: b[0] / (1 + np.exp(b[1] - b[2] * x)) ** (1 / b[3]),
    "Roszman1": lambda b, x: b[0] - b[1] * x - np.arctan(b[2] / (x - b[3])) / np.pi,
    "Thurber": lambda b, x: (
        (b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3) / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3)
    ),
    "BoxBOD": lambda b, x: b[0] * (1 - np.exp(-b[1] * x)),
    "Eckerle4": lambda b, x: b[0] / b[1] * np.exp(-(((x - b[2]) / b[1]) ** 2) / 2),
    "ENSO": lambda b, x: (
        b[0]
        + b[1] * np.cos(2 * np.pi * x / 12)
        + b[2] * np.sin(2 * np.pi * x / 12)
        + b[4] * np.cos(2 * np.pi * x / b[3])
        + b[5] * np.sin(2 * np.pi * x / b[3])
        + b[7] * np.cos(2 * np.pi * x / b[6])
        + b[8] * np.sin(2 * np.pi * x / b[6])
    ),
}


def nist(folder: Path) -> None:
    """Prints digits for every data set of a folder."""
    print(f"\nNIST StRD, JAX in {'float64' if jax.config.jax_enable_x64 else 'float32'}")  # type: ignore[attr-defined]
    bad, spent = 0, []
    for path in sorted(folder.glob("*.dat")):
        model = MODELS.get(path.stem) or MODELS.get(path.stem.rstrip("0123456789"))
        if model is None:
            print(f"{path.stem}: no model")
            continue
        table, data = _read(path)
        y, x = data[:, 0], data[:, 1] if data.shape[1] == 2 else data[:, 1:].T
        y = np.log(y) if path.stem == "Nelson" else y
        for start in (0, 1):
            out = jax.ShapeDtypeStruct(y.shape, np.float32)
            box = jaxfd.blackbox(lambda b, own=model, at=x: own(b, at), out, name=path.stem)
            fit = least_squares(box, table[:, start].copy(), data=y)
            digits = -np.log10(np.max(np.abs(fit.x / table[:, 2] - 1)) + 1e-16)
            others = -np.log10(np.max(np.abs(fit.standard_errors / table[:, 3] - 1)) + 1e-16)
            spent.append(fit.num_evaluations / (len(table) + 1))
            good = digits >= 6 and others >= 4
            bad += not good
            print(
                f"{path.stem:<10} start {start + 1}: digits {digits:5.1f} {others:5.1f}, "
                f"evaluations {spent[-1]:6.1f} (p + 1), {fit.status}{'' if good else '  MISSED'}"
            )
    row("starts without 6 and 4 digits", bad, "<= 1", bad <= 1)
    middle = float(np.median(spent))
    row("median evaluations over p + 1", middle, "<= 14", middle <= 14)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Starts, certified values and deviations, shape ``(p, 4)``; and the data."""
    lines = path.read_text().splitlines()
    number = r"\s*([-+.\deE]+)"
    rows = [re.match(rf"\s*b\d+\s*=\s*{number * 4}", line.replace(" ", "  ")) for line in lines]
    table = [[float(v) for v in found.groups()] for found in rows if found]
    first = max(i for i, line in enumerate(lines) if line.startswith("Data:"))
    data = [[float(v) for v in line.split()] for line in lines[first + 1 :] if line.strip()]
    return np.array(table), np.array(data)


def second_call() -> None:
    """A fit of two parameters, a model of microseconds, once more."""
    t = np.linspace(0.0, 1.0, 11)
    y = 2 * np.exp(-1.3 * t) + 0.01 * np.cos(9 * t)

    def model(p: np.ndarray) -> np.ndarray:
        return p[0] * np.exp(-p[1] * t) - y

    x0 = np.array([1.0, 1.0])
    calls = (scipy.optimize.least_squares, least_squares)
    for call in calls:
        call(model, x0)
    times = np.zeros((60, 2))
    for i in range(len(times)):
        for k, call in enumerate(calls):
            start = time.perf_counter()
            call(model, x0)
            times[i, k] = time.perf_counter() - start
    ratio = float(np.median(times[:, 1] / times[:, 0]))
    row("second call of a small fit: time over scipy least_squares", ratio, "<= 3", ratio <= 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nist", type=Path, help="a folder with NIST's .dat files")
    parser.add_argument("--only", choices=("plain", "noise", "workers", "starts", "nist", "call"))
    options, _ = parser.parse_known_args()
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    print(f"device: {jax.devices()[0].device_kind}, jax {jax.__version__}")
    only = options.only
    found = list(more_wild()) if only not in ("nist", "call") else []
    if only in (None, "plain"):
        without_noise(found)
    if only in (None, "noise"):
        with_noise(found, 1e-6, 1e-5)
        with_noise(found, 1e-3, 1e-3)
    if only in (None, "workers"):
        side_by_side(found)
    if only in (None, "starts"):
        several_starts(found)
    if only in (None, "nist") and options.nist is not None:
        nist(options.nist)
        jax.config.update("jax_enable_x64", True)
        nist(options.nist)
    if only in (None, "call"):
        second_call()


if __name__ == "__main__":
    main()
