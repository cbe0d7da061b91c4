"""Inside JAX's transforms, and eagerly: the same numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import name

import jaxfd
from jaxfd import Central, ComplexStep, Forward


def loss(x):
    return jnp.sum(jnp.sin(x)) + x[0] * x[1]


exact = jax.jit(jax.grad(loss))
hessian_of_loss = jax.jit(jax.hessian(loss))
gradient = jaxfd.grad(loss)
X = np.array([0.3, -1.2, 2.1])
# Methods that alter the stencil alone are heavy.
METHODS = [
    Central(),
    *(pytest.param(method, marks=pytest.mark.heavy) for method in (Central(4), Forward(2))),
    ComplexStep(),
]
QUICK = [(Central(), np.float64), (ComplexStep(), np.float32)]


class TestJit:
    def test_inside(self):
        @jax.jit
        def step(x, rate):
            value, slope = jaxfd.value_and_grad(loss)(x)
            return x - rate * slope, value

        new, value = step(X, 0.1)
        np.testing.assert_allclose(new, X - 0.1 * exact(X), rtol=1e-9)
        np.testing.assert_allclose(value, loss(X), rtol=1e-12)

    def test_outside(self):
        np.testing.assert_allclose(jax.jit(gradient)(X), exact(X), rtol=1e-8)

    @staticmethod
    def check_same(method, dtype, other, eager):
        eps = float(jnp.finfo(dtype).eps)
        np.testing.assert_array_equal(other.step, eager.step)
        noise = 40 * eps / np.min(eager.step) if not isinstance(method, ComplexStep) else 9 * eps
        np.testing.assert_allclose(other.grad, eager.grad, atol=noise, rtol=noise)

    @pytest.mark.parametrize("method", METHODS, ids=name)
    def test_same_numbers_as_eagerly(self, method, dtype):
        """The compiler does not simplify the steps away."""
        x = jnp.asarray(X, dtype)
        estimated = jaxfd.estimate(loss, method=method)
        self.check_same(method, dtype, jax.jit(estimated)(x), estimated(x))

    @pytest.mark.parametrize(
        ("method", "dtype"),
        [
            pytest.param(
                method,
                np.dtype(dtype),
                # Hundreds of operations are compiled one by one.
                marks=[] if (method, dtype) in QUICK else [pytest.mark.heavy],
                id=f"{np.dtype(dtype)}-{name(method)}",
            )
            for method in (Central(), Central(4), Forward(2), ComplexStep())
            for dtype in (np.float32, np.float64)
        ],
    )
    def test_same_numbers_without_jit(self, method, dtype):
        x = jnp.asarray(X, dtype)
        estimated = jaxfd.estimate(loss, method=method)
        eager = estimated(x)
        with jax.disable_jit():
            self.check_same(method, dtype, estimated(x), eager)

    def test_ahead_of_time(self):
        compiled = jax.jit(gradient).lower(jnp.asarray(X)).compile()
        np.testing.assert_allclose(compiled(jnp.asarray(X)), exact(X), rtol=1e-8)

    def test_donated_argument(self):
        new = jax.jit(lambda x: x - gradient(x), donate_argnums=0)(jnp.asarray(X))
        np.testing.assert_allclose(new, X - exact(X), rtol=1e-8)

    def test_jvp_and_hvp_inside(self):
        @jax.jit
        def both(x, v):
            return jaxfd.jvp(loss, (x,), (v,)), jaxfd.hvp(loss, (x,), (v,))

        v = jnp.asarray([1.0, 0.5, -2.0])
        x = jnp.asarray(X)
        (value, slope), product = both(x, v)
        np.testing.assert_allclose(value, loss(x), rtol=1e-12)
        np.testing.assert_allclose(slope, exact(x) @ v, rtol=1e-8)
        np.testing.assert_allclose(product, jax.jvp(exact, (x,), (v,))[1], rtol=1e-5, atol=1e-6)

    def test_function_that_is_jitted_itself(self):
        np.testing.assert_allclose(jaxfd.grad(jax.jit(loss))(X), exact(X), rtol=1e-8)
        np.testing.assert_allclose(jaxfd.grad(jax.checkpoint(loss))(X), exact(X), rtol=1e-8)


class TestVmap:
    batch = np.stack([X, X[::-1], X + 0.5, X - 0.5])

    def test_over_x(self):
        found = jax.vmap(gradient)(self.batch)
        np.testing.assert_allclose(found, jax.vmap(exact)(self.batch), rtol=1e-7)

    def test_over_another_axis(self):
        found = jax.vmap(gradient, in_axes=1, out_axes=1)(self.batch.T)
        np.testing.assert_allclose(found, jax.vmap(exact)(self.batch).T, rtol=1e-7)

    def test_over_other_arguments(self):
        def fun(x, data, *, scale):
            return scale * jnp.sum(x * data) ** 2

        def call(data, scale):
            return jaxfd.grad(fun)(X, data, scale=scale)

        def truth(data, scale):
            return jax.grad(fun)(X, data, scale=scale)

        scales = jnp.arange(1.0, 5.0)
        found = jax.vmap(call)(self.batch, scales)
        np.testing.assert_allclose(found, jax.jit(jax.vmap(truth))(self.batch, scales), rtol=1e-7)
        found = jax.vmap(call, in_axes=(None, 0))(self.batch[0], scales)
        truths = jax.jit(jax.vmap(truth, in_axes=(None, 0)))(self.batch[0], scales)
        np.testing.assert_allclose(found, truths, rtol=1e-7)

    def test_nested(self):
        def fun(x, w):
            return w * loss(x)

        weights = jnp.arange(1.0, 3.0)
        mapped = jax.vmap(jax.vmap(jaxfd.grad(fun), (0, None)), (None, 0))
        truth = jax.jit(jax.vmap(jax.vmap(jax.grad(fun), (0, None)), (None, 0)))
        found = jax.jit(mapped)(self.batch, weights)
        assert found.shape == (2, 4, 3)
        np.testing.assert_allclose(found, truth(self.batch, weights), rtol=1e-7)

    def test_inside_the_function(self):
        def fun(x):
            return jnp.sum(jax.vmap(loss)(x))

        found = jaxfd.grad(fun)(jnp.asarray(self.batch))
        np.testing.assert_allclose(found, jax.vmap(exact)(self.batch), rtol=1e-7)

    def test_chunked(self):
        found = jax.vmap(jaxfd.grad(loss, chunk_size=2))(self.batch)
        np.testing.assert_allclose(found, jax.vmap(exact)(self.batch), rtol=1e-7)

    def test_hessian_and_jacobian(self):
        def vector(x):
            return jnp.stack([x[0] * x[1], jnp.sin(x[2])])

        found = jax.vmap(jaxfd.jacobian(vector))(self.batch)
        truth = jax.jit(jax.vmap(jax.jacrev(vector)))(self.batch)
        np.testing.assert_allclose(found, truth, atol=1e-8)
        found = jax.vmap(jaxfd.hessian(loss))(self.batch)
        truth = jax.vmap(hessian_of_loss)(self.batch)
        np.testing.assert_allclose(found, truth, atol=1e-5)

    def test_map_and_empty_batch(self):
        found = jax.lax.map(gradient, jnp.asarray(self.batch))
        np.testing.assert_allclose(found, jax.vmap(exact)(self.batch), rtol=1e-7)
        assert jax.vmap(gradient)(jnp.zeros((0, 3))).shape == (0, 3)


class TestLoops:
    """Gradient descent on a quadratic, which shrinks by a known factor per step."""

    def test_scan(self):
        def step(x, _):
            value, slope = jaxfd.value_and_grad(lambda x: 0.5 * jnp.sum(x**2))(x)
            return x - 0.1 * slope, value

        x, values = jax.lax.scan(step, jnp.asarray(X), length=10)
        np.testing.assert_allclose(x, 0.9**10 * X, rtol=1e-8)
        np.testing.assert_allclose(values, 0.5 * np.sum(X**2) * 0.81 ** np.arange(10), rtol=1e-7)

    def test_while_loop(self):
        def unfinished(x):
            return jnp.sum(x**2) > 1e-2

        def step(x):
            return x - 0.5 * jaxfd.grad(lambda x: 0.5 * jnp.sum(x**2))(x)

        x = jax.jit(lambda x: jax.lax.while_loop(unfinished, step, x))(jnp.asarray(X))
        steps = 5
        np.testing.assert_allclose(x, 0.5**steps * X, rtol=1e-8)

    def test_fori_loop_and_cond(self):
        def step(i, x):
            return jax.lax.cond(i % 2 == 0, lambda x: x - 0.1 * gradient(x), lambda x: x, x)

        found = jax.lax.fori_loop(0, 4, step, jnp.asarray(X))
        desired = X - 0.1 * exact(X)
        np.testing.assert_allclose(found, desired - 0.1 * exact(desired), rtol=1e-8)

    def test_of_a_function_with_loops(self):
        """What reverse-mode differentiation cannot do."""

        def newton(x):
            def unfinished(state):
                return jnp.abs(state[0] ** 2 - state[1]) > 1e-14

            def step(state):
                return 0.5 * (state[0] + state[1] / state[0]), state[1]

            return jax.lax.while_loop(unfinished, step, (x, x))[0]

        np.testing.assert_allclose(jaxfd.grad(newton)(2.0), 0.5 / np.sqrt(2.0), rtol=1e-8)
        x = jnp.asarray([2.0, 9.0])
        np.testing.assert_allclose(jax.vmap(jaxfd.grad(newton))(x), 0.5 / np.sqrt(x), rtol=1e-8)


class TestClosures:
    """The function may close over what an outer transform traces."""

    def test_jit(self):
        @jax.jit
        def run(c):
            return jaxfd.grad(lambda x: jnp.sum(c * x**2))(jnp.asarray(X))

        np.testing.assert_allclose(run(jnp.asarray(3.0)), 6 * X, rtol=1e-8)
        np.testing.assert_allclose(run(jnp.asarray(4.0)), 8 * X, rtol=1e-8)

    def test_vmap(self):
        def run(c):
            return jaxfd.grad(lambda x: jnp.sum(c * x**2))(jnp.asarray(X))

        found = jax.vmap(run)(jnp.asarray([1.0, 2.0]))
        np.testing.assert_allclose(found, [2 * X, 4 * X], rtol=1e-8)
        slopes = jax.vmap(lambda c: jaxfd.jvp(lambda x: c * x, (2.0,), (1.0,)))
        found = jax.jit(slopes)(jnp.arange(3.0))
        np.testing.assert_allclose(found[1], np.arange(3.0), atol=1e-9)

    def test_grad(self):
        """The derivative of an estimate, by automatic differentiation of the estimate."""

        def run(c):
            return jnp.sum(jaxfd.grad(lambda x: jnp.sum(jnp.exp(c * x)))(jnp.asarray(X)))

        truth = np.sum((1 + 0.5 * X) * np.exp(0.5 * X))
        np.testing.assert_allclose(jax.grad(run)(0.5), truth, rtol=1e-8)
        np.testing.assert_allclose(jax.jit(jax.grad(run))(0.5), truth, rtol=1e-8)

    def test_scan(self):
        def step(c, _):
            return c + 1.0, jaxfd.grad(lambda x: c * x**2)(3.0)

        _, found = jax.lax.scan(step, 0.0, length=3)
        np.testing.assert_allclose(found, [0.0, 6.0, 12.0], rtol=1e-8)

    def test_of_the_hook(self):
        def run(c):
            return jax.grad(jaxfd.differentiable(lambda x: jnp.sum(c * x**2)))(jnp.asarray(X))

        np.testing.assert_allclose(jax.jit(run)(2.0), 4 * X, rtol=1e-8)
        found = jax.vmap(run)(jnp.asarray([1.0, 2.0]))
        np.testing.assert_allclose(found, [2 * X, 4 * X], rtol=1e-8)


class TestNesting:
    def test_automatic_differentiation_of_an_estimate(self):
        """Steps are constants, so that the estimate is as smooth as the function."""
        x = jnp.asarray(X)
        truth = hessian_of_loss(x)
        np.testing.assert_allclose(jax.jacfwd(gradient)(x), truth, atol=1e-8)
        np.testing.assert_allclose(jax.jacrev(gradient)(x), truth, atol=1e-8)

    def test_estimate_of_automatic_differentiation(self):
        x = jnp.asarray(X)
        found = jaxfd.jacobian(jax.grad(loss))(x)
        np.testing.assert_allclose(found, hessian_of_loss(x), atol=1e-8)

    def test_estimate_of_an_estimate(self):
        inner = jaxfd.grad(lambda x: x**3, method=Central(step=1e-2))
        found = jaxfd.grad(inner, method=Central(step=1e-2))(2.0)
        np.testing.assert_allclose(found, 12.0, rtol=1e-8)

    def test_partial_and_bound_method(self):
        class Model:
            scale = 2.0

            def loss(self, x):
                return self.scale * jnp.sum(x**2)

        np.testing.assert_allclose(jaxfd.grad(Model().loss)(X), 4 * X, rtol=1e-8)
        half = functools.partial(lambda a, x: a * jnp.sum(x**2), 0.5)
        np.testing.assert_allclose(jaxfd.grad(half)(X), X, rtol=1e-8)
