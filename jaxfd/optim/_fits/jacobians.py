"""Jacobians by differences for a search: on each entry's own scale, as noise and walls allow.

Noise is noticed by a third point in a row, for which one evaluation is spent where a difference
looks suspicious or steps fail. This room must not know how steps are chosen.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from jaxtyping import Float

from jaxfd.optim._fits.central import CentralDifferences
from jaxfd.optim._fits.closer import Line
from jaxfd.optim._fits.model import ResidualModel
from jaxfd.optim._fits.rounding import drowned
from jaxfd.optim._fits.scatter import NOISE, Scatter
from jaxfd.optim._fits.slopes import Rows, Searching, Slopes, Talk
from jaxfd.optim._fits.straight import Straight
from jaxfd.optim._status import Status

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
        self._straight = Straight(search)
        self._central = CentralDifferences(search, self._scatter, self._straight)

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
            rows: at points beside it; closer ones where steps are too long for an entry.
            h: the steps, like those.
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
            for k in steep or [0]:
                step = h[first + k] * np.eye(len(h))[first + k]
                if steep and (yield from self._scatter.is_there(search.u, r, step, rows[k])):
                    break
                second = yield (search.u + 2 * step)[None]
                line = Line(step, 2.0, rows[k], second[0])
                look = yield from self._scatter.in_a_row(search.u, r, line)
                if look is None or not look.smooth:
                    break
                rows[k], h[first + k] = look.line.one, look.line.step[first + k]
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
            yield from self._central.renew()
        else:
            h = self._steps(u, self._scatter.share)
            points = u + np.diag(h)
            noisy = search.noise > 0 and measure
            if noisy:
                points = np.concatenate([points, (u + h)[None]])
            rows = (yield points).copy()
            shorter = False
            if search.noise > 0:
                share = self._scatter.share
                shorter, more = yield from self._straight.forwards(u, r, h, rows[:n], share)
                if more > 0:
                    self._scatter.suit(more, float(np.linalg.norm(r)))
            if noisy and shorter:
                rows[n:] = yield (u + h)[None]
            if noisy:
                change = (rows[:n] - r).sum(0)
                look = yield from self._scatter.together(u, r, h, change, rows[n])
                if look is not None and look.smooth:
                    yield from self.renew(measure=False)
                    return
            yield from self._weigh_forward(u, r, h, rows[:n])
        self._renew_model()

    def _renew_model(self) -> None:
        search, model = self._search, self._model()
        if search.slopes is not None:
            columns = np.linalg.norm(search.slopes.jacobian, axis=0)
            size = search.sizes(model.u)
            most = float(np.max(columns * size, initial=0.0)) or 1.0
            scale = np.where(columns > 1e-12 * most / size, columns, most / size)
            steps = scale * search.slopes.steps if search.noise > 0 else 0.0 * scale
            model.renew(search.slopes.jacobian, scale, float(steps @ steps) / len(steps))

    def look_at_noise(self) -> Generator[Float[np.ndarray, "k n"], Rows, bool]:
        """Spends an evaluation on the noise; whether steps must become longer for it."""
        search, model = self._search, self._model()
        slopes = search.slopes
        if slopes is None or slopes.r is None or slopes.central:
            return False
        # A step that was taken does not matter: it is the differences that are looked at.
        u, r = slopes.u, slopes.r
        before, extent, n = self._scatter.share, search.extent, len(u)
        # All entries at once: noise may follow any of them.
        h = np.where(search.lost, 0.0, slopes.steps)
        rows = yield (u + (h if n > 1 else 2 * h))[None]
        change = (slopes.jacobian * h).sum(1)
        if n > 1:
            yield from self._scatter.together(u, r, h, change, rows[0])
        else:
            line = Line(h, 2.0, r + change, rows[0])
            yield from self._scatter.in_a_row(u, r, line)
        if self._scatter.share > 2 * before:
            # What was learnt from such differences is their noise.
            model.straighten()
            return True
        return bool((search.extent < extent).any())

    def verify(self) -> Generator[Float[np.ndarray, "k n"], Rows, bool]:
        """Looks at what was not looked at yet; whether slopes are hidden by noise."""
        yield from ()
        return False

    def measure_again(self) -> Talk:
        """Spends two evaluations beside the centre on the noise as it is there."""
        search, model = self._search, self._model()
        u = model.u
        h = _BESIDE * search.spans(u) * np.where(np.arange(len(u)) % 2, -1.0, 1.0)
        points = np.clip(np.array([u + h, u - h]), search.lower, search.upper)
        rows = yield points
        bend = float(np.linalg.norm(rows[0] - 2 * model.r + rows[1]))
        height = float(np.linalg.norm(model.r))
        # Where nothing changes, between two steps of stairs say, nothing is told.
        rounding = search.eps() * float(np.linalg.norm(search.heights(model.jacobian)))
        changes = float(np.linalg.norm(rows - model.r)) > rounding
        if np.isfinite(bend) and height > 0 and changes:
            self._scatter.suit(bend / 6**0.5, height)

    def _steps(self, u: Float[np.ndarray, "n"], share: float) -> Float[np.ndarray, "n"]:
        """Steps with a sign: forwards where there is room."""
        search = self._search
        h: np.ndarray = share * search.spans(u)
        if not search.walled:
            straight: np.ndarray = (u + h) - u
            return straight
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
        some = bool(bad.any())
        h = h.copy()
        if some:
            back = u - np.diag(h)
            inside = ((back >= search.lower) & (back <= search.upper)).all(1) & bad
            if inside.any():
                rows[inside] = yield back[inside]
                h[inside] = -h[inside]
            bad = np.asarray(~np.isfinite(rows).all(1))
            some = bool(bad.any())
        search.lost = bad
        yield from self._out_of_rounding(u, r, h, rows)
        jacobian = ((rows - r) / h[:, None]).T
        if some:
            jacobian[:, bad] = self._model().jacobian[:, bad]
        blur = search.eps() * search.heights(jacobian) + search.noise / len(r) ** 0.5
        error = np.abs(jacobian) * self._scatter.share + (blur[:, None] / np.abs(h))
        if some:
            error[:, bad] = np.inf
        search.slopes = Slopes(u, jacobian, error, False, h, r)

    def _out_of_rounding(
        self,
        u: Float[np.ndarray, "n"],
        r: Float[np.ndarray, "m"],
        h: Float[np.ndarray, "n"],
        rows: Rows,
    ) -> Talk:
        """Moves entries farther whose differences are drowned; steps and rows change in place."""
        for grown in range(_GROWTHS + 1):
            last = grown == _GROWTHS
            small = drowned(self._search, u, r, h, rows, self._scatter.share, last=last)
            if not small.any():
                return
            new = np.where(small, self._steps(u, self._scatter.share), h)
            found = yield (u + np.diag(new))[small]
            which = np.flatnonzero(small)[np.isfinite(found).all(1)]
            rows[which], h[which] = found[np.isfinite(found).all(1)], new[which]
            if len(which) < small.sum():
                return
