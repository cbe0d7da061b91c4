"""A line search of values alone: every trial is one evaluation.

It goes shorter and shorter, or longer and longer where nothing is known; where a gradient costs
many evaluations, one more goes where the parabola through what was seen is lowest. This room must
not know how the gradient was found, nor what is done with the point.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

# Trials on one line: of shorter and shorter steps, and of longer ones.
_TRIALS, _MOST_TRIALS = 12, 40
# A trial is accepted for this share of the decrease that the slope promises (Armijo), and for less
# by this many standard deviations of the noise.
_SHARE, _SLACK = 0.1, 2.0
# From so many entries on a trial is worth its price where the parabola is lowest this share away.
_MANY, _SHARP = 6, 0.1


@dataclasses.dataclass
class LineSearch:
    """How a search went.

    Attributes:
        x: the best point; where it began if there is none.
        value: the value there.
        found: whether there is one.
        trials: how many there were.
        failed: how many of them were not finite.
    """

    x: Float[np.ndarray, "n"]
    value: float
    found: bool = False
    trials: int = 0
    failed: int = 0


def line_search(
    fun: Callable[[Float[np.ndarray, "n"]], float],
    at: Callable[[float], Float[np.ndarray, "n"]],
    v: Float[np.ndarray, "n"],
    p: Float[np.ndarray, "n"],
    g: Float[np.ndarray, "n"],
    value: float,
    *,
    scale: Float[np.ndarray, "n"],
    noise: float,
    fresh: bool,
    most: float,
    eps: float,
    first: float | None = None,
) -> LineSearch:
    """Looks for a lower value on a line; lengths are in units of the entries' scales.

    Args:
        fun: the function.
        at: the point that is so many steps ahead, on the line or at the walls.
        v: where the line begins.
        p: the step.
        g: the gradient there.
        value: the value there.
        scale: how large entries are.
        noise: the standard deviation of values.
        fresh: whether nothing is known of the Hessian.
        most: how long a step may be.
        eps: the relative spacing of points.
        first: the value of the whole step, where it is known.

    Reference:
        A. Berahas, R. Byrd and J. Nocedal, SIAM J. Optimization 29 (2019) 965-993, for the relaxed
        condition of Armijo.
    """
    best = LineSearch(v, value)
    length = math.hypot(*(p / scale).tolist())  # which overflows last
    if not float(g @ p) < 0:
        return best
    t, reach = (most / length if length > most else 1.0), 0.0
    size = np.maximum(np.abs(v), scale)
    grow = 10.0 if fresh else 4.0
    while best.trials < _MOST_TRIALS:
        new = at(t)
        if np.array_equal(new, v):
            break
        seen = first if first is not None and t == 1 and not best.trials else fun(new)
        best.trials += 1
        if seen == -math.inf:
            return dataclasses.replace(best, x=new, value=seen, found=True)
        finite = math.isfinite(seen)
        best.failed += not finite
        promised, rise = float(g @ (new - v)), seen - value
        convex = finite and rise > promised
        # The lowest point of the parabola through both values and the slope.
        low = -promised * t / (2 * (rise - promised)) if convex else math.inf
        good = finite and rise <= _SHARE * promised + _SLACK * noise
        good = good and (not best.found or seen < best.value)
        if not good:
            if best.found:
                break
            t = min(max(low, t / 10), t / 2) if finite else t / 10
            if best.trials >= _TRIALS or not t * float(np.max(np.abs(p) / size)) > eps:
                break
            continue
        begun, longest = best.found, t > reach
        best.x, best.value, best.found = new, seen, True
        reach = max(reach, t)
        alone = best.trials == 1
        if longest and (alone or begun) and low > (2.0 if alone else 1.5) * t:
            t = min(low, grow * t)
            if t * length > most:
                break
        elif len(v) >= _MANY and best.trials <= 2 and convex and abs(low - t) > _SHARP * t:
            t = low
        else:
            break
    return best
