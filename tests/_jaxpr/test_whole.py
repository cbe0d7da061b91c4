"""How large integers may be for a traced program to compute as Python does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import x64

from jaxfd._jaxpr import largest_whole


def float_of(integers):
    return jnp.sum(integers.astype(jnp.float32))


CASES = {
    "x * i": (lambda x, i: x * i, 2**31),
    "x + i": (lambda x, i: x + i, 2**31),
    "x * (i + 1)": (lambda x, i: x * (i + 1), 2**28),
    "x * (i * i)": (lambda x, i: x * (i * i), 2**12),
    "x * (i % 7)": (lambda x, i: x * (i % 7), 2**31),
    "x * (i // 7 * 6)": (lambda x, i: x * (i // 7 * 6), 2**28),
    "x * i ** 2": (lambda x, i: x * i**2, 2**12),
    "x * 2 ** i": (lambda x, i: x * (2**i).astype(jnp.float32), 0),
    "x * 2.0 ** i": (lambda x, i: x * 2.0**i, 2**31),
    "x * (1 << i)": (lambda x, i: x * (1 << i), 0),
    "x ** i": (lambda x, i: x**i, 2**31),
    "jit inside": (lambda x, i: x * jax.jit(lambda i: i * i)(i), 2**12),
    "array of integers": (lambda x, i: x * float_of(jnp.arange(3) * i), 2**31),
    "NumPy's integers": (lambda x, i: x * float_of(np.array([1, 10**5], np.int32) * i), 2**12),
    "key": (lambda x, i: x * jax.random.normal(jax.random.key(i)), 2**31),
}


@pytest.mark.parametrize("name", CASES)
def test_largest(name):
    fun, wanted = CASES[name]
    with x64(False):
        closed = jax.make_jaxpr(fun)(jnp.float32(1), 3)
        assert largest_whole(closed, lambda constant: False, [False, True]) == wanted
