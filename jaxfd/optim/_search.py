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
from collections.abc import Callable, Generator

import numpy as np
from jaxtyping import Bool, Float

from jaxfd.optim._jacobians import Differences, Slopes
from jaxfd.optim._model import ResidualModel
from jaxfd.optim._status import Status
from jaxfd.optim._trust_region import model_step

Rows = Float[np.ndarray, "k m"]
# Points are yielded, their residuals come back: NaN for those that failed.
Talk = Generator[Float[np.ndarray, "k n"], Rows, None]

# A step is taken where it brings this share of what was promised; below the second the model is
# not trusted, above the third the ball grows.
_TAKEN, _BAD, _GOOD = 1e-4, 0.15, 0.75
# After so many bad steps in a row slopes are differenced anew.
_FAILS = 2
# So many steps of slopes alone are tried before curvature is believed that there is none.
_TRIES = 2
# Steps shorter than this share of the point itself polish nothing.
_POLISHED = 1e-10
# Residuals of this share of the first ones are zero.
_ZERO = 1e-14
_ROUNDING = 4 * float(np.finfo(np.float64).eps)
# Steps that are tried side by side, in radii.
# Points with so many times the best sum of squares teach nothing about what is near.
_ABSURD = 25.0
# The first ball, in shares of the size of the start.
_FIRST = 1.0
# A failed step shrinks the ball to this share at least; a good one lets it grow so much.
_SHRINK, _GROW = 0.15, 2.0
# After so many steps that slopes alone foretold better, curvature is left out.
_DOUBT = 1
_RADII = (0.25, 4.0, 0.0625, 16.0, 0.015625, 64.0, 0.00390625)


