"""Programs: the user's function bound to the place where it can be run.

Where a program runs is its own affair: in a compiled kernel (`traced`), or on the host (`hosted`).
"""

from __future__ import annotations

import abc
from typing import Any

from jaxfd._arrays import Arguments, Parts
from jaxfd._estimate.needs import Needs
from jaxfd._estimate.task import Call, Task
from jaxfd._functions import Reader
from jaxfd._jaxpr import TracedFunction
from jaxfd._methods import Method
from jaxfd._points import Box, boxes_of, check_bounds


class Program(Reader, abc.ABC):
    """A function that tasks can be run on.

    Attributes:
        name: what errors call it.
        traced: whether JAX traces the function; else it is run on the host.
    """

    name: str
    traced: bool

    @property
    def eps(self) -> float | None:
        """The relative spacing of what a host function was seen to return; None for JAX's own."""
        return None

    @abc.abstractmethod
    def run(
        self,
        task: Task,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        method: Method,
        needs: Needs = Needs(),
    ) -> Any:
        """Runs a task on a call of the function, and returns what the task does.

        Args:
            task: what is asked.
            args: the positional arguments.
            kwargs: the keyword arguments.
            method: how derivatives are estimated.
            needs: what the task needs besides.
        """


class ProgramHolder(Reader):
    """A function object that brings its own program."""

    program: Program

    def reads(self) -> tuple[Any, ...]:
        return self.program.reads()


def split_aux(task: Task, result: Any) -> tuple[Any, Any]:
    """The output of a function, and its auxiliary data where it has such.

    Raises:
        TypeError: it was to have some, and returned no pair.
    """
    if not task.has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            f"{task.name} with has_aux=True needs a function that returns a pair (value, auxiliary "
            f"data), got {type(result).__name__}: return such a pair, or drop has_aux."
        )
    return result


def boxes_for(xp: Any, arguments: Arguments, parts: Parts, needs: Needs) -> list[Box] | None:
    """The boxes of a call's real leaves; None without bounds."""
    if needs.bounds is None:
        return None
    return boxes_of(xp, arguments, needs.bounds, parts.real, parts.owner)


def call_of(
    xp: Any,
    arguments: Arguments,
    parts: Parts,
    method: Method,
    needs: Needs,
    program: TracedFunction,
    **more: Any,
) -> Call:
    """A call of a traced function; ``more`` are what else is known of it, as in `Call`."""
    return Call(
        arguments=arguments,
        parts=parts,
        boxes=boxes_for(xp, arguments, parts, needs),
        method=method,
        needs=needs,
        out=program.out,
        out_tree=program.out_tree,
        aux_tree=program.aux_tree,
        **more,
    )


def check_call(task: Task, args: Any, kwargs: Any, needs: Needs) -> None:
    """Checks bounds against a call, as far as values are known.

    A hook is evaluated where others want it, outside its box too, and has no derivative there.
    """
    if needs.bounds is not None:
        check_bounds(task.bind(args, kwargs), needs.bounds, inside=not task.everything)
