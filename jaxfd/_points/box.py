"""The box: its walls, the room there is within them, and a row of points fitted into it.

``bounds`` is the user's word, the box is ours, and a wall is one side of it. This room must not
know which method lays the points, nor who evaluates them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from jaxfd._arrays import Arguments, is_complex, realise

# The share of the way to a wall that points may use when ``x`` itself is inside: functions
# are often singular on the wall, and a point next to it would sample that.
_SHARE_OF_ROOM = 0.875
# That which a row may use where the distance to the wall may be the function's own scale.
_SHARE_OF_DISTANCE = 0.25
# A wall that many steps away, it may not: that would be off by a few times 1e-4 at order 2.
_FAR = 64


class Row(NamedTuple):
    """A row of points fitted into a box, for every entry of a leaf.

    Attributes:
        h: the step, shape ``(*lead, *shape)``.
        which: the number of points below ``x`` of a row of neighbouring points; `own_row` where the
            points are those that were asked for.
        wide: whether the box has any width that a row of points can be told apart in.
    """

    h: Float[Any, "*n"]
    which: Int[Any, "*n"]
    wide: Bool[Any, "*n"]


@dataclasses.dataclass(frozen=True)
class Box:
    """Where the points of a leaf may lie.

    Attributes:
        xp: the array namespace.
        x: the leaf, shape ``(*lead, *shape)``.
        lower: the lower wall of every entry, of the same shape and dtype.
        upper: the upper wall.
    """

    xp: Any
    x: Float[Any, "*n"]
    lower: Float[Any, "*n"]
    upper: Float[Any, "*n"]

    @property
    def below(self) -> Float[Any, "*n"]:
        """The room below ``x``."""
        return self.xp.where(self.x > self.lower, self.x - self.lower, 0) * _SHARE_OF_ROOM

    @property
    def above(self) -> Float[Any, "*n"]:
        """The room above ``x``."""
        return self.xp.where(self.x < self.upper, self.upper - self.x, 0) * _SHARE_OF_ROOM

    @property
    def outside(self) -> Bool[Any, "*n"]:
        """Where ``x`` itself is outside."""
        return (self.x < self.lower) | (self.x > self.upper)

    def flat(self, wide: Bool[Any, "*n"]) -> Float[Any, "*n"]:
        """What a derivative is multiplied by: 0 where there is no width, NaN where ``x`` is out."""
        known = self.xp.where(wide, 1.0, 0.0)
        return self.xp.where(self.outside, np.nan, known).astype(self.x.dtype)

    def clip(self, points: Float[Any, "*k n"]) -> Float[Any, "*k n"]:
        """The nearest points inside."""
        return self.xp.clip(points, self.lower, self.upper)

    def clip_short(self, points: Float[Any, "*k n"]) -> Float[Any, "*k n"]:
        """The nearest points inside that lie short of the walls, as those of a row do."""
        xp, out = self.xp, self.outside
        lower = xp.where(out, self.lower, self.x - self.below)
        upper = xp.where(out, self.upper, self.x + self.above)
        return self.clip(xp.clip(points, lower, upper))

    def fit(self, h: Float[Any, "*n"], offsets: Sequence[Any]) -> Row:
        """Fits a row of points into the box.

        Where the walls leave no room for the offsets that are asked for, the row becomes one of as
        many neighbouring points, moved sideways; where the box is too narrow for it the step
        shrinks.

        Args:
            h: the step.
            offsets: the points in units of the step, in rising order, without ``x`` itself.
        """
        xp, nodes, below, above = self.xp, len(offsets), self.below, self.above
        home = sum(1 for s in offsets if s < 0)
        # Two steps to spare, for the floors below. A box too narrow for that has no width.
        widest = (below + above) / (nodes + 2)
        wide = (widest > 0) & ((h <= widest) | self._holds(widest, nodes))
        h = xp.where(wide, xp.minimum(h, widest), h)
        steps_below, steps_above = xp.floor(below / h), xp.floor(above / h)
        fits_below, fits_above = xp.minimum(steps_below, nodes), xp.minimum(steps_above, nodes)
        which = xp.clip(home, nodes - fits_above, xp.maximum(fits_below, nodes - fits_above))
        own = (steps_below >= max(-offsets[0], 0)) & (steps_above >= max(offsets[-1], 0))
        which = xp.where(own | ~wide, own_row(nodes), which)
        return Row(h, which.astype(np.int32), wide)

    def _holds(self, h: Float[Any, "*n"], nodes: int) -> Bool[Any, "*n"]:
        """Whether there is room for so many steps once they are exact, and each moves ``x``."""
        xp, exact = self.xp, realise(self.x, h)
        # Spacings differ above and below a power of two.
        moves = (exact > 0) & xp.isfinite(exact)
        moves = moves & ((self.x - exact < self.x) | (self.below == 0))
        exact = xp.where(moves, exact, 1)
        return moves & (xp.floor(self.below / exact) + xp.floor(self.above / exact) >= nodes)

    def near(self, h: Float[Any, "*n"], offsets: Sequence[Any], power: float) -> Float[Any, "*n"]:
        """A step that suits an entry which must keep its sign, of whatever size it is.

        A step in proportion to the larger of ``|x|`` and 1 may reach past a wall at 0, or nearly
        so. The function then varies on a scale between ``d = |x|`` and ``s = 1``: a step ``h`` is
        off by ``(h / d)^p`` in the one case, by ``eps / h^q`` in the other, with ``q`` the order of
        the derivative, and ``h (d / s)^(p / (p + q))`` makes the larger of them smallest. A wall
        elsewhere says nothing of scales.

        Args:
            h: the step.
            offsets: the points in units of the step.
            power: ``p / (p + q)``.
        """
        xp = self.xp
        reach = max(abs(s) for s in offsets)
        distance = xp.abs(self.x)
        signed = ((self.lower == 0) | (self.upper == 0)) & ~self.outside
        close = signed & (distance > 0) & (distance < _FAR * reach * h)
        ratio = xp.where(close, distance / xp.maximum(distance, 1), 1)
        smaller = xp.minimum(h * ratio**power, distance * _SHARE_OF_DISTANCE / reach)
        # Nothing is known of another scale where no step is left.
        return xp.where(close & (self.x + smaller != self.x), smaller, h)

    def unclipped(self, reach: Float[Any, "*n"]) -> Float[Any, "*n"]:
        """By how much a sum over points at ``x + reach`` and ``x - reach`` falls short by clipping.

        NaN where ``x`` is outside, 0 where there is no width.
        """
        xp = self.xp
        span = self.clip_short(self.x + reach) - self.clip_short(self.x - reach)
        factor = xp.where(span > 0, 2 * reach / xp.where(span > 0, span, 1), 0)
        return xp.where(self.outside, np.nan, factor)


def own_row(nodes: int) -> int:
    """The number in `Row.which` of a row of so many points that is as it was asked for."""
    return nodes + 1


def boxes_of(
    xp: Any, arguments: Arguments, bounds: Any, real: Sequence[Any], owner: Sequence[int]
) -> list[Box]:
    """The boxes of the real leaves of a call.

    Args:
        xp: the array namespace.
        arguments: the call.
        bounds: the pair of lower and upper bounds, as the user gave them.
        real: the real leaves, shape ``(*lead, *shape)``.
        owner: for each of them, the number of the argument leaf it is a part of.
    """
    walls = walls_of(arguments, bounds)

    def spread(wall: Any, x: Any) -> Any:
        return xp.broadcast_to(xp.asarray(wall, dtype=x.dtype), x.shape)

    return [
        Box(xp, x, *(spread(wall[number], x) for wall in walls))
        for x, number in zip(real, owner, strict=True)
    ]


def walls_of(arguments: Arguments, bounds: Any) -> tuple[list[Any], list[Any]]:
    """The walls of every leaf of a call."""
    lower, upper = bounds
    return (
        arguments.spread(lower, "bounds[0]", -np.inf),
        arguments.spread(upper, "bounds[1]", np.inf),
    )


def check_bounds(arguments: Arguments, bounds: Any, inside: bool = True) -> None:
    """Raises ValueError where the box is crossed or ``x`` is outside, as far as is known.

    Args:
        arguments: the call.
        bounds: the pair of lower and upper bounds, as the user gave them.
        inside: whether ``x`` must be inside.
    """
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
        if isinstance(leaf, jax.core.Tracer) or not inside:
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
