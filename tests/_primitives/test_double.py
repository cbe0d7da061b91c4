"""Parts of programs in float64 where JAX has none, and numbers of 64 bits from the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import x64
from jax import lax

from jaxfd._primitives import double_call, host_call

X = np.array([0.3, 1.1, -0.7], np.float32)


@pytest.fixture(autouse=True)
def _float32():
    with x64(False):
        yield


def difference(x):
    """A difference that float32 would drown; with operations that are compiled in parts."""

    def part():
        y = lax.convert_element_type(x, np.float64)
        h = 1e-7
        far = (1e6 + jnp.sin(y + h)) - (1e6 + jnp.sin(y - h))
        scale = 1.0 + jnp.argmin(jnp.abs(y)).astype(np.float64)
        return (scale * far / (2 * h)).astype(np.float32), jnp.sum(x)

    return double_call(part)


def test_value():
    for way in (lambda f: f, jax.jit):
        found, total = way(difference)(X)
        np.testing.assert_allclose(found, np.cos(X), rtol=2e-3)
        np.testing.assert_allclose(total, X.sum(), rtol=1e-6)


def test_under_vmap():
    batch = jnp.stack([X, X * 2])
    for way in (lambda f: f, jax.jit):
        found, _ = way(jax.vmap(difference))(batch)
        np.testing.assert_allclose(found, np.cos(batch), rtol=2e-3)
    nested, _ = jax.jit(jax.vmap(jax.vmap(difference)))(batch[None])
    np.testing.assert_array_equal(nested[0], found)


def curve(x):
    return double_call(
        lambda: (jnp.sin(lax.convert_element_type(x, np.float64)) ** 2).astype(np.float32)
    )


@pytest.mark.parametrize("way", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_derivatives(way):
    exact = np.sin(2 * X)
    np.testing.assert_allclose(way(jax.grad(lambda x: jnp.sum(curve(x))))(X), exact, rtol=1e-6)
    _, slope = way(lambda x: jax.jvp(curve, (x,), (x,)))(X)
    np.testing.assert_allclose(slope, exact * X, rtol=1e-6)
    rows = way(jax.vmap(jax.grad(lambda x: jnp.sum(curve(x)))))(jnp.stack([X, X]))
    np.testing.assert_allclose(rows, np.stack([exact, exact]), rtol=1e-6)


def test_second_derivatives():
    found = jax.hessian(lambda x: jnp.sum(curve(x)))(X)
    np.testing.assert_allclose(found, np.diag(2 * np.cos(2 * X)), rtol=1e-6, atol=1e-6)
    with pytest.raises(TypeError, match=r"estimate the outer derivative too, with jaxfd\.grad"):
        jax.jvp(lambda x: jax.jvp(curve, (x,), (X,))[1], (X,), (X,))


@pytest.mark.parametrize("dtype", [np.float64, np.complex128, np.int64, np.float32])
def test_numbers_come_from_the_host_in_every_bit(dtype):
    numbers = (np.arange(6).reshape(2, 3) * (1 + 2.0**-40) + 2.0**33).astype(dtype)
    if dtype == np.complex128:
        numbers = numbers + 1j * numbers[::-1]

    def host(arrays, batched, size):
        return [numbers if size is None else np.stack([numbers] * size)]

    def fun(x):
        def part():
            (found,) = host_call(host, [jax.ShapeDtypeStruct((2, 3), dtype)], [x])
            same = found == lax.full((2, 3), 0, dtype) + jnp.asarray(numbers, dtype)
            return jnp.all(same)

        return double_call(part)

    assert fun(X)
    assert jax.jit(fun)(X)
    assert jax.jit(jax.vmap(fun))(X).all()


def test_one_answer_for_all_calls_of_a_batch():
    class Counter:
        of_all = True
        calls = 0

        def __call__(self, arrays, batched, size):
            self.calls += 1
            return [np.asarray(True)]

    counter = Counter()
    found = jax.jit(
        jax.vmap(lambda x: host_call(counter, [jax.ShapeDtypeStruct((), np.bool_)], [x])[0] & True)
    )(X)
    assert found.shape == (3,)
    assert counter.calls == 1
