"""What places have in common where numbers are at hand at once: loops are Python's own.

It must not know where points are evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxfd._places.place import State


class AtHand:
    """A place of NumPy's numbers."""

    xp: Any = np
    concrete = True

    @staticmethod
    def repeat(
        body: Callable[[State], State], state: State, times: int, going: Callable[[State], Any]
    ) -> State:
        """Runs ``body`` on a state, up to so many times, while ``going`` holds."""
        for _ in range(times):
            if not going(state):
                break
            state = body(state)
        return state


def joined(parts: Sequence[list[np.ndarray]]) -> list[np.ndarray]:
    """Outputs of several runs as those of one."""
    return [p[0] if len(p) == 1 else np.concatenate(p) for p in zip(*parts, strict=True)]
