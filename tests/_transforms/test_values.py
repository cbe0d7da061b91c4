"""Values: every transform against automatic differentiation or an analytic answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import METHODS, REAL_METHODS, close, name, tolerance

import jaxfd
from jaxfd import Backward, Central, ComplexStep, Forward


def loss(x):
    return jnp.sum(jnp.sin(x)) + x[0] * x[1] - x[1] * jnp.exp(0.3 * x[2])


gradient_of_loss = jax.jit(jax.grad(loss))
hessian_of_loss = jax.jit(jax.hessian(loss))


def vector(x):
    return jnp.stack([jnp.sin(x[0]) * x[1], jnp.cos(x[2]) + x[0] * x[0]])


jacobian_of_vector = jax.jit(jax.jacrev(vector))


@jax.jit
def jvp_of_vector(x, tangent):
    return jax.jvp(vector, (x,), (tangent,))


def wave(x):
    return jnp.sin(x) + jnp.exp(0.5 * x)


def wave_derivative(x, order):
    return np.sin(x + order * np.pi / 2) + 0.5**order * np.exp(0.5 * x)


def several(x):
    return jnp.stack([x, x[::-1] * 0.7, x + 0.1])


# Every method in float64, a few in float32 and under jit and vmap: what they do not share is the
# stencil alone.
CHOSEN = [Forward(), Backward(order=3), Central(), Central(order=4), ComplexStep()]
SEVERAL = [*CHOSEN[:-1], Forward(order=6), Central(order=6)]


def every(methods):
    cases = [(m, np.float64) for m in methods] + [(m, np.float32) for m in CHOSEN if m in methods]
    ids = [f"{name(method)}-{np.dtype(dtype)}" for method, dtype in cases]
    return pytest.mark.parametrize(("method", "dtype"), cases, ids=ids)


@every(METHODS)
class TestEveryMethod:
    def test_grad(self, method, x, dtype):
        close(jaxfd.grad(loss, method=method)(x), gradient_of_loss(x), 4 * tolerance(method, dtype))

    def test_jacobian(self, method, x, dtype):
        found = jaxfd.jacobian(vector, method=method)(x)
        close(found, jacobian_of_vector(x), 4 * tolerance(method, dtype))


@every([*SEVERAL, ComplexStep()])
class TestSeveralMethods:
    def test_jvp(self, method, x, dtype):
        tangent = jnp.asarray([0.5, -1.0, 2.0], dtype)
        found = jax.jit(lambda x: jaxfd.jvp(vector, (x,), (tangent,), method=method))(x)
        close(found, jvp_of_vector(x, tangent), 4 * tolerance(method, dtype))

    def test_estimate(self, method, x, dtype):
        result = jaxfd.estimate(loss, method=method)(x)
        exact = gradient_of_loss(x)
        close(result.value, loss(x), 4 * jnp.finfo(dtype).eps)
        close(result.grad, exact, 4 * tolerance(method, dtype))
        assert result.step.shape == x.shape
        assert result.step.dtype == x.dtype
        assert np.all(result.step > 0)
        assert result.aux is None
        if isinstance(method, ComplexStep):
            assert np.all(np.isnan(result.error))
        else:
            assert np.all(np.abs(result.grad - exact) <= result.error)
            assert np.all(result.error < 1.0)


@every(REAL_METHODS)
def test_hessian(method, x, dtype):
    tol = 8 * tolerance(method, dtype, derivative=2)
    close(jaxfd.hessian(loss, method=method)(x), hessian_of_loss(x), tol)


@every(SEVERAL)
class TestProducts:
    def test_hvp(self, method, x, dtype):
        tol = 16 * tolerance(method, dtype, derivative=2)
        tangent = jnp.asarray([0.5, -1.0, 2.0], dtype)
        found = jax.jit(lambda x: jaxfd.hvp(loss, (x,), (tangent,), method=method))(x)
        close(found, hessian_of_loss(x) @ tangent, tol)


def test_products_eagerly():
    x, tangent = jnp.asarray([0.3, -1.2, 2.1]), jnp.asarray([0.5, -1.0, 2.0])
    close(jaxfd.jvp(vector, (x,), (tangent,)), jvp_of_vector(x, tangent), 1e-9)
    exact = hessian_of_loss(x) @ tangent
    close(jaxfd.hvp(loss, (x,), (tangent,)), exact, 1e-6)


@pytest.mark.parametrize("method", CHOSEN, ids=name)
class TestJitAndVmap:
    def test_grad(self, method, x, dtype):
        batch = several(x)
        found = jax.jit(jax.vmap(jaxfd.grad(loss, method=method)))(batch)
        close(found, jax.vmap(gradient_of_loss)(batch), 4 * tolerance(method, dtype))

    def test_value_and_grad(self, method, x, dtype):
        batch = several(x)
        value, gradient = jax.jit(jax.vmap(jaxfd.value_and_grad(loss, method=method)))(batch)
        close(value, jax.vmap(loss)(batch), 4 * jnp.finfo(dtype).eps)
        close(gradient, jax.vmap(gradient_of_loss)(batch), 4 * tolerance(method, dtype))

    def test_jacobian(self, method, x, dtype):
        batch = several(x)
        found = jax.jit(jax.vmap(jaxfd.jacobian(vector, method=method)))(batch)
        close(found, jax.vmap(jacobian_of_vector)(batch), 4 * tolerance(method, dtype))

    def test_jvp(self, method, x, dtype):
        batch, tangent = several(x), jnp.asarray([0.5, -1.0, 2.0], dtype)
        found = jax.jit(jax.vmap(lambda x: jaxfd.jvp(vector, (x,), (tangent,), method=method)))
        exact = jax.vmap(jvp_of_vector, (0, None))(batch, tangent)
        close(found(batch), exact, 4 * tolerance(method, dtype))


def test_second_order_under_jit_and_vmap(x, dtype):
    tol = 16 * tolerance(Central(), dtype, derivative=2)
    batch, tangent = several(x), jnp.asarray([0.5, -1.0, 2.0], dtype)
    exact = jax.vmap(hessian_of_loss)(batch)
    close(jax.jit(jax.vmap(jaxfd.hessian(loss)))(batch), exact, tol)
    product = jax.vmap(lambda x: jaxfd.hvp(loss, (x,), (tangent,)))
    close(jax.jit(product)(batch), exact @ tangent, tol)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("method", [Forward(), Forward(3), Backward(2), Central(), Central(4)])
def test_derivative_of_any_order(method, order):
    x = jnp.asarray([0.4, -0.8])
    estimated = jax.jit(jax.vmap(jaxfd.derivative(wave, order, method=method)))(x)
    tol = 4 * tolerance(method, np.float64, order)
    close(estimated, jnp.asarray(wave_derivative(np.asarray(x), order)), tol)


def test_derivative_in_float32():
    x = jnp.float32(0.4)
    for order in (1, 2):
        estimated = jaxfd.derivative(wave, order)(x)
        exact = jnp.asarray(wave_derivative(0.4, order), np.float32)
        close(estimated, exact, 4 * tolerance(Central(), np.float32, order))


def test_derivative_by_complex_step():
    estimated = jaxfd.derivative(wave, method=ComplexStep())(0.4)
    assert abs(float(estimated) - wave_derivative(0.4, 1)) < 1e-15


def test_derivative_of_an_array_function():
    def curve(t, radius, *, phase):
        return {"x": radius * jnp.cos(t + phase), "both": jnp.stack([t * t, t])}

    found = jaxfd.derivative(curve, 2, method=Central(4))(0.5, 2.0, phase=0.1)
    exact = {"x": jnp.asarray(-2.0 * np.cos(0.6)), "both": jnp.asarray([2.0, 0.0])}
    close(found, exact, 1e-9)


class TestComplex:
    """Complex numbers follow ``jax.grad`` and its kin."""

    z = np.array([0.3 + 0.4j, -1.1 + 0.2j])

    @pytest.mark.parametrize(
        "dtype", [np.complex64, np.complex128], ids=["complex64", "complex128"]
    )
    @pytest.mark.parametrize("method", [Central(), Forward(2)], ids=name)
    def test_complex_to_real(self, method, dtype):
        z = jnp.asarray(self.z, dtype)

        def fun(z):
            return jnp.sum(jnp.abs(z) ** 2) + (z[0] * z[1] ** 2).imag

        tol = 4 * tolerance(method, np.finfo(dtype).dtype)
        exact = jax.jit(jax.value_and_grad(fun))(z)
        close(jax.jit(jaxfd.grad(fun, method=method))(z), exact[1], tol)
        close(jaxfd.value_and_grad(fun, method=method)(z), exact, tol)

    @pytest.mark.parametrize(
        "dtype", [np.complex64, np.complex128], ids=["complex64", "complex128"]
    )
    def test_holomorphic(self, dtype):
        z = jnp.asarray(self.z, dtype)

        def fun(z):
            return z[0] ** 2 * z[1] + jnp.exp(z[1])

        def vector(z):
            return jnp.stack([z[0] * z[1], z[1] ** 2, jnp.exp(z[0])])

        tol = 4 * tolerance(Central(), np.finfo(dtype).dtype)
        exact = jax.jit(jax.grad(fun, holomorphic=True))(z)
        close(jaxfd.grad(fun, holomorphic=True)(z), exact, tol)
        exact = jax.jit(jax.jacrev(vector, holomorphic=True))(z)
        close(jaxfd.jacobian(vector, holomorphic=True)(z), exact, tol)

    def test_real_to_complex(self):
        x = jnp.asarray([0.3, 0.7])

        def fun(x):
            return jax.lax.complex(jnp.cos(x) * x[0], x * x[1])

        close(jaxfd.jacobian(fun)(x), jax.jit(jax.jacfwd(fun))(x), 1e-9)

    def test_jvp(self):
        z, tangent = jnp.asarray(self.z), jnp.asarray([1.0 + 2.0j, -0.5j])

        def fun(z):
            return z * jnp.conj(z[0]) + z**2

        # One program compiles faster than each operation by itself.
        found = jax.jit(lambda z: jaxfd.jvp(fun, (z,), (tangent,)))(z)
        close(found, jax.jit(lambda z: jax.jvp(fun, (z,), (tangent,)))(z), 1e-8)

    def test_an_infinite_part_leaves_other_entries_alone(self):
        z = jnp.asarray(np.array([complex(1.0, np.inf), complex(2.0, 1.0)]))
        found = jaxfd.grad(lambda z: jnp.sum(z.real**2))(z)
        np.testing.assert_allclose(found[1], 4.0, rtol=1e-8)


def test_grad_of_integer_arguments_is_float0():
    def fun(x, n):
        return jnp.sum(x**2) * n

    x, n = jnp.asarray([1.0, 2.0]), jnp.asarray(3.0)
    found = jaxfd.grad(
        lambda t: fun(t["x"], n) + 0.0 * t["n"][0].astype(np.float64), allow_int=True
    )
    tree = {"x": x, "n": jnp.asarray([1, 2])}
    gradient = found(tree)
    assert gradient["n"].dtype == jax.dtypes.float0
    assert gradient["n"].shape == (2,)
    np.testing.assert_allclose(gradient["x"], [6.0, 12.0], rtol=1e-9)
    compiled = jax.jit(lambda t: found(t)["x"])(tree)
    np.testing.assert_allclose(compiled, [6.0, 12.0], rtol=1e-9)


def test_estimate_prints_a_table():
    text = str(jaxfd.estimate(lambda x: x["a"] ** 2 + jnp.sum(x["b"]))({"a": 3.0, "b": np.ones(2)}))
    assert "(13 evaluations)" in text
    assert [line.split()[0] for line in text.splitlines()[2:]] == ["a", "b[0]", "b[1]"]


def test_estimate_passes_through_jit_and_vmap():
    result = jax.jit(jax.vmap(jaxfd.estimate(lambda x: x**3)))(jnp.asarray([1.0, 2.0]))
    np.testing.assert_array_equal(result.evaluations, [9, 9])
    np.testing.assert_allclose(result.grad, [3.0, 12.0], rtol=1e-9)
    np.testing.assert_allclose(result.value, [1.0, 8.0])
    assert np.all(np.abs(result.grad - np.array([3.0, 12.0])) <= result.error)
