"""The floating-point environment of a host function.

XLA computes with tiny numbers flushed to zero, and its threads have the processor set to
that. A host function called from one would flush too, and so would every thread that it
starts: another result under ``jit`` than without. Must know nothing of JAX.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from typing import Any

# Larger than the environment of any processor.
_SIZE = 512


def _library() -> Any:
    """The C library, where it offers what is needed."""
    with contextlib.suppress(Exception):
        library = ctypes.CDLL("ucrtbase" if os.name == "nt" else None)
        if library.fegetenv and library.fesetenv:
            return library
    return None


_LIBRARY = _library()
# That of the thread that imports jaxfd, which is Python's own.
_USUAL = ctypes.create_string_buffer(_SIZE)
if _LIBRARY is not None:
    _LIBRARY.fegetenv(_USUAL)


@contextlib.contextmanager
def usual() -> Iterator[None]:
    """Inside, this thread computes as Python's own threads do."""
    if _LIBRARY is None:
        yield
        return
    before = ctypes.create_string_buffer(_SIZE)
    _LIBRARY.fegetenv(before)
    _LIBRARY.fesetenv(_USUAL)
    try:
        yield
    finally:
        _LIBRARY.fesetenv(before)
