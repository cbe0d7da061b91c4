"""Programs in a kernel: a function that JAX traces, with its estimate compiled around it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxfd._arrays import freeze, thaw
from jaxfd._estimate.composed import Asked, Boxes, calls_host, composed
from jaxfd._estimate.contract import contract
from jaxfd._estimate.first import Value
from jaxfd._estimate.needs import Needs
from jaxfd._estimate.program import Program, ProgramHolder, boxes_for, split_aux
from jaxfd._estimate.task import Call, Task, complexified
from jaxfd._jaxpr import TracedFunction, lost_in, trace
from jaxfd._methods import Central, Method
from jaxfd._places import Kernel
from jaxfd._system import host_calls


class TracedProgram(Program):
    """A function that JAX can trace.

    Args:
        fun: the function.
        compiled: whether the kernel is compiled, once per task and shape of call; a function that
            is called once and thrown away is better run operation by operation.
    """

    traced = True

    def __init__(self, fun: Callable[..., Any], compiled: bool = True) -> None:
        self.fun = fun
        self.name = getattr(fun, "__name__", type(fun).__name__)
        self._kernel: Callable[..., Any] = (
            jax.jit(self._estimate, static_argnums=(0, 5)) if compiled else self._estimate
        )
        self._compiled = compiled
        self._boxes = Boxes()
        self._inside = False  # whether the kernel that is traced next is part of another program

    @property
    def eps(self) -> float | None:
        """The relative spacing of the coarsest numbers in a composition, once it was run."""
        return self._boxes.of_everything if self._boxes else None

    def run(
        self,
        task: Task,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        method: Method,
        needs: Needs = Needs(),
    ) -> Any:
        inputs = (freeze(args), freeze(kwargs), method, needs)
        known = self._boxes.eps
        result = self._run(task, inputs, known)
        steps = not isinstance(task, Value)
        if steps and self._boxes.eps > known and not _has_tracers(result):
            # A black box inside turned out to be coarser than assumed: step for what it is.
            result = self._run(task, inputs, self._boxes.eps)
        return thaw(result)

    def _run(self, task: Task, inputs: Sequence[Any], eps: float) -> Any:
        unsure = not self._boxes.called
        # Under ``jit`` whatever is computed is traced.
        ambient = unsure and isinstance(jnp.zeros(()), jax.core.Tracer)
        self._inside = ambient or _has_tracers(inputs)
        with host_calls.own_errors():
            result = self._kernel(task, *inputs, eps)
            if self._boxes and not _has_tracers(result):
                jax.block_until_ready(result)
        return result

    def _estimate(
        self, task: Task, args: Any, kwargs: Any, method: Method, needs: Needs, eps: float
    ) -> Any:
        arguments = task.bind(thaw(args), thaw(kwargs))
        arguments = dataclasses.replace(arguments, leaves=[*map(jnp.asarray, arguments.leaves)])
        parts = task.split(arguments.leaves, method)
        imaginary = method.imaginary

        def fun(real: Sequence[Any]) -> tuple[Any, Any]:
            args, kwargs = arguments.rebuild(parts.join(Kernel.complex, real))
            out, aux = split_aux(task, self._call(task, args, kwargs))
            if task.contracted:
                cotangents = needs.cotangents or ()
                out = contract(jnp, jax.tree.leaves(out), cotangents, imaginary)
            return out, freeze(aux)

        program = trace(fun, complexified(parts.real, imaginary))
        if task.everything and program.holds_differentiated:
            raise TypeError(
                f"{task.name}: {self.name} closes over something that is being differentiated, "
                "and JAX sees its arguments only: pass it as an argument (a constant one with "
                "nondiff_argnums)."
            )
        asked, boxes = Asked(arguments, method, needs), self._boxes.find(program)
        run = functools.partial(_in_kernel, task)
        if boxes:
            return composed(
                run, program, asked, boxes, eps, self._inside, self._compiled or self._inside
            )
        return run(program, asked)

    def _call(self, task: Task, args: Any, kwargs: Any) -> Any:
        try:
            return self.fun(*args, **kwargs)
        except (
            jax.errors.TracerArrayConversionError,
            jax.errors.TracerIntegerConversionError,
            jax.errors.ConcretizationTypeError,
            jax.errors.NonConcreteBooleanIndexError,
        ) as error:
            raise TypeError(
                f"{task.name} cannot trace {self.name}: it needs concrete numbers (NumPy, math, "
                "float(), or Python control flow on values). Write it with jax.numpy, or wrap it "
                "with jaxfd.blackbox(fun, out), which evaluates it on the host."
            ) from error


class Values(ProgramHolder):
    """A function with the values that its estimates see: of a composition, more exact ones.

    Args:
        fun: the function.
    """

    def __init__(self, fun: Callable[..., Any]) -> None:
        self.program = program_of(fun)

    def __call__(self, *args: Any) -> Any:
        return self.program.run(Value("value", everything=True), args, {}, Central())


def values_of(fun: Callable[..., Any], traced: Any) -> Callable[..., Any]:
    """The function itself, or for a composition its `Values`.

    Args:
        fun: the function.
        traced: its jaxpr.
    """
    composition = program_of(fun).traced and calls_host(traced)
    return Values(fun) if composition else fun


def _in_kernel(task: Task, program: TracedFunction, asked: Asked) -> Any:
    """Runs a task on a traced function, in the kernel that is being traced."""
    arguments, method, needs = asked
    parts = task.split(arguments.leaves, method)
    call = Call(
        arguments=arguments,
        leaves=arguments.leaves,
        parts=parts,
        boxes=boxes_for(jnp, arguments, parts, needs),
        method=method,
        needs=needs,
        out=program.out,
        out_tree=program.out_tree,
        aux_tree=program.aux_tree,
        lost=lost_in(program.closed, len(program.out)) if method.imaginary else None,
    )
    return task.run(Kernel(program, task.schedule), call)


def _has_tracers(tree: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def program_of(fun: Callable[..., Any], compiled: bool = True) -> Program:
    """The program behind a function: a black box brings its own, any other is traced."""
    if isinstance(fun, ProgramHolder):
        return fun.program
    if not callable(fun):
        raise TypeError(f"fun must be callable, got {type(fun).__name__}.")
    return TracedProgram(fun, compiled)
