"""Numbers that must be right: steps, rounding, exactness, and what compilers do to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import METHODS, REAL_METHODS, Host, name, run_python

import jaxfd
from jaxfd import Backward, Central, ComplexStep, Forward, Relative

LARGE = np.array([1e6, 2e6, 3e6, 4e6], np.float32)


def square(x):
    return jnp.sum(x**2)


def double(x):
    return 2 * x


def exact(found, wanted):
    """Right to the last place: XLA's division is not always rounded to the nearest number."""
    np.testing.assert_allclose(found, wanted, rtol=1.5 * float(jnp.finfo(found.dtype).eps), atol=0)


class TestLargeNumbers:
    """In float32 a number of 1e6 does not move by less than 1/16."""

    @pytest.mark.parametrize("outer", [lambda f: f, jax.jit], ids=["eager", "jit"])
    @pytest.mark.parametrize(
        "method", [Central(), Central(4), Forward(), Backward(2), ComplexStep()], ids=name
    )
    def test_sum_of_squares(self, method, outer):
        found = outer(jaxfd.grad(square, method=method))(LARGE)
        # What rounding of the two values makes of the slope, or less: compilers differ in that.
        step = jaxfd.estimate(square, method=method)(LARGE).step
        rounding = np.spacing(square(LARGE)) / step
        np.testing.assert_array_less(abs(found - 2 * LARGE), np.maximum(1e-3 * 2 * LARGE, rounding))

    def test_through_the_hook(self):
        for mode in ("reverse", "forward", "recompute"):
            hooked = jaxfd.differentiable(square, mode=mode)
            np.testing.assert_allclose(jax.grad(hooked)(LARGE), 2 * LARGE, rtol=2e-3)

    @pytest.mark.parametrize("step", [1e-4, 1e-12, 0.02])
    @pytest.mark.parametrize("method", [Central, Forward, Backward])
    def test_a_step_too_small_to_move_x(self, method, step):
        """Not a gradient of zeros: the smallest step that moves x, and the estimate says so."""
        slope = jaxfd.jacobian(double, method=method(step=step))
        for run in (slope, jax.jit(slope)):  # the compiler knows the step
            np.testing.assert_array_equal(run(LARGE), 2 * np.eye(4))
        taken = jaxfd.estimate(double, method=method(step=step))(LARGE).step
        assert np.all((taken >= np.spacing(LARGE)) & (taken <= 2 * np.spacing(LARGE)))

    def test_a_step_of_which_half_is_lost(self):
        """What is divided by is the distance that was moved, not the one that was asked for."""
        for step in (0.04, 0.06, 0.1):
            gradient = jaxfd.jacobian(double, method=Central(step=step))
            for run in (gradient, jax.jit(gradient)):  # the compiler knows the step
                assert np.asarray(run(LARGE[:1]))[0, 0] == 2.0

    @pytest.mark.parametrize("rel", [1e-9, 1e-12])
    def test_a_relative_step_too_small_to_move_x(self, rel):
        """NaN says so; a gradient of zeros would not."""
        gradient = jaxfd.grad(square, method=Central(step=Relative(rel=rel)))
        for run in (gradient, jax.jit(gradient)):
            found = run(LARGE)
            assert np.all(np.isnan(found) | np.isclose(found, 2 * LARGE, rtol=1e-3))

    def test_products_with_a_step_too_small(self):
        x = jnp.asarray(LARGE)
        _, slope = jaxfd.jvp(square, (x,), (jnp.ones_like(x),), method=Central(step=1e-4))
        np.testing.assert_allclose(slope, np.sum(2 * LARGE), rtol=1e-3)

    def test_within_bounds(self):
        slope = jaxfd.jacobian(double, bounds=(1e6, 4e6), method=Central(step=1e-4))
        np.testing.assert_array_equal(slope(LARGE), 2 * np.eye(4))

    def test_black_box(self):
        box = jaxfd.blackbox(lambda x: 2 * x, jax.ShapeDtypeStruct((4,), np.float64))
        slope = jaxfd.jacobian(box, method=Central(step=1e-4))
        for x in (LARGE, LARGE * np.float32(1e9)):
            np.testing.assert_allclose(slope(x), 2 * np.eye(4), rtol=1e-7, atol=0)

    def test_any_scale(self, dtype):
        jacobian = jaxfd.jacobian(lambda x: 4 * x)
        for scale in (1e-30, 1e-10, 1.0, 1e10, 1e30):
            exact(jacobian(jnp.asarray([-scale, scale, 0.0], dtype)), 4 * np.eye(3))


