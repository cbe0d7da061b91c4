"""Second derivatives: Hessians, and their products with a vector."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jax import tree_util

from jaxfd._arrays import Parts, is_complex, over, whole
from jaxfd._estimate.along import scaled, tangent_points, tangent_step
from jaxfd._estimate.found import by_leaf
from jaxfd._estimate.layout import lay
from jaxfd._estimate.task import Answer, Call, Task, cast, float0
from jaxfd._methods import stencil_of
from jaxfd._places import Place
from jaxfd._points import Coordinates


@dataclasses.dataclass(frozen=True)
class Hessian(Task):
    """Second derivatives along every pair of coordinates, from the fewest points.

    With the first-derivative weights ``a_s`` of the method, and points along the axes shared::

        H_ij ~ sum_s a_s / s [f(s h_i + s h_j) - f(s h_i) - f(s h_j) + f] / (h_i h_j)

    which for `Central` of order 2 takes ``n^2 + n + 1`` points and for `Forward` of order 1
    ``(n + 1)(n + 2) / 2``.

    Attributes:
        raw: whether to return bare lists ``[output][leaf][leaf]``, for the hook.
    """

    raw: bool = False

    def run(self, place: Place, call: Call) -> Any:
        self.check_output(call, scalar=False)
        parts = call.parts
        if any(is_complex(call.leaves[owner]) for owner in parts.owner):
            raise TypeError(
                f"{self.name} needs real arguments, got a complex one: split it into real and "
                "imaginary parts."
            )
        xp, axis = place.xp, len(place.lead)
        second, first = stencil_of(call.method, 2), stencil_of(call.method, 1)
        layout = lay(place, call, second.with_offsets(first.moving))

        def keep(centre: Any, outputs: list[Any], d: Any) -> list[Any]:
            del centre, d
            return [xp.moveaxis(output, 0, axis + 1) for output in outputs]

        centre, along = place.evaluate(layout.points, keep, None, ride=True)
        assert centre is not None
        at_x = centre
        count = len(call.out)
        # Values along the axes: (K, *lead, N, *out).
        along = [xp.moveaxis(a, axis + 1, 0) for a in along]
        diagonal = [layout.combine(place, at_x[i], along[i], slice(None)) for i in range(count)]
        number = layout.h.shape[-1]
        low, high = np.triu_indices(number, 1)
        index = np.array([layout.stencil.moving.index(s) for s in first.moving])
        mean = [float(w * s) for s, w in zip(first.offsets, first.weights, strict=True) if s]
        points = Coordinates(
            parts.real,
            place.lead,
            layout.points.values[index],
            (low.astype(np.int32), high.astype(np.int32)),
        )

        def mixed(centre: Any, outputs: list[Any], d: Any) -> Any:
            i, j = xp.asarray(low)[d], xp.asarray(high)[d]
            result = []
            for o, output in enumerate(outputs):
                dtype = place.compute_dtype(output.dtype, layout.h.dtype)
                base = xp.expand_dims(centre[o].astype(dtype), axis)
                total = 0.0
                for k, (row, weight) in enumerate(zip(index, mean, strict=True)):
                    line = along[o][row].astype(dtype)
                    away = layout.distances[row].astype(dtype)
                    change = (output[k].astype(dtype) - xp.take(line, i, axis=axis)) - (
                        xp.take(line, j, axis=axis) - base
                    )
                    area = xp.take(away, i, axis=axis) * xp.take(away, j, axis=axis)
                    total = total + weight * change / over(area, change)
                result.append(total)
            return result

        _, pairs = place.evaluate(points, mixed, centre, ride=False)
        position = np.zeros((number, number), int)
        position[low, high] = position[high, low] = number + np.arange(low.size)
        position[np.diag_indices(number)] = np.arange(number)
        matrices = [
            xp.take(
                xp.concatenate([d, p.astype(d.dtype)], axis=axis), position.reshape(-1), axis=axis
            ).reshape(*place.lead, number, number, *d.shape[axis + 1 :])
            for d, p in zip(diagonal, pairs, strict=True)
        ]
        blocks = [self._blocks(place, matrix, parts) for matrix in matrices]
        if self.raw:
            return blocks
        derivative = tree_util.tree_unflatten(
            call.out_tree, [self._tree(call, block) for block in blocks]
        )
        aux = None
        if self.has_aux:
            aux = tree_util.tree_unflatten(call.aux_tree, at_x[count:])
        return Answer(derivative, aux=aux)

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
