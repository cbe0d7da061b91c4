"""What a complex step takes for granted, checked at a point or two on the real axis.

A function that is real there has no imaginary part at ``x`` itself; where it has one (the square
root of -2), or where rounding leaves one, the imaginary part beside ``x`` is no derivative. And
what cannot be looked into, a black box, may drop or turn the imaginary part: then the derivative
does not foretell what the function does when ``x`` moves along the real axis. This room must not
know how derivatives come about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxfd._arrays import constant, over
from jaxfd._estimate.task import Call, complexified
from jaxfd._places import Place

# How far ``x`` moves, as powers of the relative spacing. The first shows most; of the others, that
# are asked where the two ways differ there, one is hardly seen by noise, one hardly by curvature.
_POWERS = (1 / 2, 1 / 3, 2 / 3)
# A slope so much larger than the value is none that a function has often.
_STEEP = 1e6
_GOLDEN = 0.6180339887498949
# What both ways may differ by: in spacings of the value, and as a share of the larger change what
# curvature makes of a move, as a multiple of the move and at most.
_SPACINGS, _CURVED, _SHARE = 100, 100, 0.01


def looks_unreal(place: Place, output: Any, h: Any) -> Any:
    """Where an output beside ``x`` may well have an imaginary part at ``x`` too.

    Args:
        place: where this runs.
        output: the output a step along the imaginary axis from ``x``, ``(1, *lead, m, *out)``.
        h: that step, shape ``(*lead, m)``.
    """
    xp = place.xp
    slope = xp.abs(output[0].imag) / over(h, output[0])
    return ~(slope <= _STEEP * xp.abs(output[0].real))


def where_real(
    place: Place,
    x: Sequence[Any],
    centre: Sequence[Any] | None,
    values: list[Any],
    odd: list[Any],
    first: int = 0,
) -> list[Any]:
    """Derivatives by a complex step; NaN where the output has an imaginary part at ``x``.

    Args:
        place: where this runs.
        x: the leaves, complex.
        centre: the outputs at ``x``, shape ``(*lead, *out)``; None where they are not known, and
            evaluated only if there is something odd.
        values: the derivatives, shape ``(*lead, m, *out)``.
        odd: what `looks_unreal` says of them.
        first: the number of the output that the first of them belongs to.
    """

    def real(values: list[Any], centre: Sequence[Any]) -> list[Any]:
        return [real_at_x(place, c, v) for c, v in zip(centre[first:], values, strict=False)]

    if centre is not None:
        return real(values, centre)
    return place.repeat(
        lambda values: real(values, place.centre(x)),
        values,
        1,
        lambda _: sum((each.any() for each in odd), place.xp.zeros((), bool)),
    )


def real_at_x(place: Place, centre: Any, value: Any) -> Any:
    """One such derivative, given the output at ``x``."""
    lead = len(place.lead)
    extra = tuple(range(lead, lead + value.ndim - centre.ndim))
    real = place.xp.expand_dims(centre.imag == 0, extra)
    return place.xp.where(real, value, np.nan)


def check_along(
    place: Place,
    call: Call,
    centre: Sequence[Any],
    move: Callable[[float], tuple[Sequence[Any], Sequence[Any]]],
) -> list[Any]:
    """Compares a derivative with what a black box does when its arguments move a little.

    Args:
        place: where this runs.
        call: the call.
        centre: the outputs at ``x``, complex.
        move: given how far a value of 1 is moved, the real leaves of the point, shape
            ``(*lead, *shape)``, and what each output changes by on the way there, as the
            derivative foretells it: ``(*lead, *out)``.

    Returns:
        For each output where the two agree, shape ``(*lead, *out)``; where that cannot be told,
        they do.

    Raises:
        ValueError: on the host, where they do not.
    """
    xp, count = place.xp, len(call.out)
    seen: list[list[_Change]] = [[] for _ in range(count)]
    for power in _POWERS:
        eps = max(float(place.eps(x.dtype)) for x in call.parts.real)
        point, foretold = move(eps**power)
        leaves = complexified(point, True)
        _, outputs = place.line(leaves, [leaf[None] for leaf in leaves], ride=False)
        for i, changes in enumerate(seen):
            changes.append(_compared(xp, centre[i], outputs[i][0], foretold[i], eps, eps**power))
        agree = [_agrees(xp, changes) for changes in seen]
        if xp is np and all(each.all() for each in agree):
            break
    if xp is np and not all(each.all() for each in agree):
        raise ValueError(
            "ComplexStep needs an analytic function, but the imaginary part of what this one "
            "returns does not foretell what it does when its real argument moves: it drops or "
            "turns the imaginary part (abs, norm, conj, real, a cast). Use Central(), or do "
            "without (sqrt(sum(x * x)) for norm)."
        )
    return agree


def moved_all(place: Place, call: Call, size: float) -> tuple[list[Any], list[Any]]:
    """A point where every entry has moved; the leaves there, and by how much they have."""
    xp, points, moves = place.xp, [], []
    for number, x in enumerate(call.parts.real):
        still, shape = constant(xp, x), x.shape[len(place.lead) :]
        # Every entry by another share, so that what they bring does not cancel.
        count = np.arange(1, 1 + int(np.prod(shape, dtype=np.int64)))
        shares = (0.5 + np.modf(count * _GOLDEN)[0] / 2).reshape(shape)
        # An entry at 0 has no size of its own.
        own = xp.where(still == 0, np.asarray(size, x.dtype), xp.abs(still))
        away = own * (size * shares).astype(x.dtype)
        point = still + away
        if call.boxes is not None:
            box = call.boxes[number]
            point = xp.where(box.clip(point) == point, point, box.clip(still - away))
        points.append(point)
        moves.append(point - still)
    return points, moves


class _Change(NamedTuple):
    """What an output changes by on the way to a point, seen and foretold.

    Attributes:
        move: how far a value of 1 is moved.
        apart: what the two differ by.
        size: the larger of the two.
        rounding: what rounding may make them differ by.
    """

    move: float
    apart: Any
    size: Any
    rounding: Any

    @property
    def allowed(self) -> Any:
        return min(_CURVED * self.move, _SHARE) * self.size + self.rounding


def _compared(xp: Any, at_x: Any, output: Any, foretold: Any, eps: float, move: float) -> _Change:
    change = output.real - at_x.real
    size = xp.maximum(xp.abs(change), xp.abs(foretold))
    rounding = _SPACINGS * eps * (xp.abs(at_x) + xp.abs(output))
    return _Change(move, change - foretold, size, rounding)


def _agrees(xp: Any, changes: Sequence[_Change]) -> Any:
    """Whether a change is the one foretold, as far as can be told.

    A wrong slope is wrong by the same at all moves. Curvature is so by less the smaller the move,
    and noise the larger it is.
    """
    first, others = changes[0], changes[1:]
    agree = ~(xp.abs(first.apart) > first.allowed)
    for other in others:
        ratio = first.move / other.move
        # As much as the two differ by there is at the first move.
        here = ratio * (xp.abs(other.apart) + other.rounding)
        close = xp.abs(other.apart) + other.rounding <= _SHARE * other.size
        agree = agree | (close & (here <= xp.abs(first.apart) / 2))
        if other.move > first.move:
            # What is left without the part that grows with the square.
            slope = (first.apart - other.apart * ratio**2) / (1 - ratio)
            curved = xp.abs(first.apart - slope)
            agree = agree | (xp.abs(slope) <= first.allowed + _SHARE * curved)
    return agree
