"""Which values of a program depend on which of its inputs.

It exists for readers that leave alone what has nothing to do with what they look at. An operation
counts as a whole: all of its results depend on all of its operands. This room must not know what
the inputs are marked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxfd._jaxpr.walk import always, walk


def depends(closed: Any, flags: Sequence[bool]) -> list[bool]:
    """Which outputs of a program depend on marked inputs."""

    def apply(eqn: Any, operands: Sequence[bool]) -> list[bool]:
        return [any(operands)] * len(eqn.outvars)

    return walk(closed.jaxpr, closed.consts, list(flags), apply, lambda _: False, always)


def settled(body: Any, flags: Sequence[bool], carry: slice) -> tuple[list[bool], list[bool]]:
    """Which values that a loop carries depend on marked ones, in the end; and all outputs."""
    flags = list(flags)
    while True:
        found = depends(body, flags)
        before = flags[carry]
        flags[carry] = [a or b for a, b in zip(before, found, strict=False)]
        if flags[carry] == before:
            return before, found
