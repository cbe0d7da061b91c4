"""Ripples: structure of a function between the spacing of ``x`` and the steps of differences.

What kinks of a table, say, make of a smooth function is no noise: the closest values know nothing
of it. This room must not know what is explained by it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

# So many neighbouring distances, each twice the one before, are looked at together.
_WINDOW = 5
# What a bend and a kink leave of a smooth function grows by this power of the distance; of ripples
# it does not grow by half of that, over so many octaves.
_POWER, _OCTAVES = 4, 2
# How far above rounding, and above what the closest values show, ripples are seen.
_ABOVE = 2.0
# A slope of ripples may be so many times their height over the distance they are seen from.
_STEEP = 8.0
# A slope is followed where quotients are within this share of it; so many of them show it, from
# distances so many times shorter than those of ripples.
_SHARE, _SHOWN, _WITHIN = 0.25, 2, 8.0


def ripples(
    odd: Float[np.ndarray, "h"],
    even: Float[np.ndarray, "h"],
    h: Float[np.ndarray, "h"],
    longest: float,
    slopes: tuple[float, float],
    noise: float,
    rounding: Float[np.ndarray, "h"],
) -> bool:
    """Whether ripples explain that a slope at ``x`` is not the one found at longer distances.

    Args:
        odd: ``f(x + h) - f(x - h)``.
        even: ``f(x + h) - 2 f(x) + f(x - h)``.
        h: the distances.
        longest: which of them are looked at.
        slopes: that at ``x`` as it is claimed, and the one found.
        noise: what the closest values are off a smooth course.
        rounding: what rounding makes of a change, at each distance.
    """
    if noise > _ABOVE * np.min(rounding, initial=np.inf):
        return False
    gap, size = abs(slopes[0] - slopes[1]), max(map(abs, slopes))
    with np.errstate(invalid="ignore", divide="ignore"):
        off = np.min([np.abs(odd / (2 * h) - slope) for slope in slopes], axis=0)
        # What moves in stairs does not know its slope, and its steps are noise.
        stairs = (off > _SHARE * size) & (rounding / h < _SHARE * size)
        told = np.abs(odd / (2 * h) - slopes[1]) + rounding / h < _SHARE * gap
    top = np.floor(np.log2(longest)) if longest > 0 else -np.inf
    seen: list[tuple[float, float, float]] = []
    while len(seen) <= _OCTAVES + len(h):
        own = (h <= 2.0**top) & (h > 2.0 ** (top - _WINDOW))
        if np.sum(own) < _WINDOW:
            break
        height = max(uneven(odd[own], h[own], 3), uneven(even[own], h[own], 2))
        seen.append((2.0**top, height, _ABOVE * np.max(rounding[own])))
        top -= 1
    for (_, far, _), (distance, close, least) in zip(seen, seen[_OCTAVES:], strict=False):
        grows = far > close * 2.0 ** (_OCTAVES * _POWER / 2)
        # Within the ripples values know the slope of x, if any do.
        calm = not stairs[h < distance].any() and np.sum(told & (h < distance / _WITHIN)) < _SHOWN
        if calm and close > least and not grows and gap * distance <= _STEEP * close:
            return True
    return False


def uneven(change: Float[np.ndarray, "k"], h: Float[np.ndarray, "k"], power: int) -> float:
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
