"""The place on the host whose points are made and evaluated in a kernel, batch by batch.

For estimators that decide by what they have seen where to look next. Inside a kernel each of their
steps would be compiled with a copy of the user's function; here they run in NumPy, in the dtypes of
a kernel, and one compiled function is handed described points. Must not know what is estimated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Shaped

from jaxfd._arrays import complex_of, is_inexact
from jaxfd._jaxpr import TracedFunction
from jaxfd._places.batches import Batches
from jaxfd._places.kernel import Kernel
from jaxfd._places.numbers import AtHand, joined
from jaxfd._places.place import Reduce
from jaxfd._places.schedule import Schedule
from jaxfd._points import Block, Cloud, Coordinates


class FromKernel(AtHand):
    """A place of NumPy's numbers whose function is compiled, as a kernel's is.

    Outputs at ``x`` that are auxiliary stay where they are, as JAX's arrays.

    Args:
        program: the function, with what is known of its numbers.
        rest: what is not moved.
        schedule: how many points at once.
    """

    lead: tuple[int, ...] = ()
    lossy = False

    def __init__(self, program: TracedFunction, rest: Any, schedule: Schedule) -> None:
        self._program = program
        self._rest = rest
        self._schedule = schedule
        # What does not depend on where the numbers are is a kernel's affair.
        self._kernel = Kernel(program, schedule)

    def eps(self, dtype: Any) -> float:
        """The relative spacing of the coarsest of a leaf's dtype, the outputs', and the boxes'."""
        return self._kernel.eps(dtype)

    def compute_dtype(self, out: Any, x: Any) -> Any:
        """The dtype differences are formed in: never less than float32."""
        return self._kernel.compute_dtype(out, x)

    @staticmethod
    def complex(re: np.ndarray, im: np.ndarray) -> np.ndarray:
        """``re + i im``, without the NaN that an infinite part would make."""
        result = np.empty(np.broadcast_shapes(re.shape, im.shape), complex_of(re.dtype))
        result.real, result.imag = re, im
        return result

    def _at_hand(self, outputs: list[Any]) -> list[Any]:
        count = len(self._program.out)
        return [*jax.device_get(outputs[:count]), *outputs[count:]]


