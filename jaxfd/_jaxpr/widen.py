"""Programs widened: what JAX computes in float32, computed in float64.

It exists for black boxes in JAX programs that know no float64: what a box returns has more digits
than the program carries on, and a difference needs them. A program is walked operation by operation
and every float32 that depends on what is moved becomes a float64, in loops and branches too; what
the user rounds on purpose (to float16, to integers, by ``reduce_precision``) is rounded as before.
What does not depend on it stays as it was, so that random numbers are the same.

This room must not know what is moved, nor why. It runs where ``jax.enable_x64`` is on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Primitive, primitives as _of_jax

from jaxfd._jaxpr.dependence import depends, settled
from jaxfd._jaxpr.walk import (
    called,
    carried,
    evaluate,
    every_eqn,
    primitives,
    subprograms,
    walk,
)
from jaxfd._primitives import host_call_p

_WIDE = {
    np.dtype(np.float32): np.dtype(np.float64),
    np.dtype(np.complex64): np.dtype(np.complex128),
}


class Value(NamedTuple):
    """What stands for a value of the program.

    Attributes:
        array: the value, in its own dtype or in the wider one.
        moved: whether it depends on what is moved.
    """

    array: Any
    moved: bool


def wide_dtype(dtype: Any) -> Any:
    """The dtype that takes the place of another."""
    return _WIDE.get(dtype, dtype)


def widened(closed: Any) -> tuple[Any, float]:
    """Widens a program whose inputs are what is moved.

    Args:
        closed: the program.

    Returns:
        A program of ``(*inputs, *consts)`` without constants that must be known, its inputs and
        outputs wide; and the relative spacing of the coarsest number inside that depends on the
        inputs.
    """
    work = _Widening()
    count = len(closed.jaxpr.invars)

    def run(*arrays: Any) -> list[Any]:
        inputs = [Value(a, True) for a in arrays[:count]]
        program = ClosedJaxpr(closed.jaxpr, list(arrays[count:]))
        return work.outputs(program, inputs)

    inputs = [jax.ShapeDtypeStruct(a.shape, wide_dtype(a.dtype)) for a in closed.in_avals]
    return jax.make_jaxpr(run)(*inputs, *closed.consts), work.eps


def holds_float32(closed: Any) -> bool:
    """Whether there is anything in a program that would become wider."""
    atoms = (v for eqn in every_eqn(closed) for v in (*eqn.invars, *eqn.outvars))
    return any(_dtype(v) in _WIDE for v in (*closed.jaxpr.invars, *atoms))


def _dtype(atom: Any) -> Any:
    return getattr(atom.aval, "dtype", None)


def cast(array: Any, dtype: Any) -> Any:
    """The same numbers in a dtype."""
    return array if array.dtype == dtype else lax.convert_element_type(array, dtype)


def _constant(value: Any) -> Value:
    # Numbers written in a program are no arrays, but know their dtype.
    plain = hasattr(value, "dtype") and not isinstance(value, jax.Array)
    return Value(np.asarray(value, value.dtype) if plain else value, False)


def _is_wide(value: Value, atom: Any) -> bool:
    return bool(_dtype(atom) in _WIDE and value.array.dtype != _dtype(atom))


@functools.cache
def _own() -> frozenset[Any]:
    """JAX's own operations: those compute in the dtype of their operands."""
    rooms = (_of_jax, lax, lax.linalg)
    return frozenset(p for room in rooms for p in vars(room).values() if isinstance(p, Primitive))


