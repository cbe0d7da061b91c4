"""Bars of fixed methods on smooth functions that change within the reach of the farther points."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import name

import jaxfd

METHODS = [jaxfd.Central(), jaxfd.Central(order=4), jaxfd.Forward(order=2)]
EACH = pytest.mark.parametrize("method", METHODS, ids=name)
SMOOTH = {
    "fast decay": (lambda x: jnp.exp(-100 * x), np.linspace(0.1, 1, 24)),
    "fast waves": (lambda x: jnp.sin(100 * x), np.linspace(0.2, 4, 24)),
    "root beside its end": (lambda x: jnp.sqrt(x - 1), np.linspace(1.06, 1.5, 24)),
    "logarithm beside its end": (lambda x: jnp.log(x - 1), np.linspace(1.06, 1.5, 24)),
    "step of a sigmoid": (lambda x: jnp.tanh(100 * (x - 1)), np.linspace(0.98, 1.02, 24)),
    "square, small x": (lambda x: x * x, np.linspace(1e-3, 0.05, 24)),
    "root, small x": (jnp.sqrt, np.linspace(0.02, 0.05, 24)),
}


@EACH
@pytest.mark.parametrize("case", SMOOTH)
def test_no_contradiction_where_the_function_bends(case, method):
    fun, points = SMOOTH[case]
    found = jax.jit(jax.vmap(jaxfd.estimate(fun, method=method)))(points)
    slope = np.asarray(jax.vmap(jax.grad(fun))(points))
    error = np.abs(np.asarray(found.grad) - slope)
    assert np.mean(error <= np.asarray(found.error)) >= 0.95
    least = 1e-10 * np.abs(slope) + 1e-13
    assert np.median(np.asarray(found.error) / np.maximum(error, least)) < 300


@EACH
@pytest.mark.parametrize("x", [1e-5, 1e-4, 1e-3, 0.03])
def test_no_warning_where_rays_have_little_room(x, method):
    box = jaxfd.blackbox(np.square, jax.ShapeDtypeStruct((), "f8"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = jaxfd.estimate(box, method=method)(x)
    assert abs(found.grad - 2 * x) <= found.error < 1e-3
