"""Programs of the function that is minimised, compiled aside and kept with it.

It exists because a second run with the same function finds its programs there, whatever the start,
the walls and the numbers of the method are. This room must not know what the programs do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxfd._functions import entry_of
from jaxfd._system import aside
from jaxfd.optim._loop import segment_of
from jaxfd.optim._steps import Steps

# JAX's own is not typed.
_ready: Any = jax.block_until_ready


class Executable:
    """A function that is compiled aside, so that Ctrl-C leaves no compilation behind.

    Args:
        fun: a function of pytrees of arrays.
    """

    def __init__(self, fun: Callable[..., Any]) -> None:
        self._jit: Any = jax.jit(fun)
        self._ready: set[Any] = set()

    def prepare(self, *args: PyTree) -> None:
        """Compiles it for arguments like these, if it is not yet."""
        leaves, tree = jax.tree.flatten(args)
        key = tree, tuple((jnp.shape(leaf), str(jnp.result_type(leaf))) for leaf in leaves)
        if key not in self._ready:
            aside(self._jit.lower(*args).compile)
            self._ready.add(key)

    def __call__(self, *args: PyTree) -> Any:
        return self._jit(*args)


class Segment:
    """So many steps of a run, compiled; see `segment_of`.

    Args:
        executable: the program, of the steps' numbers and of what `segment_of` takes.
        numbers: those numbers.
    """

    def __init__(self, executable: Executable, numbers: PyTree) -> None:
        self._executable, self._numbers = executable, numbers

    def prepare(self, *args: PyTree) -> None:
        self._executable.prepare(self._numbers, *args)

    def __call__(self, *args: PyTree) -> Any:
        return _ready(self._executable(self._numbers, *args))


def value_of(fun: Callable[[PyTree], Any], x: PyTree) -> Executable:
    """The function itself, of arguments like this one."""
    entry = entry_of(fun, x)
    subject = entry.subject

    def value(x: PyTree) -> Any:
        with subject.tracing():
            return subject.fun(x)

    made: Executable = entry.get("minimize: value", lambda: Executable(value))
    return made


def segment(fun: Callable[[PyTree], Any], steps: Steps, x: PyTree) -> Segment:
    """A segment of these steps.

    Args:
        fun: the function that they minimise.
        steps: the steps, once they were asked for their first state.
        x: where they start.
    """
    entry = entry_of(fun, x)
    subject = entry.subject
    every = (subject, *steps.subjects)
    if any(each.state is None for each in every):
        own = segment_of(steps)
        return Segment(Executable(lambda numbers, *args: own(*args)), ())
    bare = steps.having(None, None)

    def run(numbers: PyTree, *args: PyTree) -> Any:
        with contextlib.ExitStack() as stack:
            for each in every:
                stack.enter_context(each.tracing())
            return segment_of(bare.having(subject.fun.get(), numbers))(*args)

    key = ("minimize: segment", type(steps), steps.kind, steps.subjects)
    return Segment(entry.get(key, lambda: Executable(run)), steps.numbers)
