"""Derivatives along one tangent."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax import tree_util
from jaxtyping import Float, PyTree

from jaxfd._arrays import (
    Parts,
    complexify,
    constant,
    is_complex,
    is_inexact,
    over,
    promote,
    real_of,
    whole,
)
from jaxfd._estimate.analyticity import check_along, looks_unreal, where_real
from jaxfd._estimate.first import value_at_centre
from jaxfd._estimate.task import Answer, Call, Task, as_output, complexified
from jaxfd._methods import Method, mended, stencil_of, steps
from jaxfd._places import Place


def scaled(place: Place, tangents: Sequence[Any]) -> tuple[list[Any], Any]:
    """A tangent brought to size one, so that its square stays in the range of the dtype.

    Returns:
        Its leaves, and the power of two they were divided by, shape ``(*lead,)``.
    """
    xp, lead = place.xp, place.lead
    dtype = promote(np.float32, *(real_of(v.dtype) for v in tangents))
    largest = xp.zeros(lead, dtype)
    for v in tangents:
        size = xp.abs(constant(xp, v)).astype(dtype).reshape(*lead, -1)
        largest = xp.maximum(largest, xp.max(size, axis=-1, initial=0))
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
    xp, lead, parts = place.xp, place.lead, call.parts
    size = [xp.abs(x) for x in parts.real]
    eps = [place.eps(x.dtype) for x in size]
    widths = steps(xp, call.arguments, call.method.step, size, parts.owner, eps, power)
    dtype = size[0].dtype
    for x in size:
        dtype = place.compute_dtype(dtype, x.dtype)
    h, squared = xp.full(lead, np.inf, dtype), xp.zeros(lead, dtype)
    for width, v in zip(widths, tangents, strict=True):
        v = constant(xp, xp.abs(v)).astype(dtype).reshape(*lead, -1)
        width = constant(xp, width).astype(dtype).reshape(*lead, -1)
        # Nothing limits an entry that the tangent leaves where it is.
        reach = xp.where(v > 0, width / xp.where(v > 0, v, 1), np.inf)
        h = xp.minimum(h, xp.min(reach, axis=-1, initial=np.inf))
        squared = squared + xp.sum(v * v, axis=-1)
    return xp.where(xp.isfinite(h), h, 1), squared


def _along(x: Any, v: Any, distance: Any) -> Any:
    """``x + distance v`` in the dtype of ``x``."""
    dtype = promote(distance.dtype, v.dtype)
    return x + (over(distance, v).astype(dtype) * v.astype(dtype)).astype(x.dtype)


def tangent_points(
    place: Place,
    x: Sequence[Any],
    tangents: Sequence[Any],
    distances: Sequence[Float[Any, "*lead"]],
    squared: Float[Any, "*lead"],
) -> tuple[list[Any], Float[Any, "k *lead"]]:
    """The points along a tangent, and the distances really stepped (least squares).

    Args:
        place: where this runs.
        x: the leaves.
        tangents: the tangent's leaves.
        distances: how far each of the K points is from ``x``, in tangents.
        squared: the tangent's squared length, shape ``(*lead,)``.

    Returns:
        Leaves of shape ``(K, *lead, *shape)``, and distances of shape ``(K, *lead)``.
    """
    xp, lead = place.xp, place.lead
    points: list[list[Any]] = [[] for _ in x]
    moved = []
    for t in distances:
        total = xp.zeros_like(t)
        for leaf, (z, v) in enumerate(zip(x, tangents, strict=True)):
            point = _along(z, v, t)
            points[leaf].append(point)
            dtype = promote(t.dtype, v.dtype)
            away = constant(xp, point - z).astype(dtype)
            product = (away * xp.conj(constant(xp, v)).astype(dtype)).real
            total = total + xp.sum(product.reshape(*lead, -1), axis=-1)
        moved.append(xp.where(squared == 0, t, total / xp.where(squared == 0, 1, squared)))
    return [xp.stack(p) for p in points], xp.stack(moved)


@dataclasses.dataclass(frozen=True)
class Line(Task):
    """The derivative along one tangent.

    Attributes:
        raw: whether to return the tangents of floating outputs alone, as a list, for the hook.
    """

    raw: bool = False

    def split(self, leaves: Sequence[Any], method: Method) -> Parts:
        super().split(leaves, method)
        return whole(leaves, self.active)

    def run(self, place: Place, call: Call) -> Answer | list[Any]:
        stencil = stencil_of(call.method)
        self.check_imaginary(call)
        if not self.raw and not all(map(is_inexact, call.out)):
            self.check_output(call, scalar=False)
        assert call.needs.tangents is not None
        tangents, scale = scaled(place, call.needs.tangents)
        x = list(call.parts.real)
        if stencil.imaginary:
            h, _ = tangent_step(place, call, tangents, 2.0)
            points = [
                _along(complexify(z), v, 1j * complexify(h))[None]
                for z, v in zip(x, tangents, strict=True)
            ]
            distances = h[None]
        else:
            power = 1.0 / (stencil.accuracy + stencil.derivative)
            h, squared = tangent_step(place, call, tangents, power)
            points, distances = tangent_points(
                place, x, tangents, [s * h for s in stencil.moving], squared
            )
        checked = stencil.imaginary and (place.opaque or call.remade)
        ride = stencil.uses_centre or checked or not self.raw
        centre, outputs = place.line(complexified(x, stencil.imaginary), points, ride)
        count = len(call.out)
        mend = place.lossy and not stencil.imaginary
        if mend and centre is None and not all(np.isfinite(o).all() for o in outputs[:count]):
            # What lost one side is differenced with the centre.
            centre = place.centre(x)
        tangent: list[Any] = []
        slopes: list[Any] = []
        for i, output in enumerate(outputs):
            if not is_inexact(call.out[i]):
                continue
            dtype = place.compute_dtype(output.dtype, distances.dtype)
            base = None if centre is None else centre[i].astype(dtype)
            real = real_of(dtype) if stencil.imaginary else dtype
            value = stencil.combine(
                base, output.astype(dtype), distances.astype(real), h.astype(real)
            )
            if mend:
                value = mended(value, base, output, distances)
            if stencil.imaginary:
                odd = [looks_unreal(place, output, h)]
                (value,) = where_real(place, complexified(x, True), centre, [value], odd, first=i)
            slopes.append(value)
            value = value * over(scale, value).astype(value.dtype)
            if not stencil.imaginary:
                value = as_output(value.astype(call.out[i].dtype), call.out[i])
            tangent.append(value)
        if checked:
            assert centre is not None
            tangent = self._checked(place, call, tangents, centre, slopes, tangent)
        if self.raw:
            return tangent
        assert centre is not None
        aux = None
        if self.has_aux:
            aux = tree_util.tree_unflatten(call.aux_tree, centre[count:])
        derivative = tree_util.tree_unflatten(call.out_tree, tangent)
        return Answer(derivative, value_at_centre(call, centre), aux)

    @staticmethod
    def _checked(
        place: Place,
        call: Call,
        tangents: Sequence[Any],
        centre: Sequence[Any],
        slopes: Sequence[Any],
        tangent: Sequence[Any],
    ) -> list[Any]:
        """Tangents of a black box by a complex step; NaN where its real values say otherwise."""
        xp, x = place.xp, call.parts.real

        def move(size: float) -> tuple[list[Any], list[Any]]:
            # No entry moves by more than that share of itself, those at 0 apart.
            away = xp.full(place.lead, np.inf, x[0].dtype)
            for z, v in zip(x, tangents, strict=True):
                z, v = (xp.abs(a).astype(away.dtype).reshape(*place.lead, -1) for a in (z, v))
                counts = (v > 0) & (z > 0)
                reach = xp.where(counts, z / xp.where(counts, v, 1), np.inf)
                away = xp.minimum(away, xp.min(reach, axis=-1, initial=np.inf))
            away = constant(xp, xp.where(xp.isfinite(away), away, size) * size).astype(x[0].dtype)
            point = [_along(z, v, away) for z, v in zip(x, tangents, strict=True)]
            return point, [s * over(away, s).astype(s.dtype) for s in slopes]

        agree = check_along(place, call, centre, move)
        return [xp.where(good, t, np.nan) for good, t in zip(agree, tangent, strict=True)]


class Samples(NamedTuple):
    """What a function does along a tangent; a pytree.

    Attributes:
        value: the value at ``x``.
        change: the changes from it, shape ``(*lead, K, *out)``.
        distances: the distances really stepped, in tangents, shape ``(*lead, K)``.
    """

    value: PyTree
    change: PyTree
    distances: Float[Any, "*lead k"]


@dataclasses.dataclass(frozen=True)
class Sampling(Task):
    """What the function does along a tangent, at given distances; returns `Samples`.

    Changes from the value at ``x`` are formed where the function is evaluated, so that those of a
    host function keep the digits that its output's dtype would drop.
    """

    def split(self, leaves: Sequence[Any], method: Method) -> Parts:
        return whole(leaves, None)

    def run(self, place: Place, call: Call) -> Samples:
        self.check_output(call, scalar=False)
        xp, axis = place.xp, len(place.lead)
        distances, tangents = call.needs.distances, call.needs.tangents
        assert tangents is not None
        x = list(call.parts.real)
        _, squared = tangent_step(place, call, tangents, 1.0)
        points, moved = tangent_points(
            place, x, tangents, list(xp.moveaxis(distances, axis, 0)), squared
        )
        centre, outputs = place.line(x, points, ride=True)
        assert centre is not None
        changes, values = [], centre[: len(outputs)]
        for base, output in zip(values, outputs, strict=True):
            dtype = place.compute_dtype(output.dtype, moved.dtype)
            changes.append(xp.moveaxis(output.astype(dtype) - base.astype(dtype), 0, axis))
        return Samples(
            tree_util.tree_unflatten(call.out_tree, values),
            tree_util.tree_unflatten(call.out_tree, changes),
            xp.moveaxis(moved, 0, axis),
        )
