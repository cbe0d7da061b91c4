"""Tracebacks without the frames of this library between a user's call and a user's error.

As JAX leaves out its own; with ``JAX_TRACEBACK_FILTERING=off`` everything is shown.
"""

from __future__ import annotations

import types
from pathlib import Path

import jax

_OURS = str(Path(__file__).parents[1])


class ShortTracebacks:
    """Takes our frames out of the traceback of what is raised inside, but for the last."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception) and _filtered():
            error.__traceback__ = _without_ours(error.__traceback__)


def _filtered() -> bool:
    return getattr(jax.config, "jax_traceback_filtering", "auto") != "off"


def _without_ours(traceback: types.TracebackType | None) -> types.TracebackType | None:
    """A traceback of the frames of others, and of the one where it was raised."""
    every = []
    while traceback is not None:
        every.append(traceback)
        traceback = traceback.tb_next
    kept: types.TracebackType | None = None
    for i, part in enumerate(reversed(every)):
        ours = part.tb_frame.f_code.co_filename.startswith(_OURS)
        if i == 0 or not ours:
            kept = types.TracebackType(kept, part.tb_frame, part.tb_lasti, part.tb_lineno)
    return kept
