"""A function's estimates, compiled: one program for each task and shape of call.

Python's numbers among the arguments are traced, as under ``jax.jit``, where the function allows for
that; else a program is made for each of their values. This room must not know where programs
are kept.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax import tree_util

from jaxfd._arrays import Static, is_array, is_inexact
from jaxfd._estimate.estimation import Estimation, HeldBoxError
from jaxfd._estimate.needs import Needs
from jaxfd._estimate.numbers import (
    Numbers,
    Owner,
    ValueNeededError,
    is_other,
    is_whole,
    owners_of,
)
from jaxfd._estimate.searched import HostSearch, is_eager, looks_again
from jaxfd._estimate.task import Task
from jaxfd._functions import Subject
from jaxfd._methods import Method

# Programs for values of numbers that are kept.
_VALUES = 128


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
        self._concrete: set[Owner] = set()

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
        """Runs a task, with those numbers traced that may be."""
        call = _Call.of(args, kwargs)
        run = functools.partial(self._run, task, call, method, needs)
        if not (call.whole or call.others):
            return run((), ())
        if not (call.whole or self._concrete):
            try:
                return run((), (), Numbers.SOME)
            except ValueNeededError:
                pass  # now it matters whose they are
        owners = dict(zip(call.numbers, owners_of(args, kwargs, call.numbers), strict=True))
        barred, moved = self._barred(task, args, method), _moved(task, args)
        others = [
            i
            for i in call.others
            if owners[i] not in moved and not (task.everything and is_inexact(call.flat[i]))
        ]
        while True:
            concrete, most = frozenset(self._concrete), self._estimation.most
            traced = tuple(
                i
                for i in call.whole
                if barred is not None
                and owners[i] not in concrete | barred
                and abs(call.flat[i]) <= most
            )
            free = [i for i in others if owners[i] not in concrete]
            fixed = tuple(i for i in (*call.whole, *others) if i not in traced and i not in free)
            if not traced and not free:
                return run((), fixed)
            try:
                result = run(traced, fixed, Numbers.WHOLE if traced else Numbers.SOME)
            except ValueNeededError:
                candidates = list(dict.fromkeys(owners[i] for i in (*traced, *free)))
                return self._without(candidates, owners, (*traced, *free), fixed, call, run)
            if all(abs(call.flat[i]) <= self._estimation.most for i in traced):
                return result

    def _without(
        self,
        candidates: list[Owner],
        owners: dict[int, Owner],
        loose: tuple[int, ...],
        fixed: tuple[int, ...],
        call: _Call,
        run: Callable[..., Any],
    ) -> Any:
        """Runs a task with those arguments fixed that must not be traced, and remembers them.

        Args:
            candidates: the arguments in question.
            owners: those that numbers belong to.
            loose: the numbers in question.
            fixed: those that are fixed in any case.
            call: the call.
            run: runs the task, given what is traced and what is fixed.
        """
        free: list[Owner] = []
        for owner in candidates if len(candidates) > 1 else ():
            tried = [i for i in loose if owners[i] in free or owners[i] == owner]
            held = {*fixed, *loose} - {*tried}
            if self._estimation.allows(call.flat, call.tree, tried, held):
                free.append(owner)

        def again(free: list[Owner]) -> Any:
            most = self._estimation.most
            traced = tuple(
                i
                for i in loose
                if i in call.whole and owners[i] in free and abs(call.flat[i]) <= most
            )
            rest = [i for i in loose if i not in call.whole and owners[i] in free]
            held = tuple(i for i in (*fixed, *loose) if i not in traced and i not in rest)
            kind = Numbers.WHOLE if traced else Numbers.SOME if rest else Numbers.NONE
            return run(traced, held, kind)

        try:
            result = again(free)
        except ValueNeededError:
            free.clear()
            result = again(free)
        # Only now: what the function raises whatever it is given says nothing about its arguments.
        self._concrete.update(owner for owner in candidates if owner not in free)
        return result

    def _barred(self, task: Task, args: Sequence[Any], method: Method) -> set[Owner] | None:
        """Arguments whose integers are never traced; None for all.

        A power of a complex number is exact for a known exponent only, and what is refused for its
        dtype is to be refused as it came. A search has its numbers at hand.
        """
        looks = bool(self._estimation.boxes) and looks_again(task, method)
        if method.imaginary or method.searches or looks:
            return None
        return set() if task.everything or task.allow_int else _moved(task, args)

    def _run(
        self,
        task: Task,
        call: _Call,
        method: Method,
        needs: Needs,
        traced: tuple[int, ...],
        fixed: tuple[int, ...],
        numbers: Numbers = Numbers.NONE,
    ) -> Any:
        """Runs a task with some of Python's integers traced, and some numbers fixed."""
        frozen = [
            leaf if i in traced or (is_array(leaf) and i not in fixed) else Static(leaf)
            for i, leaf in enumerate(call.flat)
        ]
        args, kwargs = tree_util.tree_unflatten(call.tree, frozen)
        program = self._plain
        if fixed:
            key = tuple((i, Static(call.flat[i])) for i in fixed)
            if key not in self._programs:
                self._programs[key] = _Program(self._estimation)
            self._programs.move_to_end(key)
            program = self._programs[key]
            while len(self._programs) > _VALUES:
                self._programs.popitem(last=False)
        return program(task, numbers, args, kwargs, method, needs)


