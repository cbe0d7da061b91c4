"""The contract of crews: who makes the calls of a batch, and in which order they come back.

A crew runs jobs, each a few points. It must not know what a result means, nor what
becomes of a failure.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, Self

from jaxfd._worker import Invocation

# The numbers of the points that are asked for at once.
Job = tuple[int, ...]

# Gives the calls that make up a job: one for each point, or one for all.
Calls = Callable[[Job], list[Invocation]]


class Crew(abc.ABC):
    """Runs the jobs of one batch.

    Args:
        fun: the user's function.
        calls: gives the calls that make up a job: one for each point, or one for all.
    """

    def __init__(self, fun: Callable[..., Any], calls: Calls) -> None:
        self._fun = fun
        self._calls = calls

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        interrupted = error[0] is not None and not issubclass(error[0], Exception)
        try:
            self.close(interrupted)
        except KeyboardInterrupt:
            # The first one may come twice: as what a wait saw, and as what the thread was sent.
            self.close(True)
            raise

    @abc.abstractmethod
    def submit(self, job: Job) -> None:
        """Asks for a job to be run; returns at once."""

    @abc.abstractmethod
    def next(self) -> tuple[Job, list[Any]]:
        """Waits for any job to end.

        Returns:
            The job, or the part of it that was run (the rest is run later); and for each of its
            calls what the function returned, or a `Failure`.

        Raises:
            KeyboardInterrupt: the call was told to stop.
        """

    def finished(self) -> list[tuple[Job, list[Any]]]:
        """What has ended and was not asked for yet, as `next` would return it."""
        return []

    def close(self, interrupted: bool) -> None:
        """Gives up what has not been started; may be called again.

        Args:
            interrupted: whether what runs is to be stopped, too.
        """
        del interrupted
