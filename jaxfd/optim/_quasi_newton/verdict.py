"""Whether a run is over: evidence that no step of use is left, or what stands against it.

"Converged" is said where the method promises nothing more *and* a look around finds nothing: a step
of a thousandth of the scale downhill, and wider moves of the entries that never changed the value.
This room must not know how the point was reached.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxfd.optim._quasi_newton.landscape import Landscape
from jaxfd.optim._quasi_newton.line import line_search
from jaxfd.optim._quasi_newton.reading import TINY, Reading
from jaxfd.optim._steps import FAILED, FOUND, JUMPS

Row = Float[np.ndarray, "n"]

# The step that is tried downhill, relative to the entries' sizes.
_STEP = 1e-3
# Where a noisy function is averaged: around the point, in sizes, and along a move.
_AROUND, _SPREAD = (0.0, 1e-6, -1e-6, 2e-6), (0.8, 0.9, 1.0, 1.1)
# Moves beside a pole, relative to the entries' sizes; and how many decreases that are none the
# points of central differences, which lie farther away, must rise by there.
_NEAR, _FAR = (1e-9, -1e-9, 1e-10, -1e-10, 1e-12, -1e-12, 1e-14, -1e-14), 1e7
# Single entries that are tried.
_SINGLE = 3
# Moves of entries that never changed the value, and for how many entries at once.
_MOVES = (1e-3, 0.1, 1.0, 10.0)
_MOST = 16


class Verdict(NamedTuple):
    """What a look around found.

    Attributes:
        status: `FOUND`, or what stands against it.
        entries: which entries that is about.
        x: a lower point, where there is one.
        value: the value there.
        flat: entries whose moves change nothing.
        evaluations: how many it took.
        gain: what the gradient promises along itself, by the curvature that was seen there.
    """

    status: int
    entries: Bool[np.ndarray, "n"]
    x: Row | None
    value: float
    flat: Bool[np.ndarray, "n"]
    evaluations: int
    gain: float = 0.0


def look_around(
    landscape: Landscape,
    v: Row,
    value: float,
    scale: Row,
    reading: Reading,
    seen: Bool[np.ndarray, "n"],
    *,
    least: float,
    noise: float,
) -> Verdict:
    """Looks for what would be wrong with an end at ``v``.

    Args:
        landscape: the function.
        v: the point.
        value: the value there.
        scale: how large entries are.
        reading: the gradient, in units of the scales.
        seen: whose moves have ever changed the value by more than its rounding.
        least: less is no decrease.
        noise: the standard deviation of the value.
    """
    size = np.maximum(np.abs(v), scale)
    g, none = reading.slope / scale, np.zeros(len(v), bool)
    lower, upper = landscape.lower, landscape.upper
    held = ((v <= lower) & (g > 0)) | ((v >= upper) & (g < 0))
    ahead = (reading.blocked == 2) | (reading.blocked == -np.sign(g))
    floor, cost = least + 2 * noise, 0
    much = np.abs(g) * size * _STEP > floor
    lost = (~reading.known & (lower < upper)) | (ahead & (reading.blocked != 0) & much)
    lost &= ~held

    def fun(w: Row) -> float:
        return float(landscape.at(w[None])[0])

    averaged = noise > least  # one value says nothing
    if averaged:
        around = [landscape.fit(v + shift * size) for shift in _AROUND]
        cost += len(around)
        value = _mean(landscape.at(np.stack(around)), value)
        floor = least + noise

    def fun_near(p: Row) -> float:
        """The value at a move; of a noisy function the mean of a few beside it."""
        nonlocal cost
        points = [landscape.fit(v + t * p) for t in (_SPREAD if averaged else (1.0,))]
        cost += len(points)
        return _mean(landscape.at(np.stack(points)), np.inf)

    free = ~held & (reading.blocked == 0)
    rises: list[float] = []
    curvature = np.where(reading.bend > 0, reading.bend, reading.curvature) / scale**2
    for number, p in enumerate(
        _moves(np.where(free, g, 0.0), size, curvature, floor, short=not averaged)
    ):
        if np.array_equal(landscape.fit(v + p), v):
            continue
        here = fun_near(p)
        if number < 2:  # along the gradient and against it
            rises.append(here - value)
        slope = float(g @ p)
        bend = 2 * (here - value - slope)
        if not here < value - floor and bend > 0 and slope**2 / (2 * bend) > floor:
            # Where the parabola through what was seen is lowest.
            p = p * min(-slope / bend, 1 / _STEP)
            here = fun_near(p)
        if here < value - floor:
            line = _onward(landscape, v, value, p, size, here, noise)
            return Verdict(FOUND, none, line[0], line[1], none, cost + line[2])
    # On top of a hill or a saddle there is no slope: curvature alone shows the way down.
    bend = np.where(free & np.isfinite(reading.bend), reading.bend, np.inf) / scale**2
    for hill in _hills(bend, size, floor):
        for p in (hill, -hill):
            if np.array_equal(landscape.fit(v + p), v):
                continue
            here = fun_near(p)
            if here < value - floor:
                line = _onward(landscape, v, value, p, size, here, noise)
                return Verdict(FOUND, none, line[0], line[1], none, cost + line[2])
    # Beside a pole, or a sharp dip, the points of differences are too far away to tell.
    far = np.where(np.isfinite(reading.bend), _FAR, 1.0)
    steep = np.where(free & (reading.rise > far * floor), reading.rise, 0.0)
    for i in np.argsort(-steep)[:_SINGLE]:
        each = [near * size[i] for near in _NEAR] + [-v[i] / 2, v[i] / 2]
        for move in each if steep[i] > 1e-3 * abs(value) else ():
            p = np.where(np.arange(len(v)) == i, move, 0.0)
            new = landscape.fit(v + p)
            if averaged or np.array_equal(new, v):
                continue
            cost += 1
            here = fun(new)
            if here < value - floor:
                line = _onward(landscape, v, value, p, size, here, noise)
                return Verdict(FOUND, none, line[0], line[1], none, cost + line[2])
    if lost.any():
        return Verdict(FAILED, lost, None, value, none, cost)
    flat, jumps = none.copy(), none.copy()
    for i in np.flatnonzero(~seen & (lower < upper))[:_MOST]:
        changed = False
        for move in _MOVES:
            for sign in (1.0, -1.0):
                new = v.copy()
                new[i] += sign * move * size[i]
                new = landscape.fit(new)
                if new[i] == v[i]:
                    continue
                here = fun(new)
                cost += 1
                if here < value - floor:
                    p = new - v
                    line = _onward(landscape, v, value, p, size, here, noise)
                    return Verdict(FOUND, none, line[0], line[1], none, cost + line[2])
                changed |= bool(abs(here - value) > floor) or not np.isfinite(here)
        flat[i], jumps[i] = not changed, changed
    status = JUMPS if jumps.any() else FOUND
    gain = 0.0
    if len(rises) > 1 and not averaged:  # to both sides, so that an error of the slope is none here
        rounding = 8 * landscape.eps * abs(value)
        gain = ((rises[0] - rises[1]) / 2) ** 2 / (2 * max(rises[0] + rises[1], rounding, TINY))
    return Verdict(status, jumps if jumps.any() else none, None, value, flat, cost, gain)


def _mean(values: Row, otherwise: float) -> float:
    """The mean of values, where they are finite."""
    return float(np.mean(values)) if np.isfinite(values).all() else otherwise


def _moves(g: Row, size: Row, curvature: Row, floor: float, short: bool) -> list[Row]:
    """Moves that may go down, if any does: along the gradient, and by entries' curvatures."""
    length = float(np.linalg.norm(g * size))
    if not (length > 0 and math.isfinite(length)):
        return []
    # The other way too, for beside a saddle differences may have the wrong sign.
    along = -g * size**2 * (_STEP / length)
    found = [along, -along]
    # Each as its own curvature wants it: in bent valleys the gradient points at the walls.
    each = -g / curvature
    far = float(np.linalg.norm(each / size))
    if short and len(g) > 1 and 0 < far < math.inf:
        found.append(each * min(1.0, _STEP / far))
    each = np.minimum(_STEP * size, np.abs(g) / curvature)
    gain = np.abs(g) * each - curvature * each**2 / 2
    for i in np.argsort(-gain)[:_SINGLE]:
        if gain[i] > floor and len(g) > 1:
            found.append(np.where(np.arange(len(g)) == i, -np.sign(g) * each, 0.0))
    return found


