"""Noise or curvature: a second difference that is large for so close by, looked at from closer.

A parameter may be large against the scale on which residuals bend, as the position of a narrow peak
is; then a step of a small share of it shows curvature. That falls with the square of the distance,
while noise stays. It must not know why a difference was taken for noise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator

import numpy as np
from jaxtyping import Float

from jaxfd.optim._fits.slopes import Rows, Searching

# A second difference of less than this share of the first is smooth.
SMOOTH = 1e-2
# How much closer: where a second difference is less than the share of the first, and where it may
# be that the step leaves behind all that bends.
_SLIGHT, _NEAR, NEARER = 0.5, 1e-2, 1e-4
# A second look, if the first one says neither.
_AGAIN = 0.1
# Noise stays: it does not fall by more than this.
STAYS = 0.25
# Curvature that is seen from closer explains what is seen from afar, up to this factor.
_EXPLAINS = 30.0
# So does a slope from where a step leads out: it is so many times as steep closer by.
_STEEPER = 2.0
# Differences of fewer times the rounding of their values say nothing.
_CLEAR = 30.0
# A step of fewer spacings of the numbers around an entry is none of a certain length.
_SPACINGS = 1e4
_EPS = float(np.finfo(np.float64).eps)

Row = Float[np.ndarray, "m"]


@dataclasses.dataclass(frozen=True)
class Line:
    """Three points on a line: the centre, and two more.

    Attributes:
        step: from the centre to the first.
        other: where the second is, in steps: -1 or 2.
        one, two: the residuals at both.
    """

    step: Float[np.ndarray, "n"]
    other: float
    one: Row
    two: Row

    def first(self, r: Row) -> float:
        """The length of the first difference."""
        return float(np.linalg.norm(self.one - r))

    def second(self, r: Row) -> float:
        """The length of the second difference."""
        one, two = self.one - r, self.two - r
        return float(np.linalg.norm(two + one if self.other < 0 else two - 2 * one))


@dataclasses.dataclass(frozen=True)
class Look:
    """What a line turned out to be.

    Attributes:
        smooth: whether it is curved and not noisy.
        sigma: the standard deviation of the length of the residuals, if it is noise.
        line: the closest that there is.
        extent: how many steps of the line at first residuals are about straight for at least, as
            far as is known.
    """

    smooth: bool
    sigma: float
    line: Line
    extent: float = np.inf


def look_closer(
    search: Searching, u: Float[np.ndarray, "n"], r: Row, line: Line
) -> Generator[Float[np.ndarray, "k n"], Rows, Look]:
    """Tells noise from curvature, by two evaluations on the same line, or up to four.

    Args:
        search: the search.
        u: the centre.
        r: the residuals there.
        line: where a second difference is suspicious.
    """
    first, second = line.first(r), line.second(r)
    noise = Look(False, second / 6**0.5, line)
    moves = line.step != 0
    with np.errstate(all="ignore"):
        spacings = float(
            np.min(np.abs(line.step[moves]) / (_EPS * np.abs(u[moves])), initial=1e300)
        )
        rounding = search.eps() * (
            float(np.linalg.norm(r)) + first * float(np.max(np.abs(u[moves] / line.step[moves])))
        )
    if not (first > 0 and np.isfinite(rounding)):
        return noise
    share, before, wild = 1.0, second, second >= _SLIGHT * first
    least = max(_SPACINGS / spacings, _CLEAR * rounding / first)
    for closer in (NEARER if wild else _NEAR, _AGAIN):
        share, last = max(closer * share, least), share
        if not share < 0.5 * last:
            break
        step = (u + share * line.step) - u
        points = np.array([u + step, u + line.other * step])
        points = np.clip(points, search.lower, search.upper)
        if wild and search.width == 1:
            rows = yield points[:1]
            if float(np.linalg.norm(rows[0] - r)) > STAYS * first:
                return noise
            rows = np.concatenate([rows, (yield points[1:])])
        else:
            rows = yield points
        near = Line(step, line.other, rows[0], rows[1])
        change, bend = near.first(r), near.second(r)
        if not np.isfinite(bend) or change <= _CLEAR * share * rounding:
            # Where nothing changes between two steps of stairs, nothing is told.
            break
        extent = _extent(share, change, bend, rounding, r)
        if bend <= SMOOTH * change:
            curved = _EXPLAINS * (bend + rounding) >= second * share**2
            steeper = change >= _STEEPER * share * first
            if curved or steeper:
                return Look(True, 0.0, near, extent)
            break
        noise = Look(False, bend / 6**0.5, near, extent)
        if bend > STAYS * before:
            break
        before = bend
    return noise


def _extent(share: float, change: float, bend: float, rounding: float, r: Row) -> float:
    """How far residuals are about straight, by a second difference in this share of the step."""
    slope, curvature = change / share, max(bend, rounding) / share**2
    # Where the slope happens to be nothing, what bends residuals by their own length counts.
    return max(slope / curvature, math.sqrt(float(np.linalg.norm(r)) / curvature))
