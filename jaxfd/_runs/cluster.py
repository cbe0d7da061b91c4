"""The crew of a dask cluster, whose workers may die and whose results may get lost.

It must not know what a result means, and imports nothing of dask.
"""

from __future__ import annotations

import asyncio
import collections
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
        super().__init__(fun, calls, executor)
        self._again: collections.Counter[Job] = collections.Counter()

    def _start(self, calls: list[Invocation]) -> Any:
        # Submitted as dask's executor does it, but for the answer: a result that gets lost while
        # it is fetched ends the executor's own watch over it, and its future never comes.
        client, options = self._executor._client, self._executor._kwargs
        new = os.urandom(8)
        if self._trial is None:
            future = client.submit(_worker.run, self._fun, calls, None, new, **options)
        else:
            future = client.submit(_worker.run_once, self._fun, calls, new, **options)
        answer = _answer(future)
        found: Future[Any] = asyncio.run_coroutine_threadsafe(answer, client.loop.asyncio_loop)
        return found

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


async def _answer(future: Any) -> Any:
    """What a dask future comes to; the future is cancelled with the wait for it."""
    try:
        return await future
    except asyncio.CancelledError:
        await future.cancel()
        raise
