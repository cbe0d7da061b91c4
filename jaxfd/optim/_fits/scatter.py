"""The noise of residuals, from points that lie so close together that nothing else is seen.

It must not know which points are evaluated, nor when.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from jaxfd.optim._fits.slopes import FARTHEST, STEP, Rows, Searching

# A difference of more than this many times the step, in shares of the residuals, is suspicious.
_STEEP = 10.0
# The noise that is worth knowing, in shares of the residuals.
NOISE = 1e-9
# Points tell it where they scatter by more than this share of the change between them.
_SEEN = 1e-3
# The noise of a second difference, over the first one: that of a curve is far smaller.
_SCATTERED = 1e-2

Row = Float[np.ndarray, "m"]


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

    def in_a_row(self, r: Row, first: Row, second: Row) -> None:
        """Takes the noise from three points in a row."""
        bend = float(np.linalg.norm(second - 2 * first + r))
        self._take(bend, bend / 6**0.5, r, float(np.linalg.norm(first - r)))

    def together(self, r: Row, change: Row, moved: Row, n: int) -> None:
        """Takes the noise from a point where all entries moved, and the changes of each alone."""
        if n > 1:
            gap = float(np.linalg.norm(moved - r - change))
            sigma = gap / (1.0 + n + (n - 1) ** 2) ** 0.5
            self._take(gap, sigma, r, float(np.linalg.norm(moved - r)))

    def _take(self, seen: float, sigma: float, r: Row, change: float) -> None:
        height = float(np.linalg.norm(r))
        if not np.isfinite(seen) or height == 0:
            return
        worth = sigma > NOISE * height and seen > _SEEN * change
        if worth or self._search.noise > 0:
            self.suit(sigma, height)

    def shows(self, u: Float[np.ndarray, "n"], r: Row, ahead: Rows, back: Rows) -> bool:
        """Whether second differences show noise, where curvature would show nothing so close by."""
        bend = np.linalg.norm(ahead + back - 2 * r, axis=1)
        own = np.isfinite(bend) & (self._search.sizes(u) <= np.abs(u))
        own &= bend > _SCATTERED * np.linalg.norm(ahead - back, axis=1)
        height = float(np.linalg.norm(r))
        if not own.any() or height == 0:
            return False
        sigma = float(np.median(bend[own])) / 6**0.5
        if sigma <= NOISE * height:
            return False
        self.suit(sigma, height)
        return True

    def suit(self, sigma: float, height: float) -> None:
        """Takes notice of the noise of residuals of this length, and steps as far as suits it."""
        search = self._search
        search.noise = sigma
        # Entries were taken for larger where noise was taken for rounding.
        search.floor = search.least_sizes
        self.share = min(max(self.least(), 2 * (sigma / height) ** 0.5), FARTHEST)
