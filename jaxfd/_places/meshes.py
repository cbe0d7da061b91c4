"""Programs and searches on the devices of a mesh, in the types that JAX gives to what they share.

This room must not know what the points are, nor who asks for them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxfd._jaxpr import Factored, TracedFunction
from jaxfd._primitives import gathered, laid_as, spread, varying_of


def in_one_piece(program: TracedFunction) -> TracedFunction:
    """A program whose inputs and outputs lie whole on every device of a mesh.

    Points are numbered through all entries, and their outputs are put in rows: what the types of
    explicit axes refuse for arrays that devices share. The program itself runs as it was traced.
    """
    if not is_spread(program):
        return program
    kinds = [var.aval for var in program.closed.jaxpr.invars]

    def call(values: Sequence[Any]) -> list[Any]:
        dense = [v.dense() if isinstance(v, Factored) else v for v in values]
        shared = [laid_as(v, kind) for v, kind in zip(dense, kinds, strict=True)]
        outputs = program.call(shared)
        return [*map(gathered, outputs[: len(program.out)]), *outputs[len(program.out) :]]

    return dataclasses.replace(program, call=call)


def is_spread(program: TracedFunction) -> bool:
    """Whether devices share an input or an output of a program, as its types say."""
    if program.closed is None:
        return False
    jaxpr = program.closed.jaxpr
    return any(spread(var.aval) is not None for var in (*jaxpr.invars, *jaxpr.outvars))


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
