"""Ctrl-C and the end of the program, for threads that Python does not tell of them.

Python runs signal handlers in the main thread only, and a compiled program keeps that
thread waiting while it calls the host from a thread of its own. This room tells such
calls to stop, hands a Ctrl-C that JAX swallowed back to the main thread, and lets no
program end with a call in flight. It must not know what the calls do.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_MAIN = threading.main_thread().ident
_calls: dict[int, int] = {}  # thread -> how many host calls it is in
_threads: set[int] = set()  # threads beside the main one that ever were in one
_stopped: set[int] = set()  # threads whose calls were told to stop
_lock = threading.Lock()
_leaving = False
_watching = False
_failed = False
_expecting = 0  # how many blocks expect errors as they were
_raised: list[Exception] = []  # what host calls raised meanwhile
_presses = 0  # how often Ctrl-C came while `noticing`


def check() -> None:
    """Raises KeyboardInterrupt where the host call of this thread was told to stop."""
    if _stopped and threading.get_ident() in _stopped:
        raise KeyboardInterrupt


def in_main_thread() -> bool:
    """Whether Python itself interrupts this thread."""
    return threading.get_ident() == _MAIN


def enter(name: str) -> None:
    """Begins a host call that a compiled program makes."""
    thread = threading.get_ident()
    if _leaving:
        raise RuntimeError(f"{name} was not called: the program is ending.")
    with _lock:
        _calls[thread] = _calls.get(thread, 0) + 1
        if thread != _MAIN:
            _threads.add(thread)


def leave() -> None:
    """Ends a host call, or what did not come to be one."""
    thread = threading.get_ident()
    with _lock:
        others = _calls.pop(thread, 1) - 1
        if others:
            _calls[thread] = others
        else:
            _stopped.discard(thread)


def failed(error: BaseException) -> None:
    """Takes notice of what a host call raises, for JAX will not hand it on as it is."""
    global _failed
    _failed = True
    if _expecting and isinstance(error, Exception):
        _raised.append(error)
    if isinstance(error, KeyboardInterrupt) and in_main_thread():
        _interrupt_callers()


@contextlib.contextmanager
def own_errors() -> Iterator[None]:
    """Raises the error of a host call as it was, where a compiled program fails for it."""
    global _expecting
    _expecting += 1
    try:
        yield
    except RuntimeError:
        if not _raised:
            raise
        raise _raised[-1] from None
    finally:
        _expecting -= 1
        if not _expecting:
            _raised.clear()


@contextlib.contextmanager
def noticing() -> Iterator[None]:
    """Counts every Ctrl-C, the lost ones too; see `noticed`.

    What a signal handler raises is lost where the signal comes while Python collects garbage.
    """
    default = in_main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if default:
        signal.signal(signal.SIGINT, _notice)
    try:
        yield
    finally:
        if default:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def noticed() -> int:
    """How often Ctrl-C came so far."""
    return _presses


def _notice(number: int, frame: FrameType | None) -> None:
    global _presses
    _presses += 1
    signal.default_int_handler(number, frame)


def aside(work: Callable[[], object]) -> None:
    """Works in a thread of its own, so that Ctrl-C ends the waiting and the program waits to end.

    At a Ctrl-C XLA leaves what it compiles to its own threads, and a program that ends before them
    crashes. It does not where another thread than the main one waits for them.
    """
    if not in_main_thread():
        work()
        return
    begun, done, errors = threading.Event(), threading.Event(), []

    def run() -> None:
        begun.set()
        try:
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=run, name="jaxfd-aside")
    try:
        thread.start()
    except KeyboardInterrupt:
        # Python waits for no thread that has not begun.
        begun.wait(1.0)
        raise
    # Some systems interrupt no wait that has no end.
    while not done.wait(0.5):
        pass
    if errors:
        raise errors[0]


def _stop_calls() -> None:
    """Tells every host call outside the main thread to stop, wherever it is in Python code."""
    with _lock:
        for thread in _calls:
            if thread != _MAIN and thread not in _stopped:
                _stopped.add(thread)
                stop(thread)


def stop(thread: int) -> None:
    """Raises KeyboardInterrupt in a thread as soon as it is in Python code."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt)
    )


def _interrupt_callers() -> None:
    """Interrupts the main thread anew when it is out of the host call it is in.

    JAX turns the interrupt of a host call into an error of its own. A trace function in the frames
    that called the program turns it back, before any of them handles that error.
    """
    before = sys.gettrace()
    traced: list[tuple[FrameType, Any]] = []

    def turn_back(frame: FrameType, event: str, value: Any) -> Any:
        del frame, value
        if event in ("exception", "line"):
            for other, trace in traced:
                other.f_trace = trace
            sys.settrace(before)
            raise KeyboardInterrupt
        return turn_back

    # The frames of the call itself end with JAX's own around it, in a module of that name.
    caller: FrameType | None = sys._getframe(1)
    while caller is not None and not _of_callback(caller):
        caller = caller.f_back
    while caller is not None and _of_callback(caller):
        caller = caller.f_back
    while caller is not None:
        traced.append((caller, caller.f_trace))
        caller.f_trace = turn_back
        caller = caller.f_back
    sys.settrace(lambda *_: None)


def _of_callback(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__"))
    return module.startswith("jax.") and module.endswith(".callback")


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
            default = signal.getsignal(signal.SIGINT) in (signal.default_int_handler, _notice)
            if signal.SIGINT in signals and default:
                _stop_calls()

    threading.Thread(target=listen, name="jaxfd-interrupt", daemon=True).start()
    if sys.excepthook is sys.__excepthook__:
        # The interrupt itself comes out at the next Python frame. Where JAX's error about the call
        # that was stopped goes straight to the top of the program, this is the only one left.
        sys.excepthook = lambda *error: sys.__excepthook__(*error)


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def at_exit(drain: Callable[[], None], settle: Callable[[], None]) -> None:
    """Makes the end of the program wait for its host calls.

    Args:
        drain: waits for the programs that this thread dispatched.
        settle: makes JAX forget errors that were raised before, so that it does not print them.
    """

    def wait() -> None:
        # Before the pools of concurrent.futures close: calls that are pending may need them.
        with contextlib.suppress(Exception):
            drain()

    def quiet() -> None:
        global _leaving
        _leaving = True
        # What the threads say whose calls are stopped here is of no use to anyone any more.
        threading.excepthook = lambda _: None
        _stop_calls()
        _wait(lambda: _calls.keys().isdisjoint(sys._current_frames()), 60.0)
        # A thread that is caught inside JAX when Python ends takes the program down.
        _wait(lambda: _threads.isdisjoint(sys._current_frames()), 1.0)
        if _failed:
            _leaving = False
            with contextlib.suppress(Exception):
                settle()
            _leaving = True

    # The pools themselves register here.
    register: Callable[..., object] = getattr(threading, "_register_atexit", atexit.register)
    with contextlib.suppress(RuntimeError):
        register(wait)
    atexit.register(quiet)
