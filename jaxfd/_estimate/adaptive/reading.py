"""A search seen as numbers: points laid out on ladders and in fits, and what they tell.

What `ladder` and `fits` read, to both sides of ``x`` or to one, entry by entry. Must not know in
which order ladders and fits follow one another; the rooms that do ask here at each of their steps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jax import tree_util

from jaxfd._arrays import column, constant
from jaxfd._estimate.adaptive.fits import (
    BestFit,
    Evidence,
    Fits,
    judge,
    one_sided_fits,
    two_sided_fits,
    weigh,
)
from jaxfd._estimate.adaptive.ground import ONE_SIDED, Ground
from jaxfd._estimate.adaptive.ladder import (
    SPAN as SPAN,
    Reading,
    one_sided_ladder,
    read,
    two_sided_ladder,
)
from jaxfd._estimate.found import evaluate_all


def _symmetric(shares: Sequence[float]) -> np.ndarray:
    return np.array([*shares, *(-s for s in shares)]) / 8


# The fits' points in units of the radius: to both sides, to one.
POINTS = (_symmetric(range(1, 9)), np.arange(1, ONE_SIDED + 1) / ONE_SIDED)
# Those of them that are no rungs of the ladder: with the radius on a rung, half-way to the
# next, and to one side.
_FRESH = (
    _symmetric([1, 3, 4, 5, 6, 7]),
    _symmetric([2, 3, 5, 6, 7, 8]),
    np.array([3, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 15.5]) / 16,
)
# For each of these cases, where every point is found in ``[*fresh, *ladder]``, if the radius is
# that of the first rung.
_SOURCE = np.array(
    [
        [0, 13, 1, 2, 3, 4, 5, 12, 6, 18, 7, 8, 9, 10, 11, 17],
        [14, 0, 1, 13, 2, 3, 4, 5, 19, 6, 7, 18, 8, 9, 10, 11],
        [16, 15, 0, 14, 1, 2, 3, 13, 4, 5, 6, 7, 8, 9, 10, 12],
    ],
    np.int32,
)
# What all fits leave alike is no truncation, and where it is so many times the noise, no noise.
_ABOVE = 10.0
# Points of a fit, and those of them that the ladder does not have.
FIT_POINTS, FRESH_POINTS = len(POINTS[0]), len(_FRESH[0])
# How many times the top of a ladder may be halved for the radius: to both sides, to one.
_HALVINGS = (6, 5)


@dataclasses.dataclass(frozen=True)
class Search:
    """What does not change from round to round.

    Attributes:
        ground: the coordinates.
        centre: the outputs at ``x``.
        dtype: what everything is computed in.
        noise: the least noise, shape ``(*lead, N, O)``.
        lift: by how much it may be larger.
        floor: what is left by any fit at least.
        rounding: the part of the noise that is rounding.
        grid: the grid that values lie on, shape ``(*lead, 1, O)``.
        derivative: the order of the derivative.
    """

    ground: Ground
    centre: Sequence[Any]
    dtype: Any
    noise: Any
    lift: Any
    floor: Any
    rounding: Any
    grid: Any
    derivative: int = 1

    # Points of a fit; an entry gets no further one where that would pass so many evaluations.
    fit_points: ClassVar[int] = FIT_POINTS
    most: ClassVar[int] = 60

    @property
    def xp(self) -> Any:
        return self.ground.place.xp

    def sample(self, distances: Any, wanted: Any) -> tuple[Any, Any]:
        """Changes at signed distances along the wanted coordinates, and the distances moved."""
        points, moved = self.ground.points(distances)
        outputs = self.ground.place.some(points, wanted)
        return self.ground.changes(outputs, self.centre, self.dtype)[0], moved

    def sample_fit(self, side: Any, radius: Any, wanted: Any) -> tuple[Any, Any]:
        """The same at all points of a fit."""
        return self.sample(spread(self.xp, side, radius), wanted)

    def sample_all(self, distances: Any, centre: Any) -> tuple[Any, Any]:
        """The same along all coordinates."""
        points, moved = self.ground.points(distances)
        _, outputs = evaluate_all(self.ground.place, points, centre, ride=False)
        return self.ground.changes(outputs, self.centre, self.dtype)[0], moved

    @property
    def fits(self) -> tuple[Fits, Fits]:
        """The fits to both sides, and to one."""
        return two_sided_fits(self.derivative), one_sided_fits(self.derivative)

    def sign(self, side: Any) -> Any:
        """-1 where an odd derivative looks below ``x`` only, else 1."""
        below = -1.0 if self.derivative % 2 else 1.0
        return self.xp.where(side < 0, below, 1.0).astype(self.dtype)[..., None]

    def per_radius(self, gain: Any, radius: Any) -> Any:
        """The error of the derivative for noise of size 1."""
        return gain / radius.astype(self.dtype)[..., None] ** self.derivative

    @property
    def _both(self) -> tuple[bool, ...]:
        """Whether to look to one side, for each way there is: only walls make that necessary."""
        return (False, True) if self.ground.boxed else (False,)

    def _pick(self, side: Any, found: Sequence[Any]) -> Any:
        """What was found to both sides, or to one."""
        if len(found) == 1:
            return found[0]
        even = (side == 0)[..., None]
        return tree_util.tree_map(lambda a, b: self.xp.where(even, a, b), *found)

    def read(self, side: Any, changes: Any, moved: Any, top: Any) -> Reading:
        """What a ladder tells."""
        xp, top = self.xp, top.astype(self.dtype)[..., None]
        changes, found = constant(xp, changes), []
        for single in self._both:
            ladder = (one_sided_ladder if single else two_sided_ladder)(self.derivative)
            data = (row if single else halves)(xp, changes, moved, ladder.offsets, top)
            found.append(read(xp, ladder, data, top, self.noise, self.lift))
        best: Reading = self._pick(side, found)
        sign = self.sign(side)
        return best._replace(slope=best.slope * sign, rough=best.rough * sign)

    def weigh(self, changes: Any, moved: Any, radius: Any) -> list[Evidence]:
        """What the fits make of a set of points, to both sides and, with walls, to one."""
        xp, r = self.xp, radius.astype(self.dtype)[..., None]
        two, one = self.fits
        found = [weigh(xp, two, halves(xp, changes, moved, POINTS[0], r), r)]
        if self.ground.boxed:
            data = row(xp, changes, moved, POINTS[1], r)
            data = xp.concatenate([xp.zeros_like(data[:1]), data])
            found.append(weigh(xp, one, data, r))
        return found

    def odd(self, changes: Any, moved: Any, radius: Any) -> Any:
        """The odd parts at the points of a fit to both sides, shape ``(8, *lead, N, O)``."""
        r = radius.astype(self.dtype)[..., None]
        parts = halves(self.xp, constant(self.xp, changes), moved, POINTS[0], r)
        return parts[: len(parts) // 2]

    def judge(self, side: Any, evidence: Sequence[Evidence]) -> BestFit:
        """The best fit."""
        # Changes are rounded too, where they are larger than the value at x.
        eps = (self.ground.eps / 2).astype(self.dtype)[:, None]
        found = []
        for f, e in zip(self.fits, evidence, strict=False):
            moves = self.xp.max(self.xp.abs(e.slope), axis=0) > 0
            floor = self.xp.maximum(self.floor, self.xp.where(moves, e.unit * eps, 0))
            found.append(judge(self.xp, f, e, floor))
        best: BestFit = self._pick(side, found)
        sign, seen = self.sign(side), best.left > _ABOVE * self.noise
        jumps = best.jumps & seen
        return best._replace(value=best.value * sign, wide=best.wide * sign, jumps=jumps)

    def score(self, error: Any) -> Any:
        """One number for the errors of all outputs along a coordinate."""
        least = np.finfo(self.dtype).tiny
        total = self.xp.sum(self.xp.log2(self.xp.maximum(error, least)), axis=-1)
        return total / max(1, error.shape[-1])


def halves(xp: Any, changes: Any, moved: Any, shares: np.ndarray, radius: Any) -> Any:
    """Odd and even parts of changes to both sides, as if they were exactly at the shares."""
    m = len(shares) // 2
    t = column(shares[:m], radius) * radius
    above, below = moved[:m, ..., None].astype(t.dtype), -moved[m:, ..., None].astype(t.dtype)
    slope = (changes[:m] - changes[m:]) / (above + below)
    even = (changes[:m] + changes[m:]) / 2 - slope * ((above - below) / 2)
    return xp.concatenate([slope * t, even])


def row(xp: Any, changes: Any, moved: Any, shares: np.ndarray, radius: Any) -> Any:
    """Changes to one side, as if they were exactly at the shares."""
    t = column(shares, radius) * radius
    return changes * (t / xp.abs(moved[..., None]).astype(t.dtype))


def rungs(xp: Any, side: Any, top: Any) -> Any:
    """The signed distances of a ladder's points."""
    two, one = two_sided_ladder().offsets, one_sided_ladder().offsets
    return xp.where(side == 0, column(two, top) * top, column(one, top) * (side * top))


