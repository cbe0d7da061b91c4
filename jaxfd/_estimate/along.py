"""Derivatives along one tangent."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax import tree_util
from jaxtyping import Float, PyTree

from jaxfd._arrays import Parts, complexify, constant, is_inexact, over, real_of, whole
from jaxfd._estimate.analyticity import check_along, looks_unreal, where_real
from jaxfd._estimate.first import value_at_centre
from jaxfd._estimate.tangents import scaled, step_along, tangent_points, tangent_step
from jaxfd._estimate.task import Answer, Call, Task, as_output, complexified
from jaxfd._estimate.ways import Way, ways
from jaxfd._methods import Method, stencil_of
from jaxfd._places import Place


@dataclasses.dataclass(frozen=True)
class Line(Task):
    """The derivative along one tangent.

    Attributes:
        raw: whether to return the tangents of floating outputs alone, as a list, for the hook.
    """

    raw: bool = False

    @property
    def together(self) -> bool:
        return not self.raw  # what the hook asks for may be transposed

    def split(self, leaves: Sequence[Any], method: Method) -> Parts:
        super().split(leaves, method)
        return whole(leaves, self.active)

    def run(self, place: Place, call: Call) -> Answer | list[Any]:
        stencil = stencil_of(call.method)
        self.check_imaginary(call)
        if not self.raw and not all(map(is_inexact, call.out)):
            self.check_output(call, scalar=False)
        assert call.needs.tangents is not None
        tangents, scale = scaled(place, call.needs.tangents, call.axes)
        x = list(call.parts.real)
        if stencil.imaginary:
            h, squared = tangent_step(place, call, tangents, 2.0)
            taken = [Way(tangents, h, squared)]
            rows = [
                step_along(complexify(z), v, 1j * complexify(h))[None]
                for z, v in zip(x, tangents, strict=True)
            ]
            laid = [(rows, h[None])]
        else:
            taken = ways(place, call, tangents, stencil, stencil.derivative)
            laid = [way.points(place, x, stencil, call.boxes, call.axes) for way in taken]
        points = laid[0][0]
        if len(laid) > 1:
            points = [
                place.xp.concatenate(leaf) for leaf in zip(*(p for p, _ in laid), strict=True)
            ]
        checked = stencil.imaginary and (place.opaque or call.remade)
        ride = stencil.uses_centre or checked or not self.raw or call.boxes is not None
        centre, outputs = place.line(complexified(x, stencil.imaginary), points, ride)
        count, nodes = len(call.out), len(stencil.moving)
        mend = place.lossy and not stencil.imaginary
        if mend and centre is None and not all(np.isfinite(o).all() for o in outputs[:count]):
            # What lost one side is differenced with the centre.
            centre = place.centre(x)
        tangent: list[Any] = []
        slopes: list[Any] = []
        for i, output in enumerate(outputs):
            if not is_inexact(call.out[i]):
                continue
            dtype = place.compute_dtype(output.dtype, laid[0][1].dtype)
            base = None if centre is None else centre[i].astype(dtype)
            real = real_of(dtype) if stencil.imaginary else dtype
            value: Any = None
            for k, (way, (_, distances)) in enumerate(zip(taken, laid, strict=True)):
                own = output[k * nodes : (k + 1) * nodes].astype(dtype)
                part = way.combine(place, stencil, base, own, distances.astype(real))
                value = part if value is None else value + part
            if stencil.imaginary:
                odd = [looks_unreal(place, output, taken[0].h)]
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
            point = [step_along(z, v, away) for z, v in zip(x, tangents, strict=True)]
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
