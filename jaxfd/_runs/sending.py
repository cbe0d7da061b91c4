"""Whether a function can be sent to another process, found out before it is.

It must not know how it is sent, nor what it computes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def check_sendable(fun: Callable[..., Any], dumps: Callable[[Any], Any], advice: str) -> None:
    """Checks that a function can be sent to another process.

    Args:
        fun: the function.
        dumps: how it is pickled.
        advice: what to do about a function that must be importable there; empty where functions
            are sent by value.

    Raises:
        TypeError: it cannot, or the other process could not import it.
    """
    name = getattr(fun, "__qualname__", type(fun).__name__)
    main = sys.modules.get("__main__")
    try:
        dumps(fun)
    except Exception as error:
        home = sys.modules.get(getattr(fun, "__module__", None) or "")
        there = getattr(home, name, fun)
        if there is not fun and getattr(there, "__wrapped__", None) is fun:
            advice = "the box has taken its name there: give the box another one"
        raise TypeError(
            f"fun {name} cannot be sent to a worker process ({type(error).__name__}: {error}): "
            f"{advice or 'define it at the top of a module'}."
        ) from error
    if (
        advice
        and getattr(fun, "__module__", None) == "__main__"
        and getattr(main, "__file__", None) is None
        and getattr(main, "__spec__", None) is None
    ):
        raise TypeError(
            f"fun {name} was typed into an interactive session, which worker processes cannot "
            f"import: {advice}."
        )
