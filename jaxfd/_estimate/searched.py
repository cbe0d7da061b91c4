"""Searches on the host for a function that JAX traces: only its evaluation is compiled.

A method that decides by what it has seen where to look next takes many steps, and inside a kernel
each is compiled with a copy of the user's function. Where a call is made eagerly its numbers are
there to be looked at: the steps run in NumPy, and one compiled function evaluates all points. Must
not know what a method does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxfd._arrays import Parts, as_jax, has_tracers, is_array, is_tracing, thaw
from jaxfd._estimate.needs import Needs
from jaxfd._estimate.program import boxes_for
from jaxfd._estimate.task import Call, Task
from jaxfd._jaxpr import TracedFunction, bound, full_precision, program_of_jaxpr
from jaxfd._methods import Method
from jaxfd._places import Batches, Device, calls_host

# ``(task, real leaves, frozen args, frozen kwargs, cotangents) -> (out, frozen aux)``
Outputs = Callable[[Task, Sequence[Any], Any, Any, Any], tuple[Any, Any]]


# With more numbers than these, entries times outputs, compiling the steps of a search pays at once.
_MOST = 2**20

# Settings that say something about what happens inside of a compiled kernel.
_IN_A_KERNEL = ("jax_disable_jit", "jax_debug_nans", "jax_debug_infs")

# A search moves points along the real axis.
_REAL = Method()


class HostSearch:
    """Runs tasks on the host whose method searches.

    Args:
        outputs: the function, as a task sees it.
    """

    def __init__(self, outputs: Outputs) -> None:
        # Kept by JAX, so that each function is traced once for its shapes and for all batches.
        self._traced = jax.jit(outputs, static_argnums=0)
        self._batches = Batches(self._program)

    def run(self, task: Task, args: Any, kwargs: Any, method: Method, needs: Needs) -> Any:
        """Runs a task; see `Program.run`.

        Returns:
            What the task does; None where the call is better made inside of a kernel, since the
            function reaches out of itself, or since there are too many numbers.
        """
        rest = jax.tree.map(_as_array, (args, kwargs, needs.cotangents))
        arguments = task.bind(thaw(rest[0]), thaw(rest[1]))
        traced, inputs = self._trace(task, rest)
        if _reaches_out(traced.jaxpr, inputs):
            return None
        program = _bound(traced, rest)
        leaves = jax.device_get(arguments.leaves)
        parts = real_parts(task, leaves)
        if _count(parts.real) * _count(program.out) > _MOST:
            return None
        call = Call(
            arguments=arguments,
            parts=parts,
            boxes=boxes_for(np, arguments, parts, needs),
            method=method,
            needs=needs,
            out=program.out,
            out_tree=program.out_tree,
            aux_tree=program.aux_tree,
        )
        home = next(iter(_homes(jax.tree.leaves((rest, method, needs)))), None)
        place = Device(self._batches, task, program, rest, task.schedule, home)
        with np.errstate(all="ignore"):
            return _on_device(task.run(place, call), home)

    def _trace(self, task: Task, rest: Any) -> tuple[Any, int]:
        """The function traced, of real leaves and of all arrays; and how many these are."""
        args, kwargs, cotangents = rest
        real = real_parts(task, task.bind(thaw(args), thaw(kwargs)).leaves).real
        with full_precision():
            traced = self._traced.trace(task, real, args, kwargs, cotangents)
        return traced, len(real) + len(jax.tree.leaves(rest))

    def _program(self, task: Task, rest: Any) -> TracedFunction:
        """The function, with all that is not moved among its constants."""
        return _bound(self._trace(task, rest)[0], rest)


def _bound(traced: Any, rest: Any) -> TracedFunction:
    return program_of_jaxpr(bound(traced.jaxpr, jax.tree.leaves(rest)), *traced.out_info)


def real_parts(task: Task, leaves: Sequence[Any]) -> Parts:
    """The real leaves that a search moves."""
    return task.split(leaves, _REAL)


def is_eager(*trees: Any) -> bool:
    """Whether a call is made outside of all that JAX traces, with numbers on one device."""
    if has_tracers(trees):
        return False
    arrays = [leaf for leaf in jax.tree.leaves(trees) if isinstance(leaf, jax.Array)]
    if any(len(x.sharding.device_set) > 1 for x in arrays) or len(_homes(arrays)) > 1:
        return False
    if any(getattr(jax.config, name) for name in _IN_A_KERNEL):
        return False
    return not is_tracing()


def _reaches_out(closed: Any, inputs: int) -> bool:
    """Whether a function needs what is only known inside of a kernel, or calls the host.

    Args:
        closed: its jaxpr. What it closes over that is being traced is a constant, or an input more.
        inputs: how many inputs it should have.
    """
    traced = any(isinstance(c, jax.core.Tracer) for c in closed.consts)
    return (
        traced or len(closed.jaxpr.invars) != inputs or bool(closed.effects) or calls_host(closed)
    )


def _homes(leaves: Sequence[Any]) -> set[Any]:
    """The devices that arrays are committed to."""
    arrays = [x for x in leaves if isinstance(x, jax.Array) and x.committed]
    return {device for x in arrays for device in x.sharding.device_set}


def _count(arrays: Sequence[Any]) -> int:
    """How many numbers there are."""
    return sum(math.prod(x.shape) for x in arrays)


def _as_array(leaf: Any) -> Any:
    return jnp.asarray(leaf) if is_array(leaf) else leaf


def _on_device(result: Any, device: Any) -> Any:
    """A result with all its numbers as JAX's arrays."""
    flat, tree = jax.tree.flatten(result)
    moved = [
        i
        for i, leaf in enumerate(flat)
        if not isinstance(leaf, jax.Array) and leaf.dtype != jax.dtypes.float0
    ]
    numbers = [flat[i] for i in moved]
    numbers = as_jax(numbers) if device is None else jax.device_put(numbers, device)
    for i, leaf in zip(moved, numbers, strict=True):
        flat[i] = leaf
    return jax.tree.unflatten(tree, flat)
