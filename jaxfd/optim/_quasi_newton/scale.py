"""How large entries are that do not say it themselves: those that start at 0, or far too small.

It exists so that results do not depend on units. An entry's start says how large it is; one that is
0 is taken for 1 where the function agrees, and else for the distance at which the function changes
by about itself. This room must not know what scales are for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxfd.optim._quasi_newton.differences import two_sided
from jaxfd.optim._quasi_newton.landscape import Landscape
from jaxfd.optim._quasi_newton.reading import Noise, Reading

Row = Float[np.ndarray, "n"]

# Looks at an entry, two evaluations each, and how much farther one may be than that before.
_LOOKS, _FARTHER = 4, 1e4
# A scale that is right within this factor stays; entries that agree within it have one.
_AGREE = 1e2
# The share that is far smaller.
_SMALLER = 0.3
# A change of the value is seen from so many times its rounding on.
_SEEN = 30.0
# Looks are so far, relative to the scale.
_NEAR = float(np.finfo(np.float64).eps) ** 0.25


class Scales(NamedTuple):
    """Scales, and the gradient in their units.

    Attributes:
        scale: how large entries are.
        reading: the gradient.
        seen: whose moves changed the value.
        evaluations: how many it took.
    """

    scale: Row
    reading: Reading
    seen: Bool[np.ndarray, "n"]
    evaluations: int


def learn_scales(
    landscape: Landscape, v: Row, value: float, scale: Row, reading: Reading, noise: Noise
) -> Scales:
    """Finds the scales of entries whose own size says nothing, or whose moves show nothing.

    Args:
        landscape: the function.
        v: the start.
        value: the value there.
        scale: the size of each entry; 1 for those at 0.
        reading: the gradient, from points on both sides.
        noise: what is known of the noise.
    """
    level = noise.at(value)
    height = abs(value) if value else float(np.max(reading.rise, initial=0.0)) / _NEAR
    slope, bend, rise = reading.slope / scale, reading.bend / scale**2, reading.rise.copy()
    seen = rise > _SEEN * level
    length = _length(height, slope, bend, seen & reading.known)
    wrong = (v == 0) & ~((length <= _AGREE * scale) & (length >= scale / _AGREE))
    wanted = np.flatnonzero(wrong | ~seen)
    if not len(wanted):
        return Scales(scale, reading, seen, 0)
    new, cost = scale.copy(), 0
    noisy = np.zeros(len(v), bool)
    known, blocked = reading.known.copy(), reading.blocked.copy()
    for look in range(_LOOKS):
        if not len(wanted):
            break
        aim = np.where(np.isfinite(length), length, np.where(known, np.inf, 0.0))
        if look == 1:  # as if it had started at 0
            tiny = wanted[~seen[wanted] & known[wanted]]
            new[tiny] = np.maximum(new[tiny], 1 / _FARTHER)
        far = np.clip(aim[wanted] / new[wanted], 1 / _FARTHER, _FARTHER)
        new[wanted] *= far
        before = rise[wanted]
        h = np.zeros_like(new)
        h[wanted] = _NEAR * new[wanted]
        found = two_sided(landscape.at, v, value, h, landscape.lower, landscape.upper)
        cost += found.evaluations
        for old, now in (
            (slope, found.slope),
            (bend, found.bend),
            (rise, found.rise),
            (blocked, found.blocked),
        ):
            old[wanted] = now[wanted]
        known[wanted] = np.isfinite(slope[wanted])
        # What changes as much at a far smaller distance is noise, and says nothing of scales.
        same = (far < _SMALLER) & (rise[wanted] > _SMALLER * before) & np.isfinite(before)
        noisy[wanted[same]] = True
        seen = rise > _SEEN * level
        length = _length(height, slope, bend, seen & known)
        fits = (length <= _AGREE * new) & (length >= new / _AGREE)
        wanted = wanted[~fits[wanted] & ~same]
    # What shows nothing at any distance, or fails at all, stays what it was.
    lost = noisy.copy()
    lost[wanted] = ~np.isfinite(length[wanted]) | ~known[wanted]
    new = np.where(lost, scale, new)
    learnt = (new != scale) & np.isfinite(length)
    new = np.where(learnt, np.where(np.isfinite(length), length, 1.0), new)
    alike = learnt & (v == 0)
    if alike.any() and new[alike].max() <= _AGREE * new[alike].min():
        new[alike] = np.exp(np.mean(np.log(new[alike])))
    slope = np.where(known, slope, 0.0) * new
    bend = bend * new**2
    curvature = np.where(np.isfinite(bend), np.abs(bend), 0.0)
    curvature = np.maximum(curvature, np.abs(slope) / 10)
    curvature = np.where(curvature > 0, curvature, 1.0)
    changed = new != scale
    reading = reading._replace(
        slope=np.where(changed, slope, reading.slope),
        curvature=np.where(changed, curvature, reading.curvature),
        bend=np.where(changed, bend, reading.bend),
        known=np.where(changed, known, reading.known),
        rise=np.maximum(rise, reading.rise),
        blocked=np.where(changed, blocked, reading.blocked),
    )
    return Scales(new, reading, seen, cost)


def _length(height: float, slope: Row, bend: Row, seen: Bool[np.ndarray, "n"]) -> Row:
    """How far each entry goes until the value has changed by about its height."""
    with np.errstate(all="ignore"):
        straight = height / np.abs(slope)
        bent = np.sqrt(2 * height / np.abs(bend))
    return np.where(seen, np.fmin(straight, bent), np.inf)
