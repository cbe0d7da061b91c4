"""The runner: how the points of one function are run, chosen and checked once.

It holds what the user asked for and makes crews; `evaluation` runs points with it. It must not
know what the points are.
"""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxfd._arrays import is_integer, is_number
from jaxfd._runs import failures
from jaxfd._runs.cluster import ClusterCrew
from jaxfd._runs.crew import Calls, Crew, Job
from jaxfd._runs.executors import ExecutorCrew
from jaxfd._runs.fingerprint import fingerprint
from jaxfd._runs.journal import Journal
from jaxfd._runs.page import Page
from jaxfd._runs.processes import ProcessCrew
from jaxfd._runs.progress import check_progress
from jaxfd._runs.serial import SerialCrew
from jaxfd._runs.threads import ThreadCrew, waits_for_itself
from jaxfd._system import JaxfdWarning, host_calls
from jaxfd._worker import Failure


class Runner:
    """How the points of a host function are run; see `jaxfd.blackbox` for the arguments.

    Attributes:
        pieces: how many points are one call of a vectorised function that is simply called; None
            for all.
        former: the name that its runs have in an old journal, where it is another one.
        plain: whether points are simply run one after the other, and what they raise is raised.
        lossy: whether points that fail count as NaN.
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        name: str | None,
        vectorized: bool,
        *,
        executor: Any = None,
        chunk_size: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        on_error: Any = "raise",
        journal: Journal | str | os.PathLike[str] | None = None,
        progress: Any = None,
    ) -> None:
        _check_count("chunk_size", chunk_size, 1)
        _check_count("retries", retries, 0)
        failures.check_on_error(on_error)
        check_progress(progress)
        self._crew = None if executor is None else _kind_of(executor)
        _check_timeout(timeout, executor, self._crew)
        if self._crew is not None:
            self._crew.check(fun, executor)
        if not (name is None or isinstance(name, str)):
            raise TypeError(f"name must be a string, got {type(name).__name__}.")
        if not (journal is None or isinstance(journal, Journal)):
            journal = Journal(journal)
        if name is None and journal is not None:
            name = _stable_name(fun)
        elif name is None:
            name = str(getattr(fun, "__name__", type(fun).__name__))
        self.fun = fun
        self.vectorized = vectorized
        self.name = name
        self.executor = executor
        if self._crew is ProcessCrew:
            host_calls.note_pool(executor)
        self.chunk_size = chunk_size
        self.timeout = timeout
        self.retries = retries
        self.on_error = on_error
        self.journal = journal
        self.progress = progress
        self._checked = -1  # at which opening of the journal
        self.former: str | None = None
        self._began = False
        self.lossy = on_error == "nan"
        if journal is not None:
            _ = self.parts  # as they are now: its runs may change what it reads from outside
        self.plain = (
            executor is None
            and retries == 0
            and on_error == "raise"
            and journal is None
            and not progress
        )
        self.pieces = chunk_size if vectorized and self.plain else None

    @functools.cached_property
    def parts(self) -> dict[str, str]:
        """What tells the function from another one; see `fingerprint`."""
        return fingerprint(self.fun)

    @functools.cached_property
    def names(self) -> Sequence[str]:
        """Names of the positional arguments."""
        return _Names(self.fun)

    @property
    def width(self) -> int:
        """How many points run side by side, as far as the executor tells."""
        return 1 if self._crew is None else _workers(self.executor)

    def keeping(self, journal: Journal, parts: dict[str, str] | None = None) -> Runner:
        """This runner with a journal, where it has none.

        Args:
            journal: the journal.
            parts: what tells the function from another one, if it is another's stand-in.
        """
        if self.journal is not None:
            return self
        made = Runner(
            self.fun,
            self.name,
            self.vectorized,
            executor=self.executor,
            chunk_size=self.chunk_size,
            timeout=self.timeout,
            retries=self.retries,
            on_error=self.on_error,
            journal=journal,
            progress=self.progress,
        )
        if parts is not None:
            made.parts = parts
        return made

    def check_journal(self) -> None:
        """Checks, once for each opening, that the journal holds runs of this very function.

        Raises:
            ValueError: it has changed.
        """
        journal = self.journal
        if journal is not None and self._checked != journal.store.openings:
            journal.check(self.name, self.parts)
            self.former = journal.former(_old_ending(self.fun))
            self._checked = journal.store.openings

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """What tells a call from all others, as the journal does, whatever is returned.

        Raises:
            TypeError: an argument has no exact text.
        """
        journal = self.journal
        assert journal is not None
        call = (args, kwargs)
        page = Page(journal.store, self.name, journal.version, call, self.names, ())
        return page.entry(args, kwargs).key.hex()

    def crew(self, calls: Calls) -> Crew:
        """A crew for one batch."""
        if self._crew is None or waits_for_itself(self.executor):
            return SerialCrew(self.fun, calls)
        if not self._began:
            # Once more: the box may have taken the name of the function since.
            self._crew.check(self.fun, self.executor)
            self._began = True
        if self._crew is ProcessCrew:
            return ProcessCrew(self.fun, calls, self.executor, self.timeout)
        return self._crew(self.fun, calls, self.executor)

    def jobs(self, numbers: Sequence[int]) -> list[Job]:
        """Cuts points into what is asked for at once."""
        size = self.chunk_size
        if size is None:
            size = 1
            if self.vectorized:
                size = max(1, -(-len(numbers) // self.width))
        return [tuple(numbers[i : i + size]) for i in range(0, len(numbers), size)]

    def explain(
        self,
        error: BaseException,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        number: int = 0,
        planned: int = 1,
    ) -> BaseException:
        """What to raise where a single call raised something, or one of a few planned."""
        where = failures.describe((number,), planned, args, kwargs, self.names)
        return failures.error_of(Failure(error), self.name, where)


class _Names(Sequence[str]):
    """Names of positional arguments, as many as there may be."""

    def __init__(self, fun: Callable[..., Any]) -> None:
        self._first: list[str] = []
        self._rest = "args"
        try:
            parameters = inspect.signature(fun).parameters.values()
        except (TypeError, ValueError):
            return
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                self._first.append(parameter.name)
            elif parameter.kind == parameter.VAR_POSITIONAL:
                self._rest = parameter.name

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, i: Any) -> Any:
        if i < len(self._first):
            return self._first[i]
        return f"{self._rest}[{i - len(self._first)}]"


def _stable_name(fun: Callable[..., Any]) -> str:
    """The name that a function is known by in a journal."""
    qualname = str(getattr(fun, "__qualname__", type(fun).__name__))
    module = str(fun.__module__)
    if module == "__main__":
        # As another program would import it, wherever the file lies. Whether another script's
        # function of that name is the same one, the journal sees.
        main = sys.modules["__main__"]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        module = Path(file).stem if spec is None and file else getattr(spec, "name", "")
    if not inspect.isfunction(fun) or "<" in qualname or fun.__closure__ or not module:
        raise ValueError(
            f"journal needs a name for fun, because {qualname} is no function at the top of a file "
            "and another may be called the same: pass name=, and another one (or "
            "jaxfd.Journal(path, version=...)) whenever what it computes changes."
        )
    return f"{module}.{qualname}"


def _old_ending(fun: Callable[..., Any]) -> str | None:
    """How the name of a function of the main program ended in old journals, after its folder."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    if fun.__module__ != "__main__" or file is None:
        return None
    return f"{Path(file).name}.{getattr(fun, '__qualname__', '')}"


