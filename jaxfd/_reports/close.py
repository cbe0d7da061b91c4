"""A close look: whether a function has a claimed slope on a smaller scale than differences see.

A gradient that is right beside a kink, or on a feature much narrower than the step, disagrees with
every difference. This room must not know where claim and difference come from.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float

from jaxfd._arrays import finfo
from jaxfd._places import Schedule
from jaxfd._reports.probe import eps_of
from jaxfd._reports.question import Question

# Distances in spacings of x: those within a thousand, and longer ones.
_NEAR = 2.0 ** np.arange(0, 11, 2)
_OCTAVES = 3
# They are longer than the steps of differences by this factor at most.
_LONGEST = 0.25
# Roundings of a value; and how far above them a change means something.
_ROUNDINGS, _CLEAR = 4.0, 4.0
# A feature that explains a gap is as high as the gap makes it over its width, give or take this.
_LOW, _HIGH = 8.0, 100.0
# A quotient is one of two numbers if it is nearer to it than this share of what they are apart.
_SHARE = 0.25
# So many quotients in a row show a slope.
_IN_A_ROW = 2


def explained(
    question: Question,
    direction: Sequence[np.ndarray],
    row: int,
    claim: float,
    found: float,
    room: tuple[float, float],
    step: float,
    schedule: Schedule,
    order: int = 1,
) -> tuple[bool, int]:
    """Whether a derivative may be right at ``x``, and the one that was found right farther out.

    It may be where the quotients of short distances are what was claimed; or where values within
    1,000 spacings of ``x`` change by as much as a feature of that slope would make them.

    Args:
        question: function and point.
        direction: what a distance of 1 is: about as long as ``x`` is large.
        row: which output.
        claim: the claimed derivative along it.
        found: what was found at longer distances.
        room: how far the line may go forwards and backwards.
        step: from how far away what was found comes; it is looked at shorter distances alone.
        schedule: how many points are evaluated at once.
        order: that of the derivative, 1 or 2.

    Returns:
        Whether it may be, and the number of evaluations.
    """
    spacing = max(float(finfo(leaf.dtype).eps) for leaf in question.leaves)
    longest = _LONGEST * min(1.0, step)
    far = 2.0 ** np.arange(10 + _OCTAVES, 1 - np.log2(spacing), _OCTAVES)
    h = np.concatenate([_NEAR, far]) * spacing
    h = h[h <= longest]
    sides = [h[h <= side] for side in room]
    if not np.isfinite(claim - found) or min(map(len, sides)) == 0 < order - 1:
        return False, 0
    distances = np.concatenate([sides[0], -sides[1]])
    if not len(distances):
        return False, 0
    value, change, moved = question.along(direction, distances, schedule)
    own = np.where(np.isfinite(change[:, row]) & (moved != 0), change[:, row], np.nan)
    forth, back = _both(own, sides, len(h))
    there, behind = _both(moved, sides, len(h))
    eps = eps_of(question.fun, [*question.leaves, _like(question, row)])
    # What is lost of the point is lost of the value, too.
    rounding = _ROUNDINGS * eps * (abs(float(value[row])) + abs(found))
    gap = abs(claim - found)
    with np.errstate(invalid="ignore", divide="ignore"):
        if order == 1:
            two = (forth - back) / (there - behind)
            one = np.where(np.isfinite(forth), forth / there, back / behind)
            quotient = np.where(np.isfinite(two), two, one)
        else:
            quotient = (forth + back) / (there * there)
    near = h <= _NEAR[-1] * spacing
    height = max(
        _uneven((forth + back)[near], h[near], 2), _uneven((forth - back)[near], h[near], 3)
    )
    narrow = gap * (h[near][-1:].sum()) ** order
    if _LOW * rounding < height <= _LOW * narrow and gap * spacing**order <= _HIGH * height:
        return True, len(distances) + 1
    return _shown(quotient, h**order, rounding, claim, gap), len(distances) + 1


def _uneven(change: Float[np.ndarray, "k"], h: Float[np.ndarray, "k"], power: int) -> float:
    """How far changes are from those of a kink and a bend: ``a h + b h^power``."""
    good = np.isfinite(change)
    if np.sum(good) <= 2:
        return 0.0
    t, change = h[good] / h[-1], change[good]
    basis = np.stack([t, t**power], axis=1)
    # Scaled, so that no square overflows or vanishes.
    size = float(np.max(np.abs(change))) or 1.0
    fit = np.linalg.lstsq(basis, change / size, rcond=None)[0]
    return size * float(np.max(np.abs(change / size - basis @ fit)))


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
