"""Errors of fitted parameters, and what speaks against trusting them.

The linear theory of least squares: a covariance from the Jacobian at the minimum. This room must
not know how the minimum was found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

# Columns that point the same way to this share cannot be told apart.
_COLLINEAR = 1e-9
# A column is drowned where its error is this share of it.
_DROWNED = 0.1
# Entries with at least this share of a direction are named with it.
_PART = 0.3


class Errors(NamedTuple):
    """What the Jacobian says of the parameters' errors.

    Attributes:
        covariance: shape ``(p, p)``; NaN where unknown.
        warnings: what speaks against it.
    """

    covariance: Float[np.ndarray, "p p"]
    warnings: tuple[str, ...]


def errors_of(
    jacobian: Float[np.ndarray, "m p"],
    error: Float[np.ndarray, "m p"] | None,
    cost: float,
    absolute: bool,
    walls: Bool[np.ndarray, "p"],
    lost: Bool[np.ndarray, "p"],
    jumps: Bool[np.ndarray, "p"],
    names: Sequence[str],
) -> Errors:
    """The covariance of parameters.

    Args:
        jacobian: slopes of what is squared.
        error: the error of each; None where they were learnt on the way, and not differenced.
        cost: half the sum of squares.
        absolute: whether residuals are in units of their errors, so that the sum of squares does
            not tell how large those are.
        walls: entries at a wall, which do not vary.
        lost: entries whose slopes could not be differenced.
        jumps: entries along which residuals jump and are flat in between.
        names: what entries are called.
    """
    m, p = jacobian.shape
    warnings: list[str] = []
    covariance = np.full((p, p), np.nan)
    dof = m - p
    for k in map(int, np.flatnonzero(walls)):
        warnings.append(
            f"{names[k]} is at its bound: it has no standard error, and those of the others hold "
            "for it fixed there"
        )
    for k in map(int, np.flatnonzero(lost)):
        warnings.append(f"{names[k]}: its runs fail on both sides, so that its slope is unknown")
    length = np.linalg.norm(jacobian, axis=0)
    dead = ~walls & ~lost & (length == 0)
    for k in map(int, np.flatnonzero(dead)):
        why = " has no influence on the residuals" if error is not None else " has no slope so far"
        if jumps[k]:
            why = ": residuals jump along it and are flat in between"
        warnings.append(f"{names[k]}{why}: its error is unknown")
    with np.errstate(all="ignore"):
        blur = np.linalg.norm(error if error is not None else 0 * jacobian, axis=0) / length
    told = ~walls & ~lost & ~dead & np.isfinite(length)
    for k in map(int, np.flatnonzero(told & np.isnan(blur))):
        warnings.append(f"{names[k]}: how far off its slope may be is unknown")
    for k in map(int, np.flatnonzero(told & (blur >= _DROWNED))):
        warnings.append(
            f"{names[k]}: noise hides its slope ({blur[k]:.0%} of it), so that its standard error "
            "cannot be trusted"
        )
    kept = np.flatnonzero(~walls & ~lost & ~dead)
    if dof <= 0 and not absolute:
        warnings.append(
            f"{m} residuals for {p} parameters leave no degree of freedom: errors are unknown "
            "unless those of the data are given (sigma, absolute_sigma=True)"
        )
        return Errors(covariance, tuple(warnings))
    if 0 < dof < 3 and not absolute:
        warnings.append(
            f"{dof} degree(s) of freedom: the standard errors themselves are known to "
            f"{1 / math.sqrt(2 * dof):.0%} only"
        )
    if not len(kept) or not np.isfinite(jacobian[:, kept]).all():
        return Errors(covariance, tuple(warnings))
    unit = jacobian[:, kept] / length[kept]
    _, s, vt = np.linalg.svd(unit, full_matrices=False)
    free = s > max(_COLLINEAR * s[0], 1e-15)
    for v in vt[~free]:
        which = [names[kept[i]] for i in np.flatnonzero(np.abs(v) >= _PART)]
        warnings.append(f"{', '.join(which)} cannot be told apart: their errors are unknown")
    variance = 1.0 if absolute else 2 * cost / dof
    inverse = (vt[free].T / s[free] ** 2) @ vt[free]
    found = variance * inverse / np.outer(length[kept], length[kept])
    if not free.all():
        open_ = (np.abs(vt[~free]) > 1e-6).any(0)
        found[open_] = np.nan
        found[:, open_] = np.nan
    covariance[np.ix_(kept, kept)] = found
    return Errors(covariance, tuple(warnings))


def student_limit(dof: int, share: float = 0.975) -> float:
    """The limit below which this share of Student's t distribution lies.

    Example:
        >>> print(round(student_limit(10), 4), round(student_limit(100000), 3))
        2.2281 1.96
    """
    nodes, weights = np.polynomial.legendre.leggauss(200)
    log_norm = math.lgamma((dof + 1) / 2) - math.lgamma(dof / 2) - 0.5 * math.log(dof * math.pi)

    def below(t: float) -> float:
        # With t = sqrt(dof) tan(a) the density is a power of a cosine.
        top = math.atan(t / math.sqrt(dof))
        a = top * (nodes + 1) / 2
        body = np.exp(log_norm + 0.5 * math.log(dof) + (dof - 1) * np.log(np.cos(a)))
        return 0.5 + float(weights @ body) * top / 2

    low, high = 0.0, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < share else (low, middle)
    return (low + high) / 2