def _hills(bend: Row, size: Row, floor: float) -> list[Row]:
    """Moves that go down where the function is bent downwards, each of them to both sides."""
    step = _STEP * size
    each = np.arange(len(bend))
    sag = -bend * step**2 / 2
    found = [np.where(each == i, step, 0.0) for i in np.argsort(-sag)[:_SINGLE] if sag[i] > floor]
    # Where single entries are flat, two of them together may not be.
    flat = bend * step**2 / 2 <= floor
    if flat.sum() > 1:
        found += [np.where(flat, step, 0.0), np.where(flat, step * (-1.0) ** each, 0.0)]
    return found


def _onward(
    landscape: Landscape,
    v: Row,
    value: float,
    p: Row,
    size: Row,
    here: float,
    noise: float,
) -> tuple[Row, float, int]:
    """Goes on in a direction that went down: the point, the value, the evaluations."""
    line = line_search(
        lambda w: float(landscape.at(w[None])[0]),
        lambda t: landscape.fit(v + t * p),
        v,
        p,
        p * ((here - value) / float(p @ p)),
        value,
        scale=size,
        noise=noise,
        fresh=True,
        most=1e3,
        eps=landscape.eps,
        first=here,
    )
    if not line.found:
        return landscape.fit(v + p), here, max(line.trials - 1, 0)
    return line.x, line.value, line.trials - 1