@dataclasses.dataclass
class Search:
    """A search from one start, in variables of its own.

    Args:
        u: the start.
        lower: the lower walls.
        upper: the upper walls.
        size: how large entries of 0 are taken to be.
        scale: fixed units of the variables, None to take them from the Jacobian.
        tol: what a step must promise, as a share of the sum of squares.
        width: how many points take as long as one.
        curved: whether models have curvature.
        eps: the relative spacing of the coarsest values so far.
        on_step: called after every step.
        known: a Jacobian of nearby, in place of the first differences; then the search is content
            with what its model says in the end.

    Attributes:
        model: what is known around the best point; None before the first batch.
        slopes: the last Jacobian by differences; None before.
        status: why it ended; None while it goes on.
        message: the same in words.
        history: the sum of squares after every step.
        lost: entries whose differences failed on both sides.
        noise: the standard deviation of the length of the residuals, as far as is known.
    """

    u: Float[np.ndarray, "n"]
    lower: Float[np.ndarray, "n"]
    upper: Float[np.ndarray, "n"]
    size: Float[np.ndarray, "n"]
    scale: Float[np.ndarray, "n"] | None = None
    tol: float = 1e-12
    width: int = 1
    curved: bool = True
    eps: Callable[[], float] = lambda: float(np.finfo(np.float64).eps)
    on_step: Callable[[Search], None] = lambda search: None
    known: Float[np.ndarray, "m n"] | None = None

    def __post_init__(self) -> None:
        self.model: ResidualModel | None = None
        self.slopes: Slopes | None = None
        self.status: Status | None = None
        self.message = ""
        self.history: list[float] = []
        self.path: list[Float[np.ndarray, "n"]] = []
        self.lost: Bool[np.ndarray, "n"] = np.zeros(len(self.u), bool)
        self.noise = 0.0
        self._seen: list[tuple[Float[np.ndarray, "n"], Float[np.ndarray, "m"]]] = []
        self._d: Float[np.ndarray, "n"] = np.ones(len(self.u))
        # How often in a row the curvature promised worse than slopes alone.
        self._doubt = 0

    @property
    def best(self) -> Float[np.ndarray, "n"]:
        """The best point so far."""
        return self.u if self.model is None else self.model.u

    @property
    def cost(self) -> float:
        """The sum of squares there."""
        return np.inf if self.model is None else self.model.cost

    def sizes(self, u: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """How large the entries of a point are."""
        if self.scale is not None:
            return self.scale
        found: np.ndarray = np.where(u != 0, np.abs(u), self.size)
        return found

    @property
    def reach(self) -> float:
        """The size of the best point in scaled variables."""
        return float(np.linalg.norm(self._d * self.sizes(self.best))) or 1.0

    def run(self) -> Talk:
        """The conversation."""
        differences = Differences(self)
        yield from differences.begin()
        model = self.model
        if model is None or self.status is not None:
            return
        self._rescale(first=True)
        self._note()
        radius, fails = _FIRST * self.reach, 0
        start, tried, trusted, looked = model.cost, 0, 0.0, False
        while self.status is None:
            if model.cost <= _ZERO**2 * start or model.cost == 0:
                if self.known is None:
                    yield from self._finish(differences)
                self._end(Status.CONVERGED, "the residuals are zero to rounding")
                return
            q, promised, cut = self._step(radius, self._doubt >= _DOUBT)
            gain, length = model.cost - promised, float(np.linalg.norm(q))
            if gain <= self._least() or length <= _ROUNDING * self.reach:
                if self.known is not None:
                    self._end(Status.CONVERGED, "the model promises no better")
                    return
                if not model.exact:
                    yield from differences.renew()
                    self._rescale()
                    continue
                if (yield from self._done(differences, tried)):
                    return
                tried += 1
                q, promised, cut = self._step(self.reach / 4**tried, straight=True)
                gain, length = model.cost - promised, float(np.linalg.norm(q))
            else:
                tried = 0
            rho, taken = yield from self._try(differences, q, gain, radius, cut)
            length = float(np.linalg.norm(taken))
            exact = model.exact
            if rho < _BAD:
                shrink = 0.5 if rho > 0 else max(_SHRINK, 0.5 / (1 - rho))
                radius = shrink * min(radius, length)
            elif taken is not q and length < np.linalg.norm(q):
                radius = _GROW * length
            elif rho > _GOOD or not cut:
                radius = max(radius, _GROW * length)
            trusted = length if rho >= _BAD else trusted
            fails = fails + 1 if rho < _BAD else 0
            if fails >= _FAILS and not exact:
                yield from differences.renew()
                self._rescale()
                fails = 0
                radius = max(radius, trusted)
            elif exact and rho < _TAKEN and (fails >= _FAILS or not looked):
                looked = True
                if (yield from differences.look_at_noise()):
                    yield from differences.renew(measure=False)
                    self._rescale()
                    radius = max(radius, 0.1 * self.reach)
                fails = 0
                if radius < 1e-15 * self.reach:
                    yield from self._stuck(differences)
                    return

    def _least(self) -> float:
        """A decrease that is none."""
        model = self.model
        assert model is not None
        return self.tol * model.cost + self._blur()

    def _blur(self) -> float:
        """The standard deviation of the sum of squares."""
        model = self.model
        assert model is not None
        return 2 * self.noise * float(np.sqrt(model.cost / len(model.r)))

    def _step(
        self, radius: float, straight: bool = False
    ) -> tuple[Float[np.ndarray, "n"], float, bool]:
        """The step within a radius, in scaled variables."""
        model, d = self.model, self._d
        assert model is not None

        def promise(q: Float[np.ndarray, "n"]) -> tuple[Rows, Rows]:
            if straight:
                a = model.jacobian
                return model.r + a @ (q / d), a / d
            r, a = model.at(q / d)
            return r, a / d

        low, high = (self.lower - model.u) * d, (self.upper - model.u) * d
        return model_step(promise, radius, low, high, model.curved and not straight)

    def _point(self, q: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        model = self.model
        assert model is not None
        point: np.ndarray = np.clip(model.u + q / self._d, self.lower, self.upper)
        return point

    def _try(
        self,
        differences: Differences,
        q: Float[np.ndarray, "n"],
        gain: float,
        radius: float,
        cut: bool,
    ) -> Generator[Float[np.ndarray, "k n"], Rows, tuple[float, Float[np.ndarray, "n"]]]:
        """Evaluates a step, and as many others as fit; goes to the best.

        Returns:
            What it brought as a share of what was promised, and the step.
        """
        model = self.model
        assert model is not None
        steps, gains = [q], [gain]
        ahead = self.width >= len(q) + 2
        room = self.width - 1 - (len(q) if ahead else 0)
        if room > 0 and model.curved:
            self._add(steps, gains, *self._step(radius, straight=True)[:2], room)
        length = float(np.linalg.norm(q))
        for share in _RADII:
            if len(steps) > room or (share > 1 and not cut):
                continue
            self._add(steps, gains, *self._step(share * min(radius, length))[:2], room)
        points = [self._point(step) for step in steps]
        spread = differences.around(points[0]) if ahead else np.zeros((0, len(q)))
        rows = yield np.concatenate([np.array(points), spread])
        found, beside = rows[: len(points)], rows[len(points) :]
        sums = [float(r @ r) if np.all(np.isfinite(r)) else np.inf for r in found]
        k = int(np.argmin(sums))
        slack = 2 * self._blur()
        if ahead and model.cost - sums[0] + slack > _BAD * (gain + slack):
            # Where the next slopes are known already.
            k = 0
        rho = (model.cost - sums[k] + slack) / (gains[k] + slack)
        if not np.isfinite(sums[k]):
            return -np.inf, steps[k]
        if model.curved and sums[k] <= _ABSURD * model.cost:
            p = steps[k] / self._d
            bent, flat = model.at(p)[0], model.r + model.jacobian @ p
            worse = abs(float(bent @ bent) - sums[k]) > abs(float(flat @ flat) - sums[k])
            self._doubt = self._doubt + 1 if worse else 0
        old, old_cost = (model.u, model.r), model.cost
        if rho > _TAKEN:
            model.move(points[k], found[k])
        others = [
            (points[i], found[i])
            for i in np.argsort(sums)
            if sums[i] <= _ABSURD * old_cost and not (i == k and rho > _TAKEN)
        ]
        if rho > _TAKEN:
            others.insert(0, old)
        self._seen = [*others, *self._seen][: 2 * len(q) + 2]
        if rho > _TAKEN and k == 0 and ahead:
            yield from differences.weigh(beside)
            self._rescale()
        else:
            model.learn(self._seen, self._d, self.reach, self.noise * 2**0.5)
        self._note()
        return rho, steps[k]

    def _add(
        self,
        steps: list[Float[np.ndarray, "n"]],
        gains: list[float],
        q: Float[np.ndarray, "n"],
        promised: float,
        room: int,
    ) -> None:
        """Adds a step to those that are tried side by side, if there is room and it is new."""
        model = self.model
        assert model is not None
        least = 0.05 * float(np.linalg.norm(q))
        new = all(float(np.linalg.norm(q - other)) > least for other in steps)
        gain = model.cost - promised
        if len(steps) <= room and new and gain > 0:
            steps.append(q)
            gains.append(gain)

    def _rescale(self, first: bool = False) -> None:
        """Takes the units of the variables from the Jacobian; they only ever shrink."""
        model = self.model
        assert model is not None
        columns = np.linalg.norm(model.jacobian, axis=0)
        size = self.sizes(model.u)
        most = float(np.max(columns * size, initial=0.0)) or 1.0
        if self.scale is not None:
            self._d = most / self.scale
            return
        new = np.where(columns > 1e-12 * most / size, columns, most / size)
        self._d = new if first else np.maximum(self._d, new)

    def _note(self) -> None:
        model = self.model
        assert model is not None
        self.history.append(model.cost)
        self.path.append(model.u)
        self.on_step(self)

    def _end(self, status: Status, message: str) -> None:
        self.status, self.message = status, message

    def _done(
        self, differences: Differences, tried: int
    ) -> Generator[Float[np.ndarray, "k n"], Rows, bool]:
        """Whether the search is over, by central differences at the best point.

        Args:
            differences: makes them.
            tried: how many steps that the slopes alone promise to be good were tried here in vain.
        """
        model = self.model
        assert model is not None
        yield from self._finish(differences)
        q, promised, _ = self._step(self.reach, straight=True)
        gain = model.cost - promised
        if gain > self._least() and float(np.linalg.norm(q)) > _ROUNDING * self.reach:
            if tried < _TRIES:
                return False
        elif self.noise == 0:
            yield from self._polish(q)
        if self.lost.any():
            self._end(Status.FAILED, "")
        elif gain > self.tol * model.cost and self.noise > 0:
            self._end(Status.NOISE, "what steps promise is less than the noise of the residuals")
        else:
            self._end(Status.CONVERGED, "no step promises to lower the sum of squares any more")
        return True

    def _polish(self, q: Float[np.ndarray, "n"]) -> Talk:
        """Goes the last step too, for the digits of ill-determined entries; slopes stay."""
        model = self.model
        assert model is not None
        if float(np.linalg.norm(q)) <= _POLISHED * self.reach:
            return
        point = self._point(q)
        rows = yield point[None]
        after = float(rows[0] @ rows[0])
        if self.slopes is not None and after <= model.cost * (1 + 1e-13):
            jacobian = model.jacobian
            model.move(point, rows[0])
            model.jacobian = jacobian
            self.slopes = dataclasses.replace(self.slopes, u=point)
            self._note()

    def _finish(self, differences: Differences) -> Talk:
        """Central differences at the best point, if there are none."""
        if self.slopes is None or not self.slopes.central or self.slopes.u is not self.best:
            yield from differences.renew(central=True)
            self._rescale()

    def _stuck(self, differences: Differences) -> Talk:
        if not (yield from self._done(differences, 0)):
            self._end(Status.STUCK, "no better point was found along the slopes")
