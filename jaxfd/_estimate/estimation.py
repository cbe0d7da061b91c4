"""A function's estimate, as it is traced: the task run in a kernel.

This room must not know how often it is traced, nor what becomes of the program.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from jaxfd._arrays import (
    Arguments,
    Parts,
    freeze,
    has_tracers,
    is_array,
    is_tracing,
    own_arithmetic,
    thaw,
)
from jaxfd._estimate.composed import Asked, Boxes, composed
from jaxfd._estimate.contract import contract
from jaxfd._estimate.first import Value
from jaxfd._estimate.needs import Needs
from jaxfd._estimate.numbers import Numbers, ValueNeededError, is_whole
from jaxfd._estimate.program import call_of, split_aux
from jaxfd._estimate.searched import real_parts
from jaxfd._estimate.task import Task, complexified
from jaxfd._functions import Subject
from jaxfd._jaxpr import (
    Imaginary,
    TracedFunction,
    axes_in,
    collective_in,
    imaginary_in,
    largest,
    largest_whole,
    trace,
)
from jaxfd._methods import Central, Method
from jaxfd._places import Kernel, calls_host, members
from jaxfd._primitives import gathered, in_pieces
from jaxfd._system import host_calls

# What an integer must be allowed to be at least for it to be traced.
_LEAST = 2**8

_CONCRETE = (
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
)


class HeldBoxError(Exception):
    """A function holds a black box, and what is asked is better looked at on the host."""


class Estimation:
    """Estimates of one function.

    Attributes:
        boxes: the black boxes inside, as far as they are known.

    Args:
        subject: the function.
        name: what errors call it.
        compiled: whether what is traced will be compiled.
    """

    def __init__(self, subject: Subject, name: str, compiled: bool = True) -> None:
        self._subject, self._name, self._compiled = subject, name, compiled
        self._most: int | None = None
        self.boxes = Boxes()
        self._inside = False  # whether the kernel that is traced next is part of another program
        self._alone = False  # whether it is only for a function that holds no black box

    @property
    def most(self) -> int:
        """The largest integer that may be traced, as far as is known; -1 for none.

        A function that asks for the types of things might take it for something else.
        """
        if self._most is None:
            self._most = -1 if self._subject.asks else np.iinfo(np.int32).max
        return self._most

    def limit(self, closed: Any, given: Sequence[bool] = ()) -> None:
        """Notes how large integers may be that a program computes with.

        Args:
            closed: the jaxpr.
            given: which of its inputs are such integers; if none, constants that look like some.

        Raises:
            ValueNeededError: it computes something else with those that are traced.
        """
        whole = (lambda constant: False) if given else _is_whole
        most = largest_whole(closed, whole, given)
        if most < _LEAST:
            raise ValueNeededError
        self._most = min(self.most, most - 1)

    def run(
        self,
        kernel: Callable[..., Any],
        task: Task,
        numbers: Numbers,
        args: Any,
        kwargs: Any,
        method: Method,
        needs: Needs,
        alone: bool = False,
    ) -> Any:
        """Runs a task by a kernel; its result is frozen.

        Args:
            kernel: this, or what was compiled of it.
            task: as for a call of this, like the others.
            numbers: which numbers are traced that could be fixed.
            args: the positional arguments, frozen.
            kwargs: the keyword arguments, frozen.
            method: how derivatives are estimated.
            needs: what the task needs besides.
            alone: whether a black box that is found inside raises HeldBoxError.
        """
        inputs = (args, kwargs, method, needs)
        self._alone = alone
        if self.boxes.none:
            result = kernel(task, numbers, *inputs, 0.0)
            if self.boxes.none:
                return result
        known = self.boxes.eps
        result = self._once(kernel, task, numbers, inputs, known)
        steps = not isinstance(task, Value)
        if steps and self.boxes.eps > known and not has_tracers(result):
            # A black box inside turned out to be coarser than assumed: step for what it is.
            result = self._once(kernel, task, numbers, inputs, self.boxes.eps)
        return result

    def _once(
        self, kernel: Callable[..., Any], task: Task, numbers: Numbers, inputs: Any, eps: float
    ) -> Any:
        ambient = not self.boxes.called and is_tracing()
        self._inside = ambient or has_tracers(inputs)
        with host_calls.own_errors():
            result = kernel(task, numbers, *inputs, eps)
            if self.boxes and not has_tracers(result):
                jax.block_until_ready(result)
        return result

    def __call__(
        self,
        task: Task,
        numbers: Numbers,
        args: Any,
        kwargs: Any,
        method: Method,
        needs: Needs,
        eps: float = 0.0,
    ) -> Any:
        """Runs a task where this is traced, or operation by operation; its result is frozen.

        Args:
            task: what is asked.
            numbers: which numbers are traced that could be fixed.
            args: the positional arguments, frozen.
            kwargs: the keyword arguments, frozen.
            method: how derivatives are estimated.
            needs: what the task needs besides.
            eps: the relative spacing of what black boxes inside were seen to return.
        """
        arguments = task.bind(thaw(args), thaw(kwargs))
        arguments = dataclasses.replace(arguments, leaves=[*map(jnp.asarray, arguments.leaves)])
        parts = task.split(arguments.leaves, method)
        imaginary = method.imaginary
        fun = self._function(task, numbers, arguments, parts, needs.cotangents, imaginary)
        with self._subject.tracing():
            program = trace(fun, complexified(parts.real, imaginary))
        if numbers is Numbers.WHOLE:
            self.limit(program.closed)
        self._check(task, program, needs)
        asked, boxes = Asked(arguments, method, needs), self.boxes.find(program)
        run = functools.partial(self._in_kernel, task)
        if boxes:
            if self._alone:
                raise HeldBoxError
            traced = self._compiled or self._inside
            return composed(run, program, asked, boxes, eps, self._inside, traced)
        return run(program, asked)

    def _check(self, task: Task, program: TracedFunction, needs: Needs) -> None:
        """Raises TypeError where the function does what no difference can see."""
        if task.everything and program.holds_differentiated:
            raise TypeError(
                f"{task.name}: {self._name} closes over something that is being differentiated, "
                "and JAX sees its arguments only: pass it as an argument (a constant one with "
                "nondiff_argnums)."
            )
        mixed = collective_in(program.closed, len(program.out))
        free = task.together and needs.bounds is None and not calls_host(program.closed)
        if mixed is not None and not free:
            raise TypeError(
                f"{task.name}: {self._name} applies {mixed} to what depends on the argument. All "
                "members of that axis move at once, so that no difference tells what one of them "
                "does: differentiate a function without it, and apply it to the gradients (that of "
                "a mean is the mean of the gradients)."
            )

    def _in_kernel(self, task: Task, program: TracedFunction, asked: Asked) -> Any:
        """Runs a task on a traced function, in the kernel that is being traced."""
        arguments = asked.arguments
        # What devices share by the types of a mesh is moved in one piece: see `Kernel`.
        method, needs = jax.tree.map(gathered, (asked.method, asked.needs))
        parts = task.split(arguments.leaves, method)
        parts = dataclasses.replace(parts, real=[gathered(leaf) for leaf in parts.real])
        imaginary = method.imaginary
        kept = imaginary_in(program.closed, len(program.out)) if imaginary else Imaginary()
        mixed = task.together and collective_in(program.closed, len(program.out)) is not None
        call = call_of(
            jnp,
            arguments,
            parts,
            method,
            needs,
            program,
            lost=kept.lost,
            remade=kept.remade,
            axes=tuple(sorted(axes_in(program.closed.jaxpr), key=str)) if mixed else (),
        )
        place = Kernel(program, task.schedule)
        with own_arithmetic():
            # Members of an axis that is named inside cannot be run piece by piece.
            apart = bool(axes_in(program.closed.jaxpr))
            if place.one_call or apart or not (self._compiled and task.fills):
                return task.run(place, call)
            return in_pieces(lambda: task.run(place, call), members, largest)

    def shape(self, task: Task, program: TracedFunction, asked: Asked) -> Any:
        """The result of a task in shapes and dtypes, which methods of no search tell quickest."""
        asked = asked._replace(method=Central()) if asked.method.searches else asked
        return jax.eval_shape(lambda: self._in_kernel(task, program, asked))

    def outputs(
        self,
        task: Task,
        numbers: Numbers,
        real: Sequence[Any],
        args: Any,
        kwargs: Any,
        cotangents: Any,
    ) -> tuple[Any, Any]:
        """The function as a task sees it, with real leaves in place of the arguments' own."""
        arguments = task.bind(thaw(args), thaw(kwargs))
        parts = real_parts(task, [jnp.asarray(leaf) for leaf in arguments.leaves])
        with self._subject.tracing():
            return self._function(task, numbers, arguments, parts, cotangents, False)(real)

    def _function(
        self,
        task: Task,
        numbers: Numbers,
        arguments: Arguments,
        parts: Parts,
        cotangents: Any,
        imaginary: bool,
    ) -> Callable[[Sequence[Any]], tuple[Any, Any]]:
        """The function of the real leaves that are moved: ``real -> (out, frozen aux)``."""

        def fun(real: Sequence[Any]) -> tuple[Any, Any]:
            args, kwargs = arguments.rebuild(parts.join(Kernel.complex, real))
            out, aux = split_aux(task, self._call(task, numbers, args, kwargs))
            if task.contracted:
                out = contract(jnp, jax.tree.leaves(out), cotangents or (), imaginary)
            return out, freeze(aux)

        return fun

    def _call(self, task: Task, numbers: Numbers, args: Any, kwargs: Any) -> Any:
        try:
            return self._subject.fun(*args, **kwargs)
        except Exception as error:
            if numbers:
                raise ValueNeededError from error
            if not isinstance(error, _CONCRETE):
                raise
            raise TypeError(
                f"{task.name} cannot trace {self._name}: it needs concrete numbers (NumPy, math, "
                "float(), or Python control flow on values). Write it with jax.numpy, or wrap it "
                "with jaxfd.blackbox(fun, out), which evaluates it on the host."
            ) from error

    def allows(
        self, flat: Sequence[Any], tree: Any, traced: Sequence[int], fixed: Collection[int]
    ) -> bool:
        """Whether the function can be traced with some numbers, and computes as without.

        Args:
            flat: the leaves of ``(args, kwargs)``.
            tree: their structure.
            traced: which of the leaves those are.
            fixed: which are other numbers, that are not traced.
        """
        moving = [
            i for i, leaf in enumerate(flat) if i in traced or (is_array(leaf) and i not in fixed)
        ]

        def run(*operands: Any) -> None:
            leaves = list(flat)
            for i, operand in zip(moving, operands, strict=True):
                leaves[i] = operand
            args, kwargs = tree_util.tree_unflatten(tree, leaves)
            self._subject.fun(*args, **kwargs)

        try:
            closed = jax.make_jaxpr(run)(*(flat[i] for i in moving))
        except Exception:
            return False
        given = [i in traced and is_whole(flat[i]) for i in moving]
        return largest_whole(closed, lambda constant: False, given) >= _LEAST


def _is_whole(constant: Any) -> bool:
    """Whether a constant of a program stands for one of Python's integers, which are weak."""
    if not isinstance(constant, jax.core.Tracer):
        return False
    aval: Any = constant.aval
    weak = getattr(aval, "weak_type", False) and aval.shape == ()
    return bool(weak and jnp.issubdtype(aval.dtype, np.integer))