def _moved(task: Task, args: Sequence[Any]) -> set[Owner]:
    """The arguments that are differentiated, where not all are."""
    if task.everything or not args:
        return set()
    chosen = (task.argnums,) if isinstance(task.argnums, int) else task.argnums
    return {position % len(args) for position in chosen}


class _Call(NamedTuple):
    """The arguments of a call, in leaves.

    Attributes:
        flat: the leaves of ``(args, kwargs)``.
        tree: their structure.
        whole: which of them are Python's integers.
        others: which are other numbers.
    """

    flat: list[Any]
    tree: Any
    whole: list[int]
    others: list[int]

    @classmethod
    def of(cls, args: Any, kwargs: Any) -> _Call:
        flat, tree = tree_util.tree_flatten((args, kwargs))
        whole, others = [], []
        for i, leaf in enumerate(flat):
            if is_whole(leaf):
                whole.append(i)
            elif is_other(leaf):
                others.append(i)
        return cls(flat, tree, whole, others)

    @property
    def numbers(self) -> list[int]:
        return [*self.whole, *self.others]


class _Program:
    """What is compiled of one function: estimates in a kernel, and the evaluation of a search."""

    def __init__(self, estimation: Estimation) -> None:
        # A function of its own: JAX keeps the programs of equal functions in one place.
        def estimate(*args: Any) -> Any:
            return estimation(*args)

        self._estimation = estimation
        self._kernel = jax.jit(estimate, static_argnums=(0, 1, 6))
        self._search = HostSearch(estimation)

    def __call__(
        self, task: Task, numbers: Numbers, args: Any, kwargs: Any, method: Method, needs: Needs
    ) -> Any:
        inputs = (args, kwargs, method, needs)
        # What weighs bars takes long to compile, and less to run.
        weighs = task.barred and not (method.random or method.imaginary)
        searches, looks = method.searches or weighs, looks_again(task, method)
        run = self._estimation.run
        if (searches or looks) and is_eager(inputs):
            found = self._search.run(task, numbers, *inputs) if searches else None
            if found is not None:
                return found
            if looks and not (searches or self._estimation.boxes):
                return run(self._kernel, task, numbers, *inputs, alone=True)
            if looks or method.searches:
                found = run(self._search.compose, task, numbers, *inputs)
            if found is not None:
                return found
        return run(self._kernel, task, numbers, *inputs)
