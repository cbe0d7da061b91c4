"""First derivatives, and higher ones of a single variable."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from jax import tree_util
from jaxtyping import PyTree, Shaped

from jaxfd._arrays import Parts, whole
from jaxfd._estimate.estimator import Wish, derivatives
from jaxfd._estimate.higher import higher_derivatives
from jaxfd._estimate.task import Answer, Call, Task, as_output, cast, float0
from jaxfd._methods import Method
from jaxfd._places import Place
from jaxfd._primitives import laid_as, summed


@dataclasses.dataclass(frozen=True)
class FirstOrder(Task):
    """Derivatives along every coordinate: gradients, Jacobians, estimates.

    Attributes:
        scalar: whether the output must be one number.
        value: whether the value is wanted too.
        error: whether a bound of the error and the steps are wanted.
        derivative: the order of the derivative, for functions of one number; None for gradients.
    """

    scalar: bool = False
    value: bool = False
    error: bool = False
    derivative: int | None = None

    @property
    def barred(self) -> bool:
        return self.error

    @property
    def higher(self) -> bool:
        return self.derivative is not None and self.derivative > 1

    @property
    def sampled(self) -> bool:
        return self.derivative is None

    def run(self, place: Place, call: Call) -> Answer:
        self.check_output(call, self.scalar, real=self.error)
        valued = self.value or self.error
        wish = Wish(valued or self.has_aux, self.error, self.derivative)
        if self.higher:
            self.check_real(call)
            found = higher_derivatives(place, call, wish)
        else:
            found = derivatives(call.method, place, call, wish)
        parts, restore = call.parts, call.arguments.restore
        leaves = [call.arguments.leaves[owner] for owner in sorted(set(parts.owner))]
        trees = [
            restore(
                [cast(summed(v, x), x) for v, x in zip(parts.gather(row), leaves, strict=True)],
                float0,
            )
            for row in found.rows
        ]
        count = len(call.out)
        value = aux = None
        if found.centre is not None and valued:
            value = value_at_centre(call, found.centre)
        if found.centre is not None and self.has_aux:
            aux = tree_util.tree_unflatten(call.aux_tree, found.centre[count:])
        derivative = tree_util.tree_unflatten(call.out_tree, trees)
        if not self.error:
            counted = found.evaluations if self.value else None
            return Answer(derivative, value, aux, evaluations=counted)

        assert found.errors is not None

        errors = [
            [laid_as(summed(e, x), x) for e, x in zip(row, parts.real, strict=True)]
            for row in found.errors
        ]

        def of_entries(values: Sequence[Any] | None) -> PyTree:
            assert values is not None
            kept = [v for v, im in zip(values, parts.imaginary, strict=True) if not im]
            return restore(kept, float0)

        return Answer(
            derivative,
            value,
            aux,
            error=tree_util.tree_unflatten(call.out_tree, [*map(of_entries, errors)]),
            step=of_entries(found.step),
            one_sided=of_entries(found.one_sided),
            evaluations=found.evaluations,
        )


def value_at_centre(call: Call, centre: Sequence[Any]) -> PyTree:
    """The function's value, from all outputs at ``x``."""
    imaginary = call.method.imaginary
    values = [
        as_output(c.real if imaginary else c, output)
        for c, output in zip(centre, call.out, strict=False)
    ]
    return tree_util.tree_unflatten(call.out_tree, values)


class Rows(NamedTuple):
    """Derivatives as bare lists, as rules of differentiation want them; a pytree.

    Attributes:
        rows: for each output and each real leaf the derivative, shape ``(*lead, *out, *leaf)``.
        value: the function's value, None where not asked for.
    """

    rows: list[list[Shaped[Any, "..."]]]
    value: PyTree = None


@dataclasses.dataclass(frozen=True)
class JacobianRows(Task):
    """The Jacobian as bare lists, for the differentiable hook; returns `Rows`.

    Attributes:
        value: whether the value is wanted too.
        contract: whether outputs are contracted with the cotangents in `Needs`.
    """

    value: bool = False
    contract: bool = False

    @property
    def contracted(self) -> bool:
        return self.contract

    @property
    def sampled(self) -> bool:
        return True

    def run(self, place: Place, call: Call) -> Rows:
        self.check_imaginary(call)
        found = derivatives(call.method, place, call, Wish(self.value))
        rows = [list(row) for row in found.rows]
        if not self.value or found.centre is None:
            return Rows(rows)
        return Rows(rows, value_at_centre(call, found.centre))


@dataclasses.dataclass(frozen=True)
class Value(Task):
    """The function's value alone."""

    @property
    def fills(self) -> bool:
        return False

    def split(self, leaves: Sequence[Any], method: Method) -> Parts:
        return whole(leaves, ())

    def run(self, place: Place, call: Call) -> PyTree:
        centre = place.centre(call.parts.real)
        values = [laid_as(c, output) for c, output in zip(centre, call.out, strict=False)]
        return tree_util.tree_unflatten(call.out_tree, values)
