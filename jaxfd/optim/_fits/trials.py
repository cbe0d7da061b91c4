"""Trials: a step, and others beside it where the width allows, evaluated as one batch.

It must not know when a search is over, nor how slopes are differenced.
"""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np
from jaxtyping import Float

from jaxfd.optim._fits.jacobians import Differences
from jaxfd.optim._fits.standing import Standing

Row = Float[np.ndarray, "n"]
Rows = Float[np.ndarray, "k n"]

# A step is taken where it brings this share of what was promised; below the second the model is
# not trusted.
TAKEN, BAD = 1e-4, 0.15
# Steps that are tried side by side, in radii.
_RADII = (0.25, 4.0, 0.0625, 16.0, 0.015625, 64.0, 0.00390625)
# Points with so many times the best sum of squares teach nothing about what is near.
_ABSURD = 25.0


def attempt(
    standing: Standing,
    differences: Differences,
    q: Float[np.ndarray, "n"],
    gain: float,
    radius: float,
    cut: bool,
) -> Generator[Rows, Rows, tuple[float, Row]]:
    """Evaluates a step, and as many others as fit; goes to the best.

    Args:
        standing: where the search stands; it is moved.
        differences: makes the next Jacobian, where there is room for it in the same batch.
        q: the step, in scaled variables.
        gain: what it promises.
        radius: of the ball.
        cut: whether that cuts the step short.

    Returns:
        What it brought as a share of what was promised, and the step.
    """
    model = standing.model
    assert model is not None
    steps, gains = [q], [gain]
    ahead = standing.width >= len(q) + 2
    room = standing.width - 1 - (len(q) if ahead else 0)
    if room > 0 and model.curved:
        _add(standing, steps, gains, *standing.step(radius, straight=True)[:2], room)
    length = math.sqrt(q @ q)
    for share in _RADII:
        if len(steps) > room or (share > 1 and not cut):
            continue
        _add(standing, steps, gains, *standing.step(share * min(radius, length))[:2], room)
    points = [standing.point(step) for step in steps]
    asked = np.array(points)
    if ahead:
        asked = np.concatenate([asked, differences.around(points[0])])
    rows = yield asked
    found, beside = rows[: len(points)], rows[len(points) :]
    sums = [float(r @ r) if np.isfinite(r).all() else np.inf for r in found]
    k = sums.index(min(sums))
    slack = 2 * standing.blur()
    if ahead and model.cost - sums[0] + slack > BAD * (gain + slack):
        # Where the next slopes are known already.
        k = 0
    rho = (model.cost - sums[k] + slack) / (gains[k] + slack)
    standing.refused = not np.isfinite(sums[k])
    if standing.refused:
        return -np.inf, steps[k]
    if model.curved and sums[k] <= _ABSURD * model.cost:
        p = steps[k] / standing.units
        bent, flat = model.values(p), model.values(p, straight=True)
        worse = abs(float(bent @ bent) - sums[k]) > abs(float(flat @ flat) - sums[k])
        standing.doubt = standing.doubt + 1 if worse else 0
    old, old_cost = (model.u, model.r), model.cost
    if rho > TAKEN:
        model.move(points[k], found[k])
    others = [
        (points[i], found[i])
        for i in sorted(range(len(sums)), key=sums.__getitem__)
        if sums[i] <= _ABSURD * old_cost and not (i == k and rho > TAKEN)
    ]
    if rho > TAKEN:
        others.insert(0, old)
    standing.seen = [*others, *standing.seen][: 2 * len(q) + 2]
    if rho > TAKEN and k == 0 and ahead:
        yield from differences.weigh(beside)
        standing.rescale()
    else:
        model.learn(standing.seen, standing.units, standing.reach, standing.noise * 2**0.5)
    standing.note()
    return rho, steps[k]


def _add(
    standing: Standing,
    steps: list[Float[np.ndarray, "n"]],
    gains: list[float],
    q: Float[np.ndarray, "n"],
    promised: float,
    room: int,
) -> None:
    """Adds a step to those that are tried side by side, if there is room and it is new."""
    model = standing.model
    assert model is not None
    least = 0.05 * math.sqrt(q @ q)
    new = all(float(np.linalg.norm(q - other)) > least for other in steps)
    gain = model.cost - promised
    if len(steps) <= room and new and gain > 0:
        steps.append(q)
        gains.append(gain)
