"""Differences that are drowned in the rounding of the values that they are made of.

It must not know who makes the differences.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from jaxfd.optim._fits.slopes import FARTHEST, Rows, Searching

# A difference of fewer times the rounding of its values tells no slope; so many times are wanted.
_DROWNED, _CLEAR = 30.0, 1e6
# Where slopes are to be known to more digits than that, fewer than so many times are too few.
_SHARP = 1e5
# Steps that had grown shrink again where a difference is so many times clearer than wanted.
_PLAIN = 1e4
# By how much at most steps grow at once.
_GROWTH = 1e4


def drowned(
    search: Searching,
    u: Float[np.ndarray, "n"],
    r: Float[np.ndarray, "m"],
    h: Float[np.ndarray, "n"],
    rows: Rows,
    share: float,
    clear: bool = False,
    last: bool = False,
) -> Bool[np.ndarray, "n"]:
    """Entries whose differences are drowned in the rounding of the values.

    An entry near 0 has no scale of its own that a share of it would be right for. It is taken for
    larger from now on, until that is too much.

    Args:
        search: the search, whose floor is raised.
        u: the point.
        r: the residuals there.
        h: the steps.
        rows: the residuals after each of them.
        share: what share of the entries' sizes they are.
        clear: whether those of entries without a scale of their own must be clear, for errors are
            made of them.
        last: whether entries that change nothing grow as far as they may, for they are moved no
            more.
    """
    none = np.zeros(len(u), bool)
    if search.noise > 0 or search.scale is not None:
        return none
    size = search.spans(u)
    change = np.linalg.norm(rows - r, axis=1)
    with np.errstate(all="ignore"):
        terms = np.abs(rows - r) / np.abs(h)[:, None] * np.abs(u)[:, None]
        need = search.eps() * float(np.linalg.norm(np.abs(r) + np.nansum(terms, axis=0)))
        factor = _CLEAR * need / change
    if not np.isfinite(need):
        return none
    most = np.maximum(search.usual, np.abs(u) * FARTHEST / share)
    least = np.where(clear & (search.sizes(u) > np.abs(u)), _SHARP, _DROWNED)
    small: np.ndarray = np.isfinite(change) & (change < least * need) & (size < most)
    large = np.isfinite(change) & (change > _PLAIN * _CLEAR * need)
    if not (small.any() or large.any()):
        return none
    growth = np.clip(factor, 10.0, np.where(last & (change == 0), np.inf, _GROWTH))
    larger = np.minimum(size * growth, most)
    smaller = np.maximum(search.least_sizes, search.floor * _PLAIN * np.minimum(factor, 1.0))
    search.extent = np.where(small, np.maximum(search.extent, larger), search.extent)
    search.floor = np.where(small, larger, np.where(large, smaller, search.floor))
    return small
