"""The Taylor test: does what is left of ``f(x + h v) - f(x) - h g.v`` fall like ``h^2``?

A witness about a gradient that needs values of the function and no estimate of the gradient. This
room must not know where the gradient comes from, nor what others say of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax import tree_util
from jaxtyping import Float

from jaxfd._arrays import finfo
from jaxfd._places import Schedule
from jaxfd._reports.probe import eps_of
from jaxfd._reports.question import Question

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
# Errors of either sign add up to so many times the length of what they are shares of.
_STRAY = 3.0
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
        error: the error of ``g.v`` that is seen; 0 for none, NaN where that cannot be told.
    """

    verdict: str
    slope: float
    miss: float
    kink: float
    noise: float
    reach: float
    error: float


_UNKNOWN = Taylor("cannot tell", math.nan, math.inf, 0.0, 0.0, 0.0, math.nan)


def taylor_test(
    question: Question,
    direction: Sequence[np.ndarray],
    terms: Sequence[Float[np.ndarray, "n"]],
    room: tuple[float, float],
    rounding: float,
    rtol: float,
    schedule: Schedule,
    order: int = 1,
) -> tuple[list[Taylor], int]:
    """Tests a derivative against values on a line, to both sides of ``x``.

    With ``q(h) = (f(x + h v) - f(x)) / h - g.v``, the mean of ``q(h)`` and ``q(-h)`` falls like
    ``h^2`` for a right gradient, and tends to the error of ``g.v`` for a wrong one, so that the
    remainder ``h q`` falls like ``h``. Half of their difference falls like ``h``, or tends to half
    a kink. Where there is room to one side only, ``q`` of that side is all there is. For a Hessian
    ``q(h) = (f(x + h v) - 2 f(x) + f(x - h v)) / h^2 - v.H.v`` does as that mean does.

    Args:
        question: function and point.
        direction: ``v``, one leaf for each that moves.
        terms: for each output the terms ``g_i v_i`` of the claimed ``g.v``, or those of ``v.H.v``.
        room: how far the line may go forwards and backwards, in directions.
        rounding: the relative error that the claimed derivative may have in its dtype.
        rtol: the relative error that counts as none.
        schedule: how many points are evaluated at once.
        order: 1 for a gradient, 2 for a Hessian.

    Returns:
        What it says of each output, and the number of evaluations.

    Reference:
        P. Farrell, D. Ham, S. Funke and M. Rognes, SIAM J. Sci. Comput. 35 (2013) C369-C393.
    """
    eps = eps_of(question.fun, direction)
    powers = np.linspace(_LONGEST, np.log2(eps) / 2, _RUNGS)
    h = 2.0 ** np.unique(np.round(powers))[::-1]
    sides = [h[h <= room[0]], -h[h <= room[1]]]
    if not sum(map(len, sides)) or not any(np.all(np.isfinite(t)) for t in terms):
        return [_UNKNOWN] * len(terms), 0
    value, change, moved = question.along(direction, np.concatenate(sides), schedule)
    dtypes = [leaf.dtype for leaf in tree_util.tree_leaves(question.out) for _ in range(leaf.size)]
    found = []
    for row, own in enumerate(terms):
        if not np.all(np.isfinite(own)):
            found.append(_UNKNOWN)
            continue
        line = _Line(h, sides, float(value[row]), change[:, row], moved)
        wide = max(eps, eps_of(question.fun, [np.zeros(0, dtypes[row])]))
        found.append(_test(line, own, wide, float(finfo(dtypes[row]).eps), rounding, rtol, order))
    return found, len(moved) + 1


class _Line(NamedTuple):
    """Values of one output on the line: distances asked for, sides, centre, changes, moves."""

    h: Float[np.ndarray, "h"]
    sides: Sequence[Float[np.ndarray, "_"]]
    value: float
    change: Float[np.ndarray, "k"]
    moved: Float[np.ndarray, "k"]


