"""Normal directions: the gradient of a blurred function."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxfd._arrays import register
from jaxfd._random import draws as _draws
from jaxfd._random.directions import Directions, Leaves
from jaxfd._random.methods import RandomDirections


class Normals(Directions):
    """Standard normal entries."""

    exact = True

    def add(self, leaves: Leaves, i: Any, scales: Leaves) -> list[Any]:
        return [
            _draws.add_normals(x, self.key_of(i, leaf), scale)
            for leaf, (x, scale) in enumerate(zip(leaves, scales, strict=True))
        ]


@register
@dataclasses.dataclass(frozen=True, repr=False)
class GaussianSmoothing(RandomDirections):
    """Differences along normal directions: the gradient of the function blurred by ``sigma``.

    The estimate's mean is exactly the gradient of ``E f(x + sigma u)``, whatever the function:
    steps and jumps are seen by how often they are crossed.

    Args:
        key: as for `SPSA`.
        num_samples: as for `SPSA`.
        sigma: the width of the blur, as for `SPSA`; there is no default.
        antithetic: as for `SPSA`.
        baseline: as for `SPSA`.
        shaping: as for `SPSA`.
        combine: as for `SPSA`.

    Raises:
        TypeError, ValueError: as for `SPSA`; when used, ``sigma`` is missing.

    Example:
        >>> import jax, jax.numpy as jnp, jaxfd
        >>> method = jaxfd.GaussianSmoothing(jax.random.key(0), 10_000, sigma=0.5)
        >>> step = jaxfd.grad(lambda x: jnp.where(x > 0, 1.0, 0.0), method=method)(0.0)
        >>> print(f"{step:.1f}")  # of a step blurred by 0.5: 1 / (0.5 sqrt(2 pi))
        0.8

    Reference:
        Y. Nesterov and V. Spokoiny, "Random gradient-free minimization of convex functions",
        Found. Comput. Math. 17 (2017) 527-566; T. Salimans et al., "Evolution strategies as a
        scalable alternative to reinforcement learning", arXiv:1703.03864.
    """

    sigma: Any = None

    def check(self) -> None:
        super().check()
        if self.sigma is None:
            raise TypeError(
                "GaussianSmoothing needs sigma, the width over which the function is blurred: "
                "set sigma=0.1, say."
            )

    def directions(self, like: Sequence[Any]) -> Directions:
        return Normals(self.key, like)
