"""Programs of arrays of their own, so that they can be kept.

JAX keeps what it made of a NumPy array for as long as anything holds that, and hands it out again
whatever precision it computes in by then. A program that is kept would hold it, and the array that
a function reads would be single precision for ever, or a double that no other program takes. This
room must not know what programs are kept for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr


def detached(program: Any) -> Any:
    """The same program; NumPy arrays in it are views that nobody else has.

    Args:
        program: a closed jaxpr.
    """
    jaxpr = _jaxpr(program.jaxpr)
    consts = [_own(const) for const in program.consts]
    same = all(new is old for new, old in zip(consts, program.consts, strict=True))
    return program if same and jaxpr is program.jaxpr else ClosedJaxpr(jaxpr, consts)


def _own(const: Any) -> Any:
    return const.view(np.ndarray) if isinstance(const, np.ndarray) else const


def _jaxpr(jaxpr: Any) -> Any:
    """The same jaxpr, or one whose operations run detached programs."""
    eqns = [_eqn(eqn) for eqn in jaxpr.eqns]
    same = all(new is old for new, old in zip(eqns, jaxpr.eqns, strict=True))
    return jaxpr if same else jaxpr.replace(eqns=eqns)


def _eqn(eqn: Any) -> Any:
    changed = {}
    for key, value in eqn.params.items():
        new = _parameter(value)
        if new is not value:
            changed[key] = new
    return eqn.replace(params={**eqn.params, **changed}) if changed else eqn


def _parameter(value: Any) -> Any:
    if isinstance(value, tuple):
        parts = tuple(map(_parameter, value))
        return parts if any(a is not b for a, b in zip(parts, value, strict=True)) else value
    if isinstance(value, ClosedJaxpr):
        return detached(value)
    return _jaxpr(value) if hasattr(value, "eqns") else value
