"""Arguments as leaves: what is differentiated, what merely comes along.

This room exists so that no other room has to think about pytrees, ``argnums``
or Python objects among the arguments. It must not know what a stencil, a step
or a method is.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jaxtyping import PyTree

from jaxfd._arrays.names import path_name

_ZERO = np.zeros((), np.float32)

# Arrays as JAX's: the quickest way from NumPy, and traced where anything is traced.
as_jax = jax.jit(lambda arrays: arrays)


@tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class Static:
    """A leaf that is no array, carried inside a tree's structure.

    ``jax.jit`` compares tree structures, so a change of such a value compiles
    anew, exactly as a static argument does. What cannot be hashed is compared
    by identity.
    """

    value: Any

    @property
    def _told(self) -> Any:
        """What it is compared by: zeros have signs, and NaN is not equal to itself."""
        inexact = isinstance(self.value, (float, complex, np.inexact))
        return repr(self.value) if inexact else self.value

    def __hash__(self) -> int:
        try:
            return hash((type(self.value), self._told))
        except TypeError:
            return id(self.value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static):
            return NotImplemented
        if self.value is other.value:
            return True
        try:
            hash(self.value)
        except TypeError:
            return False
        return type(self.value) is type(other.value) and bool(self._told == other._told)


def has_tracers(*trees: Any) -> bool:
    """Whether JAX is tracing anything in pytrees."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in tree_util.tree_leaves(trees))


def is_tracing() -> bool:
    """Whether JAX is tracing what runs here: under ``jit`` whatever is computed is traced."""
    return isinstance(as_jax(_ZERO), jax.core.Tracer)


def is_array(leaf: object) -> bool:
    """Whether a leaf holds numbers that may change from call to call."""
    if isinstance(leaf, (np.ndarray, np.generic)):
        return leaf.dtype.kind not in "OSUMm"
    return isinstance(leaf, (jax.Array, float, complex))


def freeze(tree: PyTree) -> PyTree:
    """Replaces every leaf that is no array by a `Static` node."""
    return tree_util.tree_map(lambda leaf: leaf if is_array(leaf) else Static(leaf), tree)


def has_static(tree: PyTree) -> bool:
    """Whether a frozen tree holds anything but arrays."""
    marked = tree_util.tree_leaves(tree, is_leaf=lambda leaf: isinstance(leaf, Static))
    return any(isinstance(leaf, Static) for leaf in marked)


def thaw(tree: PyTree) -> PyTree:
    """Undoes `freeze`."""
    return tree_util.tree_map(
        lambda leaf: leaf.value if isinstance(leaf, Static) else leaf,
        tree,
        is_leaf=lambda leaf: isinstance(leaf, Static),
    )


