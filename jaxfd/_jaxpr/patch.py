"""Patches: the parts of a value that a point changes, beside the value at ``x``.

These are the nouns of structured evaluation. They must not know any primitive, nor the program that
a value stands in.
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


class Refusal(Exception):  # noqa: N818 - a signal, not an error
    """A rule cannot say which parts change: the result is computed whole from its operands."""


@dataclasses.dataclass(frozen=True)
class Patch:
    """A part of a value that may differ from what it is at ``x``: an entry, a row, all of it.

    Attributes:
        index: where it is: for each axis of the value an integer (int32), or None for all of it.
        valid: whether there is such a part at all; a boolean, `TRUE` where that is certain.
        value: all that it is at the point, an axis for each None of ``index``, in the dtype of the
            value. In a change, by how much that differs from ``x``.
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
            part: the part, an axis for each None of ``index``.
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
class PatchedValue:
    """A value at the point, written as the value at ``x`` and what differs from it.

    Attributes:
        at_x: the value at ``x``.
        patches: the parts that may differ. Each holds all that it is at the point, so that where
            two of them overlap they agree.
    """

    at_x: Any
    patches: tuple[Patch, ...] = ()

    @classmethod
    def anew(cls, at_x: Any, value: Any) -> PatchedValue:
        """A value that may differ everywhere: one patch, all of it."""
        return cls(at_x, (Patch((None,) * jnp.ndim(at_x), TRUE, value),))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(jnp.shape(self.at_x))

    def read(self, index: Index) -> Any:
        """A part of it at the point, an axis for each None. Scalars stand for every entry."""
        index = index if self.shape else ()
        part = part_of(self.at_x, index)
        for patch in self.patches:
            part = patch.over(part, index, self.shape)
        return part

    def whole(self) -> Any:
        """All of it at the point."""
        return self.read((None,) * len(self.shape))


def part_of(value: Any, index: Sequence[Any]) -> Any:
    """The part of an array at an index, an axis for each None."""
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
