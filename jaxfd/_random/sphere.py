"""Directions uniform on a sphere."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxfd._arrays import register
from jaxfd._random import draws as _draws
from jaxfd._random.directions import Directions, Leaves
from jaxfd._random.gaussian import Normals
from jaxfd._random.methods import RandomDirections


class OnSphere(Normals):
    """Uniform on the sphere of radius ``sqrt(n)``."""

    exact = False

    def add(self, leaves: Leaves, i: Any, scales: Leaves) -> list[Any]:
        total = jnp.zeros((), self.common)
        for leaf, (size, dtype) in enumerate(zip(self.sizes, self.dtypes, strict=True)):
            found = _draws.squared_length(self.key_of(i, leaf), size, dtype)
            total = total + found.astype(self.common)
        factor = jnp.sqrt(np.asarray(self.size, self.common) / total)
        return super().add(leaves, i, [s * factor.astype(s.dtype) for s in scales])


@register
@dataclasses.dataclass(frozen=True, repr=False)
class Sphere(RandomDirections):
    """Differences along directions uniform on a sphere, of radius ``sigma sqrt(n)``.

    Like `GaussianSmoothing`, without its variation of lengths: a little less noise for few
    entries. Each direction is drawn twice, once for its length.

    Args:
        key: as for `SPSA`.
        num_samples: as for `SPSA`.
        sigma: as for `SPSA`: the root mean square of how far an entry goes.
        antithetic: as for `SPSA`.
        baseline: as for `SPSA`.
        shaping: as for `SPSA`.
        combine: as for `SPSA`.

    Raises:
        TypeError, ValueError: as for `SPSA`.

    Example:
        >>> import jax, jaxfd
        >>> method = jaxfd.Sphere(jax.random.key(0), num_samples=8)
        >>> print(f"{jaxfd.grad(lambda x: x**2, method=method)(3.0):.3f}")
        6.000

    Reference:
        A. Flaxman, A. Kalai, H. McMahan, "Online convex optimization in the bandit setting",
        SODA 2005.
    """

    def directions(self, like: Sequence[Any]) -> Directions:
        return OnSphere(self.key, like)
