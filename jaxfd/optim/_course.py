"""The ways to run a minimisation: BFGS on the host, or any optax optimiser in compiled segments.

It exists so that `minimize` need not know which of them it runs. It must not know of budgets,
callbacks and files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, PyTree

from jaxfd._arrays import finfo
from jaxfd._estimate import HostProgram, ProgramHolder
from jaxfd._hook import blackbox
from jaxfd._reports import check_one_number
from jaxfd.optim._checkpoint import identity_of
from jaxfd.optim._descent import Descent
from jaxfd.optim._executable import segment, value_of
from jaxfd.optim._loop import Run, begin, least_of, segment_of
from jaxfd.optim._quasi_newton import (
    CENTRAL,
    PATIENCE,
    HostLandscape,
    Landscape,
    March,
    Noise,
    QuasiNewton,
    TracedLandscape,
    begin_at,
    look_around,
    read,
)
from jaxfd.optim._rows import Evaluator, Layout, learnt, of_box, untraceable
from jaxfd.optim._state import add, number
from jaxfd.optim._steps import FOUND, STALLED, Steps
from jaxfd.optim._vector import box_of

# A run of an optimiser that stalls is judged by a gradient of so many entries at most.
_JUDGED = 200


class Found(NamedTuple):
    """What a course knows of a run, besides the run.

    Attributes:
        gradient: the gradient at the best point, like ``x``; None where there is none.
        error: how far it may be off.
        noise: the noise found.
        scaling: evaluations spent on scales.
        odd: the entries that the end is about.
        flat: entries whose moves change nothing.
    """

    gradient: PyTree = None
    error: PyTree = None
    noise: float = 0.0
    scaling: int = 0
    odd: Bool[np.ndarray, "n"] = np.zeros(0, bool)
    flat: Bool[np.ndarray, "n"] = np.zeros(0, bool)


class Course(Protocol):
    """A way to run.

    Attributes:
        run: the run before its first step.
        compiled: what goes so many steps; see `repeat`.
        patience: after how many steps without progress a run stalls.
        exact: whether values are those of the function at their points.
        dear: whether evaluations are so dear that every step is saved.
        stepwise: whether every step is seen anyway.
        told: who is told of the noise; see `Steps`.
        eps: the relative spacing of values.
    """

    run: Run
    compiled: Any
    patience: int
    exact: bool
    dear: bool
    stepwise: bool
    told: Steps | None
    eps: float

    def tree(self, x: Any) -> PyTree:
        """A point of the run as the user knows it."""

    def value(self, x: Any) -> float:
        """The value at a point of the run, as the run computes it."""

    def identity(self) -> str:
        """What tells the problem from others."""

    def judged(self, run: Run) -> tuple[Run, Found]:
        """A run that has ended, and what is known of it."""


class HostCourse:
    """BFGS on the host; see `Course`.

    Args:
        landscape: the function.
        method: how gradients are estimated, or None.
        same: what tells the function from others.
    """

    patience, exact, stepwise = PATIENCE, True, True
    told: Steps | None = None

    def __init__(
        self, landscape: Landscape, method: Any, same: Callable[[tuple[Any, ...]], str]
    ) -> None:
        self._landscape, self._method, self._same = landscape, method, same
        self.dear, self.eps = landscape.hosted, landscape.eps
        self.run = begin_at(landscape)
        self.compiled = March(QuasiNewton(landscape, method))

    def tree(self, x: Any) -> PyTree:
        return self._landscape.tree(x)

    def value(self, x: Any) -> float:
        return float(self._landscape.at(x[None])[0])

    def identity(self) -> str:
        land = self._landscape
        # A method's numbers, and its class: those of JAX's trees hold only the former.
        kind = np.frombuffer(repr(self._method).encode(), np.uint8)
        return self._same((land.start, land.lower, land.upper, kind))

    def judged(self, run: Run) -> tuple[Run, Found]:
        state = run.state
        here = bool(np.all(state.last_x == run.best_x)) and np.isfinite(state.last_g).all()
        here = here and bool(np.isfinite(state.last_error).any() or self._method is not None)

        def like(row: Float[np.ndarray, "n"]) -> PyTree:
            return self._landscape.numbers(row / state.scale)

        level = state.noise.at(float(run.best)) if state.noise.much else 0.0
        return run, Found(
            gradient=like(state.last_g) if here else None,
            error=like(state.last_error) if here else None,
            noise=float(level),
            scaling=int(state.scaling),
            odd=state.odd,
            flat=state.flat,
        )


class OptaxCourse:
    """An optax optimiser in compiled segments; see `Course`.

    Args:
        fun: the function.
        x: the start.
        steps: the optimiser's steps.
        bounds: the box as the user gave it.
        traced: whether JAX traces the function.
        name: what the function is called.
        tol: progress that is none.
    """

    stepwise = False

    def __init__(
        self,
        fun: Callable[[PyTree], Any],
        x: PyTree,
        steps: Descent,
        *,
        bounds: Any,
        traced: bool,
        name: str,
        tol: float,
    ) -> None:
        self._fun, self._steps, self._name = fun, steps, name
        self._bounds, self._traced, self._tol = bounds, traced, tol
        self.told: Steps | None = steps
        self.patience, self.exact, self.dear = steps.patience, steps.exact, not traced
        self.run = begin(steps, x)
        self.eps = float(finfo(self.run.best.dtype).eps)
        self.compiled = segment(fun, steps, x)

    def tree(self, x: Any) -> PyTree:
        return x

    def value(self, x: Any) -> float:
        return float(value_of(self._fun, x)(x))

    def identity(self) -> str:
        zero = np.zeros((), self.run.best.dtype)
        closed = jax.make_jaxpr(segment_of(self._steps))(self.run, number(1), zero, number(1))
        # Of a run that knows the value at its start only the point counts: noise may change it.
        known = self.run.x if int(self.run.evaluations) else self.run
        return identity_of(closed, (known, number(1), zero, number(1)), self._name)

    def judged(self, run: Run) -> tuple[Run, Found]:
        """A run that makes no progress, once it is known whether there is any left to make."""
        if int(run.status) != STALLED or sum(map(np.size, jax.tree.leaves(run.x))) > _JUDGED:
            return run, Found()
        landscape = landscape_of(self._fun, run.best_x, self._bounds, None, self._traced)[0]
        v, value = landscape.start, landscape.value
        start = Layout(jax.tree.map(np.asarray, self.run.x)).start
        size = np.where(start == 0, 1.0, np.abs(start))
        noise = Noise(landscape.eps, 0.0, landscape.eps)
        reading = read(
            landscape, v, value, size, noise, np.ones_like(v), differences=CENTRAL, restart=True
        )
        least = least_of(self._tol, float(run.first), value)
        seen = reading.rise > 0
        verdict = look_around(landscape, v, value, size, reading, seen, least=least, noise=0.0)
        spent = 1 + reading.evaluations + verdict.evaluations
        fine = verdict.status == FOUND and verdict.x is None and not verdict.flat.all()
        run = run._replace(
            evaluations=add(run.evaluations, spent), status=number(FOUND if fine else STALLED)
        )
        gradient = landscape.numbers(reading.slope / size)
        error = landscape.numbers(reading.error / size)
        return run, Found(gradient, error, odd=verdict.entries, flat=verdict.flat)


def landscape_of(
    fun: Callable[[PyTree], Any],
    x0: PyTree,
    bounds: Any,
    chunk_size: int | None,
    traced: bool,
) -> tuple[Landscape, Mapping[str, str]]:
    """A function that JAX traces, a black box, or any function of arrays, as a landscape.

    Returns:
        The landscape, and what tells a function on the host from others.
    """
    if traced:
        x = jax.tree.map(jnp.asarray, x0)
        return TracedLandscape(fun, x, box_of(x, bounds), chunk_size), {}
    own = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), x0)
    layout = Layout(own)
    walls = box_of(own, bounds)
    infinite = np.full(len(layout.start), np.inf)
    rows = (-infinite, infinite)
    if walls is not None:
        rows = Layout(walls[0]).start, Layout(walls[1]).start
    if isinstance(fun, ProgramHolder) and isinstance(fun.program, HostProgram):
        box: Any = fun
        evaluator: Evaluator = of_box(fun.program, layout, "fun", chunk_size)
    else:
        evaluator = learnt(fun, layout, "fun")
        check_one_number("minimize needs a function", evaluator.like)
        box = as_box(fun)
    parts = box.program.function.runner.parts
    return HostLandscape(evaluator, box, x0, layout, rows, chunk_size), parts


def as_box(fun: Callable[..., Any]) -> Any:
    """A plain function on the host as a black box that returns one number."""
    return blackbox(fun, jax.ShapeDtypeStruct((), jnp.result_type(float)))


def host_course(
    fun: Callable[[PyTree], Any],
    x0: PyTree,
    bounds: Any,
    method: Any,
    chunk_size: int | None,
    traced: bool,
    name: str,
) -> HostCourse:
    """BFGS for any function."""
    landscape, parts = landscape_of(fun, x0, bounds, chunk_size, traced)

    def same(known: tuple[Any, ...]) -> str:
        closed = jax.make_jaxpr(fun)(jax.tree.map(jnp.asarray, x0)) if traced else None
        return identity_of(closed, known, name, [parts])

    return HostCourse(landscape, method, same)


def is_traceable(fun: Callable[..., Any], x: PyTree) -> bool:
    """Whether JAX can trace a function; one that it cannot is asked once."""
    with contextlib.suppress(TypeError):
        if fun in untraceable:
            return False
    try:
        jax.eval_shape(fun, x)
    except Exception:
        # Whatever it is, the run on the host tells: there the function raises its own.
        with contextlib.suppress(TypeError):
            untraceable.add(fun)
        return False
    return True
