"""Worker processes from outside: asked to stop, ended, and how they came to their end.

It must not know which points they run.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

# How long a worker that was asked to stop may take before it is ended, in seconds.
GRACE = 0.5

# How long it may take until it is known how workers of a broken pool ended, in seconds.
_BURIAL = 2


def ask(process: int) -> None:
    """Asks a worker to stop: Ctrl-C lets it clean up, its own child processes too."""
    with contextlib.suppress(OSError):
        os.kill(process, signal.SIGTERM if os.name == "nt" else signal.SIGINT)


def end(process: int) -> None:
    """Ends a worker as it stands."""
    with contextlib.suppress(OSError):
        os.kill(process, getattr(signal, "SIGKILL", signal.SIGTERM))


def stop(running: Callable[[], set[int]]) -> None:
    """Stops the workers that run something now, by asking first.

    Args:
        running: the processes that run something; asked for again and again.
    """
    processes = running()
    for process in processes:
        ask(process)
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        processes &= running()
        if not processes:
            return
        time.sleep(0.01)
    for process in processes:
        end(process)


def exit_codes(workers: Mapping[int, Any]) -> dict[int, int | None]:
    """The exit codes of workers whose pool broke, by process id, as far as they can be told.

    Args:
        workers: the pool's own objects for them, by process id.
    """
    deadline = time.monotonic() + _BURIAL
    codes: dict[int, int | None] = {}
    for process, worker in workers.items():
        with contextlib.suppress(Exception):
            worker.join(max(0, deadline - time.monotonic()))
            codes[process] = worker.exitcode
    return codes


def how(code: int | None) -> str:
    """What an exit code adds to a sentence; nothing where it is not known."""
    if code is None:
        return ""
    if code >= 0:
        return f" (exit code {code})"
    with contextlib.suppress(ValueError):
        return f" ({signal.Signals(-code).name})"
    return f" (signal {-code})"
