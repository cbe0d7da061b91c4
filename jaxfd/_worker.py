"""What runs beside the user's function in a worker, thread or process.

Must import nothing but the standard library: a worker process needs no JAX.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

# One slot of a board: the process that runs a point (0 for none), and since when.
SLOT = struct.Struct("=qd")


class Call(NamedTuple):
    """One call of the user's function.

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


class Lost(Failure):
    """A call that raised nothing: it was given up, or its worker died."""

    lost = True


def run(fun: Callable[..., Any], calls: Sequence[Call], board: str | None = None) -> list[Any]:
    """Makes calls one after the other; what one raises is returned in its place.

    An interrupt ends the run: the results are then fewer than the calls.
    """
    results: list[Any] = []
    for call in calls:
        _mark(board, call.slot, os.getpid())
        try:
            results.append(fun(*call.args, **call.kwargs))
        except (Exception, SystemExit) as error:
            results.append(Failure(error))
        except BaseException as error:
            results.append(Failure(error))
            break
        finally:
            _mark(board, call.slot, 0)
    return results


def _mark(board: str | None, slot: int, process: int) -> None:
    """Says on the board who runs a point. A board that is gone is nobody's concern."""
    if board is None:
        return
    with contextlib.suppress(OSError):
        file = os.open(board, os.O_WRONLY)
        try:
            os.lseek(file, slot * SLOT.size, os.SEEK_SET)
            os.write(file, SLOT.pack(process, time.monotonic()))
        finally:
            os.close(file)
