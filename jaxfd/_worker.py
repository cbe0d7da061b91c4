"""What runs beside the user's function in a worker, thread or process.

Must import nothing but the standard library, and dask where dask runs it: a worker process
needs no JAX.
"""

from __future__ import annotations

import copy
import os
import pickle
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any, NamedTuple

# A board is a file of slots. The first says whether the board is closed, each other one which
# process runs a call (0 for none), and since when.
SLOT = struct.Struct("=qd")
# An open board, and a call that nobody runs; a closed board.
OPEN, CLOSED = SLOT.pack(0, 0.0), SLOT.pack(1, 0.0)

# What is said of a point that killed its worker.
DIED = "its worker process died"


class Invocation(NamedTuple):
    """One call of the user's function: what it is called with, and where that is noted.

    Attributes:
        slot: its place on the board.
        args: positional arguments.
        kwargs: keyword arguments.
    """

    slot: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Failure:
    """An exception that a call raised, on its way to who asked.

    Attributes:
        error: the exception; after a journey between processes a copy of it, or where it does not
            bear the journey a RuntimeError that quotes it.
        text: the formatted traceback of the original, where ``error`` is a copy.
        lost: whether nothing was raised, but the call was given up or its worker died.
    """

    lost = False

    def __init__(self, error: BaseException, text: str = "") -> None:
        self.error = error
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        error = self.error
        text = self.text or "".join(traceback.format_exception(error))
        try:
            if type(pickle.loads(pickle.dumps(error))) is not type(error):
                raise TypeError
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return Failure, (error, text)


class Loss(Failure):
    """A call that raised nothing: it was given up, or its worker died."""

    lost = True


def kept(value: Any) -> Any:
    """What a function returned, in arrays of its own: its next call may write to the same ones."""
    if isinstance(value, (int, float, complex)):
        return value
    if type(value) in (tuple, list):
        return type(value)([kept(part) for part in value])
    if type(value) is dict:
        return {key: kept(part) for key, part in value.items()}
    numpy = sys.modules.get("numpy")
    if numpy is not None and (hasattr(value, "__array__") or isinstance(value, memoryview)):
        # A masked array keeps its mask, which says what is not known.
        return value if isinstance(value, numpy.generic) else numpy.array(value, subok=True)
    try:
        return copy.deepcopy(value)
    except Exception:
        return value  # no array, and refused or understood by who looks at the result


def run(
    fun: Callable[..., Any],
    calls: Sequence[Invocation],
    board: str | None = None,
    unique: bytes = b"",
) -> list[Any]:
    """Makes calls one after the other; what one raises is returned in its place.

    An interrupt ends the run, and so does a board that is closed or gone: the last result is then
    a failure, and there are fewer of them than calls.

    Args:
        fun: the user's function.
        calls: what to call it with.
        board: a file that says which process runs which call.
        unique: tells this run from all others.
    """
    del unique
    if board is not None:
        _listen()
    results: list[Any] = []
    for call in calls:
        try:
            _mark(board, call.slot, os.getpid())
            _thread.inside = True
            try:
                value = fun(*call.args, **call.kwargs)
            finally:
                _thread.inside = False
            value = kept(value)
        except (Exception, SystemExit) as error:
            value = Failure(error)
        except BaseException as error:
            results.append(Failure(error))
            break
        finally:
            _mark(board, call.slot, 0)
        results.append(value)
    return results


def run_once(fun: Callable[..., Any], calls: Sequence[Invocation], unique: bytes) -> list[Any]:
    """Does what `run` does in a dask worker, once: dask gives what killed one to the next.

    Raises:
        BrokenExecutor: the worker that began it died.
    """
    import distributed

    dask: Any = distributed
    begun = dask.Event(f"jaxfd-{unique.hex()}")
    if begun.is_set():
        begun.clear()
        raise BrokenExecutor(DIED)
    begun.set()
    results = run(fun, calls)
    begun.clear()
    return results


class _Whereabouts(threading.local):
    """Whether this thread is inside the user's function."""

    inside = False


_thread = _Whereabouts()


def _listen() -> None:
    """Lets Ctrl-C interrupt the user's function, and a worker that waits not at all."""

    def interrupt(number: int, frame: Any) -> None:
        del number, frame
        if _thread.inside:
            raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()
    if in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)


def _mark(board: str | None, slot: int, process: int) -> None:
    """Says on the board who runs a call."""
    if board is None:
        return
    try:
        file = os.open(board, os.O_RDWR)
    except OSError:
        if process:
            raise KeyboardInterrupt from None
        return
    try:
        if process and os.read(file, SLOT.size) == CLOSED:
            raise KeyboardInterrupt
        os.lseek(file, (slot + 1) * SLOT.size, os.SEEK_SET)
        os.write(file, SLOT.pack(process, time.monotonic()))
    finally:
        os.close(file)
