"""What every method is: a frozen value that says how a derivative is estimated."""

from __future__ import annotations

import abc
from typing import Any

from jaxfd._methods.stencil import Stencil


class Method(abc.ABC):
    """How a derivative is estimated.

    Attributes:
        imaginary: whether points are moved along the imaginary axis.
        step: the step, where the method does not find its own.
    """

    imaginary = False
    step: Any = None

    def check(self) -> None:  # noqa: B027 - most methods lack nothing
        """Raises TypeError or ValueError where the method lacks what it needs to be used."""

    @abc.abstractmethod
    def stencil(self, derivative: int = 1) -> Stencil:
        """The stencil for a derivative of the given order.

        Raises:
            ValueError: the method has none.
        """
