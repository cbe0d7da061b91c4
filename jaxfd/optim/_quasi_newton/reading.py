"""The gradient at a point as a quasi-Newton method wants it: steps that suit, how far it is off.

A step suits what is known: the size of the entry, the noise of the function, and the curvature. A
forward difference is corrected by the curvature last seen. This room must not know where steps
lead.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxfd._methods import Method
from jaxfd.optim._quasi_newton.differences import side
from jaxfd.optim._quasi_newton.landscape import Landscape

Row = Float[np.ndarray, "n"]

# The smallest number with all digits.
TINY = float(np.finfo(np.float64).tiny)
# Above so many eps, noise is taken for more than rounding. Points then lie where the curvature has
# lifted the function by so many times the noise.
_NOISY, _LIFT = 500.0, 100.0
# The first step goes no farther than so many times the size of an entry.
_REACH = 10.0
# Differences by points on one side, on both, and on both where curvatures change on the way: the
# power of eps that a step is.
FORWARD, CENTRAL, CLOSE = 0, 1, 2
_POWERS = (1 / 2, 1 / 3, 1 / 2)
# The share of the last curvature that may have changed since.
_STALE = 0.5


class Noise(NamedTuple):
    """What is known of a function's noise.

    Attributes:
        relative: its standard deviation over the value.
        absolute: what there is besides.
        eps: the relative spacing of values.
    """

    relative: float
    absolute: float
    eps: float

    @property
    def much(self) -> bool:
        """Whether it is more than rounding."""
        return self.relative > _NOISY * self.eps or self.absolute > 0

    def at(self, value: float) -> float:
        """Its standard deviation where the value is so."""
        return max(self.relative, self.eps) * abs(value) + self.absolute

    def share(self, value: float) -> float:
        """The same over the value, at most 1."""
        return min(self.at(value) / max(abs(value), TINY), 1.0) if self.at(value) else self.eps


class Reading(NamedTuple):
    """A gradient, and what was seen beside it; in units of the entries' scales.

    Attributes:
        slope: the gradient; 0 where it is not known.
        known: where it is.
        curvature: the diagonal of the Hessian, positive.
        blur: the standard deviation of the slopes' noise.
        bias: how far off the slopes of forward differences may be; 0 for others.
        error: how far off the slopes may be in all.
        bend: second derivatives as they were seen, NaN where they were not.
        rise: the largest change of the value at the points of each entry.
        blocked: see `Slopes`.
        evaluations: how many it took.
    """

    slope: Row
    known: Bool[np.ndarray, "n"]
    curvature: Row
    blur: Row
    bias: Row
    error: Row
    bend: Row
    rise: Row
    blocked: Int[np.ndarray, "n"]
    evaluations: int


def read(
    landscape: Landscape,
    v: Row,
    value: float,
    scale: Row,
    noise: Noise,
    curvature: Row,
    *,
    differences: int,
    restart: bool,
) -> Reading:
    """Reads the gradient.

    Args:
        landscape: the function.
        v: the point.
        value: the value there.
        scale: how large entries are.
        noise: what is known of the noise.
        curvature: the diagonal of the Hessian as last seen, in units of the scales.
        differences: FORWARD, CENTRAL or CLOSE.
        restart: whether to look at curvatures, which takes wider steps.
    """
    size = np.maximum(np.abs(v), scale) / scale
    share = noise.share(value) if noise.much else noise.eps
    h = size * share ** (1 / 4 if restart else _POWERS[differences])
    level = noise.at(value)
    if noise.much and not restart:
        lifted = np.sqrt(2 * _LIFT * max(level, TINY) / curvature)
        h = np.maximum(lifted, math.sqrt(noise.eps) * size)
    both = noise.much or restart or differences != FORWARD
    # A step is a tenth of the entry at most, unless noise wants more.
    h = np.minimum(h, size if share > 1e-4 else size / 10)
    found = landscape.slopes(v, value, h * scale, both)
    g = found.slope * scale
    known = np.isfinite(g)
    g = np.where(known, g, 0.0)
    bend = np.abs(found.bend) * scale**2
    if both:
        seen = np.isfinite(bend)
        if noise.much:
            clear = seen & (bend * h**2 > 4 * level)
            kept = np.clip(bend, curvature * 1e-4, curvature * 1e4)
            curvature = np.where(clear, kept, curvature / 10)
        if restart:
            curvature = np.where(seen, bend, 0.0)
        if noise.much or restart:
            curvature = np.maximum(curvature, np.abs(g) / (_REACH * size))
        curvature = np.where(np.isfinite(curvature) & (curvature > 0), curvature, 1.0)
        bias = np.zeros_like(g)
    else:
        sign = side(v, h * scale, landscape.lower, landscape.upper)
        sign = np.where(found.blocked == sign, -sign, sign)
        g = np.where(known & (g != 0), g - sign * h * curvature / 2, g)
        bias = _STALE * h * curvature
    blur = level / h if noise.much else np.zeros_like(g)
    # Central differences leave out what curvatures change by on the way.
    left = bias if not both else h**2 * curvature / size
    error = np.where(known, left + 2 * level / h, np.inf)
    return Reading(
        slope=g,
        known=known,
        curvature=curvature,
        blur=blur,
        bias=bias,
        error=error,
        bend=found.bend * scale**2,
        rise=found.rise,
        blocked=found.blocked,
        evaluations=found.evaluations,
    )


def read_by_method(
    landscape: Landscape, v: Row, scale: Row, curvature: Row, method: Method, restart: bool
) -> tuple[float, Reading]:
    """The value and the gradient as a method of the user's estimates them."""
    value, found = landscape.by_method(v, method, scale)
    g = found.slope * scale
    known = np.isfinite(g)
    g = np.where(known, g, 0.0)
    size = np.maximum(np.abs(v), scale) / scale
    if restart:
        # At first, the entry that moves most moves by its own size.
        steepest = float(np.max(np.abs(g) / size, initial=0.0))
        curvature = np.full_like(g, steepest if steepest > 0 else 1.0)
    none, unknown = np.zeros_like(g), np.full_like(g, np.nan)
    reading = Reading(
        slope=g,
        known=known,
        curvature=curvature,
        blur=none,
        bias=none,
        error=unknown,
        bend=unknown,
        rise=found.rise,
        blocked=found.blocked,
        evaluations=found.evaluations,
    )
    return value, reading
