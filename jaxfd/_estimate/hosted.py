"""Programs on the host: a Python function of NumPy arrays behind one callback.

A task is run inside the callback, with the lines that a kernel runs. Must not know how points are
run side by side.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from jaxfd._arrays import (
    Arguments,
    Static,
    freeze,
    has_static,
    is_complex,
    own_arithmetic,
    thaw,
    weakened,
)
from jaxfd._estimate.contract import contract_rows
from jaxfd._estimate.estimator import for_host
from jaxfd._estimate.first import Value
from jaxfd._estimate.inputs import Inputs
from jaxfd._estimate.needs import Needs
from jaxfd._estimate.program import Program, boxes_for, call_of, split_aux
from jaxfd._estimate.task import LEAF, Call, Task
from jaxfd._jaxpr import TracedFunction
from jaxfd._methods import Method
from jaxfd._places import Declaration, Host, HostFunction, Kernel, Schedule, widen
from jaxfd._points import check_bounds
from jaxfd._primitives import host_call

_SCALAR = jax.ShapeDtypeStruct((), np.float32)


class _HostCall:
    """A task on a host function, as the callback primitive wants it: arrays in, arrays out.

    Args:
        function: the function.
        task: what is asked.
        tree: the structure of ``(args, kwargs, method, needs)``, frozen.
        out: the declared output.
    """

    def __init__(self, function: HostFunction, task: Task, tree: Any, out: Any) -> None:
        self.name = function.name
        self._function = function
        self._task = task
        self._tree = tree
        wanted, aux = split_aux(task, out)
        self._wanted, self._wanted_tree = tree_util.tree_flatten(wanted)
        self._aux_tree = tree_util.tree_structure(aux)
        self._declared = Declaration(out, len(self._wanted))
        numbers = list(range(tree.num_leaves))
        args, kwargs, method, needs = tree_util.tree_unflatten(tree, numbers)
        inputs, self._inputs_tree = tree_util.tree_flatten((args, kwargs))
        self._count = len(inputs)
        # The numbers of the method and of the bounds: the same for all calls of a batch.
        of_calls = {*inputs, *tree_util.tree_leaves(needs.of_each_call())}
        self._settings = [i for i in numbers if i not in of_calls]
        # Whether anything but arrays comes along, which `thaw` would have to look for.
        self._frozen = has_static((args, kwargs))
        bare: Any = tree_util.tree_structure(((0,) * self._count, {}))
        self._build = None if self._inputs_tree == bare else self._rebuild
        self._bound: tuple[Arguments, list[int]] | None = None
        # Method and needs where they hold no numbers: the same for every call.
        self._fixed: tuple[Method, Needs, Needs] | None = None
        if self._count == tree.num_leaves:
            self._fixed = method, needs, needs

    @property
    def eps(self) -> float:
        """The relative spacing of the coarsest output seen so far."""
        return self._function.eps

    @property
    def width(self) -> int:
        """How many points are run side by side."""
        return self._function.runner.width

    @property
    def lossy(self) -> bool:
        """Whether points that fail count as NaN."""
        return bool(self._function.runner.lossy)

    @property
    def estimates(self) -> bool:
        """Whether it returns estimates, which have about half of the digits of values."""
        return not isinstance(self._task, Value)

    @property
    def called(self) -> bool:
        """Whether any was seen."""
        return self._function.called

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
            inputs = arrays[: self._count]
            return self._function(lambda: self._rebuild(_own(inputs)), self._declared)
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

    @property
    def parts(self) -> dict[str, str]:
        """What tells the function from another one."""
        return self._function.runner.parts

    def _rebuild(self, inputs: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of one call of the function."""
        pair = tree_util.tree_unflatten(self._inputs_tree, inputs)
        args, kwargs = thaw(pair) if self._frozen else pair
        return args, kwargs

    def _bind(self, inputs: list[np.ndarray]) -> tuple[Arguments, list[int]]:
        """The bound call, and where its leaves stand among the inputs."""
        if self._bound is None:
            arguments = self._task.bind(*self._rebuild(inputs))
            index = {id(leaf): i for i, leaf in enumerate(inputs)}
            self._bound = arguments, [index[id(leaf)] for leaf in arguments.leaves]
        arguments, where = self._bound
        return dataclasses.replace(arguments, leaves=[inputs[i] for i in where]), where

    def _unpack(self, first: Any, full: Any) -> tuple[Method, Needs, Needs]:
        """The method, what is needed for all calls, and what is needed for each."""
        *_, method, settings = tree_util.tree_unflatten(self._tree, first)
        *_, needs = tree_util.tree_unflatten(self._tree, full)
        return method, settings, needs

    def _estimate(self, full: list[np.ndarray], count: int) -> list[np.ndarray]:
        known = self._function.eps
        result = self._once(full, count)
        if self.estimates and self._function.eps > known:
            # The function turned out to be coarser than assumed: step for what it is.
            result = self._once(full, count)
        return result

    def _once(self, full: list[np.ndarray], count: int) -> list[np.ndarray]:
        task = self._task
        first = [a[0, ...] for a in full]
        arguments, where = self._bind(first[: self._count])
        method, settings, needs = self._fixed or self._unpack(first, full)
        needs = needs._replace(bounds=settings.bounds)
        if needs.bounds is not None:
            check_bounds(arguments, needs.bounds, inside=not task.everything)
        leaves = [full[i] for i in where]
        parts = task.split(leaves, method)
        imaginary = method.imaginary
        post = None
        if task.contracted:
            post = functools.partial(contract_rows, needs.cotangents or (), imaginary)
        calls = Inputs(full[: self._count], where, parts, self._build)
        place = Host(self._function, self._declared, calls, count, task.schedule, post)
        out, out_tree = self._wanted, self._wanted_tree
        if task.contracted:
            out, out_tree = [_SCALAR], LEAF
        call = Call(
            arguments=arguments,
            parts=parts,
            boxes=boxes_for(np, arguments, parts, needs),
            method=method,
            needs=needs,
            out=out,
            out_tree=out_tree,
            aux_tree=self._aux_tree,
            checked=True,
        )
        result = tree_util.tree_leaves(task.run(place, call))
        return [r for r in result if r.dtype != jax.dtypes.float0]

    def results(self, operands: Sequence[Any]) -> tuple[list[Any], Any, Sequence[Any]]:
        """What the callback returns: what a kernel would, for a function of the declared output.

        Returns:
            Shapes and dtypes of the results, the structure of the task's result, and for each of
            its leaves a shape where it is ``float0`` and does not pass through the callback.
        """
        # What is no array may be an object of the user's, which nothing here is to keep alive.
        pretend = _pretend.__wrapped__ if self._frozen else _pretend
        aux = tuple(self._declared.leaves[len(self._wanted) :])
        out = tuple(self._wanted), self._wanted_tree, aux, self._aux_tree
        like = [jax.ShapeDtypeStruct(o.shape, o.dtype, weak_type=_is_weak(o)) for o in operands]
        shapes, found = jax.eval_shape(pretend(self._task, self._tree, *out), *like)
        return shapes, *found.value


