"""Minimisation on test problems, beside scipy's BFGS and evosax's CMA-ES.

The unconstrained problems of sif2jax whose name starts with A to M and that have at most 12
variables, from their own starting point, everybody with defaults, float64. A problem is solved if
the value is within ``1e-6 * max(1, |best|)`` of the best known one. sif2jax's own values do not
always belong to its function, and local solvers cannot know of other valleys: the best known is
the lowest that scipy's BFGS, trust-exact (polished by BFGS) and Nelder-Mead reach with exact
derivatives, from the start and two points beside it, or that anyone measured here reaches.

In the second part every evaluation is multiplied by ``1 + 1e-6 * N(0, 1)``, drawn on the host: for
jaxfd the function is a black box. What counts is the value without noise at the point returned.
scipy and CMA-ES get the evaluations that jaxfd took on the same problem; BFGS is started anew where
it ended, until they are spent, and CMA-ES may choose between its mean and its best point. For scale
CMA-ES also gets ten times as many, up to 20,000.

Nothing was decided on the problems from N to Z, ``--holdout``.
"""

from __future__ import annotations

import argparse
import dataclasses
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd
from benchmarks._timing import row
from jaxfd.optim import minimize

_NOISE = 1e-6
_SOLVED = 1e-6
# Evaluations that anybody may spend on a problem.
_MOST = 20_000
# Budgets of the profile, in units of n + 1 evaluations.
_BUDGETS = (10, 20, 40, 80, 160, 1000)


@dataclasses.dataclass
class Problem:
    """A test problem.

    Attributes:
        name: its name.
        fun: the function.
        x0: the start.
        best: the lowest value known.
        values: for each solver the value that it reached.
        spent: for each solver the evaluations that it took.
    """

    name: str
    fun: Callable[[Any], Any]
    x0: np.ndarray
    best: float = np.inf
    values: dict[str, float] = dataclasses.field(default_factory=dict)
    spent: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.compiled = jax.jit(self.fun)

    def plain(self, x: Any) -> float:
        return float(self.compiled(np.asarray(x, np.float64)))

    def reached(self, solver: str, value: float, spent: int) -> None:
        """Keeps what a solver reached."""
        self.values[solver], self.spent[solver] = value, spent
        self.best = min(self.best, value if np.isfinite(value) else np.inf)

    def solved(self, solver: str) -> bool:
        return self.values[solver] - self.best <= _SOLVED * max(1.0, abs(self.best))


class _Counted:
    """A function of one point that counts, and adds noise."""

    def __init__(self, problem: Problem, noise: float = 0.0, most: float = np.inf) -> None:
        self.problem, self.noise, self.most = problem, noise, most
        self.calls = 0
        self.rng = np.random.default_rng(0)

    def __call__(self, x: Any) -> float:
        if self.calls >= self.most:
            raise StopIteration
        self.calls += 1
        return self.problem.plain(x) * (1 + self.noise * self.rng.normal())


def problems(first: str, last: str, largest: int = 12) -> Iterator[Problem]:
    """The test set."""
    import sif2jax

    chosen = {type(p).__name__: p for p in sif2jax.unconstrained_minimisation_problems}
    for name, problem in sorted(chosen.items()):
        y0 = problem.y0
        if first <= name[0] <= last and isinstance(y0, jax.Array) and y0.size <= largest:

            def fun(x: Any, problem: Any = problem) -> Any:
                return problem.objective(x, problem.args)

            yield Problem(name, fun, np.asarray(y0, np.float64))


def refer(problem: Problem) -> None:
    """Finds the best known value, with exact derivatives."""
    from scipy.optimize import minimize as scipy_minimize

    slope = jax.jit(jax.grad(problem.fun))
    bend = jax.jit(jax.hessian(problem.fun))
    exact = {"jac": lambda x: np.asarray(slope(x))}
    options: dict[str, dict[str, Any]] = {
        "BFGS": {"gtol": 1e-12, "maxiter": 3000},
        "trust-exact": {"gtol": 1e-12, "maxiter": 2000},
        "Nelder-Mead": {"xatol": 1e-12, "fatol": 1e-14, "maxfev": 4000, "adaptive": True},
    }
    rng = np.random.default_rng(0)
    for spread in (0.0, 0.1, 0.2):
        x = problem.x0 + spread * rng.normal(size=problem.x0.shape) * np.maximum(1, abs(problem.x0))
        for method, option in options.items():
            known: dict[str, Any] = {} if method == "Nelder-Mead" else dict(exact)
            if method == "trust-exact":
                known["hess"] = lambda x: np.asarray(bend(x))
            try:
                found = scipy_minimize(problem.plain, x, method=method, options=option, **known)
                if method == "trust-exact":
                    polish = {"gtol": 1e-14, "maxiter": 2000}
                    found = scipy_minimize(
                        problem.plain, found.x, method="BFGS", options=polish, **exact
                    )
            except (ValueError, np.linalg.LinAlgError):  # inf or NaN on the way
                continue
            if np.isfinite(found.fun):
                problem.best = min(problem.best, float(found.fun))


def solve_plain(problem: Problem) -> None:
    """Both solvers, without noise."""
    from scipy.optimize import minimize as scipy_minimize

    counted = _Counted(problem)
    found = scipy_minimize(counted, problem.x0, method="BFGS")
    problem.reached("scipy BFGS", float(found.fun), counted.calls)
    ours = minimize(problem.fun, jnp.asarray(problem.x0), max_evaluations=_MOST)
    problem.reached("jaxfd", problem.plain(ours.x), ours.num_evaluations)


