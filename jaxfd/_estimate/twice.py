"""Second looks with twice the step, where one estimate cannot tell noise from curvature.

A default step suits rounding. Noise far above it makes a second difference as large as it likes,
and values that are all 0 make it 0; one difference shows neither. Must not know who asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from jaxfd._estimate.decimals import is_blank, scatter_of_digits
from jaxfd._estimate.layout import lay
from jaxfd._estimate.task import Call
from jaxfd._methods import Stencil
from jaxfd._places import Place

# A derivative larger than so many values over the scale to its order may be noise.
_SUSPECT = 16.0
# So may one that is larger than one value, and than so many times what the other entries have.
_ODD = 8.0
# One that changes by more than this share between two steps is.
_DROWNED = 1e-2
# What values may lose by rounding, in spacings.
_ROUNDING = 8.0


def drowned_along(
    place: Place,
    call: Call,
    stencil: Stencil,
    h: Float[Any, "*lead n"],
    found: Sequence[Float[Any, "*lead o n"]],
    centre: Sequence[Shaped[Any, "*lead *out"]],
    sizes: Sequence[Float[Any, "*lead o"]],
    known: Bool[Any, "*lead"] | bool = False,
    levels: Sequence[Float[Any, "*lead o"]] | None = None,
    zeros: bool = True,
) -> Bool[Any, "*lead"]:
    """Whether noise hides derivatives along the coordinates: on the host, for every call.

    Args:
        place: the host.
        call: the call, whose step is the usual one.
        stencil: the stencil of the derivatives.
        h: the step of each of N coordinates.
        found: for each output their sizes, its entries in a row.
        centre: the outputs at ``x``, and perhaps more.
        sizes: for each output how large its values are.
        known: the calls of which it is known already.
        levels: for each output how large a derivative times the scale to its order is unsuspicious;
            None for the sizes.
        zeros: whether coordinates along which all is 0 are looked at.
    """
    order, number = stencil.derivative, h.shape[-1]
    result = np.zeros(place.lead, bool) | known
    if not number or np.all(result):
        return result
    eps = place.eps(h.dtype)
    scale = h / eps ** (1 / (stencil.accuracy + order))
    suspect = _suspect(found, levels or sizes, scale[..., None, :] ** order) & ~result
    blank = [(v == 0) & (s == 0)[..., None] & zeros for v, s in zip(found, sizes, strict=True)]
    silent = np.any([np.any(b, axis=-2) for b in blank], axis=0) & ~result[..., None]
    # One entry shows the noise of all; a single one is always looked at again.
    shown = np.nan_to_num(np.max([np.max(v, axis=-2, initial=0) for v in found], axis=0))
    entry = np.argmax(shown * scale**order, axis=-1)
    noisy = (np.arange(number) == entry[..., None]) & suspect[..., None]
    if not np.any(noisy | silent):
        return result
    layout = lay(place, call, stencil, stretch=2.0)
    outputs = place.some(layout.points, noisy | silent)
    weight = _ROUNDING * float(sum(abs(w) for w in stencil.weights))
    for output, base, value, size, hidden in zip(
        outputs, centre, found, sizes, blank, strict=False
    ):
        other = layout.combine(place, base, output, slice(None))
        other = np.abs(np.moveaxis(other.reshape(*place.lead, number, -1), -2, -1))
        lost = weight * eps * size[..., None] / h[..., None, :] ** order
        apart, largest = np.abs(value - other), np.maximum(value, other)
        worst = (apart > _DROWNED * largest) & (apart > lost)
        # Printed values may agree that there is no curvature.
        lines = np.moveaxis(output.reshape(len(output), *place.lead, number, -1), -2, -1)
        rest = np.broadcast_to(base.reshape(1, *place.lead, -1, 1), lines[:1].shape)
        values = np.concatenate([rest, lines])
        coarse = weight * scatter_of_digits(values) / h[..., None, :] ** order
        worst = worst | (coarse > _DROWNED * largest)
        # Where not even twice the step shows a value there may be none, or few digits.
        silence = hidden & is_blank(values) & silent[..., None, :]
        worst = (worst & noisy[..., None, :]) | silence
        result = result | np.any(worst, axis=(-2, -1))
    return result


def _suspect(
    found: Sequence[Any], levels: Sequence[Any], scale: Float[Any, "*lead 1 n"]
) -> Bool[Any, "*lead"]:
    """Whether derivatives are so large, or one of them, that they may be noise."""
    flags = []
    for value, level in zip(found, levels, strict=True):
        if value.shape[-1] == 1:
            return np.ones(value.shape[:-2], bool)
        weighed = np.sort(np.nan_to_num(value * scale), axis=-1)
        largest, others = weighed[..., -1], weighed[..., (weighed.shape[-1] - 1) // 2]
        odd = largest > np.maximum(_ODD * others, level)
        flags.append(np.mean(odd | (largest > _SUSPECT * level), axis=-1) > 0.5)
    return np.any(flags, axis=0)
