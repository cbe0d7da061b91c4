"""The crew without an executor: calls are made here, one after the other.

It must not know what a result means.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

from jaxfd import _worker
from jaxfd._runs.crew import Calls, Crew, Job
from jaxfd._system import host_calls
from jaxfd._worker import Failure


class SerialCrew(Crew):
    """Runs jobs here, in the order in which they were asked for."""

    def __init__(self, fun: Callable[..., Any], calls: Calls) -> None:
        super().__init__(fun, calls)
        self._jobs: collections.deque[Job] = collections.deque()

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def next(self) -> tuple[Job, list[Any]]:
        host_calls.check()
        job = self._jobs.popleft()
        results = []
        for call in self._calls(job):
            try:
                results.append(_worker.kept(self._fun(*call.args, **call.kwargs)))
            except (Exception, SystemExit) as error:
                results.append(Failure(error))
        return job, results
