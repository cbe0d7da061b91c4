"""Coordinates: points that move one entry of the argument, or two, described by small integers.

A point is (direction, node). It becomes an array only where it is evaluated:
`Coordinates.leaves` makes one inside a kernel, `Coordinates.rows` makes a run of them on the
host. This room must not know what the values are combined into.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Int, Shaped

# Leaves that together have at most this many entries are perturbed in one batch; a larger leaf
# has a batch of its own, so that the others stay unbatched and what depends on them alone is
# computed once for all points.
_TOGETHER = 64


@dataclasses.dataclass(frozen=True)
class Block:
    """Neighbouring leaves perturbed in one batch.

    Attributes:
        leaves: the numbers of the leaves.
        start: the first direction that belongs to the block.
        stop: one past the last.
    """

    leaves: range
    start: int
    stop: int


def moved_leaves(
    x: Sequence[Any], block: Block, ids: Sequence[Any], values: Sequence[Any]
) -> list[Any]:
    """One point, made inside a kernel: entry ``ids[r]`` is put to ``values[r]``.

    Args:
        x: the real leaves.
        block: those that may move.
        ids: the numbers of the entries, through all leaves; -1 moves nothing.
        values: where they are put.
    """
    offsets = np.cumsum([0, *(math.prod(leaf.shape) for leaf in x)])
    result = list(x)
    for number in block.leaves:
        leaf = result[number]
        where = lax.iota(np.int32, leaf.size).reshape(leaf.shape) + np.int32(offsets[number])
        for entry, value in zip(ids, values, strict=True):
            leaf = jnp.where(where == entry, value.astype(leaf.dtype), leaf)
        result[number] = leaf
    return result


@dataclasses.dataclass(frozen=True)
class Coordinates:
    """Points that differ from ``x`` in one or two coordinates.

    Entries are numbered through all leaves. Direction ``d`` moves entry ``entries[r][d]`` for each
    ``r``; node ``k`` puts it to ``values[k, ..., entry]``.

    Attributes:
        x: the real leaves, shape ``(*lead, *shape)``.
        lead: the leading batch axes: none in a kernel, one on the host.
        values: shape ``(K, *lead, N)``, where node ``k`` puts each entry.
        entries: one integer array of shape ``(count,)`` per moved entry; empty means every entry
            alone, in order.
    """

    x: Sequence[Any]
    lead: tuple[int, ...]
    values: Shaped[Any, "k *lead n"]
    entries: tuple[Int[Any, "count"], ...] = ()

    @property
    def nodes(self) -> int:
        """The number of points along one direction."""
        return int(self.values.shape[0])

    @property
    def count(self) -> int:
        """The number of directions."""
        return int(self.entries[0].size if self.entries else self.values.shape[-1])

    @property
    def sizes(self) -> list[int]:
        """The number of entries of each leaf."""
        return [math.prod(x.shape[len(self.lead) :]) for x in self.x]

    def blocks(self) -> list[Block]:
        """Groups the directions into batches by the leaves they perturb."""
        if self.entries:
            return [Block(range(len(self.x)), 0, self.count)] if self.count else []
        blocks: list[Block] = []
        start = 0
        for number, size in enumerate(self.sizes):
            stop = start + size
            last = blocks[-1] if blocks else None
            if last is not None and stop - last.start <= _TOGETHER:
                blocks[-1] = Block(range(last.leaves.start, number + 1), last.start, stop)
            elif size:
                blocks.append(Block(range(number, number + 1), start, stop))
            start = stop
        return blocks

    def moving(self, directions: Any) -> list[Any]:
        """The entries that each of the given directions moves (in a kernel)."""
        if not self.entries:
            return [directions]
        return [jnp.asarray(c, dtype=jnp.int32)[directions] for c in self.entries]

    def leaves(self, block: Block, ids: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        """One point, made inside a kernel; see `moved_leaves`."""
        return moved_leaves(self.x, block, ids, values)

    def rows(
        self,
        batch: Int[np.ndarray, "m"],
        directions: Int[np.ndarray, "m"],
        nodes: Int[np.ndarray, "m"],
    ) -> list[Any]:
        """A run of points, made on the host: each leaf with shape ``(len(batch), *shape)``.

        A direction of -1 is the centre.
        """
        result = []
        start = 0
        centre = directions < 0
        for x, size in zip(self.x, self.sizes, strict=True):
            leaf = x[batch]
            flat = leaf.reshape(len(batch), size)
            for entry in self.entries or (None,):
                moved = directions if entry is None else entry[directions]
                row = np.nonzero((moved >= start) & (moved < start + size) & ~centre)[0]
                moved = moved[row]
                flat[row, moved - start] = self.values[nodes[row], batch[row], moved]
            result.append(leaf)
            start += size
        return result

    def every_row(self, ride: bool) -> list[Any]:
        """All points of entries moved one by one, centre first; see `rows`."""
        size, nodes, count = self.lead[0], self.nodes, self.count
        result = []
        start = 0
        for x, width in zip(self.x, self.sizes, strict=True):
            flat = x.reshape(size, 1, width)
            leaf = np.empty((size, nodes * count + int(ride), width), x.dtype)
            leaf[:] = flat
            for k in range(nodes):
                first = int(ride) + k * count + start
                # Row by row the next entry moves: the diagonal of a square of rows.
                square = leaf[:, first : first + width]
                np.einsum("bii->bi", square)[:] = self.values[k, :, start : start + width]
            result.append(leaf.reshape(leaf.shape[0] * leaf.shape[1], *x.shape[1:]))
            start += width
        return result