@functools.lru_cache(maxsize=256)
def _pretend(
    task: Task,
    tree: Any,
    wanted: tuple[jax.ShapeDtypeStruct, ...],
    wanted_tree: Any,
    aux: tuple[jax.ShapeDtypeStruct, ...],
    aux_tree: Any,
) -> Callable[..., tuple[list[Any], Static]]:
    """A kernel of a task for a function of zeros; JAX keeps its trace for every box like it.

    Args:
        task: what is asked.
        tree: the structure of ``(args, kwargs, method, needs)``, frozen.
        wanted: the declared outputs that are differentiated.
        wanted_tree: their structure.
        aux: the other declared outputs.
        aux_tree: their structure.

    Returns:
        A function of the leaves of ``tree`` that returns those leaves of the task's result that
        are no ``float0``; and what `_HostCall.results` returns besides.
    """

    def run(*flat: Any) -> tuple[list[Any], Static]:
        args, kwargs, method, needs = tree_util.tree_unflatten(tree, flat)
        out, out_tree = wanted, wanted_tree
        if task.contracted:
            keeps = method.imaginary and any(map(is_complex, out))
            dtype = np.complex64 if keeps else np.float32
            out, out_tree = (jax.ShapeDtypeStruct((), dtype),), LEAF
        outputs = [*out, *aux]
        arguments = task.bind(thaw(args), thaw(kwargs))
        parts = task.split(arguments.leaves, method)
        program = TracedFunction(
            lambda _: [jnp.zeros(o.shape, o.dtype) for o in outputs], out, out_tree, aux_tree
        )
        call = call_of(jnp, arguments, parts, method, needs, program)
        place = Kernel(program, Schedule())
        with own_arithmetic():
            leaves, structure = tree_util.tree_flatten(task.run(place, call))
        void = tuple(x.shape if x.dtype == jax.dtypes.float0 else None for x in leaves)
        kept = [leaf for leaf, shape in zip(leaves, void, strict=True) if shape is None]
        return kept, Static((structure, void))

    return run


def _own(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Arrays in double precision that a function may write to."""
    wide = [widen(a) for a in arrays]
    return [w if w.flags.owndata and w.flags.writeable else w.copy() for w in wide]


def _is_weak(operand: Any) -> bool:
    return bool(jax.typeof(operand).weak_type)


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

    traced = False

    def narrowed(self, arguments: Any, out: Any) -> HostProgram | None:
        """The same function of fewer numbers, as `HostFunction.narrowed` makes it."""
        function = self.function.narrowed(arguments)
        return None if function is None else HostProgram(function, out)

    def reads(self) -> tuple[Any, ...]:
        # The function is asked whenever its program runs, its output described as that is made.
        return (self._out,) if callable(self._out) else ()

    def run(
        self,
        task: Task,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        method: Method,
        needs: Needs = Needs(),
    ) -> Any:
        method = for_host(method, task, args, kwargs)
        inputs = (freeze(args), freeze(kwargs), method, needs)
        flat, tree = tree_util.tree_flatten(inputs)
        operands = [leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf) for leaf in flat]
        key = (task, tree, tuple((o.shape, o.dtype, _is_weak(o)) for o in operands))
        if key not in self._known:
            made = _HostCall(self.function, task, tree, self.declared(*thaw((args, kwargs))))
            self._known[key] = (made, *made.results(operands))
        made, shapes, structure, void = self._known[key]
        found = zip(host_call(made, shapes, operands), shapes, strict=True)
        results = iter([weakened(r) if like.weak_type else r for r, like in found])
        leaves = [
            next(results) if shape is None else np.zeros(shape, jax.dtypes.float0) for shape in void
        ]
        return thaw(tree_util.tree_unflatten(structure, leaves))

    @property
    def eps(self) -> float:
        return self.function.eps

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
