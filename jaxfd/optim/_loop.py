"""The loop: steps repeated in compiled segments, with everything that happens between them.

It keeps the best point and counts evaluations, and lets budgets, callbacks, progress, checkpoints
and Ctrl-C in. Where a segment ends changes no number. It must not know what a step does.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, PyTree, Shaped

from jaxfd._runs import Tally
from jaxfd.optim._checkpoint import Checkpoint
from jaxfd.optim._state import add, number
from jaxfd.optim._steps import ENDLESS, GOING, STALLED, Steps

# Steps of a segment at most, and the seconds that one shall take.
_LONGEST, _SECONDS = 256, 0.2
# Seconds between two checkpoints of fast functions.
_PAUSE = 1.0


class Run(NamedTuple):
    """A run, all of it: of JAX's arrays, or of NumPy's and Python's numbers.

    Attributes:
        x: where the next step begins.
        state: the state of the steps.
        steps: how many were made.
        seen_x: the last point whose value is known.
        seen: that value.
        best_x: the best point seen.
        best: the value there.
        first: the first value.
        mark: the value that progress is measured from.
        since: steps since there was some.
        evaluations: how many were made.
        skipped: steps that were skipped, in whole or in part.
        status: see `_steps`.
        ask: whether the steps would like to know the noise.
    """

    x: PyTree
    state: Any
    steps: Int[Any, ""]
    seen_x: PyTree
    seen: Float[Any, ""]
    best_x: PyTree
    best: Float[Any, ""]
    first: Float[Any, ""]
    mark: Float[Any, ""]
    since: Int[Any, ""]
    evaluations: Int[Any, ""]
    skipped: Int[Any, ""]
    status: Int[Any, ""]
    ask: Bool[Any, ""]


@dataclasses.dataclass(frozen=True)
class Limits:
    """When to stop at the latest.

    Attributes:
        steps: steps.
        tol: progress that is none, relative to values; see `_least`.
        evaluations: evaluations; the step that reaches them is the last.
        seconds: time.
    """

    steps: int
    tol: float
    evaluations: int | None
    seconds: float | None


def begin(steps: Steps, x: PyTree) -> Run:
    """A run before its first step."""
    state, value, evaluations = steps.init(x)
    run = Run(
        x=x,
        state=state,
        steps=number(0),
        seen_x=x,
        seen=value,
        best_x=x,
        best=value,
        first=value,
        mark=value,
        since=number(0),
        evaluations=number(evaluations),
        skipped=number(0),
        status=number(GOING),
        ask=jnp.zeros((), bool),
    )
    return _strong(run)


def _strong(run: Run) -> Run:
    """The run without weak types, which a file would not remember."""
    leaves, tree = jax.tree.flatten(run)
    strong = [lax.convert_element_type(leaf, jnp.asarray(leaf).dtype) for leaf in leaves]
    result: Run = jax.tree.unflatten(tree, strong)
    return result


def _least(tol: Any, first: Any, value: Any) -> Any:
    """The decrease that is none: ``tol`` times the value, or 1, or a smaller first value.

    Whoever minimises something tiny begins there, and whoever begins high up may end at 0.
    """
    return tol * jnp.maximum(jnp.abs(value), jnp.minimum(jnp.abs(first), 1))


def least_of(tol: float, first: float, value: float) -> float:
    """The same in Python's numbers."""
    return tol * max(abs(value), min(abs(first), 1.0))


def segment_of(steps: Steps) -> Callable[..., tuple[Run, Shaped[Array, "k"]]]:
    """Makes the function that goes so many steps: the run after them, and the values seen."""

    def segment(run: Run, count: Any, tol: Any, evaluations: Any) -> tuple[Run, Any]:
        def going(carry: Any) -> Any:
            run, k, _ = carry
            free = (run.status == GOING) & ~run.ask
            return free & (k < count) & (run.evaluations < evaluations)

        def body(carry: Any) -> Any:
            run, k, values = carry
            x, state, outcome = steps.step(run.x, run.state, _least(tol, run.first, run.best))
            value = outcome.value.astype(run.best.dtype)
            first = jnp.where(jnp.isnan(run.first), value, run.first)
            noise = outcome.noise.astype(run.best.dtype)
            # Among values that noise makes equal the last one is the best.
            better = (value <= run.best + 2 * noise) | (jnp.isnan(run.best) & ~jnp.isnan(value))
            least = jnp.maximum(_least(tol, first, run.mark), noise)
            moved = (value < run.mark - least) | (jnp.isnan(run.mark) & ~jnp.isnan(value))
            since = jnp.where(moved, number(0), run.since + number(1))
            stalled = jnp.where(since > number(steps.patience), number(STALLED), number(GOING))
            status = jnp.where(outcome.status == GOING, stalled, outcome.status)
            best = jnp.fmin(run.best, value)
            endless = outcome.endless | (best == -jnp.inf)
            status = jnp.where(endless & (status != GOING), number(ENDLESS), status)
            after = Run(
                x=x,
                state=state,
                steps=run.steps + number(1),
                seen_x=outcome.x,
                seen=value,
                best_x=jax.tree.map(lambda a, b: jnp.where(better, a, b), outcome.x, run.best_x),
                best=best,
                first=first,
                mark=jnp.where(moved, value, run.mark),
                since=since,
                evaluations=add(run.evaluations, outcome.evaluations),
                skipped=run.skipped + outcome.skipped.astype(np.int32),
                status=status,
                ask=outcome.ask,
            )
            return after, k + number(1), values.at[k].set(value)

        values = jnp.zeros(_LONGEST, run.best.dtype)
        run, _, values = lax.while_loop(going, body, (run, number(0), values))
        return run, values

    return segment


