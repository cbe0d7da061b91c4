"""The board of a process pool: a small file that says which process runs which call.

Workers write to it, see `jaxfd._worker`; here it is made, read, wiped and closed. It must
not know what is done about a call that takes too long.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable

from jaxfd._worker import CLOSED, OPEN, SLOT


class Board:
    """The board of one batch; it exists from the start.

    Attributes:
        path: the file.
    """

    def __init__(self) -> None:
        file, self.path = tempfile.mkstemp(prefix="jaxfd-")
        os.write(file, OPEN)
        os.close(file)

    def running(self) -> dict[int, tuple[int, float]]:
        """For each slot that runs: the process, and since when, as `time.monotonic` has it."""
        try:
            with open(self.path, "rb") as file:
                data = file.read()[SLOT.size :]
        except OSError:
            return {}
        slots = SLOT.iter_unpack(data[: len(data) // SLOT.size * SLOT.size])
        return {i: (process, since) for i, (process, since) in enumerate(slots) if process}

    def clear(self, slots: Iterable[int]) -> None:
        """Wipes what dead workers left."""
        with open(self.path, "r+b") as file:
            for slot in slots:
                file.seek((slot + 1) * SLOT.size)
                file.write(OPEN)

    def close(self) -> None:
        """Has workers begin no call any more."""
        with contextlib.suppress(OSError), open(self.path, "r+b") as file:
            file.write(CLOSED)

    def remove(self) -> None:
        """Removes the file; may be called again."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)
