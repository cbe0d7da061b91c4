"""Estimators: what a method does with a place, chosen by the method's kind.

An estimator lays points, has them evaluated, and weighs the values. Each kind registers its own:
`fixed` for stencils, `adaptive` for the search, `sampled` for random directions, and whatever comes
from outside. This room must not know any of them.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

from jaxfd._estimate.found import Derivatives, SecondDerivatives
from jaxfd._estimate.task import Call, Task
from jaxfd._methods import Method, stencil_of
from jaxfd._places import Place


class Wish(NamedTuple):
    """What is asked of an estimator besides the derivatives.

    Attributes:
        centre: whether the outputs at ``x`` are wanted.
        error: whether a bound of the error is.
        order: the order of the derivative, for functions of one number; None for gradients.
    """

    centre: bool = False
    error: bool = False
    order: int | None = None


@functools.singledispatch
def derivatives(method: Method, place: Place, call: Call, wish: Wish) -> Derivatives:
    """Estimates derivatives along every coordinate.

    Args:
        method: the call's method, whose kind chooses the estimator.
        place: where points are evaluated.
        call: the call.
        wish: what is wanted besides.

    Raises:
        TypeError: no estimator is registered for such a method.
    """
    raise TypeError(
        f"there is no estimator for {type(method).__name__}: make it a FiniteDifference, or "
        "register one."
    )


@functools.singledispatch
def second_derivatives(method: Method, place: Place, call: Call, wish: Wish) -> SecondDerivatives:
    """Estimates second derivatives along every pair of coordinates.

    Args:
        method: the call's method, whose kind chooses the estimator.
        place: where points are evaluated.
        call: the call.
        wish: what is wanted besides.

    Raises:
        ValueError: no estimator is registered for such a method, or it makes none.
    """
    stencil_of(method, 2)  # refuses
    raise TypeError(f"there is no estimator of second derivatives for {type(method).__name__}.")


@functools.singledispatch
def for_host(method: Method, task: Task, args: Any, kwargs: Any) -> Method:
    """The method as a host function gets it: nothing in it needs JAX any more.

    Args:
        method: the method.
        task: what is asked.
        args: the frozen positional arguments of the call.
        kwargs: the frozen keyword arguments.
    """
    return method
