"""Fits of polynomials to what a function does around a point, and how far each can be trusted.

The points lie at fixed shares of a radius, so everything about a fit but the radius is known
beforehand: orthogonal polynomials on the first points of a row, what each of them adds to the
derivative, and how many degrees of freedom are left to judge the noise by. This room knows numbers
only: no arguments, no method, no place.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxfd._arrays import apply, column, constant, power_of_two
from jaxfd._estimate.adaptive.polynomials import POWERS, leading, orthonormal, terms_for

# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom, and for many.
_STUDENT = (12.7, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14)
_MANY = 2.1
# Fewer degrees of freedom than this say too little about the noise.
_LEAST_FREEDOM = 3
# So many fits of the highest degrees leave the same, to this factor, where it is no truncation.
_LAST, _ALIKE = 3, 4.0
# Nor is it where they leave so many times more than fits to fewer points.
_SUDDEN = 1e4
# How often a set of points may be taken again, slightly moved, to average out noise.
MOST_SETS = 3


def student(freedom: int) -> float:
    """The factor between a standard error and a bound of the error."""
    return _STUDENT[freedom - 1] if freedom <= len(_STUDENT) else _MANY


@dataclasses.dataclass(frozen=True)
class Fits:
    """All fits to a row of points that leave enough freedom to be judged.

    Attributes:
        slope: the weight of each point in the derivative, for radius 1, shape ``(C, P)``.
        basis: orthonormal polynomials of all windows, shape ``(Q, P)``.
        left: for each fit, which of them are its residual, shape ``(C, Q)``.
        uses: for each fit, which points it uses, shape ``(C, P)``.
        reach: the distance of its farthest point, for radius 1, shape ``(C,)``.
        gain: the error of the derivative for noise of size 1 in the data.
        bias: for residuals of size 1 that are all truncation, the error over the gain.
        freedom: the degrees of freedom of the residual.
        derivative: the order of the derivative.
    """

    slope: np.ndarray
    basis: np.ndarray
    left: np.ndarray
    uses: np.ndarray
    reach: np.ndarray
    gain: np.ndarray
    bias: np.ndarray
    freedom: np.ndarray
    derivative: int

    @functools.cached_property
    def quantiles(self) -> np.ndarray:
        """For 1, 2, ... sets of points, what makes a bound of each fit's standard error."""
        sets = range(1, MOST_SETS + 1)
        return np.array([[student(f * n) for f in self.freedom] for n in sets])


def _fits(
    nodes: Sequence[Fraction],
    windows: Sequence[int],
    kinds: Sequence[str],
    most: int,
    derivative: int,
) -> Fits:
    """Fits of rising degree to the first ``m`` points, for each ``m`` in ``windows``."""
    count, size = len(nodes), len(nodes) * len(kinds)
    total = sum(m * len(kinds) for m in windows)
    basis = np.zeros((total, size))
    rows: list[tuple[Any, ...]] = []
    start, first_of = 0, leading(kinds, derivative)
    # One term more than the derivative needs: else truncation is told from noise too badly.
    least = terms_for(kinds[first_of], derivative) + 1 - (kinds[first_of] == "even")
    for m in windows:
        parts = [orthonormal(nodes[:m], kind, derivative) for kind in kinds]
        for number, part in enumerate(parts):
            first = start + number * m
            basis[first : first + m, number * count : number * count + m] = part.values
        lead = parts[first_of]
        for k in range(least, min(m - 1, most) + 1):
            # The even part has a constant besides: the value at x is as noisy as the others.
            kept = [min(k + 1, m) if kind == "even" else k for kind in kinds]
            own = kept[first_of]
            free = sum(m - c for c in kept)
            if free < _LEAST_FREEDOM or own == m:
                continue
            left, uses, slope = np.zeros(total), np.zeros(size), np.zeros(size)
            for number, c in enumerate(kept):
                left[start + number * m + c : start + (number + 1) * m] = 1
                uses[number * count : number * count + m] = 1
            slope[first_of * count : first_of * count + m] = lead.slopes[:own] @ lead.values[:own]
            lowest, step = POWERS[kinds[first_of]]
            power = lowest + step * own
            following = lead.values @ np.array([float(t**power) for t in nodes[:m]])
            gain = math.sqrt(float(np.sum(lead.slopes[:own] ** 2)))
            off = abs(float(lead.slopes[:own] @ following[:own]))
            bias = off / gain / math.sqrt(float(np.mean(following[own:] ** 2)))
            rows.append((slope, left, uses, float(nodes[m - 1]), gain, bias, free))
        start += m * len(kinds)
    columns = [np.array(c) for c in zip(*rows, strict=True)]
    slopes, left_of, used, reach, gains, biases, freedom = columns
    return Fits(slopes, basis, left_of, used, reach, gains, biases, freedom, derivative)


