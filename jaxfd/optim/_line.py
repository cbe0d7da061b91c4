"""A line search of values alone: every trial is one evaluation.

It goes shorter and shorter, or longer and longer where nothing is known. This room must not know
how the gradient was found, nor what is done with the point.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxfd._arrays import finfo
from jaxfd.optim._metric import Metric
from jaxfd.optim._state import number

# Trials on one line: of shorter and shorter steps, and of longer ones.
_TRIALS, _MOST_TRIALS = 12, 40
# A trial is accepted for this share of the decrease that the slope promises (Armijo), and for less
# by this many standard deviations of the noise. From the second share on there is more to be had
# farther out.
_SHARE, _SLACK, _STRAIGHT = 0.1, 2.0, 0.75
# No step goes farther than so many times the size of x.
_FARTHEST = 1e3


class LineSearch(NamedTuple):
    """How far a search is.

    Attributes:
        t: the next trial, in steps.
        best: the best so far.
        value: the value there.
        found: whether there is one.
        trials: how many there were.
        over: whether that is all.
    """

    t: Float[Array, ""]
    best: Float[Array, ""]
    value: Float[Array, ""]
    found: Bool[Array, ""]
    trials: Int[Array, ""]
    over: Bool[Array, ""]


def line_search(
    fun: Callable[[Float[Array, "n"]], Any],
    at: Callable[[Any], Float[Array, "n"]],
    v: Float[Array, "n"],
    p: Float[Array, "n"],
    g: Float[Array, "n"],
    value: Float[Array, ""],
    noise: Float[Array, ""],
    metric: Metric,
    none: Bool[Array, ""],
) -> LineSearch:
    """Looks for a lower value on a line.

    Args:
        fun: the function of a vector.
        at: the point that is so many steps ahead, on the line or at the walls.
        v: where the line begins.
        p: the step.
        g: the gradient there.
        value: the value there.
        noise: the standard deviation of values.
        metric: what was known of the Hessian before this point.
        none: whether there shall be no trial.

    Returns:
        The search when it is over.

    Reference:
        A. Berahas, R. Byrd and J. Nocedal, SIAM J. Optimization 29 (2019) 965-993, for the relaxed
        condition of Armijo.
    """
    length = jnp.sqrt(jnp.vdot(p, p))
    most = _FARTHEST * jnp.maximum(jnp.sqrt(jnp.vdot(v, v)), 1)
    fresh = metric.used == 0
    grow = jnp.where(fresh, 4.0, 2.0).astype(v.dtype)
    least = finfo(v.dtype).eps
    far = fresh | metric.wider

    def body(line: LineSearch) -> LineSearch:
        new = at(line.t)
        seen = jnp.asarray(fun(new)).astype(value.dtype)
        promised = jnp.vdot(g, new - v)
        rise = (seen - value).astype(v.dtype)
        good = rise <= _SHARE * promised + _SLACK * noise
        good &= ~line.found | (seen < line.value)
        trials = line.trials + number(1)
        # The lowest point of a parabola through both values and the slope.
        lowest = -promised * line.t / (2 * (rise - promised))
        shorter = jnp.where(
            jnp.isfinite(seen), jnp.clip(lowest, line.t / 10, line.t / 2), line.t / 10
        )
        longer = line.t * grow
        t = jnp.where(good, longer, shorter)
        goes_on = jnp.where(
            good,
            (line.found | ((trials == 1) & (far | (rise <= _STRAIGHT * promised))))
            & (longer * length <= most)
            & (trials < _MOST_TRIALS),
            ~line.found
            & (trials < _TRIALS)
            & (t * jnp.max(jnp.abs(p) / jnp.maximum(jnp.abs(v), 1)) > least),
        )
        return LineSearch(
            t=t,
            best=jnp.where(good, line.t, line.best),
            value=jnp.where(good, seen, line.value),
            found=line.found | good,
            trials=trials,
            over=~goes_on,
        )

    # What cannot go down has no line.
    none = none | ~(jnp.vdot(g, p) < 0)
    t = jnp.where(length > most, most / length, 1).astype(v.dtype)
    start = LineSearch(t, t, value, jnp.zeros((), bool), number(0), none)
    end: LineSearch = lax.while_loop(lambda line: ~line.over, body, start)
    return end
