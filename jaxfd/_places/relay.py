"""The place on the host whose points are evaluated in a kernel, as many as there are in one call.

For functions with a black box inside: each point is a run of it. What is padded, or asked for in
pieces, would be run for nothing or one piece after the other, so that each batch is compiled for
its own size. Must not know what is estimated, nor how the function came by its dtypes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Shaped

from jaxfd._arrays import is_inexact
from jaxfd._jaxpr import TracedFunction
from jaxfd._places.device import FromKernel
from jaxfd._places.kernel import Kernel
from jaxfd._places.place import Reduce
from jaxfd._places.schedule import Schedule
from jaxfd._points import Cloud, Coordinates

# ``rest -> function``: hashable, and the same object for the same function.
MakeProgram = Callable[[Any], TracedFunction]


class Batch(NamedTuple):
    """What a batch of points comes to; a pytree.

    Attributes:
        centre: the outputs at ``x``, the auxiliary ones too; None where not wanted.
        along: those along all directions, shape ``(K, m, *out)``.
        beside: those at the points that were given whole.
    """

    centre: list[Any] | None
    along: list[Shaped[Any, "k m *out"]]
    beside: list[Shaped[Any, "p *out"]]


class Crossings:
    """The compiled functions that batches are evaluated by: one for every size."""

    def __init__(self) -> None:
        self.centre = jax.jit(self._centre, static_argnums=0)
        self.line = jax.jit(self._line, static_argnums=(0, 1, 2))
        self.batch = jax.jit(self._batch, static_argnums=(0, 1, 2))

    @staticmethod
    def _centre(make: MakeProgram, x: list[Any], rest: Any) -> list[Any]:
        return make(rest).call(x)

    @staticmethod
    def _line(
        make: MakeProgram,
        schedule: Schedule,
        ride: bool,
        x: list[Any],
        points: list[Any],
        rest: Any,
    ) -> tuple[list[Any] | None, list[Any]]:
        return Kernel(make(rest), schedule).line(x, points, ride)

    @staticmethod
    def _batch(
        make: MakeProgram,
        schedule: Schedule,
        ride: bool,
        described: tuple[Any, ...],
        beside: list[Any] | None,
        rest: Any,
    ) -> Batch:
        x, values, entries, apart = described
        points = Coordinates(x, (), values, entries, apart)
        kernel = Kernel(make(rest), schedule)

        def keep(centre: Any, outputs: list[Any], d: Any) -> list[Any]:
            del centre, d
            return [jnp.moveaxis(output, 0, 1) for output in outputs]

        others: list[Any] = []
        centre: list[Any] | None
        if beside is None:
            centre, outputs = kernel.evaluate(points, keep, None, ride)
        else:
            centre, outputs, others = kernel.evaluate_beside(points, keep, beside)
        return Batch(centre, [jnp.moveaxis(output, 1, 0) for output in outputs], others)


class Relay(FromKernel):
    """The place where batches made on the host are handed to a kernel whole.

    Args:
        crossings: what evaluates batches.
        make: makes the function of what is not moved.
        program: the function, with what is known of its numbers.
        rest: what is not moved.
        schedule: how many points at once.
    """

    opaque = True

    def __init__(
        self,
        crossings: Crossings,
        make: MakeProgram,
        program: TracedFunction,
        rest: Any,
        schedule: Schedule,
    ) -> None:
        super().__init__(program, rest, schedule)
        self._crossings = crossings
        self._make = make

    @property
    def rounded(self) -> bool:
        """Whether the outputs that JAX hands out have fewer digits than those computed here."""
        return self._kernel.rounded

    def centre(self, leaves: Sequence[Any]) -> list[Any]:
        """All outputs, the auxiliary ones too, at ``x`` itself."""
        return self._at_hand(self._crossings.centre(self._make, list(leaves), self._rest))

    def line(
        self, x: Sequence[Any], points: Sequence[Shaped[np.ndarray, "k ..."]], ride: bool
    ) -> tuple[list[Any] | None, list[Shaped[np.ndarray, "k ..."]]]:
        """Outputs at a few points given whole; see `Place.line`."""
        at_x, outputs = self._crossings.line(
            self._make, self._schedule, ride, list(x), list(points), self._rest
        )
        return None if at_x is None else self._at_hand(at_x), jax.device_get(outputs)

    def scatter(
        self, cloud: Cloud, ride: bool
    ) -> tuple[list[Any] | None, list[Shaped[np.ndarray, "k n *out"]]]:
        """Outputs at the points of a cloud, and at ``x`` where that is wanted (``ride``)."""
        centre, outputs = self._kernel.scatter(cloud, ride)
        return None if centre is None else self._at_hand(centre), jax.device_get(outputs)

    def evaluate(
        self, points: Coordinates, reduce: Reduce, centre: list[Any] | None, ride: bool
    ) -> tuple[list[Any] | None, Any]:
        """Runs all points and reduces their outputs; see `Place.evaluate`."""
        found = self._run(points, ride and centre is None, None)
        centre = found.centre if centre is None else centre
        return centre, reduce(centre, found.along, slice(0, points.count))

    def evaluate_beside(
        self, points: Coordinates, reduce: Reduce, beside: Sequence[Shaped[Any, "p ..."]]
    ) -> tuple[list[Any], Any, list[Shaped[np.ndarray, "p *out"]]]:
        """Runs all points, ``x`` and a few others; see `Place.evaluate_beside`."""
        found = self._run(points, True, list(beside))
        assert found.centre is not None
        along = reduce(found.centre, found.along, slice(0, points.count))
        return found.centre, along, found.beside

    def some(
        self, points: Coordinates, wanted: Bool[np.ndarray, "n"]
    ) -> list[Shaped[np.ndarray, "k n *out"]]:
        """Outputs along those coordinates that are wanted, NaN along the others."""
        shape = points.nodes, points.count
        results = [
            np.full((*shape, *o.shape), np.nan if is_inexact(o) else 0, o.dtype)
            for o in self._program.out
        ]
        directions = np.flatnonzero(wanted)
        if not len(directions):
            return results
        entries = tuple(np.asarray(own)[directions] for own in points.entries)
        chosen = dataclasses.replace(
            points,
            entries=entries or (directions,),
            apart=tuple(values[..., directions] for values in points.apart),
        )
        for result, output in zip(results, self._run(chosen, False, None).along, strict=True):
            result[:, directions] = output
        return results

    def _run(self, points: Coordinates, ride: bool, beside: list[Any] | None) -> Batch:
        """What a batch comes to, in NumPy."""
        entries = tuple(np.asarray(own, np.int32) for own in points.entries)
        described = (list(points.x), points.values, entries, points.apart)
        found = self._crossings.batch(
            self._make, self._schedule, ride, described, beside, self._rest
        )
        centre = None if found.centre is None else self._at_hand(found.centre)
        return Batch(centre, *jax.device_get((found.along, found.beside)))
