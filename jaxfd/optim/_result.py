"""What a minimisation hands back."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jaxfd._arrays import PyTree, entry_names, leaf_name
from jaxfd.optim._status import Status


@dataclasses.dataclass(frozen=True)
class Result:
    """The end of a minimisation. ``print`` shows it, `jaxfd.plot` draws its history.

    Attributes:
        x: the best point seen, shaped as the start; where the function is noisy, the last of those
            that the noise makes equal. For a callback the current point.
        value: the value there. Of a noisy function the lowest seen, which is a lucky one.
        history: the value at each step, shape ``(steps,)``.
        num_evaluations: how often the function was evaluated.
        converged: whether there is evidence that no step of use is left: ``status`` is "converged",
            or "noise reached".
        message: why it ended, and what was odd on the way.
        status: why it ended, in one word.
        gradient: the gradient at ``x``, like ``x`` in NumPy's float64; None where none was formed
            there.
        gradient_error: how far its entries may be off, as far as rounding, noise and the step tell;
            NaN where a method of your own estimated it.
        noise: the standard deviation of the function's noise found near ``x``; 0 where nothing but
            rounding was seen, or nobody looked.
        num_scaling: how many of the evaluations went into scales of entries that start at 0 or far
            too small.
        path: the point after each step, like ``x`` with a leading axis; None if it was not asked
            for.
    """

    x: PyTree
    value: float
    history: Float[np.ndarray, "steps"]
    num_evaluations: int
    converged: bool
    message: str
    status: Status = Status.LIMIT
    gradient: PyTree = None
    gradient_error: PyTree = None
    noise: float = 0.0
    num_scaling: int = 0
    path: PyTree = None

    def to_dict(self) -> dict[str, Any]:
        """The entries of ``x`` as a table: ``pandas.DataFrame(result.to_dict())``.

        Returns:
            Columns of equal length: ``entry`` and ``x``.
        """
        leaves = [np.ravel(np.asarray(leaf)) for leaf in jax.tree_util.tree_leaves(self.x)]
        return {"entry": entry_names(self.x), "x": np.concatenate(leaves)}

    def __str__(self) -> str:
        head = "converged" if self.converged else "not converged"
        lines = [
            f"{head}: {self.message}",
            f"value {self.value:.10g} after {len(self.history)} steps, "
            f"{self.num_evaluations} evaluations",
        ]
        leaves, _ = jax.tree_util.tree_flatten_with_path(self.x)
        for path, leaf in leaves:
            name = leaf_name(path)
            with np.printoptions(threshold=20, precision=8):
                lines.append(f"{name} = {np.asarray(leaf)}")
        return "\n".join(lines)
