"""A close look: whether a function has a claimed slope on a smaller scale than differences see.

A gradient that is right at or beside a kink, or on a feature much narrower than the step, disagrees
with every difference. This room must not know where claim and difference come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from jaxfd._arrays import finfo
from jaxfd._places import Schedule
from jaxfd._reports.probe import eps_of
from jaxfd._reports.question import Question
from jaxfd._reports.ripples import ripples, uneven

# Distances in spacings of x: those within a thousand, and longer ones, the longest of them closer
# together.
_NEAR = 2.0 ** np.arange(0, 11, 2)
_OCTAVES, _DENSE = 3, 9
# They are longer than the steps of differences by this factor at most.
_LONGEST = 0.25
# Roundings of a value or a point; and how far above them a change means something.
_ROUNDINGS, _CLEAR = 4.0, 4.0
# A feature that explains a gap is at most as high as the gap makes it over its width, times this.
_LOW = 8.0
# No number of points averages noise away by more than this.
_AVERAGED = 32.0
# A quotient is one of two numbers if it is nearer to it than this share of what they are apart.
_SHARE = 0.25
# So many quotients in a row show a slope, and so many a kink or a curvature.
_IN_A_ROW, _STEADY = 2, 3


class Look(NamedTuple):
    """What a close look shows.

    Attributes:
        right: whether a claim may be right at ``x``, and what was found farther out.
        kink: by how much the slopes to both sides of ``x`` differ; 0 where no kink is seen.
        unsure: what rounding of ``x`` itself makes of the derivative along the line.
        spent: the number of evaluations.
    """

    right: bool
    kink: float = 0.0
    unsure: float = 0.0
    spent: int = 0


def look(
    question: Question,
    direction: Sequence[np.ndarray],
    row: int,
    claim: float,
    found: float,
    room: tuple[float, float],
    step: float,
    schedule: Schedule,
    order: int = 1,
) -> Look:
    """Whether a derivative may be right at ``x``, and the one that was found right farther out.

    It may be where the quotients of short distances are what was claimed; where those to both sides
    are two slopes and the claim lies between them; where values within 1,000 spacings of ``x``
    change by as much as a feature of that slope would make them, or by more than the gap does as
    far as was looked; or where they ripple on a scale between these and the step.

    Args:
        question: function and point.
        direction: what a distance of 1 is: about as long as ``x`` is large.
        row: which output.
        claim: the claimed derivative along it.
        found: what was found at longer distances.
        room: how far the line may go forwards and backwards.
        step: from how far away what was found comes; it is looked at shorter distances alone, or
            as far as a table of the length of ``x`` has its next node.
        schedule: how many points are evaluated at once.
        order: that of the derivative, 1 or 2.
    """
    spacing = max(float(finfo(leaf.dtype).eps) for leaf in question.leaves)
    table = question.table
    longest = max(_LONGEST * min(1.0, step), 1 / table if table else 0.0)
    h = _distances(spacing, longest)
    sides = [h[h <= side] for side in room]
    if not np.isfinite(claim - found) or min(map(len, sides)) == 0 < order - 1:
        return Look(False)
    distances = np.concatenate([sides[0], -sides[1]])
    if not len(distances):
        return Look(False)
    value, change, moved = question.along(direction, distances, schedule)
    own = np.where(np.isfinite(change[:, row]) & (moved != 0), change[:, row], np.nan)
    forth, back = _both(own, sides, len(h))
    there, behind = _both(moved, sides, len(h))
    like = _like(question, row)
    eps = eps_of(question.fun, [*question.leaves, like])
    # What is lost of the point is lost of the value, too.
    rounding = _ROUNDINGS * eps * (abs(float(value[row])) + abs(found))
    gap = abs(claim - found)
    with np.errstate(invalid="ignore", divide="ignore"):
        up, down = forth / there, back / behind
        if order == 1:
            two = (forth - back) / (there - behind)
            one = np.where(np.isfinite(forth), up, down)
            quotient = np.where(np.isfinite(two), two, one)
        else:
            quotient = (forth + back) / (there * there)
        bend = 2 * (up - down) / (there - behind)
    short = h <= longest
    kink = unsure = 0.0
    right = _shown(quotient[short], h[short] ** order, rounding, claim, gap)
    near = h <= _NEAR[-1] * spacing
    odd, even = forth - back, forth + back
    # Changes are rounded, too.
    lost = _ROUNDINGS * float(finfo(like.dtype).eps) * np.fmax(np.abs(forth), np.abs(back))
    lost = rounding + np.where(np.isfinite(lost), lost, 0.0)
    height = max(uneven(even[near], h[near], 2), uneven(odd[near], h[near], 3))
    narrow = gap * (h[near][-1:].sum()) ** order
    high = height > _LOW * np.max(lost[near], initial=0.0)
    right |= high and height <= _LOW * narrow
    if order == 1:
        right |= high and gap * min(1.0, step) < height / _AVERAGED
        if table:
            # A node may lie close to x, on one side.
            parts = (_shown(side[short], h[short], rounding, claim, gap) for side in (up, down))
            right |= any(parts) or table * rounding > _SHARE * gap
        right |= ripples(odd, even, h, longest, (claim, found), height, lost)
        # Of the slopes of single entries no more is known than that they may be as large.
        kink, between = _kink(up, down, h, rounding + _ROUNDINGS * eps * gap, claim, gap)
        right |= between
        unsure = _ROUNDINGS * eps * _length(question, direction) * _bend(bend, h, rounding)
    return Look(bool(right), kink, unsure, len(distances) + 1)


def _distances(spacing: float, longest: float) -> Float[np.ndarray, "k"]:
    """Powers of two: a few near ``x``, and some as far as the longest."""
    near = np.log2(spacing * _NEAR)
    far = np.arange(near[-1] + _OCTAVES, 1, _OCTAVES)
    dense = np.floor(np.log2(longest)) - np.arange(_DENSE) if longest > 0 else far[:0]
    far = np.concatenate([far, dense[dense > near[-1]]])
    return 2.0 ** np.union1d(near, far[far <= np.log2(longest)] if longest > 0 else far[:0])


def _length(question: Question, direction: Sequence[np.ndarray]) -> float:
    """How large ``x`` is in units of the direction."""
    return max(
        float(np.max(np.abs(z[v != 0] / v[v != 0]), initial=0.0))
        for z, v in zip(question.leaves, direction, strict=True)
    )


def _like(question: Question, row: int) -> np.ndarray:
    """Something of the dtype of one output."""
    leaves = jax.tree.leaves(question.out)
    ends = np.cumsum([leaf.size for leaf in leaves])
    return np.zeros(0, leaves[int(np.searchsorted(ends, row, side="right"))].dtype)


def _both(
    values: Float[np.ndarray, "k"], sides: Sequence[np.ndarray], size: int
) -> list[Float[np.ndarray, "h"]]:
    """Values forwards and backwards, NaN where there was no room."""
    full = np.full((2, size), np.nan)
    for part, own in zip(full, np.split(values, [len(sides[0])]), strict=True):
        part[: len(own)] = own
    return [full[0], full[1]]


def _shown(
    quotient: Float[np.ndarray, "h"],
    power: Float[np.ndarray, "h"],
    rounding: float,
    claim: float,
    gap: float,
) -> bool:
    """Whether the quotients of the shortest distances that mean something are the claim."""
    unsure = rounding / power
    known = np.isfinite(quotient) & (unsure < _SHARE * gap)
    same = np.abs(quotient - claim)[known] <= _SHARE * gap + unsure[known]
    return len(same) >= _IN_A_ROW and bool(np.all(same[:_IN_A_ROW]))


def _kink(
    up: Float[np.ndarray, "h"],
    down: Float[np.ndarray, "h"],
    h: Float[np.ndarray, "h"],
    rounding: float,
    claim: float,
    gap: float,
) -> tuple[float, bool]:
    """The jump of the slope at ``x``, and whether the claim lies in it.

    At a kink the quotients to either side tend to a slope of their own. Those of noise grow as
    distances fall, and what tells a bend from a kink falls with them.
    """
    known = np.flatnonzero(np.isfinite(up - down) & (rounding / h < _SHARE * gap))[:_STEADY]
    if len(known) < _STEADY:
        return 0.0, False
    rows = np.stack([up[known], down[known]])
    jump = float(np.min(np.abs(rows[0] - rows[1])))
    slack = _SHARE * jump
    if np.any(np.ptp(rows, axis=1) > slack) or jump * h[known[0]] <= rounding:
        return 0.0, False
    return jump, bool(np.min(rows) - slack <= claim <= np.max(rows) + slack)


def _bend(bend: Float[np.ndarray, "h"], h: Float[np.ndarray, "h"], rounding: float) -> float:
    """The curvature that the shortest distances agree about; 0 where they do not."""
    known = np.flatnonzero(np.isfinite(bend) & (np.abs(bend) * h**2 > _CLEAR * rounding))[:_STEADY]
    if len(known) < _STEADY or np.ptp(bend[known]) > _SHARE * np.min(np.abs(bend[known])):
        return 0.0
    return float(np.min(np.abs(bend[known])))
