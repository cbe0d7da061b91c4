"""Slopes and curvatures along every coordinate, as a quasi-Newton method asks for them.

It exists because such a method knows the value at ``x`` from its line search, and because points on
both sides of ``x`` tell the curvature as well as the slope. A task for the pipeline, no loop of its
own; it must not know what becomes of the numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jax import tree_util
from jaxtyping import PyTree

from jaxfd._arrays import Parts
from jaxfd._estimate import Call, FirstOrder, HostProgram, by_leaf, cast, float0, lay, program_of
from jaxfd._methods import Central, Forward


@dataclasses.dataclass(frozen=True)
class _Slopes(FirstOrder):
    """Value, slopes and curvatures. If ``known``, ``extra`` is the value and the bounds."""

    known: bool = False

    def run(self, place: Any, call: Call, parts: Parts) -> Any:
        self.check_output(call, scalar=True)
        known, bounds = call.extra if self.known else (None, call.extra)
        stencil = call.method.stencil(1)
        layout = lay(place, call, parts, stencil, bounds)

        def reduce(centre: Any, outputs: list[Any], d: Any) -> Any:
            slope = layout.combine(place, centre[0], outputs[0], d)
            if len(stencil.moving) == 1:
                return [(slope, slope)]
            xp, dtype = place.xp, slope.dtype
            middle = xp.expand_dims(centre[0], len(place.lead)).astype(dtype)
            low, high = (layout.moved[k][..., d].astype(dtype) for k in range(2))
            below, above = ((outputs[0][k].astype(dtype) - middle) for k in range(2))
            width = xp.where(high == low, xp.inf, high - low)
            return [(slope, 2 * (above / high - below / low) / width)]

        centre = [known] if self.known else None
        found, reduced = place.evaluate(layout.moves, reduce, centre, not self.known)
        assert found is not None
        result = {"value": tree_util.tree_unflatten(call.out_tree, found[:1])}
        for name, values in zip(("slopes", "curvatures"), reduced[0], strict=True):
            row = by_leaf(place, [values], parts.real)[0]
            leaves = [cast(v, x) for v, x in zip(row, call.leaves, strict=True)]
            result[name] = call.arguments.restore(leaves, float0)
        return result


def slopes(
    fun: Callable[[PyTree], Any], bounds: tuple[PyTree, PyTree] | None
) -> tuple[Callable[..., tuple[Any, PyTree, PyTree]], int]:
    """Makes a function that returns value, slopes and curvatures.

    Args:
        fun: a function of one pytree of real floating arrays that returns one number.
        bounds: a box, or None.

    Returns:
        A function of ``x``, the value there, the step for every entry (a pytree like ``x``), and
        whether points shall lie on both sides. Without that, curvatures are the slopes again. And
        the number of evaluations besides one or two for each entry.
    """
    program = program_of(fun)
    # A black box computes its differences in float64, and the value that JAX has may be rounded.
    known = not isinstance(program, HostProgram)
    task = _Slopes("minimize", scalar=True, value=True, known=known)

    def run(x: PyTree, value: Any, step: PyTree, both: bool) -> tuple[Any, PyTree, PyTree]:
        method = Central(step=step) if both else Forward(step=step)
        found = program.run(task, (x,), {}, method, (value, bounds) if known else bounds)
        return found["value"], found["slopes"], found["curvatures"]

    return run, int(not known)
