"""Jacobians by differences for a search: on each entry's own scale, as noise and walls allow.

Noise is noticed by a third point in a row, for which one evaluation is spent where a difference
looks suspicious or steps fail. This room must not know how steps are chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator

import numpy as np
from jaxtyping import Float

from jaxfd.optim._fits.model import ResidualModel
from jaxfd.optim._fits.rounding import drowned
from jaxfd.optim._fits.scatter import NOISE, Scatter
from jaxfd.optim._fits.slopes import FARTHEST, Rows, Searching, Slopes, Talk
from jaxfd.optim._status import Status

# Central differences without noise.
_CENTRAL = 6e-6
# Steps of order four, and how alike columns must be for them.
_WIDE, _HARD = 5e-4, 1e-4
# How far beside a point its noise is looked at, in shares of an entry's size.
_BESIDE = 1e-7
# How often steps grow where a difference is drowned.
_GROWTHS = 4


class Differences:
    """Differences around the best point of a search.

    Args:
        search: the search; its model and slopes are renewed here.
    """

    def __init__(self, search: Searching) -> None:
        self._search = search
        self._scatter = Scatter(search)

    def _model(self) -> ResidualModel:
        assert self._search.model is not None
        return self._search.model

    def begin(self) -> Talk:
        """The first batch: the start, and points around it."""
        search = self._search
        u, n = search.u, len(search.u)
        if search.known is not None:
            rows = yield u[None]
            if np.all(np.isfinite(rows[0])):
                search.model = ResidualModel(u, rows[0], search.known, search.curved)
            else:
                search.status = Status.FAILED
            return
        self._scatter.share = self._scatter.least()
        h = self._steps(u, self._scatter.share)
        points = u + np.diag(h)
        whole = search.width > 1 or n == 1
        batch = [u[None], points] if whole else [u[None], points[:1]]
        rows = yield np.concatenate(batch)
        r = rows[0]
        if not np.all(np.isfinite(r)):
            search.status = Status.FAILED
            return
        # Only now is it known how coarse the values are.
        coarse = self._scatter.least()
        model = search.model = ResidualModel(u, r, np.zeros((len(r), n)), search.curved)
        coarser, self._scatter.share = coarse > self._scatter.share, coarse
        if (yield from self._steps_grow(r, rows[1:], h, coarser)):
            yield from self.renew(measure=False)
            return
        if not whole:
            others = yield points[1:]
            if (yield from self._steps_grow(r, others, h, False, 1)):
                yield from self.renew(measure=False)
                return
            rows = np.concatenate([rows, others])
        before = search.floor
        yield from self._weigh_forward(u, r, h, rows[1:])
        model.jacobian = search.slopes.jacobian if search.slopes is not None else model.jacobian
        model.renew(model.jacobian, np.ones(n))
        # What is seen only farther away may be a jump from one digit to the next.
        grown = bool((search.floor > before).any())
        if grown and (yield from self.look_at_noise()):
            yield from self.renew(measure=False)

    def _steps_grow(
        self,
        r: Float[np.ndarray, "m"],
        rows: Rows,
        h: Float[np.ndarray, "n"],
        coarser: bool,
        first: int = 0,
    ) -> Generator[Float[np.ndarray, "k n"], Rows, bool]:
        """Looks for noise where the first differences look like it; whether it needs longer steps.

        Args:
            r: the residuals at the start.
            rows: at points beside it.
            h: the steps.
            coarser: whether values turned out to be coarser than assumed.
            first: which entry the first of these points moves.
        """
        search = self._search
        change = np.linalg.norm(rows - r, axis=1)
        steep = [k for k in range(len(rows)) if self._scatter.is_steep(rows[k] - r, r)]
        if not (coarser or steep or (change == 0).any()):
            return False
        height, coarse = float(np.linalg.norm(r)), search.coarse()
        before = self._scatter.share
        if height > 0 and coarse > NOISE * height:
            self._scatter.suit(coarse, height)
        elif coarser or steep:
            k = steep[0] if steep else 0
            second = yield (search.u + 2 * h[first + k] * np.eye(len(h))[first + k : first + k + 1])
            self._scatter.in_a_row(r, rows[k], second[0])
        return self._scatter.share > before or coarser

    def around(self, u: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n n"]:
        """The points for forward differences at a point that is not the centre yet."""
        points: np.ndarray = u + np.diag(self._steps(u, self._scatter.share))
        return points

    def weigh(self, rows: Rows) -> Talk:
        """Makes the Jacobian of residuals at the points `around` what is the centre by now."""
        model = self._model()
        h = np.diag(self.around(model.u)) - model.u
        yield from self._weigh_forward(model.u, model.r, h, rows)
        self._renew_model()

    def renew(self, central: bool = False, measure: bool = True) -> Talk:
        """A new Jacobian at the centre; where there is noise, that is measured anew."""
        search, model = self._search, self._model()
        u, r, n = model.u, model.r, len(model.u)
        if central:
            yield from self._central()
        else:
            h = self._steps(u, self._scatter.share)
            points = u + np.diag(h)
            noisy = search.noise > 0 and measure
            if noisy:
                points = np.concatenate([points, (u + h)[None]])
            rows = yield points
            if noisy:
                self._scatter.together(r, (rows[:n] - r).sum(0), rows[n], n)
            yield from self._weigh_forward(u, r, h, rows[:n])
        self._renew_model()

    def _renew_model(self) -> None:
        search, model = self._search, self._model()
        if search.slopes is not None:
            columns = np.linalg.norm(search.slopes.jacobian, axis=0)
            size = search.sizes(model.u)
            most = float(np.max(columns * size, initial=0.0)) or 1.0
            scale = np.where(columns > 1e-12 * most / size, columns, most / size)
            model.renew(search.slopes.jacobian, scale)

    def look_at_noise(self) -> Generator[Float[np.ndarray, "k n"], Rows, bool]:
        """Spends an evaluation on the noise; whether steps must become longer for it."""
        search, model = self._search, self._model()
        slopes = search.slopes
        if slopes is None or slopes.u is not model.u or slopes.central:
            return False
        before, n = self._scatter.share, len(model.u)
        # All entries at once: noise may follow any of them.
        h = np.where(search.lost, 0.0, slopes.steps)
        rows = yield (model.u + (h if n > 1 else 2 * h))[None]
        if n > 1:
            change = (slopes.jacobian * h).sum(1)
            self._scatter.together(model.r, change, rows[0], n)
        else:
            self._scatter.in_a_row(model.r, model.r + slopes.jacobian[:, 0] * h[0], rows[0])
        return self._scatter.share > 2 * before

    def measure_again(self) -> Talk:
        """Spends two evaluations beside the centre on the noise as it is there."""
        search, model = self._search, self._model()
        u = model.u
        h = _BESIDE * search.sizes(u) * np.where(np.arange(len(u)) % 2, -1.0, 1.0)
        points = np.clip(np.array([u + h, u - h]), search.lower, search.upper)
        rows = yield points
        bend = float(np.linalg.norm(rows[0] - 2 * model.r + rows[1]))
        height = float(np.linalg.norm(model.r))
        if np.isfinite(bend) and height > 0:
            self._scatter.suit(bend / 6**0.5, height)

    def _steps(self, u: Float[np.ndarray, "n"], share: float) -> Float[np.ndarray, "n"]:
        """Steps with a sign: forwards where there is room."""
        search = self._search
        h = share * search.sizes(u)
        above, below = search.upper - u, u - search.lower
        h = np.minimum(h, np.maximum(above, below) / 2)
        h = np.where((above >= 2 * h) | (above >= below), h, -h)
        # What is divided by is what is stepped.
        realised: np.ndarray = (u + h) - u
        return realised

    def _weigh_forward(
        self,
        u: Float[np.ndarray, "n"],
        r: Float[np.ndarray, "m"],
        h: Float[np.ndarray, "n"],
        rows: Rows,
    ) -> Talk:
        search = self._search
        rows = rows.copy()
        bad = ~np.isfinite(rows).all(1)
        h = h.copy()
        if bad.any():
            back = u - np.diag(h)
            inside = ((back >= search.lower) & (back <= search.upper)).all(1) & bad
            if inside.any():
                rows[inside] = yield back[inside]
                h[inside] = -h[inside]
            bad = np.asarray(~np.isfinite(rows).all(1))
        search.lost = bad
        yield from self._out_of_rounding(u, r, h, rows)
        old = self._model().jacobian
        jacobian = ((rows - r) / h[:, None]).T
        jacobian[:, bad] = old[:, bad]
        blur = search.eps() * search.heights(jacobian) + search.noise / len(r) ** 0.5
        error = np.abs(jacobian) * self._scatter.share + (blur[:, None] / np.abs(h))
        error[:, bad] = np.inf
        search.slopes = Slopes(u, jacobian, error, False, h)

    def _out_of_rounding(
        self,
        u: Float[np.ndarray, "n"],
        r: Float[np.ndarray, "m"],
        h: Float[np.ndarray, "n"],
        rows: Rows,
    ) -> Talk:
        """Moves entries farther whose differences are drowned; steps and rows change in place."""
        for _ in range(_GROWTHS):
            small = drowned(self._search, u, r, h, rows, self._scatter.share)
            if not small.any():
                return
            new = np.where(small, self._steps(u, self._scatter.share), h)
            found = yield (u + np.diag(new))[small]
            which = np.flatnonzero(small)[np.isfinite(found).all(1)]
            rows[which], h[which] = found[np.isfinite(found).all(1)], new[which]
            if len(which) < small.sum():
                return

    def _central(self) -> Talk:
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
        search, model = self._search, self._model()
        u, slopes = model.u, search.slopes
        assert slopes is not None
        h = (u + _WIDE * search.sizes(u)) - u
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
        h = share * search.sizes(u)
        above, below = search.upper - u, u - search.lower
        both = (above >= h) & (below >= h)
        side = np.where(above >= below, 1.0, -1.0)
        h = np.where(both, h, np.minimum(h, np.maximum(above, below) / 2))
        one = np.where(both, h, side * h)
        two = np.where(both, -h, 2 * side * h)
        return (u + one) - u, (u + two) - u, h

    def _both_sides(self) -> Talk:
        """Differences from both sides, or where a wall or a failure forbids, from one."""
        search, model = self._search, self._model()
        u, r, n = model.u, model.r, len(model.u)
        height = float(np.linalg.norm(r))
        noise = max(search.eps(), search.noise / height if height > 0 else 0.0)
        share = min(max(_CENTRAL, noise ** (1 / 3)), 2 * FARTHEST)
        one, two, h = self._pairs(u, share)
        rows = yield np.concatenate([u + np.diag(one), u + np.diag(two)])
        ahead, back = rows[:n].copy(), rows[n:].copy()
        for _ in range(_GROWTHS):
            small = drowned(search, u, r, one, ahead, share)
            if not small.any():
                break
            fresh = self._pairs(u, share)
            points = [(u + np.diag(t))[small] for t in fresh[:2]]
            found = yield np.concatenate(points)
            ahead[small], back[small] = np.split(found, 2)
            one, two, h = (
                np.where(small, new, old) for new, old in zip(fresh, (one, two, h), strict=True)
            )
        if search.noise == 0 and self._scatter.shows(u, r, ahead, back):
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