def fresh(xp: Any, side: Any, halvings: Any, radius: Any) -> Any:
    """The signed distances of a fit's points that the ladder does not have."""
    shares = [column(share, radius) for share in _FRESH]
    two = xp.where(halvings % 2 == 0, shares[0], shares[1])
    return xp.where(side == 0, two * radius, shares[2] * (side * radius))


def spread(xp: Any, side: Any, radius: Any) -> Any:
    """The signed distances of all points of a fit."""
    two, one = (column(points, radius) for points in POINTS)
    return xp.where(side == 0, two * radius, one * (side * radius))


def gather(xp: Any, side: Any, halvings: Any, new: Any, old: Any) -> Any:
    """The points of a fit in order, from the fresh ones and the ladder's."""
    case = xp.where(side == 0, halvings % 2, 2)
    table = xp.asarray(_SOURCE.T)
    where = table[:, case]
    rung = xp.where(side == 0, halvings // 2, halvings).astype(np.int32)
    where = where + xp.where(where >= FRESH_POINTS, rung, 0)
    both = xp.concatenate([new, old])
    where = where.reshape(where.shape + (1,) * (both.ndim - where.ndim))
    return xp.take_along_axis(both, where, axis=0)


def halvings_of(xp: Any, side: Any, top: Any, radius: Any, changes: Any) -> Any:
    """How many times the top of a ladder is halved for a radius: within the finite rungs."""
    finite = xp.isfinite(changes)
    finite = finite | ~xp.any(finite, axis=0)  # an output that never is does not count
    finite = xp.all(finite, axis=-1)
    first_two = xp.argmax(finite[:5] & finite[5:], axis=0)
    first = xp.where(side == 0, 2 * first_two, xp.argmax(finite, axis=0))
    wide = xp.isfinite(radius) & (radius > 0)
    wanted = xp.where(wide, xp.ceil(xp.log2(top / xp.where(wide, radius, top))), 0)
    most = xp.where(side == 0, _HALVINGS[0], _HALVINGS[1])
    return xp.clip(xp.maximum(wanted.astype(first.dtype), first), 0, most)
