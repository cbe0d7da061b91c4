"""How arrays lie on a mesh: along which axes they differ, and what lies whole everywhere."""

from __future__ import annotations

from collections.abc import Callable
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


def whole(mesh: Any, rank: int) -> NamedSharding:
    """Where an array of so many axes lies that is whole on every device of a mesh."""
    spec: Callable[..., PartitionSpec] = PartitionSpec
    return NamedSharding(mesh, spec(*[None] * rank))
