"""The search under transforms and hooks, on the host and in kernels."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _rows import ADAPTIVE, SCALAR, SETTLED, Rows
from _tools import Host, Points, close

import jaxfd


class TestTransforms:
    def test_grad_value_and_grad_and_aux(self):
        host = Host(lambda x: (np.sum(np.sin(x), axis=-1), x[:, :1] > 0))
        out = (SCALAR, jax.ShapeDtypeStruct((1,), bool))
        box = jaxfd.blackbox(host, out, vectorized=True)
        x = jnp.asarray([0.3, 0.5, -2.0])
        for jit in (lambda f: f, jax.jit):
            value, slope = jit(jaxfd.value_and_grad(box, has_aux=True, method=ADAPTIVE))(x)
            close(value, (jnp.sum(jnp.sin(x)), jnp.asarray([True])), 1e-15)
            close(slope, jnp.cos(x), 1e-13)
            slope, aux = jit(jaxfd.grad(box, has_aux=True, method=ADAPTIVE))(x)
            close((slope, aux), (jnp.cos(x), jnp.asarray([True])), 1e-13)
            host.taken()
            found = jit(jaxfd.estimate(box, has_aux=True, method=ADAPTIVE))(x)
            assert found.aux[0]
            assert found.evaluations == host.evaluations == 3 * SETTLED + 1

    def test_argnums(self):
        box = jaxfd.blackbox(lambda x, y: np.sin(x) * np.exp(y), SCALAR, vectorized=True)
        x, y = jnp.asarray(0.4), jnp.asarray(0.7)
        exact = (jnp.cos(x) * jnp.exp(y), jnp.sin(x) * jnp.exp(y))
        close(jaxfd.grad(box, (0, 1), method=ADAPTIVE)(x, y), exact, 1e-13)
        close(jaxfd.grad(box, 1, method=ADAPTIVE)(x, y), exact[1], 1e-13)

    def test_jacobian_of_pytrees(self):
        """Dictionaries in and out, several outputs of several shapes, an empty leaf."""

        def fun(tree):
            host.append(len(tree["a"]))
            rows = np.sin(tree["a"])[:, None] * tree["b"]
            return {"s": rows, "t": np.sum(tree["b"] ** 2, axis=-1) * tree["a"]}

        host = []
        out = {"s": jax.ShapeDtypeStruct((3,), np.float64), "t": SCALAR}
        box = jaxfd.blackbox(fun, out, vectorized=True)
        a, b = 0.4, np.array([1.0, 2.0, 3.0])
        x = {"a": jnp.asarray(a), "b": jnp.asarray(b), "e": jnp.zeros((0, 2))}
        found = jaxfd.jacobian(box, method=ADAPTIVE)(x)
        exact = {
            "s": {
                "a": jnp.asarray(np.cos(a) * b),
                "b": jnp.asarray(np.sin(a) * np.eye(3)),
                "e": jnp.zeros((3, 0, 2)),
            },
            "t": {
                "a": jnp.asarray(14.0),
                "b": jnp.asarray(2 * a * b),
                "e": jnp.zeros((0, 2)),
            },
        }
        close(found, exact, 1e-13)
        assert sum(host) == 4 * SETTLED + 1
        assert len(host) == 2
        # Along b[1] nothing of s[0] moves: that is seen exactly.
        assert found["s"]["b"][0, 1] == 0

    def test_an_output_of_another_scale(self):
        """One radius serves all outputs; each has its own fit."""
        box = jaxfd.blackbox(
            lambda t: np.stack([np.sin(t), 1e9 * np.exp(t), np.cos(20 * t)], -1),
            jax.ShapeDtypeStruct((3,), np.float64),
            vectorized=True,
        )
        found = jaxfd.derivative(box, method=ADAPTIVE)(0.3)
        exact = [math.cos(0.3), 1e9 * math.exp(0.3), -20 * math.sin(6.0)]
        np.testing.assert_allclose(found, exact, rtol=1e-11)

    def test_complex_arguments(self):
        """The convention of ``jax.grad``, for a function that is not holomorphic."""
        box = jaxfd.blackbox(
            lambda z: np.real(np.sum(z**3 * (1 + 2j), axis=-1)) + np.abs(z[:, 0]) ** 2,
            SCALAR,
            vectorized=True,
        )
        z = jnp.asarray([1 + 2j, 0.3 - 0.5j])
        found = jaxfd.estimate(box, method=ADAPTIVE)(z)
        exact = 3 * z**2 * (1 + 2j) + jnp.asarray([2.0 + 0j, 0.0]) * jnp.conj(z)
        close(found.grad, exact, 1e-13)
        assert found.evaluations == 4 * SETTLED + 1
        assert found.error.dtype == np.float64
        assert np.all(np.abs(found.grad - exact) <= 2 * found.error)

    def test_complex_outputs(self):
        box = jaxfd.blackbox(
            lambda t: np.exp((1 + 2j) * t), jax.ShapeDtypeStruct((), np.complex128)
        )
        found = jaxfd.derivative(box, method=ADAPTIVE)(0.3)
        np.testing.assert_allclose(found, (1 + 2j) * np.exp((1 + 2j) * 0.3), rtol=1e-13)

    def test_float32_and_float64_leaves(self):
        box = jaxfd.blackbox(
            lambda tree: np.sum(np.sin(tree["a"]), axis=-1) * np.exp(tree["b"]),
            SCALAR,
            vectorized=True,
        )
        x = {"a": jnp.asarray([0.3, 0.4], np.float32), "b": jnp.asarray(0.5)}
        found = jaxfd.grad(box, method=ADAPTIVE)(x)
        a = x["a"].astype(np.float64)
        exact = {"a": jnp.cos(a) * jnp.exp(0.5), "b": jnp.sum(jnp.sin(a)) * jnp.exp(0.5)}
        assert found["a"].dtype == np.float32
        close(found["a"], exact["a"].astype(np.float32), 2e-7)
        close(found["b"], exact["b"], 1e-13)

    def test_the_bar_counts_the_rounding_of_the_result(self):
        box = jaxfd.blackbox(lambda x: np.sum(np.sin(x), axis=-1), SCALAR, vectorized=True)
        x = jnp.linspace(0.1, 1.0, 5, dtype=np.float32)
        found = jaxfd.estimate(box, method=ADAPTIVE)(x)
        exact = np.cos(np.asarray(x, np.float64))
        assert np.all(np.abs(np.asarray(found.grad, np.float64) - exact) <= found.error)

    def test_empty_arguments(self):
        box = jaxfd.blackbox(lambda x: np.sum(x, axis=-1) + 2.0, SCALAR, vectorized=True)
        found = jaxfd.estimate(box, method=ADAPTIVE)(jnp.zeros(0))
        assert found.value == 2.0
        assert found.grad.shape == found.error.shape == (0,)
        assert found.evaluations == 1

    @pytest.mark.parametrize("size", [1, 7, 100])
    def test_chunk_size(self, size):
        host = Host(lambda x: np.sum(np.exp(x), axis=-1))
        box = jaxfd.blackbox(host, SCALAR, vectorized=True)
        x = jnp.asarray([0.3, 0.5])
        found = jaxfd.estimate(box, method=ADAPTIVE, chunk_size=size)(x)
        close(found.grad, jnp.exp(x), 1e-13)
        assert max(map(len, host.calls)) <= size
        assert found.evaluations == host.evaluations == 2 * SETTLED + 1

    def test_vmap_is_a_loop(self):
        """Also where the searches of the calls go different ways, in one host call a round."""
        host = Host(lambda x: np.cos(x[:, 0] ** 2) + np.abs(x[:, 1] - 0.5))
        box = jaxfd.blackbox(host, SCALAR, vectorized=True)
        estimate = jaxfd.estimate(box, method=ADAPTIVE)
        batch = jnp.asarray([[0.3, 1.0], [0.4, 0.5], [30.0, 2.0]])
        loop = [estimate(x) for x in batch]
        host.taken()
        found = jax.vmap(estimate)(batch)
        assert sum(map(len, host.calls)) == sum(int(one.evaluations) for one in loop)
        for i, one in enumerate(loop):
            np.testing.assert_allclose(found.grad[i], one.grad, rtol=1e-13)
            np.testing.assert_allclose(found.error[i], one.error, rtol=0.2)
            np.testing.assert_array_equal(found.step[i], one.step)
            assert found.evaluations[i] == one.evaluations
        assert len({int(one.evaluations) for one in loop}) > 1
        assert len(host.calls) <= 7

    def test_jit_is_eager(self):
        rows = Rows(np.sin, lambda t: np.cos(1e4 * t), np.abs)
        estimate = jax.vmap(jaxfd.estimate(rows.box, method=ADAPTIVE))
        x, k = jnp.asarray([0.3, 0.3, 0.0]), jnp.arange(3)
        jax.tree.map(np.testing.assert_array_equal, jax.jit(estimate)(x, k), estimate(x, k))

    def test_shown(self):
        rows = Rows(np.abs)
        text = str(jaxfd.estimate(rows.box, method=ADAPTIVE)(0.0, 0))
        assert "(55 evaluations)" in text


class TestHook:
    x = np.array([0.3, 0.7])
    exact = math.exp(0.3) * np.array([math.sin(0.7), math.cos(0.7)])

    def _box(self, **options):
        host = Host(lambda x: np.exp(x[:, 0]) * np.sin(x[:, 1]))
        return host, jaxfd.blackbox(host, SCALAR, vectorized=True, method=ADAPTIVE, **options)

    def test_grad(self):
        host, box = self._box()
        np.testing.assert_allclose(jax.grad(box)(self.x), self.exact, rtol=1e-13)
        assert host.evaluations == 2 * SETTLED + 1
        assert len(host.calls) == 2
        np.testing.assert_allclose(jax.jit(jax.grad(box))(self.x), self.exact, rtol=1e-13)

    def test_vmap_and_jvp(self):
        _, box = self._box()
        batch = np.stack([self.x, self.x + 1])
        found = jax.jit(jax.vmap(jax.grad(box)))(batch)
        np.testing.assert_allclose(found[0], self.exact, rtol=1e-13)
        x, y = batch[1]
        np.testing.assert_allclose(
            found[1], np.exp(x) * np.array([np.sin(y), np.cos(y)]), rtol=1e-13
        )
        _, slope = jax.jvp(box, (jnp.asarray(self.x),), (jnp.asarray([1.0, 2.0]),))
        np.testing.assert_allclose(slope, self.exact @ [1, 2], rtol=1e-13)

    @pytest.mark.parametrize("mode", ["forward", "recompute"])
    def test_other_modes(self, mode):
        host, box = self._box(mode=mode)
        np.testing.assert_allclose(jax.grad(box)(self.x), self.exact, rtol=1e-13)
        assert host.evaluations <= 2 * SETTLED + 2

    def test_second_derivatives(self):
        _, box = self._box()
        x, y = self.x
        mixed = np.exp(x) * np.cos(y)
        own = np.exp(x) * np.sin(y)
        np.testing.assert_allclose(
            jax.hessian(box)(self.x), [[own, mixed], [mixed, -own]], rtol=1e-11
        )


class TestKernel:
    """Functions that JAX traces. Each compiles for seconds, so there are few."""

    def test_agrees_with_the_host(self):
        """Settled at once, above, below, on a kink, beside the end of a domain: the same steps."""
        kernel = [jnp.sin, lambda t: jnp.exp(100 * t), lambda t: jnp.cos(1e5 * t), jnp.abs, jnp.log]
        host = [np.sin, lambda t: np.exp(100 * t), lambda t: np.cos(1e5 * t), np.abs, np.log]
        x, rows = np.array([1.0, 0.01, 0.3, 0.0, 1e-9]), jnp.arange(5)

        def fun(t, k):
            return jax.lax.switch(k, kernel, t)

        found = jax.jit(jax.vmap(jaxfd.estimate(fun, method=ADAPTIVE)))(x, rows)
        other = Rows(*host)(x)
        exact = [math.cos(1.0), 100 * math.e, -1e5 * math.sin(3e4), 0.0, 1e9]
        assert np.all(np.abs(found.grad - np.array(exact)) <= found.error)
        assert np.all(np.abs(found.grad - other.grad) <= found.error / 2)
        np.testing.assert_allclose(found.error, other.error, rtol=0.3)
        np.testing.assert_array_equal(found.evaluations, other.evaluations)
        np.testing.assert_array_equal(found.step, other.step)

    @pytest.mark.heavy
    def test_float32_under_jit_and_eager(self):
        estimate = jaxfd.estimate(lambda x: jnp.sum(jnp.sin(x)), method=ADAPTIVE)
        x = jnp.asarray([0.5, 1.5, -3.0], np.float32)
        exact = np.cos(np.asarray(x, np.float64))
        eager, jitted = estimate(x), jax.jit(estimate)(x)
        for found in (eager, jitted):
            assert found.grad.dtype == found.error.dtype == np.float32
            assert found.evaluations == 3 * SETTLED + 1
            error = np.abs(np.asarray(found.grad, np.float64) - exact)
            assert np.all(error <= 1e-5)
            assert np.all(error <= np.asarray(found.error))
        np.testing.assert_allclose(jitted.grad, eager.grad, rtol=1e-6)

    def test_half_precision(self):
        """Whatever the dtype, the gradient comes back in it."""

        def fun(tree):
            half = jnp.sum(jnp.sin(tree["h"]))
            return half + jnp.sum(jnp.sin(tree["b"])).astype(np.float16)

        x = {"h": jnp.asarray([0.5, 1.5], np.float16), "b": jnp.asarray([0.5], jnp.bfloat16)}
        found = jaxfd.estimate(fun, method=ADAPTIVE)(x)
        for key, eps in (("h", 2.0**-10), ("b", 2.0**-7)):
            assert found.grad[key].dtype == x[key].dtype
            slope, bar = (np.asarray(t[key], np.float64) for t in (found.grad, found.error))
            error = np.abs(slope - np.cos(np.asarray(x[key], np.float64)))
            assert np.all(error <= 16 * eps)
            assert np.all(error <= bar + eps)
            assert np.all(np.isfinite(bar))

    @pytest.mark.heavy
    def test_bounds_and_evaluations(self):
        points = Points()

        def fun(x):
            points(x)
            return jnp.sum(jnp.log1p(x))

        x = jnp.asarray([0.0, 1e-9, 2.0])
        found = jaxfd.estimate(fun, method=ADAPTIVE, bounds=(0.0, jnp.inf))(x)
        taken = points.taken()
        assert taken.min() >= 0
        assert found.evaluations == len(taken) == 3 * SETTLED + 1
        exact = 1 / (1 + x)
        np.testing.assert_allclose(found.grad, exact, rtol=1e-10)
        assert np.all(np.abs(found.grad - exact) <= found.error)
        np.testing.assert_array_equal(found.one_sided, [True, True, False])

    @pytest.mark.heavy
    def test_differentiable(self):
        fun = jaxfd.differentiable(lambda x: jnp.exp(x[0]) * jnp.sin(x[1]), method=ADAPTIVE)
        batch = np.array([[0.3, 0.7], [1.0, 2.0]])
        x, y = batch.T
        exact = np.exp(x)[:, None] * np.stack([np.sin(y), np.cos(y)], -1)
        found = jax.jit(jax.vmap(jax.grad(fun)))(batch)
        np.testing.assert_allclose(found, exact, rtol=1e-12)

    @pytest.mark.heavy
    def test_derivatives_of_the_gradient(self):
        """Forward over the search, and backward through it."""

        def fun(x):
            return jnp.exp(x[0]) * jnp.sin(x[1])

        slope = jaxfd.grad(fun, method=ADAPTIVE)

        @jax.jit
        def both(x):
            return jax.jacfwd(slope)(x), jax.grad(lambda x: slope(x) @ jnp.asarray([1.0, 2.0]))(x)

        x, y = 0.3, 0.7
        hessian = np.exp(x) * np.array([[np.sin(y), np.cos(y)], [np.cos(y), -np.sin(y)]])
        forward, backward = both(jnp.asarray([x, y]))
        np.testing.assert_allclose(forward, hessian, rtol=1e-6)
        np.testing.assert_allclose(backward, hessian @ [1, 2], rtol=1e-6)
