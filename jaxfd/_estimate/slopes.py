"""Slopes and curvatures along every coordinate, as a quasi-Newton method asks for them.

It exists because such a method knows the value at ``x`` from its line search, and because points on
both sides of ``x`` tell the curvature as well as the slope. A task for the pipeline, no loop of its
own; it must not know what becomes of the numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jax import tree_util
from jaxtyping import Int, PyTree

from jaxfd._estimate.found import by_leaf
from jaxfd._estimate.layout import lay
from jaxfd._estimate.needs import Needs
from jaxfd._estimate.task import Call, Task, cast, float0
from jaxfd._estimate.traced import program_of
from jaxfd._methods import Central, Forward, stencil_of
from jaxfd._places import Place, Schedule


class ValueAndSlopes(NamedTuple):
    """What a quasi-Newton method asks for; a pytree.

    Attributes:
        value: the value at ``x``.
        slopes: shaped as the argument.
        curvatures: second derivatives by each entry alone; the slopes again where points lie on one
            side only.
        besides: how many evaluations it took besides those along the entries: one or none.
    """

    value: PyTree
    slopes: PyTree
    curvatures: PyTree
    besides: Int[Any, "*lead"]


@dataclasses.dataclass(frozen=True)
class Slopes(Task):
    """Value, slopes and curvatures; returns `ValueAndSlopes`. The value may be known already."""

    def run(self, place: Place, call: Call) -> ValueAndSlopes:
        self.check_output(call, scalar=True)
        stencil = stencil_of(call.method)
        layout = lay(place, call, stencil)

        def reduce(centre: Any, outputs: list[Any], d: Any) -> Any:
            slope = layout.combine(place, centre[0], outputs[0], d)
            if len(stencil.moving) == 1:
                return [(slope, slope)]
            xp, dtype = place.xp, slope.dtype
            middle = xp.expand_dims(centre[0], len(place.lead)).astype(dtype)
            low, high = (layout.distances[k][..., d].astype(dtype) for k in range(2))
            below, above = ((outputs[0][k].astype(dtype) - middle) for k in range(2))
            width = xp.where(high == low, xp.inf, high - low)
            return [(slope, 2 * (above / high - below / low) / width)]

        # Where outputs have more digits here than JAX hands out, the value that it has is rounded.
        known = None if place.rounded else call.needs.value
        centre = None if known is None else [known]
        centre, reduced = place.evaluate(layout.points, reduce, centre, known is None)
        assert centre is not None

        def tree(values: Any) -> PyTree:
            row = by_leaf(place, [values], call.parts.real)[0]
            leaves = [cast(v, x) for v, x in zip(row, call.arguments.leaves, strict=True)]
            return call.arguments.restore(leaves, float0)

        value = tree_util.tree_unflatten(call.out_tree, centre[:1])
        besides = place.xp.full(place.lead, int(known is None), np.int32)
        slope, curvature = reduced[0]
        return ValueAndSlopes(value, tree(slope), tree(curvature), besides)


def slopes(
    fun: Callable[[PyTree], Any], bounds: tuple[PyTree, PyTree] | None, schedule: Schedule
) -> Callable[..., ValueAndSlopes]:
    """Makes a function that returns `ValueAndSlopes`.

    Args:
        fun: a function of one pytree of real floating arrays that returns one number.
        bounds: a box, or None.
        schedule: how many points are evaluated at once.

    Returns:
        A function of ``x``, the value there, the step for every entry (a pytree like ``x``), and
        whether points shall lie on both sides. Without that, curvatures are the slopes again.
    """
    program = program_of(fun)
    task = Slopes("minimize", schedule=schedule)

    def run(x: PyTree, value: Any, step: PyTree, both: bool) -> ValueAndSlopes:
        method = Central(step=step) if both else Forward(step=step)
        found: ValueAndSlopes = program.run(task, (x,), {}, method, Needs(bounds, value=value))
        return found

    return run
