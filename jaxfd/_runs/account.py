"""The account of one estimate: how many of its points are done, and what was lost.

Its batches are counted on, so that a point has one number however they were cut. It must not
know how points are run.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxfd._runs import failures
from jaxfd._runs.crew import Job
from jaxfd._runs.points import Points
from jaxfd._runs.progress import Tally
from jaxfd._runs.runner import Runner


class Account:
    """What is counted of the points of one estimate.

    Args:
        runner: how they are run, for the function's name and what it asks of progress.
        planned: how many points there will be.
        before: how many of them are done already.
    """

    def __init__(self, runner: Runner, planned: int, before: int = 0) -> None:
        self._runner = runner
        self._planned = planned
        self._tally = Tally(runner.progress, runner.name, planned)
        self._before = before  # points of the batches before this one
        self._lost = 0
        self._first: tuple[BaseException, str] | None = None

    def where(self, points: Points, job: Job) -> str:
        """Which points these are, and their values."""
        args, kwargs = points.call(job[0] if len(job) == 1 else points.index(job))
        numbers = [self._before + i for i in job]
        return failures.describe(numbers, self._planned, args, kwargs, self._runner.names)

    def add(self, done: int, failed: int = 0) -> None:
        """Counts points that are finished, failed ones among them."""
        self._tally.add(done, failed)

    def lose(self, count: int, error: BaseException, where: Callable[[], str]) -> None:
        """Remembers points that count as NaN."""
        self._lost += count
        if self._first is None:
            self._first = error, where()

    def turn(self, count: int) -> None:
        """Ends a batch of so many points."""
        self._before += count

    def close(self, complete: bool) -> None:
        """Ends the estimate; warns of points that count as NaN where it is complete.

        Of the batches of a fit, which may be very many, the first that lost any says so for all.
        """
        tally = self._tally
        tally.close()
        if complete and self._first is not None and tally.may_warn():
            name, more = self._runner.name, tally.in_fit
            failures.warn(name, self._lost, self._planned, *self._first, more=more)
