"""Limits of parameters by profiling: each is moved and fixed, and the others are fitted anew.

They hold where residuals are bent and standard errors mislead: a limit is where the best of the
others can do no better than a sum of squares that is too large. This room must not know about
users' numbers.

Reference:
    D. Bates and D. Watts, "Nonlinear Regression Analysis and Its Applications" (1988), chapter 6.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxfd.optim._fits.conversations import converse
from jaxfd.optim._fits.errors import errors_of, student_limit
from jaxfd.optim._fits.experiment import Experiment
from jaxfd.optim._fits.search import Search

Talk = Generator[Float[np.ndarray, "k n"], Float[np.ndarray, "k m"], float]

# A limit is found when its sum of squares is off by this share of what it may rise.
_CLOSE = 1e-3
# How often a limit is looked for, how far at most in a step, and how well others are fitted.
_ROUNDS, _FARTHER, _TOL = 12, 3.0, 1e-5
# What a limit's residuals must rise by, in roundings of what they are differences of.
_ABOVE = 100.0


class Limits(NamedTuple):
    """Limits of parameters.

    Attributes:
        values: shape ``(p, 2)``; infinite where there is none, NaN where none was found.
        warnings: why none was found.
    """

    values: Float[np.ndarray, "p 2"]
    warnings: tuple[str, ...]


def no_limits(count: int, why: str) -> Limits:
    """The limits of so many parameters where none was found."""
    words = f"no 95 % limits were found by profiling: {why}"
    return Limits(np.full((count, 2), np.nan), (words,))


def limit(
    best: Search,
    covariance: Float[np.ndarray, "n n"],
    entry: int,
    side: int,
    rise: float,
    curved: Callable[[], bool] = lambda: True,
) -> Talk:
    """A conversation about one limit of one entry.

    Args:
        best: the search that found the minimum.
        covariance: the covariance there, for the first guess.
        entry: which entry.
        side: -1 for the lower limit, 1 for the upper one.
        rise: how much the sum of squares rises to the limit.
        curved: whether models have curvature.

    Returns:
        The limit; infinite where there is none before the wall, NaN where it was not found.
    """
    u, n = best.best, len(best.best)
    others = np.arange(n) != entry
    wall = (best.upper if side > 0 else best.lower)[entry]
    error = float(np.sqrt(covariance[entry, entry]))
    if not np.isfinite(error) or best.slopes is None:
        return np.nan
    along = covariance[:, entry] / covariance[entry, entry]
    base, reached = best.cost, 0.0
    # The root of the rise is nearly linear in the entry, and 0 at the minimum.
    goal = float(np.sqrt(rise))
    seen: list[tuple[float, float]] = [(0.0, 0.0)]
    guess = u[others]
    delta = error * goal / max(_slope(best, covariance, entry), 1e-300)
    for _ in range(_ROUNDS):
        value = u[entry] + side * delta
        at_wall = (value - wall) * side >= 0
        if at_wall:
            value, delta = wall, abs(wall - u[entry])
        if n > 1:
            start = guess + along[others] * (side * (delta - reached))
            inner = Search(
                np.clip(start, best.lower[others], best.upper[others]),
                best.lower[others],
                best.upper[others],
                best.size[others],
                best.usual[others],
                best.floor[others],
                scale=None if best.scale is None else best.scale[others],
                tol=_TOL,
                width=1,
                curved=curved(),
                eps=best.eps,
                known=best.slopes.jacobian[:, others],
            )
            talk = inner.run()
            try:
                asked = next(talk)
                while True:
                    asked = talk.send((yield _with(asked, entry, value)))
            except StopIteration:
                pass
            if inner.model is None:
                return np.nan
            cost, guess, reached = inner.cost, inner.best, delta
        else:
            rows = yield np.array([[value]])
            cost = float(rows[0] @ rows[0])
        if not np.isfinite(cost):
            return np.nan
        height = float(np.sqrt(max(cost - base, 0.0)))
        if at_wall and height <= goal:
            return side * np.inf
        seen.append((delta, height))
        if abs(height - goal) <= _CLOSE * goal:
            return float(value)
        delta = _next(seen, goal)
    return side * np.inf if seen[-1][1] < goal else np.nan


def profiled(searches: Sequence[Search], experiment: Experiment, absolute: bool) -> Limits:
    """95 % limits of all entries, in the user's numbers."""
    parameters = experiment.parameters
    ended = [s for s in searches if s.model is not None and s.slopes is not None]
    if not ended:
        return no_limits(len(parameters.names), "no search led anywhere")
    best = min(ended, key=lambda search: search.cost)
    slopes = best.slopes
    assert slopes is not None
    m, p = slopes.jacobian.shape
    walls = (best.best <= best.lower) | (best.best >= best.upper)
    cost = best.cost / 2

    def spread(fixed: Bool[np.ndarray, "p"]) -> Float[np.ndarray, "p p"]:
        """A first guess of how entries vary together, those at walls held or not."""
        flaws, names = (best.lost, best.jumps), parameters.names
        told = errors_of(slopes.jacobian, slopes.error, cost, absolute, fixed, *flaws, names)
        found = told.covariance
        known = np.isfinite(np.diag(found))
        return np.where(known[:, None] & known, found, np.where(np.eye(p) > 0, np.nan, 0.0))

    held, open_ = spread(walls), spread(np.zeros_like(walls))
    dof = m - p
    if dof <= 0 and not absolute:
        return no_limits(p, "there is no degree of freedom")
    variance, bound = (1.0, 1.959963984540054) if absolute else (2 * cost / dof, student_limit(dof))
    rise = variance * bound**2
    rounding = _ABOVE * best.eps() * best.heights(slopes.jacobian)
    if rise <= rounding @ rounding:
        return no_limits(p, "the residuals are zero to rounding")
    guesses = [open_ if walls[k] else held for k in range(p)]
    talks = [limit(best, guesses[k], k, side, rise) for k in range(p) for side in (-1, 1)]
    found = np.array(converse(talks, experiment)).reshape(p, 2)
    logs = parameters.log[parameters.free]
    with np.errstate(over="ignore"):
        result: np.ndarray = np.where(logs[:, None], np.exp(found), found)
    sides = ("lower", "upper")
    words = [
        f"{name}: no {side} 95 % limit was found by profiling"
        for name, pair in zip(parameters.names, result, strict=True)
        for side, value in zip(sides, pair, strict=True)
        if np.isnan(value)
    ]
    return Limits(result, tuple(words))


