"""Searches on the devices of a mesh, in the types that JAX gives to what they share.

This room must not know what the points are, nor who asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxfd._primitives import varying_of


def varying_alike(body: Callable[[Any], Any], state: Any) -> tuple[Any, Callable[[Any], Any]]:
    """A state, and what a step makes of it, that differ along the same axes of a mesh.

    A search begins with numbers that are the same on all devices, and a loop keeps its types.
    """
    if not on_devices():
        return state, body
    leaves, tree = jax.tree.flatten(jax.tree.map(jnp.asarray, state))
    axes = [varying_of(jax.typeof(leaf)) for leaf in leaves]

    def alike(state: Any) -> Any:
        pairs = zip(jax.tree.leaves(state), axes, strict=True)
        return jax.tree.unflatten(tree, [vary_along(leaf, own) for leaf, own in pairs])

    while (
        after := [a | b for a, b in zip(axes, axes_of(body, alike(state)), strict=True)]
    ) != axes:
        axes = after
    return alike(state), lambda state: alike(body(state))


def on_devices() -> bool:
    """Whether this runs inside ``shard_map``."""
    return bool(jax.sharding.get_abstract_mesh().manual_axes)


def axes_of(fun: Callable[[Any], Any], operand: Any) -> list[frozenset[str]]:
    """The mesh axes that each result of a function differs along, as far as types say."""
    found: list[frozenset[str]] = []

    def run(operand: Any) -> None:
        found.extend(varying_of(jax.typeof(leaf)) for leaf in jax.tree.leaves(fun(operand)))

    jax.eval_shape(run, operand)
    return found


def vary_along(leaf: Any, axes: frozenset[str]) -> Any:
    """A number that differs along these mesh axes too."""
    more = tuple(sorted(axes - varying_of(jax.typeof(leaf))))
    return lax.pcast(leaf, more, to="varying") if more else leaf
