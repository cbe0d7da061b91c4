"""An evaluation: from the points of one estimate to their results.

It asks the journal, sends what is missing to a crew, tries again, applies the policy
for failures, writes down, counts. Each of these has a room; this one holds the order.
"""

from __future__ import annotations

import abc
import collections
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import tree_util

from jaxfd._runs import failures as _failures
from jaxfd._runs.crew import Job
from jaxfd._runs.page import Entry, Page
from jaxfd._runs.progress import Tally
from jaxfd._runs.runner import Runner
from jaxfd._system import host_calls
from jaxfd._worker import Call, Failure

ALL = slice(None)


class Points(abc.ABC):
    """The points of a batch, as the place that made them offers them.

    Attributes:
        count: how many they are.
        declared: shapes and dtypes of the outputs of one call, named.
    """

    count: int
    declared: Sequence[tuple[str, Any]]

    @abc.abstractmethod
    def call(self, which: Any) -> tuple[tuple, dict]:
        """The arguments of one point, or of several with a leading axis.

        Args:
            which: an integer; or an array of integers, or a slice.
        """

    @abc.abstractmethod
    def accept(self, value: Any, size: int | None) -> list[np.ndarray]:
        """What the function returned for a point, or for several: checked, flat.

        Raises:
            TypeError, ValueError: it is not what was declared.
        """

    @abc.abstractmethod
    def finish(self, outputs: list[np.ndarray], which: Any) -> list[np.ndarray]:
        """What is kept of the outputs of a point, or of several."""


class Evaluation:
    """Runs the points of one estimate; a context manager.

    Args:
        runner: how they are run.
        planned: how many they will be.
    """

    def __init__(self, runner: Runner, planned: int) -> None:
        self._runner = runner
        self._planned = planned
        self._before = 0
        self._failed = 0
        self._first: tuple[BaseException, str] | None = None
        self._tally = Tally(runner.progress, runner.name, planned)

    def __enter__(self) -> Evaluation:
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        del rest
        self._tally.close()
        if kind is None and self._first is not None:
            _failures.warn(self._runner.name, self._failed, self._planned, *self._first)

    def run(self, points: Points) -> list[np.ndarray]:
        """Runs a batch of points.

        Returns:
            The outputs, each with a leading axis of points.
        """
        if self._runner.plain and points.count:
            columns = self._plain(points)
        else:
            batch = _Batch(self, self._runner, points)
            batch.look_up()
            batch.evaluate()
            columns = batch.columns
        self._before += points.count
        return columns

    def _plain(self, points: Points) -> list[np.ndarray]:
        """The same without any of the services, for functions that take microseconds."""
        fun = self._runner.fun
        job: Any = ALL
        rows = []
        try:
            if self._runner.vectorized:
                args, kwargs = points.call(job)
                return points.finish(points.accept(fun(*args, **kwargs), points.count), job)
            for job in range(points.count):
                host_calls.check()
                args, kwargs = points.call(job)
                rows.append(points.finish(points.accept(fun(*args, **kwargs), None), job))
        except Exception as error:
            failed = tuple(range(points.count)) if job is ALL else (job,)
            where = self.where(points, failed)
            raise _failures.error_of(Failure(error), self._runner.name, where)  # noqa: B904
        return [np.stack(column) for column in zip(*rows, strict=True)]

    def where(self, points: Points, job: Job) -> str:
        """Which points these are, and their values."""
        which = job[0] if len(job) == 1 else _several(points, job)
        args, kwargs = points.call(which)
        numbers = [self._before + i for i in job]
        return _failures.describe(numbers, self._planned, args, kwargs, self._runner.names)

    def count(self, done: int, failed: int = 0) -> None:
        self._tally.add(done, failed)

    def lose(self, count: int, error: BaseException, where: Callable[[], str]) -> None:
        """Remembers points that count as NaN."""
        self._failed += count
        if self._first is None:
            self._first = error, where()


