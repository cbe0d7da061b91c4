"""Complex steps of functions that are not real, or not analytic: refused, or NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd
from jaxfd import ComplexStep

OUT = jax.ShapeDtypeStruct((), np.complex128)
X = np.array([1.3, 2.0])
STEP = ComplexStep()


class TestBlackBoxes:
    @pytest.mark.parametrize(
        "fun",
        [
            np.linalg.norm,
            lambda z: np.sum(np.abs(z)) + 0j,
            lambda z: np.sum(np.conj(z)),
            lambda z: np.sum(z * np.abs(z)),
            lambda z: np.vdot(z, z),
            lambda z: complex(z[0].real ** 2, z[1].imag),
        ],
    )
    def test_not_analytic(self, fun):
        box = jaxfd.blackbox(fun, OUT)
        with pytest.raises(ValueError, match=r"ComplexStep needs an analytic .* Use Central\(\)"):
            jaxfd.grad(box, method=STEP)(X)

    @pytest.mark.parametrize(
        "fun",
        [
            lambda z: np.sin(z[0]) + 3e-3 * np.abs(z[1]),
            lambda z: 1e5 * z[0] ** 2 + 9.81 * np.linalg.norm(z),
            lambda z: np.exp(z[0]) + 1e-3 * np.conj(z[1]),
            lambda z: z[0] ** 3 + 1e-4 * z[1].real,
            lambda z: 1e3 + z[0] + 0.1 * np.sqrt(np.abs(z[1])),
            lambda z: np.sin(100 * z[0]) + 0.01 * np.abs(z[1]),
        ],
    )
    def test_a_small_part_is_not_analytic(self, fun):
        with pytest.raises(ValueError, match="ComplexStep needs an analytic"):
            jaxfd.grad(jaxfd.blackbox(fun, OUT), method=STEP)(X)

    @pytest.mark.parametrize(
        ("fun", "slope"),
        [
            (lambda z: np.exp(1e6 * (z - 1.3)), 1e6),
            (lambda z: 1 / (z - 1.3001), -1e8),
            (lambda z: (z - 1.3) ** 2, 0.0),  # nothing but curvature
            (lambda z: np.sin(1e4 * (z - 1.3)), 1e4),
            (lambda z: 1e8 + z * z, 2.6),
            (lambda z: complex(np.complex64(z * z)), 2.6),  # rounded inside
        ],
    )
    def test_steep_curved_or_rounded(self, fun, slope):
        found = jaxfd.grad(jaxfd.blackbox(fun, OUT), method=STEP)(1.3)
        np.testing.assert_allclose(found, slope, rtol=1e-6)

    def test_inside_of_a_program(self):
        box = jaxfd.blackbox(lambda z: np.sum(np.abs(z)) + 0j, OUT)
        assert np.isnan(jaxfd.grad(lambda x: 2.0 * box(x), method=STEP)(X)).all()
        assert np.isnan(jaxfd.jvp(lambda x: box(x), (X,), (X,), method=STEP)[1])

    @pytest.mark.parametrize(
        ("fun", "x", "slope"),
        [
            (lambda z: np.sum(np.exp(z) * z), X, np.exp(X) * (1 + X)),
            (lambda z: 3.0, X, [0.0, 0.0]),
            # What is narrow, tiny, or disturbed beside x is not called wrong.
            (lambda z: np.sin((z - 2457958.47) / 0.5), 2457958.47, 2.0),
            (lambda z: np.exp(-z / 1e-14), 3e-14, -np.exp(-3.0) * 1e14),
        ],
    )
    def test_analytic(self, fun, x, slope):
        box = jaxfd.blackbox(fun, OUT)
        np.testing.assert_allclose(jaxfd.grad(box, method=STEP)(x), slope, rtol=1e-8)

    def test_disturbed(self):
        noise = np.random.default_rng(0)
        box = jaxfd.blackbox(lambda z: np.sum(z * z) * (1 + 1e-9 * noise.normal()), OUT)
        np.testing.assert_allclose(jaxfd.grad(box, method=STEP)(X), 2 * X, rtol=1e-6)

    def test_evaluations(self):
        points = []

        def fun(z):
            points.append(z.copy())
            return np.sum(z * np.sqrt(z))

        box = jaxfd.blackbox(fun, OUT)
        jaxfd.grad(box, method=STEP, bounds=(0.0, 2.0))(X)
        assert len(points) == 4  # one for each entry, at x, and beside it
        assert all((p.real >= 0).all() and (p.real <= 2).all() for p in points)

    def test_declared_real(self):
        box = jaxfd.blackbox(lambda z: np.sum(z), jax.ShapeDtypeStruct((), np.float64))
        with pytest.raises(TypeError, match=r"declare jax.ShapeDtypeStruct\(shape, complex\)"):
            jaxfd.grad(box, method=STEP)(X)


OUTSIDE = {
    "sqrt": jnp.sqrt,
    "log": jnp.log,
    "a small log": lambda x: 1e-30 * jnp.log(x),
    "arcsin": jnp.arcsin,
    "power": lambda x: jnp.power(x, jnp.asarray(1 / 3, x.dtype)),
}


class TestOutsideOfTheRealDomain:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("case", OUTSIDE)
    def test_nan(self, case, dtype):
        fun, x = OUTSIDE[case], jnp.asarray(-2.0, dtype)
        assert np.isnan(jaxfd.grad(fun, method=STEP)(x))
        assert np.isnan(jax.jit(jaxfd.value_and_grad(fun, method=STEP))(x)[1])

    def test_other_outputs(self):
        def fun(x):
            return jnp.stack([jnp.sqrt(x[1]), x[0] * x[1]])

        x = jnp.array([1.0, -2.0])
        found = jax.vmap(jaxfd.jacobian(fun, method=STEP))(jnp.stack([x, -x]))
        np.testing.assert_array_equal(np.isnan(found[0]), [[True, True], [False, False]])
        np.testing.assert_allclose(found[1], [[0, 0.5 / 2**0.5], [2, -1]], rtol=1e-12)
        tangent = jaxfd.jvp(fun, (x,), (x,), method=STEP)[1]
        np.testing.assert_array_equal(np.isnan(tangent), [True, False])

    def test_a_black_box(self):
        box = jaxfd.blackbox(lambda z: np.sqrt(z[0] - 5.0) + z[1], OUT)
        assert np.isnan(jaxfd.grad(box, method=STEP)(X)).all()

    def test_a_root_is_no_such_place(self):
        found = jaxfd.grad(lambda x: 1e30 * (x - 1.0), method=STEP)(1.0)
        np.testing.assert_allclose(found, 1e30)


class TestPutTogetherByHand:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize(
        "fun",
        [
            lambda x: jax.lax.complex(x.real**2, x.imag),
            lambda x: jax.lax.complex(x.real, 2 * x.imag),
            lambda x: jnp.sin(jax.lax.complex(jnp.sin(x.real), x.imag)),
            lambda x: jax.lax.complex(x.real, x.imag[::-1]) * jnp.asarray([1, 9], x.dtype),
        ],
    )
    def test_wrongly(self, fun, dtype):
        x = jnp.asarray(X, dtype)
        assert np.isnan(jaxfd.grad(lambda x: jnp.sum(fun(x)), method=STEP)(x)).all()

    def test_rightly(self):
        def product(x):
            a, b = x[0], x[1]
            return jax.lax.complex(
                a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real
            )

        np.testing.assert_allclose(jaxfd.grad(product, method=STEP)(X), X[::-1], rtol=1e-12)
