"""The contract of points: what is asked of them where they are run.

It must not know how they are made, nor what for.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import jax
import numpy as np

from jaxfd._runs.crew import Job

# Positional and keyword arguments of a call.
Arguments = tuple[tuple[Any, ...], dict[str, Any]]

# One point by its number, or several: as an array of numbers, or as a slice that is all of them.
Index = int | slice | np.ndarray
ALL = slice(None)


class Sheet(Protocol):
    """Where the outputs of points go as they come, one point after the other."""

    def put(self, number: int, value: Any) -> None:
        """Checks what the function returned for a point, and copies it.

        Raises:
            TypeError, ValueError: it is not what was declared.
        """

    def outputs(self) -> list[np.ndarray]:
        """The outputs of all points: shape ``(m, *out)``."""


class Points(abc.ABC):
    """The points of a batch, as the place that made them offers them.

    Attributes:
        count: the number ``m`` of points.
        declared: shapes and dtypes of the outputs of one call, named.
    """

    count: int
    declared: Sequence[tuple[str, jax.ShapeDtypeStruct]]

    @abc.abstractmethod
    def call(self, which: Index) -> Arguments:
        """The arguments of one point, or of several with a leading axis.

        Args:
            which: the point or points.

        Returns:
            Positional and keyword arguments: arrays of shape ``(*shape)``, or ``(k, *shape)`` for
            ``k`` points.
        """

    @abc.abstractmethod
    def accept(self, value: Any, size: int | None) -> list[np.ndarray]:
        """What the function returned for a point, or for several: checked, flat.

        Args:
            value: a pytree.
            size: how many points it is for, with a leading axis; None for one, without.

        Returns:
            Copies of its leaves: shape ``(*out)`` or ``(size, *out)``, in their own dtypes.

        Raises:
            TypeError, ValueError: it is not what was declared.
        """

    @abc.abstractmethod
    def finish(self, outputs: list[np.ndarray], which: Index) -> list[np.ndarray]:
        """What is kept of the outputs of a point, or of several.

        Args:
            outputs: shape ``(*out)``, or ``(k, *out)`` for ``k`` points.
            which: the point or points.
        """

    @abc.abstractmethod
    def sheet(self) -> Sheet:
        """An empty sheet for the outputs of all points, as `finish` takes them."""

    def each(self) -> Iterator[Arguments]:
        """The arguments of every point, in order; see `call`."""
        return map(self.call, range(self.count))

    @abc.abstractmethod
    def renew(self) -> None:
        """Makes the points anew: a function may have written to what it was given."""

    def index(self, job: Job) -> Index:
        """Several points as an index: a slice, which copies nothing, where it is all of them."""
        return ALL if job == tuple(range(self.count)) else np.array(job)
