"""The floating-point environment of a host function.

XLA computes with tiny numbers flushed to zero, and its threads have the processor set to
that. A host function called from one would flush too, and so would every thread that it
starts: another result under ``jit`` than without. Must know nothing of JAX.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Any

# Larger than the environment of any processor.
_SIZE = 512


def _functions() -> Any:
    """The functions of the C library that tell and set the environment, where it has them."""
    with contextlib.suppress(Exception):
        library = ctypes.CDLL("ucrtbase" if os.name == "nt" else None)
        for function in (library.fegetenv, library.fesetenv):
            function.argtypes = [ctypes.c_void_p]
        return library.fegetenv, library.fesetenv
    return None, None


_tell, _set = _functions()
# That of the thread that imports jaxfd, which is Python's own.
_USUAL = ctypes.create_string_buffer(_SIZE)
if _tell is not None:
    _tell(_USUAL)
_unused: list[Any] = []


def enter() -> Any:
    """Has this thread compute as Python's own threads do; returns what `leave` wants."""
    if _tell is None:
        return None
    try:
        before = _unused.pop()
    except IndexError:
        before = ctypes.create_string_buffer(_SIZE)
    _tell(before)
    _set(_USUAL)
    return before


def leave(before: Any) -> None:
    """Undoes `enter`."""
    if before is not None:
        _set(before)
        _unused.append(before)
