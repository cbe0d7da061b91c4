"""Pytrees as rows of float64, and back.

It exists because optimisers on the host are written in rows. It must not know what the numbers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jaxtyping import Float, PyTree

from jaxfd._arrays import cut, is_array


class Layout:
    """A pytree whose real leaves are one row of float64; other leaves stay what they are.

    Args:
        x: the pytree.

    Attributes:
        start: its numbers, shape ``(n,)``.
        fixed: what tells its other leaves from others; None where nothing does.
    """

    def __init__(self, x: PyTree) -> None:
        self._leaves, self.tree = tree_util.tree_flatten(x)
        self.moving = [i for i, leaf in enumerate(self._leaves) if _is_real(leaf)]
        self.shapes = [np.shape(self._leaves[i]) for i in self.moving]
        parts = [np.asarray(self._leaves[i], np.float64).reshape(-1) for i in self.moving]
        self.start: np.ndarray = np.concatenate(parts) if parts else np.zeros(0)

        others = [leaf for i, leaf in enumerate(self._leaves) if i not in self.moving]
        self.fixed: tuple[Any, ...] | None = tuple(map(_exact, others))
        if None in self.fixed:
            self.fixed = None

    @property
    def given(self) -> list[Any]:
        """The real leaves as they came: Python's floats have weak types in JAX."""
        return [self._leaves[i] for i in self.moving]

    def leaves(self, rows: Float[np.ndarray, "*m n"]) -> list[np.ndarray]:
        """The real leaves of one point or of many, ``(*m, *shape)`` each."""
        return cut(rows, self.shapes)

    def build(self, leaves: Sequence[Any]) -> PyTree:
        """The pytree with these in place of its real leaves."""
        whole = list(self._leaves)
        for i, leaf in zip(self.moving, leaves, strict=True):
            whole[i] = leaf
        return tree_util.tree_unflatten(self.tree, whole)


def _is_real(leaf: Any) -> bool:
    return is_array(leaf) and jnp.issubdtype(jnp.result_type(leaf), np.floating)


def _exact(leaf: Any) -> Any:
    """Something hashable that no other leaf has; None where there is none."""
    if is_array(leaf):
        array = np.asarray(leaf)
        return array.dtype.str, array.shape, array.tobytes()
    return (type(leaf), leaf) if isinstance(leaf, (int, str, bytes, bool)) else None
