"""Ctrl-C, where Python's own handling of it does not reach.

A compiled program keeps the main thread waiting, and only that thread is interrupted: a
listener beside it tells the host calls in flight. And an interrupt can get lost, so
that loops which must end count how often it came. It must not know what the calls do.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from jaxfd._system.hostcalls import HostCalls, host_calls
from jaxfd._system.threads import in_main_thread


class CtrlC:
    """What this process knows of Ctrl-C: how often it came, and who is to be told.

    There is one instance, `ctrl_c`: handlers of signals belong to the process.

    Args:
        calls: the host calls that are told to stop.
    """

    def __init__(self, calls: HostCalls) -> None:
        self._calls = calls
        self._watching = False  # whether there is a listener, or cannot be one
        self._presses = 0  # how often it came while `noticing`

    @contextlib.contextmanager
    def noticing(self) -> Iterator[None]:
        """Counts every Ctrl-C, the lost ones too; see `noticed`.

        What a signal handler raises is lost where the signal comes while Python collects garbage.
        """
        default = in_main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if default:
            signal.signal(signal.SIGINT, self._notice)
        try:
            yield
        finally:
            if default:
                signal.signal(signal.SIGINT, signal.default_int_handler)

    def noticed(self) -> int:
        """How often Ctrl-C came so far."""
        return self._presses

    def _notice(self, number: int, frame: FrameType | None) -> None:
        self._presses += 1
        signal.default_int_handler(number, frame)

    def watch(self) -> None:
        """Starts to listen for Ctrl-C beside the main thread; once, where it may be done."""
        if self._watching or not in_main_thread():
            return
        self._watching = True
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        if before != -1:
            # An event loop listens there already: what is running then ends with its own batch.
            signal.set_wakeup_fd(before)
            os.close(reading)
            os.close(writing)
            return
        listener = threading.Thread(
            target=self._listen, args=(reading,), name="jaxfd-interrupt", daemon=True
        )
        listener.start()
        if sys.excepthook is sys.__excepthook__:
            # The interrupt itself comes out at the next Python frame. Where JAX's error about the
            # call that was stopped goes straight to the top of the program, this is the only one
            # left.
            sys.excepthook = lambda *error: sys.__excepthook__(*error)

    def _listen(self, reading: int) -> None:
        while True:
            signals = os.read(reading, 64)
            # A program that handles Ctrl-C in its own way is left to do so.
            ours = signal.getsignal(signal.SIGINT) in (signal.default_int_handler, self._notice)
            if signal.SIGINT in signals and ours:
                self._calls.stop()


ctrl_c = CtrlC(host_calls)
