"""Matrices of low rank: a population at the price of one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxfd._arrays import count_of, register
from jaxfd._jaxpr import Factored
from jaxfd._random import draws as _draws
from jaxfd._random.directions import Directions, Leaves
from jaxfd._random.methods import STATIC, RandomDirections


class LowRankMatrices(Directions):
    """Matrices ``A B^T / sqrt(rank)`` with normal factors; normal entries for leaves that are none.

    The leading axes of a leaf of more than two count as one.
    """

    def __init__(self, key: Any, like: Leaves, rank: int) -> None:
        super().__init__(key, like)
        self._rank = rank

    def _is_matrix(self, leaf: int) -> bool:
        """Whether factors are smaller than the leaf."""
        *rows, columns = self.shapes[leaf] or (1,)
        return bool(self._rank * (math.prod(rows) + columns) < self.sizes[leaf])

    def _factors(self, i: Any, leaf: int) -> tuple[Any, Any]:
        *rows, columns = self.shapes[leaf]
        m, dtype = math.prod(rows), self.dtypes[leaf]
        both = _draws.normals(self.key_of(i, leaf), (m + columns, self._rank), dtype)
        return both[:m] / np.asarray(math.sqrt(self._rank), dtype), both[m:]

    def add(self, leaves: Leaves, i: Any, scales: Leaves) -> list[Any]:
        points = self.points(leaves, i, scales)
        return [x.dense() if isinstance(x, Factored) else x for x in points]

    def points(self, leaves: Leaves, i: Any, scales: Leaves) -> list[Any]:
        return [
            x.dense().reshape(shape) if isinstance(x, Factored) and len(shape) != 2 else x
            for x, shape in zip(self._moved(leaves, i, scales), self.shapes, strict=True)
        ]

    def _moved(self, leaves: Leaves, i: Any, scales: Leaves) -> list[Any]:
        result: list[Any] = []
        for leaf, (x, scale) in enumerate(zip(leaves, scales, strict=True)):
            if self._is_matrix(leaf):
                left, right = self._factors(i, leaf)
                left = (scale.astype(left.dtype) * left).astype(x.dtype)
                base = x.reshape(-1, x.shape[-1])
                result.append(Factored(base, left, right.astype(x.dtype)))
            else:
                result.append(_draws.add_normals(x, self.key_of(i, leaf), scale))
        return result

    @property
    def numbers(self) -> list[int]:
        return [
            self._rank * (size // shape[-1] + shape[-1]) if self._is_matrix(leaf) else size
            for leaf, (size, shape) in enumerate(zip(self.sizes, self.shapes, strict=True))
        ]

    def _add_block(
        self, totals: list[Any], ids: Any, coefficients: Leaves, squared: bool
    ) -> list[Any]:
        if squared:
            return super()._add_block(totals, ids, coefficients, squared)
        result = []
        for leaf, (total, c) in enumerate(zip(totals, coefficients, strict=True)):
            if self._is_matrix(leaf):
                left, right = jax.vmap(lambda i, leaf=leaf: self._factors(i, leaf))(ids)
                found = jnp.einsum("b...,bmr,bkr->...mk", c, left, right, precision="highest")
            else:
                shape, dtype = self.shapes[leaf], self.dtypes[leaf]
                drawn = jax.vmap(
                    lambda key, shape=shape, dtype=dtype: _draws.normals(key, shape, dtype)
                )(jax.vmap(lambda i, leaf=leaf: self.key_of(i, leaf))(ids))
                found = jnp.tensordot(c, drawn, axes=(0, 0), precision="highest")
            result.append(total + found.reshape(total.shape).astype(total.dtype))
        return result


@register
@dataclasses.dataclass(frozen=True, repr=False)
class LowRank(RandomDirections):
    """Differences along matrices of low rank: a population at the price of one.

    Each matrix leaf moves along ``A B^T / sqrt(rank)`` with normal ``A`` and ``B``. Products with
    such a matrix are formed from the factors, and the product with the leaf itself once for all
    samples where its other operand is the same for all. Other leaves move along normal numbers.

    Args:
        key: as for `SPSA`.
        num_samples: as for `SPSA`.
        rank: the rank of the moves. A higher one is closer to normal directions in what it does
            to the function, but no more accurate on average.
        sigma: as for `SPSA`.
        antithetic: as for `SPSA`.
        baseline: as for `SPSA`.
        shaping: as for `SPSA`.
        combine: as for `SPSA`.

    Raises:
        TypeError, ValueError: as for `SPSA`; ``rank`` is below 1.

    Example:
        >>> import jax, jax.numpy as jnp, jaxfd
        >>> def loss(w):
        ...     return jnp.mean(jnp.maximum(jnp.ones((4, 32)) @ w, 0.0))
        >>> method = jaxfd.LowRank(jax.random.key(0), num_samples=64, rank=1, sigma=0.01)
        >>> print(jaxfd.grad(loss, method=method)(jnp.ones((32, 32))).shape)
        (32, 32)

    Reference:
        B. Sarkar et al., "Evolution strategies at the hyperscale" (EGGROLL), arXiv:2511.16652.
    """

    rank: int = dataclasses.field(default=1, metadata=STATIC)

    # The move of a matrix would no longer be of low rank.
    entrywise = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rank", count_of(self.rank, "LowRank: rank"))

    def directions(self, like: Sequence[Any]) -> Directions:
        return LowRankMatrices(self.key, like, self.rank)
