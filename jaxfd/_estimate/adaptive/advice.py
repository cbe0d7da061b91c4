"""What to say beside an error that the user's function raised somewhere around ``x``.

A search goes farther from ``x`` than a fixed stencil, and so out of the domain of a function. This
room must not know where the points are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from jaxfd._estimate.task import Call
from jaxfd._places import Place

_BEGIN = "Adaptive steps look around x"


@contextlib.contextmanager
def advised(place: Place, call: Call) -> Iterator[None]:
    """Notes on what a host function raises how to keep the search out of where it raises."""
    try:
        yield
    except Exception as error:
        # A function may raise one and the same object again and again.
        noted = any(note.startswith(_BEGIN) for note in getattr(error, "__notes__", []))
        if place.xp is np and not noted:
            walls = "narrower bounds=" if call.boxes else "bounds=(lower, upper)"
            error.add_note(
                f"{_BEGIN}: where the function is not defined there, give {walls}, or make the box "
                'with jaxfd.blackbox(..., on_error="nan"), so that such points are left out.'
            )
        raise
