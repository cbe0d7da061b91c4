"""The Taylor test: does what is left of ``f(x + h v) - f(x) - h g.v`` fall like ``h^2``?

A witness about a gradient that needs values of the function and no estimate of the gradient. This
room must not know where the gradient comes from, nor what others say of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, PyTree

from jaxfd._arrays import finfo
from jaxfd._places import Schedule
from jaxfd._reports.probe import eps_of, probe

# Distances run from a quarter of max(|x|, 1) to eps^(1/2), where the remainder of a smooth function
# is lost in rounding.
_RUNGS, _LONGEST = 11, -2
# An error of the slope counts where so many rungs in a row show it, within this share of it. The
# remainder of a right gradient, and noise, change by a factor from rung to rung.
_IN_A_ROW, _SPREAD = 4, 0.2
# So many show that a function has another slope on a larger scale.
_AFAR = 3
# How many of the shortest distances the noise is read from: so short that a cubic is enough.
_SHORT = 6
# How far above rounding a remainder means something.
_CLEAR = 10.0
# Rounding of a value, of a point, and what the function adds to it.
_ROUNDINGS = 4.0
# What agrees must be known this many times better than `rtol`, for which it stands up to 1e-3.
RESOLUTION = 5.0


def vanishing(eps: float) -> float:
    """The share of what moves a function at a longer distance, below which a gradient is none.

    Near an extremum a gradient has no digits of its own, and is measured against this.
    """
    return float(eps**0.25)


@dataclasses.dataclass(frozen=True)
class Taylor:
    """What the Taylor test says.

    Attributes:
        verdict: ``"agrees"``, ``"differs"`` or ``"cannot tell"``.
        slope: the power of h with which the remainder falls: near 2 for a right gradient, 1 for a
            wrong one or a kink; NaN where too little of it stands out of rounding.
        miss: how large the error of ``g.v`` may be at most, seen at the best of the shorter
            distances.
        kink: by how much the slopes to both sides differ; 0 where no kink is seen.
        noise: the standard deviation of the values about a smooth course at short distances.
        reach: how large ``|f(x + h v) - f(x)| / h`` is at the longest distance.
        evaluations: the number of evaluations.
    """

    verdict: str
    slope: float
    miss: float
    kink: float
    noise: float
    reach: float
    evaluations: int


def taylor_test(
    name: str,
    fun: Callable[[PyTree], Any],
    x: PyTree,
    direction: Sequence[np.ndarray],
    slopes: Float[np.ndarray, "n"],
    room: tuple[float, float],
    rounding: float,
    rtol: float,
    schedule: Schedule,
) -> Taylor:
    """Tests a gradient against values on a line, to both sides of ``x``.

    With ``q(h) = (f(x + h v) - f(x)) / h - g.v``, the mean of ``q(h)`` and ``q(-h)`` falls like
    ``h^2`` for a right gradient, and tends to the error of ``g.v`` for a wrong one, so that the
    remainder ``h q`` falls like ``h``. Half of their difference falls like ``h``, or tends to half
    a kink. Where there is room to one side only, ``q`` of that side is all there is.

    Args:
        name: what errors call the caller.
        fun: the function.
        x: the argument.
        direction: ``v``, one leaf for each of ``x``.
        slopes: the terms ``g_i v_i`` of the claimed ``g.v``.
        room: how far the line may go forwards and backwards, in directions.
        rounding: the relative error that the claimed gradient may have in its dtype.
        rtol: the relative error that counts as none.
        schedule: how many points are evaluated at once.

    Returns:
        What it says.

    Reference:
        P. Farrell, D. Ham, S. Funke and M. Rognes, SIAM J. Sci. Comput. 35 (2013) C369-C393.
    """
    powers = np.linspace(_LONGEST, np.log2(eps_of(fun, direction)) / 2, _RUNGS)
    h = 2.0 ** np.unique(np.round(powers))[::-1]
    sides = [h[h <= room[0]], -h[h <= room[1]]]
    if not sum(map(len, sides)) or not np.all(np.isfinite(slopes)):
        return Taylor("cannot tell", math.nan, math.inf, 0.0, 0.0, 0.0, 0)
    value, change, moved = probe(name, fun, x, direction, np.concatenate(sides), schedule)
    good = np.isfinite(change) & (moved != 0)
    ratio = np.full(len(change), np.nan)
    ratio[good] = change[good] / moved[good]
    seen = np.full((2, len(h)), np.nan)
    for row, part in zip(seen, np.split(ratio, [len(sides[0])]), strict=True):
        # A side with less room begins at a lower rung.
        row[len(h) - len(part) :] = part
    sizes = np.max(np.abs(np.where(np.isfinite(seen), seen, 0.0)), axis=0)
    reach = float(sizes[np.flatnonzero(sizes)[0]]) if sizes.any() else 0.0
    eps = eps_of(fun, [*direction, value])
    scale = max(float(np.sum(np.abs(slopes))), vanishing(eps) * reach)
    returned = float(finfo(value.dtype).eps)
    noise = _noise(change[good], moved[good], h[max(0, len(h) - _SHORT)])
    floor = _ROUNDINGS * (eps * (abs(float(value)) + scale) + returned * sizes * h + noise)
    q = seen - float(np.sum(slopes))
    if np.sum(np.isfinite(q).all(axis=0)) >= _IN_A_ROW:
        mean, half = (q[0] + q[1]) / 2, (q[0] - q[1]) / 2
    else:
        mean, half = max(q, key=lambda side: int(np.sum(np.isfinite(side)))), 0 * h
    counts = (rtol + rounding) * scale
    none = RESOLUTION * rtol * scale
    error = _limit(mean, h, floor, counts, none)
    # A kink that cannot be told from a bend is none.
    kink = float(np.nan_to_num(abs(_limit(half, h, floor, counts, np.inf))))
    verdict = "differs" if error else "agrees"
    if kink or math.isnan(error) or (not error and _stairs(mean, h, floor, float(np.sum(slopes)))):
        verdict = "cannot tell"
    slope = _slope((np.abs(mean) + np.abs(half)) * h, h, floor)
    # Far out a bounded function has no slope at all: only short distances know that of x.
    near = h <= h[len(h) // 2]
    miss = _second(mean[near], h[near], floor[near])
    return Taylor(verdict, slope, miss, 2 * kink, noise, reach, len(change) + 1)


def _limit(
    q: Float[np.ndarray, "k"],
    h: Float[np.ndarray, "k"],
    floor: Float[np.ndarray, "k"],
    counts: float,
    none: float,
) -> float:
    """Where ``q`` tends to as ``h`` falls.

    Args:
        q: the quotients, from the longest distance to the shortest.
        h: the distances.
        floor: how much of ``h q`` rounding and noise explain.
        counts: the size from which a limit counts.
        none: the size up to which it is none.

    Returns:
        The limit, 0 for none, or NaN where that cannot be told.
    """
    q, h, floor = (a[np.isfinite(q)] for a in (q, h, floor))
    clear = np.flatnonzero(np.abs(q) * h > _CLEAR * floor)
    last = int(clear[-1]) if len(clear) else 0
    if last + 1 >= _IN_A_ROW:
        run = q[last + 1 - _IN_A_ROW : last + 1]
        level = float(np.median(run))
        steady = bool(np.all(np.abs(run - level) <= _SPREAD * abs(level)))
        # Shorter distances show it too, within their noise, and of the longer ones all but one,
        # which may hide it by chance.
        shorter = slice(last + 1, None)
        on = bool(np.all(np.abs(q - level)[shorter] * h[shorter] <= 2 * floor[shorter]))
        owned = np.sum(np.abs(q[: last + 1]) < abs(level) / 2) <= 1
        if steady and on and owned and abs(level) > counts:
            return level
    if len(q) < _IN_A_ROW:
        return math.nan
    # A constant has no scale that it could be small for, and needs none.
    return 0.0 if not q.any() or _second(q, h, floor) <= none else math.nan


def _stairs(
    q: Float[np.ndarray, "k"],
    h: Float[np.ndarray, "k"],
    floor: Float[np.ndarray, "k"],
    slope: float,
) -> bool:
    """Whether the function has a slope at some distance that is quite another one than at ``x``."""
    far, clear = q + slope, np.abs(q) * h > _CLEAR * floor
    for i in range(len(q) - _AFAR + 1):
        run = far[i : i + _AFAR]
        level = float(np.median(run))
        steady = np.all(clear[i : i + _AFAR]) and np.ptp(run) <= _SPREAD * abs(level)
        if steady and abs(level - slope) > max(abs(level), abs(slope)) / 2:
            return True
    return False


def _second(
    q: Float[np.ndarray, "k"], h: Float[np.ndarray, "k"], floor: Float[np.ndarray, "k"]
) -> float:
    """How large the limit of ``q`` may be, by the second best rung: one may be good by chance."""
    sure = (np.abs(q) + floor / h)[np.isfinite(q)]
    return float(np.sort(sure)[1]) if len(sure) > 1 else math.inf


def _noise(change: Float[np.ndarray, "k"], moved: Float[np.ndarray, "k"], longest: float) -> float:
    """How far values at short distances are from any cubic with a kink at ``x``."""
    near = np.abs(moved) <= 1.01 * longest
    t = np.append(moved[near] / longest, 0.0)
    basis = np.stack([np.ones_like(t), t, np.abs(t), t**2, t**3], axis=1)
    # Scaled, so that no square overflows or vanishes.
    size = float(np.max(np.abs(change[near]), initial=0.0)) or 1.0
    values = np.append(change[near], 0.0) / size
    fit, _, rank, _ = np.linalg.lstsq(basis, values, rcond=None)
    if len(t) - rank < 2:
        return 0.0
    return size * float(np.linalg.norm(values - basis @ fit)) / math.sqrt(len(t) - rank)


def _slope(
    remainder: Float[np.ndarray, "k"], h: Float[np.ndarray, "k"], floor: Float[np.ndarray, "k"]
) -> float:
    """The power of h with which a remainder falls on the last rungs where it is clear."""
    with np.errstate(invalid="ignore"):
        clear = np.flatnonzero(remainder > _CLEAR * floor)[-_IN_A_ROW:]
    if len(clear) < _IN_A_ROW - 1:
        return math.nan
    return float(np.polyfit(np.log(h[clear]), np.log(remainder[clear]), 1)[0])
