"""First derivatives, and higher ones of a single variable."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from jax import tree_util

from jaxfd._estimate._layout import by_leaf, lay
from jaxfd._estimate._task import Call, Task, cast, complexified, float0
from jaxfd._methods import Method
from jaxfd._parts import Parts, whole


@dataclasses.dataclass(frozen=True)
class FirstOrder(Task):
    """Derivatives along every coordinate: gradients, Jacobians, estimates.

    Attributes:
        scalar: whether the output must be one number.
        value: whether the value is wanted too.
        error: whether a bound of the error and the steps are wanted.
        derivative: the order of the derivative.
        raw: whether to return derivatives as bare lists, for the differentiable hook.
        contract: whether ``extra`` holds a cotangent that outputs are contracted with.
    """

    scalar: bool = False
    value: bool = False
    error: bool = False
    derivative: int = 1
    raw: bool = False
    contract: bool = False

    @property
    def contracted(self) -> bool:
        return self.contract

    def run(self, place: Any, call: Call, parts: Parts) -> Any:
        if self.raw or self.contract:
            self.check_imaginary(call)
        else:
            self.check_output(call, self.scalar)
        stencil = call.method.stencil(self.derivative)
        bounds = None if self.contract else call.extra
        layout = lay(place, call, parts, stencil, bounds)
        wanted = self.value or self.has_aux or self.error
        centre = None
        if self.has_aux:
            centre = place.centre(complexified(parts.real, stencil.imaginary))
        ride = centre is None and (wanted or layout.needs_centre)
        eps = place.eps(layout.h.dtype)

        def reduce(centre: Any, outputs: list[Any], d: Any) -> Any:
            result = []
            for i, output in enumerate(outputs):
                base = None if centre is None else centre[i]
                value = layout.combine(place, base, output, d)
                bar = side = None
                if self.error:
                    bar = layout.error(place, base, output, d, value, eps)
                    side = layout.one_sided(place, base, output, d)
                result.append((value, bar, side))
            return result

        moves = layout.moves
        if stencil.imaginary:
            moves = dataclasses.replace(moves, x=complexified(parts.real, stencil.imaginary))
        centre, reduced = place.evaluate(moves, reduce, centre, ride)
        rows = by_leaf(place, [value for value, _, _ in reduced], parts.real)
        count = len(call.out)
        result: dict[str, Any] = {}
        if wanted:
            value = [c.real if stencil.imaginary else c for c in centre[:count]]
            result["value"] = tree_util.tree_unflatten(call.out_tree, value)
        if self.has_aux:
            result["aux"] = tree_util.tree_unflatten(call.aux_tree, centre[count:])
        if self.raw:
            result["rows"] = rows
            return result
        leaves = [call.leaves[owner] for owner in sorted(set(parts.owner))]
        trees = [
            call.arguments.restore(
                [cast(v, x) for v, x in zip(parts.gather(row), leaves, strict=True)], float0
            )
            for row in rows
        ]
        result["derivative"] = tree_util.tree_unflatten(call.out_tree, trees)
        if self.error:
            for key, values in (
                ("error", by_leaf(place, [reduced[0][1]], parts.real)[0]),
                ("step", by_leaf(place, [layout.h], parts.real)[0]),
                ("one_sided", by_leaf(place, [reduced[0][2]], parts.real)[0]),
            ):
                result[key] = call.arguments.restore(
                    [v for v, im in zip(values, parts.imaginary, strict=True) if not im], float0
                )
        return result


@dataclasses.dataclass(frozen=True)
class Value(Task):
    """The function's value alone."""

    def split(self, leaves: Sequence[Any], method: Method) -> Parts:
        return whole(leaves, ())

    def run(self, place: Any, call: Call, parts: Parts) -> Any:
        return {"value": tree_util.tree_unflatten(call.out_tree, place.centre(parts.real))}
