"""Functions traced once, as programs that run on a list of leaves.

This room must not know which points a program is run at.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxfd._jaxpr.collectives import collective_in
from jaxfd._jaxpr.detached import detached
from jaxfd._jaxpr.factored import Factored, outputs
from jaxfd._jaxpr.walk import every_eqn
from jaxfd._primitives import varying, varying_of


def largest(jaxpr: Any) -> int:
    """Bytes of the largest value that a program makes."""
    avals = [var.aval for eqn in every_eqn(jaxpr) for var in eqn.outvars]
    sizes = [
        math.prod(aval.shape) * aval.dtype.itemsize
        for aval in avals
        if hasattr(aval, "shape") and hasattr(aval.dtype, "itemsize")
    ]
    return max(sizes, default=0)


def _is_differentiated(value: Any) -> bool:
    kind = type(value).__name__  # JAX hides these classes
    if kind == "BatchTracer":
        return _is_differentiated(value.val)
    return kind in ("JVPTracer", "LinearizeTracer")


@dataclasses.dataclass(frozen=True)
class TracedFunction:
    """A function of a list of leaves, traced once.

    Attributes:
        call: runs it; leaves in, output leaves (then auxiliary ones) out.
        out: shapes and dtypes of the outputs.
        out_tree: their structure.
        aux_tree: the structure of the auxiliary output, None without one.
        largest: bytes of its largest intermediate value.
        closed: its jaxpr, None where there is nothing to follow.
        eps: the relative spacing of the coarsest numbers inside, as far as that is known; 0 where
            it is not.
        rounded: whether what JAX hands out of it has fewer digits than are computed.
    """

    call: Callable[[Sequence[Any]], list[Any]]
    out: tuple[jax.ShapeDtypeStruct, ...]
    out_tree: Any
    aux_tree: Any
    largest: int = 0
    closed: Any = None
    eps: float = 0.0
    rounded: bool = False

    @property
    def holds_differentiated(self) -> bool:
        """Whether it closes over something that JAX is differentiating."""
        return any(map(_is_differentiated, self.closed.consts))


def trace(fun: Callable[[Sequence[Any]], tuple[Any, Any]], leaves: Sequence[Any]) -> TracedFunction:
    """Traces ``fun(leaves) -> (out, aux)`` at full matrix precision.

    GPUs multiply matrices in a reduced precision by default, and its noise would drown a
    difference; a narrower ``jax.default_matmul_precision`` inside the function still wins.
    """
    # Of a function that is gone at once, with which what JAX keeps of it goes too.
    with full_precision():
        closed, (out, aux) = jax.make_jaxpr(lambda x: fun(x), return_shape=True)(list(leaves))
    closed = detached(closed)
    program = program_of_jaxpr(closed, out, aux)
    axes = [varying_of(var.aval) for var in closed.jaxpr.invars]

    def call(values: Sequence[Any]) -> list[Any]:
        if all(_axes_of(v) <= own for v, own in zip(values, axes, strict=True)):
            return program.call(values)
        # Leaves that are moved together, or by steps that were searched for, differ along all mesh
        # axes that one of them does, or that the outputs do; a program keeps its types.
        dense = [v.dense() if isinstance(v, Factored) else v for v in values]
        with full_precision():
            again = detached(jax.make_jaxpr(lambda x: fun(x))(dense))
        mixed = collective_in(again, len(program.out))
        if mixed is not None:
            raise TypeError(
                f"the function applies {mixed} to what depends on the argument, which is moved by "
                "steps that differ along that axis: differentiate a function without it, and apply "
                "it to the gradients."
            )
        return program_of_jaxpr(again, out, aux).call(dense)

    return dataclasses.replace(program, call=call)


def _axes_of(value: Any) -> frozenset[str]:
    parts = (value.base, value.left, value.right) if isinstance(value, Factored) else (value,)
    return frozenset().union(*map(varying, parts))


def full_precision() -> Any:
    """The context in which functions are traced; see `trace`."""
    return jax.default_matmul_precision("highest")


def bound(closed: Any, rest: Sequence[Any]) -> Any:
    """A program whose last inputs are given: they become its constants."""
    jaxpr = closed.jaxpr
    kept = len(jaxpr.invars) - len(rest)
    jaxpr = jaxpr.replace(
        constvars=[*jaxpr.constvars, *jaxpr.invars[kept:]],
        invars=jaxpr.invars[:kept],
    )
    return ClosedJaxpr(jaxpr, [*closed.consts, *rest])


def program_of_jaxpr(closed: Any, out: Any, aux: Any) -> TracedFunction:
    """A traced function of its jaxpr and of the shapes of what it returns."""
    plain = jaxpr_as_fun(closed)
    flat, out_tree = jax.tree.flatten(out)

    def call(values: Sequence[Any]) -> list[Any]:
        factored = any(isinstance(value, Factored) for value in values)
        found = outputs(closed, values) if factored else plain(*values)
        # A constant output comes back as a literal, not as an array.
        return [
            jnp.asarray(v, var.aval.dtype)
            for v, var in zip(found, closed.jaxpr.outvars, strict=True)
        ]

    return TracedFunction(
        call=call,
        out=tuple(flat),
        out_tree=out_tree,
        aux_tree=jax.tree.structure(aux),
        largest=largest(closed),
        closed=closed,
    )
