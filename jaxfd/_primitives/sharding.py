"""Along which axes of a mesh an array differs, inside ``shard_map``."""

from __future__ import annotations

from typing import Any

import jax


def varying(operand: Any) -> frozenset[str]:
    """The mesh axes that an array differs along, inside ``shard_map``."""
    aval = jax.typeof(operand)
    kind = getattr(aval, "manual_axis_type", None)
    return getattr(aval, "vma", frozenset()) if kind is None else kind.varying


def vary(array: Any, axes: frozenset[str]) -> Any:
    """Says of an array that it differs along these mesh axes."""
    if not axes:
        return array
    names = tuple(sorted(axes))
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(array, names, to="varying")
    old: Any = jax.lax
    return old.pvary(array, names)
