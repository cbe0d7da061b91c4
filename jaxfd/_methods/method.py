"""What every method is: a frozen value that says how a derivative is estimated.

Kinds of methods are classes: what a place is asked for is chosen by the class, in
`jaxfd._estimate`. This room must not know which kinds there are.
"""

from __future__ import annotations

import abc
import functools
from typing import Any, ClassVar

from jaxfd._methods.stencil import Stencil


class Method:
    """How a derivative is estimated.

    Attributes:
        imaginary: whether points are moved along the imaginary axis.
        random: whether points lie along random directions, drawn from a key.
        searches: whether points are laid by what was seen at others, batch after batch. A function
            that JAX traces is then evaluated in batches, outside of ``jit``, and the search itself
            is not compiled.
        step: the step, where the method does not find its own.
        highest: the highest order of derivative along the entries that a method makes that lays no
            fixed stencil; None for one that lays one, and for one that makes first derivatives.

    Example:
        >>> import jaxfd
        >>> isinstance(jaxfd.Central(order=4), jaxfd.Method)
        True
    """

    imaginary = False
    random = False
    searches = False
    step: Any = None
    highest: ClassVar[int | None] = None

    def check(self) -> None:
        """Raises TypeError or ValueError where the method lacks what it needs to be used."""


class StencilMethod(Method, abc.ABC):
    """A method that lays a stencil along a line: a coordinate, a tangent, a direction."""

    @abc.abstractmethod
    def stencil(self, derivative: int = 1) -> Stencil:
        """The stencil for a derivative of the given order.

        Raises:
            ValueError: the method has none for that order.
        """


@functools.singledispatch
def stencil_of(method: Method, derivative: int = 1) -> Stencil:
    """The stencil that a method lays along a line.

    Args:
        method: the method.
        derivative: the order of the derivative.

    Raises:
        ValueError: the method has none, or none for that order.
    """
    raise ValueError(
        f"{type(method).__name__} has no fixed stencil to lay along a line: it makes derivatives "
        "along the entries of the argument. Use Central() here."
    )


@stencil_of.register
def _(method: StencilMethod, derivative: int = 1) -> Stencil:
    return method.stencil(derivative)
