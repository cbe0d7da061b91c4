"""Programs traced in float32 and run in float64: what becomes wider, and what stays as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import x64
from jax import lax
from jax.extend.core import jaxpr_as_fun

from jaxfd._jaxpr.widen import holds_float32, widened

X = np.array([0.3, 1.1, -0.7], np.float32)


def run(fun, *args):
    """The outputs of a widened function of float32 arrays, and the coarsest spacing inside."""
    with x64(False):
        closed = jax.make_jaxpr(fun)(*args)
    wide, eps = widened(closed)
    inputs = [
        np.asarray(a, np.promote_types(a.dtype, np.float64) if a.dtype.kind == "f" else a.dtype)
        for a in args
    ]
    return jaxpr_as_fun(wide)(*inputs, *closed.consts), eps


def scanned(x):
    def body(carry, row):
        total, key = carry
        key, own = jax.random.split(key)
        total = total * 0.5 + row + jax.random.uniform(own, dtype=np.float32)
        return (total, key), total

    (total, _), rows = lax.scan(body, (jnp.sum(x), jax.random.key(3)), x)
    return total + jnp.sum(rows**2)


def looped(x):
    state = (jnp.int32(0), x, jnp.float32(0.1))
    return lax.while_loop(
        lambda s: s[0] < 3, lambda s: (s[0] + 1, jnp.sin(s[1]) + s[2], s[2] * 2), state
    )[1]


PROGRAMS = {
    "elementwise": lambda x: jnp.exp(-x * x) + jnp.where(x > 0, x, jnp.expm1(x)),
    "scan": scanned,
    "while": looped,
    "switch": lambda x: lax.switch(
        jnp.argmax(x), [lambda x: x, lambda x: jnp.sin(x), lambda x: -x], x
    ),
    "solve": lambda x: jnp.linalg.solve(jnp.eye(3, dtype=x.dtype) * 2 + jnp.outer(x, x), x),
    "norm": lambda x: jnp.linalg.norm(jnp.outer(x, x) + jnp.eye(3, dtype=x.dtype), ord=2),
    "scatter": lambda x: x.at[0].add(x[1]).at[2].multiply(x[0]).at[1].max(x[0]),
    "sorted": lambda x: jnp.sort(x) * jnp.cumsum(x) + jnp.argmin(x).astype(x.dtype),
    "fft": lambda x: jnp.abs(jnp.fft.rfft(x)),
    "pool": lambda x: lax.reduce_window(x, -np.inf, lax.max, (2,), (1,), "VALID"),
    "rules": lambda x: jax.nn.relu(x) + jax.nn.logsumexp(x) + jax.nn.softmax(x),
    "inner": lambda x: jax.checkpoint(jax.jit(jnp.sin))(x),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_in_float64(name):
    (found,), eps = run(PROGRAMS[name], X)
    if name == "scan":  # the random numbers are those of float32, and no others
        with x64(False):
            np.testing.assert_allclose(found, PROGRAMS[name](X), rtol=1e-6)
    else:
        # The promotion of what a program closes over is not at stake here.
        with jax.numpy_dtype_promotion("standard"):
            np.testing.assert_allclose(
                found, PROGRAMS[name](jnp.asarray(X, np.float64)), rtol=1e-13
            )
    assert found.dtype == np.float64
    assert eps == np.finfo(np.float64).eps


def test_what_does_not_depend_on_the_input_stays():
    def fun(x):
        noise = jax.random.normal(jax.random.key(0), (3,), np.float32)
        return x * 0 + noise, noise

    (first, second), eps = run(fun, X)
    with x64(False):
        exact = np.asarray(fun(X)[1])
    np.testing.assert_array_equal(first, exact)
    np.testing.assert_array_equal(second, exact)
    assert eps == np.finfo(np.float64).eps


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_rounding_on_purpose_is_kept_and_told(dtype):
    (found,), eps = run(lambda x: x.astype(dtype).astype(np.float32), X)
    np.testing.assert_array_equal(found, jnp.asarray(X).astype(dtype).astype(np.float64))
    assert eps == float(jnp.finfo(dtype).eps)


def test_reduced_precision_is_kept_and_told():
    (found,), eps = run(lambda x: lax.reduce_precision(x, 8, 10), X)
    np.testing.assert_array_equal(found, lax.reduce_precision(X, 8, 10).astype(np.float64))
    assert eps == 2.0**-10


def test_bits_are_those_of_float32():
    (found,), eps = run(lambda x: lax.bitcast_convert_type(x, np.int32), X)
    np.testing.assert_array_equal(found, X.view(np.int32))
    (found,), eps = run(lambda x: lax.bitcast_convert_type(x.astype(np.int32) + 1, np.float32), X)
    assert found.dtype == np.float64
    assert eps == np.finfo(np.float32).eps


def test_foreign_operations_get_what_they_were_written_for():
    def host(x):
        assert x.dtype == np.float32
        return x + x

    out = jax.ShapeDtypeStruct((3,), np.float32)
    (found,), eps = run(lambda x: jax.pure_callback(host, out, x), X)
    np.testing.assert_array_equal(found, 2 * X.astype(np.float64))
    assert eps == np.finfo(np.float32).eps


def test_complex_numbers():
    (found,), _ = run(lambda x: jnp.abs(lax.complex(x, x) ** 2), X)
    np.testing.assert_allclose(found, 2 * X.astype(np.float64) ** 2, rtol=1e-14)


def test_what_would_become_wider():
    assert holds_float32(jax.make_jaxpr(lambda x: x)(X))
    assert holds_float32(jax.make_jaxpr(lambda x: jax.jit(lambda y: y.astype(np.float32))(x))(1.0))
    assert not holds_float32(jax.make_jaxpr(jnp.sin)(np.float64(1.0)))
