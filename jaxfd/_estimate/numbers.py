"""Python's numbers among the arguments: traced as ``jax.jit`` traces them, or fixed.

A function that is called with ``3`` may want to know that it is 3. This room says which numbers are
in question; it must not know what is traced, nor what is compiled of it.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import tree_util

# An argument: its position, or its name.
Owner = int | str


class Numbers(enum.IntEnum):
    """Which numbers are traced that could be fixed as well.

    Python's integers have no end, and are traced only where that computes the same.
    """

    NONE = 0
    SOME = 1
    WHOLE = 2


class ValueNeededError(Exception):
    """A function does not do with a traced number what it does with its value."""


def is_whole(leaf: Any) -> bool:
    """Whether a leaf is one of Python's integers; truth values, which are always fixed, are not."""
    return type(leaf) is int


def is_other(leaf: Any) -> bool:
    """Whether it is another number that is no array."""
    return type(leaf) in (float, complex) or isinstance(leaf, np.generic)


def owners_of(args: Sequence[Any], kwargs: dict[str, Any], wanted: Sequence[int]) -> list[Owner]:
    """For each of these leaves the argument that it belongs to."""
    every: list[Owner] = []
    named: list[tuple[Owner, Any]] = [(name, kwargs[name]) for name in sorted(kwargs)]
    for owner, arg in [*enumerate(args), *named]:
        every += [owner] * len(tree_util.tree_leaves(arg))
    return [every[i] for i in wanted]
