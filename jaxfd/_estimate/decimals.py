"""Values that a program printed, or computed in float32: how coarse they are.

It exists because differences of such values may agree with each other and be wrong together, as
where all of them are 0. Must not know what the values are of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxfd._estimate.bars import UNIFORM

# Multiples of 10^-k are looked for from 10^4 on, down to 10^-15.
_COARSEST, _FINEST = -4, 15
# Numbers may have so many digits by chance, or because they are small fractions.
_FEW = 1e-11


def scatter_of_digits(values: Float[Any, "m *s"]) -> Float[Any, "*s"]:
    """The standard deviation of what rounding to few digits did to values; 0 where none is seen.

    Args:
        values: NumPy's, at least two; what is not finite does not count.
    """
    values = np.abs(np.where(np.isfinite(values), values, 0)).astype(np.float64)
    size, grid = np.max(values, axis=0), np.zeros(values.shape[1:])
    eps = float(np.finfo(np.float64).eps)
    for k in range(_FINEST, _COARSEST - 1, -1):
        unit = 10.0**-k
        scaled = values * 10.0**k
        fits = np.all(np.abs(scaled - np.round(scaled)) <= 4 * eps * scaled, axis=0)
        grid = np.where(fits & (unit > _FEW * size), unit, grid)
    # Numbers of few bits.
    short = np.all(values.astype(np.float32) == values, axis=0)
    grid = np.where(short, np.maximum(grid, np.finfo(np.float32).eps * size), grid)
    # All of them 0: nothing is known of digits; see `is_blank`.
    return np.where(size > 0, UNIFORM * grid, 0)


def is_blank(values: Float[Any, "m *s"]) -> Bool[Any, "*s"]:
    """Whether values are all 0, which says nothing of the digits that they have, nor of noise."""
    return np.all(values == 0, axis=0)
