"""Second derivatives: Hessians, and their products with a vector."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jax import tree_util
from jaxtyping import PyTree

from jaxfd._arrays import Parts, is_complex, over
from jaxfd._estimate.estimator import Wish, second_derivatives
from jaxfd._estimate.first import value_at_centre
from jaxfd._estimate.found import by_leaf
from jaxfd._estimate.product import times_vector
from jaxfd._estimate.tangents import scaled
from jaxfd._estimate.task import Answer, Call, Task, cast, float0
from jaxfd._places import Place
from jaxfd._primitives import summed


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

    @property
    def barred(self) -> bool:
        return self.error

    @property
    def higher(self) -> bool:
        return True

    def run(self, place: Place, call: Call) -> Any:
        self.check_output(call, scalar=False)
        parts = call.parts
        self.check_real(call)
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
                    (*matrix.shape[:-2], *one, *other)
                )
                for b, other in enumerate(shapes)
            ]
            for a, one in enumerate(shapes)
        ]

    def _tree(self, call: Call, block: list[list[Any]]) -> Any:
        rows = [
            call.arguments.restore([cast(summed(v, x), x) for v in row], float0)
            for row, x in zip(block, call.arguments.leaves, strict=True)
        ]
        return call.arguments.restore(rows, float0)


@dataclasses.dataclass(frozen=True)
class HessianVector(Task):
    """A Hessian times a vector: the gradient's difference along the tangent."""

    @property
    def higher(self) -> bool:
        return True

    def run(self, place: Place, call: Call) -> Any:
        self.check_output(call, scalar=True)
        if any(is_complex(leaf) for leaf in call.arguments.leaves):
            raise TypeError(f"{self.name} needs real arguments, got a complex one.")
        if call.method.imaginary:
            raise ValueError(
                f"{self.name}: ComplexStep makes first derivatives only: use Central()."
            )
        assert call.needs.tangents is not None
        tangents, scale = scaled(place, call.needs.tangents)
        product = times_vector(call.method, place, call, tangents)
        product = product * over(scale, product).astype(product.dtype)
        row = by_leaf(place, [product], call.parts.real)[0]
        tree = call.arguments.restore(
            [cast(summed(v, z), z) for v, z in zip(row, call.arguments.leaves, strict=True)], float0
        )
        return Answer(tree)
