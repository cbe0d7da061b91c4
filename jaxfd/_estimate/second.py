"""Second derivatives: Hessians, and their products with a vector."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jax import tree_util

from jaxtyping import PyTree

from jaxfd._arrays import Parts, is_complex, over, whole
from jaxfd._estimate.along import scaled, tangent_points, tangent_step
from jaxfd._estimate.estimator import Wish, second_derivatives
from jaxfd._estimate.first import value_at_centre
from jaxfd._estimate.found import by_leaf
from jaxfd._estimate.layout import lay
from jaxfd._estimate.task import Answer, Call, Task, cast, float0
from jaxfd._methods import stencil_of
from jaxfd._places import Place


@dataclasses.dataclass(frozen=True)
class Hessian(Task):
    """Second derivatives along every pair of coordinates.

    Attributes:
        raw: whether to return bare lists ``[output][leaf][leaf]``, for the hook.
        value: whether the value is wanted too.
        error: whether a bound of the error and the steps are wanted.
    """

    raw: bool = False
    value: bool = False
    error: bool = False

    def run(self, place: Place, call: Call) -> Any:
        self.check_output(call, scalar=False)
        parts = call.parts
        if any(is_complex(call.leaves[owner]) for owner in parts.owner):
            raise TypeError(
                f"{self.name} needs real arguments, got a complex one: split it into real and "
                "imaginary parts."
            )
        found = second_derivatives(call.method, place, call, Wish(True, self.error, 2))
        blocks = [self._blocks(place, matrix, parts) for matrix in found.values]
        if self.raw:
            return blocks

        def outputs(blocks: list[list[list[Any]]]) -> PyTree:
            trees = [self._tree(call, block) for block in blocks]
            return tree_util.tree_unflatten(call.out_tree, trees)

        count = len(call.out)
        aux = value = None
        if self.has_aux:
            aux = tree_util.tree_unflatten(call.aux_tree, found.centre[count:])
        if self.value:
            value = value_at_centre(call, found.centre)
        if not self.error or found.errors is None or found.one_sided is None:
            return Answer(outputs(blocks), value, aux)
        bars = [self._blocks(place, bar, parts) for bar in found.errors]
        return Answer(
            outputs(blocks),
            value,
            aux,
            error=outputs(bars),
            step=call.arguments.restore(list(found.step), float0),
            one_sided=call.arguments.restore(list(found.one_sided), float0),
            evaluations=found.evaluations,
        )

    def _blocks(self, place: Place, matrix: Any, parts: Parts) -> list[list[Any]]:
        """Cuts ``(*lead, N, N, *out)`` into ``[leaf][leaf]`` of ``(*lead, *out, *leaf, *leaf)``."""
        xp, axis = place.xp, len(place.lead)
        matrix = xp.moveaxis(matrix, (axis, axis + 1), (-2, -1))
        shapes = [x.shape[axis:] for x in parts.real]
        ends = np.cumsum([0, *(int(np.prod(s, dtype=int)) for s in shapes)])
        return [
            [
                matrix[..., ends[a] : ends[a + 1], ends[b] : ends[b + 1]].reshape(
                    *matrix.shape[:-2], *one, *other
                )
                for b, other in enumerate(shapes)
            ]
            for a, one in enumerate(shapes)
        ]

    def _tree(self, call: Call, block: list[list[Any]]) -> Any:
        rows = [
            call.arguments.restore([cast(v, x) for v in row], float0)
            for row, x in zip(block, call.leaves, strict=True)
        ]
        return call.arguments.restore(rows, float0)


@dataclasses.dataclass(frozen=True)
class HessianVector(Task):
    """A Hessian times a vector: the gradient's difference along the tangent."""

    def run(self, place: Place, call: Call) -> Any:
        self.check_output(call, scalar=True)
        if any(is_complex(leaf) for leaf in call.leaves):
            raise TypeError(f"{self.name} needs real arguments, got a complex one.")
        xp = place.xp
        stencil = stencil_of(call.method)
        if stencil.imaginary:
            raise ValueError(
                f"{self.name}: ComplexStep makes first derivatives only: use Central()."
            )
        assert call.needs.tangents is not None
        tangents, scale = scaled(place, call.needs.tangents)
        h, squared = tangent_step(place, call, tangents, 1.0 / (stencil.accuracy + 2))
        x = list(call.parts.real)
        points, moved = tangent_points(place, x, tangents, [s * h for s in stencil.moving], squared)
        bases = [[p[k] for p in points] for k in range(len(stencil.moving))]
        gradients = [self._gradient(place, call, base) for base in bases]
        centre = self._gradient(place, call, x) if stencil.uses_centre else None
        outputs = xp.stack(gradients)
        moved, h = moved.astype(outputs.dtype), h.astype(outputs.dtype)
        product = stencil.combine(centre, outputs, moved, h)
        product = product * over(scale, product).astype(product.dtype)
        row = by_leaf(place, [product], x)[0]
        tree = call.arguments.restore(
            [cast(v, leaf) for v, leaf in zip(row, x, strict=True)], float0
        )
        return Answer(tree)

    @staticmethod
    def _gradient(place: Place, call: Call, base: list[Any]) -> Any:
        """The gradient at another point, with the step that suits a second derivative."""
        stencil = stencil_of(call.method)
        layout = lay(place, call, stencil, whole(base, None), derivative=2)

        def reduce(centre: Any, outputs: list[Any], d: Any) -> Any:
            base = None if centre is None else centre[0]
            return layout.combine(place, base, outputs[0], d)

        return place.evaluate(layout.points, reduce, None, ride=stencil.uses_centre)[1]
