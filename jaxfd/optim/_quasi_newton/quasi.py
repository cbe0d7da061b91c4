"""BFGS on differences, for functions with little noise or much.

It exists because a line search that asks for gradients at every trial, as optax's and scipy's do,
pays for each of them with an evaluation per entry. Here trials are values alone, and a gradient is
formed where a trial was accepted. All is done in units of the entries' scales, so that units change
nothing. The first gradient shows curvatures too; whether they make a metric, one trial shows.

This room must not know how steps are repeated, nor how a gradient is made of values.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxfd.optim._quasi_newton.knowledge import State, Step
from jaxfd.optim._quasi_newton.landscape import Landscape
from jaxfd.optim._quasi_newton.line import LineSearch, line_search
from jaxfd.optim._quasi_newton.metric import Metric
from jaxfd.optim._quasi_newton.noise import look_at_noise
from jaxfd.optim._quasi_newton.reading import (
    CENTRAL,
    CLOSE,
    FORWARD,
    TINY,
    Noise,
    Reading,
    read,
    read_by_method,
)
from jaxfd.optim._quasi_newton.scale import learn_scales
from jaxfd.optim._quasi_newton.verdict import look_around
from jaxfd.optim._steps import ENDLESS, FLAT, FOUND, GOING, NOISY, STALLED, STUCK

Row = Float[np.ndarray, "n"]

# The share of the noise below which a promised decrease is none.
_BELOW_NOISE = 0.01
# How often the noise may be asked for, and how often the end may turn out to be none.
_ASKS, _LOOKS = 3, 100
# The share of what a diagonal metric promises from which on it pays.
_PAYS = 0.5
# Where they do not, all entries alike are taken to bend so many times less than the mean: BFGS is
# quick to learn of more curvature, and slow to learn of less.
_WIDE = 30.0
# No step goes farther than so many times the size of x.
_FARTHEST = 1e3
# A change of the value is seen from so many times its rounding on.
_SEEN = 30.0
# Steps in a row that are as long as x is wide, where the digits of the start are lost, all about as
# steep by the logarithm of x: towards a limit values fall by less and less. And the shortest one.
_ENDLESS, _UNFADING, _WIDER = 8, 0.5, math.log(4 / 3)
# What a metric promises is wrong where the gradient alone promises so many times more.
_WRONG = 10.0
# Steps without progress that end a run.
PATIENCE = 20


class QuasiNewton:
    """Steps of BFGS on differences.

    Args:
        landscape: the function.
        method: how to estimate gradients; None chooses between forward and central differences, and
            their steps.
    """

    def __init__(self, landscape: Landscape, method: Any) -> None:
        self._land, self._method = landscape, method
        self._spent = 0

    def _fun(self, v: Row) -> float:
        self._spent += 1
        return float(self._land.at(v[None])[0])

    def step(self, v: Row, state: State, least: float, stalled: bool) -> Step:
        """The next point. Less than ``least`` is no decrease; ``stalled``: none came lately."""
        self._spent = 0
        wide = state.restart
        state, reading = self._read(v, state)
        value, metric, scale = state.value, state.metric, state.scale
        g = reading.slope
        level = state.noise.at(value)
        low, high = self._land.lower, self._land.upper
        free = ~(((v <= low) & (g > 0)) | ((v >= high) & (g < 0)))
        free &= (reading.blocked == 0) | (reading.blocked == np.sign(g))
        p = -metric.within(g, free)
        promised = -float(g @ p)
        floor = max(least, _BELOW_NOISE * level)
        fresh = metric.used == 0
        settled = (promised <= floor and not fresh) or (promised == 0 and state.restart)
        # A function that is constant in pieces is flat everywhere: first ask how far that goes.
        settled = settled and (state.asked > 0 or self._method is not None or bool(np.any(g != 0)))
        # A forward difference vanishes beside the minimum: how much lower may that be?
        bias = np.where(free, reading.bias, 0.0)
        doubt = settled and float(bias @ metric.times(bias)) > floor
        settled = settled and not doubt
        line = LineSearch(v, value)
        if not (settled or doubt or stalled):
            line = self._search(v, p, g, free, state, reading)
            metric = self._metric
        failed = not line.found and not settled
        exact = state.differences != FORWARD or self._method is not None
        # Curvatures may change within the steps of other differences: once more from closer.
        closer = failed and exact and self._method is None
        closer = closer and (wide or state.differences == CENTRAL)
        dead = failed and exact and fresh and not closer
        size = np.maximum(np.abs(v), scale)
        # No step that central differences can tell from none.
        blind = bool(np.all(np.abs(p) * scale <= state.noise.eps ** (2 / 3) * size))
        small = promised <= 10 * level or blind
        ended = settled or (dead and small) or stalled
        status = STUCK if dead and not small else GOING
        away, rate = self._away(v, line, state)
        state = state._replace(
            last_x=v,
            last_g=g,
            last_error=reading.error,
            moved=line.found,
            metric=metric,
            curvature=reading.curvature,
            differences=min(state.differences + 1, CLOSE) if failed else state.differences,
            restart=failed and exact and not closer,
            away=away,
            rate=rate,
        )
        doubtful = ended and not state.noise.much and self._rough(reading, free, state, floor)
        if ((failed and not doubt) or doubtful) and state.asked < _ASKS and self._method is None:
            state, better = self._ask(v, state)
            if better:
                return self._made(v, state, reading, line, GOING)
        if ended or status == STUCK:
            verdict = look_around(
                self._land,
                v,
                state.value,
                scale,
                reading,
                state.seen,
                least=least,
                noise=level if state.noise.much else 0.0,
            )
            self._spent += verdict.evaluations
            state = state._replace(odd=verdict.entries, flat=verdict.flat)
            if verdict.x is not None and state.looks < _LOOKS:
                line = LineSearch(verdict.x, verdict.value, True)
                away, rate = self._away(v, line, state)
                state = state._replace(moved=True, looks=state.looks + 1, restart=False)
                state = state._replace(away=away, rate=rate)
                return self._made(v, state, reading, line, GOING)
            wrong = verdict.gain > max(_WRONG * promised, floor / _WRONG)
            if settled and not exact and verdict.status == FOUND and verdict.x is None and wrong:
                # The metric is: central differences tell every entry's own curvature.
                state = state._replace(differences=CENTRAL, looks=state.looks + 1)
                return self._made(v, state, reading, LineSearch(v, state.value), GOING)
            status = self._status(verdict.status, status, stalled, promised, level, least, state)
            if verdict.x is not None:
                status = STUCK
            if status in (FOUND, NOISY) and verdict.flat.all():
                status = FLAT
        return self._made(v, state, reading, line, status)

    def _status(
        self,
        seen: int,
        status: int,
        stalled: bool,
        promised: float,
        level: float,
        least: float,
        state: State,
    ) -> int:
        """Why it is over, after a look around that found no lower point."""
        if seen != FOUND:
            return seen
        noisy = state.noise.much and _BELOW_NOISE * level > least
        if status == STUCK:
            return NOISY if noisy and promised <= 10 * level else STUCK
        if stalled:
            return NOISY if noisy else STALLED
        return NOISY if noisy else FOUND

    def _made(self, v: Row, state: State, reading: Reading, line: LineSearch, status: int) -> Step:
        x, value = (line.x, line.value) if line.found else (v, state.value)
        if value == -math.inf or state.away > _ENDLESS:
            status = ENDLESS
        skipped = line.failed > 0 or not reading.known.all()
        state = state._replace(value=value)
        return Step(x, state, value, self._spent, skipped, status)

    def _read(self, v: Row, state: State) -> tuple[State, Reading]:
        """The gradient, and what it teaches."""
        first = state.restart and not state.asked and not np.isfinite(state.last_error).any()
        if self._method is None:
            reading = read(
                self._land,
                v,
                state.value,
                state.scale,
                state.noise,
                state.curvature,
                differences=state.differences,
                restart=state.restart,
            )
        else:
            value, reading = read_by_method(
                self._land, v, state.scale, state.curvature, self._method, state.restart
            )
            state = state._replace(value=value)
        self._spent += reading.evaluations
        level = state.noise.at(state.value)
        seen = state.seen | (reading.rise > _SEEN * level)
        if first and self._method is None:
            found = learn_scales(self._land, v, state.value, state.scale, reading, state.noise)
            self._spent += found.evaluations
            reading, seen = found.reading, found.seen
            state = state._replace(scale=found.scale, start=found.scale, scaling=found.evaluations)
        metric = state.metric
        if state.restart:
            metric = Metric.begin(1 / reading.curvature)
        if state.moved:
            s = (v - state.last_x) / state.scale
            metric = metric.learn(s, reading.slope - state.last_g, reading.blur)
        return state._replace(metric=metric, seen=seen), reading

    def _search(
        self,
        v: Row,
        p: Row,
        g: Row,
        free: Bool[np.ndarray, "n"],
        state: State,
        reading: Reading,
    ) -> LineSearch:
        """Goes down; where nothing but curvatures is known, one trial shows whether they pay."""
        self._metric = metric = state.metric
        scale, value, known = state.scale, state.value, None
        slope = g / scale

        def at(t: float) -> Row:
            return self._land.fit(v + t * p * scale)

        if state.restart and metric.used == 0 and len(v) > 1 and not state.noise.much:
            new = at(1.0)
            promised = float(slope @ (new - v))
            if self._method is None and promised < 0:
                known = self._fun(new)
                if not known - value <= _PAYS * promised / 2:
                    down = np.where(free, g, 0.0)
                    flat = float(down @ down) / float(down @ (reading.curvature * down))
                    self._metric = metric = Metric.begin(np.full_like(v, _WIDE * flat))
                    p, known = -flat * down, None
        length = float(np.linalg.norm(v / scale))
        return line_search(
            self._fun,
            at,
            v,
            p * scale,
            slope,
            value,
            scale=scale,
            noise=state.noise.at(value),
            fresh=metric.used == 0 or metric.wider,
            most=_FARTHEST * max(length, 1.0),
            eps=state.noise.eps,
            first=known,
        )

    def _rough(
        self, reading: Reading, free: Bool[np.ndarray, "n"], state: State, floor: float
    ) -> bool:
        """Whether the values beside a seeming end change far more than beside a minimum."""
        least = max(floor, 100 * state.noise.at(state.value))
        if np.isfinite(reading.bend).any():  # points lie farther away
            least = max(1e7 * floor, 1e-3 * abs(state.value))
        # A start at 0 has no height to compare with.
        return floor > 0 and bool(np.any(reading.rise[free] > least))

    def _away(self, v: Row, line: LineSearch, state: State) -> tuple[int, float]:
        """For how many steps x has run away, or into a pole at 0, with no limit to be seen.

        Returns:
            The steps, and the fastest fall of the value in them, by the logarithm of x.
        """
        if not line.found:
            return state.away, state.rate
        new, eps = np.abs(line.x), state.noise.eps
        wide = (new > state.start / eps) & (np.abs(line.x - v) > new / 4)
        wide |= (new < state.start * eps) & (new < 0.75 * np.abs(v))
        if not wide.any():
            return 0, 0.0
        growth = np.abs(np.log(np.maximum(new, TINY)) - np.log(np.maximum(np.abs(v), TINY)))
        rate = (state.value - line.value) / max(float(growth[wide].max()), _WIDER)
        if rate < _UNFADING * state.rate:
            return 1, rate
        return state.away + 1, max(rate, state.rate)

    def _ask(self, v: Row, state: State) -> tuple[State, bool]:
        """Looks at the noise: whether there is more than was known, so that it pays to go on."""
        size = np.maximum(np.abs(v), state.scale)
        found = look_at_noise(self._land, v, state.value, size, state.noise.eps)
        self._spent += found.evaluations
        state = state._replace(asked=state.asked + 1)
        level = state.noise.at(state.value)
        flat = not np.any(state.last_g)
        if not (found.conclusive or flat) or not found.level > 4 * level:
            return state, False
        relative = found.level / max(abs(state.value), TINY)
        noise = Noise(relative, 0.0, state.noise.eps)
        if state.noise.much or relative > 1:  # it does not go with the value
            noise = Noise(state.noise.eps, found.level, state.noise.eps)
        return state._replace(noise=noise, restart=True, differences=FORWARD), True
