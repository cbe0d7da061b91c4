"""One call for people who want one: the best point of a function, from a start.

It chooses the steps, checks what it is given and says how it went. It must not know how a step is
made, nor how steps are repeated.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxfd._arrays import PyTree, entry_names, finfo
from jaxfd._estimate import HostProgram, ProgramHolder, program_of
from jaxfd._methods import Method
from jaxfd._random import is_random
from jaxfd._reports import check_output, leaves_of
from jaxfd._runs import Tally, check_progress
from jaxfd._system import ctrl_c, host_calls
from jaxfd._transforms import schedule_of
from jaxfd.optim._asked import keyed, limits_of
from jaxfd.optim._checkpoint import Checkpoint
from jaxfd.optim._course import Course, Found, OptaxCourse, as_box, host_course, is_traceable
from jaxfd.optim._descent import Descent
from jaxfd.optim._ending import Ending, ended, stopped
from jaxfd.optim._loop import Run, repeat
from jaxfd.optim._result import Result
from jaxfd.optim._rows import whole_bounds
from jaxfd.optim._state import number
from jaxfd.optim._status import Status
from jaxfd.optim._steps import FLAT, FOUND, GOING, NOISY, STALLED, STUCK
from jaxfd.optim._vector import box_of


@ctrl_c.noticing()
@host_calls.own_errors()
def minimize(
    fun: Callable[[PyTree], Any],
    x0: PyTree,
    optimizer: optax.GradientTransformation | None = None,
    *,
    method: Method | None = None,
    max_steps: int = 2000,
    tol: float = 1e-10,
    bounds: tuple[PyTree, PyTree] | None = None,
    callback: Callable[[Result], Any] | None = None,
    progress: bool | Callable[[Any], Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    key: Any = None,
    path: bool = False,
    max_evaluations: int | None = None,
    max_seconds: float | None = None,
    chunk_size: int | None = None,
) -> Result:
    """Minimises a function by evaluating it.

    Without ``optimizer`` this is BFGS (with the whole matrix up to 500 entries) and a line search
    of values alone, made for differences: forward ones (n + 1 evaluations a step) as long as they
    lower the value, central ones then. Where a step fails, the function's noise is estimated, and
    if there is more than rounding, points go as far as it wants. That suits functions that are
    smooth under their noise, from a few parameters to some thousand. The units of single entries
    change nothing; an entry that starts at 0 may take up to 8 evaluations for its scale. With a
    random method (`jaxfd.SPSA`) it is ``optax.adam(1e-2)``, which bears any noise, and does not
    care how many parameters there are. Any optax optimiser may be given; it gets ``value``,
    ``grad`` and ``value_fn`` as line searches want them, where ``jax.grad`` of ``value_fn`` is a
    difference too. One that begins with `estimate_gradient`, such as `spsa`, estimates for itself.

    The loop of BFGS runs on the host. Of a function that JAX traces a value and a gradient are
    compiled and kept; a black box, or any function of NumPy arrays that JAX cannot trace, is
    evaluated in float64 whatever JAX computes in, and nothing is compiled (but where ``method`` is
    given). The steps of an optimiser are compiled, many of them in one segment unless a callback
    wants to see each.

    Args:
        fun: a function of one pytree that returns one real number: one that JAX can trace, a
            `jaxfd.blackbox`, or any function of NumPy arrays.
        x0: the start, a pytree of real floating arrays. Its entries also say how large entries are.
        optimizer: an optax optimiser; None for the default.
        method: how to estimate gradients, used as it is. None for the default: with ``optimizer``
            ``jaxfd.Central()``. Not beside an ``optimizer`` that estimates for itself.
        max_steps: stops after so many steps.
        tol: stops where steps can lower the value by no more than this times the value; or times 1,
            or the first value if that is smaller, where the value is smaller still. That is where a
            step promises no more (default), or 100 steps bring none (with ``optimizer``).
        bounds: a pair ``(lower, upper)`` of numbers or pytrees like ``x0``, or dicts of some of its
            keys or fields: nothing is evaluated outside, and steps end at the walls.
        callback: a function of the `Result` so far, with the current point; it is called after
            every step, and what it returns stops the run if it is true.
        progress: True for a bar on a terminal (``jaxfd[progress]``) and lines in the log ``jaxfd``
            elsewhere, or a function, as for `jaxfd.blackbox`; it counts steps.
        checkpoint: a folder. The run is saved there, and goes on from there when it is called again
            with the same problem, to the same end bit for bit, however it was stopped. A larger
            budget, or a smaller ``tol``, goes on where the run ended. The best point is evaluated
            once more, uncounted: where ``fun`` has changed, the folder is refused.
        key: a PRNG key for a random ``method``, in place of its own.
        path: whether the result shall hold the point after each step of this call.
        max_evaluations: stops after the step that reaches so many evaluations.
        max_seconds: stops after so many seconds.
        chunk_size: as for `jaxfd.grad`.

    Returns:
        A `Result` with the best point seen; ``converged`` is true where there is evidence that no
        step of use is left, and ``status`` says why it ended. Ctrl-C ends the run with what there
        is by then; before the value at ``x0`` is known there is nothing, and it raises
        KeyboardInterrupt. Steps where value or gradient are not finite are not made, and the
        message says how many.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message. ``checkpoint`` holds
            another problem; ``fun`` is not finite at ``x0``.

    Example:
        >>> import jax.numpy as jnp, jaxfd
        >>> def rosenbrock(x):
        ...     return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
        >>> result = jaxfd.optim.minimize(rosenbrock, jnp.array([-1.2, 1.0]))
        >>> print(result.converged, result.x.round(2), result.num_evaluations < 400)
        True [1. 1.] True

    Reference:
        A. Berahas, R. Byrd and J. Nocedal, "Derivative-free optimization of noisy functions via
        quasi-Newton methods", SIAM J. Optimization 29 (2019) 965-993, for noise, steps and the
        relaxed line search; J. Nocedal and S. Wright, "Numerical Optimization", 2nd ed., sections
        6.1 and 7.2.
    """
    presses = ctrl_c.noticed()
    method = keyed(method, key)
    limits = limits_of(optimizer, method, max_steps, tol, callback, max_evaluations, max_seconds)
    check_progress(progress)
    schedule_of(chunk_size)
    leaves = leaves_of("minimize", x0)
    bounds = whole_bounds(bounds, x0)
    course, name = _course_of(fun, x0, leaves, optimizer, method, bounds, chunk_size, tol)
    run = course.run
    if int(run.evaluations) and not np.isfinite(float(run.best)):
        raise ValueError(f"fun is {float(run.best)} at x0, not finite: choose another x0.")
    saved, history = None, np.zeros(0, run.best.dtype)
    if checkpoint is not None:
        saved = Checkpoint(checkpoint, course.identity())
        run, history = _resumed(course, saved, run, limits.tol) or (run, history)
    points: list[Any] = []

    def between(run: Run, history: np.ndarray) -> bool:
        if path:
            points.append(run.seen_x)
        if callback is None:
            return False
        ending = stopped("still going")
        return bool(callback(_result(course, run, history, ending, Found(), current=True)))

    tally = Tally(progress, name, limits.steps, unit="step")
    seen = callback is not None or path
    try:
        run, history, why = repeat(
            course.told,
            run,
            limits,
            one_by_one=course.stepwise or course.dear or seen,
            dear=course.dear,
            tally=tally,
            checkpoint=saved,
            history=history,
            between=between if seen else None,
            interrupted=lambda: ctrl_c.noticed() > presses,
            compiled=course.compiled,
        )
    finally:
        tally.close()
    lost = len(history) and not np.isfinite(history[0]) and not np.isfinite(float(run.best))
    if lost and float(run.best) != -math.inf:
        raise ValueError(f"fun is {history[0]} at x0, not finite: choose another x0.")
    run, found = course.judged(run)
    if why:
        ending = stopped(why)
    else:
        code = int(run.status)
        if code == FLAT and float(run.best) < float(run.first):  # it went down to a plateau
            code = FOUND
        ending = ended(
            code,
            patience=course.patience,
            odd=found.odd,
            flat=found.flat if code != FLAT else found.odd,
            names=entry_names(x0, 1000),
            noise=found.noise,
        )
        advice = _advice(code, int(run.skipped), course, optimizer, method)
        ending = ending._replace(message=ending.message + advice)
    result = _result(course, run, history, ending, found)
    return dataclasses.replace(result, path=_stacked(course, points)) if path else result


def _result(
    course: Course,
    run: Run,
    history: np.ndarray,
    ending: Ending,
    found: Found,
    current: bool = False,
) -> Result:
    """What the user gets of a run: its best point, or the current one."""
    message = ending.message
    if int(run.skipped):
        message += f"; {int(run.skipped)} steps met values that were not finite"
    x, value = (run.seen_x, run.seen) if current else (run.best_x, run.best)
    return Result(
        x=course.tree(x),
        value=float(value),
        history=history,
        num_evaluations=int(run.evaluations),
        converged=ending.status in (Status.CONVERGED, Status.NOISE),
        message=message,
        status=ending.status,
        gradient=found.gradient,
        gradient_error=found.error,
        noise=found.noise,
        num_scaling=found.scaling,
    )


def _stacked(course: Course, points: list[Any]) -> PyTree:
    """Points of a run, like ``x`` with a leading axis."""
    trees = [jax.tree.map(np.asarray, course.tree(x)) for x in points or [course.run.x]]
    stacked: PyTree = jax.tree.map(lambda *leaves: np.stack(leaves)[: len(points)], *trees)
    return stacked


def _course_of(
    fun: Any,
    x0: PyTree,
    leaves: list[np.ndarray],
    optimizer: optax.GradientTransformation | None,
    method: Any,
    bounds: Any,
    chunk_size: int | None,
    tol: float,
) -> tuple[Course, str]:
    """The way to go that suits what was asked for, and the function's name."""
    if not callable(fun):
        raise TypeError(f"fun must be callable, got {type(fun).__name__}.")
    x = jax.tree.unflatten(jax.tree.structure(x0), leaves)
    box = isinstance(fun, ProgramHolder) and isinstance(fun.program, HostProgram)
    traced = not box and is_traceable(fun, x)
    fixed = method is None or (isinstance(method, Method) and not is_random(method))
    if traced or box:
        check_output("minimize", fun, x)
    name = program_of(fun).name
    if optimizer is None and fixed:
        return host_course(fun, x0, bounds, method, chunk_size, traced, name), name
    x = jax.tree.map(jnp.asarray, x)
    own = fun if traced or box else as_box(fun)
    steps = Descent(own, box_of(x, bounds), method, optimizer or _usual(), chunk_size)
    course = OptaxCourse(own, x, steps, bounds=bounds, traced=traced, name=name, tol=tol)
    return course, name