_EIGHTHS = tuple(Fraction(i, 8) for i in range(1, 9))


@functools.cache
def two_sided_fits(derivative: int = 1) -> Fits:
    """Fits to odd and even parts at ``1/8 ... 8/8`` of the radius."""
    return _fits(_EIGHTHS, range(4, 9), ("odd", "even"), 8, derivative)


@functools.cache
def one_sided_fits(derivative: int = 1) -> Fits:
    """Fits to changes at ``0/16 ... 16/16`` of the radius, all to one side."""
    nodes = [Fraction(i, 16) for i in range(17)]
    return _fits(nodes, (6, 7, 9, 11, 13, 17), ("all",), 10, derivative)


@functools.cache
def crossed_fits() -> Fits:
    """Fits to the parts of a function on two crossed lines, for a mixed derivative.

    What is odd along both entries, what is even, and the odd parts along either line, each at
    ``1/8 ... 8/8`` of the radius.
    """
    return _fits(_EIGHTHS, range(4, 9), ("square", "even", "odd", "odd"), 8, 2)


@functools.cache
def ray_fits() -> Fits:
    """Fits to changes at ``0/32 ... 32/32`` of the radius on a ray, for the curvature along it."""
    nodes = [Fraction(i, 32) for i in range(33)]
    return _fits(nodes, (9, 13, 17, 23, 33), ("all",), 10, 2)


