"""The noise of residuals, from points that lie so close together that nothing else is seen.

What looks like noise is looked at from closer before it is believed. It must not know which
differences are made, nor when.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator

import numpy as np
from jaxtyping import Float

from jaxfd.optim._fits.closer import NEARER, SMOOTH, STAYS, Line, Look, look_closer
from jaxfd.optim._fits.slopes import FARTHEST, STEP, Rows, Searching

# A difference of more than this many times the step, in shares of the residuals, is suspicious.
_STEEP = 10.0
# The noise that is worth knowing, in shares of the residuals.
NOISE = 1e-9
# Points tell it where they scatter by more than this share of the change between them.
_SEEN = 1e-3
# A measured noise that is so many times as large as before may be curvature.
_GREW = 4.0
# A line bends less than this many times the noise only where there is none.
_LITTLE = 0.3
# Entries that do less than this share of what the main one does on a line are not spoken of.
_MAIN = 0.1

Point = Float[np.ndarray, "n"]
Row = Float[np.ndarray, "m"]
# Asks for points; returns what a closer look told, if there was one.
Judging = Generator[Float[np.ndarray, "k n"], Rows, Look | None]


class Scatter:
    """What is known of the noise, and steps that suit it.

    Args:
        search: the search, whose noise is renewed here.

    Attributes:
        share: the steps, in shares of the entries' sizes.
    """

    def __init__(self, search: Searching) -> None:
        self._search = search
        self.share = STEP

    def least(self) -> float:
        """The steps for values as coarse as those seen so far, without noise."""
        return float(max(STEP, self._search.eps() ** 0.5))

    def is_steep(self, change: Row, r: Row) -> bool:
        """Whether a difference looks like noise."""
        size = float(np.linalg.norm(change))
        return not np.isfinite(size) or size > _STEEP * self.share * float(np.linalg.norm(r))

    def is_there(
        self, u: Point, r: Row, step: Point, one: Row
    ) -> Generator[Float[np.ndarray, "k n"], Rows, bool]:
        """Whether a difference is as large far closer by: then it is noise, and taken notice of.

        Args:
            u: the centre.
            r: the residuals there.
            step: a step from there.
            one: the residuals after it.
        """
        beside = (u + NEARER * step) - u
        rows = yield (u + beside)[None]
        parts = np.array([r, one, rows[0]])
        near, far = (float(np.linalg.norm(row - r)) for row in (rows[0], one))
        if not (beside.any() and np.isfinite(near + far) and near > STAYS * far):
            return False
        self.suit(float(np.linalg.norm(parts - parts.mean(0))) / 2**0.5, float(np.linalg.norm(r)))
        return True

    def in_a_row(self, u: Point, r: Row, line: Line) -> Judging:
        """Takes the noise from three points in a row; what a closer look at them told, if any."""
        bend = line.second(r)
        return (yield from self._take(u, r, line, bend, bend / 6**0.5, line.first(r)))

    def together(self, u: Point, r: Row, step: Point, change: Row, moved: Row) -> Judging:
        """Takes the noise from a point where all entries moved.

        Args:
            u: the centre.
            r: the residuals there.
            step: how far each entry was moved.
            change: the sum of the changes of each alone.
            moved: the residuals where all moved.

        Returns:
            What a closer look told, if any.
        """
        n = len(u)
        if n == 1:
            return None
        gap = float(np.linalg.norm(moved - r - change))
        sigma = gap / (1.0 + n + (n - 1) ** 2) ** 0.5
        line = Line(step, 2.0, moved, np.full_like(r, np.nan))
        return (yield from self._take(u, r, line, gap, sigma, line.first(r)))

    def _take(
        self, u: Point, r: Row, line: Line, seen: float, sigma: float, change: float
    ) -> Judging:
        search, height = self._search, float(np.linalg.norm(r))
        if not np.isfinite(seen) or height == 0:
            return None
        worth = sigma > NOISE * height and seen > _SEEN * change
        if worth and sigma > _GREW * search.noise:
            return (yield from self.judge(u, r, line, sigma))
        if search.noise > 0:
            self.suit(sigma, height)
        return None

    def judge(self, u: Point, r: Row, line: Line, sigma: float) -> Judging:
        """Looks closer at a line, and takes notice of what is seen there.

        Args:
            u: the centre.
            r: the residuals there.
            line: points beside it; the second may not have been asked for yet.
            sigma: what it says of the noise, if it is noise.
        """
        if not np.isfinite(line.two).all():
            point = np.clip(u + line.other * line.step, self._search.lower, self._search.upper)
            rows = yield point[None]
            line = dataclasses.replace(line, two=rows[0])
            if not np.isfinite(rows).all() or line.second(r) < _LITTLE * sigma:
                return None
        look = yield from look_closer(self._search, u, r, line)
        if look.smooth or look.sigma <= NOISE * float(np.linalg.norm(r)):
            look = dataclasses.replace(look, smooth=True)
            self._shorten(line, look)
        else:
            self.suit(look.sigma, float(np.linalg.norm(r)))
        return look

    def _shorten(self, line: Line, look: Look) -> None:
        """Takes notice of how far residuals are straight along the entries that a line moves."""
        search = self._search
        assert search.model is not None
        slopes = np.linalg.norm(search.model.jacobian, axis=0)
        part = slopes * np.abs(line.step)
        moved = (line.step != 0) & (part >= _MAIN * part.max(initial=0.0))
        far = look.extent * np.abs(line.step)
        search.extent = np.where(moved, np.minimum(search.extent, far), search.extent)

    def suspicious(self, u: Point, r: Row, ahead: Rows, back: Rows) -> list[int]:
        """Entries whose second differences are large for so close by, the median one first."""
        bend = np.linalg.norm(ahead + back - 2 * r, axis=1)
        own = np.isfinite(bend) & (self._search.sizes(u) <= np.abs(u))
        own &= bend > SMOOTH * np.linalg.norm(ahead - back, axis=1)
        height = float(np.linalg.norm(r))
        # Beside residuals of nothing no noise has a share.
        own &= (bend > NOISE * 6**0.5 * height) & (height > 0)
        which = np.flatnonzero(own)
        which = which[np.argsort(bend[which])]
        middle = len(which) // 2
        return [int(k) for k in (*which[middle:], *which[:middle])]

    def suit(self, sigma: float, height: float) -> None:
        """Takes notice of the noise of residuals of this length, and steps as far as suits it."""
        search = self._search
        if height == 0:
            return
        # Between two steps of stairs nothing is seen of them.
        sigma = max(sigma, search.coarse())
        search.noise = sigma
        # Entries were taken for larger where noise was taken for rounding.
        search.floor = np.maximum(search.least_sizes, search.per_noise * sigma)
        self.share = min(max(self.least(), 2 * (sigma / height) ** 0.5), FARTHEST)
