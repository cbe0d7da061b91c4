"""Checks of one number: an integer of at least so much, something positive and finite.

It exists so that every option is refused in the same words, whoever is asked. This room must not
know what the numbers are for: what an error calls them comes from the caller.
"""

from __future__ import annotations

import operator
from typing import Any

import jax
import numpy as np
from jax import tree_util
from jaxtyping import PyTree


def is_integer(value: object) -> bool:
    """Whether this is an integer of Python or NumPy; booleans are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether this is a real number of Python or NumPy; booleans are none."""
    return is_integer(value) or isinstance(value, (float, np.floating))


def check_integer(
    value: Any,
    name: str,
    least: int = 1,
    *,
    most: int | None = None,
    numpy: bool = False,
    kind: str = "an integer",
    wanted: str = "",
    why: str = "",
) -> None:
    """Raises an error unless this is an integer within limits.

    Args:
        value: what came.
        name: what errors call it.
        least: the smallest that is allowed.
        most: the largest, if there is one.
        numpy: whether NumPy's integers will do. They do not where the number becomes part of a
            structure, or is reckoned with exactly.
        kind: what errors say is wanted in place of another type.
        wanted: and what in place of another number; "1 or more", say, where it is empty.
        why: what errors say behind the number that came.

    Raises:
        TypeError: it is no integer.
        ValueError: it lies outside of the limits.
    """
    if not is_integer(value) or not (numpy or isinstance(value, int)):
        raise TypeError(f"{name} must be {kind}, got {value!r}.")
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name} must be {wanted or f'{least} or more'}, got {value}{why}.")


def count_of(value: Any, name: str) -> int:
    """A number of things, from any kind of integer.

    Raises:
        TypeError: it is no integer.
        ValueError: it is below 1.
    """
    try:
        count = operator.index(value)
    except TypeError:
        count = value
    check_integer(value if isinstance(value, bool) else count, name)
    return count


def check_number(value: Any, name: str, kind: str = "a number") -> None:
    """Raises TypeError unless this is a real number: errors call it ``name``, and want ``kind``."""
    if not is_number(value):
        raise TypeError(f"{name} must be {kind}, got {value!r}.")


def check_positive(value: PyTree, name: str, zero: bool = False) -> None:
    """Checks that a number, or each entry of an array or pytree, is positive and finite.

    With ``zero`` it may be 0. Values that are only known inside a kernel pass unseen.

    Raises:
        TypeError: something in it is no number.
        ValueError: a number is out of range.
    """
    for leaf in tree_util.tree_leaves(value):
        if isinstance(leaf, jax.core.Tracer):
            continue
        number = np.asarray(leaf)
        if number.dtype.kind not in "biufV":
            raise TypeError(
                f"{name} must be a number, or an array or pytree of numbers, got {leaf!r}: give "
                f"such a number, or leave {name} out for the default."
            )
        if not np.all(np.isfinite(number) & ((number > 0) | (zero & (number == 0)))):
            wanted = "0 or more" if zero else "positive"
            raise ValueError(
                f"{name} must be {wanted} and finite, got {leaf!r}: give such a number, or leave "
                f"{name} out for the default."
            )
