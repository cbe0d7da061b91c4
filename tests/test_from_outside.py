"""A stranger adds to jaxfd from outside: a method, a family of directions, an executor.

What is added here touches no file of the library. A patch rule is added in
``tests/_jaxpr/test_rules.py``.
"""

import concurrent.futures
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import x64

import jaxfd
from jaxfd._arrays import register
from jaxfd._estimate import Derivatives, derivatives
from jaxfd._methods import FiniteDifference, Method, Stencil, stencil
from jaxfd._random import Directions, RandomDirections

WIDE = (-3, -1, 1, 3)


@register
@dataclasses.dataclass(frozen=True)
class Wide(FiniteDifference):
    """Points at odd multiples of the step: the offsets leave gaps."""

    step: object = None

    def stencil(self, derivative: int = 1) -> Stencil:
        return stencil(WIDE if derivative == 1 else (-2, -1, 0, 1, 2), derivative)


class OneSign(Directions):
    """All entries by the same amount, up or down."""

    def add(self, leaves, i, scales):
        sign = 1 - 2 * (i % 2)
        return [
            x + sign.astype(x.dtype) * s.astype(x.dtype)
            for x, s in zip(leaves, scales, strict=True)
        ]


@register
@dataclasses.dataclass(frozen=True, repr=False)
class Together(RandomDirections):
    """One direction for all entries: the derivative along their sum, given to each of them."""

    def directions(self, like):
        return OneSign(self.key, like)


def smooth(x):
    return jnp.sum(jnp.sin(x) + x**2)


def slope(x):
    return np.cos(x) + 2 * np.asarray(x)


def black_box(fun, dtype, **options):
    return jaxfd.blackbox(fun, jax.ShapeDtypeStruct((), dtype), **options)


X = [0.3, -1.2, 2.1]
METHODS = [Wide(), Wide(step=0.01)]


@pytest.mark.parametrize("method", METHODS, ids=["default", "step"])
class TestMethod:
    def tolerance(self, method, dtype):
        return 2e-4 if dtype == np.float32 else 1e-6 if method.step else 1e-9

    def test_grad_jit_vmap(self, method, dtype):
        x, tol = jnp.asarray(X, dtype), self.tolerance(method, dtype)
        g = jaxfd.grad(smooth, method=method)
        np.testing.assert_allclose(g(x), slope(X), rtol=tol, atol=tol)
        np.testing.assert_allclose(jax.jit(g)(x), slope(X), rtol=tol, atol=tol)
        batch = jnp.stack([x, 2 * x])
        both = np.stack([slope(X), slope(2 * np.array(X))])
        np.testing.assert_allclose(jax.vmap(g)(batch), both, rtol=tol, atol=tol)

    @pytest.mark.parametrize("room", [10.0, 2.0, 0.5, 0.0])
    def test_bounds(self, method, dtype, room):
        """With the walls so many steps away, on one side or on both."""
        x, tol = jnp.asarray(X, dtype), 20 * self.tolerance(method, dtype)
        h = 0.01 if method.step else 1e-3 if dtype == np.float64 else 0.03
        near, far = jnp.asarray(x - room * h), jnp.asarray(x + room * h)
        seen = []

        def fun(z):
            jax.debug.callback(lambda v: seen.append(np.asarray(v)), z)
            return smooth(z)

        for bounds in ((near, jnp.inf), (-jnp.inf, far)):
            found = jaxfd.grad(fun, method=method, bounds=bounds)(x)
            np.testing.assert_allclose(found, slope(X), rtol=tol, atol=tol)
            jax.effects_barrier()
            assert np.all(np.stack(seen) >= np.asarray(bounds[0]))
            assert np.all(np.stack(seen) <= np.asarray(bounds[1]))
            seen.clear()

    def test_black_box(self, method):
        count = []

        def fun(x):
            count.append(1)
            return np.sum(np.sin(x) + x**2)

        box = black_box(fun, jnp.float64)
        x = jnp.asarray(X)
        np.testing.assert_allclose(
            jaxfd.grad(box, method=method)(x), slope(X), rtol=self.tolerance(method, x.dtype)
        )
        assert len(count) == len(WIDE) * len(X)
        within = jaxfd.grad(box, method=method, bounds=(-1.2, 2.1))(x)
        np.testing.assert_allclose(within, slope(X), rtol=1e-5, atol=1e-5)

    def test_second_derivatives(self, method):
        """Its stencils for first and second derivatives differ in width."""
        found = jaxfd.hessian(lambda x: jnp.sum(x) ** 3 + smooth(x), method=method)(jnp.asarray(X))
        exact = 6 * np.sum(X) * np.ones((3, 3)) + np.diag(2 - np.sin(X))
        np.testing.assert_allclose(found, exact, rtol=1e-3, atol=1e-3)
        narrow = jaxfd.derivative(jnp.exp, order=2, method=method)(0.5)
        np.testing.assert_allclose(narrow, np.exp(0.5), rtol=1e-3)

    def test_everything_else(self, method):
        x, v = jnp.asarray(X), jnp.ones(3)
        product = jaxfd.jvp(smooth, (x,), (v,), method=method)[1]
        np.testing.assert_allclose(product, slope(X).sum(), rtol=1e-6)
        hooked = jaxfd.differentiable(smooth, method=method)
        np.testing.assert_allclose(jax.grad(hooked)(x), slope(X), rtol=1e-6, atol=1e-6)
        if method.step is None:
            assert jaxfd.step_sweep(smooth, x, method=method).best_error.max() < 1e-6


