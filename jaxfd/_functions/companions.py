"""What the arguments of a call bring along that a function may read: classes, above all.

It exists because a method of an argument is code that the function's own does not name: what that
reads must be watched as well. It must not know what is done with it.
"""

from __future__ import annotations

import collections
import enum
import types
from collections import OrderedDict
from typing import Any

import jax
import numpy as np
from jax import tree_util

from jaxfd._functions.constants import is_constant, is_importable, is_library, is_number

_PLAIN_NODES = (tuple, list, dict, type(None), OrderedDict, collections.deque)
# Structures of nothing but these that are remembered.
_STRUCTURES = 1024
_plain: OrderedDict[Any, None] = OrderedDict()
# Types that bring nothing along, JAX's arrays among them once some were seen.
_quick: set[type] = {int, float, complex, bool, str}


class _StrangerError(Exception):
    """Something that has a state which nobody watches, or that would be kept alive."""


def companions(given: Any) -> tuple[Any, ...] | None:
    """Classes and functions that arguments bring along, to be watched with the function.

    Args:
        given: the arguments, a pytree.

    Returns:
        None where something in them has a state of its own that nobody watches.
    """
    leaves, tree = tree_util.tree_flatten(given)
    found: dict[int, Any] = {}
    try:
        for leaf in leaves:
            if type(leaf) not in _quick and not _is_array(leaf):
                _note(leaf, found)
        if tree not in _plain and _walk(tree, found):
            _remember(tree)
    except (_StrangerError, TypeError):  # a structure that cannot be told from others
        return None
    return tuple(found.values())


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, jax.Array):
        _quick.add(type(leaf))
        return True
    if isinstance(leaf, np.ndarray):
        return leaf.dtype.kind not in "OSUMm"
    return isinstance(leaf, (float, complex))


def _remember(tree: Any) -> None:
    """Notes a structure that holds nothing of anybody's."""
    _plain[tree] = None
    while len(_plain) > _STRUCTURES:
        _plain.popitem(last=False)


def _walk(tree: Any, found: dict[int, Any]) -> bool:
    """Goes through the nodes of a structure; whether Python's own containers are all there is."""
    node = tree.node_data()
    if node is None:
        return True
    kind, own = node
    if kind not in _PLAIN_NODES and not is_constant(kind):
        found[id(kind)] = kind
    # Of a dictionary the keys: what is mutable elsewhere would be kept, and changed there.
    _note(tuple(own) if kind is dict else own, found)
    plain = kind in _PLAIN_NODES and (own is None or all(map(is_number, own)))
    for child in tree.children():
        plain &= _walk(child, found)
    return plain


def _note(value: Any, found: dict[int, Any]) -> None:
    """Notes what comes along with something that is no array.

    Raises:
        _StrangerError: that cannot be told.
    """
    kind = type(value)
    if is_number(value) or is_constant(value):
        return
    if kind in (tuple, frozenset):
        for each in value:
            _note(each, found)
    elif isinstance(value, enum.Enum):
        found[id(kind)] = kind
    elif isinstance(value, (type, types.FunctionType)) and is_importable(value):
        found[id(value)] = value
    elif not (is_library(kind.__module__) and vars(kind).get("__dict__") and not vars(value)):
        raise _StrangerError(value)