class _Widening:
    """One program on its way.

    Attributes:
        eps: the relative spacing of the coarsest number so far that depends on what is moved.
    """

    def __init__(self) -> None:
        self.eps = 0.0

    def outputs(self, closed: Any, inputs: Sequence[Value]) -> list[Any]:
        """The outputs of a program as arrays, wide."""
        values = walk(closed.jaxpr, closed.consts, inputs, self._apply, _constant, self._enter)
        atoms = closed.jaxpr.outvars
        return [
            cast(v.array, wide_dtype(_dtype(atom))) for v, atom in zip(values, atoms, strict=True)
        ]

    def _touched(self, eqn: Any, operands: Sequence[Value]) -> bool:
        """Whether an operation has anything to do with what is moved, or with a host call."""
        return (
            any(v.moved or _is_wide(v, a) for v, a in zip(operands, eqn.invars, strict=True))
            or eqn.primitive is host_call_p
            or any(host_call_p.name in primitives(p) for p in subprograms(eqn))
        )

    def _enter(self, eqn: Any, operands: Sequence[Value]) -> bool:
        return called(eqn) is not None and self._touched(eqn, operands)

    def _apply(self, eqn: Any, operands: Sequence[Value]) -> list[Value]:
        arrays = [v.array for v in operands]
        if not self._touched(eqn, operands):
            return [Value(a, False) for a in evaluate(eqn, arrays)]
        rule = _RULES.get(eqn.primitive.name)
        if rule is not None:
            return rule(self, eqn, operands)
        known = eqn.primitive in _own() and not eqn.primitive.name.startswith(_OF_BITS)
        return (self._widely if known else self._as_it_is)(eqn, operands)

    def _widely(self, eqn: Any, operands: Sequence[Value]) -> list[Value]:
        """Binds an operation to wide operands."""
        params = {key: self._param(value) for key, value in eqn.params.items()}
        return self._done(
            evaluate(eqn.replace(params=params), _wide_arrays(eqn, operands)), operands
        )

    def _as_it_is(self, eqn: Any, operands: Sequence[Value]) -> list[Value]:
        """Runs an operation on operands of the dtypes that it was written for."""
        arrays = [
            cast(v.array, _dtype(a)) if _is_wide(v, a) else v.array
            for v, a in zip(operands, eqn.invars, strict=True)
        ]
        return self._done(evaluate(eqn, arrays), operands)

    def _done(self, arrays: Sequence[Any], operands: Sequence[Value]) -> list[Value]:
        moved = any(v.moved for v in operands)
        if moved:
            inexact = [a.dtype for a in arrays if jnp.issubdtype(a.dtype, np.inexact)]
            self.eps = max(self.eps, *(float(jnp.finfo(d).eps) for d in inexact), 0.0)
        return [Value(a, moved) for a in arrays]

    def _param(self, value: Any) -> Any:
        """A parameter as a wide operation has it: dtypes and programs are widened."""
        if isinstance(value, tuple):
            return value if hasattr(value, "_fields") else tuple(map(self._param, value))
        if isinstance(value, np.dtype):
            return wide_dtype(value)
        jaxpr = getattr(value, "jaxpr", value)
        if not hasattr(jaxpr, "eqns"):
            return value
        closed = value if jaxpr is not value else ClosedJaxpr(jaxpr, ())
        inputs = [jax.ShapeDtypeStruct(a.shape, wide_dtype(a.dtype)) for a in closed.in_avals]
        wide = jax.make_jaxpr(lambda *a: self.outputs(closed, [Value(x, True) for x in a]))(*inputs)
        return wide.jaxpr if jaxpr is value else wide

    def host_call(self, eqn: Any, operands: Sequence[Value]) -> list[Value]:
        """A host function takes float64 and returns it."""
        out = tuple((shape, wide_dtype(dtype)) for shape, dtype in eqn.params["out"])
        eqn = eqn.replace(params={**eqn.params, "out": out})
        return self._done(evaluate(eqn, _wide_arrays(eqn, operands)), operands)

    def convert(self, eqn: Any, operands: Sequence[Value]) -> list[Value]:
        """A conversion from float64 rounds on purpose."""
        rounds = _dtype(eqn.invars[0]) in _WIDE.values()
        return (self._as_it_is if rounds else self._widely)(eqn, operands)

    def round(self, eqn: Any, operands: Sequence[Value]) -> list[Value]:
        """``reduce_precision``: the digits that are left are few, whatever the dtype."""
        if any(v.moved for v in operands):
            self.eps = max(self.eps, 2.0 ** -eqn.params["mantissa_bits"])
        return self._widely(eqn, operands)

    def solve(self, eqn: Any, operands: Sequence[Value]) -> list[Value]:
        """A linear solve, as if its program were written out."""
        lengths = tuple(eqn.params["const_lengths"])
        solver = eqn.params["jaxprs"].solve
        first, last = sum(lengths[:2]), sum(lengths[:3])
        inputs = [*operands[first:last], *operands[sum(lengths) :]]
        return walk(solver.jaxpr, solver.consts, inputs, self._apply, _constant, self._enter)

    def scan(self, eqn: Any, operands: Sequence[Value]) -> list[Value]:
        """A loop over arrays."""
        params, turns = eqn.params, carried(eqn)
        body, first, stop = params["jaxpr"], turns.start, turns.stop
        flags = [v.moved for v in operands]
        flags[first:stop], ends = settled(body, flags, turns)
        arrays = _wide_arrays(eqn, operands)

        def step(carry: list[Any], row: list[Any]) -> tuple[list[Any], list[Any]]:
            values = map(Value, (*arrays[:first], *carry, *row), flags)
            results = self.outputs(body, list(values))
            return results[: stop - first], results[stop - first :]

        carry, rows = lax.scan(
            step,
            arrays[first:stop],
            arrays[stop:],
            length=params["length"],
            reverse=params["reverse"],
            unroll=params["unroll"],
        )
        return list(map(Value, (*carry, *rows), (*flags[first:stop], *ends[stop - first :])))

    def loop(self, eqn: Any, operands: Sequence[Value]) -> list[Value]:
        """A loop with a condition."""
        going, body = eqn.params["cond_jaxpr"], eqn.params["body_jaxpr"]
        first = eqn.params["cond_nconsts"]
        stop = first + eqn.params["body_nconsts"]
        flags = [v.moved for v in operands]
        kept, _ = settled(body, flags[first:], slice(stop - first, None))
        if any(depends(going, [*flags[:first], *kept])):
            kept = [True] * len(kept)  # how often it runs depends on what is moved
        arrays = _wide_arrays(eqn, operands)

        def condition(state: Iterable[Any]) -> Any:
            values = map(Value, (*arrays[:first], *state), (*flags[:first], *kept))
            return self.outputs(going, list(values))[0]

        def step(state: Iterable[Any]) -> list[Any]:
            values = map(Value, (*arrays[first:stop], *state), (*flags[first:stop], *kept))
            return self.outputs(body, list(values))

        return list(map(Value, lax.while_loop(condition, step, arrays[stop:]), kept))

    def branch(self, eqn: Any, operands: Sequence[Value]) -> list[Value]:
        """One program of several."""
        index, *rest = _wide_arrays(eqn, operands)
        flags = [v.moved for v in operands[1:]]

        def written(program: Any) -> Callable[..., list[Any]]:
            return lambda *arrays: self.outputs(program, list(map(Value, arrays, flags)))

        results = lax.switch(index, [written(p) for p in eqn.params["branches"]], *rest)
        return [Value(r, any(v.moved for v in operands)) for r in results]


def _wide_arrays(eqn: Any, operands: Sequence[Value]) -> list[Any]:
    return [
        cast(v.array, _WIDE[_dtype(a)]) if _dtype(a) in _WIDE else v.array
        for v, a in zip(operands, eqn.invars, strict=True)
    ]


# What makes numbers of bits, and bits of numbers, does another thing with other bits.
_OF_BITS = ("bitcast_convert_type", "random_", "rng_", "nextafter")
_RULES: dict[str, Callable[[_Widening, Any, Sequence[Value]], list[Value]]] = {
    host_call_p.name: _Widening.host_call,
    "convert_element_type": _Widening.convert,
    "reduce_precision": _Widening.round,
    "custom_linear_solve": _Widening.solve,
    "scan": _Widening.scan,
    "while": _Widening.loop,
    "cond": _Widening.branch,
}
