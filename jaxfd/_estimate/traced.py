"""Programs in a kernel: a function that JAX traces, with its estimate compiled around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxfd._arrays import Arguments, Parts, freeze, thaw
from jaxfd._estimate.contract import contract
from jaxfd._estimate.needs import Needs
from jaxfd._estimate.program import Program, ProgramHolder, boxes_for, split_aux
from jaxfd._estimate.searched import HostSearch, is_eager, real_parts
from jaxfd._estimate.task import Call, Task, complexified
from jaxfd._jaxpr import largest, lost_in, trace
from jaxfd._methods import Method
from jaxfd._places import Kernel, members
from jaxfd._primitives import in_pieces


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
        self._compiled = compiled
        self._kernel = jax.jit(self._estimate, static_argnums=0) if compiled else self._estimate
        self._search = HostSearch(self._outputs) if compiled else None

    def run(
        self,
        task: Task,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        method: Method,
        needs: Needs = Needs(),
    ) -> Any:
        inputs = (freeze(args), freeze(kwargs), method, needs)
        if self._search is not None and method.searches and is_eager(inputs):
            found = self._search.run(task, *inputs)
            if found is not None:
                return thaw(found)
        return thaw(self._kernel(task, *inputs))

    def _outputs(
        self, task: Task, real: Sequence[Any], args: Any, kwargs: Any, cotangents: Any
    ) -> tuple[Any, Any]:
        """The function as a task sees it, with real leaves in place of the arguments' own."""
        arguments = task.bind(thaw(args), thaw(kwargs))
        parts = real_parts(task, [jnp.asarray(leaf) for leaf in arguments.leaves])
        return self._function(task, arguments, parts, cotangents, imaginary=False)(real)

    def _function(
        self, task: Task, arguments: Arguments, parts: Parts, cotangents: Any, imaginary: bool
    ) -> Callable[[Sequence[Any]], tuple[Any, Any]]:
        """The function of the real leaves that are moved: ``real -> (out, frozen aux)``."""

        def fun(real: Sequence[Any]) -> tuple[Any, Any]:
            args, kwargs = arguments.rebuild(parts.join(Kernel.complex, real))
            out, aux = split_aux(task, self._call(task, args, kwargs))
            if task.contracted:
                out = contract(jnp, jax.tree.leaves(out), cotangents or (), imaginary)
            return out, freeze(aux)

        return fun

    def _estimate(self, task: Task, args: Any, kwargs: Any, method: Method, needs: Needs) -> Any:
        arguments = task.bind(thaw(args), thaw(kwargs))
        leaves = [jnp.asarray(leaf) for leaf in arguments.leaves]
        parts = task.split(leaves, method)
        imaginary = method.imaginary
        fun = self._function(task, arguments, parts, needs.cotangents, imaginary)
        program = trace(fun, complexified(parts.real, imaginary))
        if task.everything and program.holds_differentiated:
            raise TypeError(
                f"{task.name}: {self.name} closes over something that is being differentiated, "
                "and JAX sees its arguments only: pass it as an argument (a constant one with "
                "nondiff_argnums)."
            )
        call = Call(
            arguments=arguments,
            leaves=leaves,
            parts=parts,
            boxes=boxes_for(jnp, arguments, parts, needs),
            method=method,
            needs=needs,
            out=program.out,
            out_tree=program.out_tree,
            aux_tree=program.aux_tree,
            lost=lost_in(program.closed, len(program.out)) if imaginary else None,
        )
        place = Kernel(program, task.schedule)
        if place.one_call or not (self._compiled and task.fills):
            return task.run(place, call)
        return in_pieces(lambda: task.run(place, call), members, largest)

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


def program_of(fun: Callable[..., Any], compiled: bool = True) -> Program:
    """The program behind a function: a black box brings its own, any other is traced."""
    if isinstance(fun, ProgramHolder):
        return fun.program
    if not callable(fun):
        raise TypeError(f"fun must be callable, got {type(fun).__name__}.")
    return TracedProgram(fun, compiled)
