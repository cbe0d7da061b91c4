"""What searches talk to: the function with its weights, its budget, and everyone who may say stop.

It must not know how points are chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from jaxfd._estimate import UNIFORM, grid_of
from jaxfd._runs import Tally
from jaxfd.optim._fits.parameters import Parameters
from jaxfd.optim._fits.weighing import Weighing
from jaxfd.optim._rows import Evaluator
from jaxfd.optim._status import Status

# Values of fewer digits than this are rounded.
_DIGITS = 1e-10
# What is coarser than so many times the others, or than their digits, is not known to be.
_ROUND = 10.0


class EndError(Exception):
    """Someone wants the searches to end.

    Args:
        status: who.
        message: the same in words.
    """

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class Experiment:
    """Evaluates points that are given in the search's numbers.

    Args:
        evaluator: the function.
        parameters: what of it is fitted.
        weighing: how residuals count.
        most: how many evaluations there may be.
        tally: is told of them.
        interrupted: whether Ctrl-C came, seen between batches.

    Attributes:
        steps: how many steps the searches took; theirs to count.
        num_failed: how many points had a residual that is not finite.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        parameters: Parameters,
        weighing: Weighing,
        most: int,
        tally: Tally,
        interrupted: Callable[[], bool],
    ) -> None:
        self.evaluator, self.parameters, self.weighing = evaluator, parameters, weighing
        self._most, self._tally, self._interrupted = most, tally, interrupted
        # What the function returned, by the bits of points.
        self._known: dict[bytes, Float[np.ndarray, "m"]] = {}
        self._latest: dict[bytes, Float[np.ndarray, "m"]] = {}
        self.steps = self.num_failed = 0
        self._lowest = math.inf

    def __call__(self, u: Float[np.ndarray, "k p"]) -> Float[np.ndarray, "k m"]:
        """What is squared, at points.

        Raises:
            EndError: the budget is spent, or Ctrl-C came.
        """
        if self._interrupted():
            raise EndError(Status.INTERRUPTED, "interrupted")
        if self.evaluator.num_evaluations >= self._most:
            raise EndError(
                Status.LIMIT,
                f"{self.evaluator.num_evaluations} evaluations were not enough "
                f"(max_evaluations={self._most})",
            )
        values = self.evaluator(self.parameters.outward(u))
        self._latest = {point.tobytes(): row for point, row in zip(u, values, strict=True)}
        self._known.update(self._latest)
        weighed = self.weighing(values)
        finite = np.isfinite(values)
        failed = 0 if finite.all() else int((~finite).any(1).sum())
        self.num_failed += failed
        # NaN is no least cost; other ways to write it warn where squares overflow.
        squares = np.einsum("ij,ij->i", weighed, weighed)
        self._lowest = min(self._lowest, float(np.fmin.reduce(squares)) / 2)
        self._tally.add(
            len(u),
            failed,
            value=self._lowest if math.isfinite(self._lowest) else math.nan,
            evaluations=self.evaluator.num_evaluations,
            batches=self.evaluator.num_batches,
            steps=self.steps,
        )
        return weighed

    def known(self, u: Float[np.ndarray, "p"]) -> Float[np.ndarray, "m"]:
        """What the function returned at a point that was asked for."""
        return self._known[u.tobytes()]

    def coarse(self) -> float:
        """The length of what rounding to digits or decimals did to what is squared.

        As far as the values show that are still known; 0 where fewer than half of them do.
        """
        rows = np.array(list(self._known.values()))
        rows = rows[np.isfinite(rows).all(1)]
        if len(rows) < 2:
            return 0.0
        grid = UNIFORM * grid_of(np, rows)
        size = np.max(np.abs(rows), axis=0)
        digits = float(np.median(grid / np.where(size > 0, size, 1)))
        if digits <= _DIGITS:
            return 0.0
        # A value that is round by chance, or a 1 that is always there, has no coarser grid.
        grid = np.minimum(grid, _ROUND * np.maximum(np.median(grid), digits * size))
        with np.errstate(all="ignore"):
            moved = self.weighing(rows[0] + grid) - self.weighing(rows[0])
        return float(np.linalg.norm(moved[np.isfinite(moved)]))

    def forget(self, but: Sequence[Float[np.ndarray, "p"]]) -> None:
        """Forgets what the function returned at other points than these and the last batch.

        Of that, others may not have taken notice yet.
        """
        kept = {u.tobytes() for u in but} | self._latest.keys()
        self._known = {bits: row for bits, row in self._known.items() if bits in kept}
