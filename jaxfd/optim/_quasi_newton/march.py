"""Steps of the host's quasi-Newton method as `_loop` repeats them: one at a time, nothing compiled.

It exists because a black box costs more than any bookkeeping, so that every step may be seen, saved
and stopped. It must not know what a step does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float, PyTree

from jaxfd.optim._loop import Run, least_of
from jaxfd.optim._quasi_newton.knowledge import begin
from jaxfd.optim._quasi_newton.landscape import Landscape
from jaxfd.optim._quasi_newton.quasi import PATIENCE, QuasiNewton
from jaxfd.optim._steps import GOING, NOISY

_MOST = np.iinfo(np.int32).max


def begin_at(landscape: Landscape) -> Run:
    """A run before its first step, of NumPy's and Python's numbers."""
    value, x = np.float64(landscape.value), landscape.start
    return Run(
        x=x,
        state=begin(landscape),
        steps=0,
        seen_x=x,
        seen=value,
        best_x=x,
        best=value,
        first=value,
        mark=value,
        since=0,
        evaluations=1,
        skipped=0,
        status=GOING,
        ask=False,
    )


class March:
    """So many steps of a run; see `repeat`.

    Args:
        steps: the method.
    """

    def __init__(self, steps: QuasiNewton) -> None:
        self._steps = steps

    def prepare(self, *args: PyTree) -> None:
        """Nothing is compiled."""

    def __call__(
        self, run: Run, count: Any, tol: Any, evaluations: Any
    ) -> tuple[Run, Float[np.ndarray, "k"]]:
        values: list[float] = []
        while run.status == GOING and len(values) < count and run.evaluations < evaluations:
            with np.errstate(all="ignore"):
                run = self._once(run, float(tol))
            values.append(run.state.value)
        return run, np.asarray(values)

    def _once(self, run: Run, tol: float) -> Run:
        least = least_of(tol, run.first, run.best)
        step = self._steps.step(run.x, run.state, least, run.since > PATIENCE)
        value, noise = step.value, step.state.noise.at(step.value)
        noise = noise if math.isfinite(noise) else 0.0
        # Among values that noise makes equal the last one is the best; so is that which was judged.
        better = value <= run.best + 2 * noise or step.status == NOISY
        moved = value < run.mark - max(least_of(tol, run.first, run.mark), noise)
        return Run(
            x=step.x,
            state=step.state,
            steps=run.steps + 1,
            seen_x=step.x,
            seen=np.float64(value),
            best_x=step.x if better else run.best_x,
            best=np.float64(min(run.best, value)),
            first=run.first,
            mark=value if moved else run.mark,
            since=0 if moved or run.since > PATIENCE else run.since + 1,
            evaluations=min(run.evaluations + step.evaluations, _MOST),
            skipped=run.skipped + int(step.skipped),
            status=step.status,
            ask=False,
        )
