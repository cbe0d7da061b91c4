"""Any optax optimiser as the steps of a loop.

The gradient is estimated here and handed on with all that line searches want. This room must not
know how steps are repeated.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Self, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

from jaxfd._functions import Subject, entry_of
from jaxfd._hook import differentiable
from jaxfd._methods import Central, Method
from jaxfd._random import is_random
from jaxfd.optim._gradient import EstimateState, MethodSchedule, estimate_gradient
from jaxfd.optim._state import add, number
from jaxfd.optim._steps import GOING, Outcome
from jaxfd.optim._vector import inside


class DescentState(NamedTuple):
    """What goes from step to step.

    Attributes:
        gradient: the state of `estimate_gradient`.
        optimizer: that of the optimiser.
        good: the last point where value and gradient were finite.
    """

    gradient: EstimateState
    optimizer: Any
    good: PyTree


class Descent:
    """Steps of an optax optimiser; see `Steps`.

    Args:
        fun: the function.
        box: lower and upper walls, pytrees like ``x``, or None.
        method: how to estimate the gradient; None for ``Central()``.
        optimizer: the optimiser. One that begins with `estimate_gradient` estimates for itself.
        chunk_size: how many points are evaluated at once; None lets the library choose.
    """

    patience = 100

    def __init__(
        self,
        fun: Callable[[PyTree], Any],
        box: tuple[PyTree, PyTree] | None,
        method: Method | MethodSchedule | None,
        optimizer: optax.GradientTransformation,
        chunk_size: int | None = None,
    ) -> None:
        self._fun, self._box, self._asked = fun, box, method
        self._method = Central() if method is None else method
        self.exact = isinstance(self._method, Method) and not is_random(self._method)
        self._chunk_size = chunk_size
        self._optimizer = optax.with_extra_args_support(optimizer)
        self._made_as = type(optimizer)
        schedule = () if isinstance(self._method, Method) else (self._method,)
        functions = (optimizer.update, *schedule)
        self._subjects = tuple(entry_of(each).subject for each in functions)

    @property
    def kind(self) -> Hashable:
        return self._made_as, self._chunk_size

    @property
    def numbers(self) -> PyTree:
        return self._box, self._method if isinstance(self._method, Method) else None

    @property
    def subjects(self) -> tuple[Subject, ...]:
        return self._subjects

    def having(self, fun: Callable[[PyTree], Any] | None, numbers: PyTree) -> Self:
        other: Any = copy.copy(self)
        other._fun, other._asked, other._optimizer = fun, None, None
        other._box, other._method = (None, None) if numbers is None else numbers
        if numbers is not None:
            update, *schedule = (each.fun.get() for each in self._subjects)
            made: Any = self._made_as
            other._optimizer = optax.with_extra_args_support(made(None, update))
            other._method = schedule[0] if schedule else other._method
        return cast(Self, other)

    @property
    def _estimator(self) -> optax.GradientTransformationExtraArgs:
        return estimate_gradient(
            self._method, bounds=self._box, value=True, chunk_size=self._chunk_size
        )

    @property
    def _line_fun(self) -> Callable[[PyTree], Any]:
        """What a line search differentiates: it is differenced, and stays inside the box."""
        fun, box = self._fun, self._box
        how = self._method if isinstance(self._method, Method) else Central()
        own = fun if box is None else lambda x: fun(inside(x, box))
        return differentiable(own, method=how, chunk_size=self._chunk_size)

    def init(self, x: PyTree) -> tuple[DescentState, Any, int]:
        gradient, optimizer = self._estimator.init(x), self._optimizer.init(x)
        if self._asked is not None and _estimates(optimizer):
            raise ValueError(
                f"method is {self._asked!r}, but optimizer estimates gradients for itself: give "
                "that method to its estimate_gradient, or leave method out."
            )
        return DescentState(gradient, optimizer, x), gradient.value, 0

    def step(
        self, x: PyTree, state: DescentState, least: Any
    ) -> tuple[PyTree, DescentState, Outcome]:
        del least
        old = _estimates(state.optimizer)
        if old:
            gradient, found = jax.tree.map(jnp.zeros_like, x), state.gradient
            value = self._fun(x).astype(found.value.dtype)
            found = found._replace(value=value, evaluations=add(found.evaluations, 1))
        else:
            gradient, found = self._estimator.update(x, state.gradient, x, value_fn=self._fun)
        updates, optimizer = self._optimizer.update(
            gradient,
            state.optimizer,
            x,
            value=found.value,
            grad=gradient,
            value_fn=self._fun if old else self._line_fun,
        )
        cost = found.evaluations - state.gradient.evaluations
        skipped = found.skipped - state.gradient.skipped
        for before, after in zip(old, _estimates(optimizer), strict=True):
            cost += after.evaluations - before.evaluations
            skipped += after.skipped - before.skipped
        each = cost
        for after in _searches(optimizer):
            # A zoom asks for gradients too, backtracking for values alone.
            zoom = isinstance(after, optax.ScaleByZoomLinesearchState)
            cost += after.info.num_linesearch_steps.astype(np.int32) * (each if zoom else 1)
        fine = jnp.isfinite(found.value) & (skipped == 0)
        # From where it cannot be evaluated the way back is halved, again and again.
        ahead = inside(optax.apply_updates(x, updates), self._box)
        back = jax.tree.map(lambda a, b: (a + b) / 2, x, state.good)

        def choose(new: PyTree, other: PyTree) -> PyTree:
            return jax.tree.map(lambda a, b: jnp.where(fine, a, b), new, other)

        outcome = Outcome(
            x=x,
            value=found.value,
            noise=jnp.zeros_like(found.value),
            evaluations=cost,
            skipped=~fine,
            status=number(GOING),
            ask=jnp.zeros((), bool),
            endless=jnp.zeros((), bool),
        )
        good = choose(x, state.good)
        kept = jax.tree.map(
            lambda a, b: a if a is b else jnp.where(fine, a, b), optimizer, state.optimizer
        )
        kept = optimizer if old else kept
        return choose(ahead, back), DescentState(found, kept, good), outcome

    def told(self, x: PyTree, state: DescentState) -> tuple[DescentState, int, bool]:
        return state, 0, False


def _estimates(state: Any) -> list[EstimateState]:
    """The states of `estimate_gradient` inside an optimiser's state."""
    return _those(state, lambda s: isinstance(s, EstimateState))


def _searches(state: Any) -> list[Any]:
    """The states of line searches inside an optimiser's state."""
    return _those(state, lambda s: hasattr(getattr(s, "info", None), "num_linesearch_steps"))


def _those(state: Any, wanted: Callable[[Any], bool]) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(state, is_leaf=wanted) if wanted(leaf)]
