"""Pytrees of real arrays as one vector, and boxes around them.

It exists because a quasi-Newton method is written in vectors. It must not know what they are for.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxfd._arrays import bind, cut, flatten, widest
from jaxfd._points import check_bounds, walls_of


class Vectors:
    """Takes pytrees like ``x`` to vectors in their widest dtype, and back.

    Args:
        x: the pytree.
    """

    def __init__(self, x: PyTree) -> None:
        leaves, self._tree = jax.tree.flatten(x)
        self._shapes = list(map(jnp.shape, leaves))
        self._dtypes = list(map(jnp.result_type, leaves))
        self.dtype = widest(self._dtypes)
        self.size = sum(map(math.prod, self._shapes))
        self.kind: Hashable = (self._tree, tuple(self._shapes), tuple(map(str, self._dtypes)))

    def flat(self, x: PyTree) -> Float[Array, "n"]:
        """The vector of a pytree."""
        vector: Array = flatten(jnp, jax.tree.leaves(x), 0, self.dtype)
        return vector

    def tree(self, v: Float[Array, "n"]) -> PyTree:
        """The pytree of a vector."""
        parts = zip(cut(v, self._shapes), self._dtypes, strict=True)
        leaves = [part.astype(dtype) for part, dtype in parts]
        return jax.tree.unflatten(self._tree, leaves)


def box_of(x: PyTree, bounds: tuple[PyTree, PyTree] | None) -> tuple[PyTree, PyTree] | None:
    """The lower and the upper wall of every entry: pytrees like ``x``."""
    if bounds is None:
        return None
    arguments = bind("minimize", (x,), {}, 0)
    check_bounds(arguments, bounds)
    leaves, tree = jax.tree.flatten(x)

    def whole(walls: list[Any]) -> PyTree:
        pairs = zip(walls, leaves, strict=True)
        every = [jnp.broadcast_to(jnp.asarray(w, z.dtype), z.shape) for w, z in pairs]
        return jax.tree.unflatten(tree, every)

    lower, upper = walls_of(arguments, bounds)
    return whole(lower), whole(upper)


def inside(x: PyTree, box: tuple[PyTree, PyTree] | None) -> PyTree:
    """The nearest point in a box."""
    return x if box is None else jax.tree.map(jnp.clip, x, *box)
