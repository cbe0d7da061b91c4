"""NumPy arrays that a function reads, in programs of two precisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import x64

import jaxfd
from jaxfd.optim import least_squares


@pytest.fixture(autouse=True)
def _single():
    with x64(False), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def t():
    """Numbers that single precision does not hold."""
    return np.linspace(1000.0, 1001.0, 20)


def plain(t):
    return lambda p: p[0] * jnp.sin(p[1] * t)


def jitted(t):
    return jax.jit(plain(t))


def through_jitted(t):
    inner = jax.jit(jax.jit(lambda a, b: a * jnp.sin(b * t)))
    return lambda p: inner(p[0], p[1])


def branching(t):
    return lambda p: jax.lax.cond(p[0] > 0, plain(t), lambda p: 0 * t + p[0] * 0, p)


def remembered(t):
    return jax.checkpoint(plain(t))


kinds = pytest.mark.parametrize("kind", [plain, jitted, through_jitted, branching, remembered])


@kinds
def test_a_fit_leaves_the_arrays_to_others(kind, t):
    """JAX took them in double precision from then on, and its own programs refused them."""
    residuals = kind(t)
    fit = least_squares(residuals, np.array([1.9, 5.0001]), data=np.sin(5 * t))
    assert fit.num_evaluations > 2
    assert jnp.sin(t).dtype == jnp.float32
    assert np.isfinite(jax.grad(lambda x: jnp.sum(x * t))(1.0))
    assert residuals(jnp.ones(2)).dtype == jnp.float32


@kinds
def test_a_fit_sees_all_their_digits(kind, t):
    """Even if JAX, or an estimate, has seen them in single precision before."""
    residuals = kind(t)
    residuals(jnp.ones(2))
    jaxfd.grad(lambda p: jnp.sum(residuals(p)))(jnp.ones(2))
    fit = least_squares(residuals, np.array([1.9, 5.0001]), data=2 * np.sin(5 * t))
    assert fit.cost < 1e-12  # 1e-7 where the arrays are rounded
    np.testing.assert_allclose(fit.x, [2.0, 5.0], rtol=1e-8)
