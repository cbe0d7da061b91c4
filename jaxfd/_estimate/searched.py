"""Searches on the host for a function that JAX traces: only its evaluation is compiled.

A method that decides by what it has seen where to look next takes many steps, and inside a kernel
each is compiled with a copy of the user's function. Where a call is made eagerly its numbers are
there to be looked at: the steps run in NumPy, and one compiled function evaluates all points. A
composition with a black box inside is looked at as a black box is, so that noise does not drown
its second derivatives unseen. Must not know what a method does.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxfd._arrays import Parts, as_jax, has_tracers, is_array, is_tracing, thaw
from jaxfd._estimate.composed import Asked, Boxes, composed
from jaxfd._estimate.needs import Needs
from jaxfd._estimate.numbers import Numbers, is_whole
from jaxfd._estimate.program import call_of
from jaxfd._estimate.task import Task
from jaxfd._jaxpr import (
    TracedFunction,
    bound,
    full_precision,
    holds_float32,
    in_double,
    program_of_jaxpr,
)
from jaxfd._methods import Method, StencilMethod, is_default
from jaxfd._places import Batches, Crossings, Device, Place, Relay, calls_host

# Compositions that are kept.
_KEPT = 64

# With more numbers than these, entries times outputs, compiling the steps of a search pays at once.
_MOST = 2**20

# Settings that say something about what happens inside of a compiled kernel.
_IN_A_KERNEL = ("jax_disable_jit", "jax_debug_nans", "jax_debug_infs")

# A search moves points along the real axis.
_REAL = Method()


class Searchable(Protocol):
    """A function as a search sees it.

    Attributes:
        boxes: the black boxes inside, as far as they are known.
    """

    boxes: Boxes

    def outputs(
        self,
        task: Task,
        numbers: Numbers,
        real: Sequence[Any],
        args: Any,
        kwargs: Any,
        cotangents: Any,
    ) -> tuple[Any, Any]:
        """What the function returns for a task, and frozen auxiliary data."""

    def shape(self, task: Task, program: TracedFunction, asked: Asked) -> Any:
        """The result of a task in shapes and dtypes."""

    def limit(self, closed: Any, given: Sequence[bool]) -> None:
        """Notes how large integers may be that a program computes with."""


class HostSearch:
    """Runs tasks on the host that decide by what they have seen what to look at next.

    Args:
        function: the function.
    """

    def __init__(self, function: Searchable) -> None:
        # Kept by JAX, so that each function is traced once for its shapes and for all batches.
        self._traced = jax.jit(function.outputs, static_argnums=(0, 1))
        self._function, self._boxes = function, function.boxes
        self._batches = Batches(self._program)
        self._crossings = Crossings()
        self._compositions: OrderedDict[int, _Composition] = OrderedDict()

    def run(
        self, task: Task, numbers: Numbers, args: Any, kwargs: Any, method: Method, needs: Needs
    ) -> Any:
        """Runs a task on a function that holds no black box; see `Program.run`.

        Returns:
            What the task does; None where the call is better made inside of a kernel, since the
            function reaches out of itself, or since there are too many numbers.
        """
        case = self._case(task, numbers, args, kwargs, method, needs)
        if case is None or calls_host(case.traced.jaxpr):
            return None
        program = case.program
        key = task, numbers
        place = Device(self._batches, key, program, case.rest, task.schedule, case.home)
        return _on_device(_run(task, program, case.asked, place), case.home)

    def compose(
        self,
        task: Task,
        numbers: Numbers,
        args: Any,
        kwargs: Any,
        method: Method,
        needs: Needs,
        eps: float,
    ) -> Any:
        """Runs a task on a function that does hold one, or returns None; see `Estimation.run`."""
        case = self._case(task, numbers, args, kwargs, method, needs)
        if case is None or not calls_host(case.traced.jaxpr):
            return None
        make = self._composition(case.traced)

        def run(program: TracedFunction, asked: Asked) -> Any:
            place = Relay(self._crossings, make, program, case.rest, task.schedule)
            return _run(task, program, asked, place)

        def shape(program: TracedFunction, asked: Asked) -> Any:
            if make.like is None:
                make.like = self._function.shape(task, program, asked)
            return make.like

        boxes = self._boxes.find(case.program)
        found = composed(run, case.program, case.asked, boxes, eps, False, False, shape)
        return _on_device(found, case.home)

    def _case(
        self, task: Task, numbers: Numbers, args: Any, kwargs: Any, method: Method, needs: Needs
    ) -> _Case | None:
        """A call, or None where it is better made inside of a kernel."""
        rest = jax.tree.map(_as_array, (args, kwargs, needs.cotangents))
        arguments = task.bind(thaw(rest[0]), thaw(rest[1]))
        traced, inputs = self._trace(task, numbers, rest)
        if _reaches_out(traced.jaxpr, inputs):
            return None
        if numbers is Numbers.WHOLE:
            leaves = jax.tree.leaves(rest)
            unknown = [False] * (inputs - len(leaves))
            self._function.limit(traced.jaxpr, [*unknown, *map(is_whole, leaves)])
        program = _bound(traced, rest)
        real = real_parts(task, arguments.leaves).real
        if _count(real) * _count(program.out) > _MOST:
            return None
        home = next(iter(_homes(jax.tree.leaves((rest, method, needs)))), None)
        return _Case(traced, program, rest, Asked(arguments, method, needs), home)

    def _composition(self, traced: Any) -> _Composition:
        """What is kept of a traced composition: JAX has one trace for equal calls."""
        key = id(traced.jaxpr)
        if key not in self._compositions:
            self._compositions[key] = _Composition(traced)
        self._compositions.move_to_end(key)
        while len(self._compositions) > _KEPT:
            self._compositions.popitem(last=False)
        return self._compositions[key]

    def _trace(self, task: Task, numbers: Numbers, rest: Any) -> tuple[Any, int]:
        """The function traced, of real leaves and of all arrays; and how many these are."""
        args, kwargs, cotangents = rest
        real = real_parts(task, task.bind(thaw(args), thaw(kwargs)).leaves).real
        with full_precision():
            traced = self._traced.trace(task, numbers, real, args, kwargs, cotangents)
        return traced, len(real) + len(jax.tree.leaves(rest))

    def _program(self, key: tuple[Task, Numbers], rest: Any) -> TracedFunction:
        """The function, with all that is not moved among its constants."""
        return _bound(self._trace(*key, rest)[0], rest)


class _Case(NamedTuple):
    """A call on the host.

    Attributes:
        traced: the function, of real leaves and of all arrays.
        program: the same of real leaves.
        rest: what is not moved.
        asked: what it is asked for.
        home: the device that the arguments are committed to, where they are to one.
    """

    traced: Any
    program: TracedFunction
    rest: Any
    asked: Asked
    home: Any


class _Composition:
    """A composition of what is not moved: ``rest -> function``, in float64 if it needs to be.

    Attributes:
        like: shapes and dtypes of the task's result, once they are known.

    Args:
        traced: the function, traced; it is held, so that its identity stands for it.
    """

    def __init__(self, traced: Any) -> None:
        self._traced = traced
        self.like: Any = None

    def __call__(self, rest: Any) -> TracedFunction:
        program = _bound(self._traced, rest)
        return in_double(program) if holds_float32(program.closed) else program


def _run(task: Task, program: TracedFunction, asked: Asked, place: Place) -> Any:
    """Runs a task on the host."""
    arguments, method, needs = asked
    parts = real_parts(task, jax.device_get(arguments.leaves))
    call = call_of(np, arguments, parts, method, needs, program)
    with np.errstate(all="ignore"):
        return task.run(place, call)


def looks_again(task: Task, method: Method) -> bool:
    """Whether an estimate looks for noise in what it has seen, and then searches."""
    fixed = isinstance(method, StencilMethod) and not method.imaginary
    return task.higher and fixed and is_default(method.step)


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
    """Whether a function needs what is only known inside of a kernel, or has effects.

    Args:
        closed: its jaxpr. What it closes over that is being traced is a constant, or an input more.
        inputs: how many inputs it should have.
    """
    traced = any(isinstance(c, jax.core.Tracer) for c in closed.consts)
    return traced or len(closed.jaxpr.invars) != inputs or bool(closed.effects)


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
