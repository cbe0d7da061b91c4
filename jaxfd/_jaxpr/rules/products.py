"""Products of arrays: the product at ``x``, and for each changed part the products of changes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from jax import lax

from jaxfd._jaxpr.change import added, changes, sum_dtype
from jaxfd._jaxpr.patch import Index, Patch, PatchedValue, Refusal, part_of
from jaxfd._jaxpr.rules.registry import by_size, rule

_ALGORITHMS = (lax.DotAlgorithm, lax.DotAlgorithmPreset)


def _cost(eqn: Any, operands: Sequence[PatchedValue], results: Sequence[PatchedValue]) -> int:
    """As many products for each number as the first patch has entries that are summed over."""
    first = 0 if operands[0].patches else 1
    moved = operands[first]
    summed: Sequence[int] = eqn.params["dimension_numbers"][0][first]
    index = moved.patches[0].index
    terms = math.prod(moved.shape[a] for a in summed if index[a] is None)
    return by_size(eqn, operands, results) * terms


@rule("dot_general", cost=_cost, adds=True)
def _dot_general(eqn: Any, operands: Sequence[PatchedValue], at_x: Any) -> list[Patch]:
    a, b = operands
    precision = eqn.params["precision"]
    if eqn.params.get("out_sharding") is not None or isinstance(precision, _ALGORITHMS):
        raise Refusal("a product that says how it is made")
    # Those of the first operand meet the second one at x, those of the second the first as it is.
    found = [
        *_products(eqn, True, a, lambda index: part_of(b.at_x, index), at_x),
        *_products(eqn, False, b, a.read, at_x),
    ]
    if len({change.kind for change in found}) > 1:
        raise Refusal("parts that overlap")
    return added(at_x, found)


def _products(
    eqn: Any, first: bool, moved: PatchedValue, other: Callable[[Index], Any], at_x: Any
) -> list[Patch]:
    """What the changes of one operand add to a product of arrays.

    Args:
        eqn: the product.
        first: whether it is the first operand.
        moved: the operand.
        other: parts of the other one.
        at_x: the product at ``x``.
    """
    (summed, summed_other), (batch, batch_other) = (
        pair if first else pair[::-1] for pair in eqn.params["dimension_numbers"]
    )
    free = [a for a in range(len(moved.shape)) if a not in (*summed, *batch)]
    rank = len(eqn.invars[1 if first else 0].aval.shape)
    dtype = sum_dtype(at_x)
    found = []
    for change in changes(moved, dtype):
        index: list[Any] = [None] * rank
        for mine, theirs in zip((*summed, *batch), (*summed_other, *batch_other), strict=True):
            index[theirs] = change.index[mine]
        own = change.value, _left(summed, change.index), _left(batch, change.index)
        part = (
            other(tuple(index)).astype(dtype),
            _left(summed_other, index),
            _left(batch_other, index),
        )
        (a, summed_a, batch_a), (b, summed_b, batch_b) = (own, part)[:: 1 if first else -1]
        product = lax.dot_general(
            a,
            b,
            ((summed_a, summed_b), (batch_a, batch_b)),
            precision=eqn.params["precision"],
            preferred_element_type=dtype,
        )
        rows = [change.index[a] for a in free]
        columns = [None] * (rank - len(summed) - len(batch))
        shared = [change.index[a] for a in batch]
        place = (*shared, *rows, *columns) if first else (*shared, *columns, *rows)
        found.append(Patch(place, change.valid, product))
    return found


def _left(axes: Sequence[int], index: Sequence[Any]) -> list[int]:
    """The places that some axes have in a part, those that it has all of."""
    left = [a for a, i in enumerate(index) if i is None]
    return [left.index(a) for a in axes if index[a] is None]
