"""Why an optimisation ended, in one word of a short list.

It exists so that a program can ask for it, and so that "converged" is said of one thing alone. It
must not know how anybody finds out.
"""

from __future__ import annotations

import enum


class Status(enum.StrEnum):
    """Why an optimisation ended."""

    CONVERGED = "converged"
    """There is evidence that no step of use is left."""
    NOISE = "noise reached"
    """What is left to gain is less than the function's noise shows."""
    STUCK = "no progress"
    """No better point was found, though some should be left."""
    LIMIT = "limit"
    """A budget is spent: steps, evaluations or seconds."""
    UNBOUNDED = "unbounded"
    """The value fell as long as ``x`` ran away."""
    FAILED = "failed points"
    """Too many points failed for a way to go."""
    INTERRUPTED = "interrupted"
    """Someone asked for the end: Ctrl-C, or a callback."""
