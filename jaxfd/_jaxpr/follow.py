"""Structured evaluation: what one moved entry changes, and nothing else.

A point that moves one entry of an argument differs from ``x`` in a part of every intermediate
value: an entry after elementwise operations, a column after a product of matrices. These parts
are carried beside the values at ``x``, which are computed once for all points, as far as they are
small; what an operation spreads over all of a value is computed whole from there on. This room
must not know what the points are for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from jaxfd._jaxpr.patch import TRUE, Followed, Patch, Unstructured
from jaxfd._jaxpr.patch_rules import RULES, SUMS
from jaxfd._jaxpr.walk import called, evaluate, walk

# Parts of one value that may change at a point before it is computed whole.
_MOST = 12
# By how much following must lessen the work. It is compiled beside what it replaces.
_WORTHWHILE = 2


@dataclasses.dataclass
class _Log:
    """What it took to follow a change through a program.

    Attributes:
        done: how many operations were run.
        work: numbers that were computed at the point.
        whole: the same for values computed whole.
        largest: bytes of the largest part.
        sums: the numbers of those operations whose result at ``x`` changes were added to.
    """

    done: int = 0
    work: int = 0
    whole: int = 0
    largest: int = 0
    sums: list[int] = dataclasses.field(default_factory=list)


def _at_x(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any], tape: list[Any]) -> list[Any]:
    """Runs a program; what every operation results in, in called programs too, goes on tape."""

    def apply(eqn: Any, values: Sequence[Any]) -> list[Any]:
        if (inner := called(eqn)) is not None:
            return _at_x(*inner, values, tape)
        results = evaluate(eqn, values)
        tape.append(results)
        return results

    return walk(jaxpr, consts, inputs, apply)


def _changed(
    jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Followed], tape: Sequence[Any], log: _Log
) -> list[Followed]:
    """Runs a program on followed values, given what its operations result in at ``x``."""

    def apply(eqn: Any, values: Sequence[Followed]) -> list[Followed]:
        if (inner := called(eqn)) is not None:
            return _changed(*inner, values, tape, log)
        at_x = tape[log.done]
        moved = any(v.patches for v in values)
        results = _one(eqn, values, at_x, log) if moved else [Followed(v) for v in at_x]
        log.done += 1
        return results

    return walk(jaxpr, [Followed(c) for c in consts], inputs, apply, Followed)


def _one(eqn: Any, values: Sequence[Followed], at_x: Sequence[Any], log: _Log) -> list[Followed]:
    """What one operation does to changes."""
    name, moved = eqn.primitive.name, [v for v in values if v.patches]
    summed: Sequence[int] = ()
    if name == "dot_general":
        summed = eqn.params["dimension_numbers"][0][0 if values[0].patches else 1]
    whole = max(math.prod(jnp.shape(v)) for v in (*(m.base for m in moved), *at_x))
    whole *= math.prod(moved[0].shape[a] for a in summed)
    try:
        patches = RULES[name](eqn, values, at_x[0])
        if len(patches) > _MOST:
            raise Unstructured("too many parts")
    except (KeyError, Unstructured):
        work = whole
        results = [
            Followed(base, (Patch((None,) * jnp.ndim(base), TRUE, value),))
            for base, value in zip(at_x, evaluate(eqn, [v.whole() for v in values]), strict=True)
        ]
    else:
        results = [Followed(at_x[0], tuple(patches))]
        first = moved[0].patches[0]
        work = max(sum(p.value.size for p in v.patches) for v in (*moved, *results))
        work *= math.prod(moved[0].shape[a] for a in summed if first.index[a] is None)
        if name in SUMS:
            log.sums.append(log.done)
    parts = [p.value for r in results for p in r.patches]
    log.work, log.whole = log.work + work, log.whole + whole
    log.largest = max(log.largest, *(p.size * p.dtype.itemsize for p in parts), 0)
    return results


@dataclasses.dataclass(frozen=True)
class Following:
    """A program of which one entry of one leaf is moved.

    Attributes:
        at_x: the outputs at ``x``.
        trusted: whether the outputs at points can be: from a sum on that is not finite at ``x``,
            differences would say nothing. None where there is no such sum.
        largest: bytes of the largest value that is computed at a point.
        point: the outputs at a point, given which entry is moved and to which value.
    """

    at_x: list[Any]
    trusted: Any
    largest: int
    point: Callable[[Any, Any], list[Any]]


def follow(closed: Any, count: int, leaves: Sequence[Any], number: int) -> Following | None:
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
    tape: list[Any] = []
    at_x = _at_x(closed.jaxpr, closed.consts, leaves, tape)[:count]
    log = _Log()

    def outputs(values: Sequence[Any]) -> list[Any]:
        return [jnp.asarray(v, dtype) for v, dtype in zip(values, dtypes, strict=True)]

    def point(flat: Any, value: Any) -> list[Any]:
        index = (flat,) if len(shape) == 1 else tuple(jnp.unravel_index(flat, shape))
        inputs = [Followed(leaf) for leaf in leaves]
        inputs[number] = Followed(leaves[number], (Patch(index, TRUE, value),))
        found = _changed(closed.jaxpr, closed.consts, inputs, tape, log)[:count]
        return outputs([f.whole() for f in found])

    # Traced once, since the rules are slow, with an entry that stands for all of the leaf's.
    traced = jax.make_jaxpr(point)(np.int32(0), leaves[number].reshape(-1)[0])
    if log.work * _WORTHWHILE > log.whole:
        return None
    finite = [jnp.all(jnp.isfinite(tape[k][0])) for k in log.sums]
    replay = jaxpr_as_fun(traced)
    return Following(
        at_x=outputs(at_x),
        trusted=_by_all(jnp.stack(finite).all()) if finite else None,
        largest=log.largest,
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
