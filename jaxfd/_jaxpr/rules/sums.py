"""Reductions: the sum at ``x``, and for each sum that changes the difference of its parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jaxfd._jaxpr.change import added, changes, sum_dtype
from jaxfd._jaxpr.patch import TRUE, Patch, PatchedValue
from jaxfd._jaxpr.rules.registry import rule


@rule("reduce_sum", adds=True)
def _reduce_sum(eqn: Any, operands: Sequence[PatchedValue], at_x: Any) -> list[Patch]:
    (operand,), reduced = operands, eqn.params["axes"]
    found = []
    for change in changes(operand, sum_dtype(at_x)):
        own = tuple(k for k, a in enumerate(change.axes) if a in reduced)
        index = tuple(i for a, i in enumerate(change.index) if a not in reduced)
        valid = change.valid if index else TRUE
        total = jnp.sum(change.value, axis=own, dtype=change.value.dtype)
        found.append(Patch(index, valid, total))
    return added(at_x, found)
