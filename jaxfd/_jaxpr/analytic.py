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

from jaxfd._jaxpr.flow import Flow

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
        remade: whether it was put back somewhere on the way.
    """

    lost: str = ""
    imaginary: bool = False
    remade: bool = False


_WHOLE = _Part()

# One for each value; None for one that the arguments do not move, or only in jumps.
_Parts = list[_Part | None]


class Imaginary(NamedTuple):
    """What the outputs of a program have of the imaginary part of its arguments.

    Attributes:
        lost: the operation in which some output loses it; None where all keep it.
        remade: whether some output was put together again of its parts. What became of the real
            one meanwhile, nobody looked at.
    """

    lost: str | None = None
    remade: bool = False


def imaginary_in(closed: Any, count: int) -> Imaginary:
    """What becomes of the imaginary part of a program's complex arguments.

    Args:
        closed: the jaxpr.
        count: how many outputs are looked at, from the first.
    """
    found = _Reader().follow(closed.jaxpr, [_WHOLE] * len(closed.jaxpr.invars))
    parts = [part for part in found[:count] if part]
    lost = next((part.lost for part in parts if part.lost), None)
    return Imaginary(lost, any(part.remade for part in parts))


class _Reader(Flow[_Part | None]):
    """The reader that knows what became of imaginary parts."""

    nothing = None

    def merged(self, facts: Sequence[_Part | None]) -> _Part | None:
        moved = [part for part in facts if part is not None]
        if not moved:
            return None
        first = next((part for part in moved if part.lost), moved[0])
        return first._replace(remade=any(part.remade for part in moved))

    def returned(self, name: str | None, facts: Sequence[_Part | None], found: _Parts) -> _Parts:
        """What a call returns: what it lost itself, with its name."""
        if name in _WHOLE_AGAIN:
            return [self.merged(facts)] * len(found)
        return [
            part._replace(lost=f"{part.lost} (in {name})")
            if part and part.lost and "(" not in part.lost and part not in facts and name
            else part
            for part in found
        ]

    def after(self, eqn: Any, facts: Sequence[_Part | None]) -> _Parts:
        if eqn.primitive.name in _PASS:
            return list(facts)
        before = self.merged(facts) or _WHOLE
        found = [_result(eqn, facts, before, var.aval) for var in eqn.outvars]
        return [f and f._replace(remade=f.remade or before.remade) for f in found]


def _result(eqn: Any, parts: Sequence[_Part | None], before: _Part, aval: Any) -> _Part | None:
    """What one result of a plain operation has."""
    name = eqn.primitive.name
    dtype = getattr(aval, "dtype", np.bool_)
    if not jnp.issubdtype(dtype, np.inexact) or (name == "stop_gradient" and before.lost):
        return None
    if jnp.issubdtype(dtype, np.floating):
        return None if name in _JUMP else _real(name, parts, before)
    if name == "complex" and parts[1] and parts[1].imaginary:
        return _Part(remade=True)
    conjugated = parts[0] and eqn.params.get("conjugate_a")
    if name in _TURN or name in _DROWN or conjugated:
        return _Part(before.lost or name)
    return _Part(before.lost)


def _real(name: str, parts: Sequence[_Part | None], before: _Part) -> _Part:
    """What a real result has."""
    imaginary = next((part for part in parts if part and part.imaginary), None)
    if imaginary is None:
        return _Part(before.lost or name, name == "imag")
    alone = all(part and part.imaginary for part in parts)
    return imaginary if alone or name not in _ADD else imaginary._replace(imaginary=False)
