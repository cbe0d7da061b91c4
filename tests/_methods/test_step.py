"""Steps: numbers, arrays, trees, relative ones and defaults."""

import jax
import jax.numpy as jnp
import numpy as np
from _tools import close

import jaxfd
from jaxfd import Backward, Central, Forward


class TestSteps:
    """Whatever form a step has, it is the one that is taken."""

    def taken(self, step, x, fun=lambda x: jnp.sum(x**2)):
        return jaxfd.estimate(fun, method=Central(step=step))(x).step

    def test_number(self):
        x = jnp.asarray([1.0, 100.0])
        np.testing.assert_allclose(self.taken(0.01, x), [0.01, 0.01], rtol=1e-10)

    def test_one_per_entry(self):
        x = jnp.asarray([1.0, 100.0])
        np.testing.assert_allclose(self.taken(jnp.asarray([0.01, 0.5]), x), [0.01, 0.5], 1e-10)

    def test_tree(self):
        x = {"a": jnp.asarray([1.0, 2.0]), "b": jnp.asarray(3.0)}

        def fun(x):
            return jnp.sum(x["a"] ** 2) + x["b"] ** 2

        found = self.taken({"a": 0.25, "b": 0.5}, x, fun)
        close(found, {"a": jnp.asarray([0.25, 0.25]), "b": jnp.asarray(0.5)}, 1e-10)

    def test_default_is_the_balance_of_two_errors(self, dtype):
        x = jnp.asarray([0.5, 100.0], dtype)
        eps = float(jnp.finfo(dtype).eps)
        found = self.taken(None, x)
        np.testing.assert_allclose(found, eps ** (1 / 3) * np.array([1.0, 100.0]), rtol=1e-3)

    def test_default_follows_the_order(self):
        x = jnp.asarray([100.0])
        eps = float(np.finfo(np.float64).eps)

        def fun(x):
            return jnp.sum(x**2)

        for method, power in [(Forward(), 1 / 2), (Backward(2), 1 / 3), (Central(4), 1 / 5)]:
            found = jaxfd.estimate(fun, method=method)(x).step
            np.testing.assert_allclose(found, 100 * eps**power, rtol=1e-6)

    def test_default_is_that_of_the_coarser_dtype(self):
        eps = float(np.finfo(np.float32).eps)
        found = self.taken(None, jnp.asarray([1.0]), lambda x: jnp.sum(x.astype(np.float32) ** 2))
        np.testing.assert_allclose(found, [eps ** (1 / 3)], rtol=1e-3)

    def test_relative(self):
        x = jnp.asarray([0.5, -100.0])
        found = self.taken(jaxfd.Relative(rel=1e-3, typical=2.0), x)
        np.testing.assert_allclose(found, [2e-3, 0.1], rtol=1e-10)

    def test_typical_as_a_tree(self):
        x = (jnp.asarray([1e-9, 1.0]), jnp.asarray(0.0))
        rule = jaxfd.Relative(rel=1e-3, typical=(jnp.asarray([1e-6, 1e-6]), 5.0))
        found = self.taken(rule, x, lambda x: jnp.sum(x[0]) + x[1])
        close(found, (jnp.asarray([1e-9, 1e-3]), jnp.asarray(5e-3)), 1e-11)

    def test_step_along_a_tangent_does_not_depend_on_its_length(self):
        """A tangent of 1e6 is not stepped 1e6 times as far."""
        x = jnp.asarray([0.4, 0.7])
        for length in (1e-6, 1.0, 1e6):
            tangent = length * jnp.asarray([1.0, -0.5])
            _, slope = jaxfd.jvp(lambda x: jnp.sum(jnp.sin(x)), (x,), (tangent,))
            exact = np.cos(x) @ np.asarray(tangent)
            np.testing.assert_allclose(slope, exact, rtol=1e-8)

    def test_traced_step_and_mapped_method(self):
        def gradient(method):
            return jaxfd.grad(lambda x: x**3, method=method)(2.0)

        found = jax.jit(jax.vmap(gradient))(Central(step=jnp.asarray([0.5, 0.25])))
        np.testing.assert_allclose(found, [12.25, 12.0625], rtol=1e-12)