def solve_noisy(problem: Problem) -> None:
    """All solvers, with noise."""
    counted = _Counted(problem, _NOISE)
    box = jaxfd.blackbox(counted, jax.ShapeDtypeStruct((), np.float64))
    ours = minimize(box, jnp.asarray(problem.x0), max_evaluations=_MOST)
    assert counted.calls == ours.num_evaluations
    problem.reached("jaxfd", problem.plain(ours.x), counted.calls)
    x, spent = _scipy_again(problem, counted.calls)
    problem.reached("scipy BFGS", problem.plain(x), spent)
    value, spent = _cma(problem, counted.calls)
    problem.reached("evosax CMA-ES", value, spent)
    value, spent = _cma(problem, min(10 * counted.calls, _MOST))
    problem.reached("CMA-ES, tenfold", value, spent)


def _scipy_again(problem: Problem, budget: int) -> tuple[np.ndarray, int]:
    from scipy.optimize import minimize as scipy_minimize

    counted = _Counted(problem, _NOISE, budget)
    x = problem.x0
    last: list[np.ndarray] = [x]
    while counted.calls < budget:
        try:
            x = scipy_minimize(
                counted, x, method="BFGS", callback=lambda now: last.append(np.array(now))
            ).x
            last.append(x)
        except StopIteration:
            break
        if not np.all(np.isfinite(x)):
            break
    finite = [p for p in last if np.all(np.isfinite(p))]
    return finite[-1], counted.calls


def _cma(problem: Problem, budget: int) -> tuple[float, int]:
    """CMA-ES with its usual population, a first deviation of 0.3 of the size of each entry."""
    from evosax.algorithms import CMA_ES

    size = np.where(problem.x0 == 0, 1.0, np.abs(problem.x0))
    population = 4 + int(3 * np.log(problem.x0.size))
    algorithm = CMA_ES(population_size=population, solution=jnp.zeros(problem.x0.size))
    params = algorithm.default_params.replace(std_init=0.3)
    key = jax.random.key(0)
    state = algorithm.init(key, jnp.zeros(problem.x0.size), params)
    ask, tell = jax.jit(algorithm.ask), jax.jit(algorithm.tell)
    values_of = jax.jit(jax.vmap(problem.fun))
    rng = np.random.default_rng(0)
    lowest, best, spent = np.inf, problem.x0, 0
    while spent + population <= budget:
        key, one, two = jax.random.split(key, 3)
        points, state = ask(one, state, params)
        xs = problem.x0 + size * np.asarray(points)
        values = np.asarray(values_of(xs)) * (1 + _NOISE * rng.normal(size=population))
        values = np.where(np.isfinite(values), values, 1e300)
        state, _ = tell(two, points, jnp.asarray(values), state, params)
        spent += population
        if values.min() < lowest:
            lowest, best = values.min(), xs[np.argmin(values)]
    mean = problem.x0 + size * np.asarray(state.mean)
    return float(np.nanmin([problem.plain(best), problem.plain(mean)])), spent


def table(found: list[Problem], title: str) -> dict[str, tuple[int, int]]:
    """Prints who solved what at which cost; returns both for each solver."""
    print(f"\n{title}: {len(found)} problems")
    profile = " ".join(f"{b:>5}" for b in _BUDGETS)
    print(f"{'':<16} {'solved':>7} {'evaluations':>12}   solved within k (n + 1): {profile}")
    result = {}
    for solver in found[0].values:
        solved = sum(p.solved(solver) for p in found)
        spent = sum(p.spent[solver] for p in found)
        within = [
            sum(p.solved(solver) and p.spent[solver] <= b * (p.x0.size + 1) for p in found)
            for b in _BUDGETS
        ]
        profile = " ".join(f"{w:>5}" for w in within)
        print(f"{solver:<16} {solved:>7} {spent:>12}   {'':<25}{profile}")
        result[solver] = solved, spent
    for solver in found[0].values:
        missed = [p.name for p in found if not p.solved(solver)]
        print(f"{solver} misses: {' '.join(missed)}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--holdout", action="store_true", help="the problems N to Z alone")
    options, _ = parser.parse_known_args()
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    print(f"device: {jax.devices()[0].device_kind}, jax {jax.__version__}")
    letters = ("N", "Z") if options.holdout else ("A", "M")
    plain, noisy = [], []
    for problem in problems(*letters):
        refer(problem)
        solve_plain(problem)
        other = Problem(problem.name, problem.fun, problem.x0, problem.best)
        solve_noisy(other)
        problem.best = min(problem.best, other.best)
        other.best = problem.best
        plain.append(problem)
        noisy.append(other)
        jax.clear_caches()
    names = f"problems {letters[0]} to {letters[1]}"
    lines = table(plain, f"no noise, {names}")
    (ours, spent), (theirs, budget) = lines["jaxfd"], lines["scipy BFGS"]
    both = [
        p.spent["jaxfd"] / p.spent["scipy BFGS"]
        for p in plain
        if p.solved("jaxfd") and p.solved("scipy BFGS")
    ]
    ratio = float(np.median(both))
    row("minimize: problems solved", ours, f">= {theirs}", ours >= theirs)
    row("minimize: evaluations over scipy BFGS's, total", spent / budget, "<= 1", spent <= budget)
    row("the same, median of problems that both solve", ratio, "<= 1", ratio <= 1)
    lines = table(noisy, f"relative noise {_NOISE}, {names}")
    ours = lines.pop("jaxfd")[0]
    most = max(lines[name][0] for name in ("scipy BFGS", "evosax CMA-ES"))
    row("minimize: problems solved", ours, f"> {most}", ours > most)


if __name__ == "__main__":
    main()
