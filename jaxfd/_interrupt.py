"""Ctrl-C and the end of the program, for threads that Python does not tell of them.

Python runs signal handlers in the main thread only, and a compiled program keeps that
thread waiting while it calls the host from a thread of its own. This room tells such
calls to stop, hands a Ctrl-C that JAX swallowed back to the main thread, and lets no
program end with a call in flight. It must not know what the calls do.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

_calls: dict[int, int] = {}  # thread -> how many host calls it is in
_stopped: set[int] = set()  # threads whose calls were told to stop
_lock = threading.Lock()
_leaving = False
_watching = False
_failed = False


def check() -> None:
    """Raises KeyboardInterrupt where the host call of this thread was told to stop."""
    if _stopped and threading.get_ident() in _stopped:
        raise KeyboardInterrupt


def in_main_thread() -> bool:
    """Whether Python itself interrupts this thread."""
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def host_call(name: str) -> Iterator[None]:
    """Surrounds a host call that a compiled program makes."""
    global _failed
    thread = threading.get_ident()
    if _leaving:
        raise RuntimeError(f"{name} was not called: the program is ending.")
    with _lock:
        _calls[thread] = _calls.get(thread, 0) + 1
    try:
        yield
    except BaseException as error:
        _failed = True
        if isinstance(error, KeyboardInterrupt) and in_main_thread():
            _interrupt_after_return()
        raise
    finally:
        with _lock:
            _calls[thread] -= 1
            if not _calls[thread]:
                del _calls[thread]
                _stopped.discard(thread)


def _stop_calls() -> None:
    """Tells every host call outside the main thread to stop, wherever it is in Python code."""
    main = threading.main_thread().ident
    with _lock:
        for thread in _calls:
            if thread != main and thread not in _stopped:
                _stopped.add(thread)
                stop(thread)


def stop(thread: int) -> None:
    """Raises KeyboardInterrupt in a thread as soon as it is in Python code."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt)
    )


def _interrupt_after_return() -> None:
    """Interrupts the main thread anew as soon as it is out of the host call it is in."""
    main = threading.get_ident()
    frame = sys._getframe(2)

    def inside() -> bool:
        at = sys._current_frames().get(main)
        while at is not None and at is not frame:
            at = at.f_back
        return at is not None

    # With so short an interval the thread below gets the interpreter's lock as soon as the call
    # lets go of it, and the main thread has it back when it was interrupted.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def interrupt() -> None:
        deadline = time.monotonic() + 5
        while inside() and time.monotonic() < deadline:
            pass
        _thread.interrupt_main()
        sys.setswitchinterval(interval)

    threading.Thread(target=interrupt, daemon=True).start()


def watch() -> None:
    """Starts to listen for Ctrl-C beside the main thread; once, where it may be done."""
    global _watching
    if _watching or not in_main_thread():
        return
    _watching = True
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    if before != -1:
        # An event loop listens there already: what is running then ends with its own batch.
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)
        return

    def listen() -> None:
        while True:
            signals = os.read(reading, 64)
            # A program that handles Ctrl-C in its own way is left to do so.
            default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
            if signal.SIGINT in signals and default:
                _stop_calls()

    threading.Thread(target=listen, name="jaxfd-interrupt", daemon=True).start()
    if sys.excepthook is sys.__excepthook__:
        # The interrupt itself comes out at the next Python frame. Where JAX's error about the call
        # that was stopped goes straight to the top of the program, this is the only one left.
        sys.excepthook = lambda *error: sys.__excepthook__(*error)


def at_exit(drain: Callable[[], None], settle: Callable[[], None]) -> None:
    """Makes the end of the program wait for its host calls.

    Args:
        drain: waits for the programs that this thread dispatched.
        settle: makes JAX forget errors that were raised before, so that it does not print them.
    """

    def leave() -> None:
        # Before the pools of concurrent.futures close: calls that are pending may need them.
        with contextlib.suppress(Exception):
            drain()

    def quiet() -> None:
        global _leaving
        _leaving = True
        _stop_calls()
        deadline = time.monotonic() + 60
        while _calls and time.monotonic() < deadline:
            time.sleep(0.01)
        if _failed:
            _leaving = False
            with contextlib.suppress(Exception):
                settle()
            _leaving = True

    # The pools themselves register here.
    register: Callable[..., object] = getattr(threading, "_register_atexit", atexit.register)
    with contextlib.suppress(RuntimeError):
        register(leave)
    atexit.register(quiet)
