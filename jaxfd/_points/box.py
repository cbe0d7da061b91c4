"""The box: its walls, the room there is within them, and a row of points fitted into it.

``bounds`` is the user's word, the box is ours, and a wall is one side of it. This room must not
know which method lays the points, nor who evaluates them.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxfd._arrays import Arguments, is_complex


def walls_of(arguments: Arguments, bounds: Any) -> tuple[list[Any], list[Any]]:
    """The walls of every leaf of a call."""
    lower, upper = bounds
    return (
        arguments.spread(lower, "bounds[0]", -np.inf),
        arguments.spread(upper, "bounds[1]", np.inf),
    )


def check_bounds(arguments: Arguments, bounds: Any) -> None:
    """Raises ValueError where the box is crossed or ``x`` is outside, as far as is known."""
    for leaf, *walls in zip(arguments.leaves, *walls_of(arguments, bounds), strict=True):
        if is_complex(leaf):
            raise ValueError("bounds need real arguments, got a complex one: leave bounds out.")
        if any(isinstance(wall, jax.core.Tracer) for wall in walls):
            continue
        low, high = (np.asarray(wall) for wall in walls)
        if np.any(np.isnan(low) | np.isnan(high)):
            raise ValueError(f"bounds hold nan: lower {low}, upper {high}: use -inf, inf or None.")
        if np.any(low > high):
            raise ValueError(f"bounds are crossed: lower {low} lies above upper {high}: swap them.")
        if isinstance(leaf, jax.core.Tracer):
            continue
        x = np.asarray(leaf)
        low, high = low.astype(x.dtype), high.astype(x.dtype)
        outside = (x < low) | (x > high)
        if np.any(outside):
            where = tuple(int(i) for i in np.argwhere(outside)[0])
            raise ValueError(
                f"x lies outside bounds: entry {where} is {x[where]}, not between {low} and "
                f"{high}: move x into the box, or widen it."
            )


# The share of the way to a wall that points may use when ``x`` itself is inside: functions
# are often singular on the wall, and a point next to it would sample that.
SHARE_OF_ROOM = 0.875


def fit(
    xp: Any,
    x: Float[Any, "*n"],
    h: Float[Any, "*n"],
    lower: Float[Any, "*n"],
    upper: Float[Any, "*n"],
    nodes: int,
    below: int,
) -> tuple[Float[Any, "*n"], Int[Any, "*n"], Bool[Any, "*n"]]:
    """Fits a row of equally spaced points into a box, moving it sideways where it must.

    The row has ``nodes`` points besides ``x``, of which ``below`` lie below it if there is room.
    Where the box is too narrow for the row the step shrinks.

    Returns:
        The step, the number of points below ``x`` (an integer array), and whether the box has
        any width at all.
    """
    room_below = xp.where(x > lower, x - lower, 0) * SHARE_OF_ROOM
    room_above = xp.where(x < upper, upper - x, 0) * SHARE_OF_ROOM
    # Two steps to spare, for the floors below. A box that is too narrow for that has no width.
    widest = (room_below + room_above) / (nodes + 2)
    wide = widest > 0
    h = xp.where(wide, xp.minimum(h, widest), h)
    fits_below = xp.minimum(xp.floor(room_below / h), nodes)
    fits_above = xp.minimum(xp.floor(room_above / h), nodes)
    taken = xp.clip(below, nodes - fits_above, xp.maximum(fits_below, nodes - fits_above))
    taken = xp.where(wide, taken, below)
    return h, taken.astype(xp.int32), wide
