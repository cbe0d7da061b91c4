"""Jacobians by the stencil and the step that a user gave, in place of the search's own.

It must not know how steps are chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxfd._methods import FiniteDifference, Method, Relative
from jaxfd.optim._fits.closer import SMOOTH, Line
from jaxfd.optim._fits.jacobians import Differences
from jaxfd.optim._fits.model import ResidualModel
from jaxfd.optim._fits.parameters import Parameters
from jaxfd.optim._fits.scatter import NOISE
from jaxfd.optim._fits.slopes import Rows, Slopes, Talk
from jaxfd.optim._status import Status

# How far beside a point its noise is looked at, in shares of an entry's size.
_BESIDE = 1e-7
# Noise hides a slope whose error is more than this share of it.
_HIDDEN = 0.5

Row = Float[np.ndarray, "n"]


@dataclasses.dataclass(frozen=True)
class GivenStencil:
    """A stencil in a search's variables.

    Attributes:
        offsets: in units of the step, without 0.
        weights: of the points.
        centre: the weight of the centre.
        step: the step of every entry at a point.
    """

    offsets: tuple[float, ...]
    weights: tuple[float, ...]
    centre: float
    step: Callable[[Row], Row]


def stencil_of(method: Method | None, parameters: Parameters, eps: float) -> GivenStencil | None:
    """What a method does, in a search's variables.

    Raises:
        TypeError: it has no real stencil along coordinates.
    """
    if method is None:
        return None
    if not isinstance(method, FiniteDifference):
        raise TypeError(
            f"method must be Forward, Backward or Central, or None for differences that suit the "
            f"noise, got {method!r}."
        )
    stencil, rule = method.stencil(1), method.step
    power = 1 / (stencil.accuracy + 1)
    pairs = [(float(s), float(w)) for s, w in zip(stencil.offsets, stencil.weights, strict=True)]
    free = parameters.free
    fixed: Any = None
    rel, typical = eps**power, np.ones(int(free.sum()))
    if isinstance(rule, Relative):
        rel = rel if rule.rel is None else float(rule.rel)
        typical = parameters.values(rule.typical, 1.0, "typical")[free]
    elif rule is not None:
        fixed = parameters.values(rule, np.nan, "step")[free]

    def step(u: Row) -> Row:
        x = np.abs(parameters.outward(u)[free])
        h = rel * np.maximum(x, typical) if fixed is None else fixed
        found: Row = h / parameters.slope(u)
        return found

    return GivenStencil(
        tuple(s for s, _ in pairs if s),
        tuple(w for s, w in pairs if s),
        sum(w for s, w in pairs if not s),
        step,
    )


class GivenDifferences(Differences):
    """Differences by a given stencil; see `Differences`.

    Args:
        search: the search.
        stencil: the stencil.
    """

    def __init__(self, search: Any, stencil: GivenStencil) -> None:
        super().__init__(search)
        self._stencil = stencil
        self._verified: Row | None = None
        self._looked: Row | None = None

    def begin(self) -> Talk:
        search = self._search
        u = search.u
        rows = yield np.concatenate([u[None], self.around(u)])
        if not np.all(np.isfinite(rows[0])):
            search.status = Status.FAILED
            return
        blank = np.zeros((rows.shape[1], len(u)))
        search.model = ResidualModel(u, rows[0], blank, search.curved)
        yield from self.weigh(rows[1:])

    def around(self, u: Row) -> Float[np.ndarray, "k n"]:
        h = self._signed(u)
        return np.concatenate([u + np.diag(s * h) for s in self._stencil.offsets])

    def _signed(self, u: Row) -> Row:
        """Steps that stay within the walls: turned round, or shrunk, where they would not."""
        search, offsets = self._search, self._stencil.offsets
        h = self._stencil.step(u)
        high, low = max(*offsets, 0.0), -min(*offsets, 0.0)
        above, below = search.upper - u, u - search.lower
        fits = (high * h <= above) & (low * h <= below)
        turned = (low * h <= above) & (high * h <= below)
        room = np.minimum(above / max(high, 1e-300), below / max(low, 1e-300))
        found: Row = np.where(fits, h, np.where(turned, -h, np.maximum(room, 0.0)))
        return np.where(found == 0, -np.minimum(h, np.maximum(above, below)), found)

    def weigh(self, rows: Rows) -> Talk:
        search, model = self._search, self._model()
        u, n = model.u, len(model.u)
        h = self._signed(u)
        parts = rows.reshape(len(self._stencil.offsets), n, -1)
        with np.errstate(invalid="ignore"):
            total = np.einsum("k,knm->mn", np.array(self._stencil.weights), parts)
            jacobian = (total + self._stencil.centre * model.r[:, None]) / h
        lost = ~np.isfinite(jacobian).all(0)
        jacobian[:, lost] = model.jacobian[:, lost]
        blur = search.eps() * np.abs(model.r) + search.noise / len(model.r) ** 0.5 * self._spread()
        error = blur[:, None] / np.abs(h)
        error[:, lost] = np.inf
        search.lost = np.asarray(lost)
        search.slopes = Slopes(u, jacobian, error, True, h)
        self._renew_model()
        yield from ()

    def renew(self, central: bool = False, measure: bool = True) -> Talk:
        del central, measure
        rows = yield self.around(self._model().u)
        yield from self.weigh(rows)

    def look_at_noise(self) -> Generator[Float[np.ndarray, "k n"], Rows, bool]:
        """Spends two evaluations beside the centre: no step shall be led by slopes of noise."""
        search, model = self._search, self._model()
        if self._looked is not model.u:
            self._looked = model.u
            yield from self._look(model.u, model.r)
            if search.slopes is not None and not self._hides(search.slopes):
                # It is smaller where residuals are: that is seen in the end.
                search.noise = 0.0
        return False

    def _hides(self, slopes: Slopes) -> bool:
        """Whether the noise hides the slopes of an entry."""
        search, model = self._search, self._model()
        error = np.linalg.norm(slopes.error, axis=0) + search.noise * self._spread() / np.abs(
            slopes.steps
        )
        inside = (model.u > search.lower) & (model.u < search.upper) & ~search.lost
        length = np.linalg.norm(slopes.jacobian, axis=0)
        return search.noise > 0 and bool(((error > _HIDDEN * length) & inside).any())

    def _spread(self) -> float:
        """What becomes of the noise of values in their weighted sum."""
        return float(np.linalg.norm([*self._stencil.weights, self._stencil.centre]))

    def verify(self) -> Generator[Float[np.ndarray, "k n"], Rows, bool]:
        """Looks for noise, by two evaluations beside the centre: steps stay, the verdict does not.

        Returns:
            Whether it hides the slopes of an entry.
        """
        search, model, slopes = self._search, self._model(), self._search.slopes
        assert slopes is not None
        if self._verified is not model.u:
            self._verified = model.u
            yield from self._look(model.u, model.r)
            blur = search.noise / len(model.r) ** 0.5 * self._spread()
            error = slopes.error + blur / np.abs(slopes.steps)
            slopes = search.slopes = dataclasses.replace(slopes, error=error)
        if search.noise == 0:
            return False
        inside = (model.u > search.lower) & (model.u < search.upper) & ~search.lost
        length = np.linalg.norm(slopes.jacobian, axis=0)
        hidden = np.linalg.norm(slopes.error, axis=0) > _HIDDEN * length
        return bool((hidden & inside).any())

    def _look(self, u: Row, r: Float[np.ndarray, "m"]) -> Talk:
        """Takes notice of the noise beside a point."""
        search, height = self._search, float(np.linalg.norm(r))
        search.noise = 0.0
        step = _BESIDE * search.spans(u) * np.where(np.arange(len(u)) % 2, -1.0, 1.0)
        room = np.minimum(search.upper - u, u - search.lower)
        step = (u + np.clip(step, -room, room)) - u
        if height == 0 or not step.any():
            return
        rows = yield np.array([u + step, u - step])
        line = Line(step, -1.0, rows[0], rows[1])
        bend, sigma = line.second(r), line.second(r) / 6**0.5
        rounding = search.eps() * float(np.linalg.norm(search.heights(self._model().jacobian)))
        if search.coarse() > NOISE * height:
            self._scatter.suit(sigma if np.isfinite(sigma) else 0.0, height)
        elif sigma > max(NOISE * height, rounding) and bend > SMOOTH * line.first(r):
            yield from self._scatter.judge(u, r, line, sigma)
