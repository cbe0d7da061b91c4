"""Directions orthogonal to each other: a random basis, or rows of a Hadamard matrix."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxfd._arrays import register
from jaxfd._random import draws as _draws
from jaxfd._random.directions import Directions, Leaves
from jaxfd._random.methods import RandomDirections

# Up to so many entries an orthogonal basis comes from a QR factorisation.
SMALL = 128


class BasisRows(Directions):
    """Vectors of a uniformly random basis; those after the last one come from a second basis."""

    def __init__(self, key: Any, like: Leaves, count: int) -> None:
        super().__init__(key, like)
        firsts = range(0, count, self.size) if self.size else ()
        numbers = [min(self.size, count - first) for first in firsts]
        rows = [self._basis(block, number) for block, number in enumerate(numbers)]
        self._rows = jnp.concatenate(rows) if rows else jnp.zeros((count, 0))

    def _basis(self, block: int, number: int) -> Float[Array, "k n"]:
        drawn = _draws.normals(self.key_of(block, 0), (self.size, number), self.common)
        basis, corner = jnp.linalg.qr(drawn)
        # With these signs the basis is uniformly distributed.
        turned = basis * jnp.where(jnp.diagonal(corner) < 0, -1, 1).astype(basis.dtype)
        return turned.T * np.asarray(math.sqrt(self.size), basis.dtype)

    def add(self, leaves: Leaves, i: Any, scales: Leaves) -> list[Any]:
        row = self._rows[i]
        ends = np.cumsum([0, *self.sizes])
        result = []
        for leaf, (x, scale) in enumerate(zip(leaves, scales, strict=True)):
            part = row[ends[leaf] : ends[leaf + 1]].reshape(x.shape).astype(scale.dtype)
            result.append(x + (scale * part).astype(x.dtype))
        return result


class HadamardRows(Directions):
    """Rows of a Hadamard matrix with random signs, cut to the leaves.

    Rows of one matrix are orthogonal where nothing is cut off: leaves take one column after the
    other, with no gaps. After as many rows as entries come those of a second matrix with other
    signs.
    """

    even = True

    def __init__(self, key: Any, like: Leaves) -> None:
        super().__init__(key, like)
        self._starts = [int(start) for start in np.cumsum([0, *self.sizes[:-1]])]
        self._flips = jnp.stack([_draws.words(self.key_of(k, 0), self.size) for k in range(2)])

    def add(self, leaves: Leaves, i: Any, scales: Leaves) -> list[Any]:
        size = np.int32(self.size)
        packed = _draws.hadamard(i % size, self._flips.shape[1]) ^ self._flips[i // size]
        return [
            _draws.add_signs(x, _draws.bits_from(packed, start, x.size), scale)
            for x, start, scale in zip(leaves, self._starts, scales, strict=True)
        ]


@register
@dataclasses.dataclass(frozen=True, repr=False)
class Orthogonal(RandomDirections):
    """Differences along directions that are orthogonal to each other: nothing is seen twice.

    With as many samples as entries the gradient is complete, but for what ``sigma`` blurs; with
    fewer the error is that of what was not looked at. For up to 128 entries they are a uniformly
    random basis, beyond that rows of a Hadamard matrix with random signs, cut to the size of the
    argument: exactly orthogonal where that is a power of two.

    Args:
        key: as for `SPSA`.
        num_samples: as for `SPSA`, at most twice the number of entries; those beyond the number of
            entries come from a second basis.
        sigma: as for `SPSA`.
        antithetic: as for `SPSA`.
        baseline: as for `SPSA`, but not ``"leave_one_out"``.
        shaping: as for `SPSA`.
        combine: as for `SPSA`.

    Raises:
        TypeError, ValueError: as for `SPSA`; when used, ``num_samples`` is more than twice the
            number of entries.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, jaxfd
        >>> method = jaxfd.Orthogonal(jax.random.key(0), num_samples=2)
        >>> slopes = jaxfd.grad(lambda x: jnp.sum(x**2), method=method)(jnp.array([1.0, -2.0]))
        >>> print(np.asarray(slopes).round(3))
        [ 2. -4.]

    Reference:
        K. Choromanski et al., "Structured evolution with compact architectures for scalable policy
        optimization", ICML 2018.
    """

    independent = False
    # All of them together are exact, but for rounding.
    coarse = False

    def check_size(self, size: int) -> None:
        if 0 < 2 * size < self.num_samples:
            raise ValueError(
                f"Orthogonal: num_samples is {self.num_samples}, but there are at most {2 * size} "
                f"directions for {size} entries: take fewer, or SPSA."
            )

    def directions(self, like: Sequence[Any]) -> Directions:
        if sum(math.prod(x.shape) for x in like) > SMALL:
            return HadamardRows(self.key, like)
        return BasisRows(self.key, like, self.num_samples)
