"""Leaps of single entries, as far as slopes alone ask, where that is far beyond their own size.

An entry that starts next to 0, an amplitude of 1e-9 say, has a size that says nothing: all steps
that are measured by it lead nowhere, and what hangs on it seems to have no effect, so that a search
that moves all entries together goes astray. It must not know when a search leaps, nor when it ends.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from jaxtyping import Float

from jaxfd.optim._fits.slopes import Rows
from jaxfd.optim._fits.standing import Standing

# Farther than so many times its size an entry leaps at the start, where steps of the entries' own
# sizes promise nothing, and where they do; and what share of the sum of squares that must promise.
NEAR, FAR, WORTH = 100.0, 1e4, 0.1
# At the end, where no step of its own size promises anything.
END = 1.0
# Where no leap leads down, shorter ones are tried: the mean of this and of an entry's own size, by
# logarithms.
_ROUNDS = 2
# A slope that is so many times as steep as what a leap shows was nothing but noise.
_NOISE = 10.0


def leap(
    standing: Standing, farther: float, least: float
) -> Generator[Float[np.ndarray, "k n"], Rows, bool]:
    """Moves the one entry along which the sum of squares becomes least, if any becomes less.

    Args:
        standing: where the search stands; it is moved.
        farther: how far beyond its size an entry must go, to be tried.
        least: what that must promise.

    Returns:
        Whether it was moved.
    """
    model = standing.model
    assert model is not None
    u, a = model.u, model.jacobian
    size = standing.scale
    if size is None:
        size = np.where(u != 0, np.abs(u), standing.usual)
    with np.errstate(all="ignore"):
        slope, square = a.T @ model.r, (a * a).sum(0)
        far, gain = -slope / square, slope**2 / square
        which = np.flatnonzero(np.isfinite(far) & (np.abs(far) > farther * size) & (gain > least))
    steps = far[which]
    for _ in range(_ROUNDS if len(which) else 0):
        points = np.repeat(u[None], len(which), axis=0)
        points[np.arange(len(which)), which] += steps
        points = np.clip(points, standing.lower, standing.upper)
        rows = yield points
        if standing.go_lower(points, rows, max(least, 2 * standing.blur())):
            # What was found of steps while other entries had no effect through this one is void.
            standing.floor = standing.least_sizes
            standing.extent = np.full(len(u), np.inf)
            return True
        shorter = np.sign(steps) * np.sqrt(np.abs(steps) * size[which])
        with np.errstate(all="ignore"):
            secant = (rows - model.r) / (points[:, which].diagonal() - u[which])[:, None]
            square = (secant * secant).sum(1)
            longer = -(secant @ model.r) / square
            steep = _NOISE**2 * square < (a[:, which] ** 2).sum(0)
        # Residuals that change by far less than was foretold: it is noise that made the slope.
        steps = np.where(steep & (np.abs(longer) > np.abs(steps)), longer, shorter)
    return False
