"""Programs: the user's function bound to the place where it can be run.

`TracedProgram` runs tasks inside a jitted kernel, `HostProgram` on the host behind one
callback. This is the only room that knows both.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from jaxfd import _evaluate
from jaxfd._callback import host_call
from jaxfd._dtype import promote
from jaxfd._estimate._layout import check_bounds
from jaxfd._estimate._task import LEAF, Call, Task, complexified
from jaxfd._evaluate import Kernel
from jaxfd._host import Host, HostFunction, widen
from jaxfd._methods import Method
from jaxfd._tree import freeze, is_traced, thaw


class Program(abc.ABC):
    """A function that tasks can be run on."""

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

        def fun(real: Sequence[Any]) -> tuple[Any, Any]:
            args, kwargs = arguments.rebuild(parts.join(Kernel, real))
            out, aux = _split_aux(task, self._call(task, args, kwargs))
            if task.contracted:
                out = _contract(jnp, jax.tree.leaves(out), extra)
            return out, freeze(aux)

        program = _evaluate.trace(fun, complexified(parts.real, method.stencil().imaginary))
        call = Call(
            arguments, leaves, method, extra, program.out, program.out_tree, program.aux_tree
        )
        return task.run(Kernel(program, task.chunk_size), call, parts)

    def _call(self, task: Task, args: Any, kwargs: Any) -> Any:
        try:
            return self.fun(*args, **kwargs)
        except (
            jax.errors.TracerArrayConversionError,
            jax.errors.TracerIntegerConversionError,
            jax.errors.ConcretizationTypeError,
        ) as error:
            raise TypeError(
                f"{task.name} cannot trace {self.name}: it needs concrete numbers (NumPy, math, "
                "float(), or Python control flow on values). Write it with jax.numpy, or wrap it "
                "with jaxfd.blackbox(fun, out), which evaluates it on the host."
            ) from error


def _contract(xp: Any, outputs: Sequence[Any], cotangents: Sequence[Any]) -> Any:
    """The real part of the pairing of outputs with cotangents, summed in at least float32."""
    total: Any = 0.0
    for y, ct in zip(outputs, cotangents, strict=True):
        dtype = promote(y.dtype, ct.dtype, np.float32)
        total = total + xp.sum(y.astype(dtype) * ct.astype(dtype)).real
    return total


@dataclasses.dataclass(frozen=True)
class _HostTask:
    """A task on a host function, as the callback primitive wants it: hashable, arrays only."""

    function: HostFunction
    task: Task
    tree: Any
    out: tuple[jax.ShapeDtypeStruct, ...]
    out_tree: Any
    wanted_tree: Any
    wanted: int
    aux_tree: Any

    @property
    def name(self) -> str:
        return self.function.name

    def __call__(
        self, arrays: Sequence[np.ndarray], batched: tuple[bool, ...], size: int | None
    ) -> list[np.ndarray]:
        count = 1 if size is None else size
        # All operands with the leading axis of the calls; unbatched ones as views.
        full = [
            a if b else np.broadcast_to(a, (count, *a.shape))
            for a, b in zip(map(widen, arrays), batched, strict=True)
        ]
        settings = tree_util.tree_structure(tree_util.tree_unflatten(self.tree, full)[2:])
        own = settings.num_leaves
        vary = any(batched[len(batched) - own :]) and not self.task.extra_per_call
        if not vary:
            return self._estimate(full, count)
        rows = [self._estimate([a[i : i + 1] for a in full], 1) for i in range(count)]
        return [np.concatenate(column) for column in zip(*rows, strict=True)]

    def _estimate(self, full: list[np.ndarray], count: int) -> list[np.ndarray]:
        known = self.function.eps
        result = self._once(full, count)
        if self.function.eps > known:
            # The function turned out to be coarser than assumed: step for what it is.
            result = self._once(full, count)
        return result

    def _once(self, full: list[np.ndarray], count: int) -> list[np.ndarray]:
        task = self.task
        first = [a[0, ...] for a in full]
        args, kwargs, method, extra = tree_util.tree_unflatten(self.tree, first)
        arguments = task.bind(thaw(args), thaw(kwargs))
        if task.extra_per_call:
            _, _, _, extra = tree_util.tree_unflatten(self.tree, full)
        elif extra is not None:
            check_bounds(arguments, extra)
        inputs, inputs_tree = tree_util.tree_flatten((args, kwargs))
        index = {id(leaf): i for i, leaf in enumerate(inputs)}
        where = [index[id(leaf)] for leaf in arguments.leaves]
        leaves = [full[i] for i in where]
        parts = task.split(leaves, method)
        rest = [i for i in range(len(inputs)) if i not in where]

        def rebuild(real: Sequence[Any], row: Any) -> tuple[tuple, dict]:
            flat = list(inputs)
            joined = parts.join(place, real, lambda leaf: leaf[row])
            for i, leaf in zip(where, joined, strict=True):
                flat[i] = leaf
            for i in rest:
                flat[i] = full[i][row]
            args, kwargs = tree_util.tree_unflatten(inputs_tree, flat)
            return thaw(args), thaw(kwargs)

        post = None
        if task.contracted:

            def post(outputs: list, row: Any) -> list:
                if np.ndim(row) == 0:
                    return [np.asarray(_contract(np, outputs, [c[row] for c in extra]))]
                return [
                    np.stack(
                        [
                            _contract(np, [o[i] for o in outputs], [c[r] for c in extra])
                            for i, r in enumerate(row)
                        ]
                    )
                ]

        place = Host(
            self.function,
            self.out,
            self.out_tree,
            self.wanted,
            rebuild,
            count,
            task.chunk_size,
            post,
        )
        out, out_tree = self.out[: self.wanted], self.wanted_tree
        if task.contracted:
            out, out_tree = (jax.ShapeDtypeStruct((), np.float64),), LEAF
        call = Call(arguments, leaves, method, extra, out, out_tree, self.aux_tree)
        result = tree_util.tree_leaves(task.run(place, call, parts))
        return [r for r in result if r.dtype != jax.dtypes.float0]


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
        inputs = (freeze(args), freeze(kwargs), method, extra)
        flat, tree = tree_util.tree_flatten(inputs)
        operands = [leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf) for leaf in flat]
        key = (task, tree, tuple((o.shape, o.dtype) for o in operands))
        if key not in self._known:
            self._known[key] = self._plan(task, tree, operands)
        host_task, shapes, result_tree, is_float0 = self._known[key]
        results = iter(host_call(host_task, shapes, operands))
        leaves = [
            np.zeros(shape, jax.dtypes.float0) if shape is not None else next(results)
            for shape in is_float0
        ]
        return thaw(tree_util.tree_unflatten(result_tree, leaves))

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

    def _plan(self, task: Task, tree: Any, operands: Sequence[Any]) -> Any:
        """What the callback returns for a task: the shapes that a kernel would have."""
        args, kwargs, _, _ = tree_util.tree_unflatten(tree, operands)
        declared = self.declared(thaw(args), thaw(kwargs))
        flat, out_tree = tree_util.tree_flatten(declared)
        out, aux = _split_aux(task, declared)
        wanted, wanted_tree = tree_util.tree_flatten(out)
        host_task = _HostTask(
            self.function,
            task,
            tree,
            tuple(flat),
            out_tree,
            wanted_tree,
            len(wanted),
            tree_util.tree_structure(aux),
        )
        found: list[Any] = []

        def shapes(*flat: Any) -> list[Any]:
            args, kwargs, method, extra = tree_util.tree_unflatten(tree, flat)
            arguments = task.bind(thaw(args), thaw(kwargs))
            parts = task.split(arguments.leaves, method)
            outputs, structure = (wanted, wanted_tree)
            if task.contracted:
                outputs, structure = [jax.ShapeDtypeStruct((), np.float32)], LEAF
            program = _evaluate.Program(
                call=lambda leaves: [
                    jnp.zeros(o.shape, o.dtype) for o in [*outputs, *jax.tree.leaves(aux)]
                ],
                out=tuple(outputs),
                out_tree=structure,
                aux_tree=host_task.aux_tree,
            )
            call = Call(
                arguments,
                arguments.leaves,
                method,
                extra,
                program.out,
                program.out_tree,
                program.aux_tree,
            )
            leaves, structure = tree_util.tree_flatten(task.run(Kernel(program, None), call, parts))
            is_float0 = [leaf.shape if leaf.dtype == jax.dtypes.float0 else None for leaf in leaves]
            found.append((structure, is_float0))
            return [leaf for leaf, f in zip(leaves, is_float0, strict=True) if f is None]

        structs = [jax.ShapeDtypeStruct(o.shape, o.dtype) for o in operands]
        result = jax.eval_shape(shapes, *structs)
        structure, is_float0 = found[0]
        return host_task, result, structure, is_float0


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
    """Checks bounds against a call whose values are known."""
    if bounds is not None and not is_traced((args, bounds)):
        check_bounds(task.bind(args, kwargs), bounds)