class Device(FromKernel):
    """The place where points described on the host are evaluated by one compiled function.

    Args:
        batches: what evaluates points.
        key: tells functions apart; see `Batches`.
        program: the function, with what is not moved among its constants.
        rest: what is not moved.
        schedule: how many points at once.
        home: the device that the call's arguments are committed to, where they are to one.
    """

    opaque = False
    rounded = False

    def __init__(
        self,
        batches: Batches,
        key: Any,
        program: TracedFunction,
        rest: Any,
        schedule: Schedule,
        home: Any = None,
    ) -> None:
        super().__init__(program, rest, schedule)
        self._batches = batches
        self._key = key
        self._home = home
        # For each block, how many points a chunk has, and how many there is room for.
        self._sizes: dict[Block, tuple[int, int]] = {}

    def centre(self, leaves: Sequence[Any]) -> list[Any]:
        """All outputs, the auxiliary ones too, at ``x`` itself."""
        return self._at_hand(self._batches.centre(self._key, leaves, self._rest, self._home))

    def line(
        self, x: Sequence[Any], points: Sequence[Shaped[np.ndarray, "k ..."]], ride: bool
    ) -> tuple[list[Any] | None, list[Shaped[np.ndarray, "k ..."]]]:
        """Outputs at a few points given whole; see `Place.line`."""
        at_x, outputs = self._batches.line(
            self._key, self._schedule, ride, x, points, self._rest, self._home
        )
        return None if at_x is None else self._at_hand(at_x), jax.device_get(outputs)

    def scatter(
        self, cloud: Cloud, ride: bool
    ) -> tuple[list[Any] | None, list[Shaped[np.ndarray, "k n *out"]]]:
        """Outputs at the points of a cloud, and at ``x`` where that is wanted (``ride``)."""
        centre, outputs = self._kernel.scatter(cloud, False)
        return self.centre(cloud.x) if ride else centre, jax.device_get(outputs)

    def evaluate(
        self, points: Coordinates, reduce: Reduce, centre: list[Any] | None, ride: bool
    ) -> tuple[list[Any] | None, Any]:
        """Runs all points and reduces their outputs block by block; see `Place.evaluate`."""
        ride = ride and centre is None
        blocks = points.blocks()
        if ride and (self._program.aux_tree.num_leaves or not blocks):
            centre, ride = self.centre(points.x), False
        parts = []
        for block in blocks:
            directions = np.arange(block.start, block.stop, dtype=np.int32)
            at_x, outputs = self._run(points, block, directions, ride)
            if ride:
                centre, ride = at_x, False
            parts.append(reduce(centre, outputs, slice(block.start, block.stop)))
        if not parts:
            empty = [np.zeros((points.nodes, 0, *o.shape), o.dtype) for o in self._program.out]
            return centre, reduce(centre, empty, slice(0, 0))
        return centre, jax.tree.map(lambda *p: p[0] if len(p) == 1 else np.concatenate(p), *parts)

    def evaluate_beside(
        self, points: Coordinates, reduce: Reduce, beside: Sequence[Shaped[Any, "p ..."]]
    ) -> tuple[list[Any], Any, list[Shaped[np.ndarray, "p *out"]]]:
        """Runs all points, ``x`` and a few others; see `Place.evaluate_beside`."""
        at_x, others = self.line(points.x, beside, ride=True)
        assert at_x is not None
        return at_x, self.evaluate(points, reduce, at_x, ride=False)[1], others

    def some(
        self, points: Coordinates, wanted: Bool[np.ndarray, "n"]
    ) -> list[Shaped[np.ndarray, "k n *out"]]:
        """Outputs along those coordinates that are wanted, NaN along the others."""
        shape = points.nodes, points.count
        results = [
            np.full((*shape, *o.shape), np.nan if is_inexact(o) else 0, o.dtype)
            for o in self._program.out
        ]
        for block in points.blocks():
            directions = np.flatnonzero(wanted[block.start : block.stop]).astype(np.int32)
            if not len(directions):
                continue
            directions += np.int32(block.start)
            _, outputs = self._run(points, block, directions, False)
            for result, output in zip(results, outputs, strict=True):
                result[:, directions] = output
        return results

    def _run(
        self, points: Coordinates, block: Block, directions: np.ndarray, ride: bool
    ) -> tuple[list[Any] | None, list[np.ndarray]]:
        """Outputs along directions of a block, shape ``(K, m, *out)``; at ``x`` if that rides."""
        nodes, m = points.nodes, len(directions)
        moved = [entries[directions] for entries in points.entries] or [directions]
        ids = [np.tile(entries, nodes).astype(np.int32) for entries in moved]
        placed = [own[:, directions] for own in points.apart]
        placed = placed or [points.values[:, entries] for entries in moved]
        values = [own.reshape(-1) for own in placed]
        if ride:
            ids = [np.concatenate([np.full(1, -1, np.int32), i]) for i in ids]
            values = [np.concatenate([v[:1], v]) for v in values]
        count = nodes * m + int(ride)
        if block not in self._sizes:
            self._sizes[block] = self._size(points, block)
        size, room = self._sizes[block]
        at_x, parts = None, []
        for first in range(0, count, room):
            here = min(room, count - first)
            # What fills up the room is the last point once more.
            pick = np.minimum(np.arange(first, first + room), first + here - 1)
            at_x, found = self._batches.run(
                self._key,
                self._schedule,
                block,
                size,
                points.x,
                self._rest,
                [i[pick] for i in ids],
                [v[pick] for v in values],
                here,
                self._home,
            )
            parts.append([o[:here] for o in jax.device_get(found)])
        outputs = joined(parts)
        if ride:
            centre = [o[0] for o in outputs] if at_x is None else jax.device_get(at_x)
            outputs = [o[1:] for o in outputs]
            at_x = centre
        return at_x, [o.reshape(nodes, m, *o.shape[1:]) for o in outputs]

    def _size(self, points: Coordinates, block: Block) -> tuple[int, int]:
        """How many points a chunk has, and how many a batch has room for.

        The first batch that is asked for, with ``x`` itself, fits into one.
        """
        leaf_bytes = sum(points.x[i].size * points.x[i].dtype.itemsize for i in block.leaves)
        count = points.nodes * (block.stop - block.start) + 1
        size = self._schedule.shared(count, max(leaf_bytes, self._program.largest))
        return size, size * -(-count // size)
