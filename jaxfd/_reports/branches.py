"""Two branches of the error of a difference: truncation at long steps, rounding at short ones.

Arithmetic on one column of numbers. This room must not know where they come from.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.lib.stride_tricks import sliding_window_view

# How many neighbours make a slope, and how far off the order that may be, as a share of it.
_ROW, _STEADY = 4, 0.2


class Branches(NamedTuple):
    """The best step and what explains the errors beside it: numbers, or a row of them for entries.

    Attributes:
        best_step: where the largest error of three neighbours is smallest; NaN where all are NaN.
        best_error: the error there.
        truncation: ``c`` of the branch ``c h^p``; NaN where none shows.
        rounding: ``c`` of the branch ``c / h``; NaN where none shows.
    """

    best_step: Any
    best_error: Any
    truncation: Any
    rounding: Any


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def branches(
    steps: Float[np.ndarray, "k"],
    error: Float[np.ndarray, "k"],
    moves: Bool[np.ndarray, "k"],
    order: int,
) -> Branches:
    """Finds the best step of one entry, and the branches to both sides of it.

    Args:
        steps: the steps, from the shortest to the longest.
        error: the error at each; NaN where there is no derivative.
        moves: where more than one stair was seen.
        order: the method's order of accuracy ``p``.
    """
    wide = np.pad(np.where(np.isnan(error), np.inf, error), 1, constant_values=np.inf)
    around = np.max([wide[:-2], wide[1:-1], wide[2:]], axis=0)
    at = int(np.lexsort((-steps, wide[1:-1], around))[0])
    if not np.isfinite(error[at]):
        return Branches(np.nan, np.nan, np.nan, np.nan)
    short = (np.arange(len(steps)) < at) & np.isfinite(error) & moves
    rounding = float(np.median((error * steps)[short])) if short.sum() >= 3 else 0.0
    # The truncation branch is where rows of neighbours rise as they should.
    truncation = np.nan
    if len(steps) - at >= _ROW:
        h, e = (sliding_window_view(np.log(a[at:]), _ROW) for a in (steps, error))
        away = h - h.mean(axis=1, keepdims=True)
        slope = np.sum(away * e, axis=1) / np.sum(away**2, axis=1)
        rising = np.exp(e - order * h)[np.abs(slope - order) < _STEADY * order]
        truncation = float(np.median(rising)) if len(rising) else np.nan
    return Branches(steps[at], error[at], truncation, rounding or np.nan)
