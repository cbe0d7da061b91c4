"""Progress: how far a batch or a whole fit is, on a terminal, in a log, or handed to the user.

Must not know what a point is.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

_LOG = logging.getLogger("jaxfd")

# Lines in a log come no faster than this, in seconds.
_PAUSE = 10.0


class Progress(NamedTuple):
    """How far a batch is, or a fit, which is many of them.

    Attributes:
        name: the function's name.
        done: points that are finished, failed ones among them.
        planned: points of the batch.
        failed: points that failed.
        seconds: time since the batch began.
        left: seconds that it will still take at this pace; NaN before the first point.
        unit: what is counted, if no points.
        value: of a fit, the lowest value so far; NaN elsewhere.
        evaluations: of a fit, how often the function was evaluated; 0 elsewhere.
        batches: of a fit, the batches that were evaluated, `minimize`'s of a function that is
            plainly called apart; 0 elsewhere.
        steps: of a fit that counts evaluations, the steps that were taken; 0 elsewhere.

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
    value: float = math.nan
    evaluations: int = 0
    batches: int = 0
    steps: int = 0

    def __str__(self) -> str:
        failed = f", {self.failed} failed" if self.failed else ""
        count = f"{self.done} of {self.planned} {self.unit}s"
        # A fit may end long before its budget does.
        left = f"{self.left:.0f} s left" + " at most" * (self.unit != "point")
        told = "".join(f", {text}" for text in self.details())
        return f"{self.name}: {count}{failed}{told}, {left}"

    def details(self) -> list[str]:
        """What is known of a fit: its value, steps, evaluations and batches."""
        told = [] if math.isnan(self.value) else [f"value {self.value:.6g}"]
        if self.steps:
            told.append(f"{self.steps} steps")
        if self.evaluations and self.unit != "evaluation":
            told.append(f"{self.evaluations} evaluations")
        return told + ([f"{self.batches} batches"] if self.batches else [])


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
        failed = [f"{progress.failed} failed"] if progress.failed else []
        self._bar.set_postfix_str(", ".join(failed + progress.details()), refresh=False)
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
        self._batches = 0
        self._fit = _fits[-1] if _fits and unit == "point" else None
        self._warned = False
        if unit != "point":
            self._reporter = _reporter_for(progress, name, planned, unit)
            _fits.append(self)
        elif self._fit is not None:
            # Batches of a fit have no bars of their own: the fit tells of the whole.
            self._fit.begin_batch(shown=progress is True)
            self._reporter = _reporter_for(progress if callable(progress) else None, name, planned)
        else:
            self._reporter = _reporter_for(progress, name, planned)

    def begin_batch(self, shown: bool) -> None:
        """Counts a batch of a fit.

        Args:
            shown: whether its black box was asked to show progress: then the fit does.
        """
        self._batches += 1
        if shown and type(self._reporter) is _Reporter:
            self._reporter = _reporter_for(True, self.name, self.planned, self.unit)

    def add(
        self,
        done: int,
        failed: int = 0,
        *,
        value: float = math.nan,
        evaluations: int = 0,
        batches: int = 0,
        steps: int = 0,
    ) -> None:
        """Counts points, or steps of a fit, that are finished.

        Args:
            done: how many.
            failed: how many of them failed.
            value: of a fit, the lowest value so far.
            evaluations: of a fit, those so far, all together.
            batches: of a fit, those so far, where it counts them itself.
            steps: of a fit that counts evaluations, those so far.
        """
        self.done += done
        self.failed += failed
        if type(self._reporter) is _Reporter:
            return
        seconds = time.monotonic() - self._start
        left = seconds / self.done * (self.planned - self.done) if self.done else math.nan
        counts = (self.done, self.planned, self.failed)
        told = Progress(self.name, *counts, seconds, left, self.unit, value, evaluations)
        self._reporter(told._replace(batches=max(batches, self._batches), steps=steps))

    @property
    def in_fit(self) -> bool:
        """Whether this is a batch of a fit."""
        return self._fit is not None

    def may_warn(self) -> bool:
        """Whether nobody has warned of failures yet: once for a batch, or for its whole fit."""
        whole = self._fit or self
        warned, whole._warned = whole._warned, True
        return not warned

    def close(self) -> None:
        """Ends the batch, or the fit."""
        if self in _fits:
            _fits.remove(self)
        self._reporter.close()


# The fits that are running: in any thread, because black boxes run in others than the fit's own.
_fits: list[Tally] = []


def _reporter_for(progress: Wish, name: str, planned: int, unit: str = "point") -> _Reporter:
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
