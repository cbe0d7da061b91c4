"""Crews: who makes the calls of a batch, and in which order they come back.

`Serial` makes them here, `Pool` through an executor. A crew runs jobs, each a few
points; it must not know what a result means, nor what becomes of a failure.
"""

from __future__ import annotations

import abc
import collections
import os
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError
from typing import Any, ClassVar, Self

from jaxfd import _worker
from jaxfd._system import host_calls, interrupt_thread
from jaxfd._worker import Call, Failure, Lost

Job = tuple[int, ...]

# How long a thread waits before it looks whether to stop, in seconds. Ctrl-C wakes no thread but
# the main one, and not even that one where it comes just before the wait.
POLL = 0.1

# How often a job is run again whose result got lost.
_AGAIN = 3


class Crew(abc.ABC):
    """Runs the jobs of one batch.

    Args:
        fun: the user's function.
        calls: gives the calls that make up a job: one for each point, or one for all.
    """

    def __init__(self, fun: Callable[..., Any], calls: Callable[[Job], list[Call]]) -> None:
        self._fun = fun
        self._calls = calls

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        interrupted = error[0] is not None and not issubclass(error[0], Exception)
        try:
            self.close(interrupted)
        except KeyboardInterrupt:
            # The first one may come twice: as what a wait saw, and as what the thread was sent.
            self.close(True)
            raise

    @abc.abstractmethod
    def submit(self, job: Job) -> None:
        """Asks for a job to be run."""

    @abc.abstractmethod
    def next(self) -> tuple[Job, list[Any]]:
        """Waits for any job to end: the job, and for each of its calls a result or a `Failure`.

        Raises:
            KeyboardInterrupt: the call was told to stop.
        """

    def finished(self) -> list[tuple[Job, list[Any]]]:
        """What has ended and was not asked for yet."""
        return []

    def close(self, interrupted: bool) -> None:
        """Gives up what has not been started; may be called again."""
        del interrupted


class Serial(Crew):
    """Runs jobs here, one after the other."""

    def __init__(self, fun: Callable[..., Any], calls: Callable[[Job], list[Call]]) -> None:
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


class Pool(Crew):
    """Runs jobs side by side through an executor, which stays its owner's.

    Args:
        fun: the user's function.
        calls: gives the calls that make up a job.
        executor: the executor.
    """

    # Whether a point that hangs can be ended without its neighbours.
    ends_points: ClassVar[bool] = False

    def __init__(
        self, fun: Callable[..., Any], calls: Callable[[Job], list[Call]], executor: Any
    ) -> None:
        super().__init__(fun, calls)
        self._executor = executor
        self._jobs: dict[Any, tuple[Job, int]] = {}
        # Suspects, to be run one by one; the one that is; and what has to wait for them.
        self._alone: collections.deque[Job] = collections.deque()
        self._trial: Job | None = None
        self._held: list[Job] = []
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._patience = POLL

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

    def _start(self, calls: list[Call]) -> Any:
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
        return Lost(BrokenExecutor(f"the executor gave it up{reason}"))

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


class Cluster(Pool):
    """A dask cluster.

    A worker that dies takes with it finished results that were not fetched. And dask holds
    its death against all that it was to run, what it had not begun too: only a job that kills
    a worker when it runs alone is to blame.
    """

    def __init__(
        self, fun: Callable[..., Any], calls: Callable[[Job], list[Call]], executor: Any
    ) -> None:
        super().__init__(fun, calls, executor)
        self._again: collections.Counter[Job] = collections.Counter()

    def _start(self, calls: list[Call]) -> Any:
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
            return Lost(error)
        self._again[job] += 1
        if isinstance(error, CancelledError) or self._again[job] > _AGAIN:
            return super()._misfortune(job, count, error)
        self.submit(job)
        return None


class _Inside(threading.local):
    """The executors whose points this thread is running."""

    def __init__(self) -> None:
        self.executors: list[Any] = []


_inside = _Inside()


def waits_for_itself(executor: Any) -> bool:
    """Whether a point that an executor runs would wait for a thread of the same executor."""
    return any(executor is one for one in _inside.executors)


class Threads(Pool):
    """Threads of this process: nothing is copied, and what runs stops in Python code only."""

    def __init__(
        self, fun: Callable[..., Any], calls: Callable[[Job], list[Call]], executor: Any
    ) -> None:
        super().__init__(fun, calls, executor)
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self._closed = False

    def _start(self, calls: list[Call]) -> Any:
        return self._executor.submit(self._run, calls)

    def _run(self, calls: list[Call]) -> list[Any]:
        thread = threading.get_ident()
        _inside.executors.append(self._executor)
        try:
            with self._lock:
                if self._closed:
                    raise CancelledError
                self._running.add(thread)
            return _worker.run(self._fun, calls)
        finally:
            with self._lock:
                self._running.discard(thread)
            _inside.executors.pop()

    def close(self, interrupted: bool) -> None:
        super().close(interrupted)
        with self._lock:
            self._closed = True
            if interrupted:
                for thread in self._running:
                    interrupt_thread(thread)


def picklable(fun: Callable[..., Any], dumps: Callable[[Any], Any], advice: str) -> None:
    """Raises TypeError where a function cannot be sent to another process."""
    name = getattr(fun, "__qualname__", type(fun).__name__)
    main = sys.modules.get("__main__")
    try:
        dumps(fun)
    except Exception as error:
        home = sys.modules.get(getattr(fun, "__module__", None) or "")
        there = getattr(home, name, fun)
        if there is not fun and getattr(there, "__wrapped__", None) is fun:
            advice = "the box has taken its name there: give the box another one"
        raise TypeError(
            f"fun {name} cannot be sent to a worker process ({type(error).__name__}: {error}): "
            f"{advice or 'define it at the top of a module'}."
        ) from error
    if (
        advice
        and getattr(fun, "__module__", None) == "__main__"
        and getattr(main, "__file__", None) is None
        and getattr(main, "__spec__", None) is None
    ):
        raise TypeError(
            f"fun {name} was typed into an interactive session, which worker processes cannot "
            f"import: {advice}."
        )
