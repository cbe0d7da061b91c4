"""A Ctrl-C that JAX swallowed, handed back to who called the program.

JAX turns the KeyboardInterrupt of a host call into an error of its own, which the user's
loop may well handle. It must not know what the call was.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any


def interrupt_callers() -> None:
    """Interrupts the main thread anew when it is out of the host call it is in.

    A trace function in the frames that called the program turns JAX's error back into an
    interrupt, before any of them handles that error.
    """
    before = sys.gettrace()
    traced: list[tuple[FrameType, Any]] = []

    def turn_back(frame: FrameType, event: str, value: Any) -> Any:
        del frame, value
        if event in ("exception", "line"):
            for other, trace in traced:
                other.f_trace = trace
            sys.settrace(before)
            raise KeyboardInterrupt
        return turn_back

    # The frames of the call itself end with JAX's own around it, in a module of that name.
    caller: FrameType | None = sys._getframe(1)
    while caller is not None and not _of_callback(caller):
        caller = caller.f_back
    while caller is not None and _of_callback(caller):
        caller = caller.f_back
    while caller is not None:
        traced.append((caller, caller.f_trace))
        caller.f_trace = turn_back
        caller = caller.f_back
    sys.settrace(lambda *_: None)


def _of_callback(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__"))
    return module.startswith("jax.") and module.endswith(".callback")
