"""Stencils: which offsets, and with which weights, make a derivative.

Weights are solved in rational arithmetic for whatever offsets are asked for,
never typed in. This room knows numbers only: no arguments, no JAX, no host.
What it does with arrays it does through their own operators, so that the same
lines serve inside a kernel and on the host.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Shaped

from jaxfd._arrays import over


@functools.cache
def weights(offsets: tuple[int, ...], derivative: int) -> tuple[Fraction, ...]:
    """Exact weights ``w_k`` with ``f^(d)(0) = sum_k w_k f(s_k)`` for polynomials of degree < K.

    Args:
        offsets: K distinct integers.
        derivative: the order ``d`` of the derivative, less than K.

    Returns:
        K fractions, in the order of the offsets.

    Example:
        >>> [str(w) for w in weights((-1, 0, 1), 2)]
        ['1', '-2', '1']

    Reference:
        B. Fornberg, "Generation of finite difference formulas on arbitrarily spaced grids",
        Mathematics of Computation 51 (1988) 699-706.
    """
    result = []
    for k, own in enumerate(offsets):
        # The Lagrange polynomial of node k: its d-th derivative at 0 is d! times a coefficient.
        coefficients = [Fraction(1)]
        for other in offsets[:k] + offsets[k + 1 :]:
            scale = Fraction(1, own - other)
            shifted = [Fraction(0), *coefficients]
            for power, c in enumerate(coefficients):
                shifted[power] -= other * c
            coefficients = [scale * c for c in shifted]
        result.append(math.factorial(derivative) * coefficients[derivative])
    return tuple(result)


@dataclasses.dataclass(frozen=True)
class Stencil:
    """Offsets and exact weights of one derivative: ``f^(d)(x) ~ h^-d sum_k w_k f(x + s_k h)``.

    Attributes:
        offsets: the offsets ``s_k`` in rising order, without those of weight zero.
        weights: the weights ``w_k``.
        derivative: the order ``d`` of the derivative.
        accuracy: the order ``p`` of the error, ``O(h^p)``.
        imaginary: whether the offsets lie along the imaginary axis (`complex step`).
    """

    offsets: tuple[int, ...]
    weights: tuple[Fraction, ...]
    derivative: int
    accuracy: int
    imaginary: bool = False

    def __hash__(self) -> int:
        return hash((self.offsets, self.derivative, self.accuracy))

    @functools.cached_property
    def moving(self) -> tuple[int, ...]:
        """The offsets that are points of their own: all but the centre."""
        return tuple(s for s in self.offsets if s != 0)

    @functools.cached_property
    def below(self) -> int:
        """How many of its points lie below ``x``."""
        return sum(1 for s in self.offsets if s < 0)

    @functools.cached_property
    def uses_centre(self) -> bool:
        """Whether the value at ``x`` itself carries weight."""
        return 0 in self.offsets

    def with_offsets(self, offsets: Sequence[Any]) -> Stencil:
        """The same stencil on these offsets too, which get no weight."""
        weight = dict(zip(self.offsets, self.weights, strict=True))
        every = sorted({*self.offsets, *offsets})
        return dataclasses.replace(
            self,
            offsets=tuple(every),
            weights=tuple(weight.get(s, Fraction(0)) for s in every),
        )

    def combine(
        self,
        centre: Shaped[Any, "... *out"] | None,
        outputs: Shaped[Any, "k *lead *out"],
        moved: Shaped[Any, "k *lead"],
        h: Shaped[Any, "*lead"],
    ) -> Shaped[Any, "*lead *out"]:
        """Makes the derivative from the function's values.

        The sum is written over differences of neighbouring values, each divided by the
        distance that was really stepped: constants cancel exactly, and a linear function is
        differentiated exactly even where rounding made the steps uneven.

        Args:
            centre: the value at ``x``, broadcastable to one of ``outputs``; None if not used.
            outputs: shape ``(K, ..., *out)``, one for each of `moving`.
            moved: shape ``(K, ...)``, the distance each point was really moved.
            h: shape ``(...)``, the nominal step.

        Returns:
            The derivative, shape ``(..., *out)``.
        """
        if self.imaginary:
            return outputs[0].imag / over(h, outputs[0])
        moved = over(moved, outputs)
        at = {s: (outputs[k], moved[k]) for k, s in enumerate(self.moving)}
        if self.uses_centre:
            at[0] = (centre, 0.0)
        total: Any = None
        for low, high, coefficient in self._gaps:
            (f_low, t_low), (f_high, t_high) = at[low], at[high]
            slope = (f_high - f_low) / (t_high - t_low)
            term = slope if coefficient == 1.0 else slope * coefficient
            total = term if total is None else total + term
        if self.derivative > 1:
            total = total / over(h, total) ** (self.derivative - 1)
        return total

    @functools.cached_property
    def _gaps(self) -> tuple[tuple[int, int, float], ...]:
        """Neighbouring offsets, and the weight of the slope between them."""
        gaps = []
        running = Fraction(0)
        for k, (low, high) in enumerate(itertools.pairwise(self.offsets)):
            running += self.weights[k]
            if running:
                gaps.append((low, high, float(-running * (high - low))))
        return tuple(gaps)


@functools.cache
def stencil(offsets: tuple[int, ...], derivative: int) -> Stencil:
    """A stencil on the given offsets, without those whose weight is zero.

    Example:
        >>> stencil((-1, 0, 1), 1).offsets
        (-1, 1)
    """
    solved = weights(offsets, derivative)
    symmetric = tuple(sorted(-s for s in offsets)) == offsets
    accuracy = len(offsets) - derivative
    if symmetric and (len(offsets) - derivative) % 2:
        accuracy += 1
    kept = [(s, w) for s, w in zip(offsets, solved, strict=True) if w != 0]
    return Stencil(
        offsets=tuple(s for s, _ in kept),
        weights=tuple(w for _, w in kept),
        derivative=derivative,
        accuracy=accuracy,
    )


def central(derivative: int, accuracy: int) -> Stencil:
    """The symmetric stencil of an even order of accuracy.

    Example:
        >>> [str(w) for w in central(1, 4).weights]
        ['1/12', '-2/3', '2/3', '-1/12']
    """
    half = (derivative + 1) // 2 - 1 + accuracy // 2
    return stencil(tuple(range(-half, half + 1)), derivative)


def one_sided(derivative: int, accuracy: int, side: int) -> Stencil:
    """The stencil that looks to one side only (``side`` is 1 or -1).

    Example:
        >>> one_sided(1, 2, -1).offsets
        (-2, -1, 0)
    """
    reach = derivative + accuracy
    return stencil(tuple(sorted(side * s for s in range(reach))), derivative)


def shifted(nodes: int, below: int) -> tuple[int, ...]:
    """The offsets ``-below ... nodes - below`` without the centre."""
    return tuple(s for s in range(-below, nodes - below + 1) if s != 0)


def shifted_slopes(nodes: int, below: int) -> tuple[float, ...]:
    """Coefficients ``g_k`` with ``f'(0) ~ sum_k g_k (f(s_k) - f(0)) / s_k`` on `shifted` offsets.

    Example:
        >>> shifted_slopes(2, 0)
        (2.0, -1.0)
    """
    offsets: Sequence[int] = range(-below, nodes - below + 1)
    solved = weights(tuple(offsets), 1)
    return tuple(float(w * s) for s, w in zip(offsets, solved, strict=True) if s != 0)


def mended(plain: Any, centre: Any, outputs: Any, moved: Any) -> Any:
    """The derivative where points were lost, from those that are left and the centre.

    It is the slope at ``x`` of the polynomial through them. With distances ``t_k`` that is
    ``sum_k g_k (f_k - f_0) / t_k`` with ``g_k = prod_{j != k} t_j / (t_j - t_k)``.
    """
    lost = ~np.isfinite(outputs)
    if centre is None or not lost.any():
        return plain
    t = np.where(lost, np.nan, over(moved, outputs))
    total: Any = np.zeros_like(plain)
    for k in range(len(t)):
        weight: Any = 1.0
        for j in range(len(t)):
            if j != k:
                weight = weight * np.where(lost[j], 1.0, t[j] / (t[j] - t[k]))
        total = total + np.where(lost[k], 0.0, weight * (outputs[k] - centre) / t[k])
    return np.where(lost.any(axis=0) & ~lost.all(axis=0), total, plain)
