"""Work beside the main thread, for what Ctrl-C would otherwise leave unfinished.

It must not know what the work is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from jaxfd._system.threads import in_main_thread


def aside(work: Callable[[], object]) -> None:
    """Works in a thread of its own, so that Ctrl-C ends the waiting and the program waits to end.

    At a Ctrl-C XLA leaves what it compiles to its own threads, and a program that ends before them
    crashes. It does not where another thread than the main one waits for them.

    Args:
        work: what to do; what it returns is dropped.

    Raises:
        BaseException: what the work raised.
    """
    if not in_main_thread():
        work()
        return
    begun, done = threading.Event(), threading.Event()
    errors: list[BaseException] = []

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
