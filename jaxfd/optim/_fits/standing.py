"""Where a search stands: the best point, what is known around it, and the units of its variables.

It exists because differences, trials and the search itself share it. It must not know which way to
go.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxfd.optim._fits.model import ResidualModel
from jaxfd.optim._fits.slopes import Slopes
from jaxfd.optim._fits.trust_region import box_step, model_step
from jaxfd.optim._status import Status

Rows = Float[np.ndarray, "k m"]

# Units of a variable are those of its steepest slope so far, but for ones so many times as steep.
_STALE = 1e6
# The noise of slopes counts by this share: points on the way make up for some of it.
_NOISY = 0.5
# Shares of less than this of an entry are too few of the numbers that there are around it.
_FEWEST = 1e10 * float(np.finfo(np.float64).eps)


@dataclasses.dataclass
class Standing:
    """Where a search from one start stands, in variables of its own.

    Args:
        u: the start.
        lower: the lower walls.
        upper: the upper walls.
        size: how large entries are at the start.
        usual: how large entries of 0 are taken to be.
        least_sizes: how small entries are taken to be at least: 1 for logarithms, 0 for no limit.
        scale: fixed units of the variables, None to take them from the Jacobian.
        tol: what a step must promise, as a share of the sum of squares.
        width: how many points take as long as one.
        curved: whether models have curvature.
        eps: the relative spacing of the coarsest values so far.
        coarse: the length of what rounding to digits or decimals did to the residuals, as far as
            the values seen so far tell.
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
        floor: how small entries are taken to be at least; see `Differences`.
        extent: how far residuals are about straight along each entry, where that was found to be
            less than its size; else infinite.
        lowest: the least sum of squares so far.
        per_noise: how small entries are taken to be at least, over the noise.
        reached: entries that were looked at from farther away, for noise hid their slopes.
        jumps: entries along which residuals jump and are flat in between.
        walled: whether any entry has a wall.
        averaged: of how many evaluations the residuals are that led to the best point.
        refused: whether the last steps led to where runs fail.
    """

    u: Float[np.ndarray, "n"]
    lower: Float[np.ndarray, "n"]
    upper: Float[np.ndarray, "n"]
    size: Float[np.ndarray, "n"]
    usual: Float[np.ndarray, "n"]
    least_sizes: Float[np.ndarray, "n"]
    scale: Float[np.ndarray, "n"] | None = None
    tol: float = 1e-12
    width: int = 1
    curved: bool = True
    eps: Callable[[], float] = lambda: float(np.finfo(np.float64).eps)
    coarse: Callable[[], float] = lambda: 0.0
    on_step: Callable[[Any], None] = lambda search: None
    known: Float[np.ndarray, "m n"] | None = None

    def __post_init__(self) -> None:
        self.walled = bool(np.isfinite([self.lower, self.upper]).any())
        self._sized: tuple[Any, Any, np.ndarray] = (None, None, self.size)
        self.model: ResidualModel | None = None
        self.slopes: Slopes | None = None
        self.status: Status | None = None
        self.message = ""
        self.history: list[float] = []
        self.path: list[Float[np.ndarray, "n"]] = []
        self.lost: Bool[np.ndarray, "n"] = np.zeros(len(self.u), bool)
        self.noise = 0.0
        self.floor: Float[np.ndarray, "n"] = self.least_sizes
        self.per_noise: Float[np.ndarray, "n"] = np.zeros(len(self.u))
        self.reached: Bool[np.ndarray, "n"] = np.zeros(len(self.u), bool)
        self.extent: Float[np.ndarray, "n"] = np.full(len(self.u), np.inf)
        # The least sum of squares that was seen, and where: under noise steps may lead up.
        self.lowest = np.inf
        self._lowest: tuple[Float[np.ndarray, "n"], Float[np.ndarray, "m"]] | None = None
        self._returned: tuple[Float[np.ndarray, "n"], Float[np.ndarray, "m"]] | None = None
        self.jumps: Bool[np.ndarray, "n"] = np.zeros(len(self.u), bool)
        self.refused = False
        self.averaged = 1
        self.seen: list[tuple[Float[np.ndarray, "n"], Float[np.ndarray, "m"]]] = []
        self.units: Float[np.ndarray, "n"] = np.ones(len(self.u))
        # How often in a row the curvature promised worse than slopes alone.
        self.doubt = 0

    @property
    def best(self) -> Float[np.ndarray, "n"]:
        """The best point so far."""
        return self.u if self.model is None else self.model.u

    @property
    def kept(self) -> list[Float[np.ndarray, "n"]]:
        """Points that it may end at: the best and the lowest."""
        return [self.best, *(self._lowest or ())[:1]]

    @property
    def cost(self) -> float:
        """The sum of squares there."""
        return np.inf if self.model is None else self.model.cost

    def sizes(self, u: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """How large the entries of a point are."""
        if self.scale is not None:
            return self.scale
        # Asked for again and again at one point: neither of the arrays is ever written to.
        of, floor, found = self._sized
        if of is not u or floor is not self.floor:
            found = np.maximum(np.where(u != 0, np.abs(u), self.usual), self.floor)
            self._sized = u, self.floor, found
        return found

    def spans(self, u: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """What differences step by shares of: the sizes, or less where residuals bend sooner."""
        least = _FEWEST * np.abs(u)
        found: np.ndarray = np.minimum(self.sizes(u), np.maximum(self.extent, least))
        return found

    def terms(self, jacobian: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m"]:
        """How large the entries of the best point make what residuals are differences of."""
        found: np.ndarray = np.abs(jacobian) @ np.abs(self.best)
        return found

    def heights(self, jacobian: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m"]:
        """How large what residuals are differences of may be, whose rounding they have."""
        model = self.model
        assert model is not None
        found: np.ndarray = np.abs(model.r) + self.terms(jacobian)
        return found

    @property
    def reach(self) -> float:
        """The size of the best point in scaled variables."""
        scaled = self.units * self.spans(self.best)
        return math.sqrt(scaled @ scaled) or 1.0

    def least(self) -> float:
        """A decrease that is none."""
        model = self.model
        assert model is not None
        return self.tol * model.cost + self.blur()

    def blur(self) -> float:
        """The standard deviation of the sum of squares."""
        model = self.model
        assert model is not None
        return 2 * self.noise * math.sqrt(model.cost / len(model.r))

    def step(
        self, radius: float, straight: bool = False
    ) -> tuple[Float[np.ndarray, "n"], float, bool]:
        """The step within a radius, in scaled variables."""
        model, d = self.model, self.units
        assert model is not None

        def values(q: Float[np.ndarray, "n"]) -> Float[np.ndarray, "m"]:
            return model.values(q / d, straight)

        def slopes(q: Float[np.ndarray, "n"]) -> Rows:
            found: np.ndarray = model.slopes(q / d) / d
            return found

        box = None
        if self.walled:
            box = (self.lower - model.u) * d, (self.upper - model.u) * d
        curved = model.curved and not straight
        r, a, doubt = model.r, model.jacobian / d, self._doubts()
        if doubt is None:
            return model_step(values, slopes, r, a, radius, box, curved)
        # What the noise of slopes adds to the sum of squares, as further residuals: no step is led
        # by it to where slopes are no more than their noise.
        more = np.diag(doubt)
        return model_step(
            lambda q: np.concatenate([values(q), doubt * q]),
            lambda q: np.concatenate([slopes(q), more]),
            np.concatenate([r, np.zeros(len(d))]),
            np.concatenate([a, more]),
            radius,
            box,
            curved,
        )

    def step_of(self, r: Float[np.ndarray, "m"]) -> Float[np.ndarray, "n"]:
        """The step by slopes alone from other residuals than those of the best point."""
        model, d = self.model, self.units
        assert model is not None
        a, doubt = model.jacobian / d, self._doubts()
        if doubt is not None:
            a, r = np.concatenate([a, np.diag(doubt)]), np.concatenate([r, np.zeros(len(d))])
        low, high = (self.lower - model.u) * d, (self.upper - model.u) * d
        return box_step(a, r, self.reach, low, high)[0]

    def _doubts(self) -> Float[np.ndarray, "n"] | None:
        """How long the noise of the slopes by scaled variables is; None where there is none."""
        if self.noise == 0 or self.slopes is None:
            return None
        steps = np.abs(self.slopes.steps)
        with np.errstate(divide="ignore"):
            found: np.ndarray = np.where(steps > 0, _NOISY * self.noise / (steps * self.units), 0.0)
        return found

    def point(self, q: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        model = self.model
        assert model is not None
        point: np.ndarray = model.u + q / self.units
        return np.clip(point, self.lower, self.upper) if self.walled else point

    def rescale(self, first: bool = False) -> None:
        """Takes the units of the variables from the Jacobian; they hardly ever grow."""
        model = self.model
        assert model is not None
        columns = np.linalg.norm(model.jacobian, axis=0)
        size = self.sizes(model.u)
        most = float(np.max(columns * size, initial=0.0)) or 1.0
        if self.scale is not None:
            self.units = most / self.scale
            return
        new = np.where(columns > 1e-12 * most / size, columns, most / size)
        # Where slopes were beyond measure once, their units would hold an entry for ever.
        self.units = new if first else np.clip(self.units, new, _STALE * new)

    def note(self) -> None:
        model = self.model
        assert model is not None
        if model.cost < self.lowest:
            self.lowest, self._lowest = model.cost, (model.u, model.r)
        self.history.append(model.cost)
        self.path.append(model.u)
        self.on_step(self)

    def go_lower(self, points: Float[np.ndarray, "k n"], rows: Rows, least: float) -> bool:
        """Goes to the lowest of some points where that is lower by more than ``least``."""
        model = self.model
        assert model is not None
        with np.errstate(over="ignore"):
            sums = np.where(np.isfinite(rows).all(1), (rows * rows).sum(1), np.inf)
        best = int(np.argmin(sums))
        if not sums[best] < model.cost - least:
            return False
        model.move(points[best], rows[best])
        self.note()
        return True

    def go_with_slopes(self, point: Float[np.ndarray, "n"], r: Float[np.ndarray, "m"]) -> None:
        """Goes to a point that is so near that the slopes are those of before."""
        model, slopes = self.model, self.slopes
        assert model is not None
        assert slopes is not None
        jacobian = model.jacobian
        model.move(point, r)
        model.jacobian = jacobian
        self.slopes = dataclasses.replace(slopes, u=point)
        self.note()

    def end(self, status: Status, message: str) -> None:
        """Ends the search; where that tells nothing of the last point, at the lowest one."""
        self.status, self.message = status, message
        if status not in (Status.CONVERGED, Status.NOISE):
            self.return_to_lowest()

    def return_to_lowest(self) -> bool:
        """Goes to the lowest point; whether it is another one, not returned to before."""
        model, lowest = self.model, self._lowest
        if model is None or lowest is None or not self.lowest < model.cost:
            return False
        model.move(*lowest)
        first, self._returned = self._returned is not lowest, lowest
        return first