class _Batch:
    """One batch on its way: what is known of each point, and how often it was tried."""

    def __init__(self, evaluation: Evaluation, runner: Runner, points: Points) -> None:
        self.columns: list[np.ndarray] = []
        self._evaluation = evaluation
        self._runner = runner
        self._points = points
        self._tries: collections.Counter[Job] = collections.Counter()
        self._entries: list[Entry] = []
        self._page: Page | None = None
        # Points to evaluate, each with those that are the same in every bit.
        self._missing: dict[int, list[int]] = {i: [i] for i in range(points.count)}

    def look_up(self) -> None:
        """Takes what the journal holds."""
        runner, points = self._runner, self._points
        if runner.journal is None or not points.count:
            return
        journal = runner.journal
        self._page = Page(
            journal.store,
            runner.name,
            journal.version,
            points.call(0),
            runner.names,
            points.declared,
        )
        self._entries = [self._page.entry(*points.call(i)) for i in range(points.count)]
        found = self._page.find(self._entries)
        known: list[int] = []
        same: dict[bytes, list[int]] = {}
        for i, entry in enumerate(self._entries):
            if entry.key in found:
                known.append(i)
            else:
                same.setdefault(entry.key, []).append(i)
        self._missing = {numbers[0]: numbers for numbers in same.values()}
        if not known:
            return
        each = [found[self._entries[i].key] for i in known]
        if runner.vectorized:
            self._keep(np.array(known), [np.stack(o) for o in zip(*each, strict=True)])
        else:
            for i, outputs in zip(known, each, strict=True):
                self._keep(i, outputs)
        self._evaluation.count(len(known))

    def evaluate(self) -> None:
        """Runs what is missing."""
        jobs = self._runner.jobs(list(self._missing))
        with self._runner.crew(self._calls) as crew:
            for job in jobs:
                crew.submit(job)
            pending = sum(map(len, jobs))
            try:
                while pending:
                    job, results = crew.next()
                    again: list[Job] = []
                    for part, failure in self._succeed(job, results):
                        again += self._fail(part, failure)
                    for part in again:
                        crew.submit(part)
                    pending -= len(job) - sum(map(len, again))
            except Exception:
                # What is finished is not lost with the point that failed.
                for job, results in crew.finished():
                    self._succeed(job, results)
                raise

    def _calls(self, job: Job) -> list[Call]:
        """The calls of a job, on copies: a function may write to what it is given."""
        if self._runner.vectorized:
            return [Call(job[0], *_copied(self._points.call(_several(self._points, job)), False))]
        return [Call(i, *_copied(self._points.call(i), True)) for i in job]

    def _succeed(self, job: Job, results: list[Any]) -> list[tuple[Job, Failure]]:
        """Writes down and keeps what came of a job; returns what failed."""
        if self._runner.vectorized:
            parts, size = [(job, results[0])], len(job)
        else:
            parts, size = [((i,), r) for i, r in zip(job, results, strict=True)], None
        failed: list[tuple[Job, Failure]] = []
        for part, result in parts:
            if isinstance(result, Failure):
                failed.append((part, result))
                continue
            try:
                outputs = self._points.accept(result, size)
            except Exception as error:
                failed.append((part, Failure(error)))
                continue
            self._write(part, outputs)
            self._spread(part, outputs)
        return failed

    def _write(self, job: Job, outputs: list[np.ndarray]) -> None:
        if self._page is None:
            return
        if self._runner.vectorized:
            each = [[o[k] for o in outputs] for k in range(len(job))]
        else:
            each = [outputs]
        self._page.add([(self._entries[i], row) for i, row in zip(job, each, strict=True)])

    def _spread(self, job: Job, outputs: list[np.ndarray], failed: int = 0) -> None:
        """Keeps the outputs of a job, for all points that are the same."""
        count = 0
        for k, number in enumerate(job):
            same = self._missing[number]
            count += len(same)
            for i in same:
                if not self._runner.vectorized:
                    self._keep(i, outputs)
                elif i != number:
                    self._keep(np.array([i]), [o[k : k + 1] for o in outputs])
        if self._runner.vectorized:
            self._keep(_several(self._points, job), outputs)
        self._evaluation.count(count, failed)

    def _keep(self, which: Any, outputs: list[np.ndarray]) -> None:
        """Puts outputs into the columns: of one point, or of several with a leading axis."""
        finished = self._points.finish(outputs, which)
        if not self.columns:
            lead = 0 if isinstance(which, int) else 1
            self.columns = [
                np.empty((self._points.count, *f.shape[lead:]), f.dtype) for f in finished
            ]
        for column, value in zip(self.columns, finished, strict=True):
            column[which] = value

    def _stand_in(self, job: Job, failure: Failure, where: Callable[[], str]) -> list[np.ndarray]:
        """What the user's function for failures says of a point."""
        runner = self._runner
        x = _failures.plain(*self._points.call(job[0]))
        error = _failures.error_of(failure, runner.name, where())
        try:
            raise error
        except BaseException as handled:
            # Inside, so that a bare `raise` works, and what goes wrong here keeps its cause.
            value = runner.on_error(x, handled)
            try:
                return self._points.accept(value, None)
            except (TypeError, ValueError) as wrong:
                wrong.add_note(f"on_error returned this for {where()}.")
                raise

    def _fail(self, job: Job, failure: Failure) -> list[Job]:
        runner, points = self._runner, self._points
        self._tries[job] += 1
        if self._tries[job] <= runner.retries:
            return [job]

        def where() -> str:
            return self._evaluation.where(points, job)

        hopeless = runner.lossy and not any(
            jnp.issubdtype(leaf.dtype, np.inexact) for _, leaf in points.declared
        )
        if runner.on_error == "raise" or hopeless:
            raise _failures.error_of(failure, runner.name, where())
        if len(job) > 1:
            # Which of them it was is found by halves.
            middle = len(job) // 2
            return [job[:middle], job[middle:]]
        if runner.lossy:
            outputs = [_nothing(leaf) for _, leaf in points.declared]
            self._evaluation.lose(len(self._missing[job[0]]), failure.error, where)
        else:
            outputs = self._stand_in(job, failure, where)
        if runner.vectorized:
            outputs = [o[None] for o in outputs]
        self._spread(job, outputs, failed=len(self._missing[job[0]]))
        return []


def _copied(call: tuple[tuple, dict], everything: bool) -> Any:
    """A call of arrays of its own; those that all points share may stay as they are, read-only."""

    def own(x: Any) -> Any:
        return x.copy() if isinstance(x, np.ndarray) and (everything or x.flags.writeable) else x

    return tree_util.tree_map(own, call)


def _nothing(leaf: Any) -> np.ndarray:
    dtype = np.dtype(leaf.dtype)
    if jnp.issubdtype(dtype, np.complexfloating):
        return np.full(leaf.shape, complex(np.nan, np.nan))
    if jnp.issubdtype(dtype, np.integer) or dtype == np.bool_:
        return np.zeros(leaf.shape, dtype)
    return np.full(leaf.shape, np.nan)


def _several(points: Points, job: Job) -> Any:
    """Several points as an index: a slice, which copies nothing, where it is all of them."""
    return ALL if job == tuple(range(points.count)) else np.array(job)
