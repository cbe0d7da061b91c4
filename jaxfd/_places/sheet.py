"""The sheet: outputs of a host function, kept as they come, one point after the other.

It exists because most functions return one number, for which looking at its type is check enough,
and functions of microseconds feel everything else. It must not know which points they belong to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jax import tree_util

from jaxfd._places.hostfunction import Declaration, HostFunction

_LEAF = tree_util.tree_structure(0)
# In what outputs of a kind are kept, and the types of numbers that are this already.
_KEPT: dict[str, tuple[Any, tuple[type, ...]]] = {
    "floating": (np.dtype(np.float64), (float, np.float64)),
    "complexfloating": (np.dtype(np.complex128), (complex, np.complex128)),
}


class Sheet:
    """The outputs of ``m`` points, copied, checked and in double precision.

    Args:
        function: the function, which says what is wrong and remembers how coarse outputs are.
        declared: what it returns for a point.
        count: the number of points.
    """

    def __init__(self, function: HostFunction, declared: Declaration, count: int) -> None:
        self._function = function
        self._declared = declared
        # Integers keep the dtype that they come in: they are put together in the end.
        self._columns: list[Any] = [
            np.empty((count, *leaf.shape), _KEPT[kind][0]) if kind in _KEPT else [None] * count
            for leaf, kind in zip(declared.leaves, declared.kinds, strict=True)
        ]
        self.put = self._put
        if declared.tree == _LEAF and declared.kinds[0] in _KEPT:
            self.put = self._put_number if not declared.leaves[0].shape else self._put_array
            self._first = self._columns[0]
            self._dtype, self._numbers = _KEPT[declared.kinds[0]]
            self._shape = declared.leaves[0].shape

    def outputs(self) -> list[np.ndarray]:
        """The outputs, each of shape ``(m, *out)``."""
        return [c if isinstance(c, np.ndarray) else np.stack(c) for c in self._columns]

    def _put(self, number: int, value: Any) -> None:
        """Takes what the function returned for a point."""
        function = self._function
        outputs = function.widen(function.accept(value, self._declared, None))
        for column, output in zip(self._columns, outputs, strict=True):
            column[number] = output

    def _put_number(self, number: int, value: Any) -> None:
        if type(value) in self._numbers:
            self._first[number] = value
        else:
            self._put_array(number, value)

    def _put_array(self, number: int, value: Any) -> None:
        if type(value) is np.ndarray and value.dtype == self._dtype and value.shape == self._shape:
            self._first[number] = value
        else:
            self._put(number, value)
