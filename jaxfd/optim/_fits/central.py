"""Jacobians by central differences: of order two, and of order four where parameters are alike.

It must not know when they are asked for.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from jaxfd.optim._fits.closer import Line
from jaxfd.optim._fits.rounding import drowned
from jaxfd.optim._fits.scatter import Scatter
from jaxfd.optim._fits.slopes import FARTHEST, Searching, Slopes, Talk
from jaxfd.optim._fits.straight import Straight

# Central differences without noise.
_CENTRAL = 6e-6
# Steps of order four, and how alike columns must be for them.
_WIDE, _HARD = 5e-4, 1e-4
# Steps to both sides differ by no more than this share of them, or one is longer for a wall.
_ALIKE = 1e-6
# How often steps grow where a difference is drowned.
_GROWTHS = 4


class CentralDifferences:
    """Central differences around the best point of a search.

    Args:
        search: the search; its slopes are renewed here.
        scatter: what is known of its noise.
        straight: what is known of how far residuals are straight.
    """

    def __init__(self, search: Searching, scatter: Scatter, straight: Straight) -> None:
        self._search = search
        self._scatter = scatter
        self._straight = straight

    def renew(self) -> Talk:
        """Differences from both sides; where parameters are hard to tell apart, of order four."""
        yield from self._both_sides()
        slopes = self._search.slopes
        if slopes is None or self._search.noise > 0 or self._search.lost.any():
            return
        length = np.linalg.norm(slopes.jacobian, axis=0)
        unit = slopes.jacobian / np.where(length > 0, length, 1.0)
        s = np.linalg.svd(unit[:, length > 0], compute_uv=False)
        if s.size and s[-1] < _HARD * s[0]:
            yield from self._four_points()

    def _four_points(self) -> Talk:
        """Central differences of order four, where walls leave room and nothing fails."""
        search, model = self._search, self._search.model
        assert model is not None
        u, slopes = model.u, search.slopes
        assert slopes is not None
        h = (u + _WIDE * search.spans(u)) - u
        room = np.minimum(search.upper - u, u - search.lower) >= 2 * h
        if not room.any():
            return
        parts = [(u + np.diag(k * h))[room] for k in (-2, -1, 1, 2)]
        rows = yield np.concatenate(parts)
        a, b, c, d = rows.reshape(4, int(room.sum()), -1).transpose(0, 2, 1)
        found = (8 * (c - b) - (d - a)) / (12 * h[room])
        known = np.isfinite(found).all(0)
        blur = (search.eps() * search.heights(slopes.jacobian))[:, None] / h[room]
        jacobian, error = slopes.jacobian.copy(), slopes.error.copy()
        which = np.flatnonzero(room)[known]
        with np.errstate(invalid="ignore"):
            gap = np.abs(found - (c - b) / (2 * h[room]))
        jacobian[:, which] = found[:, known]
        error[:, which] = (gap * _WIDE + blur)[:, known]
        search.slopes = dataclasses.replace(slopes, jacobian=jacobian, error=error)

    def _pairs(
        self, u: Float[np.ndarray, "n"], share: float
    ) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
        """Two steps of each entry, to both sides where walls allow it; and their size."""
        search = self._search
        h = share * search.spans(u)
        if not search.walled:
            return (u + h) - u, (u - h) - u, h
        above, below = search.upper - u, u - search.lower
        both = (above >= h) & (below >= h)
        side = np.where(above >= below, 1.0, -1.0)
        h = np.where(both, h, np.minimum(h, np.maximum(above, below) / 2))
        one = np.where(both, h, side * h)
        two = np.where(both, -h, 2 * side * h)
        return (u + one) - u, (u + two) - u, h

    def _both_sides(self) -> Talk:
        """Differences from both sides, or where a wall or a failure forbids, from one."""
        search, model = self._search, self._search.model
        assert model is not None
        u, r, n = model.u, model.r, len(model.u)
        height = float(np.linalg.norm(r))
        noise = max(search.eps(), search.noise / height if height > 0 else 0.0)
        share = min(max(_CENTRAL, noise ** (1 / 3)), 2 * FARTHEST)
        one, two, h = self._pairs(u, share)
        rows = yield np.concatenate([u + np.diag(one), u + np.diag(two)])
        ahead, back = rows[:n].copy(), rows[n:].copy()
        for _ in range(_GROWTHS):
            small = drowned(search, u, r, one, ahead, share, clear=True)
            if not small.any():
                break
            fresh = self._pairs(u, share)
            points = [(u + np.diag(t))[small] for t in fresh[:2]]
            found = yield np.concatenate(points)
            ahead[small], back[small] = np.split(found, 2)
            one, two, h = (
                np.where(small, new, old) for new, old in zip(fresh, (one, two, h), strict=True)
            )
        # Rounding may make the two sides differ where a step is as large as its entry.
        alike = np.abs(one + two) <= _ALIKE * np.abs(one)
        if search.noise == 0:
            for k in self._scatter.suspicious(u, r, ahead, back):
                if not alike[k]:
                    continue
                step = one[k] * np.eye(n)[k]
                line = Line(step, -1.0, ahead[k], back[k])
                sigma = line.second(r) / 6**0.5
                look = yield from self._scatter.judge(u, r, line, sigma)
                if look is not None and not look.smooth:
                    yield from self._both_sides()
                    return
                if look is not None:
                    near = look.line
                    ahead[k], back[k] = near.one, near.two
                    one[k] = h[k] = near.step[k]
                    two[k] = -near.step[k]
        else:
            both = alike & np.isfinite(ahead).all(1) & np.isfinite(back).all(1)
            _, more = yield from self._straight.settle(u, r, one, ahead, back, -1.0, both, share)
            two, h = np.where(both, -one, two), np.where(both, np.abs(one), h)
            if more > 2 * search.noise:
                self._scatter.suit(more, height)
                yield from self._both_sides()
                return
        first, second = ahead.T, back.T
        known = np.isfinite(first).all(0), np.isfinite(second).all(0)
        with np.errstate(all="ignore"):
            s1, s2 = (first - r[:, None]) / one, (second - r[:, None]) / two
            # Exact for parabolas, whichever the two steps are.
            jacobian = (s1 * two - s2 * one) / (two - one)
            bend = np.abs(s1 - s2)
        jacobian = np.where(known[0] & known[1], jacobian, np.where(known[0], s1, s2))
        lost: np.ndarray = np.asarray(~known[0] & ~known[1])
        jacobian[:, lost] = model.jacobian[:, lost]
        blur = search.eps() * search.heights(jacobian) + search.noise / len(r) ** 0.5
        error = np.where(known[0] & known[1], bend * share, np.abs(jacobian) * share)
        error = error + blur[:, None] / h
        error[:, lost] = np.inf
        search.lost = lost
        search.slopes = Slopes(u, jacobian, error, True, h)
