"""How far random points go: one distance a leaf, and farther where rounding would lose it.

Must not know along which directions, nor what becomes of the values.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxfd._arrays import constant, farther, finfo, moving, over
from jaxfd._estimate.task import Call
from jaxfd._methods import Relative
from jaxfd._places import Place
from jaxfd._random import RandomDirections

# Leaves of so many entries, or fewer, may take a second one's memory.
_SMALL = 2**20


def distances_of(
    place: Place, call: Call, method: RandomDirections, apart: bool
) -> tuple[list[Any], list[Any]]:
    """How far the points of each leaf go.

    A distance that is lost in rounding tells nothing. Entries that it would not move go as far as
    it takes to move them, each for itself where there is room for a number of each; else the leaf
    goes as far as its largest entry needs.

    Returns:
        One number a leaf, shape ``(*lead,)``; and how many times farther each entry goes, None for
        leaves of which none does, see `Cloud`.
    """
    xp, sigma, parts = place.xp, method.sigma, call.parts
    rule = sigma if isinstance(sigma, Relative) else Relative()
    fixed = None if isinstance(sigma, Relative) else sigma
    typical = call.arguments.spread(rule.typical, "typical", 1.0)
    wanted = call.arguments.spread(fixed, "sigma", None)
    # One spacing for all: entries that go much less far than others would drown in their noise.
    eps = max(place.eps(x.dtype) for x in parts.real)
    result: list[Any] = []
    stretch: list[Any] = []
    for x, owner in zip(parts.real, parts.owner, strict=True):
        for name, value in (("typical", typical[owner]), ("sigma", wanted[owner])):
            if np.ndim(value):
                raise ValueError(
                    f"{type(method).__name__}: {name} has a leaf of shape {np.shape(value)}: give "
                    "one number for each leaf, as random directions move all its entries at once."
                )
        x = constant(xp, x)
        largest = xp.max(xp.abs(x.reshape(*place.lead, -1)), axis=-1, initial=0)
        power = 1 / 3 if method.antithetic else 1 / 2
        h, times = rule.size(xp, largest, typical[owner], eps, power), None
        if wanted[owner] is not None:
            h = xp.broadcast_to(xp.asarray(wanted[owner], dtype=x.dtype), h.shape)
        if wanted[owner] is not None or rule.rel is not None:
            h = xp.maximum(h, xp.asarray(finfo(x.dtype).smallest_normal, dtype=x.dtype))

            def least(size: Any, typical: Any = typical[owner], power: float = power) -> Any:
                if method.coarse:
                    return moving(xp, size)
                return Relative().size(xp, size, typical, eps, power)

            if apart and method.entrywise and has_room(x):
                times = farther(xp, x, over(h, x), least(xp.abs(x)))
            else:
                h = xp.where((largest + h) - largest == 0, least(largest), h)
        result.append(h)
        stretch.append(times)
    return result, stretch


def has_room(x: Any) -> bool:
    """Whether there is room for another number beside each entry of a leaf."""
    return bool(x.dtype.itemsize < 4 or x.size <= _SMALL)
