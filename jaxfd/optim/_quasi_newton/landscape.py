"""A function as a minimiser on the host sees it: values and differences of rows of float64.

It exists so that one loop in NumPy minimises black boxes, plain NumPy functions and what JAX
traces. A host function is differenced here, and nothing is compiled. Of a traced one two programs
are compiled, a value and a gradient, with all that the pipeline knows of points; they are kept with
the function. It must not know where the minimiser goes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from jaxfd._arrays import flatten
from jaxfd._estimate import slopes, values_of
from jaxfd._functions import entry_of
from jaxfd._methods import Method, Relative
from jaxfd._reports import eps_of
from jaxfd._transforms import counted, schedule_of
from jaxfd.optim._executable import Executable, value_of
from jaxfd.optim._quasi_newton.differences import Slopes, one_sided, two_sided
from jaxfd.optim._rows import Evaluator, Layout
from jaxfd.optim._vector import Vectors

Row = Float[np.ndarray, "n"]


class Landscape(Protocol):
    """A function of rows; numbers of evaluations are for the caller to keep.

    Attributes:
        start: where it begins.
        lower: the lower walls.
        upper: the upper walls.
        value: the value at the start.
        eps: the relative spacing of the coarsest of points and values.
        hosted: whether it runs on the host, where evaluations are dear.
    """

    start: Row
    lower: Row
    upper: Row
    value: float
    hosted: bool

    @property
    def eps(self) -> float: ...

    def fit(self, v: Row) -> Row:
        """The nearest point that can be evaluated, inside the box."""

    def at(self, rows: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m"]:
        """Values."""

    def slopes(self, v: Row, value: float, h: Row, both: bool) -> Slopes:
        """Differences with these steps, on one side of ``v`` or on both."""

    def by_method(self, v: Row, method: Method, scale: Row) -> tuple[float, Slopes]:
        """The value and the gradient as a method of the user's estimates it.

        Where the method leaves its step to the library, it suits entries of that scale.
        """

    def tree(self, v: Row) -> PyTree:
        """The pytree that the user knows."""

    def numbers(self, v: Row) -> PyTree:
        """The same in NumPy's float64."""