class TestFamily:
    def test_grad_jit_vmap_bounds(self, dtype):
        x, key = jnp.asarray(X, dtype), jax.random.key(0)
        method = Together(key, 2, sigma=0.01)
        g = jaxfd.grad(smooth, method=method)
        along = np.full(3, slope(X).sum())
        tol = 1e-3
        np.testing.assert_allclose(g(x), along, rtol=tol)
        np.testing.assert_allclose(jax.jit(g)(x), along, rtol=tol)
        np.testing.assert_allclose(jax.vmap(g)(x[None])[0], along, rtol=tol)
        inside = jaxfd.grad(smooth, method=method, bounds=(-5.0, 5.0))(x)
        np.testing.assert_allclose(inside, along, rtol=tol)

    def test_black_box(self):
        box = black_box(lambda x: np.sum(np.sin(x) + x**2), jnp.float64)
        found = jaxfd.grad(box, method=Together(jax.random.key(0), 2, sigma=0.01))(jnp.asarray(X))
        np.testing.assert_allclose(found, np.full(3, slope(X).sum()), rtol=1e-3)


@dataclasses.dataclass(frozen=True)
class Exact(Method):
    """A method of a kind of its own: it knows the answer."""


@derivatives.register
def _(method: Exact, place, call, wish) -> Derivatives:
    del method, wish
    real = call.parts.real
    ones = [place.xp.ones_like(x) for x in real]
    centre = place.centre(real)
    return Derivatives(centre, [ones], ones, ones, None, place.xp.ones(place.lead, np.int32))


jax.tree_util.register_static(Exact)


def test_kind():
    with x64(True):
        x = jnp.asarray(X)
        for fun in (smooth, black_box(lambda x: np.sum(x), jnp.float64)):
            value, found = jaxfd.value_and_grad(fun, method=Exact())(x)
            np.testing.assert_array_equal(found, np.ones(3))
            np.testing.assert_allclose(value, fun(x))
        with pytest.raises(ValueError, match="Exact has no fixed stencil"):
            jaxfd.hessian(smooth, method=Exact())(x)


def test_kind_without_estimator():
    @jax.tree_util.register_static
    @dataclasses.dataclass(frozen=True)
    class Unknown(Method):
        pass

    with pytest.raises(TypeError, match="no estimator for Unknown"):
        jaxfd.grad(smooth, method=Unknown())(jnp.asarray(X))


class Sequential(concurrent.futures.Executor):
    """An executor that does everything at once and counts it."""

    def __init__(self):
        self.submitted = 0

    def submit(self, fn, /, *args, **kwargs):
        self.submitted += 1
        future = concurrent.futures.Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def test_executor():
    executor = Sequential()
    box = black_box(lambda x: np.sum(np.sin(x) + x**2), jnp.float64, executor=executor)
    x = jnp.asarray(X)
    for g in (jaxfd.grad(box), jax.jit(jax.grad(box)), jaxfd.grad(box, bounds=(-5.0, 5.0))):
        np.testing.assert_allclose(g(x), slope(X), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(box))(x[None])[0], slope(X), rtol=1e-6)
    assert executor.submitted == 6 + 7 + 7 + 7
