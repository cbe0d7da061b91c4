"""The contract of a place: what a task may ask of a kernel, of the host, of a device.

It exists so that the pipeline is written once. A place makes points and evaluates them; it must not
know what a method is, nor how values become derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from jaxtyping import Bool, Shaped

from jaxfd._points import Cloud, Coordinates

State = TypeVar("State")

# ``(centre, outputs, directions)`` to arrays of leading axis ``m``: outputs are those along ``m``
# directions, of shape ``(K, *lead, m, *out)`` each, the centre those at ``x`` where it is known.
Reduce = Callable[[list[Any] | None, list[Any], Any], Any]


class Place(Protocol):
    """Where points are made and evaluated.

    Attributes:
        xp: the array namespace, ``jax.numpy`` in a kernel and ``numpy`` elsewhere.
        lead: the leading axes of all arrays: the batch of calls on the host, none elsewhere.
        lossy: whether points may be lost, and their values NaN.
        concrete: whether values are numbers at once, so that what is done next may depend on them.
        rounded: whether outputs have more digits here than JAX hands out of them.
        opaque: whether there is something in the function that cannot be looked into.
    """

    xp: Any
    lead: tuple[int, ...]
    lossy: bool
    concrete: bool

    @property
    def opaque(self) -> bool: ...

    @property
    def rounded(self) -> bool: ...

    def eps(self, dtype: Any) -> float:
        """The relative spacing of the coarser of a leaf's dtype and the outputs'."""

    def compute_dtype(self, out: Any, x: Any) -> Any:
        """The dtype that differences of outputs are formed in."""

    def complex(self, re: Any, im: Any) -> Any:
        """``re + i im``."""

    def centre(self, leaves: Sequence[Any]) -> list[Any]:
        """All outputs at ``x`` itself, the auxiliary ones too: shape ``(*lead, *out)``."""

    def line(
        self, x: Sequence[Any], points: Sequence[Shaped[Any, "k *lead ..."]], ride: bool
    ) -> tuple[list[Any] | None, list[Shaped[Any, "k *lead ..."]]]:
        """Outputs at K points given whole.

        Args:
            x: the leaves, shape ``(*lead, *shape)``.
            points: the points' leaves, shape ``(K, *lead, *shape)``.
            ride: whether the outputs at ``x`` are wanted too.

        Returns:
            The outputs at ``x``, the auxiliary ones too, or None; and those at the points, of shape
            ``(K, *lead, *out)``.
        """

    def evaluate(
        self, points: Coordinates, reduce: Reduce, centre: list[Any] | None, ride: bool
    ) -> tuple[list[Any] | None, Any]:
        """Runs all points and reduces their outputs direction by direction.

        Args:
            points: the points.
            reduce: what becomes of the outputs.
            centre: the outputs at ``x``, where they are known already.
            ride: whether they are wanted, and shall ride along with the first batch.

        Returns:
            The outputs at ``x``, the auxiliary ones too (None if not wanted), and the reduced
            arrays, of leading axis ``count``.
        """

    def evaluate_beside(
        self, points: Coordinates, reduce: Reduce, beside: Sequence[Shaped[Any, "p *lead ..."]]
    ) -> tuple[list[Any], Any, list[Shaped[Any, "p *lead *out"]]]:
        """The same with ``x`` and a few points given whole in the same batch.

        Args:
            points: the points.
            reduce: what becomes of their outputs.
            beside: the leaves of the other points, shape ``(P, *lead, *shape)``.

        Returns:
            As `evaluate`, and the outputs at the other points, of shape ``(P, *lead, *out)``.
        """

    def some(
        self, points: Coordinates, wanted: Bool[Any, "*lead n"]
    ) -> list[Shaped[Any, "k *lead n *out"]]:
        """Outputs along those coordinates that are wanted, NaN along the others."""

    def scatter(
        self, cloud: Cloud, ride: bool
    ) -> tuple[list[Any] | None, list[Shaped[Any, "k *lead n *out"]]]:
        """Outputs at the points of a cloud, and at ``x`` where that is wanted (``ride``)."""

    def repeat(
        self,
        body: Callable[[State], State],
        state: State,
        times: int,
        going: Callable[[State], Any],
    ) -> State:
        """Runs ``body`` on a state, up to so many times, while ``going`` holds."""
