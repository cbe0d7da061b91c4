"""Results as values: what an estimate hands back besides the numbers asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from jax import tree_util
from jaxtyping import Shaped

from jaxfd._arrays import Column, PyTree, entry_names, has_tracers, register, table

_ROWS = 20


@register
@dataclasses.dataclass(frozen=True)
class Estimate:
    """A derivative and what is known about it. A pytree, so it passes through ``jit`` and ``vmap``.

    Attributes:
        value: the function's value at ``x``.
        grad: the derivative: the gradient, shaped as the argument; for more than one output the
            Jacobian, shaped as `jacobian` shapes it; with ``derivative=2`` the Hessian.
        error: for each entry of the derivative a cautious bound of its error: what a few
            points that move all entries at once, or for a Hessian larger steps, disagree by, and
            rounding. NaN where the method has nothing to compare with (``ComplexStep``).
            For random methods it is no bound but the standard error of a mean of independent
            samples; infinite for entries that none moved.
        step: for each entry of the argument the step used.
        one_sided: for each entry of the argument whether its points lay to one side of ``x``,
            though the method's do not: because of a wall, or because a point failed
            (``blackbox(on_error="nan")``).
        evaluations: the number of evaluations, an integer array.
        aux: the function's auxiliary data, None without any.
        bound: whether ``error`` is a bound, and not a standard error; part of the structure.
        derivative: the order of the derivative, 1 or 2; part of the structure.

    Example:
        >>> import jaxfd
        >>> print(jaxfd.estimate(lambda x: x**2)(3.0).evaluations)
        9
    """

    value: Shaped[Any, ""]
    grad: PyTree
    error: PyTree
    step: PyTree
    one_sided: PyTree
    evaluations: Any
    aux: PyTree = None
    bound: bool = dataclasses.field(default=True, metadata={"static": True})
    derivative: int = dataclasses.field(default=1, metadata={"static": True})

    @property
    def jacobian(self) -> PyTree:
        """The first derivative, by its name where there is more than one output.

        Raises:
            AttributeError: this is a second derivative.
        """
        return self._of_order(1, "jacobian")

    @property
    def hessian(self) -> PyTree:
        """The second derivative.

        Raises:
            AttributeError: this is a first derivative.
        """
        return self._of_order(2, "hessian")

    def _of_order(self, order: int, name: str) -> PyTree:
        if self.derivative != order:
            raise AttributeError(
                f"this Estimate has no {name}: it was made by estimate(fun, "
                f"derivative={self.derivative})."
            )
        return self.grad

    @property
    def _kind(self) -> str:
        if self.derivative == 2:
            return "hessian"
        shapes = [
            [np.shape(leaf) for leaf in tree_util.tree_leaves(tree)]
            for tree in (self.grad, self.step)
        ]
        # Steps belong to entries of the argument, which are those of a gradient alone.
        return "gradient" if shapes[0] == shapes[1] else "jacobian"

    def to_dict(self) -> dict[str, Any]:
        """The entries of the derivative as a table: ``pandas.DataFrame(result.to_dict())``.

        Returns:
            Columns of equal length: ``entry``, the names that ``print`` shows; ``gradient``,
            ``jacobian`` or ``hessian``; ``error_bound`` or ``standard_error``; and of a gradient
            ``step`` and ``one_sided``.
        """
        columns: dict[str, Any] = {
            "entry": entry_names(self.grad),
            self._kind: list(_entries(self.grad)),
            "error_bound" if self.bound else "standard_error": list(_entries(self.error)),
        }
        if self._kind == "gradient":
            columns["step"] = list(_entries(self.step))
            columns["one_sided"] = [bool(side) for side in _entries(self.one_sided)]
        return columns

    def __str__(self) -> str:
        if has_tracers(self):
            return f"Estimate(traced, {self.evaluations} evaluations)"
        what = "error bound" if self.bound else "standard error"
        name = self._kind
        gradient = name == "gradient"
        columns = [
            Column(name, 24, ".10g", _entries(self.grad)),
            Column(what, 14, ".2g", _entries(self.error)),
        ]
        if gradient:
            columns.append(Column("step", 12, ".2g", _entries(self.step)))
        lines = table(
            entry_names(self.grad, _ROWS),
            columns,
            total=sum(np.size(leaf) for leaf in tree_util.tree_leaves(self.grad)),
            width=20,
            remarks=(
                "one-sided" * bool(gradient and side)
                for side in _entries(self.one_sided if gradient else self.grad)
            ),
        )
        head = f"value {self.value}   ({self.evaluations} evaluations)"
        return "\n".join([head, *lines])


def _entries(tree: PyTree) -> Iterator[Any]:
    """All entries, one by one: each in its own dtype, and not all of a million for twenty rows."""
    for leaf in tree_util.tree_leaves(tree):
        yield from np.ravel(np.asarray(leaf))
