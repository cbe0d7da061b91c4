"""Steps under noise that are no longer than residuals are straight for.

Noise asks for long steps, by the sizes of the entries at first; where residuals bend sooner than
that, a second difference shows it. It must not know what the differences are for.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from jaxtyping import Bool, Float

from jaxfd.optim._fits.slopes import Rows, Searching

# Changes of more than so many times what a step of this share should make of the residuals, or of
# more than all of them, may be those of a step that is too long.
_LARGE = 10.0
# A second difference is that of a curve above so many times its noise, and this share of the first.
_CLEAR, _BENT = 3 * 6**0.5, 0.3
# By how much at most steps shrink at once, and how often they do.
_MOST, _TIMES = 1e-3, 8
# A second difference that falls does so to this share.
_FALLS = 0.25
# Steps are not shorter than this share of what they were, or so many spacings of numbers; and need
# not be longer where they are straight for more than the inverse of this of what is bent.
_LEAST, _SPACINGS, _NEAR = 1e-10, 1e4, 10.0
_EPS = float(np.finfo(np.float64).eps)

Entries = Bool[np.ndarray, "n"]
Values = Float[np.ndarray, "n"]


class Straight:
    """What is known of how far residuals are straight.

    Args:
        search: the search, whose extents are renewed here.
    """

    def __init__(self, search: Searching) -> None:
        self._search = search
        # Steps up to this length were found to be straight.
        self._known = np.zeros(len(search.u))

    def doubtful(self, h: Values, rows: Rows, r: Float[np.ndarray, "m"], share: float) -> Entries:
        """Entries whose steps may be too long, by what they change."""
        height = float(np.linalg.norm(r))
        change = np.linalg.norm(rows - r, axis=1)
        large = change > min(_LARGE * share, 1.0) * height
        found: np.ndarray = np.isfinite(change) & large & (np.abs(h) > 2 * self._known)
        return found

    def settle(
        self,
        u: Values,
        r: Float[np.ndarray, "m"],
        h: Values,
        one: Rows,
        two: Rows,
        other: float,
        which: Entries,
        share: float,
    ) -> Generator[Float[np.ndarray, "k n"], Rows, tuple[Entries, float]]:
        """Shrinks steps for as long as second differences are those of a curve.

        Steps and rows change in place, but for entries whose second differences do not fall: they
        are noisier than is known.

        Args:
            u: the point.
            r: the residuals there.
            h: the steps.
            one: residuals after each of them.
            two: residuals after other multiples of them.
            other: which: -1 or 2.
            which: entries that are looked at.
            share: what share of the entries' spans steps are.

        Returns:
            Entries whose steps are shorter now, and the noise of those that are noisier; else 0.
        """
        search, before = self._search, (h.copy(), one.copy(), two.copy())
        least = np.maximum(_SPACINGS * _EPS * np.abs(u), _LEAST * np.abs(h))
        bent, bend = self._bent(r, one, two, other, which)
        straight = which & ~bent
        self._known = np.where(straight, np.maximum(self._known, np.abs(h)), self._known)
        good, bad = np.zeros(len(h)), np.abs(h)
        found = h.copy(), one.copy(), two.copy()
        falls, open_ = np.ones(len(h), bool), bent
        for _ in range(_TIMES):
            if not open_.any():
                break
            # As a parabola would have it; where a step leads out of all that bends, from below.
            with np.errstate(all="ignore"):
                new = bad * np.clip(2 * np.sqrt(search.noise / bend), _MOST, 0.5)
            new = np.where(falls, new, np.where(good > 0, np.sqrt(good * bad), least))
            h[open_] = ((u + np.sign(h) * new) - u)[open_]
            ends = [(u + np.diag(k * h))[open_] for k in (1.0, other)]
            one[open_], two[open_] = np.split((yield np.concatenate(ends)), 2)
            last = bend
            bent, bend = self._bent(r, one, two, other, open_)
            fine = open_ & ~bent
            for kept, now in zip(found, (h, one, two), strict=True):
                kept[fine] = now[fine]
            good, bad = np.where(fine, np.abs(h), good), np.where(bent, np.abs(h), bad)
            hopeless = bent & (np.abs(h) <= 2 * least)
            close = fine & (falls | (bad < _NEAR * good))
            falls = bent & falls & (bend < _FALLS * last)
            bend = np.where(bent, bend, last)
            open_ = open_ & ~hopeless & ~close
        shorter = good > 0
        for new, old, first in zip((h, one, two), found, before, strict=True):
            new[:] = first
            new[shorter] = old[shorter]
        search.extent = np.where(shorter, good / share, search.extent)
        left = which & ~straight & ~shorter
        noise = float(np.max(bend[left], initial=0.0)) / 6**0.5
        return np.asarray(shorter), noise

    def _bent(
        self, r: Float[np.ndarray, "m"], one: Rows, two: Rows, other: float, which: Entries
    ) -> tuple[Entries, Values]:
        """Entries whose second differences are those of a curve, and all second differences."""
        inner = one + two - 2 * r if other < 0 else two - 2 * one + r
        bend, change = np.linalg.norm(inner, axis=1), np.linalg.norm(two - one, axis=1)
        bent = which & (bend > _CLEAR * self._search.noise) & (bend > _BENT * change)
        return np.asarray(bent), bend

    def forwards(
        self, u: Values, r: Float[np.ndarray, "m"], h: Values, rows: Rows, share: float
    ) -> Generator[Float[np.ndarray, "k n"], Rows, tuple[bool, float]]:
        """Shrinks the steps of differences to one side; steps and rows change in place.

        Returns:
            Whether any did, and the noise of those that are noisier than is known; else 0.
        """
        which = self.doubtful(h, rows, r, share)
        if not which.any():
            return False, 0.0
        beyond = np.full_like(rows, np.nan)
        beyond[which] = yield (u + 2 * np.diag(h))[which]
        shorter, noise = yield from self.settle(u, r, h, rows, beyond, 2.0, which, share)
        return bool(shorter.any()), noise
