"""The entries of a pytree side by side, as reports count with them, and checks before a report.

Reports are written in rows of float64. This room must not know what is reported of the entries.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jaxtyping import PyTree, Shaped

from jaxfd._arrays import cut, flatten, is_array, leaf_name


def flat(tree: PyTree, lead: int = 0, dtype: Any = np.float64) -> Shaped[np.ndarray, "*lead n"]:
    """All entries of a tree side by side, in the order of their names.

    Args:
        tree: real leaves of shape ``(*lead, *shape)``.
        lead: how many leading axes all leaves share.
        dtype: what the entries become.
    """
    leaves = [np.asarray(leaf) for leaf in tree_util.tree_leaves(tree)]
    row: np.ndarray = flatten(np, leaves, lead, dtype) if leaves else np.zeros(0, dtype)
    return row


def numbers(tree: PyTree) -> Shaped[np.ndarray, "n"]:
    """All entries of a tree side by side: complex where one of them is, else in float64."""
    some = any(np.iscomplexobj(leaf) for leaf in tree_util.tree_leaves(tree))
    return flat(tree, dtype=np.complex128 if some else np.float64)


def unflat(values: Shaped[np.ndarray, "*lead n"], like: PyTree) -> PyTree:
    """Undoes `flat`: leaves of shape ``(*lead, *shape)`` in the structure of ``like``."""
    leaves, tree = tree_util.tree_flatten(like)
    return tree_util.tree_unflatten(tree, cut(values, list(map(np.shape, leaves))))


def like(tree: PyTree, x: PyTree) -> PyTree:
    """The numbers of a tree in the dtypes of another."""
    return tree_util.tree_map(lambda a, b: a.astype(jnp.result_type(b)), tree, x)


def check_real(caller: str, x: PyTree, real: bool = True) -> None:
    """Raises TypeError unless every leaf holds floating numbers that are known by now.

    Args:
        caller: what errors call the caller.
        x: the leaves.
        real: whether complex numbers are refused.
    """
    kinds = np.floating if real else np.inexact
    for path, leaf in tree_util.tree_flatten_with_path(x)[0]:
        name = leaf_name(path)
        if isinstance(leaf, jax.core.Tracer):
            raise TypeError(
                f"{caller} reports numbers, but {name} is traced: call it outside of jit, vmap "
                "and grad, or use jaxfd.estimate there."
            )
        dtype = jnp.result_type(leaf) if is_array(leaf) else type(leaf)
        if not is_array(leaf) or not jnp.issubdtype(dtype, kinds):
            kind = dtype.__name__ if isinstance(dtype, type) else str(dtype)
            raise TypeError(
                f"{caller} needs {'real ' * real}floating numbers, but {name} is {leaf!r:.60} "
                f"({kind}): convert it (2.0 in place of 2), or leave it out of x and let fun close "
                "over it."
            )
