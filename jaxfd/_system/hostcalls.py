"""The host calls that compiled programs make: which are in flight, which failed, and their end.

A compiled program calls the host from threads of its own. Python tells them nothing: not
that Ctrl-C came, nor that the program ends; and JAX hands on no error as it was raised.
This room stops such calls, keeps what they raised, and lets no program end with one in
flight. It must not know what the calls do.
"""

from __future__ import annotations

import atexit
import contextlib
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Protocol

from jaxfd._system.callers import interrupt_callers
from jaxfd._system.threads import MAIN, in_main_thread, interrupt_thread


class Pool(Protocol):
    """A pool of processes."""

    def shutdown(self, wait: bool = True) -> None:
        """Ends it."""


class HostCalls:
    """The host calls of this process.

    It holds the threads that are in a call now, so that they can be told to stop; those that ever
    were in one, for they may still be inside JAX when Python ends; and what calls raised, for the
    blocks that want it as it was. There is one instance, `host_calls`: threads, signals and the
    end of the program belong to the process.
    """

    def __init__(self) -> None:
        self._in_flight: dict[object, int] = {}  # call -> the thread that is in it
        self._threads: set[int] = set()  # threads beside the main one that ever were in one
        self._stopped: set[int] = set()  # threads whose calls were told to stop
        self._lock = threading.Lock()
        self._leaving = False  # whether the program is ending
        self._failed = False  # whether any call ever raised
        self._expecting = 0  # how many blocks expect errors as they were
        self._raised: list[Exception] = []  # what host calls raised meanwhile
        self._pools: weakref.WeakSet[Pool] = weakref.WeakSet()

    def check(self) -> None:
        """Raises KeyboardInterrupt where the host call of this thread was told to stop."""
        if self._stopped and threading.get_ident() in self._stopped:
            raise KeyboardInterrupt

    def enter(self, call: object, name: str) -> None:
        """Begins a host call that a compiled program makes.

        Args:
            call: what tells this call from all others.
            name: what is called, for the error.

        Raises:
            RuntimeError: the program is ending.
        """
        thread = threading.get_ident()
        if self._leaving:
            raise RuntimeError(f"{name} was not called: the program is ending.")
        with self._lock:
            self._in_flight[call] = thread
            if thread != MAIN:
                self._threads.add(thread)

    def leave(self, call: object) -> None:
        """Ends a host call, or what did not come to be one; may be called again."""
        thread = threading.get_ident()
        with self._lock:
            self._in_flight.pop(call, None)
            if thread not in self._in_flight.values():
                self._stopped.discard(thread)

    def failed(self, error: BaseException) -> None:
        """Takes notice of what a host call raises, for JAX will not hand it on as it is."""
        self._failed = True
        if self._expecting and isinstance(error, Exception):
            self._raised.append(error)
        if isinstance(error, KeyboardInterrupt) and in_main_thread():
            interrupt_callers()

    @contextlib.contextmanager
    def own_errors(self) -> Iterator[None]:
        """Raises the error of a host call as it was, where a compiled program fails for it."""
        self._expecting += 1
        try:
            yield
        except RuntimeError:
            if not self._raised:
                raise
            raise self._raised[-1] from None
        finally:
            self._expecting -= 1
            if not self._expecting:
                self._raised.clear()

    def stop(self) -> None:
        """Tells every call outside the main thread to stop, wherever it is in Python code."""
        with self._lock:
            for thread in self._in_flight.values():
                if thread != MAIN and thread not in self._stopped:
                    self._stopped.add(thread)
                    interrupt_thread(thread)

    def note_pool(self, pool: Pool) -> None:
        """Notes a pool of processes, to be shut down when the program ends.

        By then it has ended itself. But one that nobody shut down is told so once more when it is
        forgotten, by a function of its module, and that may be gone before: Python takes modules
        apart in no certain order.
        """
        self._pools.add(pool)

    def at_exit(self, drain: Callable[[], None], settle: Callable[[], None]) -> None:
        """Makes the end of the program wait for its host calls.

        Args:
            drain: waits for the programs that this thread dispatched.
            settle: makes JAX forget errors that were raised before, so that it does not print them.
        """

        def wait() -> None:
            # Before the pools of concurrent.futures close: calls that are pending may need them.
            with contextlib.suppress(Exception):
                drain()

        # The pools themselves register here.
        register: Callable[..., object] = getattr(threading, "_register_atexit", atexit.register)
        with contextlib.suppress(RuntimeError):
            register(wait)
        atexit.register(self._quiet, settle)

    def _quiet(self, settle: Callable[[], None]) -> None:
        """Stops what is still in flight and waits until no thread is inside JAX."""
        self._leaving = True
        # What the threads say whose calls are stopped here is of no use to anyone any more.
        threading.excepthook = lambda _: None
        self.stop()
        _wait(lambda: set(self._in_flight.values()).isdisjoint(sys._current_frames()), 60.0)
        # A thread that is caught inside JAX when Python ends takes the program down.
        _wait(lambda: self._threads.isdisjoint(sys._current_frames()), 1.0)
        if self._failed:
            self._leaving = False
            with contextlib.suppress(Exception):
                settle()
            self._leaving = True
        for pool in list(self._pools):
            with contextlib.suppress(Exception):
                pool.shutdown(wait=False)


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


host_calls = HostCalls()
