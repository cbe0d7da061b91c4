"""A value at ``x`` and the parts of it that a point changes.

The nouns of structured evaluation, which is in `_structured`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

TRUE = np.True_

# One integer per axis, or None for all of the axis.
Index = tuple[Any, ...]


class Unstructured(Exception):  # noqa: N818 - a signal, not an error
    """An operation does something to the changes that is not followed."""


@dataclasses.dataclass(frozen=True)
class Patch:
    """A part of a value that may differ from what it is at ``x``: an entry, a row, all of it.

    Attributes:
        index: where it is.
        valid: whether there is such a part at all.
        value: all that it is at the point, an axis for each None of ``index``.
    """

    index: Index
    valid: Any
    value: Any

    @property
    def kind(self) -> tuple[bool, ...]:
        """Which axes it has all of."""
        return tuple(i is None for i in self.index)

    @property
    def axes(self) -> list[int]:
        """The axes it has all of."""
        return [a for a, i in enumerate(self.index) if i is None]

    def at(self, index: Index) -> Any:
        """Whether this is the part at another index of the same kind."""
        same = self.valid
        for mine, other in zip(self.index, index, strict=True):
            if mine is not other:
                same = same & (mine == other)
        return same

    def over(self, part: Any, index: Index, shape: Sequence[int]) -> Any:
        """A part of the value, with what this patch changes in it.

        Args:
            part: the part.
            index: where that is.
            shape: the shape of the value.
        """
        where, here = [], self.valid
        axes: list[int] = []  # of the result, that this patch has too
        wanted = [a for a, i in enumerate(index) if i is None]
        for a, (mine, other) in enumerate(zip(self.index, index, strict=True)):
            if mine is None:
                where.append(other)
                if other is None:
                    axes.append(wanted.index(a))
            elif other is None:
                inside = lax.iota(np.int32, shape[a]) == mine
                rest = [1] * len(wanted)
                rest[wanted.index(a)] = shape[a]
                here = here & inside.reshape(rest)
            elif mine is not other:
                here = here & (mine == other)
        value = part_of(self.value, where)
        if here is TRUE:
            return value
        spread = [1] * len(wanted)
        for k, axis in enumerate(axes):
            spread[axis] = jnp.shape(value)[k]
        return jnp.where(here, value.reshape(spread), part)


@dataclasses.dataclass(frozen=True)
class Followed:
    """A value: what it is at ``x``, and the parts that differ at the point."""

    base: Any
    patches: tuple[Patch, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(jnp.shape(self.base))

    def read(self, index: Index) -> Any:
        """A part of it at the point. Scalars stand for every entry."""
        index = index if self.shape else ()
        part = part_of(self.base, index)
        for patch in self.patches:
            part = patch.over(part, index, self.shape)
        return part

    def whole(self) -> Any:
        """All of it at the point."""
        return self.read((None,) * len(self.shape))


def part_of(value: Any, index: Sequence[Any]) -> Any:
    """The part of an array at an index."""
    if all(i is None for i in index):
        return jnp.asarray(value)
    where = tuple(slice(None) if i is None else i for i in index)
    return jnp.asarray(value).at[where].get(mode="clip")


def merge(patches: Sequence[Patch]) -> list[Patch]:
    """Patches with those that have the same index for certain made one, values aside."""
    result: list[Patch] = []
    for patch in patches:
        for k, known in enumerate(result):
            if all(a is b for a, b in zip(patch.index, known.index, strict=True)):
                result[k] = dataclasses.replace(known, valid=known.valid | patch.valid)
                break
        else:
            result.append(patch)
    return result
