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
from jaxfd._runs.crew import Job
from jaxfd._runs.points import ALL, Points
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
        self._planned = planned
        self._before = 0  # points of the batches that were simply run
        # A function that is simply called needs one for its first error only.
        self._account = None if runner.plain else Account(runner, planned)

    def __enter__(self) -> Evaluation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        del error, trace
        if self._account is not None:
            self._account.close(complete=kind is None)

    def run(self, points: Points) -> list[np.ndarray]:
        """Runs a batch of ``m`` points.

        Returns:
            The outputs, each with a leading axis of points: shape ``(m, *out)``.

        Raises:
            Exception: what the function raised, with the point in its notes.
            KeyboardInterrupt: the call was told to stop.
        """
        if self._account is None:
            columns = self._plain(points)
            self._before += points.count
            return columns
        batch = Batch(self._account, self._runner, points)
        batch.look_up()
        batch.evaluate()
        self._account.turn(points.count)
        return batch.columns

    def _plain(self, points: Points) -> list[np.ndarray]:
        """The same without any of the services, for functions that take microseconds."""
        fun, check = self._runner.fun, host_calls.check
        if self._runner.vectorized:
            job = tuple(range(points.count))
            try:
                args, kwargs = points.call(ALL)
                return points.finish(points.accept(fun(*args, **kwargs), points.count), ALL)
            except Exception as error:
                raise self._explained(error, points, job)  # noqa: B904
        sheet = points.sheet()
        number, put = 0, sheet.put
        try:
            for number, (args, kwargs) in enumerate(points.each()):
                check()
                put(number, fun(*args, **kwargs))
        except Exception as error:
            raise self._explained(error, points, (number,))  # noqa: B904
        return points.finish(sheet.outputs(), ALL)

    def _explained(self, error: Exception, points: Points, job: Job) -> BaseException:
        """What a function raised, with the points it was called at."""
        account = Account(self._runner, self._planned, self._before)
        points.renew()
        return failures.error_of(Failure(error), self._runner.name, account.where(points, job))
