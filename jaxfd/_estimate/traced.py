"""Programs in a kernel: a function that JAX traces, with its estimate compiled around it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from jaxfd._arrays import freeze, thaw
from jaxfd._estimate.compilation import Compilation
from jaxfd._estimate.estimation import Estimation, HeldBoxError
from jaxfd._estimate.first import Value
from jaxfd._estimate.needs import Needs
from jaxfd._estimate.numbers import Numbers
from jaxfd._estimate.program import Program, ProgramHolder
from jaxfd._estimate.searched import is_eager, looks_again
from jaxfd._estimate.task import Task
from jaxfd._functions import Holder, Subject, companions, entry_beside
from jaxfd._methods import Central, Method
from jaxfd._places import calls_host


class TracedProgram(Program):
    """A function that JAX can trace.

    What is compiled is kept with the function, and serves every program that is made of it as long
    as the function reads the same objects: see `jaxfd._functions`.

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
        self._kept: dict[tuple[int, ...], Compilation] = {}
        self._own: Compilation | None = None
        self._last: Compilation | None = None

    def reads(self) -> tuple[Any, ...]:
        return (self.fun,)

    @property
    def eps(self) -> float | None:
        """The relative spacing of the coarsest numbers in a composition, once it was run."""
        return None if self._last is None else self._last.eps

    def run(
        self,
        task: Task,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        method: Method,
        needs: Needs = Needs(),
    ) -> Any:
        if not self._compiled:
            estimation = Estimation(Subject(Holder(self.fun), None), self.name, compiled=False)
            inputs = (freeze(args), freeze(kwargs), method, needs)
            alone = looks_again(task, method) and is_eager(inputs)
            with contextlib.suppress(HeldBoxError):
                return thaw(estimation.run(estimation, task, Numbers.NONE, *inputs, alone=alone))
        beside = companions((args, kwargs))
        compilation = self._alone() if beside is None else self._find(beside)
        self._last = compilation
        return thaw(compilation(task, args, kwargs, method, needs))

    def _find(self, beside: tuple[Any, ...]) -> Compilation:
        """What is kept of the function as it is at the first call; later it is not asked again.

        Args:
            beside: what else is read, since arguments bring it along; see `companions`.
        """
        key = tuple(map(id, beside))
        found = self._kept.get(key)
        if found is None:
            entry = entry_beside(self.fun, beside)
            found = entry.get("estimate", lambda: Compilation(entry.subject, self.name))
            if entry.subject.state is None:
                found = self._own = self._own or found
            self._kept[key] = found
        return found

    def _alone(self) -> Compilation:
        """What only this program knows."""
        if self._own is None:
            self._own = Compilation(Subject(Holder(self.fun), None), self.name)
        return self._own


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


def program_of(fun: Callable[..., Any], compiled: bool = True) -> Program:
    """The program behind a function: a black box brings its own, any other is traced."""
    if isinstance(fun, ProgramHolder):
        return fun.program
    if not callable(fun):
        raise TypeError(f"fun must be callable, got {type(fun).__name__}.")
    return TracedProgram(fun, compiled)