class TestExactness:
    """Distances are those really moved, so that linear functions are differentiated exactly."""

    X = np.random.default_rng(0).normal(size=50) * 10.0 ** np.arange(-25, 25)

    @pytest.mark.parametrize("method", [Forward(), Backward(), Central()], ids=name)
    @pytest.mark.parametrize("outer", [lambda f: f, jax.jit], ids=["eager", "jit"])
    def test_linear(self, method, outer, dtype):
        """Powers of two, whose products are not rounded."""
        x = jnp.asarray(self.X, dtype)
        found = outer(jaxfd.jacobian(lambda x: -2 * x, method=method))(x)
        exact(found, -2 * np.eye(50))

    @pytest.mark.parametrize("method", REAL_METHODS, ids=name)
    def test_linear_to_a_few_ulps_in_any_order(self, method):
        x = jnp.asarray(self.X[20:30])
        found = jaxfd.jacobian(lambda x: -2 * x, method=method)(x)
        eps = float(np.finfo(np.float64).eps)
        weight = sum(abs(float(w)) for w in method.stencil().weights)
        np.testing.assert_allclose(found, -2 * np.eye(10), rtol=8 * weight * eps, atol=0)

    @pytest.mark.parametrize("low", [jnp.float16, jnp.bfloat16], ids=["float16", "bfloat16"])
    def test_linear_in_16_bits(self, low):
        x = jnp.asarray([0.1, 1.3, -300.0, 7e-3, 0.0], low)
        for method in (Forward(), Central()):
            found = jax.jit(jaxfd.jacobian(double, method=method))(x)
            np.testing.assert_array_equal(found.astype(np.float32), 2 * np.eye(5))

    def test_along_a_tangent(self, dtype):
        x = jnp.asarray([0.1, 1.3, -300.0], dtype)
        run = jax.jit(lambda x, v: jaxfd.jvp(double, (x,), (v,))[1])
        for tangent in np.eye(3, dtype=dtype):
            np.testing.assert_array_equal(run(x, tangent), 2 * tangent)

    def test_on_the_host(self):
        x = self.X[20:30]
        out = jax.ShapeDtypeStruct((10,), np.float64)
        for method in (Forward(), Central()):
            found = jaxfd.jacobian(jaxfd.blackbox(lambda x: -2 * x, out), method=method)(x)
            np.testing.assert_array_equal(found, -2 * np.eye(10))

    @pytest.mark.parametrize("method", METHODS, ids=name)
    def test_constants_give_zero(self, method):
        """Exactly, however large the constant: whole functions and single coordinates."""
        x = jnp.asarray([0.1, 1.3, -300.0], np.float32)

        def fun(x):
            return jnp.stack([jnp.full_like(x[0], 1e30), x[0] + 1e7])

        found = jaxfd.jacobian(fun, method=method)(x)
        np.testing.assert_array_equal(found[0], np.zeros(3))
        np.testing.assert_array_equal(found[1, 1:], np.zeros(2))

    @pytest.mark.parametrize("options", [{}, {"chunk_size": 1}, {"bounds": (-1e3, 1e3)}], ids=str)
    def test_function_that_does_not_look_at_its_argument(self, options):
        x = jnp.asarray([0.1, 1.3])
        for constant in (3.0, np.float64(3.0), jnp.asarray(3.0)):
            fun = lambda x, c=constant: c  # noqa: E731
            value, gradient = jaxfd.value_and_grad(fun, **options)(x)
            assert float(value) == 3.0
            np.testing.assert_array_equal(gradient, np.zeros(2))
            np.testing.assert_array_equal(jaxfd.grad(fun, **options)(x), np.zeros(2))

    def test_constant_with_auxiliary_data_and_in_other_transforms(self):
        x = jnp.asarray([0.1, 1.3])
        gradient, aux = jaxfd.grad(lambda x: (3.0, 2.0), has_aux=True)(x)
        np.testing.assert_array_equal(gradient, np.zeros(2))
        assert float(aux) == 2.0
        for method in (Central(), Forward()):
            np.testing.assert_array_equal(jaxfd.hessian(lambda x: 3.0, method=method)(x), 0.0)
            value, slope = jaxfd.jvp(lambda x: 3.0, (x,), (x,), method=method)
            assert (float(value), float(slope)) == (3.0, 0.0)
            found = jaxfd.hvp(lambda x: 3.0, (x,), (x,), method=method)
            np.testing.assert_array_equal(found, np.zeros(2))
        for mode in ("reverse", "forward", "recompute"):
            hooked = jaxfd.differentiable(lambda x: 3.0, mode=mode)
            np.testing.assert_array_equal(jax.grad(hooked)(x), np.zeros(2))

    def test_zero_tangent(self):
        x = jnp.asarray([0.1, 1.3])
        value, slope = jaxfd.jvp(square, (x,), (jnp.zeros(2),))
        np.testing.assert_allclose(value, square(x), rtol=1e-15)
        assert float(slope) == 0.0
        np.testing.assert_array_equal(jaxfd.hvp(square, (x,), (jnp.zeros(2),)), np.zeros(2))


