"""The place inside a kernel: points made from ids and run in chunks under ``vmap``.

The user's function arrives traced once; it is replayed for every chunk, and points exist only
inside of one. This room must not know what a method is, nor how values become derivatives: it is
handed a ``reduce``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Bool, Shaped

from jaxfd._arrays import is_inexact, promote
from jaxfd._jaxpr import TracedFunction, follow, primitives
from jaxfd._places.chunks import Chunks
from jaxfd._places.meshes import (
    axes_of,
    in_one_piece,
    is_spread,
    on_devices,
    vary_along,
    varying_alike,
)
from jaxfd._places.place import Reduce
from jaxfd._places.schedule import Schedule, each
from jaxfd._points import Block, Cloud, Coordinates
from jaxfd._primitives import host_call_p, varying

# Leaves with fewer entries are not worth following.
_LEAST_FOLLOWED = 64


class Kernel:
    """The place inside a kernel where points are evaluated."""

    xp: Any = jnp
    lead: tuple[int, ...] = ()
    lossy = False
    concrete = False

    def __init__(self, program: TracedFunction, schedule: Schedule) -> None:
        program = in_one_piece(program)
        self.program = program
        self._schedule = schedule
        self._chunks = Chunks(program, schedule)

    @functools.cached_property
    def opaque(self) -> bool:
        """Whether there is a black box in the function."""
        return calls_host(self.program.closed)

    @property
    def one_call(self) -> bool:
        """Whether all points go in one batch: a black box inside makes one host call of it."""
        return self.opaque and self._schedule.chunk_size is None

    def eps(self, dtype: Any) -> float:
        """The relative spacing of the coarsest of a leaf's dtype, the outputs', and the boxes'."""
        dtypes = [dtype, *(o.dtype for o in self.program.out if is_inexact(o))]
        return max(self.program.eps, *(float(jnp.finfo(d).eps) for d in dtypes))

    @property
    def rounded(self) -> bool:
        """Whether the outputs that JAX hands out have fewer digits than those computed here."""
        return self.program.rounded

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

    def line(
        self, x: Sequence[Any], points: Sequence[Shaped[Any, "k ..."]], ride: bool
    ) -> tuple[list[Any] | None, list[Shaped[Any, "k ..."]]]:
        """Outputs at a few points given whole; see `Place.line`."""
        centre = None
        if ride and self._apart:
            centre, ride = self.centre(x), False
        if ride:
            points = [jnp.concatenate([z[None], p]) for z, p in zip(x, points, strict=True)]
        count = len(points[0])
        at_once = None if self.one_call else self._schedule.within(count, self.program.largest)
        outputs = self._chunks.run(lambda leaves: leaves, tuple(points), count, ride, at_once)
        at_x, outputs = self._chunks.centre_first(outputs, ride)
        return at_x if ride else centre, outputs

    def evaluate(
        self, points: Coordinates, reduce: Reduce, centre: list[Any] | None, ride: bool
    ) -> tuple[list[Any] | None, Any]:
        """Runs all points and reduces their outputs direction by direction; see `Place.evaluate`.

        Outputs along ``m`` of the directions have the shape ``(K, m, *out)``.
        """
        ride = ride and centre is None
        if self.one_call and points.count:
            return self._in_one_call(points, reduce, centre, ride)
        if ride and self._apart:
            centre, ride = self.centre(points.x), False
        blocks = points.blocks()
        chunks = {b: self._chunks.size(points, b) for b in blocks}
        whole: dict[Block, list[Any]] = {}
        for block in blocks:
            followed = self._followed(points, block, chunks[block])
            if followed is not None:
                at_x, whole[block] = followed
                centre = at_x if ride and centre is None else centre
        if ride and centre is None:
            carrier = next((b for b in blocks if chunks[b] is None), None)
            if carrier is None:
                centre = self.centre(points.x)
            else:
                centre, whole[carrier] = self._chunks.one_shot(points, carrier, ride=True)
        parts = []
        for block in blocks:
            size = chunks[block]
            if block not in whole and size is None:
                _, whole[block] = self._chunks.one_shot(points, block, ride=False)
            if block in whole:
                parts.append(reduce(centre, whole[block], slice(block.start, block.stop)))
            else:
                assert size is not None
                parts.append(self._chunks.chunked(points, block, size, reduce, centre))
        if not parts:
            empty = [jnp.zeros((points.nodes, 0, *o.shape), o.dtype) for o in self.program.out]
            return centre, reduce(centre, empty, slice(0, 0))
        return centre, jax.tree.map(lambda *p: p[0] if len(p) == 1 else jnp.concatenate(p), *parts)

    def evaluate_beside(
        self, points: Coordinates, reduce: Reduce, beside: Sequence[Shaped[Any, "p ..."]]
    ) -> tuple[list[Any], Any, list[Shaped[Any, "p *out"]]]:
        """Runs all points, ``x`` and a few others given whole; see `Place.evaluate_beside`."""
        if self.one_call and points.count:
            block = Block(range(len(points.x)), 0, points.count)
            centre, outputs, others = self._chunks.one_shot_beside(points, block, beside)
            return centre, reduce(centre, outputs, slice(0, points.count)), others
        at_x, others = self.line(points.x, beside, ride=True)
        assert at_x is not None
        return at_x, self.evaluate(points, reduce, at_x, ride=False)[1], others

    def some(self, points: Coordinates, wanted: Bool[Any, "n"]) -> list[Shaped[Any, "k n *out"]]:
        """Outputs along those coordinates that are wanted, NaN along the others.

        Coordinates are run in chunks, and chunks without a wanted one not at all.
        """
        nodes, count = points.nodes, points.count
        if not count:
            return [jnp.zeros((nodes, 0, *o.shape), o.dtype) for o in self.program.out]
        # Wanted ones first: where each coordinate goes, and who comes where.
        number = jnp.sum(wanted, dtype=np.int32)
        before = jnp.cumsum(wanted, dtype=np.int32)
        every = lax.iota(np.int32, count)
        place = jnp.where(wanted, before - 1, number + every - before)
        order = jnp.zeros_like(every).at[place].set(every, unique_indices=True)
        points = points.some(order)
        block = Block(range(len(points.x)), 0, count)
        size = self._schedule.few(count, nodes, self._chunks.point_bytes(points, block))

        def run(first: Any) -> list[Any]:
            directions = jnp.minimum(first + lax.iota(np.int32, size), np.int32(count - 1))
            return [jnp.moveaxis(o, 0, 1) for o in self._chunks.along(points, block, directions)]

        def skip(first: Any) -> list[Any]:
            del first
            lost = [
                jnp.full((size, nodes, *o.shape), np.nan if is_inexact(o) else 0, o.dtype)
                for o in self.program.out
            ]
            return [vary_along(o, own) for o, own in zip(lost, axes, strict=True)]

        starts = np.arange(0, count, size, dtype=np.int32)
        axes = (
            axes_of(run, starts[0]) if on_devices() else [frozenset[str]()] * len(self.program.out)
        )
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

        As many points as fill the memory of a chunk are run at once, whatever ``chunk_size``.
        """
        signs = np.asarray(cloud.signs, np.int32)
        nodes, count = len(signs), cloud.count
        if self.one_call:
            return self._cloud_in_one_call(cloud, signs, ride)
        centre = self.centre(cloud.x) if ride else None

        def at(point: tuple[Any, Any]) -> list[Any]:
            return self.program.call(cloud.point(*point))[: len(self.program.out)]

        def both(i: Any) -> list[Any]:
            return jax.vmap(lambda sign: at((i, sign)))(signs)

        samples = cloud.described()
        per_point = max(cloud.directions.point_bytes, self.program.largest)
        pairs = self._schedule.points(nodes * count, per_point) // nodes
        if pairs:
            outputs = each(both, samples, count, pairs)
        else:
            each_sign = jax.tree.map(lambda d: jnp.repeat(d, nodes, axis=0), samples)
            flat = lax.map(at, (each_sign, jnp.tile(signs, count)))
            outputs = [o.reshape(count, nodes, *o.shape[1:]) for o in flat]
        return centre, [jnp.moveaxis(o, 1, 0) for o in outputs]

    def repeat(
        self, body: Callable[[Any], Any], state: Any, times: int, going: Callable[[Any], Any]
    ) -> Any:
        """Runs ``body`` on a state, up to so many times, while ``going`` holds."""

        state, body = varying_alike(body, state)

        def step(state: Any, _: None) -> tuple[Any, None]:
            return lax.cond(going(state), body, lambda state: state, state), None

        def steps(state: Any) -> Any:
            return lax.scan(step, state, None, length=times)[0]

        return lax.cond(going(state), steps, lambda state: state, state)

    def _followed(
        self, points: Coordinates, block: Block, size: int | None
    ) -> tuple[list[Any], list[Any]] | None:
        """Outputs by following changes, at ``x`` and of shape ``(K, m)``; None where it cannot."""
        nodes, count = points.nodes, block.stop - block.start
        if points.entries or not may_follow(self.program, self._schedule, block):
            return None
        number = block.leaves.start
        if not varying(points.values) <= varying(points.x[number]):
            return None  # the program is not the one that is followed; see `trace`

        def keep(centre: Any, outputs: list[Any], directions: Any) -> list[Any]:
            del centre, directions
            return [jnp.moveaxis(output, 0, 1) for output in outputs]

        def as_arrays() -> list[Any]:
            if size is None:
                return [o.reshape(-1) for o in self._chunks.one_shot(points, block, ride=False)[1]]
            return [o.T.reshape(-1) for o in self._chunks.chunked(points, block, size, keep, None)]

        following = follow(self.program.closed, len(self.program.out), points.x, number)
        if following is None:
            return None
        ids = jnp.tile(lax.iota(np.int32, count), nodes)
        values = points.values[:, block.start : block.stop].reshape(-1)
        described = (ids, values.astype(points.x[number].dtype))
        at_once = self._schedule.small(nodes * count, following.largest)

        def followed() -> Any:
            return each(lambda entry: following.point(*entry), described, nodes * count, at_once)

        outputs = (
            followed()
            if following.trusted is None
            else lax.cond(following.trusted, followed, as_arrays)
        )
        return following.at_x, [o.reshape(nodes, count) for o in outputs]

    @property
    def _apart(self) -> bool:
        """Whether the centre is evaluated for itself: with auxiliary outputs, which it alone has.

        A host function would be called once more for that.
        """
        return self.program.aux_tree.num_leaves > 0 and not self.one_call

    def _in_one_call(
        self, points: Coordinates, reduce: Reduce, centre: list[Any] | None, ride: bool
    ) -> tuple[list[Any] | None, Any]:
        """Evaluates all points of all leaves as one batch, the centre first if it rides."""
        count = points.count
        block = Block(range(len(points.x)), 0, count)
        at_x, outputs = self._chunks.one_shot(points, block, ride=ride)
        centre = at_x if ride else centre
        return centre, reduce(centre, outputs, slice(0, count))

    def _cloud_in_one_call(
        self, cloud: Cloud, signs: np.ndarray, ride: bool
    ) -> tuple[list[Any] | None, list[Any]]:
        """Evaluates all points of a cloud, made as arrays, as one batch."""
        nodes, count = len(signs), cloud.count
        samples = jax.tree.map(lambda d: jnp.concatenate([d] * nodes), cloud.described())
        points = jax.vmap(cloud.array)(samples, jnp.repeat(signs, count))
        centre, outputs = self.line(cloud.x, points, ride)
        return centre, [o.reshape(nodes, count, *o.shape[1:]) for o in outputs]


def may_follow(program: TracedFunction, schedule: Schedule, block: Block) -> bool:
    """Whether single entries of a block's leaf may be followed through a function."""
    return (
        program.closed is not None
        and not is_spread(program)
        and schedule.chunk_size is None
        and len(block.leaves) == 1
        and block.stop - block.start >= _LEAST_FOLLOWED
    )


def calls_host(closed: Any) -> bool:
    """Whether there is a black box in a traced function."""
    return closed is not None and host_call_p.name in primitives(closed.jaxpr)
