"""Tangents: how far points go along one, and where they lie.

It exists because a tangent moves many entries at once: none of them may go farther than its own
step, and none may leave its box. Must not know what is differentiated along it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import lax
from jaxtyping import Float

from jaxfd._arrays import constant, is_complex, over, promote, real_of
from jaxfd._estimate.task import Call
from jaxfd._methods import steps
from jaxfd._places import Place
from jaxfd._points import Box
from jaxfd._primitives import of_members


def scaled(
    place: Place, tangents: Sequence[Any], axes: Sequence[Any] = ()
) -> tuple[list[Any], Any]:
    """A tangent brought to size one, so that its square stays in the range of the dtype.

    Args:
        place: where this runs.
        tangents: its leaves.
        axes: the axes whose members have one size together.

    Returns:
        Its leaves, and the power of two they were divided by, shape ``(*lead,)``.
    """
    xp, lead = place.xp, place.lead
    dtype = promote(np.float32, *(real_of(v.dtype) for v in tangents))
    largest = xp.zeros(lead, dtype)
    for v in tangents:
        size = xp.abs(constant(xp, v)).astype(dtype).reshape(*lead, -1)
        largest = xp.maximum(largest, xp.max(size, axis=-1, initial=0))
    largest = of_members(lax.pmax, largest, axes)
    usable = xp.isfinite(largest) & (largest >= 4 * float(np.finfo(dtype).tiny))
    largest = xp.where(usable, largest, 1)
    # A quarter of the next power of two: it and its inverse are both normal numbers.
    rest = 4 * xp.frexp(largest)[0]
    scale, inverse = largest / rest, rest / largest

    def divided(v: Any) -> Any:
        if is_complex(v):
            return place.complex(divided(v.real), divided(v.imag))
        return v.astype(dtype) * over(inverse, v)

    return [divided(v) for v in tangents], scale


def tangent_step(
    place: Place, call: Call, tangents: Sequence[Any], power: float
) -> tuple[Any, Any]:
    """The step along a tangent: the largest with which no entry goes farther than its own step.

    It is ``min_i h_i / |v_i|``. Rounding then costs no more than it costs a gradient that is
    multiplied by the tangent, ``eps |f| sum_i |v_i| / h_i``.

    Returns:
        The step, and the squared length of the tangent, both of shape ``(*lead,)``.
    """
    return common_step(place, call, tangents, widths_of(place, call, power))


def widths_of(place: Place, call: Call, power: float) -> list[Any]:
    """The step of every entry."""
    size = [place.xp.abs(x) for x in call.parts.real]
    eps = [place.eps(x.dtype) for x in size]
    step, owner = call.method.step, call.parts.owner
    return steps(place.xp, call.arguments, step, size, owner, eps, power, together=True)


def common_step(
    place: Place, call: Call, tangents: Sequence[Any], widths: Sequence[Any]
) -> tuple[Any, Any]:
    """The largest step with which no entry goes farther than its width; see `tangent_step`."""
    xp, lead = place.xp, place.lead
    dtype = dtype_of(place, call)
    h, squared = xp.full(lead, np.inf, dtype), xp.zeros(lead, dtype)
    for width, v in zip(widths, tangents, strict=True):
        reach = reach_of(xp, width, v, dtype).reshape(*lead, -1)
        v = constant(xp, xp.abs(v)).astype(dtype).reshape(*lead, -1)
        h = xp.minimum(h, xp.min(reach, axis=-1, initial=np.inf))
        squared = squared + xp.sum(v * v, axis=-1)
    h = -of_members(lax.pmax, -h, call.axes)
    return xp.where(xp.isfinite(h), h, 1), squared


def dtype_of(place: Place, call: Call) -> Any:
    """What steps along a tangent are computed in."""
    dtype = real_of(call.parts.real[0].dtype)
    for x in call.parts.real:
        dtype = place.compute_dtype(dtype, real_of(x.dtype))
    return dtype


def reach_of(xp: Any, width: Any, v: Any, dtype: Any) -> Any:
    """How many tangents a width is; nothing limits an entry that the tangent leaves where it is."""
    v, width = constant(xp, xp.abs(v)).astype(dtype), constant(xp, width).astype(dtype)
    return xp.where(v > 0, width / xp.where(v > 0, v, 1), np.inf)


def step_along(x: Any, v: Any, distance: Any) -> Any:
    """``x + distance v`` in the dtype of ``x``."""
    dtype = promote(distance.dtype, v.dtype)
    return x + (over(distance, v).astype(dtype) * v.astype(dtype)).astype(x.dtype)


def tangent_points(
    place: Place,
    x: Sequence[Any],
    tangents: Sequence[Any],
    distances: Sequence[Float[Any, "*lead"]],
    squared: Float[Any, "*lead"],
    boxes: Sequence[Box] | None = None,
    axes: Sequence[Any] = (),
) -> tuple[list[Any], Float[Any, "k *lead"]]:
    """The points along a tangent, and the distances really stepped (least squares).

    Args:
        place: where this runs.
        x: the leaves.
        tangents: the tangent's leaves.
        distances: how far each of the K points is from ``x``, in tangents.
        squared: the tangent's squared length, shape ``(*lead,)``.
        boxes: the boxes of the leaves, None without bounds.
        axes: the axes whose members go one distance together.

    Returns:
        Leaves of shape ``(K, *lead, *shape)``, and distances of shape ``(K, *lead)``.
    """
    xp, lead = place.xp, place.lead
    points: list[list[Any]] = [[] for _ in x]
    gone = []
    squared = of_members(lax.psum, squared, axes)
    for t in distances:
        total = xp.zeros_like(t)
        for leaf, (z, v) in enumerate(zip(x, tangents, strict=True)):
            point = step_along(z, v, t)
            if boxes is not None:
                point = boxes[leaf].clip(point)
            points[leaf].append(point)
            dtype = promote(t.dtype, v.dtype)
            away = constant(xp, point - z).astype(dtype)
            product = (away * xp.conj(constant(xp, v)).astype(dtype)).real
            total = total + xp.sum(product.reshape(*lead, -1), axis=-1)
        total = of_members(lax.psum, total, axes)
        gone.append(xp.where(squared == 0, t, total / xp.where(squared == 0, 1, squared)))
    return [xp.stack(p) for p in points], xp.stack(gone)
