"""The schedule: how many points are evaluated at once.

It exists so that chunks are sized in one room. It must not know what the points are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

# Bytes of one chunk and of the largest batch that is run in one shot. On a CPU a chunk shall stay
# in the second-level cache; on an accelerator it shall fill the device. Measured with
# ``python -m benchmarks speed``.
_CPU_CHUNK, _CPU_ONE_SHOT = 2**20, 2**21
_GPU_CHUNK, _GPU_ONE_SHOT = 2**28, 2**28
# So many points share a chunk where that takes no more than so many bytes: a loop has its price
# too, which points of many bytes do not feel.
_LEAST_POINTS, _LEAST_BYTES = 16, 2**23
# Coordinates that are looked at once more are run so many at once.
_CPU_FEW, _GPU_FEW = 16, 4096
# Points that share a chunk, and its bytes, where batches of many sizes are run by one compiled
# function: a chunk is run whole, however few of its points are wanted.
_CPU_SHARED, _GPU_SHARED = (64, 2**17), (4096, 2**28)
# Bytes of points that are given to a vectorised host function at once.
_HOST_CHUNK = 2**28


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How many points are evaluated at once.

    Attributes:
        chunk_size: how many of them; None for as many as fill the memory of a chunk.
    """

    chunk_size: int | None = None

    def directions(self, count: int, nodes: int, point_bytes: int) -> int | None:
        """How many of ``count`` directions of ``nodes`` points share a chunk; None for all."""
        if self.chunk_size is not None:
            size = max(1, self.chunk_size // nodes)
            return None if self.chunk_size > count * nodes else min(size, count)
        if count * nodes <= _at_once(count * nodes, point_bytes):
            return None
        return _evenly(count, _at_once(count * nodes, point_bytes) // nodes or 1)

    def few(self, count: int, nodes: int, point_bytes: int) -> int:
        """How many directions share a chunk where most chunks are not run at all."""
        few = _CPU_FEW if jax.default_backend() == "cpu" else _GPU_FEW
        return min(self.directions(count, nodes, point_bytes) or count, few, count)

    def shared(self, count: int, point_bytes: int) -> int:
        """How many points share a chunk of a function that later batches are run by too.

        Args:
            count: the points of the largest batch.
            point_bytes: what one of them takes.
        """
        if self.chunk_size is not None:
            return min(self.chunk_size, count)
        shared, chunk = _CPU_SHARED if jax.default_backend() == "cpu" else _GPU_SHARED
        most = min(shared, max(chunk // max(point_bytes, 1), _LEAST_POINTS))
        return -(-count // -(-count // most))

    def points(self, count: int, point_bytes: int) -> int:
        """How many of ``count`` points are run at once, whatever ``chunk_size``: 0 for one by one.

        A value may depend in its last bit on how many others are computed beside it.
        """
        chunk, one_shot = _chunk_bytes()
        per_point = max(point_bytes, 1)
        return count if count * per_point <= one_shot else max(1, chunk // per_point)

    def small(self, count: int, point_bytes: int) -> int:
        """How many of ``count`` points are run at once where each takes little memory."""
        return _evenly(count, _at_once(count, point_bytes))

    def within(self, count: int, point_bytes: int) -> int:
        """How many of the ``count`` points of a chunk are run at once: a divisor of it."""
        if self.chunk_size is not None:
            return self.chunk_size
        most = _at_once(count, point_bytes)
        return next(m for m in range(min(most, count), 0, -1) if count % m == 0)

    def rows(self, point_bytes: int) -> int:
        """How many points a vectorised host function gets at once."""
        return self.chunk_size or max(1, _HOST_CHUNK // max(point_bytes, 1))


def each(fun: Callable[[Any], Any], items: Any, count: int, at_once: int) -> Any:
    """A function of each of so many items, of which so many are computed at once."""
    if at_once >= count:
        return jax.vmap(fun)(items)
    return lax.map(fun, items, batch_size=at_once)


def batch_size(count: int, item_bytes: int) -> int:
    """How many of so many items fill the memory of a chunk."""
    return _evenly(count, max(1, _chunk_bytes()[0] // max(1, item_bytes)))


def members(count: int, member_bytes: int) -> int:
    """How many of the ``count`` estimates that ``vmap`` makes are computed side by side."""
    most = max(_chunk_bytes()[0], _LEAST_BYTES) // max(member_bytes, 1)
    return count if count <= most else _evenly(count, max(most, 1))


def _at_once(count: int, point_bytes: int) -> int:
    """How many of ``count`` points are run at once."""
    chunk, one_shot = _chunk_bytes()
    per_point = max(point_bytes, 1)
    if count * per_point <= one_shot:
        return count
    return max(chunk // per_point, min(_LEAST_POINTS, _LEAST_BYTES // per_point), 1)


def _chunk_bytes() -> tuple[int, int]:
    """Bytes of one chunk, and of the largest batch in one shot."""
    if jax.default_backend() == "cpu":
        return _CPU_CHUNK, _CPU_ONE_SHOT
    return _GPU_CHUNK, _GPU_ONE_SHOT


def _evenly(count: int, most: int) -> int:
    """How many of so many to run at once: a divisor leaves no remainder to compile besides."""
    most = min(count, most)
    return next((m for m in range(most, most // 2, -1) if count % m == 0), most)
