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

from jaxfd._arrays import PyTree, check_integer, check_number, finfo
from jaxfd._estimate import ProgramHolder, program_of
from jaxfd._methods import Method
from jaxfd._random import is_random
from jaxfd._reports import check_output, leaves_of
from jaxfd._runs import Tally, check_progress
from jaxfd._system import ctrl_c, host_calls
from jaxfd._transforms import check_method, check_pair, schedule_of
from jaxfd.optim._checkpoint import Checkpoint, identity_of
from jaxfd.optim._descent import Descent
from jaxfd.optim._executable import segment
from jaxfd.optim._loop import Limits, Run, begin, repeat, segment_of
from jaxfd.optim._quasi import QuasiNewton
from jaxfd.optim._result import Result
from jaxfd.optim._state import number
from jaxfd.optim._steps import ENDLESS, FLAT, FOUND, GOING, STALLED, STUCK, Steps
from jaxfd.optim._vector import box_of

# What counters hold.
_MOST = np.iinfo(np.int32).max - 1
_WHY = {
    FOUND: "no step promises to lower the value by more than the tolerance",
    STALLED: "{patience} steps lowered the value by no more than the tolerance",
    STUCK: "no lower value could be found along the gradient",
    FLAT: "no point near x0 has another value than x0: fun is flat there, or x0 far too small or "
    "large in its units; start elsewhere, or give a method with a step",
    ENDLESS: "the value fell as long as x ran away: fun seems to have no minimum; set bounds",
}


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
    max_evaluations: int | None = None,
    max_seconds: float | None = None,
    chunk_size: int | None = None,
) -> Result:
    """Minimises a function by evaluating it.

    Without ``optimizer`` this is limited-memory BFGS with a line search of values alone, made for
    differences: forward ones (n + 1 evaluations a step) as long as they lower the value, central
    ones then. Where a step fails, the function's noise is estimated, and if there is more than
    rounding, points go as far as it wants. That suits functions that are smooth under their noise,
    from a few parameters to some thousand. With a random method (`jaxfd.SPSA`) it is
    ``optax.adam(1e-2)``, which bears any noise, and does not care how many parameters there are.
    Any optax optimiser may be given; it gets ``value``, ``grad`` and ``value_fn`` as line searches
    want them, where ``jax.grad`` of ``value_fn`` is a difference too. One that begins with
    `estimate_gradient`, such as `spsa`, estimates for itself.

    The loop is compiled. Callbacks, progress, checkpoints, Ctrl-C and the time come in between
    segments of it: a few times a second, or after every step of a `jaxfd.blackbox`.

    Args:
        fun: a function of one pytree that returns one real number: one that JAX can trace, or a
            `jaxfd.blackbox`.
        x0: the start, a pytree of real floating arrays. Its entries also say how large entries are.
        optimizer: an optax optimiser; None for the default.
        method: how to estimate gradients, used as it is. None for the default: with ``optimizer``
            ``jaxfd.Central()``. Not beside an ``optimizer`` that estimates for itself.
        max_steps: stops after so many steps.
        tol: stops where steps lower the value by no more than this times the value; or times 1, or
            the first value if that is smaller, where the value is smaller still. That is where a
            step promises no more (default), or 100 steps bring none (with ``optimizer``).
        bounds: a pair ``(lower, upper)`` of numbers or pytrees like ``x0``: nothing is evaluated
            outside, and steps end at the walls.
        callback: a function of the `Result` so far; it is called between segments, and what it
            returns stops the run if it is true.
        progress: True for a bar on a terminal (``jaxfd[progress]``) and lines in the log ``jaxfd``
            elsewhere, or a function, as for `jaxfd.blackbox`; it counts steps.
        checkpoint: a folder. The run is saved there, and goes on from there when it is called again
            with the same problem, to the same end bit for bit, however it was stopped. A larger
            budget, or a smaller ``tol``, goes on where the run ended. The best point is evaluated
            once more, uncounted: where ``fun`` has changed, the folder is refused.
        key: a PRNG key for a random ``method``, in place of its own.
        max_evaluations: stops after the step that reaches so many evaluations.
        max_seconds: stops after so many seconds.
        chunk_size: as for `jaxfd.grad`.

    Returns:
        A `Result` with the best point seen. Ctrl-C ends the run with what there is by then; before
        the value at ``x0`` is known there is nothing, and it raises KeyboardInterrupt. Steps where
        value or gradient are not finite are not made, and the message says how many.

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
        relaxed line search; D. Liu and J. Nocedal, "On the limited memory BFGS method", Math.
        Programming 45 (1989) 503-528.
    """
    presses = ctrl_c.noticed()
    method = _keyed(method, key)
    limits = _check(optimizer, method, max_steps, tol, callback, max_evaluations, max_seconds)
    check_progress(progress)
    schedule_of(chunk_size)
    leaves = leaves_of("minimize", x0)
    check_output("minimize", fun, x0)
    x = jax.tree.unflatten(jax.tree.structure(x0), [jnp.asarray(leaf) for leaf in leaves])
    _check_bounds(bounds, x)
    box = box_of(x, bounds)
    steps = _steps_of(fun, x, box, optimizer, method, chunk_size)
    function = program_of(fun)
    name = function.name
    run = begin(steps, x)
    if int(run.evaluations) and not np.isfinite(float(run.best)):
        raise ValueError(f"fun is {float(run.best)} at x0, not finite: choose another x0.")
    saved, history = None, np.zeros(0, run.best.dtype)
    if checkpoint is not None:
        zero = np.zeros((), run.best.dtype)
        known = (run.x if int(run.evaluations) else run, number(1), zero, number(1))
        program = segment_of(steps)
        whole = identity_of(program, run, number(1), zero, number(1), known=known, name=name)
        saved = Checkpoint(checkpoint, whole)
        run, history = _resumed(fun, steps, saved, run, limits.tol) or (run, history)

    def result(run: Run, history: np.ndarray, why: str) -> Result:
        status = int(run.status)
        if status == FLAT and float(run.best) < float(run.first):  # it went down to a plateau
            status = FOUND
        message = why or _WHY.get(status, "").format(patience=steps.patience)
        if int(run.skipped):
            message += f"; {int(run.skipped)} steps met values that were not finite"
        message += _advice(status, int(run.skipped), run.best.dtype, steps, method)
        return Result(
            run.best_x,
            float(run.best),
            history,
            int(run.evaluations),
            not why and status in (FOUND, STALLED),
            message,
        )

    def between(run: Run, history: np.ndarray) -> bool:
        return callback is not None and bool(callback(result(run, history, "still going")))

    tally = Tally(progress, name, limits.steps, unit="step")
    try:
        run, history, why = repeat(
            steps,
            run,
            limits,
            one_by_one=not function.traced,
            tally=tally,
            checkpoint=saved,
            history=history,
            between=between,
            interrupted=lambda: ctrl_c.noticed() > presses,
            compiled=segment(fun, steps),
        )
    finally:
        tally.close()
    if len(history) and not np.isfinite(history[0]) and not np.isfinite(float(run.best)):
        raise ValueError(f"fun is {history[0]} at x0, not finite: choose another x0.")
    return result(run, history, why)