def _test(
    line: _Line,
    terms: Float[np.ndarray, "n"],
    eps: float,
    returned: float,
    rounding: float,
    rtol: float,
    order: int,
) -> Taylor:
    """The test of one output, as `taylor_test` describes it."""
    h, change, moved = line.h, line.change, line.moved
    good = np.isfinite(change) & (moved != 0)
    ratio = np.full(len(change), np.nan)
    ratio[good] = change[good] / moved[good]
    seen = np.full((2, len(h)), np.nan)
    for row, part in zip(seen, np.split(ratio, [len(line.sides[0])]), strict=True):
        # A side with less room begins at a lower rung.
        row[len(h) - len(part) :] = part
    sizes = np.max(np.abs(np.where(np.isfinite(seen), seen, 0.0)), axis=0)
    slope = float(np.sum(terms))
    noise = _noise(change[good], moved[good], h[max(0, len(h) - _SHORT)])
    # What is divided by a power of h, and what is left to compare with.
    power, rises = (h, seen) if order == 1 else (h**2, (seen[0] - seen[1])[None] / h)
    steep = np.max(np.abs(np.where(np.isfinite(rises), rises, 0.0)), axis=0)
    reach = float(steep[np.flatnonzero(steep)[0]]) if steep.any() else 0.0
    scale = max(float(np.sum(np.abs(terms))), vanishing(eps) * reach)
    floor = eps * (abs(line.value) + (scale if order == 1 else 0)) + returned * sizes * h + noise
    floor = _ROUNDINGS * floor
    q = rises - slope
    if order == 2:
        mean, half = q[0], 0 * h
    elif np.sum(np.isfinite(q).all(axis=0)) >= _IN_A_ROW:
        mean, half = (q[0] + q[1]) / 2, (q[0] - q[1]) / 2
    else:
        mean, half = max(q, key=lambda side: int(np.sum(np.isfinite(side)))), 0 * h
    counts = (rtol + rounding) * scale
    # What errors of single entries add up to if each is small enough, and of either sign. Where
    # one alone, of common size, would make a wrong entry, they are not known to be so many.
    peak = float(np.max(np.abs(terms), initial=0.0)) or 1.0  # no square overflows
    norm = peak * float(np.linalg.norm(terms / peak))
    alone = RESOLUTION / math.sqrt(max(int(np.count_nonzero(terms)), 1))
    stray = (_STRAY * rounding + min(_STRAY, alone) * rtol) * norm
    none = RESOLUTION * rtol * scale
    error = _limit(mean, power, floor, counts, none, stray)
    # A kink that cannot be told from a bend is none.
    kink = float(np.nan_to_num(abs(_limit(half, h, floor, counts, np.inf))))
    verdict = "differs" if error else "agrees"
    # Only a claim of nothing agrees with a flat step.
    flat = not terms.any() and _flat(change[good], moved[good], _CLEAR * eps * abs(line.value))
    stairs = flat or _stairs(mean, power, floor, slope)
    if kink or math.isnan(error) or (not error and stairs):
        verdict = "cannot tell"
    fall = _slope((np.abs(mean) + np.abs(half)) * power, h, floor)
    # Far out a bounded function has no slope at all: only short distances know that of x.
    near = h <= h[len(h) // 2]
    miss = _second(mean[near], power[near], floor[near])
    return Taylor(verdict, fall, miss, 2 * kink, noise, reach, error)


def _limit(
    q: Float[np.ndarray, "k"],
    h: Float[np.ndarray, "k"],
    floor: Float[np.ndarray, "k"],
    counts: float,
    none: float,
    stray: float = math.inf,
) -> float:
    """Where ``q`` tends to as ``h`` falls.

    Args:
        q: the quotients, from the longest distance to the shortest.
        h: the distances.
        floor: how much of ``h q`` rounding and noise explain.
        counts: the size from which a limit counts.
        none: the size up to which it is none.
        stray: the size from which a limit that does not count is not none either: it may be the
            error of one entry among many.

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
        if steady and on and owned and abs(level) > stray:
            return math.nan
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


def _flat(change: Float[np.ndarray, "k"], moved: Float[np.ndarray, "k"], floor: float) -> bool:
    """Whether nothing at all changes where a bowl as wide as the line would show."""
    if not change.any():
        return False
    far = int(np.argmax(np.abs(moved)))
    bowl = np.abs(change[far]) * (moved / moved[far]) ** 2
    return bool(np.sum((change == 0) & (bowl > floor)) >= _IN_A_ROW)


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
