"""The step of a least-squares method: the best point of a model in a ball and a box.

Everything is in scaled variables, in which the Jacobian's columns have about unit length. This room
must not know where a model comes from.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float

# Functions of a step: the residuals that a model promises there, and their Jacobian.
Values = Callable[[Float[np.ndarray, "n"]], Float[np.ndarray, "m"]]
Slopes = Callable[[Float[np.ndarray, "n"]], Float[np.ndarray, "m n"]]

# The length of a step is found to this share of the radius.
_CLOSE = 1e-3
# How often a curved model is linearised, and how often such a step is halved.
_ROUNDS, _HALVINGS = 8, 6
# A step that is no good in the model is not shortened further than this.
_SHORTEST = 1e-12
# Where a round brings less than this share of what was won, it was the last.
_LITTLE = 1e-3


def ball_step(
    a: Float[np.ndarray, "m n"], r: Float[np.ndarray, "m"], radius: float
) -> tuple[Float[np.ndarray, "n"], bool]:
    """The least ``|r + a q|`` with ``|q| <= radius``, and whether the ball cuts it short.

    Example:
        >>> q, cut = ball_step(np.eye(2), np.array([3.0, 4.0]), 1.0)
        >>> print(np.allclose(q, [-0.6, -0.8], atol=1e-3), cut)
        True True

    Reference:
        J. Moré, "The Levenberg-Marquardt algorithm: implementation and theory", Numerical Analysis,
        Lecture Notes in Mathematics 630 (1978) 105-116.
    """
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    g = u.T @ r
    least = (s[0] if s.size else 0.0) * 1e-14 * max(a.shape)
    if s.size and s[-1] > least:
        whole = -g / s
    else:
        kept = s > least
        whole = np.where(kept, -g / np.where(kept, s, 1.0), 0.0)
    if math.sqrt(whole @ whole) <= radius:
        return vt.T @ whole, False
    sg = s * g
    low, high = 0.0, math.sqrt(sg @ sg) / radius
    damping = max(1e-3 * high, 1e-300)
    square = s * s
    for _ in range(60):
        w = square + damping
        q = sg / w
        length = math.sqrt(q @ q)
        gap = length - radius
        if abs(gap) < _CLOSE * radius:
            break
        low, high = (low, damping) if gap < 0 else (damping, high)
        slope = -float(q @ (q / w)) / length
        new = damping - gap / slope * length / radius
        inside = low < new < high
        damping = new if inside else max(math.sqrt(max(low, 1e-3 * high) * high), 1e-300)
    return vt.T @ (-sg / (square + damping)), True


def box_step(
    a: Float[np.ndarray, "m n"],
    r: Float[np.ndarray, "m"],
    radius: float,
    lower: Float[np.ndarray, "n"],
    upper: Float[np.ndarray, "n"],
) -> tuple[Float[np.ndarray, "n"], bool]:
    """The same within ``lower <= q <= upper``, which hold 0: entries that hit a wall stay on it.

    Returns:
        The step, and whether the ball or the box cuts it short.
    """
    n = a.shape[1]
    slope = a.T @ r
    q = np.zeros(n)
    free = ~(((lower >= 0) & (slope > 0)) | ((upper <= 0) & (slope < 0)))
    cut = not bool(free.all())
    left, rest = radius, r
    for _ in range(n + 1):
        if not free.any() or left <= 0:
            break
        part, short = ball_step(a[:, free], rest, left)
        cut = cut or short
        low, high = lower[free], upper[free]
        beyond = (part < low) | (part > high)
        if not beyond.any():
            q[free] = part
            return q, cut
        cut = True
        hit = np.flatnonzero(free)[beyond]
        q[hit] = np.clip(part, low, high)[beyond]
        free = free.copy()
        free[hit] = False
        fixed = ~free
        rest = r + a[:, fixed] @ q[fixed]
        left = float(np.sqrt(max(radius**2 - float(q[fixed] @ q[fixed]), 0.0)))
    return q, cut


def model_step(
    values: Values,
    slopes: Slopes,
    r: Float[np.ndarray, "m"],
    a: Float[np.ndarray, "m n"],
    radius: float,
    box: tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]] | None,
    curved: bool,
) -> tuple[Float[np.ndarray, "n"], float, bool]:
    """A good point of a model in a ball and a box.

    Args:
        values: what the model promises; that costs nothing.
        slopes: its slopes; asked only where it is more than linear.
        r: its values without a step.
        a: its slopes there.
        radius: the ball's.
        box: the lower walls, at most 0, and the upper ones, at least 0; None where there are none.
        curved: whether the model is more than linear, so that one round is not enough.

    Returns:
        The step, the model's sum of squares there, and whether ball or box cut it short.
    """

    def straight(
        a: Float[np.ndarray, "m n"], r: Float[np.ndarray, "m"]
    ) -> tuple[Float[np.ndarray, "n"], bool]:
        return ball_step(a, r, radius) if box is None else box_step(a, r, radius, *box)

    first = float(r @ r)
    best, cut = straight(a, r)
    v, value = _sum(values, best)
    share = 1.0
    while not value < first and share > _SHORTEST:
        share /= 2
        v, value = _sum(values, share * best)
    best = share * best
    if not value < first:
        return np.zeros(a.shape[1]), first, cut
    for _ in range(_ROUNDS if curved else 0):
        a = slopes(best)
        step, short = straight(a, v - a @ best)
        along, share = step - best, 1.0
        for _ in range(_HALVINGS):
            there, new = _sum(values, best + share * along)
            if new < value:
                break
            share *= 0.4
        else:
            break
        gain = value - new
        best, v, value, cut = best + share * along, there, new, short
        if gain < _LITTLE * (first - value):
            break
    return best, value, cut


def _sum(values: Values, q: Float[np.ndarray, "n"]) -> tuple[Float[np.ndarray, "m"], float]:
    v = values(q)
    return v, float(v @ v)


def pinned(
    slope: Float[np.ndarray, "n"], at_lower: Bool[np.ndarray, "n"], at_upper: Bool[np.ndarray, "n"]
) -> Bool[np.ndarray, "n"]:
    """Entries on a wall that the sum of squares pushes against."""
    found: np.ndarray = (at_lower & (slope > 0)) | (at_upper & (slope < 0))
    return found
