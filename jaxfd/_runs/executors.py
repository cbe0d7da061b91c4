"""The crew that hands its jobs to an executor.

It asks of an executor no more than ``submit``, as `concurrent.futures` has it; `processes`,
`threads` and `cluster` know what more theirs can do. It must not know what a result means.
"""

from __future__ import annotations

import collections
import os
import queue
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError
from typing import Any, ClassVar, Self

from jaxfd import _worker
from jaxfd._runs.crew import Calls, Crew, Job
from jaxfd._system import ctrl_c, host_calls, in_main_thread
from jaxfd._worker import Failure, Invocation, Loss

# How long a thread waits before it looks whether to stop, in seconds. Ctrl-C wakes no thread but
# the main one, and not even that one where it comes just before the wait.
POLL = 0.1


class ExecutorCrew(Crew):
    """Runs jobs side by side through an executor, which stays its owner's.

    Args:
        fun: the user's function.
        calls: gives the calls that make up a job.
        executor: the executor.
    """

    # Whether a point that hangs can be ended without its neighbours.
    ends_points: ClassVar[bool] = False

    def __init__(self, fun: Callable[..., Any], calls: Calls, executor: Any) -> None:
        super().__init__(fun, calls)
        self._executor = executor
        self._jobs: dict[Any, tuple[Job, int]] = {}
        # Suspects, to be run one by one; the one that is; and what has to wait for them.
        self._alone: collections.deque[Job] = collections.deque()
        self._trial: Job | None = None
        self._held: list[Job] = []
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._patience = POLL
        self._noticing = ctrl_c.noticing()
        self._presses = 0  # how often Ctrl-C came before

    def __enter__(self) -> Self:
        self._noticing.__enter__()
        self._presses = ctrl_c.noticed()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        try:
            super().__exit__(*error)
        finally:
            self._noticing.__exit__(None, None, None)

    @staticmethod
    def check(fun: Callable[..., Any], executor: Any) -> None:
        """Raises where this function and this executor do not fit."""

    def submit(self, job: Job) -> None:
        if self._alone or self._trial is not None:
            self._held.append(job)
        else:
            self._send(job)

    def _send(self, job: Job) -> None:
        calls = self._calls(job)
        future = self._start(calls)
        self._jobs[future] = job, len(calls)
        future.add_done_callback(self._done.put)

    def _start(self, calls: list[Invocation]) -> Any:
        """Hands calls to the executor, each time as something new: dask remembers results."""
        return self._executor.submit(_worker.run, self._fun, calls, None, os.urandom(8))

    def _release(self) -> None:
        """Once nothing runs: sends the next suspect, or after the last what waited for them."""
        if self._jobs:
            return
        self._trial = None
        if self._alone:
            self._trial = self._alone.popleft()
            self._send(self._trial)
        else:
            held, self._held = self._held, []
            for job in held:
                self._send(job)

    def next(self) -> tuple[Job, list[Any]]:
        while True:
            self._release()
            future = self._wait()
            answer = None if future is None else self._answer(future)
            if answer is not None:
                return answer

    def _wait(self) -> Any:
        """The next future that is done, or None after a while."""
        host_calls.check()
        if in_main_thread() and ctrl_c.noticed() > self._presses:
            raise KeyboardInterrupt  # the one that came was lost
        try:
            return self._done.get(timeout=self._patience)
        except queue.Empty:
            return None

    def _answer(self, future: Any) -> tuple[Job, list[Any]] | None:
        """What came of a job; None where it is run again."""
        job, count = self._jobs.pop(future)
        try:
            results = future.result()
        except Exception as error:
            failure = self._misfortune(job, count, error)
            if failure is None:
                return None
            if count > 1:
                # One of them may be to blame, and need not cost the others.
                for number in job:
                    self.submit((number,))
                return None
            results = [failure]
        return self._come_to(job, count, results)

    def _misfortune(self, job: Job, count: int, error: Exception) -> Failure | None:
        """What the executor, and not the function, raised; None where the job is run again."""
        del job, count
        if not isinstance(error, CancelledError):
            return Failure(error)
        reason = f": {error}" if str(error) else ""
        return Loss(BrokenExecutor(f"the executor gave it up{reason}"))

    def _come_to(self, job: Job, count: int, results: list[Any]) -> tuple[Job, list[Any]]:
        """The part of a job that was run; the rest is asked for again."""
        last = results[-1] if results else None
        if isinstance(last, Failure) and not isinstance(last.error, (Exception, SystemExit)):
            raise last.error
        run = len(results)
        if run < count:
            self.submit(job[run:])
            job = job[:run]
        return job, results

    def finished(self) -> list[tuple[Job, list[Any]]]:
        done = [f for f in self._jobs if f.done() and not f.cancelled() and not f.exception()]
        found = [(self._jobs[f][0], self._jobs[f][1], f.result()) for f in done]
        return [(job, results) for job, count, results in found if len(results) == count]

    def close(self, interrupted: bool) -> None:
        del interrupted
        for future in self._jobs:
            future.cancel()