def _next(seen: list[tuple[float, float]], goal: float) -> float:
    """Where the goal should be, from what was seen."""
    below = max((s for s in seen if s[1] < goal), key=lambda s: s[0])
    above = min((s for s in seen if s[1] >= goal), key=lambda s: s[0], default=None)
    if above is None:
        first = seen[-2] if len(seen) > 1 else (0.0, 0.0)
        rate = (below[1] - first[1]) / max(below[0] - first[0], 1e-300)
        if rate <= 0:
            return below[0] * _FARTHER
        return min(below[0] + (goal - below[1]) / rate, below[0] * _FARTHER)
    share = (goal - below[1]) / (above[1] - below[1])
    return below[0] + min(max(share, 0.05), 0.95) * (above[0] - below[0])


def _slope(best: Search, covariance: Float[np.ndarray, "n n"], entry: int) -> float:
    """How fast the root of the rise grows, in standard errors of the linear theory."""
    slopes = best.slopes
    assert slopes is not None
    along = covariance[:, entry] / float(np.sqrt(covariance[entry, entry]))
    return float(np.linalg.norm(slopes.jacobian @ along))


def _with(points: Float[np.ndarray, "k p"], entry: int, value: float) -> Float[np.ndarray, "k n"]:
    """Points with the entry that is fixed."""
    found: np.ndarray = np.insert(points, entry, value, axis=1)
    return found
