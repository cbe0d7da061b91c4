"""Second derivatives: noise noticed and searched through, walls, bars, and what all of it costs.

Most functions are black boxes of NumPy: the host runs the lines of a kernel, and compiles nothing.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import Host, Points, close, x64

import jaxfd
from jaxfd import Adaptive, Central, Forward

SCALAR = jax.ShapeDtypeStruct((), np.float64)
PAIR = {"wave": jax.ShapeDtypeStruct((2,), np.float64), "size": SCALAR}
X = np.array([0.3, 0.7, 1.2])
V = np.array([1.0, -2.0, 0.5])
LOW, HIGH = np.triu_indices(3)


def smooth(x):
    return np.exp(x[..., 0]) * np.sin(x[..., 1]) + x[..., 2] ** 2 * x[..., 0]


def traced(x):
    return jnp.exp(x[0]) * jnp.sin(x[1]) + x[2] ** 2 * x[0]


def hessian_of_smooth(x=X):
    a, b, c = x
    own, mixed = np.exp(a) * np.sin(b), np.exp(a) * np.cos(b)
    return np.array([[own, mixed, 2 * c], [mixed, -own, 0.0], [2 * c, 0.0, 2 * a]])


def noisy(level, fun=smooth, seed=0):
    """A function with relative noise of its own at every call."""
    rng = np.random.default_rng(seed)
    return lambda x: fun(x) * (1 + level * rng.standard_normal(np.shape(x)[:-1]))


@functools.cache
def _shared_box():
    host = Host(None)
    return host, jaxfd.blackbox(host, SCALAR, vectorized=True)


def box_of(fun):
    """The host of a function, and its box: the same for all functions, so that it is traced once.

    It evaluates the function that was given last.
    """
    host, box = _shared_box()
    host.fun = fun
    host.taken()
    return host, box


def off(found, exact):
    return np.max(np.abs(np.asarray(found) - exact)) / np.max(np.abs(exact))


class TestSearched:
    """`Adaptive` in second derivatives."""

    @pytest.mark.parametrize("level", [0.0, 1e-8, 1e-6, 1e-4])
    def test_hessian_with_noise(self, level):
        host, box = box_of(noisy(level))
        found = jaxfd.hessian(box, method=Adaptive())(X)
        assert off(found, hessian_of_smooth()) <= 1e-11 + 100 * level**0.9
        assert host.evaluations <= 1 + 60 * 3 + 96 * 3
        np.testing.assert_array_equal(found, np.asarray(found).T)

    def test_a_smooth_one_costs_what_is_said(self):
        host, box = box_of(smooth)
        found = jaxfd.estimate(box, derivative=2, method=Adaptive())(X)
        assert found.evaluations == host.evaluations == 1 + 24 * 3 + 32 * 3

    @pytest.mark.parametrize("level", [0.0, 1e-7])
    def test_the_diagonal_and_a_product(self, level):
        exact = hessian_of_smooth()
        _, box = box_of(noisy(level))
        diagonal = jaxfd.hessian_diagonal(box, method=Adaptive())(X)
        assert off(diagonal, np.diag(exact)) <= 1e-11 + 1000 * level
        product = jaxfd.hvp(box, (jnp.asarray(X),), (jnp.asarray(V),), method=Adaptive())
        assert off(product, exact @ V) <= 1e-11 + 1000 * level

    @pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 6])
    def test_orders_of_one_variable(self, order):
        box = jaxfd.blackbox(np.sin, SCALAR, vectorized=True)
        found = jaxfd.derivative(box, order, method=Adaptive())(1.1)
        assert abs(float(found) - np.sin(1.1 + order * np.pi / 2)) <= 1e-14 * 30**order

    def test_of_a_tree_and_of_several_outputs(self):
        out = {"a": jax.ShapeDtypeStruct((2,), np.float64), "b": SCALAR}

        def fun(p):
            return {"a": np.stack([np.exp(p["u"]), p["v"][1] ** 2]), "b": p["u"] * p["v"][0]}

        p = {"u": np.float64(0.4), "v": np.array([1.0, 2.0])}
        found = jaxfd.hessian(jaxfd.blackbox(fun, out), method=Adaptive())(p)
        assert found["a"]["u"]["v"].shape == (2, 2)
        np.testing.assert_allclose(found["a"]["u"]["u"], [np.exp(0.4), 0.0], atol=1e-10)
        np.testing.assert_allclose(found["a"]["v"]["v"][1], [[0, 0], [0, 2]], atol=1e-10)
        np.testing.assert_allclose(found["b"]["u"]["v"], [1.0, 0.0], atol=1e-10)

    def test_repeats(self):
        host, box = box_of(noisy(1e-4))
        found = jaxfd.estimate(box, derivative=2, method=Adaptive(repeats=3))(X)
        assert found.evaluations == host.evaluations
        assert off(found.hessian, hessian_of_smooth()) < 0.05

    def test_a_kink_and_a_jump_are_not_known(self):
        for fun in (lambda x: np.abs(x[..., 0] - 0.3), lambda x: (x[..., 0] > 0.3) * 1.0):
            _, box = box_of(lambda x, f=fun: f(x) + smooth(x))
            error = np.asarray(jaxfd.estimate(box, derivative=2, method=Adaptive())(X).error)
            assert np.isinf(error[0]).all()
            assert np.isfinite(error[1:, 1:]).all()

    def test_in_a_kernel(self):
        """As on the host, eagerly, under jit and mapped: one compilation for all."""
        batch = jnp.stack([jnp.asarray(X), jnp.asarray(X) + 0.25])
        estimate = jax.jit(jax.vmap(jaxfd.estimate(traced, derivative=2, method=Adaptive())))
        found = estimate(batch)
        exact = np.stack([hessian_of_smooth(x) for x in np.asarray(batch)])
        assert np.all(np.abs(found.hessian - exact) <= np.asarray(found.error))
        assert off(found.hessian, exact) < 1e-10
        _, box = box_of(smooth)
        other = jax.vmap(jaxfd.estimate(box, derivative=2, method=Adaptive()))(batch)
        np.testing.assert_array_equal(found.evaluations, other.evaluations)
        np.testing.assert_allclose(found.hessian, other.hessian, atol=1e-10)

    def test_float32(self):
        with x64(False):
            x = jnp.asarray(X, np.float32)
            found = jaxfd.estimate(traced, derivative=2, method=Adaptive())(x)
            assert found.hessian.dtype == found.error.dtype == np.float32
            exact = hessian_of_smooth(np.asarray(x, np.float64))
            assert np.all(np.abs(np.asarray(found.hessian, np.float64) - exact) <= found.error)
            assert off(found.hessian, exact) < 1e-3


class TestNoticed:
    """The default step of a black box drowns in noise, and another is taken unasked."""

    @pytest.mark.parametrize("level", [1e-8, 1e-6, 1e-4])
    @pytest.mark.parametrize("method", [Central(), Forward(), Central(step=jaxfd.Relative())])
    def test_hessian(self, method, level):
        _, box = box_of(noisy(level))
        if isinstance(method, Forward):  # one corner a pair: nothing to compare
            found = jaxfd.estimate(box, derivative=2, method=method)(X).hessian
        else:
            found = jaxfd.hessian(box, method=method)(X)
        assert off(found, hessian_of_smooth()) < 100 * level**0.9

    def test_a_steep_quadratic(self):
        def fun(x):
            return 0.5 * x[..., 0] ** 2 + 2 * x[..., 0] * x[..., 1] + 50 * x[..., 1] ** 2

        exact = np.array([[1.0, 2.0], [2.0, 100.0]])
        for seed in range(10):
            _, box = box_of(noisy(1e-6, fun, seed))
            for hessian in (jaxfd.hessian(box), jax.hessian(box)):
                assert np.abs(np.asarray(hessian(jnp.ones(2))) - exact).max() < 0.5

    def test_at_a_minimum(self):
        _, box = box_of(noisy(1e-6, lambda x: 3 + np.sum(np.cosh(x), axis=-1)))
        assert off(jaxfd.hessian(box)(np.zeros(3)), np.eye(3)) < 1e-2

    @pytest.mark.parametrize("digits", [6, 8])
    def test_printed_values(self, digits):
        box = jaxfd.blackbox(lambda x: float(f"{smooth(x):.{digits}g}"), SCALAR)
        assert off(jaxfd.hessian(box)(X), hessian_of_smooth()) < 10.0 ** (2.5 - digits)
        second = jaxfd.derivative(jaxfd.blackbox(lambda t: float(f"{np.sin(t):.8g}"), SCALAR), 2)
        assert abs(float(second(1.1)) + np.sin(1.1)) < 1e-4

    def test_float32_inside(self):
        box = jaxfd.blackbox(lambda x: float(np.float32(smooth(x))), SCALAR)
        assert off(jaxfd.hessian(box)(X), hessian_of_smooth()) < 1e-3

    @pytest.mark.parametrize("order", [2, 3, 4])
    def test_derivative(self, order):
        rng = np.random.default_rng(order)
        box = jaxfd.blackbox(lambda t: np.sin(t) * (1 + 1e-7 * rng.standard_normal()), SCALAR)
        found = jaxfd.derivative(box, order)(1.1)
        assert abs(float(found) - np.sin(1.1 + order * np.pi / 2)) < 1e-7 * 10.0**order

    def test_diagonal_and_product(self):
        exact = hessian_of_smooth()
        _, box = box_of(noisy(1e-5))
        assert off(jaxfd.hessian_diagonal(box)(X), np.diag(exact)) < 0.01
        product = jaxfd.hvp(box, (jnp.asarray(X),), (jnp.asarray(V),))
        assert off(product, exact @ V) < 0.1

    def test_only_the_call_that_is_noisy(self):
        """Each call of a batch keeps the result that suits it."""

        def fun(x):
            rng = np.random.default_rng(0)
            noise = 1e-5 * rng.standard_normal(len(x)) * (x[:, 2] > 3)
            return smooth(x) * (1 + noise)

        batch = np.stack([X, X + np.array([0.0, 0.0, 4.0])])
        plain = jaxfd.hessian(jaxfd.blackbox(smooth, SCALAR, vectorized=True))(X)
        found = jax.vmap(jaxfd.hessian(jaxfd.blackbox(fun, SCALAR, vectorized=True)))(batch)
        np.testing.assert_array_equal(found[0], plain)
        assert off(found[1], hessian_of_smooth(batch[1])) < 0.05

    def test_a_step_that_was_asked_for_stays(self):
        host, box = box_of(noisy(1e-5))
        jaxfd.hessian(box, method=Central(step=0.05))(X)
        assert host.evaluations == 13

    def test_what_smooth_functions_cost(self):
        x, v = jnp.asarray(X), jnp.asarray(V)
        costs = [
            (13, lambda box: jaxfd.hessian(box)(X)),
            (7, lambda box: jaxfd.hessian_diagonal(box)(X)),
            (12, lambda box: jaxfd.hvp(box, (x,), (v,))),
            (25, lambda box: jaxfd.estimate(box, derivative=2)(X)),
            (7 + 13, lambda box: jax.hessian(box)(X)),
        ]
        for count, run in costs:
            host, box = box_of(smooth)
            run(box)
            assert host.evaluations == count
        points = Points()

        def fun(x):
            points(x)
            return traced(x)

        jaxfd.hessian_diagonal(fun)(X)
        assert len(points.taken()) == 7


class TestWalls:
    """No point outside of the box, and beside a wall the same order of accuracy."""

    BOXES = (
        (X, np.full(3, 9.0)),
        (np.array([0.3, -9.0, 1.2]), np.array([9.0, 0.7, 9.0])),
        (X - np.array([1e-6, 9.0, 1e-5]), X + np.array([9.0, 1e-7, 9.0])),
        (X - 1.0, X + 1e-9),
        (np.full(3, -np.inf), np.full(3, np.inf)),
    )

    @staticmethod
    def walled(lower, upper):
        def fun(x):
            return np.where(np.all((x >= lower) & (x <= upper), axis=-1), smooth(x), 1e6)

        return box_of(fun)

    @pytest.mark.parametrize("number", range(len(BOXES)))
    @pytest.mark.parametrize(
        ("method", "tol"),
        [(Central(), 1e-6), (Central(4), 1e-8), (Forward(2), 1e-6), (Adaptive(), 1e-8)],
        ids=["Central", "Central4", "Forward2", "Adaptive"],
    )
    def test_on_the_host(self, number, method, tol):
        lower, upper = bounds = self.BOXES[number]
        host, box = self.walled(lower, upper)
        x, v = jnp.asarray(X), jnp.asarray(V)
        exact = hessian_of_smooth()
        options = {"method": method, "bounds": bounds}
        assert off(jaxfd.hessian(box, **options)(X), exact) < tol
        assert off(jaxfd.hessian_diagonal(box, **options)(X), np.diag(exact)) < tol
        assert off(jaxfd.hvp(box, (x,), (v,), **options), exact @ V) < tol
        if not isinstance(method, Adaptive):
            value, slope = jaxfd.jvp(box, (x,), (v,), **options)
            a, b, c = X
            gradient = [np.exp(a) * np.sin(b) + c * c, np.exp(a) * np.cos(b), 2 * a * c]
            assert off(slope, np.dot(gradient, V)) < tol
            assert float(value) == smooth(X)
        points = np.concatenate([p.reshape(-1, 3) for p in host.calls])
        assert np.all((points >= lower) & (points <= upper))

    def test_in_a_kernel(self):
        points = Points()

        def fun(x):
            points(x)
            return traced(x)

        lower, upper = self.BOXES[1]
        found = jax.jit(jaxfd.hessian(fun, bounds=(lower, upper)))(X)
        taken = points.taken()
        assert np.all((taken >= lower) & (taken <= upper))
        assert len(taken) == 2 * 9 + 3 + 1
        assert off(found, hessian_of_smooth()) < 1e-6
        run = jax.jit(lambda x, v: jaxfd.hvp(fun, (x,), (v,), bounds=(lower, upper)))
        assert off(run(X, V), hessian_of_smooth() @ V) < 1e-6

    @pytest.mark.parametrize("order", [2, 3, 4])
    @pytest.mark.parametrize("x", [0.0, 1e-9, 1e-3, 0.5])
    def test_derivative(self, order, x):
        box = jaxfd.blackbox(lambda t: np.exp(t) if 0 <= t <= 1 else 1e9, SCALAR)
        found = jaxfd.derivative(box, order, bounds=(0.0, 1.0))(x)
        assert abs(float(found) / np.exp(x) - 1) < 1e-9 * 20.0**order

    def test_the_last_bit_before_a_wall(self):
        box = jaxfd.blackbox(lambda s: s * (1 - s) if s < 1 else 0.0, SCALAR)
        for distance in (1e-3, 1e-5, 1e-7):
            found = jaxfd.derivative(box, order=2, bounds=(0.0, 1.0))(1 - distance)
            assert abs(float(found) + 2) < 1e-4

    def test_an_entry_without_room_has_no_derivatives(self):
        lower, upper = np.array([0.3, -9.0, -9.0]), np.array([0.3, 9.0, 9.0])
        exact = hessian_of_smooth()
        exact[0] = exact[:, 0] = 0
        for method in (Central(), Adaptive()):
            _, box = self.walled(lower, upper)
            found = jaxfd.hessian(box, method=method, bounds=(lower, upper))(X)
            np.testing.assert_allclose(found, exact, atol=1e-6)

    def test_noise_beside_a_wall(self):
        lower, upper = self.BOXES[1]
        _, box = box_of(noisy(1e-6))
        found = jaxfd.estimate(box, derivative=2, bounds=(lower, upper))(X)
        assert off(found.hessian, hessian_of_smooth()) < 0.05
        np.testing.assert_array_equal(found.one_sided, [True, True, True])

    def test_bounds_are_checked(self):
        x = jnp.asarray(X)
        for run in (
            lambda b: jaxfd.hessian(traced, bounds=b)(x),
            lambda b: jaxfd.hvp(traced, (x,), (x,), bounds=b),
            lambda b: jaxfd.jvp(traced, (x,), (x,), bounds=b),
            lambda b: jaxfd.estimate(traced, derivative=2, bounds=b)(x),
        ):
            with pytest.raises(ValueError, match="x lies outside bounds"):
                run((1.0, 2.0))
            with pytest.raises(TypeError, match="bounds must be a pair"):
                run(3.0)

    def test_several_arguments(self):
        bounds = ((0.0, 0.0), (1.0, 1.0))
        found = jaxfd.hvp(lambda a, b: a * b, (0.0, 1.0), (1.0, 2.0), bounds=bounds)
        np.testing.assert_allclose(found, [2.0, 1.0], atol=1e-6)
        _, slope = jaxfd.jvp(lambda a, b: a * b, (0.0, 1.0), (1.0, 2.0), bounds=bounds)
        assert abs(float(slope) - 1) < 1e-9


class TestBars:
    """`estimate` with more than one output, and of second derivatives."""

    @staticmethod
    def several(x):
        wave = np.stack([np.sin(x[0] * x[1]), np.exp(x[2])])
        return {"wave": wave, "size": x[0] * x[2]}

    @staticmethod
    def jacobian():
        a, b, c = X
        wave = [[b * np.cos(a * b), a * np.cos(a * b), 0.0], [0.0, 0.0, np.exp(c)]]
        return {"wave": np.array(wave), "size": np.array([c, 0.0, a])}

    @pytest.mark.parametrize("method", [Central(), Central(4), Forward(2), Adaptive()])
    def test_jacobians(self, method):
        box = jaxfd.blackbox(self.several, PAIR)
        found = jaxfd.estimate(box, method=method)(X)
        close(found.grad, jaxfd.jacobian(box, method=method)(X), 0)
        assert found.jacobian is found.grad
        for name, exact in self.jacobian().items():
            assert found.error[name].shape == exact.shape
            assert np.all(np.abs(found.grad[name] - exact) <= np.asarray(found.error[name]))
            assert np.all(np.asarray(found.error[name]) < 1e-4)
        np.testing.assert_allclose(found.value["size"], X[0] * X[2])
        assert found.step.shape == found.one_sided.shape == (3,)
        assert "jacobian" in str(found)

    def test_standard_errors(self):
        box = jaxfd.blackbox(self.several, PAIR)
        found = jaxfd.estimate(box, method=jaxfd.SPSA(jax.random.key(0), 400))(X)
        assert not found.bound
        for name, exact in self.jacobian().items():
            apart = np.abs(found.grad[name] - exact)
            assert np.all(apart <= 5 * np.asarray(found.error[name]) + 1e-6)
        alone = jaxfd.blackbox(lambda x: self.several(x)["size"], SCALAR)
        other = jaxfd.estimate(alone, method=jaxfd.SPSA(jax.random.key(0), 400))(X)
        np.testing.assert_allclose(found.error["size"], other.error, rtol=1e-9)

    @pytest.mark.parametrize("method", [Central(), Central(4), Forward(), Adaptive()])
    def test_hessians(self, method):
        _, box = box_of(smooth)
        found = jaxfd.estimate(box, derivative=2, method=method)(X)
        assert np.all(np.abs(found.hessian - hessian_of_smooth()) <= np.asarray(found.error))
        assert np.max(found.error) < 1e-2
        assert found.derivative == 2
        assert "hessian" in str(found)

    @pytest.mark.parametrize("level", [1e-11, 1e-9, 1e-7, 1e-5])
    @pytest.mark.parametrize(
        "method",
        [Central(), pytest.param(Adaptive(), marks=pytest.mark.heavy), Central(step=0.02)],
    )
    def test_bars_hold_with_noise(self, method, level):
        held = []
        for seed in range(12):
            _, box = box_of(noisy(level, seed=seed))
            found = jaxfd.estimate(box, derivative=2, method=method)(X)
            apart = np.abs(found.hessian - hessian_of_smooth())
            held.append((apart <= np.asarray(found.error))[LOW, HIGH])
        assert np.mean(held) >= 0.93

    def test_several_outputs(self):
        box = jaxfd.blackbox(self.several, PAIR)
        found = jaxfd.estimate(box, derivative=2, method=Adaptive())(X)
        assert found.error["wave"].shape == (2, 3, 3)
        np.testing.assert_allclose(found.hessian["wave"][1, 2, 2], np.exp(X[2]), rtol=1e-9)

    def test_auxiliary_data_and_transforms(self):
        estimate = jaxfd.estimate(lambda x: (traced(x), x[0]), has_aux=True, derivative=2)
        found = jax.jit(jax.vmap(estimate))(jnp.stack([jnp.asarray(X)] * 2))
        assert found.aux.shape == (2,)
        assert found.hessian.shape == found.error.shape == (2, 3, 3)
        np.testing.assert_array_equal(found.evaluations, [25, 25])

    def test_complex_numbers_are_refused(self):
        for run in (jaxfd.hessian_diagonal, lambda f: jaxfd.estimate(f, derivative=2)):
            with pytest.raises(TypeError, match="needs real arguments, got a complex one"):
                run(lambda z: jnp.sum(z.real**2))(jnp.full(2, 1 + 1j))
        with pytest.raises(TypeError, match="needs real outputs, got complex128"):
            jaxfd.estimate(lambda x: jax.lax.complex(x, x))(jnp.asarray(X))


class TestHook:
    """`jax.hessian` of a hooked function goes the same ways."""

    def test_noise_and_bounds(self):
        lower, upper = X - np.array([0.0, 9.0, 0.0]), X + np.array([9.0, 0.0, 9.0])

        def fun(x):
            assert np.all((x >= lower) & (x <= upper))
            return noise(x)

        noise = noisy(1e-6)
        box = jaxfd.blackbox(fun, SCALAR, bounds=(lower, upper))
        assert off(jax.hessian(box)(jnp.asarray(X)), hessian_of_smooth()) < 0.05

    def test_adaptive(self):
        box = jaxfd.blackbox(noisy(1e-8), SCALAR, method=Adaptive())
        assert off(jax.jit(jax.hessian(box))(jnp.asarray(X)), hessian_of_smooth()) < 1e-4
