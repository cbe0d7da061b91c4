"""What is known of a Hessian: its inverse as a matrix, or as the last moves with what they changed.

Broyden, Fletcher, Goldfarb and Shanno: the whole matrix up to some hundred entries, limited memory
beyond. Pairs without positive curvature, or with no more than the noise of their gradients
explains, are left out. This room must not know where the numbers come from, nor what directions are
good for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

# Up to so many entries the matrix is held; beyond, so many pairs.
_DENSE, _MEMORY = 500, 30


class Metric(NamedTuple):
    """An approximation of the inverse of the Hessian.

    Attributes:
        first: where it begins: a diagonal, positive.
        inverse: the matrix, shape ``(n, n)``; empty where there are no pairs yet, or too many
            entries.
        s: moves, the last one last, of large problems.
        y: what gradients changed by.
        used: how many pairs went in.
        wider: whether the last move saw no positive curvature.
    """

    first: Float[np.ndarray, "n"]
    inverse: Float[np.ndarray, "n n"]
    s: Float[np.ndarray, "m n"]
    y: Float[np.ndarray, "m n"]
    used: int = 0
    wider: bool = False

    @classmethod
    def begin(cls, first: Float[np.ndarray, "n"]) -> Metric:
        """One that knows a diagonal."""
        n = len(first)
        return cls(first, np.zeros((0, 0)), np.zeros((0, n)), np.zeros((0, n)))

    def times(self, g: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """The inverse of the approximate Hessian times a vector.

        Reference:
            J. Nocedal and S. Wright, "Numerical Optimization", 2nd ed., algorithm 7.4.
        """
        if self.inverse.size:
            found: np.ndarray = self.inverse @ g
            return found
        q, weights = g.copy(), []
        bends = np.einsum("ij,ij->i", self.s, self.y)
        for s, y, bend in zip(self.s[::-1], self.y[::-1], bends[::-1], strict=True):
            weights.append(s @ q / bend)
            q -= weights[-1] * y
        q *= self.first
        for s, y, bend in zip(self.s, self.y, bends, strict=True):
            q += s * (weights.pop() - y @ q / bend)
        return q

    def within(
        self, g: Float[np.ndarray, "n"], free: Bool[np.ndarray, "n"]
    ) -> Float[np.ndarray, "n"]:
        """The same where only some entries may move: the Hessian's part of those is inverted."""
        if free.all() or not free.any() or not self.inverse.size:
            return np.where(free, self.times(np.where(free, g, 0.0)), 0.0)
        # The inverse of a part of B, by what the inverse of B says of the rest (Schur).
        held = ~free
        inner = self.inverse[np.ix_(held, held)]
        cross = self.inverse[np.ix_(free, held)]
        part = self.inverse[np.ix_(free, free)] - cross @ np.linalg.solve(inner, cross.T)
        p = np.zeros_like(g)
        p[free] = part @ g[free]
        return p

    def learn(
        self,
        s: Float[np.ndarray, "n"],
        y: Float[np.ndarray, "n"],
        blur: Float[np.ndarray, "n"],
    ) -> Metric:
        """The metric with one more pair, where that can be.

        Args:
            s: a move.
            y: what the gradient changed by.
            blur: the standard deviation of the gradient's noise.
        """
        bend = float(s @ y)
        certain = float(np.sqrt((s @ s) * (y @ y))) * 1e-10
        blurred = 2 * float(np.sqrt(np.sum((s * blur) ** 2)))
        if not bend > max(certain, blurred) or not np.isfinite(bend):
            # Nothing bends upwards here: go farther next time.
            first = self.first if self.used else 4 * self.first
            return self._replace(first=first, wider=True)
        used = self.used + 1
        if len(s) > _DENSE:
            moves = np.concatenate([self.s, s[None]])[-_MEMORY:]
            changes = np.concatenate([self.y, y[None]])[-_MEMORY:]
            scale = bend / float(y @ (self.first * y))
            return Metric(self.first * scale, self.inverse, moves, changes, used)
        inverse = self.inverse if self.inverse.size else np.diag(self.first)
        hy = inverse @ y
        far = (1 + float(y @ hy) / bend) / bend
        new = inverse + far * np.outer(s, s) - (np.outer(hy, s) + np.outer(s, hy)) / bend
        return Metric(self.first, new, self.s, self.y, used)