class HostLandscape:
    """A function on the host; see `Landscape`.

    Args:
        evaluator: the function.
        box_function: the same as a black box, for methods of the user's.
        x: the start.
        layout: the same as a row.
        box: lower and upper walls as rows.
        chunk_size: how many points a vectorised function is given at once.
    """

    hosted = True

    def __init__(
        self,
        evaluator: Evaluator,
        box_function: Any,
        x: PyTree,
        layout: Layout,
        box: tuple[Row, Row],
        chunk_size: int | None,
    ) -> None:
        self._evaluator, self._black, self._x = evaluator, box_function, x
        self._layout, self._chunk_size = layout, chunk_size
        self.lower, self.upper = box
        # The user's warnings are the user's; those of the minimiser's arithmetic say nothing.
        self._warnings: Any = np.geterr()
        self.start = layout.start.copy()
        self.value = float(self.at(self.start[None])[0])

    @property
    def eps(self) -> float:
        return self._evaluator.eps

    def fit(self, v: Row) -> Row:
        fitted: np.ndarray = np.clip(v, self.lower, self.upper)
        return fitted

    def at(self, rows: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m"]:
        with np.errstate(**self._warnings):
            found: np.ndarray = self._evaluator(rows)[:, 0]
        return found

    def slopes(self, v: Row, value: float, h: Row, both: bool) -> Slopes:
        how = two_sided if both else one_sided
        return how(self.at, v, value, h, self.lower, self.upper)

    def by_method(self, v: Row, method: Method, scale: Row) -> tuple[float, Slopes]:
        # Only here JAX has a part: methods of the user's are estimated as everywhere.
        fun, box = self._black, None
        if np.isfinite(self.lower).any() or np.isfinite(self.upper).any():
            box = (self._leaves(self.lower), self._leaves(self.upper))
        own = _scaled(method, self._leaves(scale))
        found = counted(fun, own, self._chunk_size, box)(self._leaves(v))
        return _read(found)

    def _leaves(self, v: Row) -> PyTree:
        return self._layout.build(self._layout.leaves(v))

    def tree(self, v: Row) -> PyTree:
        """Leaves as they were at the start: NumPy's keep all digits, JAX's have their dtype."""

        def like(leaf: Any, part: np.ndarray) -> Any:
            if isinstance(leaf, jax.Array):
                return jnp.asarray(part, leaf.dtype)
            return part.astype(np.asarray(leaf).dtype)

        parts = self._layout.build(self._layout.leaves(v.copy()))
        return jax.tree.map(like, self._x, parts)

    def numbers(self, v: Row) -> PyTree:
        return self._leaves(v)


class TracedLandscape:
    """A function that JAX traces; see `Landscape`.

    Args:
        fun: the function.
        x: the start, a pytree of JAX arrays.
        box: lower and upper walls, pytrees like ``x``, or None.
        chunk_size: how many points are evaluated at once.
    """

    hosted = False

    def __init__(
        self,
        fun: Callable[[PyTree], Any],
        x: PyTree,
        box: tuple[PyTree, PyTree] | None,
        chunk_size: int | None,
    ) -> None:
        self._vectors = Vectors(x)
        self._box, self._chunk_size = box, chunk_size
        self._entry = entry_of(fun, x)
        self._fun = fun
        # With a black box inside it is computed in float64.
        self._exact = values_of(fun, jax.make_jaxpr(fun)(x))
        self.start = self._vectors.flat(x)
        infinite = np.full(len(self.start), np.inf)
        self.lower, self.upper = (
            (-infinite, infinite) if box is None else tuple(map(self._vectors.flat, box))
        )
        self._value = value_of(self._exact, x)
        self._value.prepare(x)
        first = jnp.asarray(self._value(x))
        self.value = float(first)
        self._eps = eps_of(self._exact, [*jax.tree.leaves(x), first])
        self._dtype = first.dtype

    @property
    def eps(self) -> float:
        return self._eps

    def fit(self, v: Row) -> Row:
        fitted: np.ndarray = np.clip(self._vectors.rounded(v), self.lower, self.upper)
        return fitted

    def tree(self, v: Row) -> PyTree:
        return jax.tree.map(jnp.asarray, self._vectors.tree(v))

    def at(self, rows: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m"]:
        return np.array([float(self._value(self._vectors.tree(row))) for row in rows])

    def numbers(self, v: Row) -> PyTree:
        return self._vectors.wide(v)

    def _program(self, key: Any, make: Callable[[Callable[..., Any]], Any]) -> Executable:
        """A program of the function, kept with it."""
        subject = self._entry.subject
        if subject.state is None:
            return Executable(make(self._exact))
        composed = self._exact is not self._fun

        def run(*args: PyTree) -> Any:
            with subject.tracing():
                fun: Any = subject.fun.get()
                return make(values_of(fun, jax.make_jaxpr(fun)(args[0])) if composed else fun)(
                    *args
                )

        made: Executable = self._entry.get((*key, self._chunk_size), lambda: Executable(run))
        return made

    def slopes(self, v: Row, value: float, h: Row, both: bool) -> Slopes:
        schedule, boxed = schedule_of(self._chunk_size), self._box is not None

        def make(fun: Callable[..., Any]) -> Callable[..., Any]:
            return lambda x, value, step, box: slopes(fun, box, schedule)(x, value, step, both)

        program = self._program(("minimize: slopes", both, boxed), make)
        known = np.asarray(value, self._dtype)
        args = (self._vectors.tree(v), known, self._vectors.tree(h), self._box)
        program.prepare(*args)
        found = program(*args)
        n = len(v)
        slope, bend = self._vectors.flat(found.slopes), self._vectors.flat(found.curvatures)
        bend = bend if both else np.full(n, np.nan)
        rise = np.abs(slope * h) + (np.abs(bend) * h**2 / 2 if both else 0)
        cost = n * (2 if both else 1) + int(found.besides)
        lost = ~np.isfinite(slope)
        blocked = np.zeros(n, np.int64)
        if lost.any():  # the point on the other side answers
            again = two_sided(self.at, v, value, np.where(lost, h, 0), self.lower, self.upper)
            slope, bend = np.where(lost, again.slope, slope), np.where(lost, again.bend, bend)
            rise, blocked = np.where(lost, again.rise, rise), again.blocked
            cost += again.evaluations
        return Slopes(slope, bend, np.nan_to_num(rise), blocked, cost)

    def by_method(self, v: Row, method: Method, scale: Row) -> tuple[float, Slopes]:
        boxed, size = self._box is not None, self._chunk_size

        def make(fun: Callable[..., Any]) -> Callable[..., Any]:
            return lambda x, method, box: counted(fun, method, size, box)(x)

        program = self._program(("minimize: method", boxed), make)
        args = (self._vectors.tree(v), _scaled(method, self._vectors.tree(scale)), self._box)
        program.prepare(*args)
        return _read(program(*args))


def _scaled(method: Any, scale: PyTree) -> Any:
    """A method whose step was left to the library, for entries of that scale."""
    if getattr(method, "step", scale) is not None:
        return method
    return dataclasses.replace(method, step=Relative(typical=scale))


def _read(found: Any) -> tuple[float, Slopes]:
    slope: np.ndarray = flatten(
        np, list(map(np.asarray, jax.tree.leaves(found.derivative))), 0, np.float64
    )
    unknown = np.full(len(slope), np.nan)
    rise = np.where(slope != 0, np.inf, 0.0)
    none = np.where(np.isfinite(slope), 0, 2)
    return float(found.value), Slopes(slope, unknown, rise, none, int(found.evaluations))
