"""Leaves in one row, and back: what is written in vectors reads and returns trees through here.

For NumPy's arrays and JAX's alike; asked at each way from a tree to a vector and back. This room
must not know what the entries are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jaxtyping import Shaped

from jaxfd._arrays.dtype import promote


def flatten(xp: Any, leaves: Sequence[Any], axis: int, dtype: Any = None) -> Shaped[Any, "*lead n"]:
    """Joins leaves along one axis of coordinates.

    Args:
        xp: the array namespace.
        leaves: one array or more, shape ``(*lead, *leaf)`` each.
        axis: how many leading axes they share.
        dtype: that of the row; None takes one that holds them all.

    Returns:
        The row, shape ``(*lead, n)``.
    """
    flat = [leaf.reshape((*leaf.shape[:axis], math.prod(leaf.shape[axis:]))) for leaf in leaves]
    if dtype is None and len(flat) == 1:
        return flat[0]
    dtype = promote(*(leaf.dtype for leaf in flat)) if dtype is None else dtype
    flat = [leaf.astype(dtype) for leaf in flat]
    return flat[0] if len(flat) == 1 else xp.concatenate(flat, axis=axis)


def cut(row: Shaped[Any, "*lead n"], shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    """Undoes `flatten`: cuts the last axis of a row into leaves.

    Args:
        row: the row, or several of them.
        shapes: the shape of each leaf.

    Returns:
        One array for each shape, ``(*lead, *shape)``, in the dtype of the row.
    """
    leaves, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        leaves.append(row[..., start:stop].reshape((*row.shape[:-1], *shape)))
        start = stop
    return leaves
