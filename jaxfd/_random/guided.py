"""A given subspace, and what is orthogonal to it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jaxtyping import PyTree

from jaxfd._arrays import is_complex, register
from jaxfd._random import draws as _draws
from jaxfd._random.directions import Directions, Leaves
from jaxfd._random.methods import RandomDirections


class AroundSubspace(Directions):
    """First the basis of a subspace, then normal directions orthogonal to it.

    Args:
        key: the key.
        like: the leaves.
        subspace: vectors that span the subspace, leaves of shape ``(k, *shape)``.
    """

    def __init__(self, key: Any, like: Leaves, subspace: Leaves) -> None:
        super().__init__(key, like)
        count = subspace[0].shape[0]
        flat = [v.reshape(count, -1).astype(self.common) for v in subspace]
        longest = jnp.max(jnp.stack([jnp.max(jnp.abs(v), initial=0) for v in flat]))
        flat = [v / jnp.where(longest > 0, longest, 1) for v in flat]
        gram = sum(jnp.matmul(v, v.T, precision="highest") for v in flat)
        size, turn = jnp.linalg.eigh(gram)
        # Vectors that add nothing to the span leave zeros.
        least = np.asarray(float(jnp.finfo(self.common).eps) * count * 10, self.common) * size[-1]
        kept = size > least
        scale = jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, size, 1)), 0)
        turn = (turn * scale).T
        self._basis = [jnp.matmul(turn, v, precision="highest") for v in flat]
        self._count = count

    def add(self, leaves: Leaves, i: Any, scales: Leaves) -> list[Any]:
        guided = i < self._count
        row = jnp.minimum(i, np.int32(self._count - 1))
        drawn = [
            _draws.normals(self.key_of(i, leaf), (size,), dtype).astype(self.common)
            for leaf, (size, dtype) in enumerate(zip(self.sizes, self.dtypes, strict=True))
        ]
        inside = sum(
            jnp.matmul(b, z, precision="highest") for b, z in zip(self._basis, drawn, strict=True)
        )
        radius = np.asarray(math.sqrt(self.size), self.common)
        result = []
        for x, scale, b, z in zip(leaves, scales, self._basis, drawn, strict=True):
            outside = z - jnp.matmul(inside, b, precision="highest")
            u = jnp.where(guided, radius * b[row], outside).reshape(x.shape)
            result.append(x + (scale * u.astype(scale.dtype)).astype(x.dtype))
        return result


@register
@dataclasses.dataclass(frozen=True, repr=False)
class Guided(RandomDirections):
    """Differences along a given subspace, and along random directions orthogonal to it.

    Where the subspace holds most of the gradient, as past gradients often do, that part is
    found exactly and only the rest is noisy. The estimate has the right mean whatever the
    subspace. In `jaxfd.optim.estimate_gradient` the subspace follows the last gradients by itself.

    Args:
        key: as for `SPSA`.
        num_samples: as for `SPSA`; more than the subspace has vectors, which come first.
        subspace: a pytree like the argument, whose leaves have one more leading axis: ``k``
            vectors. They need be neither orthogonal nor independent; zeros stand for none yet. None
            is for `jaxfd.optim.estimate_gradient` alone.
        sigma: as for `SPSA`.
        antithetic: as for `SPSA`.
        baseline: as for `SPSA`, but not ``"leave_one_out"``.
        shaping: as for `SPSA`; but a shaped value is no slope any more, and what is found along the
            subspace is far off: with ranks the mean of many estimates points elsewhere.
        combine: as for `SPSA`.

    Raises:
        TypeError, ValueError: as for `SPSA`; when used, ``subspace`` does not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxfd
        >>> x = jnp.arange(100.0)
        >>> past = (2 * x + 0.1)[None]  # close to the gradient of the next line
        >>> method = jaxfd.Guided(jax.random.key(0), 11, past)
        >>> slopes = jaxfd.grad(lambda x: jnp.sum(x**2), method=method)(x)
        >>> print(jnp.linalg.norm(slopes - 2 * x) < 0.01 * jnp.linalg.norm(2 * x))
        True

    Reference:
        N. Maheswaranathan et al., "Guided evolutionary strategies", ICML 2019, mixes both kinds
        in one distribution; here they are apart, so that the mean is the gradient.
    """

    subspace: PyTree = None

    independent = False

    def directions(self, like: Sequence[Any]) -> Directions:
        leaves = [jnp.asarray(leaf) for leaf in tree_util.tree_leaves(self.subspace)]
        found, wanted = [v.shape[1:] for v in leaves], [x.shape for x in like]
        if found != wanted or any(is_complex(v) for v in leaves):
            raise ValueError(
                f"Guided: subspace has vectors of shapes {found}, but the argument has real leaves "
                f"of shapes {wanted}: give a pytree like the argument, each leaf real and with one "
                "more leading axis; a complex argument counts as two real ones."
            )
        return AroundSubspace(self.key, like, leaves)

    def check(self) -> None:
        super().check()
        leaves = tree_util.tree_leaves(self.subspace)
        counts = {jnp.shape(leaf)[:1] for leaf in leaves}
        if len(counts) != 1 or counts == {()} or 0 in counts.pop():
            raise ValueError(
                "Guided: subspace must have leaves with one more leading axis than the argument's, "
                f"the same for all, got {[jnp.shape(leaf) for leaf in leaves]}: give k vectors as "
                "an array of shape (k, *shape) for each leaf, jnp.zeros if there are none yet."
            )
        if self.num_samples <= self.fixed:
            raise ValueError(
                f"Guided: num_samples is {self.num_samples}, but the subspace alone takes "
                f"{self.fixed}: take more samples, or a smaller subspace."
            )

    def _brief(self, name: str) -> str:
        if name != "subspace":
            return super()._brief(name)
        counts = [np.shape(leaf)[:1] for leaf in tree_util.tree_leaves(self.subspace)]
        return f"<{counts[0][0]} directions>" if counts and counts[0] else "<no directions>"

    @property
    def fixed(self) -> int:  # type: ignore[override]
        return int(tree_util.tree_leaves(self.subspace)[0].shape[0])

    def weights(self, xp: Any, good: Any, size: int) -> Any:
        count = self.fixed
        inside = good[:count] / np.asarray(size, good.dtype)
        return xp.concatenate([inside, super().weights(xp, good[count:], size)])

    def started(self, params: PyTree) -> Guided:
        """The method of the first step: where no subspace is given half the samples are for it."""
        if self.subspace is not None or self.num_samples < 2:
            return self

        def none(x: Any) -> Any:
            return jnp.zeros((self.num_samples // 2, *jnp.shape(x)), jnp.result_type(x))

        return dataclasses.replace(self, subspace=jax.tree.map(none, params))

    def following(self, key: Any, gradient: PyTree) -> RandomDirections:
        """The method of the next step: the oldest vector makes room for the gradient."""
        if gradient is None:
            return dataclasses.replace(self, key=key)

        def shifted(vectors: Any, new: Any) -> Any:
            return jnp.concatenate([vectors[1:], new[None].astype(vectors.dtype)])

        subspace = jax.tree.map(shifted, self.subspace, gradient)
        return dataclasses.replace(self, key=key, subspace=subspace)
