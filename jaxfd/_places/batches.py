"""Batches of described points, all of them evaluated by one compiled function.

An estimator on the host asks for batch after batch, of sizes that it learns as it goes. This room
exists so that XLA sees the user's function once for all of them. It must not know who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxfd._jaxpr import TracedFunction, follow
from jaxfd._places.kernel import Kernel, may_follow
from jaxfd._places.schedule import Schedule
from jaxfd._points import Block, moved_leaves

# ``rest -> function``: the traced function, given what is not moved.
MakeProgram = Callable[[Any, Any], TracedFunction]


class Batches:
    """Evaluates points of a function in chunks, as many as there are.

    A chunk is always as large, so that a batch of any size is run by what was compiled for the
    first one; points that fill up the last chunk are thrown away.

    Args:
        program: ``(key, rest) -> function``, where the key is hashable and tells functions apart,
            and ``rest`` is a pytree of arrays that are not moved.
    """

    def __init__(self, program: MakeProgram) -> None:
        self._program = program
        self._chunks = jax.jit(self._evaluate, static_argnums=(0, 1, 2, 3))
        self._centre = jax.jit(self._at_x, static_argnums=0)
        self._line = jax.jit(self._at_points, static_argnums=(0, 1, 2))

    def centre(self, key: Any, x: Sequence[Any], rest: Any, home: Any = None) -> list[Any]:
        """All outputs at ``x``, the auxiliary ones too."""
        return list(self._centre(key, _placed(list(x), home), rest))

    def line(
        self,
        key: Any,
        schedule: Schedule,
        ride: bool,
        x: Sequence[Any],
        points: Sequence[Any],
        rest: Any,
        home: Any = None,
    ) -> tuple[list[Any] | None, list[Any]]:
        """Outputs at a few points given whole, and at ``x`` if that rides; see `Place.line`."""
        given = _placed((list(x), list(points)), home)
        found: tuple[list[Any] | None, list[Any]] = self._line(key, schedule, ride, *given, rest)
        return found

    def run(
        self,
        key: Any,
        schedule: Schedule,
        block: Block,
        size: int,
        x: Sequence[Any],
        rest: Any,
        ids: Sequence[np.ndarray],
        values: Sequence[np.ndarray],
        count: int,
        home: Any = None,
    ) -> tuple[list[Any] | None, list[Any]]:
        """Outputs of points.

        Args:
            key: tells functions apart.
            schedule: whether the user wishes for chunks.
            block: the leaves that move.
            size: how many points a chunk has.
            x: the real leaves.
            rest: what is not moved.
            ids: the entries that each point moves, an array for each of them; see `moved_leaves`.
                Their length, the room there is, is a multiple of ``size``.
            values: where it puts them.
            count: how many points there are, from the first.
            home: the device that they are made on; None for whichever it is.

        Returns:
            The outputs at ``x``, where they come along for nothing, else None; and the outputs at
            the points, of the length of the ids, of which the first ``count`` say something.
        """
        chunks = np.int32(-(-count // size))
        described = _placed((list(x), list(ids), list(values), chunks), home)
        found: tuple[list[Any] | None, list[Any]]
        found = self._chunks(key, schedule, block, size, rest, *described)
        return found

    def _at_x(self, key: Any, x: list[Any], rest: Any) -> list[Any]:
        return self._program(key, rest).call(x)

    def _at_points(
        self,
        key: Any,
        schedule: Schedule,
        ride: bool,
        x: list[Any],
        points: list[Any],
        rest: Any,
    ) -> tuple[list[Any] | None, list[Any]]:
        return Kernel(self._program(key, rest), schedule).line(x, points, ride)

    def _evaluate(
        self,
        key: Any,
        schedule: Schedule,
        block: Block,
        size: int,
        rest: Any,
        x: list[Any],
        ids: list[Any],
        values: list[Any],
        chunks: Any,
    ) -> tuple[list[Any] | None, list[Any]]:
        program = self._program(key, rest)
        number = block.leaves.start
        following = None
        if len(ids) == 1 and may_follow(program, schedule, block):
            following = follow(program.closed, len(program.out), x, number)

        def whole(point: tuple[list[Any], list[Any]]) -> list[Any]:
            return program.call(moved_leaves(x, block, *point))[: len(program.out)]

        def followed(point: tuple[list[Any], list[Any]]) -> list[Any]:
            assert following is not None
            (entry,), (value,) = point
            return following.point(entry - np.int32(block.start), value.astype(x[number].dtype))

        def chunk(points: tuple[list[Any], list[Any]]) -> Any:
            if following is None or following.trusted is None:
                return jax.vmap(followed if following else whole)(points)
            return lax.cond(following.trusted, jax.vmap(followed), jax.vmap(whole), points)

        room = ids[0].shape[0]
        if room == size:
            outputs = chunk((ids, values))
        else:

            def step(k: Any, found: list[Any]) -> list[Any]:
                def part(a: Any) -> Any:
                    return lax.dynamic_slice_in_dim(a, k * size, size)

                new = chunk(([part(i) for i in ids], [part(v) for v in values]))
                return [
                    lax.dynamic_update_slice_in_dim(old, add, k * size, 0)
                    for old, add in zip(found, new, strict=True)
                ]

            empty = [jnp.zeros((room, *o.shape), o.dtype) for o in program.out]
            outputs = lax.fori_loop(np.int32(0), chunks, step, empty)
        return None if following is None else following.at_x, outputs


def _placed(tree: Any, home: Any) -> Any:
    """Arrays where they are committed to; others go there with the call, which takes less."""
    return tree if home is None else jax.device_put(tree, home)
