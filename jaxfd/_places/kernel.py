"""Evaluation in a kernel: points made from ids and run in chunks under ``vmap``.

The user's function arrives as a program traced once; it is replayed for every
chunk. Points exist only inside a chunk, both signs of a coordinate in the same
one, so that temporaries stay in cache. This room must not know what a method is,
nor how values become derivatives: it is handed a ``reduce``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Bool, Int, Shaped

from jaxfd._arrays import is_inexact, promote
from jaxfd._jaxpr import TracedFunction, follow
from jaxfd._places.schedule import _CPU_FEW, _GPU_FEW, _LEAST_POINTS, _each, chunk_bytes, evenly
from jaxfd._points import Block, Cloud, Moves

# Leaves with fewer entries are not worth following.
_LEAST_FOLLOWED = 64

Reduce = Callable[[list[Any] | None, list[Any], Any], Any]


class Kernel:
    """The place inside a kernel where points are evaluated."""

    xp: Any = jnp
    lead: tuple[int, ...] = ()
    lossy = False

    def __init__(self, program: TracedFunction, chunk_size: int | None) -> None:
        self.program = program
        self._chunk_size = chunk_size

    def eps(self, dtype: Any) -> float:
        """The relative spacing of the coarser of a leaf's dtype and the outputs'."""
        dtypes = [dtype, *(o.dtype for o in self.program.out if is_inexact(o))]
        return max(float(jnp.finfo(d).eps) for d in dtypes)

    def compute_dtype(self, out: Any, x: Any) -> Any:
        """The dtype differences are formed in: never less than float32."""
        return promote(out, x, np.float32)

    @staticmethod
    def complex(re: Any, im: Any) -> Any:
        """``re + i im``."""
        return lax.complex(re, im)

    def centre(self, leaves: Sequence[Any]) -> list[Any]:
        """All outputs, the auxiliary ones too, at ``x`` itself."""
        return self.program.call(leaves)

    def line(self, points: Sequence[Shaped[Any, "p ..."]]) -> list[Shaped[Any, "p ..."]]:
        """Outputs at a few points given whole: leaves of shape ``(P, *shape)``."""
        return self._run(lambda leaves: leaves, tuple(points), len(points[0]))

    def evaluate(
        self, moves: Moves, reduce: Reduce, centre: list[Any] | None, ride: bool
    ) -> tuple[list[Any] | None, Any]:
        """Runs all points and reduces their outputs direction by direction.

        Args:
            moves: the points.
            reduce: ``(centre, outputs, directions)``, with outputs of shape ``(K, m, *out)``
                for the ``m`` given directions, to arrays of leading axis ``m``.
            centre: the outputs at ``x``, where they are known already.
            ride: whether the centre is wanted and shall ride along with the first batch.

        Returns:
            The outputs at ``x`` (None if not wanted) and the reduced arrays, of leading axis
            ``count``.
        """
        blocks = moves.blocks()
        chunks = {b: self._directions_per_chunk(moves, b) for b in blocks}
        whole: dict[Block, list[Any]] = {}
        for block in blocks:
            followed = self._followed(moves, block, chunks[block])
            if followed is not None:
                at_x, whole[block] = followed
                centre = at_x if ride and centre is None else centre
        if ride and centre is None:
            carrier = next((b for b in blocks if chunks[b] is None), None)
            if carrier is None:
                centre = self.centre(moves.x)
            else:
                centre, whole[carrier] = self._one_shot(moves, carrier, ride=True)
        parts = []
        for block in blocks:
            size = chunks[block]
            if block not in whole and size is None:
                _, whole[block] = self._one_shot(moves, block, ride=False)
            if block in whole:
                parts.append(reduce(centre, whole[block], slice(block.start, block.stop)))
            else:
                assert size is not None
                parts.append(self._chunked(moves, block, size, reduce, centre))
        if not parts:
            empty = [jnp.zeros((moves.nodes, 0, *o.shape), o.dtype) for o in self.program.out]
            return centre, reduce(centre, empty, slice(0, 0))
        return centre, jax.tree.map(lambda *p: p[0] if len(p) == 1 else jnp.concatenate(p), *parts)

    def some(self, moves: Moves, wanted: Bool[Any, "n"]) -> list[Shaped[Any, "k n *out"]]:
        """Outputs along those coordinates that are wanted, NaN along the others.

        Coordinates are run in chunks, and chunks without a wanted one not at all.
        """
        nodes, count = moves.nodes, moves.count
        if not count:
            return [jnp.zeros((nodes, 0, *o.shape), o.dtype) for o in self.program.out]
        # Wanted ones first: where each coordinate goes, and who comes where.
        number = jnp.sum(wanted, dtype=np.int32)
        before = jnp.cumsum(wanted, dtype=np.int32)
        every = lax.iota(np.int32, count)
        place = jnp.where(wanted, before - 1, number + every - before)
        order = jnp.zeros_like(every).at[place].set(every, unique_indices=True)
        moves = dataclasses.replace(moves, coordinates=(order,))
        block = Block(range(len(moves.x)), 0, count)
        few = _CPU_FEW if jax.default_backend() == "cpu" else _GPU_FEW
        size = min(self._directions_per_chunk(moves, block) or count, few, count)

        def run(first: Any) -> list[Any]:
            directions = jnp.minimum(first + lax.iota(np.int32, size), np.int32(count - 1))
            return [jnp.moveaxis(o, 0, 1) for o in self._along(moves, block, directions)]

        def skip(first: Any) -> list[Any]:
            del first
            return [
                jnp.full((size, nodes, *o.shape), np.nan if is_inexact(o) else 0, o.dtype)
                for o in self.program.out
            ]

        starts = np.arange(0, count, size, dtype=np.int32)
        if size < count:
            found = lax.map(lambda first: lax.cond(first < number, run, skip, first), starts)
            found = [o.reshape(-1, *o.shape[2:]) for o in found]
        else:
            found = run(starts[0])
        return [jnp.moveaxis(o[place], 1, 0) for o in found]

    def scatter(
        self, cloud: Cloud, ride: bool
    ) -> tuple[list[Any] | None, list[Shaped[Any, "k n *out"]]]:
        """Outputs at the points of a cloud, and at ``x`` where that is wanted (``ride``).

        As many points as fill the memory of a chunk are run at once, whatever ``chunk_size``: a
        value may depend in its last bit on how many others are computed beside it.
        """
        centre = self.centre(cloud.x) if ride else None
        signs = np.asarray(cloud.signs, np.int32)
        nodes, count = len(signs), cloud.count

        def at(point: tuple[Any, Any]) -> list[Any]:
            return self.program.call(cloud.point(*point))[: len(self.program.out)]

        def both(i: Any) -> list[Any]:
            return jax.vmap(lambda sign: at((i, sign)))(signs)

        samples = lax.iota(np.int32, count)
        each = self._points_at_once(cloud) // nodes
        if each:
            outputs = _each(both, samples, count, each)
        else:
            ids = jnp.repeat(samples, nodes, total_repeat_length=nodes * count)
            flat = lax.map(at, (ids, jnp.tile(signs, count)))
            outputs = [o.reshape(count, nodes, *o.shape[1:]) for o in flat]
        return centre, [jnp.moveaxis(o, 1, 0) for o in outputs]

    def _points_at_once(self, cloud: Cloud) -> int:
        chunk, one_shot = chunk_bytes()
        per_point = max(cloud.directions.point_bytes, self.program.largest, 1)
        points = cloud.count * len(cloud.signs)
        return points if points * per_point <= one_shot else max(1, chunk // per_point)

    def repeat(
        self, body: Callable[[Any], Any], state: Any, times: int, going: Callable[[Any], Any]
    ) -> Any:
        """Runs ``body`` on a state, up to so many times, while ``going`` holds."""

        def step(state: Any, _: None) -> tuple[Any, None]:
            return lax.cond(going(state), body, lambda state: state, state), None

        def steps(state: Any) -> Any:
            return lax.scan(step, state, None, length=times)[0]

        return lax.cond(going(state), steps, lambda state: state, state)

    def _followed(
        self, moves: Moves, block: Block, size: int | None
    ) -> tuple[list[Any], list[Any]] | None:
        """Outputs by following changes, at ``x`` and of shape ``(K, m)``; None where it cannot."""
        nodes, count = moves.nodes, block.stop - block.start
        closed = self.program.closed
        if (
            closed is None
            or self._chunk_size is not None
            or moves.coordinates
            or len(block.leaves) > 1
            or count < _LEAST_FOLLOWED
        ):
            return None
        number = block.leaves.start

        def keep(centre: Any, outputs: list[Any], directions: Any) -> list[Any]:
            del centre, directions
            return [jnp.moveaxis(output, 0, 1) for output in outputs]

        def as_arrays() -> list[Any]:
            if size is None:
                return [o.reshape(-1) for o in self._one_shot(moves, block, ride=False)[1]]
            return [o.T.reshape(-1) for o in self._chunked(moves, block, size, keep, None)]

        following = follow(closed, len(self.program.out), moves.x, number)
        if following is None:
            return None
        ids = jnp.tile(lax.iota(np.int32, count), nodes)
        values = moves.values[:, block.start : block.stop].reshape(-1)
        points = (ids, values.astype(moves.x[number].dtype))
        chunk, one_shot = chunk_bytes()
        at_once = nodes * count
        if at_once * following.largest > one_shot:
            at_once = evenly(at_once, max(chunk // following.largest, _LEAST_POINTS))

        def followed() -> list[Any]:
            return _each(lambda entry: following.point(*entry), points, nodes * count, at_once)

        outputs = (
            followed()
            if following.trusted is None
            else lax.cond(following.trusted, followed, as_arrays)
        )
        return following.at_x, [o.reshape(nodes, count) for o in outputs]

    def _directions_per_chunk(self, moves: Moves, block: Block) -> int | None:
        """How many directions share a chunk; None for all in one shot."""
        count = block.stop - block.start
        if self._chunk_size is not None:
            size = max(1, self._chunk_size // moves.nodes)
            return None if self._chunk_size > count * moves.nodes else min(size, count)
        chunk, one_shot = chunk_bytes()
        leaf_bytes = sum(moves.x[i].size * moves.x[i].dtype.itemsize for i in block.leaves)
        per_point = max(leaf_bytes, self.program.largest, 1)
        if count * moves.nodes * per_point <= one_shot or count * moves.nodes <= _LEAST_POINTS:
            return None
        most = max(chunk // per_point, _LEAST_POINTS) // moves.nodes or 1
        return evenly(count, most)

    def _run(self, make: Callable[[Any], Sequence[Any]], described: Any, count: int) -> list[Any]:
        """Outputs of ``count`` points, each made from its description."""

        def one(description: Any) -> list[Any]:
            return self.program.call(make(description))[: len(self.program.out)]

        return _each(one, described, count, self._chunk_size or count)

    def _one_shot(
        self, moves: Moves, block: Block, ride: bool
    ) -> tuple[list[Any] | None, list[Any]]:
        nodes, count = moves.nodes, block.stop - block.start
        directions = np.arange(block.start, block.stop, dtype=np.int32)
        ids, values = [], []
        for moved in moves.moved(directions):
            own = jnp.tile(jnp.asarray(moved, dtype=jnp.int32), nodes)
            value = (
                moves.values[:, moved]
                if moves.coordinates
                else moves.values[:, block.start : block.stop]
            ).reshape(-1)
            if ride:
                own = jnp.concatenate([jnp.full(1, -1, jnp.int32), own])
                value = jnp.concatenate([value[:1], value])
            ids.append(own)
            values.append(value)
        outputs = self._run(
            lambda d: moves.leaves(block, *d), (ids, values), nodes * count + int(ride)
        )
        centre = [o[0] for o in outputs] if ride else None
        return centre, [o[int(ride) :].reshape(nodes, count, *o.shape[1:]) for o in outputs]

    def _chunked(
        self, moves: Moves, block: Block, size: int, reduce: Reduce, centre: list[Any] | None
    ) -> Any:
        count = block.stop - block.start

        def chunk(first: Any, m: int) -> Any:
            directions = first + lax.iota(np.int32, m)
            return reduce(centre, self._along(moves, block, directions), directions)

        full, rest = divmod(count, size)
        starts = block.start + size * np.arange(full, dtype=np.int32)
        results = lax.map(lambda first: chunk(first, size), starts)
        results = jax.tree.map(lambda r: r.reshape(full * size, *r.shape[2:]), results)
        if rest:
            last = chunk(np.int32(block.start + full * size), rest)
            results = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), results, last)
        return results

    def _along(self, moves: Moves, block: Block, directions: Int[Any, "m"]) -> list[Any]:
        """Outputs of all nodes along some directions: shape ``(K, m, *out)``."""
        nodes, m = moves.nodes, directions.size
        ids, values = [], []
        for moved in moves.moved(directions):
            # Concatenation keeps XLA from computing ids and values anew for every entry of
            # every point: twice to three times faster on CPU than a tiled array.
            ids.append(jnp.concatenate([moved] * nodes))
            values.append(jnp.concatenate([moves.values[k][moved] for k in range(nodes)]))
        outputs = self._run(lambda d: moves.leaves(block, *d), (ids, values), nodes * m)
        return [o.reshape(nodes, m, *o.shape[1:]) for o in outputs]
