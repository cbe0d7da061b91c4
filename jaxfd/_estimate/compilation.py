"""A function's estimates, compiled: one program for each task and shape of call.

Python's integers among the arguments are traced, as under ``jax.jit``, where the function allows
for that; else a program is made for each of their values. This room must not know where programs
are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from jaxfd._arrays import Static, freeze, is_array, thaw
from jaxfd._estimate.contract import contract
from jaxfd._estimate.needs import Needs
from jaxfd._estimate.program import boxes_for, split_aux
from jaxfd._estimate.task import Call, Task, complexified
from jaxfd._functions import Entry
from jaxfd._jaxpr import largest_whole, lost_in, trace
from jaxfd._methods import Method
from jaxfd._places import Kernel

# Programs for values of integers that are kept, and the least an integer must be allowed to be.
_VALUES, _LEAST = 128, 2**10

# An argument: its position, or its name.
_Owner = int | str


class _ValueNeededError(Exception):
    """A function does not do with a traced integer what it does with its value."""


class Compilation:
    """The programs of one function.

    Args:
        entry: the function's.
        name: what errors call it.
    """

    def __init__(self, entry: Entry, name: str) -> None:
        self._entry, self._name = entry, name
        self._programs: OrderedDict[Any, Any] = OrderedDict()
        self._plain = self._program()
        # One that asks for the types of things might take a traced integer for something else.
        asks = entry.state is not None and entry.state.asks
        self._most = 0 if asks else np.iinfo(np.int32).max
        self._concrete: set[_Owner] = set()

    def __call__(
        self, task: Task, args: Any, kwargs: Any, method: Method, needs: Needs = Needs()
    ) -> Any:
        """Runs a task; its result is frozen."""
        flat, tree = tree_util.tree_flatten((args, kwargs))
        whole = [i for i, leaf in enumerate(flat) if type(leaf) is int]
        if not whole:
            return self._run(task, flat, tree, (), (), method, needs)
        owners = dict(zip(whole, _owners(args, kwargs, whole), strict=True))
        barred = self._barred(task, args, method)
        while True:
            concrete, most = frozenset(self._concrete), self._most
            traced = tuple(
                i
                for i in whole
                if barred is not None
                and owners[i] not in concrete
                and owners[i] not in barred
                and abs(flat[i]) <= most
            )
            fixed = tuple((i, flat[i]) for i in whole if i not in traced)
            try:
                result = self._run(task, flat, tree, traced, fixed, method, needs)
            except _ValueNeededError:
                if not traced:
                    raise
                candidates = list(dict.fromkeys(owners[i] for i in traced))
                return self._without(candidates, owners, task, flat, tree, method, needs)
            if all(abs(flat[i]) <= self._most for i in traced):
                return result

    def _without(
        self,
        candidates: list[_Owner],
        owners: dict[int, _Owner],
        task: Task,
        flat: list[Any],
        tree: Any,
        method: Method,
        needs: Needs,
    ) -> Any:
        """Runs a task with those arguments fixed that must not be traced, and remembers them."""
        free: list[_Owner] = []
        for owner in candidates if len(candidates) > 1 else ():
            tried = [i for i, of in owners.items() if of in free or of == owner]
            if self._allows(flat, tree, tried):
                free.append(owner)
        traced = tuple(i for i, of in owners.items() if of in free and abs(flat[i]) <= self._most)
        fixed = tuple((i, flat[i]) for i in owners if i not in traced)
        result = self._run(task, flat, tree, traced, fixed, method, needs)
        # Only now: what the function raises whatever it is given says nothing about its arguments.
        self._concrete.update(owner for owner in candidates if owner not in free)
        return result

    def _barred(self, task: Task, args: Sequence[Any], method: Method) -> set[_Owner] | None:
        """Arguments whose integers are never traced; None for all.

        A power of a complex number is exact for a known exponent only, and what is refused for its
        dtype is to be refused as it came.
        """
        if method.imaginary:
            return None
        if task.everything or task.allow_int:
            return set()
        chosen = (task.argnums,) if isinstance(task.argnums, int) else task.argnums
        return {position % len(args) for position in chosen} if args else set()

    def _run(
        self,
        task: Task,
        flat: list[Any],
        tree: Any,
        traced: tuple[int, ...],
        fixed: tuple[tuple[int, int], ...],
        method: Method,
        needs: Needs,
    ) -> Any:
        frozen = [
            leaf if i in traced or is_array(leaf) else Static(leaf) for i, leaf in enumerate(flat)
        ]
        args, kwargs = tree_util.tree_unflatten(tree, frozen)
        program = self._plain
        if fixed:
            if fixed not in self._programs:
                self._programs[fixed] = self._program()
            self._programs.move_to_end(fixed)
            program = self._programs[fixed]
            while len(self._programs) > _VALUES:
                self._programs.popitem(last=False)
        return program(task, bool(traced), args, kwargs, method, needs)

    def _program(self) -> Callable[..., Any]:
        return jax.jit(self.estimate, static_argnums=(0, 1))

    def _allows(self, flat: list[Any], tree: Any, traced: Sequence[int]) -> bool:
        """Whether the function can be traced with these integers, and computes as without."""
        moving = [i for i, leaf in enumerate(flat) if i in traced or is_array(leaf)]

        def run(*operands: Any) -> None:
            leaves = list(flat)
            for i, operand in zip(moving, operands, strict=True):
                leaves[i] = operand
            args, kwargs = tree_util.tree_unflatten(tree, leaves)
            self._entry.fun(*args, **kwargs)

        try:
            closed = jax.make_jaxpr(run)(*(flat[i] for i in moving))
        except Exception:
            return False
        given = [i in traced for i in moving]
        return largest_whole(closed, lambda constant: False, given) >= _LEAST

    def estimate(
        self, task: Task, whole: bool, args: Any, kwargs: Any, method: Method, needs: Needs
    ) -> Any:
        """The estimate itself, as it is traced.

        Args:
            task: what is asked.
            whole: whether Python's integers are among the traced arguments.
            args: the positional arguments, frozen.
            kwargs: the keyword arguments, frozen.
            method: how derivatives are estimated.
            needs: what the task needs besides.
        """
        arguments = task.bind(thaw(args), thaw(kwargs))
        leaves = [jnp.asarray(leaf) for leaf in arguments.leaves]
        parts = task.split(leaves, method)
        imaginary = method.imaginary

        def fun(real: Sequence[Any]) -> tuple[Any, Any]:
            args, kwargs = arguments.rebuild(parts.join(Kernel.complex, real))
            out, aux = split_aux(task, self._call(task, whole, args, kwargs))
            if task.contracted:
                cotangents = needs.cotangents or ()
                out = contract(jnp, jax.tree.leaves(out), cotangents, imaginary)
            return out, freeze(aux)

        with self._entry.tracing():
            program = trace(fun, complexified(parts.real, imaginary))
        if whole:
            most = largest_whole(program.closed, _is_whole)
            if most < _LEAST:
                raise _ValueNeededError
            self._most = min(self._most, most - 1)
        if task.everything and program.holds_differentiated:
            raise TypeError(
                f"{task.name}: {self._name} closes over something that is being differentiated, "
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
        return task.run(Kernel(program, task.schedule), call)

    def _call(self, task: Task, whole: bool, args: Any, kwargs: Any) -> Any:
        try:
            return self._entry.fun(*args, **kwargs)
        except Exception as error:
            if whole:
                raise _ValueNeededError from error
            if not isinstance(error, _CONCRETE):
                raise
            raise TypeError(
                f"{task.name} cannot trace {self._name}: it needs concrete numbers (NumPy, math, "
                "float(), or Python control flow on values). Write it with jax.numpy, or wrap it "
                "with jaxfd.blackbox(fun, out), which evaluates it on the host."
            ) from error


_CONCRETE = (
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.ConcretizationTypeError,
    jax.errors.NonConcreteBooleanIndexError,
)


def _owners(args: Sequence[Any], kwargs: dict[str, Any], wanted: Sequence[int]) -> list[_Owner]:
    """For each of these leaves the argument that it belongs to."""
    every: list[_Owner] = []
    for owner, arg in (*enumerate(args), *((name, kwargs[name]) for name in sorted(kwargs))):
        every += [owner] * len(tree_util.tree_leaves(arg))
    return [every[i] for i in wanted]


def _is_whole(constant: Any) -> bool:
    """Whether a constant of a program stands for one of Python's integers, which are weak."""
    if not isinstance(constant, jax.core.Tracer):
        return False
    aval: Any = constant.aval
    weak = getattr(aval, "weak_type", False) and aval.shape == ()
    return bool(weak and jnp.issubdtype(aval.dtype, np.integer))
