"""What the interpreters of programs share: the walk, running one operation, looking into calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import Literal

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


def walk(
    jaxpr: Any,
    consts: Sequence[Any],
    inputs: Sequence[Any],
    apply: Callable[[Any, list[Any]], Sequence[Any]],
    literal: Callable[[Any], Any] = lambda value: value,
) -> list[Any]:
    """Runs a program, operation by operation, on whatever stands for its values.

    Args:
        jaxpr: the program.
        consts: what stands for its constants.
        inputs: what stands for its arguments.
        apply: the results of an operation, given what stands for its operands.
        literal: what stands for a number that is written in the program.

    Returns:
        What stands for its outputs.
    """
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))

    def read(atom: Any) -> Any:
        return literal(atom.val) if isinstance(atom, Literal) else known[atom]

    for eqn in jaxpr.eqns:
        results = apply(eqn, [read(atom) for atom in eqn.invars])
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def primitives(jaxpr: Any) -> set[str]:
    """TEMPORARY until h1 is merged."""
    found = set()
    for eqn in jaxpr.eqns:
        found.add(eqn.primitive.name)
        for value in eqn.params.values():
            for v in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(v, "jaxpr", v)
                if hasattr(inner, "eqns"):
                    found |= primitives(inner)
    return found