def _resumed(
    course: Course, saved: Checkpoint, start: Run, tol: float
) -> tuple[Run, np.ndarray] | None:
    """The run that was saved, with the history; None where there is none.

    Its best point is evaluated once more, which counts for nothing, because what a function reads
    may have changed. Where the tolerance has become tighter, a run that had converged goes on.

    Raises:
        ValueError: the function has another value there.
    """
    found = saved.load(start)
    if found is None:
        return None
    run, history, before = found
    best, first = float(run.best), float(run.first)
    if course.exact and np.isfinite(best):
        eps = float(finfo(run.best.dtype).eps)
        value = course.value(run.best_x)
        bound = eps**0.5 * max(abs(best), abs(value)) + 1e3 * eps * abs(first)
        # Where it is not the same twice, there is noise.
        if not abs(value - best) <= bound and course.value(run.best_x) == value:
            saved.refuse(best, value)
    if int(run.status) in (FOUND, NOISY, STALLED) and tol < before:
        run = run._replace(status=number(GOING), since=number(0))
    return run, history


def _advice(code: int, skipped: int, course: Course, optimizer: Any, method: Any) -> str:
    """What may help a run that got stuck."""
    if code != STUCK:
        return ""
    central = optimizer is None and method is None
    if course.eps > 1e-10:
        other = ", or give method=jaxfd.Central()" if central else ""
        return f"; the rounding of float32 may hide what is left: enable x64{other}"
    return "; method=jaxfd.Central() often gets farther there" if central and skipped else ""


@functools.cache
def _usual() -> optax.GradientTransformation:
    """The optimiser for random methods: always the same one, so that its programs are kept."""
    return optax.adam(1e-2)
