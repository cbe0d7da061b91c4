"""A batch on its way: from the points of one host call to a result for each.

It asks the journal, sends what is missing to a crew, tries again, applies the policy for
failures, and writes down. Each of these has a room; this one holds the order.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from jaxfd._runs import failures
from jaxfd._runs.account import Account
from jaxfd._runs.crew import Job
from jaxfd._runs.page import Entry, Page
from jaxfd._runs.points import Arguments, Index, Points
from jaxfd._runs.runner import Runner
from jaxfd._worker import Failure, Invocation


class Batch:
    """What is known of each point of a batch, and how often it was tried.

    Args:
        account: where points are counted.
        runner: how they are run.
        points: the ``m`` points.

    Attributes:
        columns: the outputs, each of shape ``(m, *out)``; whole once `evaluate` returned.
    """

    def __init__(self, account: Account, runner: Runner, points: Points) -> None:
        self.columns: list[np.ndarray] = []
        self._account = account
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
        runner.check_journal()
        self._page = Page(
            journal.store,
            runner.name,
            journal.version,
            points.call(0),
            runner.names,
            points.declared,
            runner.former,
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
        self._account.add(len(known))

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

    def _calls(self, job: Job) -> list[Invocation]:
        """The calls of a job, on copies: a function may write to what it is given."""
        if self._runner.vectorized:
            return [Invocation(job[0], *_copied(self._points.call(self._points.index(job)), False))]
        return [Invocation(i, *_copied(self._points.call(i), True)) for i in job]

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
            self._keep(self._points.index(job), outputs)
        self._account.add(count, failed)

    def _keep(self, which: Index, outputs: list[np.ndarray]) -> None:
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
        x = failures.plain(*self._points.call(job[0]))
        error = failures.error_of(failure, runner.name, where())
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
        """Decides what becomes of a job that failed; returns what is to be run again."""
        runner, points = self._runner, self._points
        self._tries[job] += 1
        if self._tries[job] <= runner.retries:
            return [job]

        def where() -> str:
            return self._account.where(points, job)

        hopeless = runner.lossy and not any(
            jnp.issubdtype(leaf.dtype, np.inexact) for _, leaf in points.declared
        )
        if runner.on_error == "raise" or hopeless:
            raise failures.error_of(failure, runner.name, where())
        if len(job) > 1:
            # Which of them it was is found by halves.
            middle = len(job) // 2
            return [job[:middle], job[middle:]]
        if runner.lossy:
            outputs = [_nothing(leaf) for _, leaf in points.declared]
            self._account.lose(len(self._missing[job[0]]), failure.error, where)
        else:
            outputs = self._stand_in(job, failure, where)
        if runner.vectorized:
            outputs = [o[None] for o in outputs]
        self._spread(job, outputs, failed=len(self._missing[job[0]]))
        return []


def _copied(call: Arguments, everything: bool) -> Arguments:
    """A call of arrays of its own; those that all points share may stay as they are, read-only."""

    def own(x: Any) -> Any:
        return x.copy() if isinstance(x, np.ndarray) and (everything or x.flags.writeable) else x

    copied: Arguments = tree_util.tree_map(own, call)
    return copied


def _nothing(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    """The output of a point that was lost: NaN, or where there is none 0."""
    dtype = np.dtype(leaf.dtype)
    if jnp.issubdtype(dtype, np.complexfloating):
        return np.full(leaf.shape, complex(np.nan, np.nan))
    if jnp.issubdtype(dtype, np.integer) or dtype == np.bool_:
        return np.zeros(leaf.shape, dtype)
    return np.full(leaf.shape, np.nan)
