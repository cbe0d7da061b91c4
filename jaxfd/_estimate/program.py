"""Programs: the user's function bound to the place where it can be run.

Where a program runs is its own affair: in a compiled kernel (`traced`), or on the host (`hosted`).
"""

from __future__ import annotations

import abc
from typing import Any

from jaxfd._estimate.task import Task
from jaxfd._methods import Method
from jaxfd._points import check_bounds


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


def split_aux(task: Task, result: Any) -> tuple[Any, Any]:
    if not task.has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(
            f"{task.name} with has_aux=True needs a function that returns a pair (value, auxiliary "
            f"data), got {type(result).__name__}: return such a pair, or drop has_aux."
        )
    return result


class WithProgram:
    """A function object that brings its own program."""

    program: Program


def check_call(task: Task, args: Any, kwargs: Any, bounds: Any) -> None:
    """Checks bounds against a call, as far as values are known."""
    if bounds is not None:
        check_bounds(task.bind(args, kwargs), bounds)
