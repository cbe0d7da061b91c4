"""Patch rules by the name of the primitive: the contract, and where rules are written down.

A rule is one function with a decorator. This room must not know any rule, so that a new one touches
nothing but itself, wherever it is written::

    @rule("neg")
    def _neg(eqn, operands, at_x):
        (operand,) = operands
        return [dataclasses.replace(patch, value=-patch.value) for patch in operand.patches]
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import jax.numpy as jnp

from jaxfd._jaxpr.patch import Patch, PatchedValue, Refusal


class Patching(Protocol):
    """What a primitive with one result makes of patches."""

    def __call__(self, eqn: Any, operands: Sequence[PatchedValue], at_x: Any) -> list[Patch]:
        """The parts of the result that may differ from ``x``.

        Args:
            eqn: the operation; its parameters are in ``eqn.params``.
            operands: the operands at the point. At least one has patches; a scalar operand may be
                a Python number. Whatever is needed of one at the point, ``operand.read`` gives.
            at_x: the result at ``x``, shape ``(*out)``.

        Returns:
            Patches that together cover all that differs: indices with one place for each axis of
            ``out``, values in the dtype of ``at_x``. Each holds all that its part is at the point,
            with the patches of all operands in it.

        Raises:
            Refusal: this rule cannot say; the result is computed whole.
        """


class Cost(Protocol):
    """What it costs to make the changed parts of a result."""

    def __call__(
        self, eqn: Any, operands: Sequence[PatchedValue], results: Sequence[PatchedValue]
    ) -> int:
        """The numbers that are computed, as a size or as the products that are summed.

        Asked twice for each operation: as it is, and with patches that are all of their values,
        which is what computing it whole costs.

        Args:
            eqn: the operation.
            operands: the operands; at least one has patches.
            results: the results with their patches.
        """


def by_size(eqn: Any, operands: Sequence[PatchedValue], results: Sequence[PatchedValue]) -> int:
    """The cost of an operation that looks at every number once: the most that one value has."""
    del eqn
    values = (*operands, *results)
    return max(sum(math.prod(jnp.shape(p.value)) for p in v.patches) for v in values)


@dataclasses.dataclass(frozen=True)
class PatchRule:
    """What structured evaluation knows of a primitive.

    Attributes:
        patches: makes the changed parts of its result.
        cost: what that costs.
        adds: whether changes are added to the result at ``x``. Where that is not finite, nothing
            can be said of the points.
    """

    patches: Patching
    cost: Cost = by_size
    adds: bool = False


_RULES: dict[str, PatchRule] = {}
_Function = TypeVar("_Function", bound=Patching)


def rule(*names: str, cost: Cost = by_size, adds: bool = False) -> Callable[[_Function], _Function]:
    """Writes a function down as the patch rule of primitives.

    Programs that were compiled before do not know of it.

    Args:
        names: the primitives, each with one result.
        cost: see `PatchRule`.
        adds: see `PatchRule`.

    Raises:
        ValueError: a primitive has a rule already.
    """
    for name in names:
        if name in _RULES:
            raise ValueError(
                f"the primitive {name!r} has a patch rule: forget_rule({name!r}) first."
            )

    def register(function: _Function) -> _Function:
        _RULES.update(dict.fromkeys(names, PatchRule(function, cost, adds)))
        return function

    return register


def rule_of(name: str) -> PatchRule:
    """The rule of a primitive; that of one without a rule always refuses."""
    return _RULES.get(name, _REFUSING)


def _refuse(eqn: Any, operands: Sequence[PatchedValue], at_x: Any) -> list[Patch]:
    del operands, at_x
    raise Refusal(f"{eqn.primitive.name} has no rule")


_REFUSING = PatchRule(_refuse)


def forget_rule(name: str) -> PatchRule:
    """Takes the rule of a primitive away, and returns it."""
    return _RULES.pop(name)
