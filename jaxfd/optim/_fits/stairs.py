"""Entries that change nothing: residuals may be stairs along them, and change farther away.

It must not know when they are asked for.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from jaxtyping import Bool, Float

from jaxfd.optim._fits.slopes import Rows
from jaxfd.optim._fits.standing import Standing

# Where such entries are looked at, in shares of their sizes.
_FARTHER = (-1.0, 1.0, -10.0, 10.0)


def jumped(
    standing: Standing, dead: Bool[np.ndarray, "n"]
) -> Generator[Float[np.ndarray, "k n"], Rows, bool]:
    """Looks farther away along entries that change nothing; goes where that is better.

    An entry of stairs has no slope on any of them: only one that changes nothing farther away
    either has no influence.

    Args:
        standing: where the search stands; it is moved.
        dead: the entries.

    Returns:
        Whether it was moved.
    """
    model = standing.model
    assert model is not None
    size, which = standing.sizes(model.u), np.flatnonzero(dead)
    points = [model.u + far * size[k] * np.eye(len(size))[k] for k in which for far in _FARTHER]
    points = np.clip(np.array(points), standing.lower, standing.upper)
    rows = yield points
    known = np.isfinite(rows).all(1)
    differs = known & (rows != model.r).any(1)
    standing.jumps = np.zeros(len(size), bool)
    standing.jumps[which] = differs.reshape(len(which), -1).any(1)
    return standing.go_lower(points, rows, standing.tol * model.cost + 2 * standing.blur())
