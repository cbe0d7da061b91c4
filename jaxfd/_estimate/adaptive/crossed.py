"""Pairs of coordinates moved together: what a fit of a mixed derivative needs.

For every pair of entries ``i, j`` points lie on two crossed lines, ``x ± t (u_i e_i + u_j e_j)``
and ``x ± t (u_i e_i - u_j e_j)``, with ``t`` up to the radius; beside a wall on one ray alone, into
the room there is.
A `Crossed` is a search as `refine` sees one, with pairs in place of coordinates. It
must not know how the units ``u`` were found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from jaxfd._arrays import column, constant, flatten
from jaxfd._estimate.adaptive.fits import (
    BestFit,
    Evidence,
    Fits,
    crossed_fits,
    ray_fits,
    weigh,
)
from jaxfd._estimate.adaptive.ground import Ground
from jaxfd._estimate.adaptive.reading import Search
from jaxfd._estimate.found import evaluate_all
from jaxfd._points import Coordinates

# Where the points lie, in eighths of the radius: along both entries, and along the second of them.
_EIGHTHS = np.arange(1.0, 9.0)
_FIRST = np.concatenate([_EIGHTHS, -_EIGHTHS, _EIGHTHS, -_EIGHTHS])
_SECOND = np.concatenate([_EIGHTHS, -_EIGHTHS, -_EIGHTHS, _EIGHTHS])
# The same for a ray.
_RAY = np.arange(1.0, 33.0) / 4


@dataclasses.dataclass(frozen=True)
class Crossed(Search):
    """A search along pairs of coordinates.

    Attributes:
        pairs: the entries of every pair, two integer arrays of shape ``(M,)``.
        units: how far each of them goes for a radius of 1, shape ``(*lead, M)`` each.
        away: to which side of ``x`` each goes on a ray, 1 or -1, of the same shape.
    """

    pairs: tuple[np.ndarray, np.ndarray] = (np.zeros(0, int), np.zeros(0, int))
    units: tuple[Any, Any] = (None, None)
    away: tuple[Any, Any] = (None, None)

    fit_points: ClassVar[int] = len(_FIRST)
    # Three sets of points.
    most: ClassVar[int] = 3 * len(_FIRST) + 1

    def sample_fit(self, side: Any, radius: Any, wanted: Any) -> tuple[Any, Any]:
        """Changes at all points of a fit, and the area that they really span over that meant."""
        points, areas = self._points(side, radius)
        return self._changed(self.ground.place.some(points, wanted)), areas

    def sample_every(self, side: Any, radius: Any) -> tuple[Any, Any]:
        """The same along all pairs."""
        points, areas = self._points(side, radius)
        _, outputs = evaluate_all(self.ground.place, points, [*self.centre], ride=False)
        return self._changed(outputs), areas

    def weigh(self, changes: Any, moved: Any, radius: Any) -> list[Evidence]:
        """What the fits make of a set of points, on crossed lines and, with walls, on a ray."""
        xp, r = self.xp, radius.astype(self.dtype)[..., None]
        share = moved.astype(self.dtype)[..., None]
        one, two, three, four = (changes[k : k + 8] for k in range(0, 32, 8))
        even = (one + two) + (three + four)
        both = ((one + two) - (three + four)) / share
        # Every part has the noise of half a difference of two values.
        parts = [both / 8**0.5, even / 8**0.5, (one - two) / 2, (three - four) / 2]
        found = [weigh(xp, self.fits[0], xp.concatenate(parts), r)]
        if self.ground.boxed:
            row = xp.concatenate([xp.zeros_like(changes[:1]), changes])
            found.append(weigh(xp, self.fits[1], row, r))
        return found

    @property
    def fits(self) -> tuple[Fits, Fits]:
        return crossed_fits(), ray_fits()

    def mixed(
        self, side: Any, best: BestFit, diagonal: Any, errors: Any, bar: float
    ) -> tuple[Any, Any]:
        """The mixed derivatives, and bounds of their errors.

        Args:
            side: 0 where points lie on crossed lines, 1 on a ray.
            best: the best fits.
            diagonal: the second derivatives along all coordinates, shape ``(*lead, N, O)``.
            errors: bounds of their errors.
            bar: a bound is this many times the error that a fit promises.
        """
        xp = self.xp
        one, two = (unit.astype(self.dtype)[..., None] for unit in self.units)
        value, error = best.value / (8**0.5 * one * two), bar * best.error / (8**0.5 * one * two)
        if not self.ground.boxed:
            return value, error
        # A curvature along a ray is made of three.
        first, second = (constant(xp, diagonal)[..., p, :] for p in self.pairs)
        sign = (self.away[0] * self.away[1]).astype(self.dtype)[..., None]
        along = (best.value - first * one**2 - second * two**2) / (2 * sign * one * two)
        first, second = (errors[..., p, :] for p in self.pairs)
        rough = (bar * best.error + first * one**2 + second * two**2) / (2 * one * two)
        ray = (side != 0)[..., None]
        return xp.where(ray, along, value), xp.where(ray, rough, error)

    def odd(self, changes: Any, moved: Any, radius: Any) -> Any:
        """None: what lies beyond a fit is looked for along coordinates only."""
        del moved, radius
        return changes[:0]

    def _changed(self, outputs: Sequence[Any]) -> Any:
        return self.ground.changes(outputs, self.centre, self.dtype)[0]

    def _points(self, side: Any, radius: Any) -> tuple[Coordinates, Any]:
        xp, ground = self.xp, self.ground
        ray = side != 0
        apart, area = [], 1.0
        crossed = (_FIRST, _SECOND)
        x = flatten(xp, [constant(xp, leaf) for leaf in ground.leaves], len(ground.place.lead))
        for entry, unit, away, shares in zip(
            self.pairs, self.units, self.away, crossed, strict=True
        ):
            still = x[..., entry]
            wanted = radius * unit / 8
            # One spacing for all points: else what is linear would not cancel.
            spacing = _rounded(ground, entry, still + wanted) - still
            t = xp.where(ray, column(_RAY, unit) * (away * wanted), column(shares, unit) * spacing)
            apart.append(_inside(ground, entry, _rounded(ground, entry, still + t)))
            area = area * xp.where(ray, 1.0, spacing / wanted)
        if ground.repeats > 1:
            apart = [xp.concatenate([values] * ground.repeats) for values in apart]
        points = Coordinates(
            ground.leaves,
            ground.place.lead,
            apart[0],
            tuple(p.astype(np.int32) for p in self.pairs),
            tuple(apart),
        )
        return points, area


def _rounded(ground: Ground, entry: np.ndarray, values: Float[Any, "*k m"]) -> Any:
    """Values of entries in the dtypes of their leaves, as far as a row of all can show."""
    xp, axis = ground.place.xp, len(ground.place.lead)
    sizes = [int(np.prod(x.shape[axis:], dtype=int)) for x in ground.leaves]
    owner = np.repeat(np.arange(len(sizes)), sizes)[entry]
    for dtype in {x.dtype for x in ground.leaves} - {values.dtype}:
        own = np.array([x.dtype == dtype for x in ground.leaves])[owner]
        values = xp.where(own, values.astype(dtype).astype(values.dtype), values)
    return values


def _inside(ground: Ground, entry: np.ndarray, values: Float[Any, "*k m"]) -> Any:
    """Values of entries, none of them outside its box."""
    xp, axis = ground.place.xp, len(ground.place.lead)
    if not ground.boxed:
        return values
    lower, upper = (
        flatten(xp, [getattr(box, wall) for box in ground.boxes], axis)[..., entry]
        for wall in ("lower", "upper")
    )
    return xp.clip(values, lower, upper)
