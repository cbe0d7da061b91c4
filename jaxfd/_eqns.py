"""What the interpreters of programs share: running one operation, looking into calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Operations that call a program, and the parameter that holds it.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}


def evaluate(eqn: Any, operands: Sequence[Any]) -> list[Any]:
    """Runs one operation on plain values and returns its results."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    # Older versions of JAX hand the functions that an operation calls over one by one.
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    out = eqn.primitive.bind(*functions, *operands, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def called(eqn: Any) -> tuple[Any, Sequence[Any]] | None:
    """The program that an operation calls, with its constants; None where it is no call."""
    key = _CALLS.get(eqn.primitive.name)
    if key is None:
        return None
    inner = eqn.params[key]
    return getattr(inner, "jaxpr", inner), getattr(inner, "consts", ())
