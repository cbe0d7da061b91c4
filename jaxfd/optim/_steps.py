"""What a loop and its steps say to each other.

A step is a way to go from one point to the next: any optax optimiser in `_descent`. (Steps of the
quasi-Newton method, in `_quasi_newton`, run on the host and share only the words for an end.) The
loop in `_loop` must not know which.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol, Self

from jaxtyping import PyTree

from jaxfd._functions import Subject

# Why a run ended. Those from FOUND on are convergence.
GOING, STUCK, FLAT, ENDLESS, FAILED, JUMPS, STALLED, FOUND, NOISY = range(9)


class Outcome(NamedTuple):
    """What came of a step.

    Attributes:
        x: a point.
        value: the function's value there.
        noise: the standard deviation of that value, as far as is known.
        evaluations: how many evaluations the step took.
        skipped: whether something was not finite, so that the step was not made, or in part.
        status: why the run is over, if it is.
        ask: whether the step would like to know the function's noise; see `Steps.told`.
        endless: whether ``x`` was last seen running away.
    """

    x: PyTree
    value: Any
    noise: Any
    evaluations: Any
    skipped: Any
    status: Any
    ask: Any
    endless: Any


class Steps(Protocol):
    """A way to go from one point to the next; all but ``told`` is traced.

    Steps of one kind, by the same functions, are the same but for their numbers; so one program
    serves all of them.

    Attributes:
        patience: after how many steps without progress the run is over.
        kind: all that tells them from others of their class, but for functions and numbers.
        numbers: a pytree of arrays.
        subjects: the functions that they call, besides the one that is minimised.
        exact: whether the values that steps return are those of the function at their points.
    """

    patience: int
    exact: bool

    @property
    def kind(self) -> Hashable: ...

    @property
    def numbers(self) -> PyTree: ...

    @property
    def subjects(self) -> tuple[Subject, ...]: ...

    def having(self, fun: Callable[[PyTree], Any] | None, numbers: PyTree) -> Self:
        """Steps of this kind; those without function and numbers hold none, and make no step."""

    def init(self, x: PyTree) -> tuple[Any, Any, int]:
        """The state at the start, the value there (NaN if not known yet), and the evaluations."""

    def step(self, x: PyTree, state: Any, least: Any) -> tuple[PyTree, Any, Outcome]:
        """The next point. Less than ``least`` is no decrease."""

    def told(self, x: PyTree, state: Any) -> tuple[Any, int, bool]:
        """Looks at the noise at ``x``: the state, the evaluations, whether to go on after all."""
