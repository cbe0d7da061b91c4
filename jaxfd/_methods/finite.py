"""Methods as values: which stencil is laid, and with which step.

A method says what is done, never how it is evaluated: it knows stencils and step
rules and nothing of kernels, hosts or transforms. Every method is a frozen
dataclass and a pytree whose leaves are its steps, so it may be built inside
``jit`` and mapped over with ``vmap``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxfd._arrays import check_integer, check_positive, register
from jaxfd._methods.method import StencilMethod
from jaxfd._methods.stencil import Stencil, central, one_sided
from jaxfd._methods.step import Relative


def _check_order(order: Any, name: str, even: bool) -> None:
    wanted = "an even number from 2 on" if even else ""
    check_integer(order, f"{name}: order", wanted=wanted)
    if even and order % 2:
        raise ValueError(f"{name}: order must be {wanted}, got {order}.")


def _check_step(step: Any) -> None:
    if step is not None and not isinstance(step, Relative):
        check_positive(step, "step")


class FiniteDifference(StencilMethod):
    """A real stencil laid along every coordinate, with a step. What comes from outside may be one.

    A subclass is a frozen dataclass, made a pytree whose leaf is its ``step``.
    """


@register
@dataclasses.dataclass(frozen=True)
class Forward(FiniteDifference):
    """Differences to one side, ``(f(x + h) - f(x)) / h`` at order 1.

    The cheapest method: ``order * n + 1`` evaluations for a gradient, the value included. At
    order 1 it is right to about half of the function's digits.

    Args:
        order: order of accuracy, 1 or more.
        step: a positive number in the argument's units, a pytree of them like the argument (one
            per leaf or per entry), a `Relative`, or None for ``Relative()``.

    Raises:
        TypeError: ``order`` is no integer.
        ValueError: ``order`` or ``step`` is out of range.

    Example:
        >>> import jaxfd
        >>> jaxfd.Forward().stencil().offsets
        (0, 1)

    Reference:
        J. Nocedal and S. Wright, "Numerical Optimization", 2nd ed., section 8.1.
    """

    order: int = dataclasses.field(default=1, metadata={"static": True})
    step: Any = None

    def __post_init__(self) -> None:
        _check_order(self.order, "Forward", even=False)
        _check_step(self.step)

    def stencil(self, derivative: int = 1) -> Stencil:
        return one_sided(derivative, self.order, 1)


@register
@dataclasses.dataclass(frozen=True)
class Backward(FiniteDifference):
    """Differences to the other side, ``(f(x) - f(x - h)) / h`` at order 1.

    Args:
        order: order of accuracy, 1 or more.
        step: as for `Forward`.

    Raises:
        TypeError: ``order`` is no integer.
        ValueError: ``order`` or ``step`` is out of range.

    Example:
        >>> import jaxfd
        >>> jaxfd.Backward().stencil().offsets
        (-1, 0)
    """

    order: int = dataclasses.field(default=1, metadata={"static": True})
    step: Any = None

    def __post_init__(self) -> None:
        _check_order(self.order, "Backward", even=False)
        _check_step(self.step)

    def stencil(self, derivative: int = 1) -> Stencil:
        return one_sided(derivative, self.order, -1)


@register
@dataclasses.dataclass(frozen=True)
class Central(FiniteDifference):
    """Differences to both sides, ``(f(x + h) - f(x - h)) / 2h`` at order 2.

    The default: ``order * n`` evaluations for a gradient, right to about two thirds of the
    function's digits at order 2 and four fifths at order 4.

    Args:
        order: order of accuracy, an even number.
        step: as for `Forward`.

    Raises:
        TypeError: ``order`` is no integer.
        ValueError: ``order`` is odd or below 2, or ``step`` is out of range.

    Example:
        >>> import jaxfd
        >>> [str(w) for w in jaxfd.Central(order=4).stencil().weights]
        ['1/12', '-2/3', '2/3', '-1/12']

    Reference:
        B. Fornberg, Mathematics of Computation 51 (1988) 699-706.
    """

    order: int = dataclasses.field(default=2, metadata={"static": True})
    step: Any = None

    def __post_init__(self) -> None:
        _check_order(self.order, "Central", even=True)
        _check_step(self.step)

    def stencil(self, derivative: int = 1) -> Stencil:
        return central(derivative, self.order)


@register
@dataclasses.dataclass(frozen=True)
class ComplexStep(StencilMethod):
    """The imaginary part of one complex evaluation, ``Im f(x + ih) / h``.

    Nothing is subtracted, so nothing is lost: as exact as automatic differentiation, in ``n``
    evaluations. The function must be analytic and must keep the imaginary part all the way
    (no ``abs``, ``real`` or ``conj``, and no ``fft``, whose rounding drowns it); it is called with
    complex arguments. A function that JAX traces is looked through for such operations. A black box
    is called twice more, at ``x`` and a little beside it: there its real part must change as the
    imaginary ones foretell. Declare its ``out`` complex, as ``jax.ShapeDtypeStruct((), complex)``.
    Where the function is not real at ``x`` (``sqrt(-2)``), the result is NaN.

    Args:
        step: as for `Forward`; None takes ``eps**2 * max(|x|, 1)``.

    Raises:
        ValueError: ``step`` is out of range.
        TypeError: when used: the function loses the imaginary part.
        ValueError: when used: a black box loses it, or turns it.

    Example:
        >>> import jax.numpy as jnp, jaxfd
        >>> print(jaxfd.grad(jnp.sin, method=jaxfd.ComplexStep())(0.0))
        1.0

    Reference:
        W. Squire and G. Trapp, "Using complex variables to estimate derivatives of real
        functions", SIAM Review 40 (1998) 110-112.
    """

    step: Any = None
    imaginary = True

    def __post_init__(self) -> None:
        _check_step(self.step)

    def stencil(self, derivative: int = 1) -> Stencil:
        if derivative != 1:
            raise ValueError(
                f"ComplexStep makes first derivatives only, not order {derivative}: use "
                "Central() there."
            )
        half = central(1, 2)
        return dataclasses.replace(half, offsets=(1,), weights=half.weights[1:], imaginary=True)
