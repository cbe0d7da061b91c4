"""Random signs: simultaneous perturbation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxfd._arrays import register
from jaxfd._random import draws as _draws
from jaxfd._random.directions import Directions, Leaves
from jaxfd._random.methods import RandomDirections


class Signs(Directions):
    """Entries +1 and -1, each with probability one half."""

    exact = True
    even = True

    def add(self, leaves: Leaves, i: Any, scales: Leaves) -> list[Any]:
        return [
            _draws.add_signs(x, _draws.words(self.key_of(i, leaf), x.size), scale)
            for leaf, (x, scale) in enumerate(zip(leaves, scales, strict=True))
        ]


@register
@dataclasses.dataclass(frozen=True, repr=False)
class SPSA(RandomDirections):
    """Differences along random signs: all entries move at once, by ``+sigma`` or ``-sigma``.

    The cheapest directions to make, and no less accurate than any other independent ones. One
    sample says as much of a gradient of ``n`` entries as ``1/n`` of a full difference. For an
    optimiser that is often enough: the noise of many steps averages out.

    Directions are made anew from the key wherever they are needed and never kept: memory for any
    number of samples is that of one point. As many points as fit into a cache are evaluated at
    once, whatever ``chunk_size``: the result is the same to the last bit. Samples whose values are
    not finite are left out. ``jvp``, ``hvp``, ``hessian`` and ``derivative`` have directions of
    their own: there the method stands for its stencil, with step ``sigma``. ``Estimate.error`` is
    the standard error of the mean. With ``bounds``, points are clipped.

    Args:
        key: a PRNG key. The same key makes the same directions; take a new one for each step.
        num_samples: the number of directions, each of two evaluations, or one if one-sided.
        sigma: how far points go, in the argument's units: a positive number, a pytree of one for
            each leaf, a `Relative` (of each leaf's largest entry), or None for ``Relative()``,
            which suits smooth functions. An entry that would not move for rounding goes as far as
            moves it, about (along `Orthogonal` directions the default); so does all of a leaf of
            `LowRank`, of a million entries or more, or of a step in place, by its largest entry.
        antithetic: whether each direction is taken both ways. One-sided costs half as much and
            one evaluation at ``x``, and is right to a lower order of ``sigma``.
        baseline: what one-sided values are compared with: ``"centre"``, the value at ``x``, or
            ``"leave_one_out"``, the mean of the other samples.
        shaping: ``"rank"`` puts the ranks of all values, from -1/2 to 1/2, in their place,
            ``"standardized"`` brings values to mean 0 and deviation 1; for losses with outliers.
            The result then points along the gradient, but has another length.
        combine: ``"mean"``, or ``"least_squares"``: the shortest gradient that explains all
            differences; closer than the mean, but drawn towards zero where there are fewer samples
            than entries.

    Raises:
        TypeError: ``num_samples`` is no integer; when used, ``key`` is missing or no PRNG key.
        ValueError: an option is out of range.

    Example:
        >>> import jax, jax.numpy as jnp, jaxfd
        >>> method = jaxfd.SPSA(jax.random.key(0), num_samples=4000, sigma=0.1)
        >>> slopes = jaxfd.grad(lambda x: jnp.sum(x**2), method=method)(jnp.array([1.0, -2.0]))
        >>> print(jnp.abs(slopes - jnp.array([2.0, -4.0])).max() < 0.2)
        True

    Reference:
        J. Spall, "Multivariate stochastic approximation using a simultaneous perturbation gradient
        approximation", IEEE Trans. Automatic Control 37 (1992) 332-341. The memory: S. Malladi et
        al., "Fine-tuning language models with just forward passes", NeurIPS 2023.
    """

    def directions(self, like: Sequence[Any]) -> Directions:
        return Signs(self.key, like)