@dataclasses.dataclass(frozen=True)
class Arguments:
    """A call split in two: the leaves to be differentiated and all the rest.

    Attributes:
        leaves: the inexact leaves of the chosen arguments, as arrays.
        template: the chosen arguments, frozen, with their leaves in place.
        inexact: for every array leaf of ``template``, whether it is in ``leaves``.
        args: all positional arguments, as they came.
        kwargs: all keyword arguments, as they came.
        argnums: the chosen positions, none negative.
        single: whether ``argnums`` was one integer.
        packed: whether the only argument stands for ``(args, kwargs)``.
    """

    leaves: list[Any]
    template: tuple[Any, ...]
    inexact: tuple[bool, ...]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    argnums: tuple[int, ...]
    single: bool
    packed: bool = False

    def rebuild(self, leaves: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call's arguments with other leaves in place of the differentiated ones."""
        flat, treedef = tree_util.tree_flatten(self.template)
        new = iter(leaves)
        flat = [
            next(new) if chosen else leaf for leaf, chosen in zip(flat, self.inexact, strict=True)
        ]
        chosen_args = thaw(tree_util.tree_unflatten(treedef, flat))
        args = list(self.args)
        for position, value in zip(self.argnums, chosen_args, strict=True):
            args[position] = value
        return args[0] if self.packed else (tuple(args), self.kwargs)

    def restore(self, leaves: Sequence[Any], outer: Callable[[Any], Any]) -> PyTree:
        """A tree shaped as the chosen arguments, with one result for each of their leaves.

        Args:
            leaves: one result for each differentiated leaf.
            outer: makes the result of an integer leaf (``allow_int``).

        Returns:
            One tree for an integer ``argnums``, a tuple of trees for a sequence.
        """
        flat, treedef = tree_util.tree_flatten(self.template)
        new = iter(leaves)
        flat = [
            next(new) if chosen else outer(leaf)
            for leaf, chosen in zip(flat, self.inexact, strict=True)
        ]
        trees = tree_util.tree_unflatten(treedef, flat)
        return trees[0] if self.single else trees

    def spread(self, tree: PyTree, what: str, default: Any) -> list[Any]:
        """One value per differentiated leaf from a scalar or a tree like the arguments.

        Args:
            tree: a scalar, None, or a pytree with the structure of the chosen arguments.
            what: the name of the argument, for errors.
            default: stands for None.

        Returns:
            For each differentiated leaf, an array that broadcasts to its shape.

        Raises:
            ValueError: the structure or a shape does not fit.
        """
        if tree is None:
            return [default for _ in self.leaves]
        if isinstance(tree, (int, float)):
            return [tree for _ in self.leaves]
        if not tree_util.all_leaves([tree]) or jnp.ndim(tree) > 0:
            expected = self.template[0] if self.single else self.template
            treedef: Any = tree_util.tree_structure(expected)
            found: Any = tree_util.tree_structure(tree)
            if found != treedef:
                raise ValueError(
                    f"{what} has the structure {found}, but the differentiated argument has "
                    f"{treedef}: give one number, or a pytree with that structure."
                )
            values = [
                value
                for value, chosen in zip(tree_util.tree_leaves(tree), self.inexact, strict=True)
                if chosen
            ]
        else:
            values = [tree for _ in self.leaves]
        for value, leaf in zip(values, self.leaves, strict=True):
            shape, wanted = jnp.shape(value), jnp.shape(leaf)
            if shape not in ((), wanted):
                raise ValueError(
                    f"{what} has a leaf of shape {shape} for an argument of shape {wanted}: "
                    "give a scalar or an array of the argument's shape for each leaf."
                )
        return values


def _is_discrete(dtype: Any) -> bool:
    """Whether numbers of a dtype have no neighbours: integers, booleans, PRNG keys."""
    kinds = (jnp.integer, jnp.bool_, jax.dtypes.prng_key)
    return any(jnp.issubdtype(dtype, kind) for kind in kinds)


def positions(argnums: int | Sequence[int]) -> tuple[int, ...]:
    """Checks ``argnums`` as far as it can be before a call."""
    try:
        return (operator.index(argnums),)  # type: ignore[arg-type]
    except TypeError:
        pass
    try:
        result = tuple(operator.index(position) for position in argnums)  # type: ignore[union-attr]
    except TypeError:
        raise TypeError(
            f"argnums must be an integer or a sequence of integers, got {argnums!r}."
        ) from None
    if len(set(result)) != len(result):
        raise ValueError(f"argnums names an argument twice: {argnums!r}.")
    return result


def as_leaf(leaf: Any, where: str, name: str) -> Any:
    """Turns a differentiated leaf into an array, or says why it cannot be one."""
    if is_array(leaf) or isinstance(leaf, (bool, int)):
        if isinstance(leaf, (jax.Array, np.ndarray)):
            return leaf
        # Python's own numbers have weak types, which NumPy's arrays have not.
        return np.asarray(leaf) if isinstance(leaf, np.generic) else jnp.asarray(leaf)
    hint = ""
    if callable(leaf):
        hint = " For an Equinox module say eqx.filter_grad(jaxfd.differentiable(fun))."
    raise TypeError(
        f"{name} differentiates argument {where}, which is a {type(leaf).__name__} "
        f"({str(leaf)[:60]!r}), not an array: pass numbers or arrays there, or choose other "
        f"argnums.{hint}"
    )


def bind(
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    argnums: int | Sequence[int],
    *,
    allow_int: bool = False,
    holomorphic: bool = False,
    lenient: bool = False,
    offer_int: bool = False,
) -> Arguments:
    """Splits a call into the leaves to be differentiated and the rest.

    Args:
        name: the transform's name, for errors.
        args: positional arguments of the user's function.
        kwargs: keyword arguments, never differentiated.
        argnums: which positions to differentiate; negative ones count from the end.
        allow_int: whether integer and boolean leaves may stand there (their gradient is zero).
        holomorphic: whether all leaves must be complex.
        lenient: whether whatever is not inexact is passed through as it is.
        offer_int: whether the transform has an option ``allow_int`` to advise.

    Raises:
        ValueError: ``argnums`` is out of range.
        TypeError: a leaf is no array, or of a dtype that cannot be differentiated.
    """
    chosen = positions(argnums)
    resolved = []
    for position in chosen:
        if not -len(args) <= position < len(args):
            raise ValueError(
                f"argnums={argnums} asks {name} to differentiate argument {position}, but the "
                f"function was called with {len(args)} positional argument(s): choose argnums "
                "within that range, and pass what is differentiated by position."
            )
        if position % len(args) in resolved:
            raise ValueError(f"argnums names an argument twice: {argnums!r}.")
        resolved.append(position % len(args))
    flat, treedef = tree_util.tree_flatten_with_path(tuple(args[p] for p in resolved))
    leaves, everything, inexact = [], [], []
    for path, leaf in flat:
        if lenient and not (is_array(leaf) and jnp.issubdtype(jnp.result_type(leaf), np.inexact)):
            everything.append(leaf)
            inexact.append(False)
            continue
        where = f"{resolved[path[0].idx]}{path_name(path[1:])}"
        leaf = as_leaf(leaf, where, name)
        dtype = leaf.dtype
        everything.append(leaf)
        if jnp.issubdtype(dtype, jnp.inexact):
            if holomorphic and not jnp.issubdtype(dtype, jnp.complexfloating):
                raise TypeError(
                    f"{name} with holomorphic=True needs complex inputs, but argument {where} is "
                    f"{dtype}: convert it to a complex dtype, or drop holomorphic."
                )
            leaves.append(leaf)
            inexact.append(True)
        elif allow_int and _is_discrete(dtype):
            inexact.append(False)
        else:
            advice = ", or set allow_int=True for a zero gradient there." if offer_int else "."
            raise TypeError(
                f"{name} needs real or complex inputs, but argument {where} is {dtype}: convert "
                f"it to a floating dtype, or choose other argnums{advice}"
            )
    return Arguments(
        leaves=leaves,
        template=tree_util.tree_unflatten(treedef, everything),
        inexact=tuple(inexact),
        args=tuple(args),
        kwargs=kwargs,
        argnums=tuple(resolved),
        single=not isinstance(argnums, Sequence),
    )


def bind_all(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """Splits a call into all its inexact leaves and the rest."""
    if kwargs:
        packed = bind(name, ((args, kwargs),), {}, 0, lenient=True)
        return dataclasses.replace(packed, packed=True)
    argnums = 0 if len(args) == 1 else tuple(range(len(args)))
    return bind(name, args, {}, argnums, lenient=True)
