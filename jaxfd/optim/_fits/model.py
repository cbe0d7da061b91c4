"""A model of residuals near a point: slopes and curvature, learnt from points and Jacobians.

Each residual is a quadratic function. What its Jacobian and the points evaluated so far do not say,
it takes from as small a change of slopes and curvature as explains them. This room must not know
how points are chosen.

Reference:
    S. Wild, "Solving derivative-free nonlinear least squares problems with POUNDERS", in: Advances
    and Trends in Optimization (2017), for models of least change of each residual; R. Schnabel and
    T. Chow, "Tensor methods for unconstrained optimization using second derivatives", SIAM J.
    Optimization 1 (1991) 293-315, for steps of models with curvature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

# Curvature is kept as long as it has no more entries than this.
_MOST = 4_000_000
# How far residuals are taken to be bent: in shares of the distance from the origin, in scaled
# variables. A mild prior; fitted to none of the problems alone.
_BEND = 0.5
# How little the slopes at the centre change where they are known.
_SURE = 1e-8
# Points in nearly the same direction say the same: only the first of them counts.
_DISTINCT = 1e-3


class ResidualModel:
    """Residuals near a centre.

    Args:
        u: the centre.
        r: the residuals there.
        jacobian: their slopes, shape ``(m, n)``.
        curved: whether curvature is wanted.

    Attributes:
        u, r, jacobian: as given, as they are now.
        cost: the sum of squares at the centre.
    """

    def __init__(
        self,
        u: Float[np.ndarray, "n"],
        r: Float[np.ndarray, "m"],
        jacobian: Float[np.ndarray, "m n"],
        curved: bool = True,
    ) -> None:
        self.u, self.r, self.jacobian = u, r, jacobian
        self.cost = float(r @ r)
        m, n = jacobian.shape
        self._curvature: Float[np.ndarray, "m n n"] | None = None
        if curved and m * n * n <= _MOST:
            self._curvature = np.zeros((m, n, n))
        self._bent = False
        self._last = u, jacobian

    @property
    def curved(self) -> bool:
        """Whether it is more than linear."""
        return self._bent

    @property
    def exact(self) -> bool:
        """Whether the Jacobian is that of differences at this very centre."""
        return self.u is self._last[0]

    def values(self, p: Float[np.ndarray, "n"], straight: bool = False) -> Float[np.ndarray, "m"]:
        """Residuals that it promises at a step from the centre.

        Args:
            p: the step.
            straight: whether curvature is left out.
        """
        found: np.ndarray = self.r + self.jacobian @ p
        if self._curvature is not None and self._bent and not straight:
            found = found + 0.5 * ((self._curvature @ p) @ p)
        return found

    def slopes(self, p: Float[np.ndarray, "n"]) -> Float[np.ndarray, "m n"]:
        """Slopes that it promises there."""
        if self._curvature is None or not self._bent:
            return self.jacobian
        found: np.ndarray = self.jacobian + self._curvature @ p
        return found

    def move(self, u: Float[np.ndarray, "n"], r: Float[np.ndarray, "m"]) -> None:
        """Makes another point its centre."""
        self.jacobian = self.slopes(u - self.u)
        self.u, self.r = u, r
        self.cost = float(r @ r)

    def learn(
        self,
        points: Sequence[tuple[Float[np.ndarray, "n"], Float[np.ndarray, "m"]]],
        scale: Float[np.ndarray, "n"],
        reach: float,
        noise: float = 0.0,
    ) -> None:
        """Takes in points, newest first: the least change that explains them.

        Args:
            points: points and their residuals, finite.
            scale: what variables are multiplied by to be comparable.
            reach: the size of the centre in scaled variables.
            noise: the standard deviation of the length of the residuals.
        """
        rows: list[Float[np.ndarray, "n"]] = []
        errors: list[Float[np.ndarray, "m"]] = []
        basis: list[Float[np.ndarray, "n"]] = []
        for u, r in points:
            if len(rows) >= len(self.u):
                break
            step = u - self.u
            d = scale * step
            length = math.sqrt(d @ d)
            if not math.isfinite(length) or length == 0:
                continue
            apart = d / length
            for b in basis:
                apart = apart - (b @ apart) * b
            left = math.sqrt(apart @ apart)
            if rows and left < _DISTINCT:
                continue
            basis.append(apart / left)
            rows.append(d)
            errors.append(r - self.values(step))
        if not rows:
            return
        p, e = np.array(rows), np.array(errors)
        gram = p @ p.T
        bend = 1 / (_BEND * reach) ** 2 if self._curvature is not None and reach > 0 else 0.0
        # Slopes are as doubtful as curvature makes them since they were differenced.
        linear = 1.0
        if bend and self.exact:
            linear = _SURE
        elif bend:
            gone = scale * (self.u - self._last[0])
            linear = min(1.0, bend * float(gone @ gone) + _SURE)
        kernel = gram * (linear + 0.25 * bend * gram)
        if noise:
            kernel = kernel + noise**2 * np.eye(len(p))
        if len(p) == 1:
            shares = e / kernel
        else:
            size = np.sqrt(kernel.diagonal())
            w, v = np.linalg.eigh(kernel / size[:, None] / size)
            large = w > 1e-10 * w[-1]
            inverse = 1 / w if large.all() else np.where(large, 1 / np.where(large, w, 1.0), 0.0)
            shares = (v * inverse) @ (v.T @ (e / size[:, None])) / size[:, None]
        q = p * scale
        if not self.exact:
            # Differences at the centre itself are better than what points far away say of slopes.
            self.jacobian = self.jacobian + linear * (shares.T @ q)
        if self._curvature is not None and bend:
            pairs = (q[:, :, None] * q[:, None, :]).reshape(len(q), -1)
            change = (0.5 * bend * shares.T) @ pairs
            self._curvature = self._curvature + change.reshape(self._curvature.shape)
            self._bent = True

    def straighten(self) -> None:
        """Forgets the curvature."""
        if self._curvature is not None:
            self._curvature = np.zeros_like(self._curvature)
        self._bent = False
        self._last = self.u, self.jacobian

    def renew(
        self,
        jacobian: Float[np.ndarray, "m n"],
        scale: Float[np.ndarray, "n"],
        doubt: float = 0.0,
    ) -> None:
        """Takes in a Jacobian at the centre: the curvature explains what changed since the last.

        The change is the least symmetric one for each residual (Powell's symmetric Broyden update).

        Args:
            jacobian: the Jacobian.
            scale: what variables are multiplied by to be comparable.
            doubt: the square of how far one moves, in scaled variables, until slopes change by more
                than their noise.
        """
        before, old = self._last
        s = scale * (self.u - before)
        length = float(s @ s)
        if self._curvature is not None and 0 < length < math.inf:
            gap = (jacobian - old - self._curvature @ (self.u - before)) / scale
            along = gap @ s
            change = gap[:, :, None] * s[None, None, :] + s[None, :, None] * gap[:, None, :]
            # Not by the square of the length, which may be beyond all numbers.
            change = (
                change / length - (along / length)[:, None, None] * np.outer(s / length, s)[None]
            )
            change = change * (length / (length + doubt))
            self._curvature = self._curvature + change * np.outer(scale, scale)[None]
            self._bent = True
        self.jacobian = jacobian
        self._last = self.u, jacobian
