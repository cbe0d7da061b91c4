"""Points on the host: made in float64, whatever JAX computes in."""

import json
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import Host, close, run_python, x64

import jaxfd
from jaxfd import Central

SCALAR = jax.ShapeDtypeStruct((), np.float64)
SINGLE = jax.ShapeDtypeStruct((), np.float32)
X = np.array([0.3, -1.2, 2.1])


class TestPrecision:
    def test_points_are_made_in_float64(self):
        host = Host(lambda x: np.sum(x**2, -1))
        with x64(False):
            box = jaxfd.blackbox(host, SINGLE, vectorized=True)
            x = jnp.asarray([0.1, 0.2])
            assert x.dtype == np.float32
            found = jaxfd.grad(box)(x)
        assert found.dtype == np.float32
        (points,) = host.taken()
        assert points.dtype == np.float64
        steps = np.abs(points - np.asarray(x, np.float64)).max(axis=0)
        np.testing.assert_allclose(steps, np.finfo(np.float64).eps ** (1 / 3), rtol=1e-6)

    @pytest.mark.parametrize("transform", ["jaxfd", "jax", "jit", "vmap", "scan", "bounds"])
    def test_large_values_with_x64_off(self, transform):
        """f near 1000: points made in float32 would give two percent."""

        def simulate(x):
            return 1000.0 + np.sum(np.sin(x))

        x = np.array([0.3, 0.7], np.float32)
        with x64(False):
            box = jaxfd.blackbox(simulate, SINGLE, method=Central(step=1e-3))
            if transform == "jaxfd":
                found = jaxfd.grad(box, method=Central(step=1e-3))(x)
            elif transform == "bounds":
                found = jaxfd.grad(box, method=Central(step=1e-4), bounds=(-1.0, 1.0))(x)
            elif transform == "vmap":
                found = jax.vmap(jax.grad(box))(x[None])[0]
            elif transform == "scan":
                found = jax.lax.scan(lambda c, _: (c, jax.grad(box)(c)), x, length=1)[1][0]
            else:
                found = (jax.jit if transform == "jit" else lambda f: f)(jax.grad(box))(x)
            found = np.asarray(found, np.float64)
        exact = np.cos(x.astype(np.float64))
        # Truncation is h^2 / 6, and the gradient itself is rounded to float32.
        np.testing.assert_allclose(found, exact, rtol=1e-6)

    def test_default_step_with_x64_off(self):
        x = np.array([0.3, 0.7], np.float32)
        with x64(False):
            box = jaxfd.blackbox(lambda x: 1000.0 + np.sum(np.sin(x)), SINGLE)
            for transform in (jaxfd.grad, jax.grad):
                found = np.asarray(transform(box)(x), np.float64)
                np.testing.assert_allclose(found, np.cos(x.astype(np.float64)), rtol=1e-6)

    def test_in_a_process_that_never_heard_of_x64(self):
        code = """
import json, jax, numpy as np, jaxfd
box = jaxfd.blackbox(lambda x: 1000.0 + np.sum(np.sin(x)), jax.ShapeDtypeStruct((), np.float32))
x = np.array([0.3, 0.7], np.float32)
found = [jaxfd.grad(box)(x), jax.jit(jax.grad(box))(x)]
traced = jaxfd.grad(lambda x: 1000.0 + jax.numpy.sum(jax.numpy.sin(x)))(x)
print(json.dumps([np.asarray(v, float).tolist() for v in (*found, traced)]))
"""
        printed = run_python(code, JAX_ENABLE_X64="0", JAX_NUMPY_DTYPE_PROMOTION="strict")
        eager, compiled, traced = json.loads(printed)
        exact = np.cos(np.array([0.3, 0.7], np.float32).astype(np.float64))
        np.testing.assert_allclose(eager, exact, rtol=1e-6)
        np.testing.assert_allclose(compiled, exact, rtol=1e-6)
        # And this is what it saves: the same function computed in float32 is 1000 times worse.
        assert np.max(np.abs(np.asarray(traced) / exact - 1)) > 1e-4

    def test_tiny_numbers_inside_a_function_survive_compilation(self):
        """XLA's threads flush them to zero, and hand that on to the threads they start."""

        def tiny(x):
            return x * 1e-310 * 1e300 * 1e10

        with ThreadPoolExecutor(2) as pool:
            for executor in (None, pool):
                box = jaxfd.blackbox(tiny, SCALAR, executor=executor)
                close(jax.jit(box)(2.0), box(2.0), 0)
                close(jax.jit(jax.grad(box))(2.0), jnp.asarray(1.0), 1e-9)
            assert list(pool.map(tiny, [2.0, 3.0])) == pytest.approx([2.0, 3.0])

    def test_a_function_that_returns_float32_is_stepped_for_it(self):
        host = Host(lambda x: np.sum(np.sin(x.astype(np.float32)), -1))
        box = jaxfd.blackbox(host, SCALAR, vectorized=True)
        exact = np.cos(X)
        for transform in (jaxfd.grad, jax.grad):
            found = transform(box)(X)
            np.testing.assert_allclose(found, exact, atol=3 * np.finfo(np.float32).eps ** (2 / 3))
        step = np.abs(host.taken()[-1] - X).max(axis=0)
        expected = np.finfo(np.float32).eps ** (1 / 3) * np.maximum(1, abs(X))
        np.testing.assert_allclose(step, expected, rtol=1e-3)

    def test_and_only_the_first_estimate_is_made_twice(self):
        host = Host(lambda x: np.sum(x, -1).astype(np.float32))
        box = jaxfd.blackbox(host, SCALAR, vectorized=True)
        jaxfd.grad(box)(X)
        assert len(host.taken()) == 2
        jaxfd.grad(box)(X)
        jax.jit(jax.grad(box))(X)
        assert len(host.taken()) == 2

    def test_a_given_step_is_kept(self):
        host = Host(lambda x: np.sum(x, -1).astype(np.float32))
        box = jaxfd.blackbox(host, SCALAR, vectorized=True)
        jaxfd.grad(box, method=Central(step=0.25))(X)
        np.testing.assert_allclose(np.abs(host.taken()[-1] - X).max(axis=0), 0.25)

    def test_low_precision_arguments(self):
        box = jaxfd.blackbox(lambda x: np.sum(np.sin(x)), SCALAR)
        x = jnp.asarray([0.25, 0.5], jnp.bfloat16)
        found = jaxfd.grad(box)(x)
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(found.astype(np.float64), np.cos([0.25, 0.5]), rtol=4e-3)

    def test_result_dtype_is_the_declared_one(self):
        box = jaxfd.blackbox(lambda x: np.sum(x), SINGLE)
        assert box(X).dtype == np.float32
        assert jax.jit(box)(X).dtype == np.float32
