"""The inputs of a batch of calls of a host function, with other numbers where points are moved.

It exists so that arguments are put together once for each point and nothing else is done for it.
It must not know where points lie, nor what becomes of them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxfd._arrays import Parts, is_complex
from jaxfd._estimate.contract import rows_of
from jaxfd._places import Host

Call = tuple[tuple[Any, ...], dict[str, Any]]


class Inputs:
    """The inputs of ``B`` calls.

    Args:
        full: all inputs, shape ``(B, *shape)``.
        where: which of them are the leaves of the differentiated arguments.
        parts: those leaves, and what of them is moved.
        build: makes the arguments of a call of its inputs; None where they are the inputs.
    """

    def __init__(
        self,
        full: Sequence[np.ndarray],
        where: Sequence[int],
        parts: Parts,
        build: Callable[[Sequence[Any]], Call] | None,
    ) -> None:
        self._full = full
        self._where = where
        self._parts = parts
        self._build = build

    def __call__(self, real: Sequence[Any], row: Any) -> Call:
        """The arguments of one call, or of several with a leading axis.

        Args:
            real: what stands in place of the moved leaves.
            row: which call it is among the ``B``, or an array of such numbers.
        """
        inputs: list[Any] = [None] * len(self._full)
        joined = self._parts.join(Host.complex, real, lambda leaf: rows_of(leaf, row))
        for i, leaf in zip(self._where, joined, strict=True):
            inputs[i] = leaf
        for i, array in enumerate(self._full):
            if inputs[i] is None:
                inputs[i] = rows_of(array, row)
        return self._call(inputs)

    def each(self, real: Sequence[np.ndarray], rows: np.ndarray) -> Iterator[Call]:
        """The arguments of one call after the other.

        Args:
            real: what stands in place of the moved leaves, shape ``(m, *shape)``.
            rows: which call each is among the ``B``, shape ``(m,)``.
        """
        whole, owner = self._parts.whole, self._parts.owner
        split = any(
            is_complex(whole[o]) and not is_complex(r) for o, r in zip(owner, real, strict=True)
        )
        if split or not real:
            return (self([r[k] for r in real], row) for k, row in enumerate(rows))
        columns: list[Iterable[Any]] = [
            itertools.repeat(rows_of(array, 0))
            if len(array) == 1
            else map(functools.partial(rows_of, array), rows)
            for array in self._full
        ]
        for number, leaf in zip(owner, real, strict=True):
            columns[self._where[number]] = leaf
        inputs = zip(*columns, strict=False)
        if self._build is None:
            return zip(inputs, itertools.repeat({}), strict=False)
        return map(self._build, inputs)

    def _call(self, inputs: Sequence[Any]) -> Call:
        return (tuple(inputs), {}) if self._build is None else self._build(inputs)
