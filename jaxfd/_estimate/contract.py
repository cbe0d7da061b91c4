"""Pairings of outputs with cotangents, in a kernel or for the rows of a host's batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxfd._arrays import is_inexact, promote


def contract(xp: Any, outputs: Sequence[Any], cotangents: Sequence[Any], imaginary: bool) -> Any:
    """The pairing of outputs with cotangents, summed in at least float32.

    It is real, unless a complex step carries the derivative in its imaginary part. Outputs that
    are no floating numbers have no cotangent.
    """
    total: Any = 0.0
    inexact = [y for y in map(xp.asarray, outputs) if is_inexact(y)]
    for y, ct in zip(inexact, cotangents, strict=True):
        dtype = promote(y.dtype, ct.dtype, np.float32)
        total = total + xp.sum(y.astype(dtype) * ct.astype(dtype))
    return total if imaginary else xp.real(total)


def rows_of(array: np.ndarray, row: Any) -> np.ndarray:
    """What some points see of an argument that is not moved.

    Its own copy, which the function may write to; a view where several points see the same.
    """
    if np.ndim(row) and len(row) > 1 and array.strides[0] == 0:
        return np.broadcast_to(array[0], (len(row), *array.shape[1:]))
    return np.array(array[row])


def contract_rows(
    cotangents: Sequence[Any], imaginary: bool, outputs: list[Any], row: Any
) -> list[np.ndarray]:
    """Contracts the outputs of one call, or of many, with the cotangents of their rows."""
    if np.ndim(row) == 0:
        return [np.asarray(contract(np, outputs, [c[row] for c in cotangents], imaginary))]
    each = [
        contract(np, [o[i] for o in outputs], [c[r] for c in cotangents], imaginary)
        for i, r in enumerate(row)
    ]
    return [np.stack(each)]
