"""How arrays lie on a mesh: along which axes they differ, and what lies whole everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec


def varying(operand: Any) -> frozenset[str]:
    """The mesh axes that an array differs along, inside ``shard_map``."""
    return varying_of(jax.typeof(operand))


def varying_of(aval: Any) -> frozenset[str]:
    """The mesh axes that an array of this type differs along."""
    kind = getattr(aval, "manual_axis_type", None)
    axes: frozenset[str] = getattr(aval, "vma", frozenset()) if kind is None else kind.varying
    return axes


def vary(array: Any, axes: frozenset[str]) -> Any:
    """Says of an array that it differs along these mesh axes."""
    if not axes:
        return array
    names = tuple(sorted(axes))
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(array, names, to="varying")
    old: Any = jax.lax
    return old.pvary(array, names)


def spread(array: Any) -> NamedSharding | None:
    """How the type of an array says that devices share it; None where it lies whole everywhere.

    Only explicit axes of a mesh are part of a type.

    Args:
        array: an array, or its type.
    """
    sharding = getattr(jax.typeof(array) if isinstance(array, jax.Array) else array, "sharding", 0)
    if not isinstance(sharding, NamedSharding):
        return None
    return sharding if any(axes is not None for axes in sharding.spec) else None


def gathered(array: Any) -> Any:
    """An array that lies whole on every device, whatever its type said before."""
    sharding = spread(array)
    return array if sharding is None else _laid(array, whole(sharding.mesh, array.ndim))


def laid_as(array: Any, like: Any) -> Any:
    """An array whose last axes are shared by devices as those of another one are.

    Args:
        array: the array.
        like: the other one, or its type; it has no more axes.
    """
    sharding = spread(like)
    if sharding is None:
        return array
    spec: Callable[..., PartitionSpec] = PartitionSpec
    first = [None] * (array.ndim - len(sharding.spec))
    return _laid(array, NamedSharding(sharding.mesh, spec(*first, *sharding.spec)))


def _laid(array: Any, sharding: NamedSharding) -> Any:
    mesh: Any = jax.sharding
    return mesh.reshard(array, sharding)


def summed(derivative: Any, leaf: Any) -> Any:
    """The derivative by a leaf, summed over the mesh axes that the leaf does not differ along.

    Inside ``shard_map`` a leaf that is the same everywhere moves on all devices at once: what its
    move brings is the sum of what it brings on each of them.
    """
    axes = varying(derivative) - varying(leaf)
    return jax.lax.psum(derivative, tuple(sorted(axes))) if axes else derivative


def of_members(reduce: Callable[..., Any], array: Any, axes: Sequence[Any]) -> Any:
    """What ``lax.pmax`` or ``lax.psum`` makes of what the members of some axes have."""
    if not axes:
        return array
    # Only names of a mesh are part of a type, and only where types say what differs.
    named = frozenset(axes) & frozenset(getattr(jax.typeof(array).sharding.mesh, "manual_axes", ()))
    checked = named if _tells(named) else frozenset()
    return reduce(vary(array, checked - varying(array)), tuple(axes))


def _tells(axes: frozenset[str]) -> bool:
    """Whether types say what differs along mesh axes."""
    return any(varying(jax.lax.axis_index(axis)) for axis in axes)


def whole(mesh: Any, rank: int) -> NamedSharding:
    """Where an array of so many axes lies that is whole on every device of a mesh."""
    spec: Callable[..., PartitionSpec] = PartitionSpec
    return NamedSharding(mesh, spec(*[None] * rank))
