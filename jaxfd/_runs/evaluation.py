"""An evaluation: from the points of one estimate to their results.

It takes the short way for functions that are simply called, and the way of a batch with
all its services for the others.
"""

from __future__ import annotations

from types import TracebackType

import numpy as np

from jaxfd._runs import failures
from jaxfd._runs.account import Account
from jaxfd._runs.batch import Batch
from jaxfd._runs.points import ALL, Index, Points
from jaxfd._runs.runner import Runner
from jaxfd._system import host_calls
from jaxfd._worker import Failure


class Evaluation:
    """Runs the points of one estimate; a context manager.

    Args:
        runner: how they are run.
        planned: how many they will be.
    """

    def __init__(self, runner: Runner, planned: int) -> None:
        self._runner = runner
        self._account = Account(runner, planned)

    def __enter__(self) -> Evaluation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del error, trace
        self._account.close(complete=kind is None)

    def run(self, points: Points) -> list[np.ndarray]:
        """Runs a batch of ``m`` points.

        Returns:
            The outputs, each with a leading axis of points: shape ``(m, *out)``.

        Raises:
            Exception: what the function raised, with the point in its notes.
            KeyboardInterrupt: the call was told to stop.
        """
        if self._runner.plain and points.count:
            columns = self._plain(points)
        else:
            batch = Batch(self._account, self._runner, points)
            batch.look_up()
            batch.evaluate()
            columns = batch.columns
        self._account.turn(points.count)
        return columns

    def _plain(self, points: Points) -> list[np.ndarray]:
        """The same without any of the services, for functions that take microseconds."""
        fun = self._runner.fun
        which: Index = ALL
        rows = []
        try:
            if self._runner.vectorized:
                args, kwargs = points.call(which)
                return points.finish(points.accept(fun(*args, **kwargs), points.count), which)
            for which in range(points.count):
                host_calls.check()
                args, kwargs = points.call(which)
                rows.append(points.finish(points.accept(fun(*args, **kwargs), None), which))
        except Exception as error:
            job = (which,) if isinstance(which, int) else tuple(range(points.count))
            where = self._account.where(points, job)
            raise failures.error_of(Failure(error), self._runner.name, where)  # noqa: B904
        return [np.stack(column) for column in zip(*rows, strict=True)]
