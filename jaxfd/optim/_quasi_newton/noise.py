"""A look at a function's noise along a line, in NumPy.

It exists because a step that fails asks for it in the midst of a run, and a black box is evaluated
without JAX. The tables are those of `jaxfd.estimate_noise`; what the noise is for must not be known
here.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from jaxfd._reports import Noise, choose, difference_table
from jaxfd.optim._quasi_newton.landscape import Landscape

_TICKS = np.array([-4, -3, -2, -1, 1, 2, 3, 4])
_POWERS = (3 / 4, 11 / 24, 1 / 6)
# Fewer neighbours than this leave too few levels to compare.
_FEWEST = 5


def look_at_noise(
    landscape: Landscape,
    v: Float[np.ndarray, "n"],
    value: float,
    size: Float[np.ndarray, "n"],
    eps: float,
) -> Noise:
    """The noise near ``v``; every entry moves, by shares of its size.

    Args:
        landscape: the function.
        v: the point.
        value: the value there.
        size: how large entries are.
        eps: the relative spacing of values.
    """
    direction = np.where(np.arange(len(v)) % 2, -1, 1) * size
    spacings = np.array([eps**power for power in _POWERS])
    far = (spacings[:, None] * _TICKS).reshape(-1)
    values = landscape.at(np.stack([landscape.fit(v + t * direction) for t in far]))
    tables, used = [], []
    for row, spacing in zip(values.reshape(len(spacings), -1), spacings, strict=True):
        whole = np.concatenate([row[:4], [value], row[4:]])
        runs = np.split(whole, np.flatnonzero(~np.isfinite(whole)))
        longest = max((run[np.isfinite(run)] for run in runs), key=len)
        if len(longest) >= _FEWEST:
            tables.append(difference_table(longest))
            used.append(float(spacing))
    if not tables:
        return Noise(0.0, (), float(spacings[0]), False, len(far))
    best = choose(tables, used)
    table = tables[best]
    return Noise(table.level, table.levels, used[best], table.conclusive, len(far))
