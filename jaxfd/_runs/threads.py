"""The crew of a thread pool of this process, and what a point inside one must not wait for.

It must not know what a result means.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from jaxfd import _worker
from jaxfd._runs.crew import Calls
from jaxfd._runs.executors import ExecutorCrew
from jaxfd._system import interrupt_thread
from jaxfd._worker import Invocation


class _Executors(threading.local):
    """The executors whose points this thread is running."""

    def __init__(self) -> None:
        self.running: list[Any] = []


_here = _Executors()


def waits_for_itself(executor: Any) -> bool:
    """Whether a point that an executor runs would wait for a thread of the same executor."""
    return any(executor is one for one in _here.running)


class ThreadCrew(ExecutorCrew):
    """Runs jobs in threads of this process.

    Nothing is copied, and what runs stops in Python code only.
    """

    def __init__(self, fun: Callable[..., Any], calls: Calls, executor: Any) -> None:
        super().__init__(fun, calls, executor)
        self._lock = threading.Lock()
        self._running: set[int] = set()
        self._closed = False

    def _start(self, calls: list[Invocation]) -> Any:
        return self._executor.submit(self._run, calls)

    def _run(self, calls: list[Invocation]) -> list[Any]:
        thread = threading.get_ident()
        _here.running.append(self._executor)
        try:
            with self._lock:
                if self._closed:
                    raise CancelledError
                self._running.add(thread)
            return _worker.run(self._fun, calls)
        finally:
            with self._lock:
                self._running.discard(thread)
            _here.running.pop()

    def close(self, interrupted: bool) -> None:
        super().close(interrupted)
        with self._lock:
            self._closed = True
            if interrupted:
                for thread in self._running:
                    interrupt_thread(thread)
