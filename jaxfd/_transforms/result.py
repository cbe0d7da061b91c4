"""Results as values: what an estimate hands back besides the numbers asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jax import tree_util
from jaxtyping import PyTree, Shaped

from jaxfd._arrays import register


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
        leaves, _ = tree_util.tree_flatten_with_path(self.grad)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in tree_util.tree_leaves(self)):
            return f"Estimate(traced, {self.evaluations} evaluations)"
        errors = tree_util.tree_leaves(self.error)
        steps = tree_util.tree_leaves(self.step)
        sides = tree_util.tree_leaves(self.one_sided)
        lines = [f"value {self.value}   ({self.evaluations} evaluations)"]
        what = "error bound" if self.bound else "standard error"
        lines.append(f"{'entry':<20} {'gradient':>24} {what:>14} {'step':>12}")
        shown = 0
        for (path, leaf), error, step, side in zip(leaves, errors, steps, sides, strict=True):
            for index in np.ndindex(np.shape(leaf)):
                if shown == 20:
                    total = sum(np.size(leaf) for _, leaf in leaves)
                    lines.append(f"... {total - shown} more")
                    return "\n".join(lines)
                where = tree_util.keystr(path) + (str(list(index)) if index else "")
                lines.append(
                    f"{where or 'x':<20} {np.asarray(leaf)[index]:>24.10g} "
                    f"{np.asarray(error)[index]:>14.2g} {np.asarray(step)[index]:>12.2g}"
                    + "  one-sided"
                    * bool(np.asarray(side)[index])
                )
                shown += 1
        return "\n".join(lines)
