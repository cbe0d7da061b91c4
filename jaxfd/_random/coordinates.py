"""A random choice of coordinates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxfd._arrays import register
from jaxfd._random.directions import Directions, Leaves, added
from jaxfd._random.methods import RandomDirections


class UnitVectors(Directions):
    """Unit vectors of a random choice of coordinates."""

    even = True

    def __init__(self, key: Any, like: Leaves, count: int) -> None:
        super().__init__(key, like)
        every = lax.iota(np.int32, self.size)
        # Without entries there is nothing to choose from.
        order = jax.random.permutation(self.key, every) if self.size else jnp.zeros(count, np.int32)
        self._chosen = order[:count]
        self._ends = np.cumsum([0, *self.sizes])

    def add(self, leaves: Leaves, i: Any, scales: Leaves) -> list[Any]:
        chosen = self._chosen[i]
        result = []
        for leaf, (x, scale) in enumerate(zip(leaves, scales, strict=True)):
            where = lax.iota(np.int32, x.size).reshape(x.shape) + np.int32(self._ends[leaf])
            result.append(jnp.where(where == chosen, x + scale.astype(x.dtype), x))
        return result

    def sum(
        self, coefficients: Leaves, squared: bool = False, onto: Leaves | None = None
    ) -> list[Any]:
        del squared  # ones either way
        result = []
        for leaf, (c, dtype) in enumerate(zip(coefficients, self.dtypes, strict=True)):
            index = self._chosen[: c.shape[0]] - np.int32(self._ends[leaf])
            size, out = self.sizes[leaf], c.shape[1:]
            index = jnp.where(index < 0, np.int32(size), index)
            # What no sample has told is unknown of all entries, not of the chosen ones alone.
            lost = jnp.where(jnp.isnan(c[0]), np.nan, 0).astype(dtype)
            flat = jnp.broadcast_to(lost, (size, *out)).at[index].add(c.astype(dtype), mode="drop")
            result.append(jnp.moveaxis(flat, 0, -1).reshape(*out, *self.shapes[leaf]))
        return result if onto is None else added(onto, result)


@register
@dataclasses.dataclass(frozen=True, repr=False)
class RandomCoordinates(RandomDirections):
    """Differences along a random choice of coordinates, one at a time.

    Each chosen entry is estimated as `Central` would, and counts for all that were not chosen:
    it is multiplied by ``n / num_samples``. For functions that bear moves of one entry only.
    ``Estimate.error`` is infinite for entries that were not chosen, or whose samples are lost.

    Args:
        key: as for `SPSA`.
        num_samples: how many coordinates, at most the number of entries.
        sigma: as for `SPSA`.
        antithetic: as for `SPSA`.
        baseline: as for `SPSA`, but not ``"leave_one_out"``.
        shaping: as for `SPSA`.
        combine: ``"mean"``, or ``"least_squares"`` for the chosen entries as they are and zeros
            for the others.

    Raises:
        TypeError, ValueError: as for `SPSA`; when used, ``num_samples`` is more than the number of
            entries.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, jaxfd
        >>> method = jaxfd.RandomCoordinates(jax.random.key(0), num_samples=2)
        >>> slopes = jaxfd.grad(lambda x: jnp.sum(x**2), method=method)(jnp.array([1.0, -2.0]))
        >>> print(np.asarray(slopes).round(3))
        [ 2. -4.]

    Reference:
        Y. Nesterov, "Efficiency of coordinate descent methods on huge-scale optimization
        problems", SIAM J. Optim. 22 (2012) 341-362.
    """

    independent = False
    everywhere = False

    def check_size(self, size: int) -> None:
        if 0 < size < self.num_samples:
            raise ValueError(
                f"RandomCoordinates: num_samples is {self.num_samples}, but there are only {size} "
                "entries: take fewer."
            )

    def directions(self, like: Sequence[Any]) -> Directions:
        return UnitVectors(self.key, like, self.num_samples)

    def weights(self, xp: Any, good: Any, size: int) -> Any:
        return super().weights(xp, good, size) * np.asarray(size, good.dtype)