def _resumed(
    fun: Callable[[PyTree], Any], steps: Steps, saved: Checkpoint, start: Run, tol: float
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
    if steps.exact and np.isfinite(best):
        again: Any = fun if isinstance(fun, ProgramHolder) else jax.jit(fun)
        eps = float(finfo(run.best.dtype).eps)

        def now() -> float:
            return float(np.asarray(again(run.best_x), run.best.dtype))

        value = now()
        bound = eps**0.5 * max(abs(best), abs(value)) + 1e3 * eps * abs(first)
        # Where it is not the same twice, there is noise.
        if not abs(value - best) <= bound and now() == value:
            saved.refuse(best, value)
    if int(run.status) in (FOUND, STALLED) and tol < before:
        run = run._replace(status=number(GOING), since=number(0))
    return run, history


def _advice(status: int, skipped: int, dtype: Any, steps: Steps, method: Any) -> str:
    """What may help a run that got stuck."""
    if status != STUCK:
        return ""
    central = isinstance(steps, QuasiNewton) and method is None
    if finfo(dtype).eps > 1e-10:
        other = ", or give method=jaxfd.Central()" if central else ""
        return f"; the rounding of {dtype} may hide what is left: enable x64{other}"
    return "; method=jaxfd.Central() often gets farther there" if central and skipped else ""


def _check(
    optimizer: Any,
    method: Any,
    max_steps: Any,
    tol: Any,
    callback: Any,
    max_evaluations: Any,
    max_seconds: Any,
) -> Limits:
    """Raises TypeError or ValueError for options that no function could make right."""
    if optimizer is not None and not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            f"optimizer must be an optax optimiser such as optax.adam(1e-2), got {optimizer!r}."
        )
    if method is not None and (isinstance(method, type) or not callable(method)):
        check_method(method)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of a Result, got {callback!r}.")
    for name, value in (("max_steps", max_steps), ("max_evaluations", max_evaluations)):
        if value is None and name == "max_evaluations":
            continue
        wanted = "from 1 to two thousand million"
        check_integer(value, name, most=_MOST, numpy=True, wanted=wanted)
    for name, value in (("tol", tol), ("max_seconds", max_seconds)):
        if value is None and name == "max_seconds":
            continue
        check_number(value, name)
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be 0 or more and finite, got {value}.")
    return Limits(int(max_steps), float(tol), max_evaluations, max_seconds)


def _check_bounds(bounds: Any, x: PyTree) -> None:
    """Raises TypeError if bounds are no pair, such as a pair for each entry, as scipy wants it."""
    listed = isinstance(bounds, (tuple, list)) and (len(bounds) != 2 or isinstance(x, jax.Array))
    if listed and all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in bounds):
        raise TypeError(
            f"bounds must be one pair (lower, upper), not a pair for each entry, got {bounds!r:.60}"
            ": give numbers or pytrees like x0, (jnp.array([...]), jnp.array([...])), say."
        )
    check_pair(bounds)


def _keyed(method: Any, key: Any) -> Any:
    """The method with the key it is given."""
    if key is None:
        return method
    if not is_random(method):
        raise ValueError(
            f"key is for random methods such as jaxfd.SPSA(), but method is {method!r}: leave key "
            "out, or give such a method."
        )
    return dataclasses.replace(method, key=key)


@functools.cache
def _usual() -> optax.GradientTransformation:
    """The optimiser for random methods: always the same one, so that its programs are kept."""
    return optax.adam(1e-2)


def _steps_of(
    fun: Callable[[PyTree], Any],
    x: PyTree,
    box: tuple[PyTree, PyTree] | None,
    optimizer: optax.GradientTransformation | None,
    method: Any,
    chunk_size: int | None,
) -> Steps:
    """The way to go that suits what was asked for."""
    fixed = method is None or (isinstance(method, Method) and not is_random(method))
    if optimizer is None and fixed:
        return QuasiNewton(fun, x, box, method, chunk_size)
    if optimizer is None:
        optimizer = _usual()
    return Descent(fun, box, method, optimizer, chunk_size)
