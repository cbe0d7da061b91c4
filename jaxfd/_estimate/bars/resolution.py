"""The grid that values lie on: what is left of their trailing zeros, binary and decimal.

A program that prints six digits, rounds to decimals or computes in float32 returns numbers that
are all multiples of something much coarser than their dtype. This room must not know what the
values are of.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from jaxfd._arrays import column, power_of_two

# The standard deviation of what rounding to a grid of 1 does.
UNIFORM = 0.29
# Multiples of 10^-k are looked for from 10^4 on, down to the resolution of the dtype.
_COARSEST = -4
# No program rounds to fewer bits: where values have so few, so have the points.
_FEWEST = 1 / 8
# So many entries tell the grid as well as all do.
_ENOUGH = 64


def sample(xp: Any, values: Float[Any, "k *lead n *out"], base: Any, axis: int) -> Any:
    """Some of the entries along an axis, enough to tell the grid: such as change the value.

    Of every 64th entry the first that does, so that one which alone does is among them.

    Args:
        xp: the array namespace.
        values: values at the points along the entries.
        base: the value at ``x``, broadcastable to ``(*lead, n, *out)``.
        axis: which axis the entries are.
    """
    count = values.shape[axis]
    if count <= _ENOUGH:
        return values
    every = np.minimum(np.arange(-(-count // _ENOUGH) * _ENOUGH), count - 1)
    moves = xp.any(xp.isfinite(values) & (values != base), axis=0)
    moves = xp.take(moves, every.reshape(-1, _ENOUGH), axis=axis - 1)
    first = xp.argmax(moves, axis=axis - 1)
    own = np.arange(_ENOUGH).reshape(-1, *(1,) * (values.ndim - axis - 1))
    which = xp.minimum(first * _ENOUGH + own, count - 1)
    return xp.take_along_axis(values, which[None], axis=axis)


def grid_of(xp: Any, every: Float[Any, "m *lead"]) -> Float[Any, "*lead"]:
    """The coarsest grid that all values lie on; 0 where all of them are 0.

    Args:
        xp: the array namespace.
        every: real values, the one at ``x`` first; what is not finite does not count.
    """
    kind = np.finfo(every.dtype)
    good = xp.isfinite(every) & (xp.abs(every) >= kind.tiny)
    size = xp.where(good, xp.abs(every), 0)
    lowest = lowest_bit(xp, xp.where(good, size, 1))
    binary = xp.min(xp.where(good, lowest, np.inf), axis=0)
    # Numbers of few bits lie on a grid that is finer where they are small.
    share = xp.min(
        xp.where(good, lowest / power_of_two(xp, xp.where(good, size, 1)), np.inf), axis=0
    )
    share = xp.where(share <= _FEWEST, share, 0)
    binary = xp.maximum(binary, xp.where(good[0], share * power_of_two(xp, size[0]), 0))
    largest = xp.max(size, axis=0)
    powers = decimals_of(every.dtype)
    times = column(np.array([10.0**k for k in powers]), size)
    # Where rounding alone would hide the grid, it says nothing.
    seen = largest < 0.01 / kind.eps / times[:, 0]
    scaled = xp.where(seen[:, None], size, 0) * times
    fits = xp.all(xp.abs(scaled - xp.round(scaled)) <= 4 * kind.eps * scaled, axis=1)
    grids = column(np.array([10.0**-k for k in powers]), largest)
    decimal = xp.max(xp.where(fits & seen, grids, 0), axis=0)
    grid = xp.maximum(xp.where(xp.isfinite(binary), binary, 0), decimal)
    return xp.where(largest > 0, grid, 0).astype(every.dtype)


def decimals_of(dtype: Any) -> range:
    """The numbers of decimals that are looked for, from the resolution of a dtype on."""
    return range(int(-np.log10(np.finfo(dtype).eps)), _COARSEST - 1, -1)


def lowest_bit(xp: Any, x: Any) -> Any:
    """The value of the lowest bit that is set, for normal positive numbers."""
    # Exact: what is left after all higher bits were taken away, one half of them at a time.
    kind = np.finfo(x.dtype)
    unit = power_of_two(xp, x)
    whole = x / unit * 2.0**kind.nmant
    low = xp.ones_like(whole)
    for half in (32, 16, 8, 4, 2, 1):
        if half > kind.nmant:
            continue
        part = whole / (2.0**half)
        even = part == xp.floor(part)
        whole = xp.where(even, part, whole)
        low = xp.where(even, low * 2.0**half, low)
    return low / 2.0**kind.nmant * unit
