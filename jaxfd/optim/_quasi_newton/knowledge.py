"""What a quasi-Newton method knows at a point, and what comes of one of its steps.

It exists so that a run can be saved: everything here is arrays and numbers. It must not know how a
step is made.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxfd.optim._quasi_newton.landscape import Landscape
from jaxfd.optim._quasi_newton.metric import Metric
from jaxfd.optim._quasi_newton.reading import FORWARD, Noise

Row = Float[np.ndarray, "n"]


class State(NamedTuple):
    """What is known; vectors have the entries of ``x`` in a row.

    Attributes:
        value: the value at ``x``.
        last_x: the point where the last gradient was formed.
        last_g: that gradient, in units of the scales.
        last_error: how far it may be off.
        moved: whether ``x`` is another point.
        metric: what is known of the Hessian, in units of the scales.
        curvature: its diagonal as last seen.
        differences: which ones: FORWARD, CENTRAL or CLOSE.
        restart: whether to forget all pairs and look at curvatures.
        noise: what is known of the noise.
        asked: how often that was estimated.
        away: for how many steps ``x`` has gone down far from the start, each as far again, and
            the value by no less and less.
        rate: the fastest fall in these steps, by the logarithm of ``x``.
        scale: how large entries are.
        start: how large they are at the start.
        seen: whose moves have ever changed the value.
        looks: how often a look around found a lower point at what seemed the end.
        scaling: evaluations spent on scales.
        odd: the entries that the end is about.
        flat: entries whose moves change nothing.
    """

    value: float
    last_x: Row
    last_g: Row
    last_error: Row
    moved: bool
    metric: Metric
    curvature: Row
    differences: int
    restart: bool
    noise: Noise
    asked: int
    away: int
    rate: float
    scale: Row
    start: Row
    seen: Bool[np.ndarray, "n"]
    looks: int
    scaling: int
    odd: Bool[np.ndarray, "n"]
    flat: Bool[np.ndarray, "n"]


class Step(NamedTuple):
    """What came of a step.

    Attributes:
        x: where the next one begins.
        state: what is known there.
        value: the value there.
        evaluations: how many it took.
        skipped: whether something was not finite.
        status: why the run is over, if it is.
    """

    x: Row
    state: State
    value: float
    evaluations: int
    skipped: bool
    status: int


def begin(landscape: Landscape) -> State:
    """What is known at the start."""
    v = landscape.start
    zero, no = np.zeros_like(v), np.zeros(len(v), bool)
    size = np.where(v == 0, 1.0, np.abs(v))
    return State(
        value=landscape.value,
        last_x=zero,
        last_g=zero,
        last_error=zero + np.inf,
        moved=False,
        metric=Metric.begin(zero + 1),
        curvature=zero + 1,
        differences=FORWARD,
        restart=True,
        noise=Noise(landscape.eps, 0.0, landscape.eps),
        asked=0,
        away=0,
        rate=0.0,
        scale=size,
        start=size,
        seen=no,
        looks=0,
        scaling=0,
        odd=no,
        flat=no,
    )
