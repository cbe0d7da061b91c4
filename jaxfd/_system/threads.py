"""The main thread, and how one thread interrupts another.

Python runs signal handlers in the main thread only, so that Ctrl-C reaches no other by
itself. It must not know what the threads do.
"""

from __future__ import annotations

import ctypes
import threading

MAIN = threading.main_thread().ident


def in_main_thread() -> bool:
    """Whether Python itself interrupts this thread."""
    return threading.get_ident() == MAIN


def interrupt_thread(thread: int) -> None:
    """Raises KeyboardInterrupt in a thread as soon as it is in Python code.

    Args:
        thread: its identity, as `threading.get_ident` has it.
    """
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt)
    )
