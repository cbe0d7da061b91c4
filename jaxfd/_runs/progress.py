"""Progress: how far a batch is, on a terminal, in a log, or handed to the user.

Must not know what a point is.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

_LOG = logging.getLogger("jaxfd")

# Lines in a log come no faster than this, in seconds.
_PAUSE = 10.0


class Progress(NamedTuple):
    """How far a batch is.

    Attributes:
        name: the function's name.
        done: points that are finished, failed ones among them.
        planned: points of the batch.
        failed: points that failed.
        seconds: time since the batch began.
        left: seconds that it will still take at this pace; NaN before the first point.
        unit: what is counted, if no points.

    Example:
        >>> import jax, jax.numpy as jnp, jaxfd
        >>> last = []
        >>> out = jax.ShapeDtypeStruct((), jnp.float32)
        >>> model = jaxfd.blackbox(lambda x: x**2, out, name="square", progress=last.append)
        >>> _ = jax.grad(model)(3.0)
        >>> print(last[-1].name, last[-1].done, last[-1].planned)
        square 3 3
    """

    name: str
    done: int
    planned: int
    failed: int
    seconds: float
    left: float
    unit: str = "point"

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        count = f"{self.done} of {self.planned} {self.unit}s"
        return f"{self.name}: {count}{failed}, {self.left:.0f} s left"


# What a user asks for: nothing, the terminal or the log, or a function of their own.
Receiver = Callable[[Progress], object]
Wish = bool | Receiver | None


class _Reporter:
    """Where progress goes: here, nowhere."""

    def __call__(self, progress: Progress) -> None:
        pass

    def close(self) -> None:
        pass


class _Handler(_Reporter):
    """The user's own function."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def __call__(self, progress: Progress) -> None:
        self._receiver(progress)


class _Log(_Reporter):
    """A line now and then, and one at the end of a batch that took long."""

    last = -_PAUSE

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        over = progress.done == progress.planned and progress.seconds > 1
        if over or now - _Log.last >= _PAUSE:
            _Log.last = now
            _LOG.info("%s", progress)


class _Bar(_Reporter):
    """A bar that is there while a batch takes long, and gone after it."""

    def __init__(self, name: str, planned: int, unit: str) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError as error:
            raise ImportError(
                "progress=True needs tqdm on a terminal: pip install 'jaxfd[progress]', or pass a "
                "function."
            ) from error
        self._bar = tqdm(total=planned, desc=name, unit=unit, leave=False, delay=0.5)

    def __call__(self, progress: Progress) -> None:
        if progress.failed:
            self._bar.set_postfix(failed=progress.failed, refresh=False)
        self._bar.update(progress.done - self._bar.n)

    def close(self) -> None:
        self._bar.close()


class Tally:
    """Counts the points of one batch and reports them.

    Args:
        progress: what the user asked for: nothing, True, or a function.
        name: the function's name.
        planned: the number of points.
        unit: what is counted, if no points.
    """

    def __init__(self, progress: Wish, name: str, planned: int, unit: str = "point") -> None:
        self.name, self.planned, self.unit = name, planned, unit
        self.done = self.failed = 0
        self._start = time.monotonic()
        self._reporter = _reporter_for(progress, name, planned, unit)

    def add(self, done: int, failed: int = 0) -> None:
        """Counts points that are finished."""
        self.done += done
        self.failed += failed
        seconds = time.monotonic() - self._start
        left = seconds / self.done * (self.planned - self.done) if self.done else float("nan")
        counts = (self.done, self.planned, self.failed)
        self._reporter(Progress(self.name, *counts, seconds, left, self.unit))

    def close(self) -> None:
        """Ends the batch."""
        self._reporter.close()


def _reporter_for(progress: Wish, name: str, planned: int, unit: str) -> _Reporter:
    if not progress:
        return _Reporter()
    if callable(progress):
        return _Handler(progress)
    if "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty()):
        return _Bar(name, planned, unit)
    return _Log()


def check_progress(progress: object) -> None:
    """Raises TypeError where it is neither a bool, None nor a function."""
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise TypeError(
            f"progress must be True, False or a function, got {type(progress).__name__}."
        )
