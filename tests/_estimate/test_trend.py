"""Bars of fixed methods for the slope of a trend whose values lie on teeth."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import name

import jaxfd

METHODS = [jaxfd.Central(), jaxfd.Central(order=4), jaxfd.Forward(order=2)]
EACH = pytest.mark.parametrize("method", METHODS, ids=name)
SHAPES = {
    "saws": lambda u: u % 1,
    "falling saws": lambda u: -(u % 1),
    "bows": lambda u: (u % 1) ** 2,
}
POINTS = np.linspace(0.7, 1.9, 60)


@functools.cache
def _teeth(shape, method):
    """Estimates of a sum of sines on teeth, at every row of points, compiled once."""

    def fun(x, height, width):
        return jnp.sum(jnp.sin(x) + height * SHAPES[shape](x / width + 0.3))

    return jax.jit(jax.vmap(jaxfd.estimate(fun, method=method), in_axes=(0, None, None)))


def _held(found, x):
    error = np.abs(np.asarray(found.grad) - np.cos(x))
    return error <= np.asarray(found.error)


@EACH
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("width", [1e-3, 1e-2, 0.05])
@pytest.mark.parametrize("height", [1e-5, 1e-3])
def test_bars_hold_for_the_trend(height, width, shape, method):
    x = POINTS[:, None]
    found = _teeth(shape, method)(x, height, width)
    assert np.mean(_held(found, x)) >= 0.9
    assert np.median(found.error) < 10 * height / width + 0.1


@EACH
def test_a_smooth_function_keeps_its_bars(method):
    found = _teeth("saws", method)(POINTS[:, None], 0.0, 1.0)
    assert np.max(found.error) < 1e-9


@EACH
def test_teeth_along_several_entries(method):
    rng = np.random.default_rng(0)
    x = rng.uniform(0.7, 1.9, (40, 3))
    found = _teeth("saws", method)(x, 1e-4, 1e-2)
    assert np.mean(_held(found, x)) >= 0.9


@EACH
def test_teeth_of_a_box(method):
    box = jaxfd.blackbox(
        lambda x: np.sin(x) + 1e-4 * (x / 1e-2 % 1), jax.ShapeDtypeStruct((), "f8")
    )
    estimate = jaxfd.estimate(box, method=method)
    for x in (0.803, 1.236, 1.704):
        found = estimate(x)
        assert abs(found.grad - np.cos(x)) <= found.error < 0.1


@EACH
def test_teeth_in_single_precision(method):
    x = POINTS[:, None].astype("f4")
    found = _teeth("saws", method)(x, np.float32(1e-2), np.float32(0.1))
    assert np.mean(_held(found, x)) >= 0.9


@functools.cache
def _between_walls():
    method = jaxfd.Central(order=4)
    return jax.jit(lambda x, w: jaxfd.estimate(jnp.sin, method=method, bounds=(x - w, x + w))(x))


def test_walls_do_not_bring_the_nearest_points_within_the_stencil():
    found = _between_walls()(1.25, 0.1)
    assert abs(found.grad - np.cos(1.25)) <= found.error < 1e-11
