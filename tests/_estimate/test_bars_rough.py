"""Bars where one entry is rougher than the others, where values are huge or tiny, and empty."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import Chosen, name

import jaxfd

METHODS = [jaxfd.Central(), jaxfd.Central(order=4), jaxfd.Forward(order=2)]
OUTER = pytest.mark.parametrize("outer", [lambda f: f, jax.jit], ids=["eager", "jit"])
EACH = pytest.mark.parametrize("method", METHODS, ids=name)


def _noisy(v):
    return np.sin(v) + 1e-6 * ((1e12 * v * v) % 2 - 1)


ROUGH = {
    "decimals": lambda v: np.round(np.sin(v), 4),
    "finer decimals": lambda v: np.round(np.sin(v), 6),
    "no round grid": lambda v: 0.37e-4 * np.round(np.sin(v) / 0.37e-4),
    "noise": _noisy,
    "single precision": lambda v: np.float64(np.sin(np.float32(v))),
}


rough_box = Chosen(
    lambda rough: jaxfd.blackbox(
        lambda p: np.sum(np.sin(p[1:])) + rough(p[0]), jax.ShapeDtypeStruct((), "f8")
    )
)


@EACH
@pytest.mark.parametrize("count", [2, 30, 300])
@pytest.mark.parametrize("kind", ROUGH)
def test_one_rough_entry_raises_its_own_bar(kind, count, method):
    estimate = jaxfd.estimate(rough_box(ROUGH[kind]), method=method)
    held, bars = [], []
    for first in np.linspace(1.0, 1.9, 10):
        x = np.linspace(1.0, 2.0, count)
        x[0] = first
        found = estimate(x)
        slope, bar = np.asarray(found.grad)[0], np.asarray(found.error)[0]
        held.append(abs(slope - np.cos(first)) <= bar)
        bars.append(bar)
    # A few points show a step of the stair, or its noise, by less than it is.
    assert np.mean(held) >= 0.7
    assert np.all(np.isfinite(bars))


@OUTER
@EACH
def test_values_of_one_entry_that_fall_on_a_line(method, outer):
    def fun(p):
        return jnp.sum(jnp.sin(p[1:])) + jnp.round(1e4 * jnp.sin(p[0])) / 1e4

    found = outer(jaxfd.estimate(fun, method=method))(jnp.linspace(1.0, 2.0, 30))
    assert abs(found.grad[0] - np.cos(1.0)) <= found.error[0] < 1


@EACH
def test_smooth_entries_keep_narrow_bars(method):
    x = jnp.linspace(1.0, 2.0, 30)
    rates = jnp.linspace(1.0, 3.0, 30)
    for fun in (
        lambda p: jnp.sum(jnp.sin(rates * p)),
        lambda p: jnp.sum(rates * p),
        lambda p: jnp.log(jnp.sum(jnp.exp(rates * p))),
        lambda p: jnp.sin(p[0]) + 1e-6 * jnp.sum(p[1:]),
    ):
        found = jaxfd.estimate(fun, method=method)(x)
        assert np.median(found.error) < 1e-7


@EACH
def test_entries_without_effect_have_the_bar_of_the_resolution(method):
    found = jaxfd.estimate(lambda p: jnp.sum(jnp.sin(p[:5])), method=method)(jnp.ones(10))
    assert np.all(found.grad[5:] == 0)
    assert np.max(found.error[5:]) < 1e-8


class TestAnySizeOfValues:
    @OUTER
    @EACH
    @pytest.mark.parametrize("dtype", ["f4", "f8"])
    def test_bars_scale_with_the_function(self, dtype, method, outer):
        small, large = {"f4": (1e-25, 1e25), "f8": (1e-200, 1e300)}[dtype]
        x = np.array([1.0, 1.5], dtype)
        estimate = outer(
            jaxfd.estimate(lambda p, s: s * jnp.sum(jnp.sin(p)), argnums=0, method=method)
        )
        one = None
        for scale in (1.0, small, large):
            found = estimate(jnp.asarray(x), jnp.asarray(scale, dtype))
            bar = np.asarray(found.error) / np.asarray(scale, dtype)
            error = np.abs(np.asarray(found.grad) / np.asarray(scale, dtype) - np.cos(x))
            one = bar if one is None else one
            assert np.all(error <= bar)
            np.testing.assert_array_less(bar, 10 * one)

    @EACH
    @pytest.mark.parametrize("scale", [1e-34, 1e-25, 1e25, 1e36])
    def test_a_box_in_single_precision(self, scale, method):
        box = jaxfd.blackbox(lambda x: scale * np.sin(x), jax.ShapeDtypeStruct((), "f4"))
        found = jaxfd.estimate(box, method=method)(jnp.float32(1))
        grad, bar = float(found.grad), float(found.error)
        assert abs(grad - scale * np.cos(1.0)) <= bar < 1e-3 * scale
        assert bar > 0

    @EACH
    def test_at_the_end_of_the_range(self, method):
        found = jaxfd.estimate(lambda x: 1e-300 * jnp.sin(x), method=method)(1.0)
        assert abs(found.grad - 1e-300 * np.cos(1.0)) <= found.error < 1e-306


@OUTER
@EACH
def test_empty_outputs_have_empty_bars(method, outer):
    found = outer(jaxfd.estimate(lambda p: (p[:0], p * p), method=method))(jnp.ones(3))
    assert jax.tree.map(jnp.shape, found.error) == ((0, 3), (3, 3))
    assert jax.tree.map(jnp.shape, found.grad) == ((0, 3), (3, 3))
    box = jaxfd.blackbox(lambda p: p[:0], jax.ShapeDtypeStruct((0,), "f8"))
    assert outer(jaxfd.estimate(box, method=method))(jnp.ones(3)).error.shape == (0, 3)