def _check_count(name: str, value: Any, least: int) -> None:
    if value is None and name == "chunk_size":
        return
    if not is_integer(value) or value < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")


def _check_timeout(timeout: Any, executor: Any, crew: type[ExecutorCrew] | None) -> None:
    if timeout is None:
        return
    if not is_number(timeout) or not timeout > 0:
        raise ValueError(f"timeout must be a positive number of seconds, got {timeout!r}.")
    if crew is None or not crew.ends_points:
        what = "without an executor" if crew is None else f"by a {type(executor).__name__}"
        raise ValueError(
            f"timeout cannot be kept {what}, which cannot end a point that hangs: pass executor="
            "ProcessPoolExecutor(mp_context=multiprocessing.get_context('spawn')) or a loky one, "
            "or leave timeout out."
        )


def _workers(executor: Any) -> int:
    """How many points an executor runs at once, as far as it tells."""
    count = getattr(executor, "_max_workers", None)
    return count if isinstance(count, int) and count > 0 else os.cpu_count() or 1


def _kind_of(executor: Any) -> type[ExecutorCrew]:
    """The crew that suits an executor."""
    kind = type(executor).__name__
    module = type(executor).__module__.partition(".")[0]
    real = isinstance(executor, concurrent.futures.Executor)
    if module == "distributed":
        if real:
            return ClusterCrew
        raise TypeError(
            f"executor must have submit as concurrent.futures has it, got a dask {kind}: pass "
            "client.get_executor()."
        )
    if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
        raise TypeError(
            f"executor must have a method submit, got {kind}: pass a concurrent.futures executor "
            "(threads, processes, loky, mpi4py, dask's client.get_executor()), or None."
        )
    if isinstance(executor, concurrent.futures.ThreadPoolExecutor) and "Interpreter" not in kind:
        return ThreadCrew
    if ProcessCrew.suits(executor):
        return ProcessCrew
    if "process" in kind.lower():
        warnings.warn(
            f"executor is a {kind}, of which jaxfd cannot tell how it starts its processes: "
            "forked ones hang beside JAX's threads.",
            JaxfdWarning,
            stacklevel=4,
        )
    return ExecutorCrew
