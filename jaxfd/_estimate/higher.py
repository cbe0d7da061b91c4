"""Derivatives of higher order along the coordinates, looked at twice where noise may drown them.

A default step suits rounding. Noise far above it makes a second difference as large as it likes,
and one difference does not show that: another with twice the step does. Must not know who asks.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool

from jaxfd._arrays import flatten, over
from jaxfd._estimate.decimals import scatter_of_digits
from jaxfd._estimate.estimator import Wish, derivatives
from jaxfd._estimate.found import Derivatives
from jaxfd._estimate.layout import lay
from jaxfd._estimate.task import Call
from jaxfd._methods import Adaptive, Stencil, is_default, search_like, stencil_of
from jaxfd._places import Place

# A derivative larger than so many values over the scale to its order may be noise.
_SUSPECT = 16.0
# One that changes by more than this share between two steps is.
_DROWNED = 1e-2
# What values may lose by rounding, in spacings.
_ROUNDING = 8.0


def higher_derivatives(place: Place, call: Call, wish: Wish) -> Derivatives:
    """Derivatives of the order that is wished for, with steps that suit noise where it is seen.

    Args:
        place: where points are evaluated.
        call: the call.
        wish: what is wanted; its order is 2 or more.
    """
    method, order = call.method, wish.order or 1
    highest = Adaptive.highest
    looks = place.concrete and is_default(method.step) and method.highest is None
    if not looks or highest is None or order > highest or not call.parts.real:
        return derivatives(method, place, call, wish)
    found = derivatives(method, place, call, wish._replace(centre=True))
    drowned = _drowned(place, call, stencil_of(method, order), found)
    if not np.any(drowned):
        return found
    search: Any = search_like(method.step)
    other = derivatives(search, place, dataclasses.replace(call, method=search), wish)
    rows = [
        [
            np.where(over(drowned, old), new.astype(old.dtype), old)
            for new, old in zip(*pair, strict=True)
        ]
        for pair in zip(other.rows, found.rows, strict=True)
    ]
    return dataclasses.replace(found, rows=rows)


def _drowned(place: Place, call: Call, stencil: Stencil, found: Derivatives) -> Bool[Any, "*lead"]:
    """Whether noise hides what was found: on the host, for every call of a batch."""
    axis, order = len(place.lead), stencil.derivative
    h = flatten(np, [step.astype(np.float64) for step in found.step], axis)
    eps = place.eps(h.dtype)
    number = h.shape[-1]
    result = np.zeros(place.lead, bool)
    if not number or found.centre is None:
        return result
    scale = h / eps ** (1 / (stencil.accuracy + order))
    sizes, suspects = [], []
    for row, base in zip(found.rows, found.centre, strict=False):
        size = np.abs(base).reshape(*place.lead, -1)
        # (*lead, O, N)
        flat = [r.reshape(*place.lead, size.shape[-1], -1) for r in row]
        value = np.abs(np.concatenate(flat, axis=-1))
        sizes.append((value, size))
        large = value * scale[..., None, :] ** order > _SUSPECT * size[..., None]
        suspects.append(np.any(np.mean(large, axis=-1) > 0.5, axis=-1))
    # One entry shows the noise of all; a single one is always looked at again.
    suspect = np.any(suspects, axis=0) if number > 1 else ~result
    if not np.any(suspect):
        return result
    shown = np.nan_to_num(np.max([np.max(v, axis=-2) for v, _ in sizes], axis=0))
    entry = np.argmax(shown * scale**order, axis=-1)
    wanted = (np.arange(number) == entry[..., None]) & suspect[..., None]
    layout = lay(place, call, stencil, stretch=2.0)
    outputs = place.some(layout.points, wanted)
    weight = _ROUNDING * float(sum(abs(w) for w in stencil.weights))
    own = np.take_along_axis(h, entry[..., None], axis=-1)
    for output, base, (value, size) in zip(outputs, found.centre, sizes, strict=False):
        other = layout.combine(place, base, output, slice(None))
        other = np.abs(np.moveaxis(other.reshape(*place.lead, number, -1), -2, -1))
        there = entry[..., None, None]
        one, two = (np.take_along_axis(v, there, axis=-1)[..., 0] for v in (value, other))
        lost = weight * eps * size / own**order
        apart, largest = np.abs(one - two), np.maximum(one, two)
        worst = (apart > _DROWNED * largest) & (apart > lost)
        # Printed values may agree that there is no curvature.
        lines = np.moveaxis(output.reshape(len(output), *place.lead, number, -1), -2, -1)
        lines = np.take_along_axis(lines, there[None], axis=-1)[..., 0]
        rest = base.reshape(1, *place.lead, -1)
        coarse = weight * scatter_of_digits(np.concatenate([rest, lines])) / own**order
        worst = worst | (coarse > _DROWNED * largest)
        result = result | (np.any(worst, axis=-1) & suspect)
    return result
