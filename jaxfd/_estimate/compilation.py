"""A function's estimates, compiled: one program for each task and shape of call.

Python's integers among the arguments are traced, as under ``jax.jit``, where the function allows
for that; else a program is made for each of their values. This room must not know where programs
are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import jax
from jax import tree_util

from jaxfd._arrays import Static, is_array
from jaxfd._estimate.estimation import Estimation, HeldBoxError, ValueNeededError
from jaxfd._estimate.needs import Needs
from jaxfd._estimate.searched import HostSearch, is_eager, looks_again
from jaxfd._estimate.task import Task
from jaxfd._functions import Subject
from jaxfd._methods import Method

# Programs for values of integers that are kept.
_VALUES = 128

# An argument: its position, or its name.
_Owner = int | str


class Compilation:
    """The programs of one function.

    Args:
        subject: the function.
        name: what errors call it.
    """

    def __init__(self, subject: Subject, name: str) -> None:
        self._estimation = Estimation(subject, name)
        self._programs: OrderedDict[Any, Any] = OrderedDict()
        self._plain = _Program(self._estimation)
        self._concrete: set[_Owner] = set()

    @property
    def eps(self) -> float | None:
        """The relative spacing of the coarsest numbers in a composition, once it was run."""
        boxes = self._estimation.boxes
        return boxes.of_everything if boxes else None

    def __call__(
        self, task: Task, args: Any, kwargs: Any, method: Method, needs: Needs = Needs()
    ) -> Any:
        """Runs a task; its result is frozen."""
        try:
            return self._chosen(task, args, kwargs, method, needs)
        except HeldBoxError:
            # Now it is known that there is one.
            return self._chosen(task, args, kwargs, method, needs)

    def _chosen(self, task: Task, args: Any, kwargs: Any, method: Method, needs: Needs) -> Any:
        """Runs a task, with those integers traced that may be."""
        flat, tree = tree_util.tree_flatten((args, kwargs))
        whole = [i for i, leaf in enumerate(flat) if type(leaf) is int]
        if not whole:
            return self._run(task, flat, tree, (), (), method, needs)
        barred = self._barred(task, args, method)
        if barred is None:
            fixed = tuple((i, flat[i]) for i in whole)
            return self._run(task, flat, tree, (), fixed, method, needs)
        owners = dict(zip(whole, _owners(args, kwargs, whole), strict=True))
        while True:
            concrete, most = frozenset(self._concrete), self._estimation.most
            traced = tuple(
                i
                for i in whole
                if owners[i] not in concrete and owners[i] not in barred and abs(flat[i]) <= most
            )
            fixed = tuple((i, flat[i]) for i in whole if i not in traced)
            try:
                result = self._run(task, flat, tree, traced, fixed, method, needs)
            except ValueNeededError:
                if not traced:
                    raise
                candidates = list(dict.fromkeys(owners[i] for i in traced))
                return self._without(candidates, owners, task, flat, tree, method, needs)
            if all(abs(flat[i]) <= self._estimation.most for i in traced):
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
            if self._estimation.allows(flat, tree, tried):
                free.append(owner)

        def run() -> Any:
            most = self._estimation.most
            traced = [i for i, of in owners.items() if of in free and abs(flat[i]) <= most]
            fixed = tuple((i, flat[i]) for i in owners if i not in traced)
            return self._run(task, flat, tree, tuple(traced), fixed, method, needs)

        try:
            result = run()
        except ValueNeededError:
            free.clear()
            result = run()
        # Only now: what the function raises whatever it is given says nothing about its arguments.
        self._concrete.update(owner for owner in candidates if owner not in free)
        return result

    def _barred(self, task: Task, args: Sequence[Any], method: Method) -> set[_Owner] | None:
        """Arguments whose integers are never traced; None for all.

        A power of a complex number is exact for a known exponent only, and what is refused for its
        dtype is to be refused as it came. A search has its numbers at hand.
        """
        looks = bool(self._estimation.boxes) and looks_again(task, method)
        if method.imaginary or method.searches or looks:
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
                self._programs[fixed] = _Program(self._estimation)
            self._programs.move_to_end(fixed)
            program = self._programs[fixed]
            while len(self._programs) > _VALUES:
                self._programs.popitem(last=False)
        return program(task, bool(traced), args, kwargs, method, needs)


class _Program:
    """What is compiled of one function: estimates in a kernel, and the evaluation of a search."""

    def __init__(self, estimation: Estimation) -> None:
        # A function of its own: JAX keeps the programs of equal functions in one place.
        def estimate(*args: Any) -> Any:
            return estimation(*args)

        self._estimation = estimation
        self._kernel = jax.jit(estimate, static_argnums=(0, 1, 6))
        self._search = HostSearch(estimation.outputs, estimation.shape, estimation.boxes)

    def __call__(
        self, task: Task, whole: bool, args: Any, kwargs: Any, method: Method, needs: Needs
    ) -> Any:
        inputs = (args, kwargs, method, needs)
        # What weighs bars takes long to compile, and less to run.
        weighs = task.barred and not (method.random or method.imaginary)
        searches, looks = method.searches or weighs, looks_again(task, method)
        run = self._estimation.run
        if (searches or looks) and is_eager(inputs):
            found = self._search.run(task, *inputs) if searches else None
            if found is not None:
                return found
            if looks and not (searches or self._estimation.boxes):
                return run(self._kernel, task, whole, *inputs, alone=True)
            if looks or method.searches:
                found = run(self._search.compose, task, whole, *inputs)
            if found is not None:
                return found
        return run(self._kernel, task, whole, *inputs)


def _owners(args: Sequence[Any], kwargs: dict[str, Any], wanted: Sequence[int]) -> list[_Owner]:
    """For each of these leaves the argument that it belongs to."""
    every: list[_Owner] = []
    named: list[tuple[_Owner, Any]] = [(name, kwargs[name]) for name in sorted(kwargs)]
    for owner, arg in [*enumerate(args), *named]:
        every += [owner] * len(tree_util.tree_leaves(arg))
    return [every[i] for i in wanted]
