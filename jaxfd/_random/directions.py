"""Random directions, replayed from a key.

A direction is never kept: it is made anew wherever it is added to something, to ``x`` for a
point and to the gradient for its share of it. All have entries of mean zero and variance one,
but for those that move one coordinate, or a given one. This room must not know what is
evaluated.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxfd._arrays import promote
from jaxfd._random import draws as _draws

# Entries of directions that are held at once while they are summed. Independent of how points
# are chunked, so that sums are too.
_BLOCK = 2**18
_MOST_IN_BLOCK = 256
# So few are made once and kept.
_HELD = 2**16

Leaves = Sequence[Any]


class Directions(abc.ABC):
    """The directions of one estimate.

    Args:
        key: the key they are replayed from.
        like: the leaves they are directions of, or their shapes and dtypes.
    """

    def __init__(self, key: Any, like: Leaves) -> None:
        self.key = _draws.replayable(key)
        self.shapes = [x.shape for x in like]
        self.sizes = [math.prod(shape) for shape in self.shapes]
        self.dtypes = [promote(x.dtype, np.float32) for x in like]
        self.size = sum(self.sizes)
        self.common = promote(np.float32, *self.dtypes)

    # Whether what `add` adds is the scale times the direction itself, to the last bit.
    exact = False
    # Whether each of them moves all entries that it moves equally far.
    even = False

    @abc.abstractmethod
    def add(self, leaves: Leaves, i: Int[Array, ""], scales: Leaves) -> list[Any]:
        """The leaves plus their scale times direction ``i``."""

    def points(self, leaves: Leaves, i: Int[Array, ""], scales: Leaves) -> list[Any]:
        """The same, in whatever form a program can be run on."""
        return self.add(leaves, i, scales)

    def described(self, count: int) -> Any:
        """What the first directions are told by: their numbers, or what stands in for those."""
        return lax.iota(np.int32, count)

    def held(self, count: int) -> Directions | HeldDirections:
        """The same directions, made once and kept where they are few numbers.

        What is made anew is compiled anew.
        """
        few = self.exact and self.size * count <= _HELD and self._block(count, self.sizes) == count
        return HeldDirections(self, count) if few else self

    @property
    def point_bytes(self) -> int:
        """What a point takes besides ``x``."""
        itemsizes = [np.dtype(d).itemsize for d in self.dtypes]
        return sum(n * size for n, size in zip(self.numbers, itemsizes, strict=True))

    @property
    def numbers(self) -> list[int]:
        """How many numbers each leaf of a direction is made of."""
        return self.sizes

    def one(self, i: Int[Array, ""]) -> list[Any]:
        """Direction ``i`` as arrays."""
        zeros = [jnp.zeros(s, d) for s, d in zip(self.shapes, self.dtypes, strict=True)]
        return self.add(zeros, i, [jnp.ones((), d) for d in self.dtypes])

    def several(self, ids: Int[Array, "b"]) -> list[Any]:
        """Some directions as arrays of shape ``(b, *shape)``."""
        return jax.vmap(self.one)(ids)

    def arrays(self, count: int) -> list[Any]:
        """The first directions as arrays of shape ``(count, *shape)``."""
        return self.several(lax.iota(np.int32, count))

    def sum(
        self, coefficients: Leaves, squared: bool = False, onto: Leaves | None = None
    ) -> list[Any]:
        """``sum_i c_i u_i``, in an order that depends on nothing but the sizes.

        Args:
            coefficients: for each leaf an array of shape ``(N, *out)``.
            squared: whether to sum the squares of the directions' entries.
            onto: leaves that the sum is added to, one direction after the other, for ``out`` of
                no axes; None for zeros.

        Returns:
            For each leaf an array of shape ``(*out, *shape)``.
        """
        count, *out = coefficients[0].shape if coefficients else (0,)
        like = zip(self.shapes, self.dtypes, strict=True)
        totals = [jnp.zeros((*out, *s), d) for s, d in like] if onto is None else list(onto)
        coefficients = [c.astype(d) for c, d in zip(coefficients, self.dtypes, strict=True)]
        each = self._block(count, self.sizes if squared else self.numbers)
        if not count or not self.size:
            return totals
        blocks = -(-count // each)
        pad = blocks * each - count
        padded = [
            jnp.concatenate([c, jnp.zeros((pad, *out), c.dtype)]).reshape(blocks, each, *out)
            for c in coefficients
        ]
        ids = lax.iota(np.int32, blocks * each).reshape(blocks, each)
        ids = jnp.minimum(ids, np.int32(count - 1))

        def add(totals: list[Any], block: Any) -> tuple[list[Any], None]:
            ids, coefficients = block
            if each == 1 and not out and not squared:
                return self.add(totals, ids[0], [c[0] for c in coefficients]), None
            return self._add_block(totals, ids, coefficients, squared), None

        if blocks == 1:
            return add(totals, (ids[0], [c[0] for c in padded]))[0]
        return lax.scan(add, totals, (ids, padded))[0]

    def _add_block(
        self, totals: list[Any], ids: Any, coefficients: Leaves, squared: bool
    ) -> list[Any]:
        return _add_products(totals, self.several(ids), coefficients, squared)

    def _block(self, count: int, numbers: Sequence[int]) -> int:
        """How many directions are held at once, each made of so many numbers a leaf."""
        most = _BLOCK // max(sum(numbers), 1)
        return int(np.clip(most, 1, min(_MOST_IN_BLOCK, max(count, 1))))

    def gram(self, count: int, dtype: Any) -> Float[Array, "n n"]:
        """The inner products of all pairs of directions, formed in a dtype."""
        each = self._block(count, self.sizes)
        blocks = -(-count // each)
        ids = jnp.minimum(lax.iota(np.int32, blocks * each), np.int32(count - 1))
        ids = ids.reshape(blocks, each)

        def flat(u: Any) -> Any:
            return u.reshape(each, -1).astype(dtype)

        def products(a: Any, b: Any) -> Any:
            pairs = zip(self.several(a), self.several(b), strict=True)
            return sum(
                jnp.einsum("ai,bi->ab", *map(flat, pair), precision="highest") for pair in pairs
            )

        table = lax.map(lambda a: lax.map(lambda b: products(a, b), ids), ids)
        whole = jnp.swapaxes(table, 1, 2).reshape(blocks * each, blocks * each)
        return whole[:count, :count]

    def key_of(self, i: Any, leaf: int) -> Any:
        """The key of one leaf of direction ``i``."""
        return _draws.fold_in(_draws.fold_in(self.key, i), leaf)


class HeldDirections:
    """The first directions of some, made once: the same numbers, summed in the same order.

    Args:
        directions: the directions.
        count: how many.
    """

    def __init__(self, directions: Directions, count: int) -> None:
        self._all = directions
        self.point_bytes = directions.point_bytes
        self.even = directions.even
        self.u = directions.arrays(count)

    def described(self, count: int) -> Leaves:
        """For each leaf the directions, shape ``(N, *shape)``."""
        return self.arrays(count)

    def add(self, leaves: Leaves, rows: Leaves, scales: Leaves) -> list[Any]:
        """See `Directions.add`; the direction is given by its leaves."""
        return [
            x + (scale.astype(u.dtype) * u).astype(x.dtype)
            for x, scale, u in zip(leaves, scales, rows, strict=True)
        ]

    points = add

    def arrays(self, count: int) -> Leaves:
        """See `Directions.arrays`."""
        return [u[:count] for u in self.u]

    def sum(
        self, coefficients: Leaves, squared: bool = False, onto: Leaves | None = None
    ) -> list[Any]:
        """See `Directions.sum`."""
        coefficients = [c.astype(u.dtype) for c, u in zip(coefficients, self.u, strict=True)]
        count, *out = coefficients[0].shape
        totals = [jnp.zeros((*out, *u.shape[1:]), u.dtype) for u in self.u]
        totals = totals if onto is None else list(onto)
        if count == 1 and not out and not squared:
            return self.add(totals, [u[0] for u in self.u], [c[0] for c in coefficients])
        return _add_products(totals, self.u, coefficients, squared)

    def gram(self, count: int, dtype: Any) -> Any:
        """See `Directions.gram`."""
        return self._all.gram(count, dtype)


def _add_products(totals: Leaves, drawn: Leaves, coefficients: Leaves, squared: bool) -> list[Any]:
    """Totals plus the sums of directions times coefficients."""
    if squared:
        drawn = [u * u for u in drawn]
    return [
        total + jnp.tensordot(c, u, axes=(0, 0), precision="highest").astype(total.dtype)
        for total, c, u in zip(totals, coefficients, drawn, strict=True)
    ]


class DirectionTable:
    """Directions given as arrays: what a host function gets, drawn before the call.

    Args:
        u: for each leaf an array of shape ``(N, *shape)``.
    """

    def __init__(self, u: Leaves) -> None:
        self.u = u

    point_bytes = 0
    even = False

    def held(self, count: int) -> DirectionTable:
        """See `Directions.held`."""
        del count
        return self

    def described(self, count: int) -> Leaves:
        """For each leaf the directions, shape ``(N, *shape)``."""
        return self.arrays(count)

    def add(self, leaves: Leaves, rows: Leaves, scales: Leaves) -> list[Any]:
        """See `Directions.add`; in a kernel that only learns shapes."""
        moved = zip(leaves, scales, rows, strict=True)
        return [x + scale.astype(x.dtype) * u.astype(x.dtype) for x, scale, u in moved]

    points = add

    def arrays(self, count: int) -> Leaves:
        """See `Directions.arrays`."""
        return [u[:count] for u in self.u]

    def sum(
        self, coefficients: Leaves, squared: bool = False, onto: Leaves | None = None
    ) -> list[Any]:
        """See `Directions.sum`."""
        result = []
        for c, u in zip(coefficients, self.u, strict=True):
            u = u.astype(c.dtype)
            flat = (u * u if squared else u).reshape(u.shape[0], -1)
            total = c.reshape(c.shape[0], -1).T @ flat
            result.append(total.reshape(*c.shape[1:], *u.shape[1:]))
        return result if onto is None else added(onto, result)

    def gram(self, count: int, dtype: Any) -> Any:
        """See `Directions.gram`."""
        flat = [u.reshape(count, -1).astype(dtype) for u in self.u]
        return sum(v @ v.T for v in flat)


def added(onto: Leaves, sums: Leaves) -> list[Any]:
    """Leaves plus sums, in the leaves' dtypes."""
    return [x + total.astype(x.dtype) for x, total in zip(onto, sums, strict=True)]
