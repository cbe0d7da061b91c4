"""Orthonormal polynomials on a row of points, solved in rational arithmetic.

It exists because everything about a fit but its radius is known beforehand: it is asked for each
length of a row, once in a process. This room must not know what is fitted, nor which fit is the
best.

Reference:
    G. Forsythe, "Generation and use of orthogonal polynomials for data-fitting with a digital
    computer", J. Soc. Indust. Appl. Math. 5 (1957) 74-88.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

# The lowest power of the distance that a part of the data has, and the step to the next.
POWERS = {"odd": (1, 2), "even": (0, 2), "square": (2, 2), "all": (0, 1)}


@dataclasses.dataclass(frozen=True)
class Basis:
    """Orthonormal polynomials on the first points of a row, by rising degree.

    Attributes:
        values: their values at the points, shape ``(m, m)``.
        slopes: their derivatives at the centre, of the order asked for, for radius 1.
        origins: what they are there.
    """

    values: np.ndarray
    slopes: np.ndarray
    origins: np.ndarray


def terms_for(kind: str, derivative: int) -> int:
    """How many powers of a kind there are up to that of a derivative."""
    lowest, step = POWERS[kind]
    return (derivative - lowest) // step + 1


def leading(kinds: Sequence[str], derivative: int) -> int:
    """The number of the part of the data whose powers make a derivative."""
    return next(
        number
        for number, (lowest, step) in enumerate(POWERS[kind] for kind in kinds)
        if derivative >= lowest and (derivative - lowest) % step == 0
    )


def orthonormal(nodes: Sequence[Fraction], kind: str, derivative: int = 1) -> Basis:
    """Some powers of the distance, made orthogonal in rational arithmetic.

    Args:
        nodes: the distances.
        kind: the powers: ``"odd"``, ``"even"``, ``"square"`` for the even ones from the second on,
            ``"all"``.
        derivative: the order of the derivatives at the centre.
    """
    lowest, step = POWERS[kind]
    u = [t**step for t in nodes]
    # Polynomial i is t^lowest * p_i(u): at the points, and the coefficients of p_i.
    rows_of: list[list[Fraction]] = []
    written: list[list[Fraction]] = []
    norms: list[Fraction] = []
    for i in range(len(nodes)):
        if i == 0:
            row, poly = [t**lowest for t in nodes], [Fraction(1)]
        else:
            last, norm = rows_of[-1], norms[-1]
            shift = sum((a * q * q for a, q in zip(u, last, strict=True)), Fraction(0)) / norm
            row = [(a - shift) * q for a, q in zip(u, last, strict=True)]
            poly = _minus([Fraction(0), *written[-1]], shift, written[-1])
            if i > 1:
                back = norm / norms[-2]
                row = [r - back * q for r, q in zip(row, rows_of[-2], strict=True)]
                poly = _minus(poly, back, written[-2])
        rows_of.append(row)
        written.append(poly)
        norms.append(sum((q * q for q in row), Fraction(0)))
    size = [math.sqrt(norm) for norm in norms]
    power, rest = divmod(derivative - lowest, step)
    own = rest == 0 and power >= 0
    slopes = [float(poly[power]) if own and power < len(poly) else 0.0 for poly in written]
    slopes = [math.factorial(derivative) * slope for slope in slopes]
    origins = [float(poly[0]) if lowest == 0 else 0.0 for poly in written]
    return Basis(
        np.array([[float(q) / s for q in row] for row, s in zip(rows_of, size, strict=True)]),
        np.array(slopes) / np.array(size),
        np.array(origins) / np.array(size),
    )


def _minus(poly: list[Fraction], factor: Fraction, other: list[Fraction]) -> list[Fraction]:
    """A polynomial less a multiple of one that is no longer, by coefficients."""
    return [c - factor * (other[k] if k < len(other) else Fraction(0)) for k, c in enumerate(poly)]
