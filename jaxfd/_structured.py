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
from jax.extend.core import Literal, jaxpr_as_fun

from jaxfd._changes import RULES, SUMS
from jaxfd._eqns import called, evaluate
from jaxfd._followed import TRUE, Followed, Patch, Unstructured

# Parts of one value that may change at a point before it is computed whole.
_MOST = 12
# By how much following must lessen the work. It is compiled beside what it replaces.
_WORTHWHILE = 2


@dataclasses.dataclass
class _Log:
    """What it took to follow a change through a program.

    Attributes:
        work: numbers that were computed at the point.
        whole: the same for values computed whole.
        largest: bytes of the largest part.
        sums: sums at ``x`` that changes were added to.
    """

    work: int = 0
    whole: int = 0
    largest: int = 0
    sums: list[Any] = dataclasses.field(default_factory=list)


def _at_x(jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Runs a program, and keeps the results of every operation, of called programs too."""
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))
    tape = []

    def read(var: Any) -> Any:
        return var.val if isinstance(var, Literal) else env[var]

    for eqn in jaxpr.eqns:
        values = [read(v) for v in eqn.invars]
        inner = called(eqn)
        results, within = _at_x(*inner, values) if inner else (evaluate(eqn, values), [])
        tape.append((results, within))
        env.update(zip(eqn.outvars, results, strict=True))
    return [read(v) for v in jaxpr.outvars], tape


def _changed(
    jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Followed], tape: Sequence[Any], log: _Log
) -> list[Followed]:
    """Runs a program on followed values, given the results of its operations at ``x``."""
    env: dict[Any, Followed] = {}

    def read(var: Any) -> Followed:
        return Followed(var.val) if isinstance(var, Literal) else env[var]

    env.update(zip(jaxpr.constvars, (Followed(c) for c in consts), strict=True))
    env.update(zip(jaxpr.invars, inputs, strict=True))
    for eqn, (at_x, within) in zip(jaxpr.eqns, tape, strict=True):
        values = [read(v) for v in eqn.invars]
        inner = called(eqn)
        if not any(v.patches for v in values):
            results = [Followed(value) for value in at_x]
        elif inner is not None:
            results = _changed(*inner, values, within, log)
        else:
            results = _one(eqn, values, at_x, log)
        env.update(zip(eqn.outvars, results, strict=True))
    return [read(v) for v in jaxpr.outvars]


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
            log.sums.append(at_x[0])
    parts = [p.value for r in results for p in r.patches]
    log.work, log.whole = log.work + work, log.whole + whole
    log.largest = max(log.largest, *(p.size * p.dtype.itemsize for p in parts), 0)
    return results


@dataclasses.dataclass(frozen=True)
class Following:
    """A program of which one entry of one leaf is moved.

    Attributes:
        at_x: the outputs at ``x``.
        trusted: whether the points' outputs can be: from a sum on that is not finite at ``x``,
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
    at_x, tape = _at_x(closed.jaxpr, closed.consts, leaves)
    log = _Log()

    def point(flat: Any, value: Any) -> list[Any]:
        index = (flat,) if len(shape) == 1 else tuple(jnp.unravel_index(flat, shape))
        inputs = [Followed(leaf) for leaf in leaves]
        inputs[number] = Followed(leaves[number], (Patch(index, TRUE, value),))
        found = _changed(closed.jaxpr, closed.consts, inputs, tape, log)[:count]
        return [jnp.asarray(f.whole(), dtype) for f, dtype in zip(found, dtypes, strict=True)]

    # Traced once: the rules are slow to run.
    traced = jax.make_jaxpr(point)(np.int32(0), jnp.zeros((), leaves[number].dtype))
    if log.work * _WORTHWHILE > log.whole:
        return None
    finite = [jnp.all(jnp.isfinite(value)) for value in log.sums]
    replay = jaxpr_as_fun(traced)
    return Following(
        at_x=[jnp.asarray(v, dtype) for v, dtype in zip(at_x, dtypes, strict=False)],
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
