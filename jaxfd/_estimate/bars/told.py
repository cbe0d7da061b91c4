"""What was evaluated for a bar, in a unit that suits it.

A bar is made of squares, which leave the range of the dtype long before the values do: everything
scales with the function, so that it may be measured in a power of two of its own size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jaxtyping import Float, Shaped

from jaxfd._arrays import over, power_of_two


class Told(NamedTuple):
    """What was evaluated, of one output.

    Attributes:
        centre: at ``x``, shape ``(*lead, *out)``.
        values: at the points of the stencil, shape ``(K, *lead, N, *out)``.
        along: on the rays, shape ``(P, *lead, *out)``.
        slope: the derivative made of these, shape ``(*lead, N, *out)``.
    """

    centre: Shaped[Any, "*lead *out"]
    values: Shaped[Any, "k *lead n *out"]
    along: Shaped[Any, "p *lead *out"]
    slope: Shaped[Any, "*lead n *out"]


def measured(xp: Any, axis: int, told: Told) -> tuple[Told, Any, Any]:
    """The same in units of a power of two, that unit, and the largest value in it.

    Args:
        xp: the array namespace.
        axis: the number of leading axes.
        told: what was evaluated.
    """
    every = xp.where(xp.isfinite(told.values), xp.abs(told.values), 0)
    size = xp.max(every, axis=(0, axis + 1), initial=0)
    beside = xp.concatenate([told.centre[None], told.along])
    size = xp.maximum(size, xp.max(xp.where(xp.isfinite(beside), xp.abs(beside), 0), axis=0))
    unit = power_of_two(xp, size)
    wide = xp.expand_dims(unit, axis)
    scaled = Told(told.centre / unit, told.values / wide, told.along / unit, told.slope / wide)
    return scaled, unit, size / unit


def unpredicted(
    xp: Any, axis: int, told: Told, points: slice, moved: Float[Any, "p *lead n"]
) -> tuple[Any, Any]:
    """The changes at points on rays that the slope does not make, and where a value is lost.

    Args:
        xp: the array namespace.
        axis: the number of leading axes.
        told: what was evaluated.
        points: which points.
        moved: how far each entry moved, at all points on rays.
    """
    slope = xp.where(xp.isfinite(told.slope), told.slope, 0)
    change = told.along[points] - told.centre
    lost = ~xp.all(xp.isfinite(change), axis=0)
    predicted = xp.sum(over(moved[points], slope[None]) * slope, axis=axis + 1)
    return xp.where(lost, 0, change) - predicted, lost
