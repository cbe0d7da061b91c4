"""The state of a search for the radius. It must not know how one ladder follows another."""

from __future__ import annotations

from typing import Any, NamedTuple


class Climb(NamedTuple):
    """The state of a search for the radius: where every coordinate is, and what it keeps.

    Attributes:
        side: to which side of ``x`` the next ladder lies, 0 for both, shape ``(*lead, N)``.
        top: its top step.
        low: the lowest top so far.
        high: the highest.
        went: -1 where ladders went down, 1 where they went up, else 0.
        spent: how many points were evaluated.
        active: where another ladder is wanted.
        kept_side: the side of the ladder that is kept.
        kept_top: its top step.
        changes: the changes on it, shape ``(K, *lead, N, O)``.
        moved: its distances, shape ``(K, *lead, N)``.
        radius: the radius that it promises.
        score: how good it is, in logarithms.
        unresolved: whether the function's scale lies below it.
        slope: its estimate of the derivative, shape ``(*lead, N, O)``.
        bar: a bound of the error of that.
        doubt: by how much ladders that resolved nothing differed.
        close: the changes at the two points closest to ``x``, shape ``(2, *lead, N, O)``.
        close_side: to which side these lie.
        close_moved: their distances.
        jump: where there is a jump at ``x``, shape ``(*lead, N, O)``.
        least: the smallest scale that windows of ladders so far claimed, shape ``(*lead, N, O)``.
        jumps: whether windows of the kept ladder contradict ones above them.
        rough: the derivative as windows see it that others contradict.
        rough_bar: a bound of the error of that.
        tooth: what jumps that the lowest of these windows see may do to the derivative.
    """

    side: Any
    top: Any
    low: Any
    high: Any
    went: Any
    spent: Any
    active: Any
    kept_side: Any
    kept_top: Any
    changes: Any
    moved: Any
    radius: Any
    score: Any
    unresolved: Any
    slope: Any
    bar: Any
    doubt: Any
    close: Any
    close_side: Any
    close_moved: Any
    jump: Any
    least: Any
    jumps: Any
    rough: Any
    rough_bar: Any
    tooth: Any
