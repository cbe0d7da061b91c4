"""Derivatives along one tangent."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax import tree_util
from jaxtyping import Float, PyTree

from jaxfd._arrays import Parts, complexify, is_inexact, over, real_of, whole
from jaxfd._estimate.first import value_at_centre
from jaxfd._estimate.tangents import Way, scaled, step_along, tangent_points, tangent_step, ways
from jaxfd._estimate.task import Answer, Call, Task, as_output, complexified
from jaxfd._methods import Method, stencil_of
from jaxfd._places import Place


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
            h, squared = tangent_step(place, call, tangents, 2.0)
            taken = [Way(tangents, h, squared)]
            rows = [
                step_along(complexify(z), v, 1j * complexify(h))[None]
                for z, v in zip(x, tangents, strict=True)
            ]
            laid = [(rows, h[None])]
        else:
            power = 1.0 / (stencil.accuracy + stencil.derivative)
            taken = ways(place, call, tangents, stencil, power)
            laid = [way.points(place, x, stencil, call.boxes) for way in taken]
        points = laid[0][0]
        if len(laid) > 1:
            points = [
                place.xp.concatenate(leaf) for leaf in zip(*(p for p, _ in laid), strict=True)
            ]
        ride = stencil.uses_centre or not self.raw or call.boxes is not None
        centre, outputs = place.line(complexified(x, stencil.imaginary), points, ride)
        count, nodes = len(call.out), len(stencil.moving)
        mend = place.lossy and not stencil.imaginary
        if mend and centre is None and not all(np.isfinite(o).all() for o in outputs[:count]):
            # What lost one side is differenced with the centre.
            centre = place.centre(x)
        tangent = []
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
            value = value * over(scale, value).astype(value.dtype)
            if not stencil.imaginary:
                value = as_output(value.astype(call.out[i].dtype), call.out[i])
            tangent.append(value)
        if self.raw:
            return tangent
        assert centre is not None
        aux = None
        if self.has_aux:
            aux = tree_util.tree_unflatten(call.aux_tree, centre[count:])
        derivative = tree_util.tree_unflatten(call.out_tree, tangent)
        return Answer(derivative, value_at_centre(call, centre), aux)


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
