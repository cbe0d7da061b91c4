"""What searches found, as a fit: the best of them in the user's numbers, with errors.

It must not know how they searched, nor evaluate anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxfd.optim._fits.errors import errors_of
from jaxfd.optim._fits.experiment import Experiment
from jaxfd.optim._fits.fit import Fit, Minimum
from jaxfd.optim._fits.profile import Limits
from jaxfd.optim._fits.search import Search
from jaxfd.optim._fits.slopes import Slopes
from jaxfd.optim._status import Status

# Minima are one where parameters differ by less than this share of their own sizes, or of those at
# the start; and in a valley: where costs differ by less than the first share, and slopes foretell
# no higher rise between them than the second.
_SAME_PLACE, _SAME_ZERO = 1e-3, 1e-6
_SAME_COST, _FLAT = 1e-6, 1e-2


def summary(
    searches: Sequence[Search],
    experiment: Experiment,
    absolute: bool,
    data: Any,
    limits: Limits | None = None,
) -> Fit:
    """The fit.

    Args:
        searches: the searches, that from ``x0`` first.
        experiment: what they asked.
        absolute: whether the errors of the residuals are known.
        data: what the user gave as data.
        limits: those found by profiling, if they were asked for.
    """
    parameters, weighing = experiment.parameters, experiment.weighing
    alive = [k for k, search in enumerate(searches) if search.model is not None]
    k = min(alive, key=lambda k: searches[k].cost)
    best = searches[k]
    model = best.model
    assert model is not None
    u, names = model.u, parameters.names
    slopes = best.slopes
    done = slopes is not None and slopes.u is u
    measured = slopes is not None
    if slopes is None or not done:
        unknown = np.full(model.jacobian.shape, np.nan)
        learnt = model.jacobian if measured else unknown
        slopes = Slopes(u, learnt, unknown, False, np.zeros(len(u)))
    rate = parameters.slope(u)
    low, high = u <= parameters.lower, u >= parameters.upper
    walls = low | high
    lost = best.lost if done else np.zeros(len(u), bool)
    cost = model.cost / 2
    error_of_slopes = slopes.error if done else None
    found = errors_of(
        slopes.jacobian, error_of_slopes, cost, absolute, walls, lost, best.jumps, names
    )
    warnings = list(found.warnings)
    if not measured:
        warnings.append("slopes were never differenced: errors are unknown")
    elif not done:
        warnings.append("slopes were not differenced at the end: errors are rough")
    if weighing.robust:
        warnings.append("with a robust loss standard errors are rough")
    status = best.status or Status.INTERRUPTED
    if status not in (Status.CONVERGED, Status.NOISE) and best.status is not None:
        warnings.append("errors are those at a point that is not known to be a minimum")
    warnings += limits.warnings if limits is not None else ()
    covariance = found.covariance * np.outer(rate, rate)
    error = np.sqrt(np.diag(covariance))
    values = experiment.known(u)
    jacobian = weighing.unweighted(slopes.jacobian, values) / rate
    raw_error = np.abs(weighing.unweighted(slopes.error, values)) / rate
    row = parameters.outward(u)
    message = best.message or "still going"
    if best.status is Status.FAILED and best.lost.any():
        bad = ", ".join(n for n, b in zip(names, best.lost, strict=True) if b)
        message = f"the runs for {bad} fail on both sides"
    if best.status is Status.STUCK and best.jumps.any():
        bad = ", ".join(n for n, b in zip(names, best.jumps, strict=True) if b)
        message = f"residuals jump along {bad} and are flat in between"
    if status is Status.NOISE and weighing.count > len(u):
        message += _how_far(best, weighing.count, absolute)
    at_wall = [n for n, w in zip(names, walls, strict=True) if w]
    if at_wall and best.status is Status.CONVERGED:
        message += f" ({', '.join(at_wall)} at the bounds)"
    return Fit(
        x=parameters.tree(row),
        residuals=weighing.tree(weighing.residuals(values)),
        cost=cost,
        names=tuple(names),
        jacobian=jacobian,
        jacobian_error=raw_error,
        covariance=covariance,
        standard_errors=parameters.errors(error),
        degrees_of_freedom=weighing.count - len(u),
        num_evaluations=experiment.evaluator.num_evaluations,
        num_batches=experiment.evaluator.num_batches,
        num_failed=experiment.num_failed,
        status=status,
        message=message,
        warnings=tuple(warnings),
        history=np.array(best.history or [model.cost]) / 2,
        noise=best.noise / weighing.count**0.5,
        intervals=None if limits is None else limits.values,
        minima=_minima(searches, alive, experiment),
        start=parameters.tree(parameters.layout.start),
        free=parameters.free,
        data=data,
    )


def _how_far(best: Search, count: int, absolute: bool) -> str:
    """What noise of the residuals does to the parameters, in words."""
    variance = 1.0 if absolute else best.cost / (count - len(best.best))
    if variance == 0:
        return ""
    far = best.noise / math.sqrt(count * best.averaged * variance)
    mean = f", of {best.averaged} evaluations," if best.averaged > 1 else ""
    return f"; that{mean} puts parameters off by about {far:.1g} of their standard errors"


def _minima(
    searches: Sequence[Search], alive: Sequence[int], experiment: Experiment
) -> tuple[Minimum, ...]:
    """The distinct ends of searches, best first."""
    groups: list[list[int]] = []
    for k in sorted(alive, key=lambda k: searches[k].cost):
        for group in groups:
            first = searches[group[0]]
            apart = searches[k].best - first.best
            size = np.maximum(_SAME_PLACE * np.abs(first.best), _SAME_ZERO * first.size)
            near = np.all(np.abs(apart) <= size)
            assert first.model is not None
            rise = float(np.sum((first.model.jacobian @ apart) ** 2))
            valley = (
                searches[k].cost - first.cost <= _SAME_COST * first.cost
                and rise <= _FLAT * first.cost
            )
            if near or valley:
                group.append(k)
                break
        else:
            groups.append([k])
    parameters = experiment.parameters
    return tuple(
        Minimum(
            x=parameters.tree(parameters.outward(searches[g[0]].best)),
            cost=searches[g[0]].cost / 2,
            starts=tuple(sorted(g)),
            status=searches[g[0]].status or Status.INTERRUPTED,
        )
        for g in groups
    )
