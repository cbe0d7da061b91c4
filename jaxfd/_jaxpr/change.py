"""Changes: patches that hold by how much a part differs from ``x``, and not what it is.

What sums, sums changes: its rules take the changes of their operands and add theirs to the result
at ``x``. This room must not know any primitive.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxfd._arrays import finfo, is_inexact
from jaxfd._jaxpr.patch import TRUE, Patch, PatchedValue, Refusal, merge, part_of


def sum_dtype(at_x: Any) -> Any:
    """The dtype that changes of a sum are added in: never less than float32.

    Raises:
        Refusal: a sum of bools, which only says whether any is true, or of numbers so coarse that
            the rounding of the sum at ``x`` would decide what a change makes of it.
    """
    bits = finfo(at_x.dtype).bits if is_inexact(at_x) else 64
    if at_x.dtype == np.bool_ or bits < 16:
        raise Refusal(f"a sum in {at_x.dtype}")
    return at_x.dtype if bits >= 32 else np.dtype(np.float32)


def changes(operand: PatchedValue, dtype: Any) -> list[Patch]:
    """By how much the parts of an operand differ from ``x``; no part counts twice.

    Args:
        operand: the operand. All of its patches must have the same axes whole.
        dtype: the dtype of the changes.

    Returns:
        A change for each of its patches; zero for one that is not valid, or is there twice.
    """
    if len({patch.kind for patch in operand.patches}) > 1:
        raise Refusal("parts that overlap")
    found = []
    for k, patch in enumerate(operand.patches):
        first = patch.valid
        for earlier in operand.patches[:k]:
            first = first & ~earlier.at(patch.index)
        old = part_of(operand.at_x, patch.index).astype(dtype)
        change = jnp.where(first, patch.value.astype(dtype) - old, 0)
        found.append(dataclasses.replace(patch, value=change))
    return found


def added(at_x: Any, found: Sequence[Patch]) -> list[Patch]:
    """Parts of a value with changes added.

    Args:
        at_x: the value at ``x``.
        found: the changes, all with the same axes whole. Those at one index are added up.

    Returns:
        The patches, in the dtype of the value.
    """
    patches = []
    for change in found:
        total = part_of(at_x, change.index).astype(change.value.dtype)
        for other in found:
            here = dataclasses.replace(other, valid=TRUE).at(change.index)
            total = total + (other.value if here is TRUE else jnp.where(here, other.value, 0))
        patches.append(dataclasses.replace(change, value=total.astype(at_x.dtype)))
    # Parts that are the same hold the same total, so whichever is kept is right.
    return merge(patches)
