"""Whether a program keeps the imaginary part of its arguments, as a complex step needs.

A function that is real on the real axis has its derivative in a tiny imaginary part, unless an
operation drops it, turns it, or drowns it in rounding: `abs`, `conj`, `fft`. What such a result
merely decides (a comparison, an index, a whole number) does no harm. This room follows programs;
it must not know what a step is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxfd._jaxpr.walk import called, walk

# Operations that take complex numbers to complex ones and are not analytic.
_TURN = {"cholesky", "conj", "eigh", "geqrf", "qr", "schur", "sign", "svd"}
# Those that are, but whose rounding is as large as all of a number, and not as each of its parts.
_DROWN = {"conv_general_dilated", "eig", "fft"}
# Operations whose real results move in jumps only.
_JUMP = {"ceil", "floor", "round", "sign"}
# Operations that a tiny number does not survive beside a large one.
_ADD = {"add", "add_any", "rem", "sub"}
# Operations whose results are their operands, one by one, at most in another order.
_PASS = {"optimization_barrier", "sort"}
# Calls that take a number apart and put it together again.
_WHOLE_AGAIN = {"det"}


class _Part(NamedTuple):
    """What a value that depends on the arguments has of their imaginary part.

    Attributes:
        lost: the operation that it was lost in; empty where it is all there.
        imaginary: whether it is there, but as a real number, and may be put back.
    """

    lost: str = ""
    imaginary: bool = False


_WHOLE = _Part()

# One for each value; None for one that the arguments do not move, or only in jumps.
_Parts = list[_Part | None]


def lost_in(closed: Any, count: int) -> str | None:
    """The operation in which a program of complex arguments loses an imaginary part.

    Args:
        closed: the jaxpr.
        count: how many outputs are looked at, from the first.

    Returns:
        Its name; None where every output keeps all of it.
    """
    found = _follow(closed.jaxpr, [_WHOLE] * len(closed.jaxpr.invars))
    return next((part.lost for part in found[:count] if part and part.lost), None)


def _follow(jaxpr: Any, arguments: Sequence[_Part | None]) -> _Parts:
    """What the outputs of a program have, given what its arguments have."""

    def apply(eqn: Any, parts: _Parts) -> _Parts:
        return (
            _after(eqn, parts)
            if any(part is not None for part in parts)
            else [None] * len(eqn.outvars)
        )

    return walk(jaxpr, jaxpr.constvars, arguments, apply, lambda value: None)


def _after(eqn: Any, parts: _Parts) -> _Parts:
    """What the results of an operation have."""
    name, params = eqn.primitive.name, eqn.params
    inner = called(eqn)
    if inner is not None:
        return _named(params.get("name"), parts, _follow(inner[0], parts))
    if name == "cond":
        branches = [_follow(branch.jaxpr, parts[1:]) for branch in params["branches"]]
        return [_merged(each) for each in zip(*branches, strict=True)]
    if name == "scan":
        first, carried = params["num_consts"], params["num_carry"]
        return _looped(params["jaxpr"].jaxpr, parts, first, carried)
    if name == "while":
        first = params["cond_nconsts"]
        body = parts[first:]
        return _looped(params["body_jaxpr"].jaxpr, body, params["body_nconsts"], None)
    if name == "custom_linear_solve":
        counts = params["const_lengths"]
        first = counts.matvec + counts.vecmat
        held = parts[first : first + counts.solve]
        return _follow(params["jaxprs"].solve.jaxpr, [*held, *parts[sum(counts) :]])
    if name in _PASS:
        return parts
    return [_result(eqn, parts, var.aval) for var in eqn.outvars]


def _looped(body: Any, parts: _Parts, first: int, carried: int | None) -> _Parts:
    """What comes out of a loop: what it carries, until that changes no more, and the rest."""
    stop = len(parts) if carried is None else first + carried
    while True:
        found = _follow(body, parts)
        ends = zip(parts[first:stop], found, strict=False)
        carry = [_merged(pair) for pair in ends]
        if carry == parts[first:stop]:
            return [*carry, *found[len(carry) :]]
        parts = [*parts[:first], *carry, *parts[stop:]]


def _merged(parts: Sequence[_Part | None]) -> _Part | None:
    """What a value has that comes by one of several ways."""
    moved = [part for part in parts if part is not None]
    return next((part for part in moved if part.lost), moved[0] if moved else None)


def _named(name: str | None, parts: _Parts, found: _Parts) -> _Parts:
    """What a call returns: what it lost itself, with its name."""
    if name in _WHOLE_AGAIN:
        return [_merged(parts)] * len(found)
    return [
        part._replace(lost=f"{part.lost} (in {name})")
        if part and part.lost and "(" not in part.lost and part not in parts and name
        else part
        for part in found
    ]


def _result(eqn: Any, parts: _Parts, aval: Any) -> _Part | None:
    """What one result of a plain operation has."""
    name = eqn.primitive.name
    dtype = getattr(aval, "dtype", np.bool_)
    before = _merged(parts) or _WHOLE
    if not jnp.issubdtype(dtype, np.inexact) or (name == "stop_gradient" and before.lost):
        return None
    if jnp.issubdtype(dtype, np.floating):
        return None if name in _JUMP else _real(name, parts, before)
    if name == "complex" and parts[1] and parts[1].imaginary:
        return _WHOLE
    conjugated = parts[0] and eqn.params.get("conjugate_a")
    if name in _TURN or name in _DROWN or conjugated:
        return _Part(before.lost or name)
    return _Part(before.lost)


def _real(name: str, parts: _Parts, before: _Part) -> _Part:
    """What a real result has."""
    imaginary = next((part for part in parts if part and part.imaginary), None)
    if imaginary is None:
        return _Part(before.lost or name, name == "imag")
    alone = all(part and part.imaginary for part in parts)
    return imaginary if alone or name not in _ADD else imaginary._replace(imaginary=False)
