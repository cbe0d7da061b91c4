"""Results as values: what an estimate hands back besides the numbers asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax import tree_util
from jaxtyping import PyTree, Shaped

from jaxfd._arrays import Column, entry_names, register, table

_ROWS = 20


@register
@dataclasses.dataclass(frozen=True)
class Estimate:
    """A gradient and what is known about it. A pytree, so it passes through ``jit`` and ``vmap``.

    Attributes:
        value: the function's value at ``x``.
        grad: the gradient, shaped as the argument.
        error: for each entry a cautious bound of its error: what lower orders on the same points
            disagree by, and rounding. NaN where the method has nothing to compare with
            (``Forward(order=1)``, ``ComplexStep``). For random methods it is no bound but the
            standard error of a mean of independent samples; infinite for entries that none moved.
        step: for each entry the step used.
        one_sided: for each entry whether its points lay to one side of ``x``, though the method's
            do not: because of a wall, or because a point failed (``blackbox(on_error="nan")``).
        evaluations: the number of evaluations, an integer array.
        aux: the function's auxiliary data, None without any.
        bound: whether ``error`` is a bound, and not a standard error; part of the structure.

    Example:
        >>> import jaxfd
        >>> print(jaxfd.estimate(lambda x: x**2)(3.0).evaluations)
        3
    """

    value: Shaped[Any, ""]
    grad: PyTree
    error: PyTree
    step: PyTree
    one_sided: PyTree
    evaluations: Any
    aux: PyTree = None
    bound: bool = dataclasses.field(default=True, metadata={"static": True})

    def __str__(self) -> str:
        if any(isinstance(leaf, jax.core.Tracer) for leaf in tree_util.tree_leaves(self)):
            return f"Estimate(traced, {self.evaluations} evaluations)"
        what = "error bound" if self.bound else "standard error"
        columns = [
            Column("gradient", 24, ".10g", _entries(self.grad)),
            Column(what, 14, ".2g", _entries(self.error)),
            Column("step", 12, ".2g", _entries(self.step)),
        ]
        lines = table(
            entry_names(self.grad, _ROWS),
            columns,
            total=sum(np.size(leaf) for leaf in tree_util.tree_leaves(self.grad)),
            width=20,
            remarks=("one-sided" * bool(side) for side in _entries(self.one_sided)),
        )
        head = f"value {self.value}   ({self.evaluations} evaluations)"
        return "\n".join([head, *lines])


def _entries(tree: PyTree) -> Iterator[Any]:
    """All entries, one by one: each in its own dtype, and not all of a million for twenty rows."""
    for leaf in tree_util.tree_leaves(tree):
        yield from np.ravel(np.asarray(leaf))
