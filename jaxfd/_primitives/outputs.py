"""What a primitive returns, as a parameter of it: parameters must be hashable."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

# The shape and the dtype of each output.
Outputs = tuple[tuple[tuple[int, ...], np.dtype], ...]


def outputs_of(arrays: Iterable[Any]) -> Outputs:
    """Shapes and dtypes of arrays, or of what stands for them."""
    return tuple((tuple(array.shape), np.dtype(array.dtype)) for array in arrays)
