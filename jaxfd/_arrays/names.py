"""Entries of a tree as people write them: ``spring.k`` and ``gain[2]``.

Tables, pictures and errors speak of entries. This room exists so that they all use the same names;
it must not know what is said of the entries.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jax import tree_util
from jaxtyping import PyTree


def path_name(path: Sequence[Any]) -> str:
    """Names a leaf as the user's code would: ``['rates'][0]``; empty for a bare array."""
    return tree_util.keystr(tuple(path))


def leaf_name(path: Sequence[Any]) -> str:
    """Names a leaf as tables do: ``rates[0]``; ``x`` for a bare array."""
    name = "".join(map(_step_in, path))
    if name.startswith(("['", '["')):
        return name
    return name[1:] if name.startswith(".") else f"x{name}"


def _step_in(key: Any) -> str:
    """One key of a path, as it is written behind what it is a part of."""
    if isinstance(key, tree_util.GetAttrKey):
        return f".{key.name}"
    inner = key.key if hasattr(key, "key") else key.idx
    # A text that is written like a path could be one.
    plain = isinstance(inner, str) and inner and not set(inner) & set(".[]'\"")
    return f".{inner}" if plain else f"[{inner!r}]"


def entry_names(tree: PyTree, most: int | None = None) -> list[str]:
    """Names every entry of every leaf, leaf by leaf, the last axis fastest.

    Args:
        tree: leaves of any shapes.
        most: how many names are wanted, from the first on; None for all.

    Example:
        >>> import numpy as np
        >>> entry_names({"spring": {"k": 2.0}, "gain": np.ones(2)})
        ['gain[0]', 'gain[1]', 'spring.k']
        >>> entry_names(np.ones(2))
        ['x[0]', 'x[1]']
    """
    return list(itertools.islice(_names(tree), most))


def _names(tree: PyTree) -> Iterator[str]:
    for path, leaf in tree_util.tree_flatten_with_path(tree)[0]:
        name = leaf_name(path)
        for index in np.ndindex(np.shape(leaf)):
            yield name + (f"[{','.join(map(str, index))}]" if index else "")
