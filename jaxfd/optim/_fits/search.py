"""The search for the least sum of squares, as a conversation: points are asked for, residuals told.

A trust-region method with differences for Jacobians, few of them: between two of them the model
learns from the points that steps lead to. As a generator it knows nothing of who evaluates, so that
several searches share batches, and a killed one is replayed. This room must not know about users'
numbers, weights or losses.

Reference:
    J. Moré, "The Levenberg-Marquardt algorithm: implementation and theory", Lecture Notes in
    Mathematics 630 (1978) 105-116, for scaling and acceptance; J. Moré and S. Wild, "Estimating
    derivatives of noisy simulations", ACM Trans. Math. Software 38 (2012), for steps under noise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Generator

import numpy as np
from jaxtyping import Float

from jaxfd.optim._fits.averaging import settle_by_mean
from jaxfd.optim._fits.given_differences import GivenDifferences, GivenStencil
from jaxfd.optim._fits.hidden import reach_out
from jaxfd.optim._fits.jacobians import Differences
from jaxfd.optim._fits.leaps import END, FAR, NEAR, WORTH, leap
from jaxfd.optim._fits.stairs import jumped
from jaxfd.optim._fits.standing import Standing
from jaxfd.optim._fits.trials import BAD, TAKEN, attempt
from jaxfd.optim._status import Status

Rows = Float[np.ndarray, "k m"]
# Points are yielded, their residuals come back: NaN for those that failed.
Talk = Generator[Float[np.ndarray, "k n"], Rows, None]

# Above this share of what was promised the ball grows.
_GOOD = 0.75
# After so many bad steps in a row slopes are differenced anew.
_FAILS = 2
# Steps of slopes alone that fail are tried so much shorter, until they promise nothing.
_SHORTER = 0.125
# Steps shorter than this share of the point itself polish nothing.
_POLISHED = 1e-10
_ROUNDING = 4 * float(np.finfo(np.float64).eps)
# Residuals of less than this share of what the start makes them differences of are nothing.
_NOTHING = _ROUNDING**3
# After so many steps, and one for each entry, that brought far less than was promised, or after
# which as much as this share of it is promised once more, slopes are differenced anew.
_POOR, _SLOW = 5, 0.5
# The first ball, in shares of the size of the start; the share of the sum of squares that a step in
# it must promise.
_FIRST, _HOPELESS = 1.0, 3e-3
# A failed step shrinks the ball to this share at least; a good one lets it grow so much, and one
# that was foretold nearly exactly by so much more.
_SHRINK, _GROW, _LEAP, _FORETOLD = 0.15, 2.0, 100.0, 1e-5
# After so many steps that led up and down within the noise the search may be over.
_VAIN = 12
# Noise that is so many times what it was is seen for the first time.
_NEW = 4.0
# How often a search that seems to be over goes on by a leap.
_MOST_LEAPS = 10
# After so many steps that slopes alone foretold better, curvature is left out.
_DOUBT = 1


@dataclasses.dataclass
class Search(Standing):
    """A search from one start; see `Standing` for the arguments."""

    stencil: GivenStencil | None = None

    def run(self) -> Talk:
        """The conversation."""
        given = self.stencil
        differences = Differences(self) if given is None else GivenDifferences(self, given)
        yield from differences.begin()
        model = self.model
        if model is None or self.status is not None:
            return
        self.rescale(first=True)
        self.note()
        if self.known is None:
            farther = NEAR if self._is_hopeless() else FAR
            if (yield from leap(self, farther, WORTH * model.cost)):
                yield from differences.renew()
                self.rescale(first=True)
        radius, fails, poor, last = _FIRST * self.reach, 0, 0, math.inf
        trusted, looked, rough = 0.0, self.noise > 0, False
        self._mark, self._vain, self._asked = model.cost, 0, False
        self._leaps = 0
        # How long steps by slopes alone may be, in shares of the point; shorter as they fail, with
        # this noise.
        self._leash, self._led = 1.0, self.noise
        while self.status is None:
            if self._is_zero():
                if self.known is None:
                    yield from self._finish(differences)
                # By slopes that were differenced here: those that were learnt may be far too large.
                if self._is_zero():
                    self.end(Status.CONVERGED, "the residuals are zero to rounding")
                    return
            q, promised, cut = self.step(radius, self.doubt >= _DOUBT)
            gain, length = model.cost - promised, math.sqrt(q @ q)
            if gain <= self.least() or self._is_still(q):
                if self.known is not None:
                    self.end(Status.CONVERGED, "the model promises no better")
                    return
                if not model.exact:
                    # Without noise this is mostly the end, where central ones are wanted.
                    yield from differences.renew(central=self.noise == 0)
                    self.rescale()
                    continue
                if (yield from self._done(differences, self._leash)):
                    return
                q, promised, cut = self.step(self._leash * self.reach, straight=True)
                gain, length = model.cost - promised, math.sqrt(q @ q)
                if not gain > 0:
                    continue
                rho = yield from self._probe(differences, q, gain, cut)
                if rho < BAD:
                    self._leash = _SHORTER * min(self._leash, length / self.reach)
                    self._led = max(self._led, self.noise)
                else:
                    self._leash, radius, fails = 1.0, max(radius, _GROW * length), 0
                continue
            fresh = model.exact
            rho, taken = yield from attempt(self, differences, q, gain, radius, cut)
            length = math.sqrt(taken @ taken)
            exact = model.exact
            if rho < BAD:
                shrink = 0.5 if rho > 0 else max(_SHRINK, 0.5 / (1 - rho))
                radius = shrink * min(radius, length)
            elif taken is not q and length < math.sqrt(q @ q):
                radius = _GROW * length
            elif rho > _GOOD or not cut:
                radius = max(radius, _growth(rho, cut) * length)
            if (yield from self._is_vain(differences)):
                return
            trusted = length if rho >= BAD else trusted
            fails = fails + 1 if rho < BAD else 0
            # Steps to where the model is least should become shorter.
            slow = rho >= BAD and (rho < _GOOD or (not cut and gain > _SLOW * last))
            poor, last = 0 if exact and not fresh else poor + slow, gain
            if fresh:
                # Under noise steps are long, and slopes to one side may be too rough.
                rough = rho < BAD and self.noise > 0 and not self._is_central()
            if self.noise == 0 and poor > _POOR + len(q) and not exact:
                # Slopes that foretell too much for so long may be noise that was not seen.
                yield from differences.look_at_noise()
                yield from differences.renew(measure=False)
                self.rescale()
                poor = fails = 0
                radius = max(radius, trusted)
            elif fails >= _FAILS and (rough or not exact):
                yield from differences.renew(central=rough)
                self.rescale()
                rough = False
                fails = 0
                radius = max(radius, trusted)
            elif (exact and rho < TAKEN and fails >= _FAILS) or (
                fresh and rho < BAD and not looked
            ):
                looked = True
                if (yield from differences.look_at_noise()):
                    yield from differences.renew(measure=False)
                    self.rescale()
                    radius = max(radius, 0.1 * self.reach)
                fails = 0
                if radius < 1e-15 * self.reach:
                    yield from self._stuck(differences)
                    return

    def _is_hopeless(self) -> bool:
        """Whether no step of the entries' own sizes promises anything worth having."""
        model = self.model
        assert model is not None
        promised = self.step(_FIRST * self.reach, straight=True)[1]
        return model.cost - promised < _HOPELESS * model.cost

    def _is_vain(self, differences: Differences) -> Generator[Float[np.ndarray, "k n"], Rows, bool]:
        """Whether steps have led up and down within the noise for so long that the search is over.

        They may go on like that for ever where slopes are too noisy to foretell less than they do.
        """
        model = self.model
        assert model is not None
        if self.noise == 0 or model.cost < self._mark - 2 * self.blur():
            self._mark, self._vain, self._asked = model.cost, 0, False
            return False
        self._vain += 1
        if self._vain < _VAIN:
            return False
        if self._asked:
            yield from self._finish(differences)
            if not (yield from differences.verify()):
                words = f"the last {_VAIN} steps brought no more than the noise of the residuals"
                yield from settle_by_mean(self)
                self.end(Status.NOISE, words)
                return True
        self._vain, self._asked = _VAIN - 2 * _FAILS, True
        return (yield from self._done(differences, 1.0))

    def _is_central(self) -> bool:
        """Whether the last slopes are those of both sides."""
        return self.slopes is not None and self.slopes.central

    def _is_zero(self) -> bool:
        """Whether residuals are no larger than the rounding of what they are differences of."""
        model = self.model
        assert model is not None
        terms = self.terms(model.jacobian)
        with np.errstate(over="ignore"):
            # Slopes that tell of more rounding than there is noise are none.
            most = self.noise**2 if self.noise > 0 else math.inf
            if model.cost <= min(most, _ROUNDING**2 * float(terms @ terms)):
                return True
            # Where all entries go to 0 they take their rounding with them, for ever.
            if np.any(np.abs(model.u) > _ROUNDING * self.size):
                return False
            terms = np.abs(model.jacobian) @ self.size
            first = _ROUNDING**2 * self.history[0]
            return model.cost <= min(first, _NOTHING**2 * float(terms @ terms))

    def _is_still(self, q: Float[np.ndarray, "n"]) -> bool:
        """Whether a step moves no entry by more than its rounding."""
        still: np.ndarray = np.abs(q / self.units) <= _ROUNDING * self.sizes(self.best)
        return bool(still.all())

    def _probe(
        self, differences: Differences, q: Float[np.ndarray, "n"], gain: float, cut: bool
    ) -> Generator[Float[np.ndarray, "k n"], Rows, float]:
        """Tries a step that slopes alone promise, where curvature promises nothing."""
        rho, _ = yield from attempt(self, differences, q, gain, math.sqrt(q @ q), cut)
        self.doubt = max(self.doubt, _DOUBT) if rho >= BAD else self.doubt
        return rho

    def _done(
        self, differences: Differences, leash: float
    ) -> Generator[Float[np.ndarray, "k n"], Rows, bool]:
        """Whether the search is over, by central differences at the best point.

        Args:
            differences: makes them.
            leash: longer steps by slopes alone were tried in vain, in shares of the point itself.
        """
        model = self.model
        assert model is not None
        # Steps up that noise allows, one after the other, may be more than it allows together.
        if model.cost > self.lowest + 4 * self.blur() and self.return_to_lowest():
            yield from differences.renew()
            self.rescale()
            return False
        yield from self._finish(differences)
        hidden = yield from differences.verify()
        seen = self.stencil is None and (yield from reach_out(self))
        if seen:
            yield from differences.renew(central=True)
            self.rescale(first=True)
        if seen or self.noise > _NEW * self._led:
            # Steps that failed were led by noise.
            leash = self._leash = 1.0
        q, promised, _ = self.step(leash * self.reach, straight=True)
        gain = model.cost - promised
        if self.noise > 0 and self.tol * model.cost < gain <= self.least():
            # It is noise that says so: what was measured far from here may be wrong.
            yield from differences.measure_again()
        if gain > self.least() and not self._is_still(q) and not hidden:
            return False
        if self._leaps < _MOST_LEAPS and (yield from leap(self, END, self.least())):
            self._leaps += 1
            self._leash = 1.0
            yield from differences.renew()
            self.rescale(first=True)
            return False
        dead = ~model.jacobian.any(axis=0) & ~self.lost
        if dead.any() and (yield from jumped(self, dead)):
            yield from differences.renew()
            self.rescale()
            return False
        if leash == 1.0:
            yield from self._polish(q)
        if self.lost.any():
            self.end(Status.FAILED, "")
        elif self.refused:
            self.end(
                Status.FAILED, "steps that promise to lower the sum of squares lead to failed runs"
            )
        elif model.cost > 0 and not model.jacobian.any():
            self.end(Status.STUCK, "no step that was tried changes the residuals")
        elif hidden:
            self.end(
                Status.STUCK,
                "noise hides the slopes: the steps of the given method are too short for it",
            )
        elif self.jumps.any():
            self.end(Status.STUCK, "residuals jump and are flat in between")
        elif gain > self.tol * model.cost and self.noise > 0:
            yield from settle_by_mean(self)
            self.end(Status.NOISE, "what steps promise is less than the noise of the residuals")
        else:
            self.end(Status.CONVERGED, "no step promises to lower the sum of squares any more")
        return True

    def _polish(self, q: Float[np.ndarray, "n"]) -> Talk:
        """Goes the last step too, for the digits of ill-determined entries; slopes stay."""
        model = self.model
        assert model is not None
        if math.sqrt(q @ q) <= _POLISHED * self.reach:
            return
        point = self.point(q)
        rows = yield point[None]
        after = float(rows[0] @ rows[0])
        if self.slopes is not None and after <= model.cost * (1 + 1e-13):
            self.go_with_slopes(point, rows[0])

    def _finish(self, differences: Differences) -> Talk:
        """Central differences at the best point, if there are none."""
        if self.slopes is None or not self.slopes.central or self.slopes.u is not self.best:
            yield from differences.renew(central=True)
            self.rescale()

    def _stuck(self, differences: Differences) -> Talk:
        if not (yield from self._done(differences, 1.0)):
            self.end(Status.STUCK, "no better point was found along the slopes")


def _growth(rho: float, cut: bool) -> float:
    """How much the ball grows after a good step.

    What a model leaves out grows with the length of steps: where it foretold all but a tiny share
    of what a step brought, far longer ones may be tried.
    """
    wrong = abs(rho - 1)
    return min(_LEAP, max(_GROW, _GROW * _FORETOLD / max(wrong, 1e-300))) if cut else _GROW