class TestCompiler:
    def pairs(self, s):
        return [
            jnp.sum(jnp.log1p(s) - jnp.log1p(-s), 0),
            jnp.sum(jnp.expm1(s) - jnp.expm1(-s), 0),
        ]

    def test_differences_survive_jit(self, dtype):
        """What jax 0.10.2 computes as 0 on CPU (jax-ml/jax#39103)."""
        s = jnp.asarray(np.random.default_rng(0).uniform(0.1, 0.9, (128, 32)), dtype)
        exact = np.asarray(s, np.float64)
        wanted = [np.sum(np.log1p(exact) - np.log1p(-exact), 0), np.sum(2 * np.sinh(exact), 0)]
        for found in (self.pairs(s), jax.jit(self.pairs)(s)):
            np.testing.assert_allclose(found, wanted, rtol=1e-5)

    def test_the_same_in_an_estimate(self, dtype):
        s = jnp.asarray(np.random.default_rng(0).uniform(0.1, 0.9, 32), dtype)
        scale = jnp.asarray(np.linspace(0.5, 1.0, 128), dtype)[:, None]

        def odd(s):
            return jnp.sum(jnp.log1p(scale * s) - jnp.log1p(-scale * s), 0)

        exact = jnp.diag(jax.jacfwd(odd)(s))
        for run in (jaxfd.jacobian(odd), jax.jit(jaxfd.jacobian(odd))):
            tol = 300 * float(jnp.finfo(dtype).eps) ** (2 / 3)
            np.testing.assert_allclose(jnp.diag(run(s)), exact, rtol=tol)

    def test_a_version_that_computes_wrongly_is_warned_of(self):
        code = """
import jax, sys, warnings
import importlib.metadata
for version in ("0.10.2", "0.10.1"):
    for name in [name for name in sys.modules if name.split(".")[0] == "jaxfd"]:
        del sys.modules[name]
    importlib.metadata.version = lambda package: version
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import jaxfd
    print(len([w for w in caught if "0.10.2" in str(w.message)]))
"""
        assert run_python(code).split() == ["1", "0"]

    @pytest.mark.parametrize("method", [Central(), Forward(3)], ids=name)
    def test_points_and_distances_belong_together(self, method, dtype):
        """Each difference is divided by what lies between the very points that were evaluated."""
        seen = []

        def fun(x):
            jax.debug.callback(lambda v: seen.append(np.asarray(v)), x)
            return x

        x = jnp.asarray([0.1, 1.3, -7.7], dtype)
        result = jax.jit(jaxfd.jacobian(fun, method=method))(x)
        jax.effects_barrier()
        points = np.stack(seen)
        assert points.dtype == dtype
        np.testing.assert_allclose(result, np.eye(3), rtol=4e-6, atol=0)
        # Every point is off the axis by a distance that x + h and x - h can represent.
        for i in range(3):
            moved = points[points[:, i] != x[i], i]
            assert len(moved) == len(method.stencil().moving)

    def test_steps_are_exact(self, dtype):
        x = jnp.asarray([0.1, 1.3, -7.7, 1e6], dtype)
        estimated = jaxfd.estimate(square)
        for result in (estimated(x), jax.jit(estimated)(x)):
            np.testing.assert_array_equal((np.asarray(x) + result.step) - x, result.step)

    def test_matrix_products_are_made_in_full_precision(self):
        """The narrow default of accelerators would drown a difference."""
        seen = []

        def fun(x):
            seen.append(jax.config.jax_default_matmul_precision)
            return jnp.sum((x @ x) @ x)

        matrix = jnp.eye(2)
        jaxfd.grad(fun)(matrix)
        assert seen == ["highest"]
        text = str(jax.make_jaxpr(jaxfd.grad(fun, chunk_size=1))(matrix))
        assert "HIGHEST" in text
        assert jax.config.jax_default_matmul_precision is None

    def test_unless_the_function_says_otherwise(self):
        def fun(x):
            with jax.default_matmul_precision("bfloat16"):
                return jnp.sum(x @ x)

        text = str(jax.make_jaxpr(jaxfd.grad(fun, chunk_size=1))(jnp.eye(2)))
        assert "HIGHEST" not in text

    @pytest.mark.parametrize("transform", [jaxfd.grad, jaxfd.value_and_grad])
    def test_memory(self, transform):
        """20,000 numbers: 40,000 points are 3.2 GB if they are all made."""

        def rosenbrock(x):
            return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)

        x = jax.ShapeDtypeStruct((20_000,), np.float32)
        compiled = jax.jit(transform(rosenbrock)).lower(x).compile()
        assert compiled.memory_analysis().temp_size_in_bytes <= 32e6


