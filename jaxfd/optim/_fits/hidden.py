"""Entries whose slopes noise hides, looked at from farther away.

An entry next to 0 has no size that a share of it would be right for: under noise a step of such a
share changes nothing that can be seen, and the entry would seem to have no influence, or any. It
must not know what becomes of the slopes.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from jaxtyping import Float

from jaxfd.optim._fits.slopes import Rows
from jaxfd.optim._fits.standing import Standing

# Noise hides a slope of whose step residuals change by less than so many times the noise; a step
# that changes them by the second is long enough.
_HIDDEN, _SEEN = 2.0, 10.0
# So many times as long a step is wanted.
_ENOUGH = 3.0
# Residuals are straight enough where they bend by less than this share of what they change.
_STRAIGHT = 0.5
# By how much steps grow at once, and how often they do.
_GROWTH, _TIMES = 100.0, 8


def reach_out(standing: Standing) -> Generator[Float[np.ndarray, "k n"], Rows, bool]:
    """Takes entries for larger whose slopes are hidden by noise, if they are seen farther away.

    Args:
        standing: where the search stands, with slopes at the best point; sizes are changed.

    Returns:
        Whether any is, so that slopes are worth to be differenced anew.
    """
    model, slopes = standing.model, standing.slopes
    assert model is not None
    if slopes is None or standing.noise == 0 or standing.scale is not None:
        return False
    u, steps = model.u, np.abs(slopes.steps)
    change = np.linalg.norm(slopes.jacobian, axis=0) * steps
    # Those that have a size of their own, or are straight for less than it, move no farther.
    own = (standing.least_sizes > 0) | standing.reached | (standing.extent < standing.sizes(u))
    left = (change < _HIDDEN * standing.noise) & ~own & ~standing.lost & (steps > 0)
    wanted = _SEEN * standing.noise
    standing.reached = standing.reached | left
    side = np.where(standing.upper - u >= u - standing.lower, 1.0, -1.0)
    room = np.maximum(standing.upper - u, u - standing.lower)
    far, seen = steps.copy(), np.zeros(len(u), bool)
    for _ in range(_TIMES):
        far = np.where(left, _GROWTH * far, far)
        left = left & (far <= room)
        if not left.any():
            break
        rows = yield (u + np.diag(side * far))[left]
        moved = np.full(len(u), np.nan)
        with np.errstate(over="ignore"):
            moved[left] = np.linalg.norm(rows - model.r, axis=1)
        clear = left & (moved > wanted) & np.isfinite(moved)
        # No farther than is needed: residuals may bend.
        with np.errstate(all="ignore"):
            nearer = far * np.clip(_ENOUGH * wanted / moved, 1 / _GROWTH, 1.0)
        far, seen = np.where(clear, nearer, far), seen | clear
        left = left & ~seen & np.isfinite(moved)
    if seen.any():
        ends = [
            np.clip(u + np.diag(k * far), standing.lower, standing.upper)[seen] for k in (1, -1)
        ]
        one, two = np.split((yield np.concatenate(ends)), 2)
        with np.errstate(over="ignore", invalid="ignore"):
            bend = np.linalg.norm(one + two - 2 * model.r, axis=1)
            seen[seen] = bend < _STRAIGHT * np.linalg.norm(one - two, axis=1)
    if not seen.any():
        return False
    size = far * standing.spans(u) / np.where(steps > 0, steps, 1.0)
    standing.per_noise = np.where(seen, size / standing.noise, standing.per_noise)
    standing.floor = np.where(seen, np.maximum(standing.floor, size), standing.floor)
    standing.extent = np.where(seen, np.maximum(standing.extent, size), standing.extent)
    return True
