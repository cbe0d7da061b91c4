"""Threefry as one operation, compiled as one chain of arithmetic.

It exists because few random bits are no work, but take long to compile: JAX compiles every draw to
loops of several kernels, and of arithmetic the compiler makes one. Written out in a program it
would take long to trace instead; as an operation it is written out where it is compiled. It must
not know what becomes of the bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jaxtyping import Array, UInt32

from jaxfd._primitives.sharding import vary, varying

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA

threefry_p: Any = Primitive("jaxfd_threefry")
threefry_p.multiple_results = True


def threefry(
    key: tuple[UInt32[Array, "*s"], UInt32[Array, "*s"]],
    high: UInt32[Array, "*s"],
    low: UInt32[Array, "*s"],
) -> tuple[UInt32[Array, "*s"], UInt32[Array, "*s"]]:
    """Threefry-2x32 of 20 rounds: two random words for every pair of words.

    Args:
        key: the two words of the key.
        high: the first word of each pair.
        low: the second.

    Reference:
        J. Salmon, M. Moraes, R. Dror and D. Shaw, "Parallel random numbers: as easy as 1, 2, 3",
        SC11 (2011), doi:10.1145/2063384.2063405.
    """
    words = jnp.broadcast_arrays(*key, high, low)
    axes = frozenset().union(*map(varying, words))
    first, second = threefry_p.bind(*(vary(w, axes - varying(w)) for w in words))
    return first, second


def _rounds(first: Any, second: Any, high: Any, low: Any) -> list[Any]:
    """The rounds, in JAX's barest operations: others take three times as long to trace."""
    keys = (first, second, first ^ second ^ lax.full_like(low, _PARITY))
    left = {s: lax.full_like(low, s) for row in _ROTATIONS for s in row}
    right = {s: lax.full_like(low, 32 - s) for s in left}
    high, low = lax.add(high, first), lax.add(low, second)
    for k in range(5):
        for shift in _ROTATIONS[k % 2]:
            high = lax.add(high, low)
            low = lax.bitwise_or(
                lax.shift_left(low, left[shift]), lax.shift_right_logical(low, right[shift])
            )
            low = lax.bitwise_xor(high, low)
        high = lax.add(high, keys[(k + 1) % 3])
        low = lax.add(lax.add(low, keys[(k + 2) % 3]), lax.full_like(low, k + 1))
    return [high, low]


def _batch(words: Sequence[Any], axes: Sequence[Any]) -> tuple[list[Any], list[int]]:
    size = next(w.shape[a] for w, a in zip(words, axes, strict=True) if isinstance(a, int))
    moved = [
        jnp.moveaxis(w, a, 0) if isinstance(a, int) else jnp.broadcast_to(w, (size, *w.shape))
        for w, a in zip(words, axes, strict=True)
    ]
    return list(threefry((moved[0], moved[1]), moved[2], moved[3])), [0, 0]


threefry_p.def_impl(_rounds)
threefry_p.def_abstract_eval(lambda first, second, high, low: [low, low])
mlir.register_lowering(threefry_p, mlir.lower_fun(_rounds, multiple_results=True))
batching.primitive_batchers[threefry_p] = _batch
