"""The last step under noise: by residuals that are averaged, for one evaluation tells no more.

Where noise is much of what is left, the best point of a single evaluation is as far from the
optimum as its noise moves it, which may be several standard errors. It must not know why a search
ends.
"""

from __future__ import annotations

import math

import numpy as np

from jaxfd.optim._fits.slopes import Talk
from jaxfd.optim._fits.standing import Standing

# Noise of less than this share of the sum of squares moves parameters by less than a quarter of
# their standard errors: nothing is averaged.
_LITTLE = 0.06
# The mean's noise shall be this share of the scatter; for that no more evaluations are spent than
# so many times the entries and one.
_WANTED, _MOST = 0.3, 4
# How far apart points are, in shares of the steps of the last slopes: noise may be a function of
# the point.
_APART = 0.1


def settle_by_mean(standing: Standing) -> Talk:
    """Averages residuals around the best point, and goes the step that they ask for.

    Args:
        standing: where the search stands, with slopes of both sides at the best point.
    """
    model, slopes = standing.model, standing.slopes
    assert model is not None
    if slopes is None or model.cost == 0 or standing.lost.any():
        return
    share = standing.noise**2 / model.cost
    if share < _LITTLE:
        return
    n = len(model.u)
    # Of the sum of squares noise is a part: the more, the more is averaged.
    wanted = share / max(1 - share, 0.1) / _WANTED**2
    count = min(max(2, math.ceil(wanted)), _MOST * (n + 1))
    offsets = np.random.default_rng(0).uniform(-1, 1, (count, n)) * _APART * np.abs(slopes.steps)
    points = np.clip(model.u + offsets, standing.lower, standing.upper)
    rows = yield points
    good = np.isfinite(rows).all(1)
    if good.sum() < 2:
        return
    mean = (rows - (points - model.u) @ model.jacobian.T)[good].mean(0)
    q = standing.step_of(mean)
    point = standing.point(q)
    last = yield point[None]
    after = float(last[0] @ last[0])
    if not after <= model.cost + 4 * standing.blur():
        return
    standing.go_with_slopes(point, last[0])
    standing.averaged = int(good.sum())
