"""Programs: the user's function bound to the place where it can be run.

`TracedProgram` runs tasks inside a jitted kernel, `HostProgram` on the host behind one
callback. This is the only room that knows both.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from jaxfd._arrays.arguments import Arguments, freeze, has_static, thaw
from jaxfd._arrays.dtype import is_complex
from jaxfd._estimate.contract import contract, contract_rows, rows_of
from jaxfd._estimate.first import Value
from jaxfd._estimate.layout import check_bounds
from jaxfd._estimate.sampled import drawn
from jaxfd._estimate.task import LEAF, Call, Task, complexified
from jaxfd._jaxpr.analytic import lost_in
from jaxfd._jaxpr.trace import Program as Traced
from jaxfd._jaxpr.trace import trace
from jaxfd._methods.finite import Method
from jaxfd._places.host import Host
from jaxfd._places.hostfunction import Declared, HostFunction, widen
from jaxfd._places.kernel import Kernel
from jaxfd._primitives.callback import host_call
from jaxfd._random import RandomDirections


class Program(abc.ABC):
    """A function that tasks can be run on.

    Attributes:
        name: what errors call it.
    """

    name: str

    @abc.abstractmethod
    def run(
        self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any], method: Method, extra: Any
    ) -> Any:
        """Runs a task on a call of the function."""


def _split_aux(task: Task, result: Any) -> tuple[Any, Any]:
    if not task.has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            f"{task.name} with has_aux=True needs a function that returns a pair (value, auxiliary "
            f"data), got {type(result).__name__}: return such a pair, or drop has_aux."
        )
    return result


class TracedProgram(Program):
    """A function that JAX can trace.

    Args:
        fun: the function.
        compiled: whether the kernel is compiled, once per task and shape of call; a function that
            is called once and thrown away is better run operation by operation.
    """

    def __init__(self, fun: Callable[..., Any], compiled: bool = True) -> None:
        self.fun = fun
        self.name = getattr(fun, "__name__", type(fun).__name__)
        self._kernel = jax.jit(self._estimate, static_argnums=0) if compiled else self._estimate

    def run(
        self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any], method: Method, extra: Any
    ) -> Any:
        result = self._kernel(task, freeze(args), freeze(kwargs), method, extra)
        return thaw(result)

    def _estimate(self, task: Task, args: Any, kwargs: Any, method: Method, extra: Any) -> Any:
        arguments = task.bind(thaw(args), thaw(kwargs))
        leaves = [jnp.asarray(leaf) for leaf in arguments.leaves]
        parts = task.split(leaves, method)
        imaginary = method.imaginary

        def fun(real: Sequence[Any]) -> tuple[Any, Any]:
            args, kwargs = arguments.rebuild(parts.join(Kernel, real))
            out, aux = _split_aux(task, self._call(task, args, kwargs))
            if task.contracted:
                out = contract(jnp, jax.tree.leaves(out), extra, imaginary)
            return out, freeze(aux)

        program = trace(fun, complexified(parts.real, imaginary))
        if task.everything and program.holds_differentiated:
            raise TypeError(
                f"{task.name}: {self.name} closes over something that is being differentiated, "
                "and JAX sees its arguments only: pass it as an argument (a constant one with "
                "nondiff_argnums)."
            )
        call = Call(
            arguments,
            leaves,
            method,
            extra,
            program.out,
            program.out_tree,
            program.aux_tree,
            lost=lost_in(program.closed, len(program.out)) if imaginary else None,
        )
        return task.run(Kernel(program, task.chunk_size), call, parts)

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


class _HostTask:
    """A task on a host function, as the callback primitive wants it: arrays in, arrays out.

    Args:
        function: the function.
        task: what is asked.
        tree: the structure of ``(args, kwargs, method, extra)``, frozen.
        out: the declared output.
    """

    def __init__(self, function: HostFunction, task: Task, tree: Any, out: Any) -> None:
        self.name = function.name
        self._function = function
        self._task = task
        self._tree = tree
        wanted, aux = _split_aux(task, out)
        self._wanted, self._wanted_tree = tree_util.tree_flatten(wanted)
        self._aux_tree = tree_util.tree_structure(aux)
        self._declared = Declared(out, len(self._wanted))
        numbers = list(range(tree.num_leaves))
        args, kwargs, _, extra = tree_util.tree_unflatten(tree, numbers)
        inputs, self._inputs_tree = tree_util.tree_flatten((args, kwargs))
        self._count = len(inputs)
        self._settings = range(
            self._count, len(numbers) - (task.extra_per_call and len(tree_util.tree_leaves(extra)))
        )
        # Whether anything but arrays comes along, which `thaw` would have to look for.
        self._frozen = has_static((args, kwargs))
        self._bound: tuple[Arguments, list[int]] | None = None

    def __call__(
        self, arrays: Sequence[np.ndarray], batched: tuple[bool, ...], size: int | None
    ) -> list[np.ndarray]:
        runner = self._function.runner
        if (
            isinstance(self._task, Value)
            and size is None
            and runner.plain
            and not runner.vectorized
        ):
            args, kwargs = self._rebuild([widen(a) for a in arrays[: self._count]])
            return self._function(args, kwargs, self._declared)
        count = 1 if size is None else size
        # All operands with the leading axis of the calls; unbatched ones as views.
        full = [
            np.broadcast_to(a, a.shape if b else (count, *a.shape))
            for a, b in zip(map(widen, arrays), batched, strict=True)
        ]
        if not any(batched[i] for i in self._settings):
            return self._estimate(full, count)
        rows = [self._estimate([a[i : i + 1] for a in full], 1) for i in range(count)]
        return [np.concatenate(column) for column in zip(*rows, strict=True)]

    def _rebuild(self, inputs: Sequence[Any]) -> tuple[tuple, dict]:
        """The arguments of one call of the function."""
        pair = tree_util.tree_unflatten(self._inputs_tree, inputs)
        return thaw(pair) if self._frozen else pair

    def _bind(self, inputs: list[np.ndarray]) -> tuple[Arguments, list[int]]:
        """The bound call, and where its leaves stand among the inputs."""
        if self._bound is None:
            arguments = self._task.bind(*self._rebuild(inputs))
            index = {id(leaf): i for i, leaf in enumerate(inputs)}
            self._bound = arguments, [index[id(leaf)] for leaf in arguments.leaves]
        arguments, where = self._bound
        return dataclasses.replace(arguments, leaves=[inputs[i] for i in where]), where

    def _estimate(self, full: list[np.ndarray], count: int) -> list[np.ndarray]:
        known = self._function.eps
        result = self._once(full, count)
        if self._function.eps > known:
            # The function turned out to be coarser than assumed: step for what it is.
            result = self._once(full, count)
        return result

    def _once(self, full: list[np.ndarray], count: int) -> list[np.ndarray]:
        task = self._task
        first = [a[0, ...] for a in full]
        arguments, where = self._bind(first[: self._count])
        _, _, method, extra = tree_util.tree_unflatten(self._tree, first)
        if task.extra_per_call:
            _, _, _, extra = tree_util.tree_unflatten(self._tree, full)
        elif extra is not None:
            check_bounds(arguments, extra)
        leaves = [full[i] for i in where]
        parts = task.split(leaves, method)
        rest = [i for i in range(self._count) if i not in where]

        def rebuild(real: Sequence[Any], row: Any) -> tuple[tuple, dict]:
            inputs: list[Any] = [None] * self._count
            joined = parts.join(Host, real, lambda leaf: rows_of(leaf, row))
            for i, leaf in zip(where, joined, strict=True):
                inputs[i] = leaf
            for i in rest:
                inputs[i] = rows_of(full[i], row)
            return self._rebuild(inputs)

        imaginary = method.imaginary
        post = functools.partial(contract_rows, extra, imaginary) if task.contracted else None
        place = Host(self._function, self._declared, rebuild, count, task.chunk_size, post)
        out, out_tree = self._wanted, self._wanted_tree
        if task.contracted:
            out, out_tree = [_SCALAR], LEAF
        call = Call(arguments, leaves, method, extra, out, out_tree, self._aux_tree, checked=True)
        result = tree_util.tree_leaves(task.run(place, call, parts))
        return [r for r in result if r.dtype != jax.dtypes.float0]

    def results(self, operands: Sequence[Any]) -> tuple[Any, Any, list[Any]]:
        """What the callback returns: what a kernel would, for a function of the declared output.

        Returns:
            Shapes and dtypes of the results, the structure of the task's result, and for each of
            its leaves a shape where it is ``float0`` and does not pass through the callback.
        """
        task, found = self._task, []
        aux = self._declared.leaves[len(self._wanted) :]

        def run(*flat: Any) -> list[Any]:
            args, kwargs, method, extra = tree_util.tree_unflatten(self._tree, flat)
            out, out_tree = self._wanted, self._wanted_tree
            if task.contracted:
                keeps = method.imaginary and any(map(is_complex, out))
                dtype = np.complex64 if keeps else np.float32
                out, out_tree = [jax.ShapeDtypeStruct((), dtype)], LEAF
            outputs = [*out, *aux]
            arguments = task.bind(thaw(args), thaw(kwargs))
            parts = task.split(arguments.leaves, method)
            program = Traced(
                lambda _: [jnp.zeros(o.shape, o.dtype) for o in outputs],
                tuple(out),
                out_tree,
                self._aux_tree,
            )
            call = Call(arguments, arguments.leaves, method, extra, out, out_tree, self._aux_tree)
            leaves, structure = tree_util.tree_flatten(task.run(Kernel(program, None), call, parts))
            void = [leaf.shape if leaf.dtype == jax.dtypes.float0 else None for leaf in leaves]
            found.append((structure, void))
            return [leaf for leaf, shape in zip(leaves, void, strict=True) if shape is None]

        shapes = jax.eval_shape(run, *(jax.ShapeDtypeStruct(o.shape, o.dtype) for o in operands))
        return shapes, *found[0]


_SCALAR = jax.ShapeDtypeStruct((), np.float32)


class HostProgram(Program):
    """A Python function of NumPy arrays, behind one callback.

    Args:
        function: the function.
        out: a pytree of shapes and dtypes, or a function of the arguments' shapes that returns one.
    """

    def __init__(self, function: HostFunction, out: Any) -> None:
        self.function = function
        self.name = function.name
        self._out = out
        self._known: dict[Any, Any] = {}

    def run(
        self, task: Task, args: tuple[Any, ...], kwargs: dict[str, Any], method: Method, extra: Any
    ) -> Any:
        if isinstance(method, RandomDirections):
            method = drawn(task, args, kwargs, method)
        inputs = (freeze(args), freeze(kwargs), method, extra)
        flat, tree = tree_util.tree_flatten(inputs)
        operands = [leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf) for leaf in flat]
        key = (task, tree, tuple((o.shape, o.dtype) for o in operands))
        if key not in self._known:
            host_task = _HostTask(self.function, task, tree, self.declared(*thaw((args, kwargs))))
            self._known[key] = (host_task, *host_task.results(operands))
        host_task, shapes, structure, void = self._known[key]
        results = iter(host_call(host_task, shapes, operands))
        leaves = [
            next(results) if shape is None else np.zeros(shape, jax.dtypes.float0) for shape in void
        ]
        return thaw(tree_util.tree_unflatten(structure, leaves))

    def declared(self, args: Any, kwargs: Any) -> Any:
        """The declared output for a call, with dtypes as this JAX configuration has them."""

        def struct(leaf: Any) -> jax.ShapeDtypeStruct:
            dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
            shape = tuple(leaf.shape) if hasattr(leaf, "shape") else jnp.shape(leaf)
            return jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype))

        out = self._out
        if callable(out):
            shapes = jax.tree.map(
                lambda leaf: struct(leaf) if hasattr(leaf, "dtype") else leaf, (args, kwargs)
            )
            out = out(*shapes[0], **shapes[1])
        return jax.tree.map(struct, out)


class WithProgram:
    """A function object that brings its own program."""

    program: Program


def program_of(fun: Callable[..., Any], compiled: bool = True) -> Program:
    """The program behind a function: a black box brings its own, any other is traced."""
    if isinstance(fun, WithProgram):
        return fun.program
    if not callable(fun):
        raise TypeError(f"fun must be callable, got {type(fun).__name__}.")
    return TracedProgram(fun, compiled)


def check_call(task: Task, args: Any, kwargs: Any, bounds: Any) -> None:
    """Checks bounds against a call, as far as values are known."""
    if bounds is not None:
        check_bounds(task.bind(args, kwargs), bounds)
