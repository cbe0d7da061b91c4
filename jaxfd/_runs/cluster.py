"""The crew of a dask cluster, whose workers may die and whose results may get lost.

It must not know what a result means, and imports nothing of dask.
"""

from __future__ import annotations

import asyncio
import collections
import copy
import math
import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from typing import Any

from jaxfd import _worker
from jaxfd._runs.crew import Calls, Job
from jaxfd._runs.executors import ExecutorCrew
from jaxfd._system import JaxfdWarning
from jaxfd._worker import Failure, Invocation, Loss

# How often a job is run again whose result got lost.
_AGAIN = 3
# How long a cluster may have no worker before that is told, in seconds.
_DESERTED = 10.0


class ClusterCrew(ExecutorCrew):
    """Runs jobs on a dask cluster.

    A worker that dies takes with it finished results that were not fetched. And dask holds
    its death against all that it was to run, what it had not begun too: only a job that kills
    a worker when it runs alone is to blame.
    """

    def __init__(self, fun: Callable[..., Any], calls: Calls, executor: Any) -> None:
        super().__init__(fun, calls, _watched(executor))
        self._again: collections.Counter[Job] = collections.Counter()
        self._empty = math.inf  # since when the cluster has had no worker
        self._looked = 0.0
        self._told = False

    def _start(self, calls: list[Invocation]) -> Any:
        if self._trial is None:
            return super()._start(calls)
        return self._executor.submit(_worker.run_once, self._fun, calls, os.urandom(8))

    def _wait(self) -> Any:
        future = super()._wait()
        now = time.monotonic()
        if future is None and now > self._looked + 1:
            self._looked = now
            self._empty = min(self._empty, now) if self._is_empty() else math.inf
            if now > self._empty + _DESERTED:
                self._give_up_or_tell()
        return future

    def _is_empty(self) -> bool:
        try:
            return not self._executor._client.nthreads()
        except Exception:  # it is closed, or out of reach: the futures tell
            return False

    def _give_up_or_tell(self) -> None:
        """Ends the wait where no worker comes by itself, and says that it may last elsewhere."""
        cluster = self._executor._client.cluster
        if getattr(cluster, "workers", None) == {} and not getattr(cluster, "_adaptive", None):
            for future in self._jobs:
                future.cancel()
        elif not self._told:
            self._told = True
            points = sum(len(job) for job, _ in self._jobs.values())
            warnings.warn(
                f"the dask cluster has no worker: {points} points wait until one joins it, and "
                "Ctrl-C ends the wait.",
                JaxfdWarning,
                stacklevel=2,
            )

    def _misfortune(self, job: Job, count: int, error: Exception) -> Failure | None:
        if type(error).__name__ == "KilledWorker":
            if count == 1 and job != self._trial:
                self._alone.append(job)
                return None
            error = BrokenExecutor(_worker.DIED)
        if isinstance(error, BrokenExecutor):
            return Loss(error)
        if isinstance(error, CancelledError) and math.isfinite(self._empty):
            return Loss(BrokenExecutor("the dask cluster has no worker left: scale it up again"))
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
