"""Functions as an optimiser on the host sees them: batches of rows in, rows of float64 out.

It exists so that one algorithm in NumPy runs black boxes, plain NumPy functions and functions that
JAX traces. It decides which of these a function is. It must not know what the values are for.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, PyTree

from jaxfd._estimate import HostProgram, ProgramHolder
from jaxfd.optim._rows.host_function import learnt, of_box
from jaxfd.optim._rows.keeper import Keeper
from jaxfd.optim._rows.layout import Layout
from jaxfd.optim._rows.traced_function import TracedFunctionOfRows

# Functions that JAX could not trace, so that it is not asked again.
untraceable: weakref.WeakSet[Any] = weakref.WeakSet()


class Evaluator(Protocol):
    """Values of a function at many points at once.

    Attributes:
        name: what errors call the function.
        like: one output as the function returns it: a pytree of shapes and dtypes.
        width: how many points take as long as one.
        eps: the relative spacing of the coarsest numbers that it returned so far.
        lossy: whether points that fail are NaN.
        hosted: whether the function is run on the host, and nothing is compiled.
        num_evaluations: how many points were evaluated.
        num_batches: in how many batches.
    """

    name: str
    like: PyTree
    width: int
    lossy: bool
    hosted: bool
    num_evaluations: int
    num_batches: int

    @property
    def eps(self) -> float: ...

    def __call__(self, points: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m k"]:
        """All outputs in a row, for each point; NaN for those that failed and may."""


def evaluator_of(
    fun: Callable[[PyTree], Any],
    layout: Layout,
    role: str = "fun",
    chunk_size: int | None = None,
    keeper: Keeper | None = None,
) -> Evaluator:
    """The function as an optimiser sees it.

    A black box brings its services. What JAX can trace is compiled, in float64. Anything else is
    called on the host, and what it returns is learnt from the first run, at the layout's start:
    that run is counted and is not repeated.

    Args:
        fun: the function of one pytree.
        layout: what it is called with.
        role: what errors call the argument.
        chunk_size: how many points are evaluated at once; None lets the library choose.
        keeper: keeps finished points, so that they are not evaluated again.

    Raises:
        TypeError: it is no function, or returns no real numbers.
    """
    if isinstance(fun, ProgramHolder) and isinstance(fun.program, HostProgram):
        return of_box(fun.program, layout, role, chunk_size, keeper)
    if not callable(fun):
        raise TypeError(f"{role} must be a function of one pytree, got {type(fun).__name__}.")
    known = False
    with contextlib.suppress(TypeError):  # it may be neither hashable nor weakly held
        known = fun in untraceable
    if not known:
        traced = TracedFunctionOfRows.of(fun, layout, role, chunk_size, keeper)
        if traced is not None:
            return traced
    made = learnt(fun, layout, role, keeper)
    with contextlib.suppress(TypeError):
        untraceable.add(fun)
    return made
