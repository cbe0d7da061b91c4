"""Entries as people write them: the names of what is in a pytree, and checks before a report.

Tables and pictures speak of ``spring.k`` and ``gain[2]``. This room exists so that they all use
the same names; it must not know what is reported of the entries.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jaxtyping import Float, PyTree

from jaxfd._arrays import is_array


def _step_in(key: Any) -> str:
    """One key of a path, as it is written behind what it is a part of."""
    if isinstance(key, tree_util.GetAttrKey):
        return f".{key.name}"
    inner = key.key if hasattr(key, "key") else key.idx
    return f".{inner}" if isinstance(inner, str) else f"[{inner!r}]"


def _leaf_name(path: tuple[Any, ...]) -> str:
    name = "".join(_step_in(key) for key in path)
    return name[1:] if name.startswith(".") else f"x{name}"


def entry_names(tree: PyTree) -> list[str]:
    """Names every entry of every leaf, in the order in which `flat` has them.

    Example:
        >>> import numpy as np
        >>> entry_names({"spring": {"k": 2.0}, "gain": np.ones(2)})
        ['gain[0]', 'gain[1]', 'spring.k']
        >>> entry_names(np.ones(2))
        ['x[0]', 'x[1]']
    """
    names = []
    for path, leaf in tree_util.tree_flatten_with_path(tree)[0]:
        name = _leaf_name(path)
        for index in np.ndindex(np.shape(leaf)):
            names.append(name + (f"[{','.join(map(str, index))}]" if index else ""))
    return names


def flat(tree: PyTree, lead: int = 0) -> Float[np.ndarray, "*lead n"]:
    """All entries of a tree side by side, in float64.

    Args:
        tree: real leaves of shape ``(*lead, *shape)``.
        lead: how many leading axes all leaves share.
    """
    rows = []
    for leaf in tree_util.tree_leaves(tree):
        array = np.asarray(leaf).astype(np.float64)
        rows.append(array.reshape((*array.shape[:lead], int(np.prod(array.shape[lead:])))))
    return np.concatenate(rows, axis=lead) if rows else np.zeros(0)


def unflat(values: Float[np.ndarray, "*lead n"], like: PyTree) -> PyTree:
    """Undoes `flat`: leaves of shape ``(*lead, *shape)`` in the structure of ``like``."""
    leaves, tree = tree_util.tree_flatten(like)
    cut, start = [], 0
    for leaf in leaves:
        stop = start + int(np.size(leaf))
        cut.append(values[..., start:stop].reshape((*values.shape[:-1], *np.shape(leaf))))
        start = stop
    return tree_util.tree_unflatten(tree, cut)


def like(tree: PyTree, x: PyTree) -> PyTree:
    """The numbers of a tree in the dtypes of another."""
    return tree_util.tree_map(lambda a, b: a.astype(jnp.result_type(b)), tree, x)


def check_real(caller: str, x: PyTree) -> None:
    """Raises TypeError unless every leaf holds floating numbers that are known by now."""
    for path, leaf in tree_util.tree_flatten_with_path(x)[0]:
        name = _leaf_name(path)
        if isinstance(leaf, jax.core.Tracer):
            raise TypeError(
                f"{caller} reports numbers, but {name} is traced: call it outside of jit, vmap "
                "and grad, or use jaxfd.estimate there."
            )
        dtype = jnp.result_type(leaf) if is_array(leaf) else type(leaf)
        if not is_array(leaf) or not jnp.issubdtype(dtype, np.floating):
            kind = dtype.__name__ if isinstance(dtype, type) else str(dtype)
            raise TypeError(
                f"{caller} needs real floating numbers, but {name} is {leaf!r:.60} ({kind}): "
                "convert it (2.0 in place of 2), or leave it out of x and let fun close over it."
            )
