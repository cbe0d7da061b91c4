"""Differences along every entry, in NumPy: slopes, curvatures, and which sides failed.

It exists because a black box is differenced without JAX, and because a point that failed beside
``x`` is answered by the point on its other side. It must not know what the numbers are for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

Values = Callable[[Float[np.ndarray, "m n"]], Float[np.ndarray, "m"]]


class Slopes(NamedTuple):
    """What differences at a point tell.

    Attributes:
        slope: the gradient; NaN for entries without any finite neighbour.
        bend: second derivatives by each entry alone; NaN where points lie on one side only.
        rise: the largest change of the value that an entry's points have shown.
        blocked: 1 where the point above failed, -1 where that below did, 2 for both, 0 for none.
        evaluations: how many it took.
    """

    slope: Float[np.ndarray, "n"]
    bend: Float[np.ndarray, "n"]
    rise: Float[np.ndarray, "n"]
    blocked: Int[np.ndarray, "n"]
    evaluations: int


def side(
    v: Float[np.ndarray, "n"],
    h: Float[np.ndarray, "n"],
    lower: Float[np.ndarray, "n"],
    upper: Float[np.ndarray, "n"],
) -> Float[np.ndarray, "n"]:
    """1 where a step goes up, -1 where only below there is room."""
    up = upper - v
    return np.where((h <= up) | (up >= v - lower), 1.0, -1.0)


def one_sided(
    values: Values,
    v: Float[np.ndarray, "n"],
    value: float,
    h: Float[np.ndarray, "n"],
    lower: Float[np.ndarray, "n"],
    upper: Float[np.ndarray, "n"],
) -> Slopes:
    """Forward differences; backward ones where a wall or a failure is ahead."""
    sign = side(v, h, lower, upper)
    slope, rise, lost = _along(values, v, value, sign * h, lower, upper)
    blocked = np.where(lost, sign, 0).astype(np.int64)
    cost = int(np.count_nonzero(rise == rise) + np.count_nonzero(lost))
    if lost.any():
        back, other, still = _along(values, v, value, -sign * h * lost, lower, upper)
        cost += int(np.count_nonzero(lost & (other == other)) + np.count_nonzero(still))
        slope = np.where(lost, back, slope)
        rise = np.where(lost, other, rise)
        blocked = np.where(still, 2, blocked)
    return Slopes(slope, np.full(len(v), np.nan), np.abs(np.nan_to_num(rise)), blocked, cost)


def two_sided(
    values: Values,
    v: Float[np.ndarray, "n"],
    value: float,
    h: Float[np.ndarray, "n"],
    lower: Float[np.ndarray, "n"],
    upper: Float[np.ndarray, "n"],
) -> Slopes:
    """Central differences; both points on one side where a wall is near."""
    up, down = upper - v, v - lower
    central = h <= np.minimum(up, down)
    sign = np.where(up >= down, 1.0, -1.0)
    far = np.minimum(2 * h, np.maximum(up, down))
    first, second = np.where(central, h, sign * far / 2), np.where(central, -h, sign * far)
    rows, place = _rows(v, np.concatenate([first, second]), lower, upper)
    n = len(v)
    rise = np.full(2 * n, np.nan)
    moved = np.zeros(2 * n)
    which = place % n
    moved[place] = rows[np.arange(len(place)), which] - v[which]
    if len(rows):
        rise[place] = values(rows) - value
    a, b, ra, rb = moved[:n], moved[n:], rise[:n], rise[n:]
    with np.errstate(all="ignore"):
        qa, qb = ra / a, rb / b
        slope, bend = (qa * b - qb * a) / (b - a), 2 * (qa - qb) / (a - b)
    fine_a, fine_b = np.isfinite(ra), np.isfinite(rb)
    both = fine_a & fine_b
    slope = np.where(both, slope, np.where(fine_a, qa, qb))
    none = moved[:n] == 0  # no room at all
    slope = np.where(none, 0.0, np.where(np.isfinite(slope), slope, np.nan))
    blocked = np.where(both | none, 0, np.where(fine_a, np.sign(b), np.sign(a)))
    blocked = np.where(~fine_a & ~fine_b & ~none, 2, blocked).astype(np.int64)
    most = np.fmax(np.abs(ra), np.abs(rb))
    most = np.where(np.isfinite(most), most, 0.0)
    return Slopes(slope, np.where(both, bend, np.nan), most, blocked, len(rows))


def _along(
    values: Values,
    v: Float[np.ndarray, "n"],
    value: float,
    steps: Float[np.ndarray, "n"],
    lower: Float[np.ndarray, "n"],
    upper: Float[np.ndarray, "n"],
) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Slopes by one point an entry, the rises, and where that point failed."""
    rows, place = _rows(v, steps, lower, upper)
    slope, rise = np.zeros(len(v)), np.full(len(v), np.nan)
    lost = np.zeros(len(v), bool)
    if len(rows):
        moved = rows[np.arange(len(place)), place] - v[place]
        rise[place] = values(rows) - value
        lost[place] = ~np.isfinite(rise[place])
        slope[place] = np.where(lost[place], np.nan, rise[place] / moved)
    return slope, np.where(lost, np.nan, rise), lost


def _rows(
    v: Float[np.ndarray, "n"],
    steps: Float[np.ndarray, "k"],
    lower: Float[np.ndarray, "n"],
    upper: Float[np.ndarray, "n"],
) -> tuple[Float[np.ndarray, "m n"], Int[np.ndarray, "m"]]:
    """The points that differ from ``v`` in one entry, and which of the steps each belongs to."""
    n = len(v)
    entry = np.arange(len(steps)) % n
    ends = np.clip(v[entry] + steps, lower[entry], upper[entry])
    place = np.flatnonzero(ends != v[entry])
    rows = np.repeat(v[None], len(place), 0)
    rows[np.arange(len(place)), entry[place]] = ends[place]
    return rows, place
