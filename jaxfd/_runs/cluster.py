"""The crew of a dask cluster, whose workers may die and whose results may get lost.

It must not know what a result means, and imports nothing of dask.
"""

from __future__ import annotations

import asyncio
import collections
import copy
import os
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from typing import Any

from jaxfd import _worker
from jaxfd._runs.crew import Calls, Job
from jaxfd._runs.executors import ExecutorCrew
from jaxfd._worker import Failure, Invocation, Loss

# How often a job is run again whose result got lost.
_AGAIN = 3


class ClusterCrew(ExecutorCrew):
    """Runs jobs on a dask cluster.

    A worker that dies takes with it finished results that were not fetched. And dask holds
    its death against all that it was to run, what it had not begun too: only a job that kills
    a worker when it runs alone is to blame.
    """

    def __init__(self, fun: Callable[..., Any], calls: Calls, executor: Any) -> None:
        super().__init__(fun, calls, _watched(executor))
        self._again: collections.Counter[Job] = collections.Counter()

    def _start(self, calls: list[Invocation]) -> Any:
        if self._trial is None:
            return super()._start(calls)
        return self._executor.submit(_worker.run_once, self._fun, calls, os.urandom(8))

    def _misfortune(self, job: Job, count: int, error: Exception) -> Failure | None:
        if type(error).__name__ == "KilledWorker":
            if count == 1 and job != self._trial:
                self._alone.append(job)
                return None
            error = BrokenExecutor(_worker.DIED)
        if isinstance(error, BrokenExecutor):
            return Loss(error)
        self._again[job] += 1
        if isinstance(error, CancelledError) or self._again[job] > _AGAIN:
            return super()._misfortune(job, count, error)
        self.submit(job)
        return None


def _watched(executor: Any) -> Any:
    """A dask executor whose futures always come to something.

    Its own watch over a future ends where a result gets lost while it is fetched, and whoever
    waits for the future then waits for ever (distributed 2026.8, ``_cascade_future``).
    """
    watched = copy.copy(executor)
    watched._wrap_future = _watch
    return watched


def _watch(future: Any) -> Future[Any]:
    """A future of `concurrent.futures` that comes to what a dask future comes to."""
    return asyncio.run_coroutine_threadsafe(_outcome(future), future.client.loop.asyncio_loop)


async def _outcome(future: Any) -> Any:
    """The result of a dask future, which is cancelled with the wait for it."""
    try:
        return await future
    except asyncio.CancelledError:
        await future.cancel()
        raise