def repeat(
    steps: Steps | None,
    run: Run,
    limits: Limits,
    *,
    one_by_one: bool,
    dear: bool,
    tally: Tally,
    checkpoint: Checkpoint | None,
    history: np.ndarray,
    between: Callable[[Run, np.ndarray], bool] | None,
    interrupted: Callable[[], bool],
    compiled: Any,
) -> tuple[Run, np.ndarray, str]:
    """Goes on until there is a reason to stop.

    Args:
        steps: the steps, where they would be told of the noise.
        run: where to begin.
        limits: when to stop.
        one_by_one: whether every step is a segment of its own.
        dear: whether every step is saved, because evaluations are dear.
        tally: what to tell of progress.
        checkpoint: where to save the run.
        history: the values of the steps made before.
        between: called after segments with the run and the history; whether to stop. Or None.
        interrupted: whether there was a Ctrl-C, also one that raised nothing.
        compiled: what `segment_of` made, compiled by ``prepare`` and then called.

    Returns:
        The run, the history, and why it stopped though the steps did not: empty if they did.
    """
    values = [history]
    start = saved = time.monotonic()
    most = np.iinfo(np.int32).max if limits.evaluations is None else limits.evaluations
    tol = np.asarray(limits.tol, run.best.dtype)
    count, first = (1 if one_by_one else 8), True
    why = ""

    def save() -> None:
        if checkpoint is not None:
            values[:] = [np.concatenate(values)]
            checkpoint.save(run, values[0], limits.tol)

    try:
        tally.add(int(run.steps))
        if int(run.status) == GOING:
            compiled.prepare(run, number(count), tol, number(most))
        while int(run.status) == GOING:
            if interrupted():
                raise KeyboardInterrupt
            if int(run.evaluations) >= most:
                why = f"the budget of {limits.evaluations} evaluations is spent"
            elif int(run.steps) >= limits.steps:
                why = f"the budget of {limits.steps} steps is spent"
            elif limits.seconds is not None and time.monotonic() - start >= limits.seconds:
                why = f"the time of {limits.seconds:g} seconds is over"
            if why:
                break
            count = min(count, _LONGEST, limits.steps - int(run.steps))
            before = time.monotonic()
            try:
                new, seen = compiled(run, number(count), tol, number(most))
            except Exception:
                # JAX's own error about an interrupted call may come right before the interrupt.
                time.sleep(0.01)
                if interrupted():
                    raise KeyboardInterrupt from None
                raise
            took = time.monotonic() - before
            if steps is not None and bool(new.ask):
                new = _told(steps, new)
            done = int(new.steps) - int(run.steps)
            values.append(np.asarray(seen)[:done])
            run = new
            tally.add(done, value=float(run.best), evaluations=int(run.evaluations))
            if not one_by_one and not first:
                count = int(np.clip(count * min(_SECONDS / max(took, 1e-6), 4.0), 1, _LONGEST))
            first = False
            if checkpoint is not None and (dear or time.monotonic() - saved >= _PAUSE):
                save()
                saved = time.monotonic()
            if between is not None and between(run, np.concatenate(values)):
                why = "the callback asked to stop"
                break
    except KeyboardInterrupt:
        why = "interrupted"
    try:
        save()
    except KeyboardInterrupt:  # there is nothing left to stop, and nothing shall be lost
        save()
    return run, np.concatenate(values), why


def _told(steps: Steps, run: Run) -> Run:
    """The run after a look at the noise."""
    state, evaluations, on = steps.told(run.x, run.state)
    status = number(GOING) if on else run.status
    run = run._replace(
        state=state,
        evaluations=add(run.evaluations, evaluations),
        since=number(0) if on else run.since,
        status=status,
        ask=jnp.zeros((), bool),
    )
    return _strong(run)
