"""Tables that programs look up by their arguments."""

import jax
import jax.numpy as jnp
import pytest

from jaxfd._jaxpr import longest_table

TABLE = jnp.sin(jnp.linspace(0.0, 3.0, 40))
NODES = jnp.linspace(0.0, 3.0, 40)


def looped(x):
    return jax.lax.fori_loop(0, 3, lambda i, y: y + TABLE[(10 * y).astype(int)], x)


@pytest.mark.parametrize(
    ("fun", "length"),
    [
        (lambda x: jnp.interp(x, NODES, TABLE), 40),
        (lambda x: TABLE[(10 * x).astype(int)], 40),
        (lambda x: jnp.take(TABLE, jnp.searchsorted(NODES, x)), 40),
        (jax.jit(looped), 40),
        (lambda x: jax.lax.cond(x > 1, looped, lambda y: 2 * y, x), 40),
        (lambda x: x - jnp.floor(x), 1000),
        (lambda x: jnp.sin(x) + TABLE[3], 0),
        (lambda x: jnp.sum(TABLE * x), 0),
        (lambda x: jnp.where(x > 1, x, TABLE[0]), 0),
        (lambda x: jax.lax.fori_loop(0, 40, lambda i, y: y + TABLE[i], x), 0),
        (lambda x: 1.0, 0),
    ],
)
def test_length(fun, length):
    assert longest_table(jax.make_jaxpr(fun)(jnp.asarray(0.7, TABLE.dtype))) == length
