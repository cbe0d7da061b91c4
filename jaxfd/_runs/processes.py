"""The crew of a process pool on this machine: it ends what hangs and outlives a worker's death.

The `board` says which process runs which point and since when. What a pool itself does not
tell is read from attributes that the pools of the standard library and of loky have had for
years; without them errors say less. It must not know what a result means.
"""

from __future__ import annotations

import collections
import concurrent.futures
import pickle
import sys
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from typing import Any, ClassVar

from jaxfd import _worker
from jaxfd._runs import workers
from jaxfd._runs.board import Board
from jaxfd._runs.crew import Calls, Job
from jaxfd._runs.executors import POLL, ExecutorCrew
from jaxfd._runs.sending import check_sendable
from jaxfd._runs.successors import pool_like, successors
from jaxfd._worker import Failure, Invocation, Loss


class ProcessCrew(ExecutorCrew):
    """Runs jobs in worker processes on this machine.

    Args:
        fun: the user's function.
        calls: gives the calls that make up a job.
        executor: a process pool.
        timeout: seconds that a call may take; None for any.
    """

    ends_points: ClassVar[bool] = True

    def __init__(
        self,
        fun: Callable[..., Any],
        calls: Calls,
        executor: Any,
        timeout: float | None = None,
    ) -> None:
        super().__init__(fun, calls, successors.current(executor))
        self._owner = executor
        self._timeout = timeout
        if timeout is not None:
            self._patience = min(POLL, timeout / 4)
        self._ready: collections.deque[tuple[Job, list[Any]]] = collections.deque()
        self._pool_of: dict[Any, Any] = {}
        self._workers: dict[Any, dict[int, Any]] = {}  # of a pool, by process id
        # What was asked to stop: slot, process, since when it ran; and when it was asked.
        self._asked: dict[tuple[int, int, float], float] = {}
        self._asks = 0  # how often any was
        self._overdue: set[int] = set()  # points that took too long
        # A pool of our own, where it has to be known that nobody else breaks it.
        self._private: Any = None
        # How a pool ends the workers that are left when one died: by SIGTERM, loky by SIGKILL.
        own = isinstance(executor, concurrent.futures.ProcessPoolExecutor)
        self._ended = (None, 0, -15 if own else -9)
        self._board = Board()

    @staticmethod
    def suits(executor: Any) -> bool:
        """Whether an executor is such a pool."""
        if isinstance(executor, concurrent.futures.ProcessPoolExecutor):
            return True
        loky = sys.modules.get("loky")
        return loky is not None and isinstance(executor, loky.ProcessPoolExecutor)

    @staticmethod
    def check(fun: Callable[..., Any], executor: Any) -> None:
        if not isinstance(executor, concurrent.futures.ProcessPoolExecutor):
            from loky import backend

            check_sendable(fun, backend.reduction.dumps, "")
            return
        context = getattr(executor, "_mp_context", None)
        if context is not None and context.get_start_method() == "fork":
            raise ValueError(
                "executor starts its workers by fork, which hangs beside JAX's threads: pass "
                "ProcessPoolExecutor(mp_context=multiprocessing.get_context('spawn')), or loky."
            )
        check_sendable(
            fun,
            pickle.dumps,
            "define it at the top of a module, pass what it needs as arguments, or use a loky or "
            "dask executor, which send functions by value",
        )

    def _start(self, calls: list[Invocation]) -> Any:
        try:
            future = self._executor.submit(_worker.run, self._fun, calls, self._board.path)
        except (BrokenExecutor, OSError):
            # A pool that breaks at this very moment says that a handle is closed.
            self._renew(self._executor)
            future = self._executor.submit(_worker.run, self._fun, calls, self._board.path)
        self._pool_of[future] = self._executor
        seen = self._workers.setdefault(self._executor, {})
        seen.update(getattr(self._executor, "_processes", None) or {})
        return future

    def next(self) -> tuple[Job, list[Any]]:
        while not self._ready:
            self._release()
            future = self._wait()
            self._end_overdue()
            if future is None:
                continue
            if _broke(future):
                self._broken(future)
            else:
                self._take(future)
        return self._ready.popleft()

    def _take(self, future: Any) -> None:
        answer = self._answer(future)
        if answer is not None:
            self._ready.append(answer)

    def _come_to(self, job: Job, count: int, results: list[Any]) -> tuple[Job, list[Any]]:
        for slot in self._overdue.intersection(job):
            # Whatever it made of being interrupted: it is not the point's result.
            self._overdue.discard(slot)
            k = job.index(slot) if count > 1 else 0
            if k < len(results):
                results[k] = self._too_long()
        last = results[-1] if results else None
        if self._asks and isinstance(last, Failure) and isinstance(last.error, KeyboardInterrupt):
            # It was meant for the point before, and is run again.
            results = results[:-1]
        return super()._come_to(job, count, results)

    def _too_long(self) -> Failure:
        return Loss(TimeoutError(f"it took longer than timeout={self._timeout:g} s"))

    def _end_overdue(self) -> None:
        """Asks points that are overdue to stop, and ends their process if they do not."""
        if self._timeout is None:
            return
        now = time.monotonic()
        running = {(slot, *what) for slot, what in self._board.running().items()}
        self._asked = {run: when for run, when in self._asked.items() if run in running}
        for run in running:
            slot, process, since = run
            if run in self._asked:
                if now - self._asked[run] > workers.GRACE:
                    workers.end(process)
            elif now - since > self._timeout:
                self._overdue.add(slot)
                self._asked[run] = now
                self._asks += 1
                workers.ask(process)

    def _broken(self, first: Any) -> None:
        """Finds the points whose workers died, and has the others run by a pool like this one."""
        broken, error = self._pool_of[first], first.exception()
        jobs, others = [self._jobs.pop(first)], []
        while any(self._pool_of[future] is broken for future in self._jobs):
            future = self._done.get()
            if not _broke(future):
                self._take(future)
            elif self._pool_of[future] is broken:
                jobs.append(self._jobs.pop(future))
            else:
                others.append(future)
        for future in others:
            self._done.put(future)
        mine = {slot for job, _ in jobs for slot in job}
        running = {slot: p for slot, (p, _) in self._board.running().items() if slot in mine}
        self._board.clear(mine)
        codes = workers.exit_codes(self._workers.pop(broken, {}))
        if not running and broken is self._private:
            raise type(error)(_never_began(self._owner)) from error
        alone = len(jobs) == 1 and broken is self._private
        self._renew(broken)
        guilty = {slot for slot in running if codes.get(running[slot]) not in self._ended}
        if alone:
            guilty |= set(running)
        known = guilty | self._overdue
        again: list[Job] = []
        for job, count in jobs:
            found = [slot for slot in job if slot in known]
            if not found:
                again.append(job)
                continue
            slot = found[0]
            if slot in self._overdue:
                failure = self._too_long()
            else:
                died = _worker.DIED + workers.how(codes.get(running[slot]))
                failure = Loss(type(error)(died))
            self._overdue.discard(slot)
            self._ready.append((job if count == 1 else (slot,), [failure]))
            if count > 1 and len(job) > 1:
                again.append(tuple(i for i in job if i != slot))
        if not known:
            # Nothing tells which point it was, or whether it was one of ours at all: those that
            # ran are run again one by one, and where nobody else can interfere.
            self._private = self._private or pool_like(self._owner)
            self._executor = self._private
            self._alone.extend(job for job in again if running.keys() & set(job))
            again = [job for job in again if not running.keys() & set(job)]
        for job in again:
            self.submit(job)

    def _renew(self, broken: Any) -> None:
        """Takes another pool in place of the one that broke, where this is not done yet."""
        if self._executor is not broken:
            return
        if self._private is None:
            self._executor = successors.replace(self._owner, broken)
        else:
            self._executor = self._private = pool_like(self._owner)

    def finished(self) -> list[tuple[Job, list[Any]]]:
        return [*self._ready, *super().finished()]

    def close(self, interrupted: bool) -> None:
        super().close(interrupted)
        if interrupted or self._jobs:
            # Nobody waits for what still runs, and it may hang.
            self._board.close()
            workers.stop(lambda: {process for process, _ in self._board.running().values()})
        if self._private is not None:
            self._private.shutdown(wait=False)
        self._board.remove()


def _broke(future: Any) -> bool:
    return not future.cancelled() and isinstance(future.exception(), BrokenExecutor)


def _never_began(executor: Any) -> str:
    reasons = (
        "most often a script lacks `if __name__ == '__main__':` around what it runs, has the "
        "function under it rather than at the top of the file, or was read from standard input"
    )
    if getattr(executor, "_initializer", None) is not None:
        reasons = "its initializer may have failed; or " + reasons
    return (
        "the workers of executor ended before they ran a point. They print why above; " + reasons
    ) + "."
