"""Options that are given for the leaves of a tree: for each, for whole branches, or for some keys.

It exists so that bounds, data and the like are read in one way, and refused in the same words. It
must not know what the values are for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jax import tree_util
from jaxtyping import Float, PyTree

from jaxfd._arrays import is_array


def spread(
    spec: Any, x: PyTree, default: Any, what: str, partial: bool = False, whose: str = "x0"
) -> list[Any]:
    """A value for each leaf of ``x``: from a tree like it, or one value for whole branches.

    Args:
        spec: the values; None stands for the default.
        x: the tree.
        default: the value of leaves that are not spoken of.
        what: what errors call the argument.
        partial: whether keys and fields may be missing.
        whose: what errors call the tree.

    Raises:
        ValueError: it has another structure.
    """
    count = len(tree_util.tree_leaves(x))
    if spec is None:
        return [default] * count
    if tree_util.all_leaves([x]):
        return [spec]
    branches = _branches(x)
    own: Any = None
    if isinstance(spec, Mapping) and (
        isinstance(x, Mapping) or all(isinstance(name, str) for name in branches)
    ):
        wrong = [key for key in spec if key not in branches]
        missing = [] if partial else [key for key in branches if key not in spec]
        if wrong or missing:
            which = f"has {wrong[0]!r}, which {whose} has not" if wrong else f"lacks {missing[0]!r}"
            raise ValueError(f"{what} {which}: give the keys of {whose}, {list(branches)}.")
        own = {key: spec.get(key) for key in branches}
    elif tree_util.all_leaves([spec]):
        return [spec] * count
    elif isinstance(x, (list, tuple)) and isinstance(spec, (list, tuple)):
        own = dict(zip(branches, spec, strict=True)) if len(x) == len(spec) else None
    elif type(spec) is type(x):
        own = _branches(spec)
    if own is None or list(own) != list(branches):
        raise ValueError(
            f"{what} has the structure {tree_util.tree_structure(spec)}, but {whose} has "
            f"{tree_util.tree_structure(x)}: give one value, or a tree like {whose}."
        )
    parts = [
        spread(own[key], each, default, what, partial, whose) for key, each in branches.items()
    ]
    return [value for part in parts for value in part]


def _branches(tree: PyTree) -> dict[Any, Any]:
    """What a container holds, by keys, names of fields or numbers, in the order of its leaves."""
    paths, _ = tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: node is not tree)
    return {_key(path[0]): branch for path, branch in paths}


def _key(entry: Any) -> Any:
    for name in ("key", "name", "idx"):
        if hasattr(entry, name):
            return getattr(entry, name)
    return entry


def real_array(value: Any, what: str, missing: float = np.nan) -> Float[np.ndarray, "*shape"]:
    """Real numbers as an array of float64; ``missing`` where there is None.

    Raises:
        TypeError: it holds something else.
        ValueError: some of it is masked.
    """
    if np.ma.is_masked(value):
        raise ValueError(f"{what} holds masked numbers: leave out what is masked.")
    try:
        array = np.asarray(value)
        if array.dtype.hasobject:
            array = np.array([missing if v is None else v for v in array.flat]).reshape(array.shape)
        complex_ = array.dtype.kind == "c"
        if array.dtype.kind not in "biufcV":
            raise TypeError
        found: np.ndarray = array if complex_ else array.astype(np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{what} must hold real numbers, got {value!r:.60}.") from None
    if complex_:
        raise TypeError(
            f"{what} holds complex numbers ({array.dtype}): give real ones, such as real and "
            "imaginary parts side by side, np.stack([z.real, z.imag])."
        )
    return found


def pair_of(bounds: Any, single: bool = False) -> tuple[Any, Any]:
    """Lower and upper bounds, not yet spread.

    Args:
        bounds: the bounds.
        single: whether they are for an array, where two pairs may be meant for its two entries.

    Raises:
        TypeError: they are no pair, but a pair for each entry, say, as scipy wants them.
    """
    if isinstance(bounds, (tuple, list)):
        pairs = all(isinstance(each, (tuple, list)) and len(each) == 2 for each in bounds)
        # Two lists in a tuple are lower and upper bounds, two tuples may be either.
        plain = isinstance(bounds, tuple) and all(isinstance(each, list) for each in bounds)
        if pairs and (len(bounds) != 2 or (single and not plain)):
            raise TypeError(
                "bounds must be one pair (lower, upper), not a pair for each entry, got "
                f"{bounds!r:.60}: give numbers or pytrees like x0, (np.array([...]), "
                "np.array([...])), say."
            )
        if len(bounds) == 2:
            return bounds[0], bounds[1]
    raise TypeError(
        f"bounds must be a pair (lower, upper) of numbers or pytrees like x0, got {bounds!r:.60}."
    )


def whole_bounds(bounds: Any, x: PyTree) -> tuple[PyTree, PyTree] | None:
    """Lower and upper bounds as trees like ``x``, of arrays; None where there are none.

    Raises:
        TypeError, ValueError: they do not fit.
    """
    if bounds is None:
        return None
    leaves, tree = tree_util.tree_flatten(x)

    def side(number: int, wall: float) -> PyTree:
        what = f"bounds[{number}]"
        values = spread(pair[number], x, wall, what, partial=True)
        rows = [fitted(v, np.shape(z), what, wall) for v, z in zip(values, leaves, strict=True)]
        return tree_util.tree_unflatten(tree, rows)

    pair = pair_of(bounds, is_array(x))
    return side(0, -np.inf), side(1, np.inf)


def fitted(
    value: Any,
    shape: tuple[int, ...],
    what: str,
    missing: Any,
    whose: str = "x0",
    kind: Any = float,
) -> Any:
    """What is given for a leaf of that shape: one value for all, or an array.

    Args:
        value: the value; None stands for ``missing``, and so it does among real numbers.
        shape: the shape.
        what: what errors call the argument.
        missing: what None stands for.
        whose: what errors call the tree of the leaf.
        kind: ``float`` for real numbers, ``object`` for anything.

    Raises:
        TypeError, ValueError: they do not fit.
    """
    value = missing if value is None else value
    array = real_array(value, what, missing) if kind is float else np.asarray(value, kind)
    try:
        found = np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{what} has {value!r:.60} for a leaf of {whose} of shape {shape}: give one value, or "
            "an array of that shape."
        ) from None
    return found
