"""Complex steps: what takes the imaginary part away is found, and nothing else is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd

MATRIX = np.diag([4.0, 5.0, 6.0]) + np.arange(9.0).reshape(3, 3) / 10


def _along(x, other):
    """A constant in the dtype that points have."""
    return jnp.asarray(other).astype(np.promote_types(x.dtype, np.asarray(other).dtype))


def _scanned(x):
    return jax.lax.scan(lambda c, _: ((c[1], jnp.conj(c[1])), None), (x, x), length=3)[0][0].sum()


def _turned_in_a_branch(x):
    return jax.lax.cond(x[0].real > 0, lambda x: x[0] * jnp.conj(x[1]), lambda x: x[0], x)


def _turned_in_a_while(x):
    def step(state):
        return state[0] + 1, state[1] * jnp.conj(state[1])

    return jax.lax.while_loop(lambda state: state[0] < 2, step, (0, x[0]))[1]


def _waved(x):
    return jnp.sum(jnp.fft.ifft(jnp.fft.fft(x) * 2.0) ** 2)


def _factored(x):
    lower = jnp.linalg.cholesky(_along(x, MATRIX @ MATRIX.T) + jnp.diag(x))
    return jnp.sum(lower)


class TestComplexStep:
    """What takes the imaginary part away is found, and nothing else is refused."""

    x = np.array([0.3, 1.2, 0.7])

    @pytest.mark.parametrize(
        ("fun", "what"),
        [
            (lambda x: jnp.vdot(x, x), "conj"),
            (lambda x: jnp.sum(x * jnp.conj(x)), "conj"),
            (lambda x: jnp.sum(x * jnp.abs(x)), "abs"),
            (lambda x: jnp.sum(x * jnp.sign(x)), "sign"),
            (lambda x: jnp.sum(x * x.real.astype(x.dtype)), "real"),
            (lambda x: jnp.sum(x + jnp.angle(x).astype(x.dtype)), r"imag \(in angle\)"),
            (lambda x: jnp.var(x) + x[0], r"conj \(in _?var\)"),
            (lambda x: jnp.linalg.norm(x) * x[0], r"conj \(in norm\)"),
            (lambda x: jnp.sum(jax.nn.softplus(x)), r"\w+ \(in softplus\)"),
            (lambda x: jnp.convolve(x, x)[1], r"conv_general_dilated \(in"),
            (jax.jit(lambda x: jax.jit(lambda x: jnp.conj(x))(x).sum()), "conj"),
            (jax.checkpoint(lambda x: jnp.conj(x).sum()), "conj"),
            (_scanned, "conj"),
            (_turned_in_a_branch, "conj"),
            (_turned_in_a_while, "conj"),
            (_waved, "fft"),
            (_factored, "conj"),
        ],
    )
    def test_refused(self, fun, what):
        slope = jaxfd.grad(fun, method=jaxfd.ComplexStep())
        wanted = pytest.raises(TypeError, match=rf"needs an analytic .* applies {what}")
        with jax.numpy_dtype_promotion("standard"), wanted:
            slope(self.x)

    def test_refused_by_every_door(self):
        def fun(x):
            return jnp.vdot(x, x)

        step, x = jaxfd.ComplexStep(), jnp.asarray(self.x)
        hooked = [jaxfd.differentiable(fun, method=step, mode=m) for m in ("reverse", "recompute")]
        for use in (
            lambda: jax.jit(jaxfd.value_and_grad(fun, method=step))(x),
            lambda: jaxfd.jacobian(fun, method=step)(x),
            lambda: jaxfd.jvp(fun, (x,), (x,), method=step),
            lambda: jaxfd.derivative(lambda t: t * jnp.conj(t), method=step)(1.0),
            *(lambda f=f: jax.grad(f)(x) for f in hooked),
        ):
            with pytest.raises(TypeError, match=r"applies conj .*Use Central\(\)"):
                use()

    def test_turned_inside_of_custom_rules(self):
        @jax.custom_vjp
        def square(x):
            return x * jnp.conj(x)

        square.defvjp(lambda x: (square(x), x), lambda x, ct: (2 * x * ct,))
        with pytest.raises(TypeError, match="applies conj"):
            jaxfd.grad(lambda x: square(x).sum(), method=jaxfd.ComplexStep())(self.x)

    @pytest.mark.parametrize(
        "fun",
        [
            lambda x: jnp.sum(jnp.where(x > 0.5, x**2, -x)),
            lambda x: jnp.sum(jnp.where(jnp.abs(x) > 0.5, x**2, -x)),
            lambda x: x[jnp.argmax(jnp.abs(x))] ** 2,
            lambda x: jnp.sum(jnp.sort(x) * _along(x, [1.0, 2.0, 3.0])),
            lambda x: jax.lax.sort((jnp.abs(x), x), num_keys=1)[1][0],
            lambda x: jnp.sum(x * jnp.sign(x.real).astype(x.dtype)),
            lambda x: jnp.sum(x - jnp.floor(x.real).astype(x.dtype)),
            lambda x: jnp.vdot(_along(x, [1.0, 2.0, 3.0]), x) * jnp.abs(_along(x, -2.0)),
            lambda x: jnp.sum(jax.nn.relu(x) * jax.nn.gelu(x)) + jax.nn.logsumexp(x),
            lambda x: jnp.linalg.det(_along(x, MATRIX) + jnp.diag(x)),
            lambda x: jnp.sum(jnp.linalg.solve(_along(x, MATRIX) + jnp.diag(x), x)),
            lambda x: jnp.sum(jax.scipy.linalg.expm(_along(x, MATRIX) / 10 + jnp.diag(x))),
            lambda x: jnp.sum(jnp.nan_to_num(x) ** 2),
            lambda x: jax.lax.complex(x[0].real, x[0].imag) ** 2,
            lambda x: jax.lax.scan(lambda c, a: (c * a, jnp.abs(c)), x[0], x)[0],
            lambda x: jax.lax.while_loop(lambda c: jnp.abs(c) < 9, lambda c: c * c + 1, x[0]),
        ],
    )
    def test_taken(self, fun):
        with jax.numpy_dtype_promotion("standard"):
            found = jaxfd.grad(fun, method=jaxfd.ComplexStep())(self.x)
            exact = jax.jacfwd(lambda x: fun(x.astype(np.complex128)).real)(self.x)
        np.testing.assert_allclose(found, exact, rtol=1e-8)

    def test_of_constant_arguments(self):
        def fun(x, data):
            return jnp.sum(x * x) * jnp.vdot(data, data).real.astype(x.dtype)

        found = jaxfd.grad(fun, method=jaxfd.ComplexStep())(self.x, self.x * (1 + 1j))
        np.testing.assert_allclose(found, 4 * self.x * np.sum(self.x**2), rtol=1e-12)
        hooked = jaxfd.differentiable(lambda x: fun(x, _along(x, 1j)), method=jaxfd.ComplexStep())
        np.testing.assert_allclose(jax.grad(hooked)(jnp.asarray(self.x)), 2 * self.x, rtol=1e-12)

    def test_auxiliary_data_may_be_anything(self):
        def fun(x):
            return jnp.sum(x * x), jnp.abs(x)

        found, _ = jaxfd.grad(fun, has_aux=True, method=jaxfd.ComplexStep())(self.x)
        np.testing.assert_allclose(found, 2 * self.x, rtol=1e-12)