class TestManyPoints:
    def test_sums_along_a_tangent_in_16_bits(self):
        """A sum in float16 stops growing at 2048."""
        x = jnp.ones(5000, jnp.float16)
        fun = lambda x: jnp.sum(x.astype(np.float32))  # noqa: E731
        _, slope = jaxfd.jvp(fun, (x,), (x,))
        np.testing.assert_allclose(slope, 5000.0, rtol=1e-2)

    def test_contraction_in_the_hook(self):
        """J t over 5000 columns of float16."""
        x = jnp.ones(5000, jnp.float16)
        hooked = jaxfd.differentiable(lambda x: jnp.sum(x.astype(np.float32)))
        _, slope = jax.jvp(hooked, (x,), (x,))
        np.testing.assert_allclose(slope, 5000.0, rtol=2e-2)

    def test_many_coordinates(self, dtype):
        x = jnp.asarray(np.random.default_rng(0).normal(size=2000), dtype)
        found = jax.jit(jaxfd.grad(square))(x)
        # The sum itself is rounded: to 1e-7 of 2000, over a step of 5e-3.
        tol = 40 * 2000 * float(jnp.finfo(dtype).eps) ** (2 / 3)
        np.testing.assert_allclose(found, 2 * x, atol=tol)
        assert found.dtype == dtype


class TestStepOnTheHost:
    def test_realised(self):
        """Points are x and x plus a distance that float64 holds exactly."""
        host = Host(lambda x: np.sum(x, -1))
        box = jaxfd.blackbox(host, jax.ShapeDtypeStruct((), np.float64), vectorized=True)
        x = np.array([0.1, 1e6, -7.7])
        result = jaxfd.estimate(box)(x)
        (points,) = host.calls
        steps = np.max(points[:7] - x, axis=0)  # the other six tell how wide the bar is
        np.testing.assert_array_equal(steps, result.step)
        np.testing.assert_array_equal((x + steps) - x, steps)
