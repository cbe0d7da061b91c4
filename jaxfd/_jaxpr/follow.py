"""Structured evaluation: what one moved entry changes, and nothing else.

A point that moves one entry of an argument differs from ``x`` in a part of every intermediate
value: an entry after elementwise operations, a column after a product of matrices. These parts
are carried beside the values at ``x``, which are computed once for all points, as far as they are
small; what an operation spreads over all of a value is computed whole from there on. This room
must not know what the points are for, nor what any primitive does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from jaxfd._jaxpr.patch import TRUE, Patch, PatchedValue, Refusal
from jaxfd._jaxpr.rules import rule_of
from jaxfd._jaxpr.walk import always, evaluate, walk

# Parts of one value that may change at a point before it is computed whole.
_MOST = 12
# By how much following must lessen the work. It is compiled beside what it replaces.
_WORTHWHILE = 2


@dataclasses.dataclass
class _Bill:
    """What it takes to follow a change through a program.

    Attributes:
        work: numbers that are computed at the point.
        whole: the same for values computed whole.
        largest: bytes of the largest value that is computed at the point.
        sums: the results at ``x`` that changes are added to.
    """

    work: int = 0
    whole: int = 0
    largest: int = 0
    sums: list[Any] = dataclasses.field(default_factory=list)


def _tape(closed: Any, leaves: Sequence[Any]) -> tuple[list[list[Any]], list[Any]]:
    """What every operation of a program, in called programs too, results in; and its outputs."""
    tape: list[list[Any]] = []

    def apply(eqn: Any, operands: Sequence[Any]) -> list[Any]:
        results = evaluate(eqn, operands)
        tape.append(results)
        return results

    return tape, walk(closed.jaxpr, closed.consts, leaves, apply, enter=always)


def _patched(
    closed: Any, inputs: Sequence[PatchedValue], tape: Iterator[list[Any]], bill: _Bill
) -> list[PatchedValue]:
    """Runs a program on patched values, given what its operations result in at ``x``."""

    def apply(eqn: Any, operands: Sequence[PatchedValue]) -> list[PatchedValue]:
        at_x = next(tape)
        if not any(v.patches for v in operands):
            return [PatchedValue(v) for v in at_x]
        return _results(eqn, operands, at_x, bill)

    return walk(closed.jaxpr, closed.consts, inputs, apply, PatchedValue, always)


def _results(
    eqn: Any, operands: Sequence[PatchedValue], at_x: Sequence[Any], bill: _Bill
) -> list[PatchedValue]:
    """What one operation makes of patches, and what that is billed as."""
    rule = rule_of(eqn.primitive.name)
    everywhere = [PatchedValue.anew(v.at_x, v.at_x) if v.patches else v for v in operands]
    whole = rule.cost(eqn, everywhere, [PatchedValue.anew(v, v) for v in at_x])
    bill.whole += whole
    try:
        patches = rule.patches(eqn, operands, at_x[0])
        if len(patches) > _MOST:
            raise Refusal("too many parts")
    except Refusal:
        values = evaluate(eqn, [v.whole() for v in operands])
        results = [PatchedValue.anew(*pair) for pair in zip(at_x, values, strict=True)]
        bill.work += whole
    else:
        results = [PatchedValue(at_x[0], tuple(patches))]
        bill.work += rule.cost(eqn, operands, results)
        if rule.adds:
            bill.sums.append(at_x[0])
    parts = [p.value for r in results for p in r.patches]
    bill.largest = max(bill.largest, *(p.size * p.dtype.itemsize for p in parts), 0)
    return results


@dataclasses.dataclass(frozen=True)
class PatchedProgram:
    """A program of which one entry of one leaf is moved; its outputs are scalars.

    Attributes:
        at_x: the outputs at ``x``.
        trusted: whether the outputs at points can be, a boolean: from a sum on that is not finite
            at ``x``, differences would say nothing. None where there is no such sum.
        largest: bytes of the largest value that is computed at a point.
        point: the outputs at a point, given which entry is moved (an int32, counted in the leaf
            laid flat) and to which value (a scalar in the leaf's dtype).
    """

    at_x: list[Any]
    trusted: Any
    largest: int
    point: Callable[[Any, Any], list[Any]]


def follow(closed: Any, count: int, leaves: Sequence[Any], number: int) -> PatchedProgram | None:
    """Follows the changes of a leaf through a program; None where that saves no work.

    Args:
        closed: the program, a closed jaxpr.
        count: how many of its outputs are wanted, from the first.
        leaves: the arguments at ``x``.
        number: the leaf that is moved.
    """
    outvars = closed.jaxpr.outvars[:count]
    if closed.effects or any(v.aval.shape != () for v in outvars):
        return None
    shape = leaves[number].shape
    dtypes = [v.aval.dtype for v in outvars]
    tape, at_x = _tape(closed, leaves)
    bill = _Bill()

    def outputs(values: Sequence[Any]) -> list[Any]:
        return [jnp.asarray(v, dtype) for v, dtype in zip(values, dtypes, strict=True)]

    def point(flat: Any, value: Any) -> list[Any]:
        index = (flat,) if len(shape) == 1 else tuple(jnp.unravel_index(flat, shape))
        inputs = [PatchedValue(leaf) for leaf in leaves]
        inputs[number] = PatchedValue(leaves[number], (Patch(index, TRUE, value),))
        found = _patched(closed, inputs, iter(tape), bill)
        return outputs([v.whole() for v in found[:count]])

    # Traced once, since the rules are slow, with an entry that stands for all of the leaf's.
    traced = jax.make_jaxpr(point)(np.int32(0), leaves[number].reshape(-1)[0])
    if bill.work * _WORTHWHILE > bill.whole:
        return None
    finite = [jnp.all(jnp.isfinite(total)) for total in bill.sums]
    replay = jaxpr_as_fun(traced)
    return PatchedProgram(
        at_x=outputs(at_x[:count]),
        trusted=_by_all(jnp.stack(finite).all()) if finite else None,
        largest=bill.largest,
        point=lambda flat, value: list(replay(flat, value)),
    )


@jax.custom_batching.custom_vmap
def _by_all(condition: Any) -> Any:
    """A condition that under ``vmap`` holds where it holds for all.

    Otherwise ``vmap`` would make of the choice between two ways a computation of both.
    """
    return condition


@_by_all.def_vmap
def _by_all_batched(size: int, batched: Sequence[bool], condition: Any) -> tuple[Any, bool]:
    del size, batched
    return _by_all(jnp.all(condition, axis=0)), False
