"""Pytrees of real arrays as one row, and boxes around them.

It exists because a quasi-Newton method is written in rows. It must not know what they are for.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from jaxfd._arrays import bind, cut, flatten
from jaxfd._points import check_bounds, walls_of


class Vectors:
    """Takes pytrees like ``x`` to rows of float64, and back.

    Args:
        x: the pytree.
    """

    def __init__(self, x: PyTree) -> None:
        leaves, self._tree = jax.tree.flatten(x)
        self._shapes = list(map(np.shape, leaves))
        self._dtypes = [np.dtype(jnp.result_type(leaf)) for leaf in leaves]
        self.size = sum(map(math.prod, self._shapes))

    def flat(self, x: PyTree) -> Float[np.ndarray, "n"]:
        """The row of a pytree."""
        row: np.ndarray = flatten(np, list(map(np.asarray, jax.tree.leaves(x))), 0, np.float64)
        return row

    def tree(self, v: Float[np.ndarray, "n"]) -> PyTree:
        """The pytree of a row, as NumPy's arrays."""
        return jax.tree.unflatten(self._tree, self._parts(v))

    def wide(self, v: Float[np.ndarray, "n"]) -> PyTree:
        """The same in float64."""
        return jax.tree.unflatten(self._tree, cut(v, self._shapes))

    def rounded(self, v: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """The row as the pytree's dtypes hold it."""
        row: np.ndarray = flatten(np, self._parts(v), 0, np.float64)
        return row

    def _parts(self, v: Float[np.ndarray, "n"]) -> list[np.ndarray]:
        pairs = zip(cut(v, self._shapes), self._dtypes, strict=True)
        return [part.astype(dtype) for part, dtype in pairs]


def box_of(x: PyTree, bounds: tuple[PyTree, PyTree] | None) -> tuple[PyTree, PyTree] | None:
    """The lower and the upper wall of every entry: pytrees like ``x``."""
    if bounds is None:
        return None
    arguments = bind("minimize", (x,), {}, 0)
    check_bounds(arguments, bounds)
    leaves, tree = jax.tree.flatten(x)

    def whole(walls: list[Any]) -> PyTree:
        pairs = zip(walls, leaves, strict=True)
        every = [np.broadcast_to(np.asarray(w).astype(z.dtype), np.shape(z)) for w, z in pairs]
        return jax.tree.unflatten(tree, every)

    lower, upper = walls_of(arguments, bounds)
    return whole(lower), whole(upper)


def inside(x: PyTree, box: tuple[PyTree, PyTree] | None) -> PyTree:
    """The nearest point in a box."""
    return x if box is None else jax.tree.map(jnp.clip, x, *box)
