"""A value at ``x`` and the few entries of it that a point changes.

The nouns of structured evaluation, which is in `_structured`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

TRUE = np.True_


class Unstructured(Exception):  # noqa: N818 - a signal, not an error
    """The program does something to the changes that is not followed."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry that may differ from the value at ``x``.

    Attributes:
        index: its index, one integer per axis.
        valid: whether there is such an entry at all.
        value: what it is at the point.
    """

    index: tuple[Any, ...]
    valid: Any
    value: Any

    def at(self, index: Sequence[Any]) -> Any:
        """Whether this is the entry at another index."""
        same = self.valid
        for mine, other in zip(self.index, index, strict=True):
            if mine is not other:
                same = same & (mine == other)
        return same


@dataclasses.dataclass(frozen=True)
class Followed:
    """A value: what it is at ``x``, and the entries that differ at the point."""

    base: Any
    entries: tuple[Entry, ...] = ()

    def read(self, index: Sequence[Any]) -> Any:
        """The entry at an index, at the point. Scalars stand for every index."""
        scalar = jnp.ndim(self.base) == 0
        index = () if scalar else index
        result = self.base if scalar else entry_of(self.base, index)
        for entry in self.entries:
            result = jnp.where(entry.at(index), entry.value, result)
        return result


def entry_of(base: Any, index: Sequence[Any]) -> Any:
    return jnp.asarray(base).at[tuple(index)].get(mode="clip")


def merge(entries: Sequence[Entry]) -> list[Entry]:
    """Entries with those that have the same index for certain made one, values aside."""
    result: list[Entry] = []
    for entry in entries:
        for k, known in enumerate(result):
            if all(a is b for a, b in zip(entry.index, known.index, strict=True)):
                result[k] = dataclasses.replace(known, valid=known.valid | entry.valid)
                break
        else:
            result.append(entry)
    return result
