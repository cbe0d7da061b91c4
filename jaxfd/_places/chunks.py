"""Points described by integers, made and evaluated a chunk at a time inside a kernel.

It exists so that both signs of a coordinate share a chunk and temporaries stay in cache. It must
not know who asks, nor what the outputs are for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Int

from jaxfd._jaxpr import TracedFunction
from jaxfd._places.place import Reduce
from jaxfd._places.schedule import Schedule, each
from jaxfd._points import Block, Coordinates


@dataclasses.dataclass(frozen=True)
class Chunks:
    """Runs a traced function at points, as many at once as the schedule says.

    Attributes:
        program: the function.
        schedule: how many points at once.
    """

    program: TracedFunction
    schedule: Schedule

    def run(
        self,
        make: Callable[[Any], Sequence[Any]],
        described: Any,
        count: int,
        every: bool = False,
        at_once: int | None = None,
    ) -> list[Any]:
        """Outputs of ``count`` points, each made from its description: the wanted ones, or all.

        ``at_once`` of them are run side by side; None for ``chunk_size``, or all.
        """
        wanted = None if every else len(self.program.out)

        def one(description: Any) -> list[Any]:
            return self.program.call(make(description))[:wanted]

        at_once = at_once or self.schedule.chunk_size or count
        return list(each(one, described, count, at_once))

    def one_shot(
        self, points: Coordinates, block: Block, ride: bool
    ) -> tuple[list[Any] | None, list[Any]]:
        """Outputs along all directions of a block, of shape ``(K, m, *out)``, in one batch.

        The outputs at ``x`` ride along, all of them, where they shall.
        """
        nodes, count = points.nodes, block.stop - block.start
        directions = np.arange(block.start, block.stop, dtype=np.int32)
        ids, values = [], []
        for moved in points.moving(directions):
            own = jnp.tile(jnp.asarray(moved, dtype=jnp.int32), nodes)
            value = (
                points.values[:, moved]
                if points.entries
                else points.values[:, block.start : block.stop]
            ).reshape(-1)
            if ride:
                own = jnp.concatenate([jnp.full(1, -1, jnp.int32), own])
                value = jnp.concatenate([value[:1], value])
            ids.append(own)
            values.append(value)
        outputs = self.run(
            lambda d: points.leaves(block, *d), (ids, values), nodes * count + int(ride), every=ride
        )
        centre, outputs = self.centre_first(outputs, ride)
        return centre, [o.reshape(nodes, count, *o.shape[1:]) for o in outputs]

    def one_shot_beside(
        self, points: Coordinates, block: Block, beside: Sequence[Any]
    ) -> tuple[list[Any], list[Any], list[Any]]:
        """The same with ``x``, and other points given whole: shape ``(P, *shape)`` each leaf.

        Returns:
            Outputs at ``x``, all of them; those along the directions; and those at the others.
        """
        nodes, count, others = points.nodes, block.stop - block.start, len(beside[0])
        directions = np.arange(block.start, block.stop, dtype=np.int32)
        # For each point which of the others it is, with x as the first of them; -1 for none.
        every = [jnp.concatenate([x[None], b]) for x, b in zip(points.x, beside, strict=True)]
        which = np.full(1 + others + nodes * count, -1, np.int32)
        which[: 1 + others] = np.arange(1 + others)
        first = jnp.full(1 + others, -1, jnp.int32)
        ids, values = [], []
        for moved in points.moving(directions):
            own = jnp.tile(jnp.asarray(moved, dtype=jnp.int32), nodes)
            value = points.values[:, moved].reshape(-1)
            ids.append(jnp.concatenate([first, own]))
            values.append(jnp.concatenate([jnp.zeros(1 + others, value.dtype), value]))

        def make(description: Any) -> Sequence[Any]:
            number, ids, values = description
            leaves = points.leaves(block, ids, values)
            return [
                jnp.where(number < 0, leaf, e[jnp.maximum(number, 0)])
                for leaf, e in zip(leaves, every, strict=True)
            ]

        outputs = self.run(make, (jnp.asarray(which), ids, values), len(which), every=True)
        wanted = outputs[: len(self.program.out)]
        return (
            [o[0] for o in outputs],
            [o[1 + others :].reshape(nodes, count, *o.shape[1:]) for o in wanted],
            [o[1 : 1 + others] for o in wanted],
        )

    def chunked(
        self, points: Coordinates, block: Block, size: int, reduce: Reduce, centre: list[Any] | None
    ) -> Any:
        """The reduced outputs along all directions of a block, ``size`` of them at once."""
        count = block.stop - block.start

        def chunk(first: Any, m: int) -> Any:
            directions = first + lax.iota(np.int32, m)
            return reduce(centre, self.along(points, block, directions), directions)

        full, rest = divmod(count, size)
        starts = block.start + size * np.arange(full, dtype=np.int32)
        results = lax.map(lambda first: chunk(first, size), starts)
        results = jax.tree.map(lambda r: r.reshape(full * size, *r.shape[2:]), results)
        if rest:
            last = chunk(np.int32(block.start + full * size), rest)
            results = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), results, last)
        return results

    def along(self, points: Coordinates, block: Block, directions: Int[Any, "m"]) -> list[Any]:
        """Outputs of all nodes along some directions: shape ``(K, m, *out)``."""
        nodes, m = points.nodes, directions.size
        ids, values = [], []
        for moved in points.moving(directions):
            # Concatenation keeps XLA from computing ids and values anew for every entry of
            # every point: twice to three times faster on CPU than a tiled array.
            ids.append(jnp.concatenate([moved] * nodes))
            values.append(jnp.concatenate([points.values[k][moved] for k in range(nodes)]))
        outputs = self.run(
            lambda d: points.leaves(block, *d),
            (ids, values),
            nodes * m,
            at_once=self.schedule.within(nodes * m, self.point_bytes(points, block)),
        )
        return [o.reshape(nodes, m, *o.shape[1:]) for o in outputs]

    def size(self, points: Coordinates, block: Block) -> int | None:
        """How many directions share a chunk; None for all in one shot."""
        count = block.stop - block.start
        return self.schedule.directions(count, points.nodes, self.point_bytes(points, block))

    def point_bytes(self, points: Coordinates, block: Block) -> int:
        """What one point takes: the moved leaves, or the largest intermediate value."""
        leaf_bytes = sum(points.x[i].size * points.x[i].dtype.itemsize for i in block.leaves)
        return int(max(leaf_bytes, self.program.largest))

    def centre_first(self, outputs: list[Any], ride: bool) -> tuple[list[Any] | None, list[Any]]:
        """Takes the outputs at ``x`` from those of a batch that it leads, if it does."""
        if not ride:
            return None, outputs
        return [o[0] for o in outputs], [o[1:] for o in outputs[: len(self.program.out)]]
