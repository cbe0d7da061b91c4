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

from jaxfd._arrays import cut, entry_names, is_array
from jaxfd.optim._rows.spread import real_array
from jaxfd.optim._state import key_bits


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
        self._bare = tree_util.treedef_is_leaf(self.tree) and bool(self.moving)
        self.start: np.ndarray = self.row(x, "x0")

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

    @property
    def names(self) -> list[str]:
        """What the entries of the row are called."""
        blank = np.zeros(0)
        whole = [blank] * len(self._leaves)
        for i, shape in zip(self.moving, self.shapes, strict=True):
            whole[i] = np.zeros(shape)
        return entry_names(tree_util.tree_unflatten(self.tree, whole))

    def row(self, x: PyTree, what: str = "x") -> Float[np.ndarray, "n"]:
        """The numbers of a pytree of the same structure, where this one has real leaves.

        Args:
            x: the pytree.
            what: what errors call it.

        Raises:
            TypeError, ValueError: it holds something else there, or masked numbers.
        """
        leaves = tree_util.tree_leaves(x)
        parts = [real_array(leaves[i], what).reshape(-1) for i in self.moving]
        return np.concatenate(parts) if parts else np.zeros(0)

    def build(self, leaves: Sequence[Any]) -> PyTree:
        """The pytree with these in place of its real leaves."""
        return leaves[0] if self._bare else self._with(self._leaves, leaves)

    def zeros(self, leaves: Sequence[Any]) -> PyTree:
        """The same with 0 for the other leaves, shaped like them."""
        blank = [np.zeros(np.shape(leaf)) if is_array(leaf) else 0.0 for leaf in self._leaves]
        return self._with([0.0 if np.shape(b) == () else b for b in blank], leaves)

    def _with(self, rest: Sequence[Any], leaves: Sequence[Any]) -> PyTree:
        whole = list(rest)
        for i, leaf in zip(self.moving, leaves, strict=True):
            whole[i] = leaf
        return tree_util.tree_unflatten(self.tree, whole)


def _is_real(leaf: Any) -> bool:
    if isinstance(leaf, (float, np.ndarray)) and np.asarray(leaf).dtype.kind == "f":
        return True
    return is_array(leaf) and jnp.issubdtype(jnp.result_type(leaf), np.floating)


def _exact(leaf: Any) -> Any:
    """Something hashable that no other leaf has; None where there is none."""
    if is_array(leaf):
        array = np.asarray(key_bits(leaf))
        if array.dtype.hasobject:
            return None
        return str(getattr(leaf, "dtype", None)), array.shape, array.tobytes()
    return (type(leaf), leaf) if isinstance(leaf, (int, str, bytes, bool)) else None