@functools.cache
def odd_polynomials() -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of odd polynomials of degree 5 and 7 through odd parts at ``1/8 ... 8/8``.

    Returns:
        Weights of the parts in the coefficients of ``t, t^3, ...``: shape ``(3, 8)``, ``(4, 8)``.
    """
    t = np.arange(1, 9) / 8
    five, seven = (np.linalg.pinv(t[:, None] ** np.arange(1, d + 1, 2)) for d in (5, 7))
    return five, seven


class Evidence(NamedTuple):
    """What all fits make of some sets of points, so that further sets can be added.

    Attributes:
        radius: the radius of the first set, shape ``(*s)``.
        unit: a power of two that the data are divided by.
        slope: the sum over sets of derivative times weight, shape ``(C, *s)``.
        energy: the sum of squared residuals, shape ``(C, *s)``.
        lost: how many points of a fit are not finite.
        weight: the sum of weights: the squared radius over that of the first set, to the power of
            the derivative.
        sets: how many sets there are.
    """

    radius: Any
    unit: Any
    slope: Any
    energy: Any
    lost: Any
    weight: Any
    sets: Any


def weigh(xp: Any, fits: Fits, data: Any, radius: Any) -> Evidence:
    """Applies all fits to one set of points.

    Args:
        xp: the array namespace.
        fits: the fits.
        data: shape ``(P, *s)``.
        radius: broadcastable to ``(*s)``.
    """
    finite = xp.isfinite(data)
    clean = xp.where(finite, data, 0)
    still = constant(xp, clean)
    unit = power_of_two(xp, xp.max(xp.abs(still), axis=0))
    parts = apply(xp, fits.basis, still / unit)
    return Evidence(
        radius + xp.zeros_like(unit),
        unit,
        apply(xp, fits.slope, clean / unit),
        apply(xp, fits.left, parts * parts),
        apply(xp, fits.uses, xp.where(finite, 0.0, 1.0).astype(unit.dtype)),
        xp.ones_like(unit),
        xp.ones_like(unit),
    )


def add(old: Evidence, new: Evidence, derivative: int = 1) -> Evidence:
    """The evidence of all sets, in the units of the first."""
    share, unit = (new.radius / old.radius) ** derivative, new.unit / old.unit
    return Evidence(
        old.radius,
        old.unit,
        old.slope + new.slope * (unit * share),
        old.energy + new.energy * unit**2,
        old.lost + new.lost,
        old.weight + new.weight * share**2,
        old.sets + new.sets,
    )


class BestFit(NamedTuple):
    """The best fit, entry by entry.

    Attributes:
        value: the derivative; NaN where no fit was possible.
        error: what it may be off by; infinite there.
        reach: how far its points go, as a share of the radius.
        gain: its error for noise of size 1, times the radius to the power of the derivative.
        rest: what the fit of the lowest degree to all points leaves.
        left: what fits of the highest degrees to all points leave.
        jumps: whether that does not look like truncation; of first derivatives only.
        wide: the derivative that the best of these fits says.
        wide_error: what it may be off by.
    """

    value: Any
    error: Any
    reach: Any
    gain: Any
    rest: Any
    left: Any
    jumps: Any
    wide: Any
    wide_error: Any


def judge(xp: Any, fits: Fits, evidence: Evidence, floor: Float[Any, "*s"]) -> BestFit:
    """Keeps the fit that promises the smallest error.

    The error promised by a fit is that from noise, ``student * gain * residual / radius``, and
    that from truncation, ``bias * gain * excess / radius``, with the excess of its residual over
    the smallest of all fits.

    Args:
        xp: the array namespace.
        fits: the fits.
        evidence: what they made of the points.
        floor: the least residual.
    """
    unit, sets, weight = evidence.unit, evidence.sets, evidence.weight
    gain, freedom = column(fits.gain, unit), column(fits.freedom, unit)
    spread = xp.sqrt(constant(xp, evidence.energy) / (freedom * sets))
    spread = xp.where(evidence.lost > 0, np.inf, xp.maximum(spread, floor / unit))
    quantile: Any = column(fits.quantiles[-1], unit)
    for n in range(MOST_SETS - 1, 0, -1):
        quantile = xp.where(sets <= n, column(fits.quantiles[n - 1], unit), quantile)
    excess = xp.maximum(spread**2 - xp.min(spread, axis=0) ** 2, 0)
    noise = (quantile * spread) ** 2
    error = gain * xp.sqrt((noise + column(fits.bias, unit) ** 2 * excess * sets) / weight)
    error = xp.where(xp.isfinite(error), error, np.inf)
    best = xp.argmin(error, axis=0)[None]

    def chosen(a: Any) -> Any:
        return xp.take_along_axis(xp.broadcast_to(a, error.shape), best, axis=0)[0]

    # Truncation falls with the degree, and when the farthest points are left out by little.
    last, left = spread[-_LAST:], xp.min(spread[-_LAST:], axis=0)
    if fits.derivative == 1:
        narrow = xp.min(spread[:-_LAST], axis=0)
        jumps = (xp.max(last, axis=0) < _ALIKE * left) | (left > _SUDDEN * narrow)
    else:
        # So few fits make a higher one that they leave alike what is truncation.
        jumps = xp.zeros(left.shape, bool)
    widest = xp.argmin(error[-_LAST:], axis=0)[None]

    def of_widest(a: Any) -> Any:
        return xp.take_along_axis(a[-_LAST:], widest, axis=0)[0]

    lost, scale = xp.isinf(chosen(error)), unit / evidence.radius**fits.derivative
    return BestFit(
        xp.where(lost, np.nan, chosen(evidence.slope / weight) * scale),
        chosen(error) * scale,
        chosen(column(fits.reach, unit)),
        chosen(gain),
        spread[int(np.argmax(fits.reach))] * unit,
        left * unit,
        jumps & xp.isfinite(left),
        of_widest(evidence.slope / weight) * scale,
        of_widest(error) * scale,
    )
