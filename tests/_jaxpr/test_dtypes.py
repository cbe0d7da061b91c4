"""Dtypes that structured and factored evaluation must not lose: bools, narrow floats, complex."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd
from jaxfd._jaxpr.factored import Factored
from jaxfd._jaxpr.trace import trace

RNG = np.random.default_rng(0)
W = np.linspace(-1, 1, 80).reshape(8, 10)


def both(fun):
    """The gradient with changes followed, as far as they can be, and with whole points."""
    method = jaxfd.Central(step=0.3)
    return [np.asarray(jaxfd.grad(fun, method=method, chunk_size=c)(W)) for c in (None, 1)]


NARROW = [np.bool_, jnp.float8_e4m3fn, jnp.float8_e5m2, np.int8, np.uint8]


@pytest.mark.parametrize("dtype", NARROW, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize(
    "fun",
    [
        lambda w: jnp.dot(w, jnp.ones((10, 3), w.dtype)),
        lambda w: jnp.dot(jnp.ones((3, 8), w.dtype), w),
        lambda w: jnp.einsum("ij,ik->jk", w, w),
        lambda w: jnp.sum(w, axis=0, dtype=None if w.dtype == bool else w.dtype),
    ],
)
def test_followed_as_whole_points(fun, dtype):
    def total(w):
        cast = (w * 3).astype(dtype) if dtype != np.bool_ else w > 0.1
        return jnp.sum(fun(cast).astype(np.float64) ** 2)

    found, whole = both(total)
    np.testing.assert_allclose(found, whole, atol=1e-9)


COMPLEX = RNG.normal(size=(3, 6)) + 1j * RNG.normal(size=(3, 6))
PRODUCTS = {
    "from the left": lambda w: jnp.asarray(COMPLEX) @ w,
    "transposed": lambda w: w.T @ jnp.asarray(COMPLEX.T),
    "a vector": lambda w: jnp.asarray(COMPLEX[0]) @ w,
    "einsum": lambda w: jnp.einsum("bi,ij->jb", COMPLEX, w),
    "as complex": lambda w: w.astype(complex) @ jnp.ones((7, 2), complex),
    "integers": lambda w: jnp.ones((3, 6), int) @ w,
    "wider": lambda w: jax.lax.dot(
        jnp.full((3, 6), 6e4, np.float16), w.astype(np.float16), preferred_element_type=np.float32
    ),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_factored_products_keep_the_other_operand(case):
    base, left, right = (RNG.normal(size=s) for s in ((6, 7), (6, 2), (7, 2)))
    fun = PRODUCTS[case]
    with jax.numpy_dtype_promotion("standard"):
        traced = trace(lambda leaves: (fun(*leaves), None), [jnp.asarray(base)])
        matrix = Factored(*map(jnp.asarray, (base, left, right)))
        (found,), (dense,) = traced.call([matrix]), traced.call([matrix.dense()])
    assert found.dtype == dense.dtype
    np.testing.assert_allclose(found, dense, rtol=2e-3, atol=1e-9 if case != "wider" else 1e3)


def test_low_rank_with_a_complex_operand():
    x = jnp.asarray(COMPLEX)
    weights = jnp.arange(7.0)

    def fun(w):
        return jnp.sum(jnp.imag(x @ w.astype(x.dtype)) * weights) + jnp.sum(
            jnp.imag(jax.lax.dot(x, w, preferred_element_type=x.dtype)) * weights
        )

    w = jnp.asarray(RNG.normal(size=(6, 7)))
    exact = jax.grad(lambda w: 2 * jnp.sum(jnp.imag(x @ w.astype(x.dtype)) * weights))(w)
    method = jaxfd.LowRank(jax.random.key(0), 2000, 3, sigma=0.1)
    found = jaxfd.grad(fun, method=method)(w)
    assert jnp.linalg.norm(found - exact) < 0.25 * jnp.linalg.norm(exact)
