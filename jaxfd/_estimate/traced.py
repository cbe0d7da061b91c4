"""Programs in a kernel: a function that JAX traces, with its estimate compiled around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxfd._arrays import freeze, thaw
from jaxfd._estimate.contract import contract
from jaxfd._estimate.needs import Needs
from jaxfd._estimate.program import Program, ProgramHolder, boxes_for, split_aux
from jaxfd._estimate.task import Call, Task, complexified
from jaxfd._jaxpr import lost_in, trace
from jaxfd._methods import Method
from jaxfd._places import Kernel


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
        self._kernel = jax.jit(self._estimate, static_argnums=0) if compiled else self._estimate

    def run(
        self,
        task: Task,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        method: Method,
        needs: Needs = Needs(),
    ) -> Any:
        result = self._kernel(task, freeze(args), freeze(kwargs), method, needs)
        return thaw(result)

    def _estimate(self, task: Task, args: Any, kwargs: Any, method: Method, needs: Needs) -> Any:
        arguments = task.bind(thaw(args), thaw(kwargs))
        leaves = [jnp.asarray(leaf) for leaf in arguments.leaves]
        parts = task.split(leaves, method)
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
        # Only the user's own lines are held to be explicit about ranks.
        with jax.numpy_rank_promotion("allow"):
            return task.run(Kernel(program, task.schedule), call)

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
