"""What every reader of traced programs does: goes through the operations, and looks into calls.

The one place that knows where JAX keeps the programs that an operation runs. It must not know what
is looked for, nor what stands for the values of a program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jax.extend.core import Literal

# Operations that run one program once on all of their operands, and the parameter that holds it.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "jaxfd_double": "program",
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
    return _opened(inner), getattr(inner, "consts", ())


def subprograms(eqn: Any) -> list[Any]:
    """The programs that an operation may run: what it calls, a loop's body, all branches."""
    found, waiting = [], list(eqn.params.values())
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, tuple | list):
            waiting.extend(value)
        elif hasattr(_opened(value), "eqns"):
            found.append(_opened(value))
    return found


def carried(eqn: Any) -> slice:
    """Which operands of a ``scan`` are carried from one turn to the next.

    Those before are the same in every turn, those behind have a row for each. Versions of JAX write
    it down in different ways; shapes tell it in all of them, since rows have one axis less.
    """
    body = _opened(eqn.params["jaxpr"])

    def whole(outside: Sequence[Any], inside: Sequence[Any]) -> int:
        pairs = zip(outside, inside, strict=True)
        return sum(len(a.aval.shape) == len(b.aval.shape) for a, b in pairs)

    stop = whole(eqn.invars, body.invars)
    return slice(stop - whole(eqn.outvars, body.outvars), stop)


def every_eqn(program: Any) -> list[Any]:
    """All operations of a program and of the programs inside of it.

    Args:
        program: a jaxpr, closed or not.

    Returns:
        Each operation as it is written: once, however often a loop or a call runs it.
    """
    found, waiting, seen = [], [_opened(program)], {}
    while waiting:
        jaxpr = waiting.pop()
        if id(jaxpr) not in seen:
            seen[id(jaxpr)] = jaxpr  # held, since a number is given anew to what comes later
            found += jaxpr.eqns
            for eqn in jaxpr.eqns:
                waiting += subprograms(eqn)
    return found


def every_constant(program: Any) -> Iterator[Any]:
    """The constants of a closed program and of the closed programs inside of it.

    Args:
        program: a closed jaxpr.
    """
    waiting = [program]
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, tuple | list):
            waiting[:0] = value
        elif hasattr(_opened(value), "eqns"):
            yield from getattr(value, "consts", ())
            waiting[:0] = [inner for eqn in _opened(value).eqns for inner in eqn.params.values()]


def primitives(program: Any) -> frozenset[str]:
    """The names of all operations in a program and in the programs inside of it."""
    return frozenset(eqn.primitive.name for eqn in every_eqn(program))


def _opened(program: Any) -> Any:
    """A program without its constants."""
    return getattr(program, "jaxpr", program)


def walk(
    jaxpr: Any,
    consts: Sequence[Any],
    inputs: Sequence[Any],
    apply: Callable[[Any, list[Any]], Sequence[Any]],
    constant: Callable[[Any], Any] = lambda value: value,
    enter: Callable[[Any, list[Any]], bool] = lambda eqn, operands: False,
) -> list[Any]:
    """Runs a program, operation by operation, on whatever stands for its values.

    Args:
        jaxpr: the program.
        consts: its constants.
        inputs: what stands for its arguments.
        apply: the results of an operation, given what stands for its operands.
        constant: what stands for a constant, or for a number that is written in the program.
        enter: whether a call, given its operands, is run as if its program were written out; the
            others are operations like any.

    Returns:
        What stands for its outputs.
    """
    variables = (*jaxpr.constvars, *jaxpr.invars)
    known = dict(zip(variables, (*map(constant, consts), *inputs), strict=True))

    def read(atom: Any) -> Any:
        return constant(atom.val) if isinstance(atom, Literal) else known[atom]

    for eqn in jaxpr.eqns:
        operands = [read(atom) for atom in eqn.invars]
        inner = called(eqn) if enter(eqn, operands) else None
        results = (
            apply(eqn, operands)
            if inner is None
            else walk(*inner, operands, apply, constant, enter)
        )
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def always(eqn: Any, operands: Sequence[Any]) -> bool:
    """For ``enter``: every call."""
    del eqn, operands
    return True
