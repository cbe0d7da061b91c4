"""First derivatives, and higher ones of a single variable."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax import tree_util

from jaxfd._arrays import Parts, whole
from jaxfd._estimate.adaptive.search import search
from jaxfd._estimate.found import Found, found_by_leaf
from jaxfd._estimate.layout import Layout, lay
from jaxfd._estimate.sampled import sample
from jaxfd._estimate.task import Call, Task, cast, complexified, float0
from jaxfd._methods import Adaptive, Method
from jaxfd._random import Drawn, RandomDirections


@dataclasses.dataclass(frozen=True)
class FirstOrder(Task):
    """Derivatives along every coordinate: gradients, Jacobians, estimates.

    Attributes:
        scalar: whether the output must be one number.
        value: whether the value is wanted too.
        error: whether a bound of the error and the steps are wanted.
        derivative: the order of the derivative, for functions of one number; None for gradients.
        raw: whether to return derivatives as bare lists, for the differentiable hook.
        contract: whether ``extra`` holds a cotangent that outputs are contracted with.
    """

    scalar: bool = False
    value: bool = False
    error: bool = False
    derivative: int | None = None
    raw: bool = False
    contract: bool = False

    @property
    def contracted(self) -> bool:
        return self.contract

    def draws(self, method: Method) -> bool:
        return isinstance(method, (RandomDirections, Drawn)) and self.derivative is None

    def run(self, place: Any, call: Call, parts: Parts) -> Any:
        if self.raw or self.contract:
            self.check_imaginary(call)
        else:
            self.check_output(call, self.scalar)
        bounds = None if self.contract else call.extra
        wanted = self.value or self.has_aux or self.error
        imaginary = call.method.imaginary
        centre = place.centre(complexified(parts.real, imaginary)) if self.has_aux else None
        method = call.method
        if isinstance(method, Adaptive):
            found = search(place, call, method, parts, bounds, centre)
        elif self.draws(method) and any(x.size for x in parts.real):
            found = sample(place, call, parts, bounds, centre, wanted, self.error)
        else:
            stencil = method.stencil(self.derivative or 1)
            layout = lay(place, call, parts, stencil, bounds)
            found = difference(place, layout, parts, centre, wanted, self.error)
        centre = found.centre
        count = len(call.out)
        result: dict[str, Any] = {}
        if wanted:
            value = [c.real if imaginary else c for c in centre[:count]]
            result["value"] = tree_util.tree_unflatten(call.out_tree, value)
        if self.has_aux:
            result["aux"] = tree_util.tree_unflatten(call.aux_tree, centre[count:])
        if self.raw:
            result["rows"] = found.rows
            return result
        leaves = [call.leaves[owner] for owner in sorted(set(parts.owner))]
        trees = [
            call.arguments.restore(
                [cast(v, x) for v, x in zip(parts.gather(row), leaves, strict=True)], float0
            )
            for row in found.rows
        ]
        result["derivative"] = tree_util.tree_unflatten(call.out_tree, trees)
        if self.error:
            for key, values in (
                ("error", found.errors),
                ("step", found.step),
                ("one_sided", found.one_sided),
            ):
                result[key] = call.arguments.restore(
                    [v for v, im in zip(values, parts.imaginary, strict=True) if not im], float0
                )
            result["evaluations"] = found.evaluations
        return result


def difference(
    place: Any, layout: Layout, parts: Parts, centre: Any, wanted: bool, error: bool
) -> Found:
    """Evaluates and weighs the points of a fixed stencil.

    Args:
        place: where the points are evaluated.
        layout: where they lie.
        parts: the real leaves.
        centre: the outputs at ``x`` where they are known already.
        wanted: whether these are wanted.
        error: whether bounds of the error are.
    """
    ride = centre is None and (wanted or layout.needs_centre)
    eps = place.eps(layout.h.dtype)

    def reduce(centre: Any, outputs: list[Any], d: Any) -> Any:
        result = []
        for i, output in enumerate(outputs):
            base = None if centre is None else centre[i]
            value = layout.combine(place, base, output, d)
            bar = side = None
            if error:
                bar = layout.error(place, base, output, d, value, eps)
                side = layout.one_sided(place, base, output, d)
            result.append((value, bar, side))
        return result

    moves = layout.moves
    if layout.stencil.imaginary:
        moves = dataclasses.replace(moves, x=complexified(parts.real, True))
    centre, reduced = place.evaluate(moves, reduce, centre, ride)
    values, bars, sides = ([entry[i] for entry in reduced] for i in range(3))
    points = layout.moves.nodes * layout.moves.count + 1
    evaluations = place.xp.full(place.lead, points, np.int32)
    side = sides[0] if sides else None
    return found_by_leaf(place, parts.real, centre, values, bars, layout.h, side, evaluations)


@dataclasses.dataclass(frozen=True)
class Value(Task):
    """The function's value alone."""

    def split(self, leaves: Sequence[Any], method: Method) -> Parts:
        return whole(leaves, ())

    def run(self, place: Any, call: Call, parts: Parts) -> Any:
        return {"value": tree_util.tree_unflatten(call.out_tree, place.centre(parts.real))}
