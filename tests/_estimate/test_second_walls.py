"""Second derivatives where one estimate cannot tell: beside walls, of noise along one entry, of 0s.

A function may vary on the scale of the way to a wall, noise that follows one entry cancels in
pairs, and values that are all 0 say nothing of their digits.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import Counted, Points, x64

import jaxfd

SCALAR = jax.ShapeDtypeStruct((), np.float64)
POSITIVE = (0.0, np.inf)
WAYS = [1e-2, 1e-3, 1e-4, 1e-5, 1e-7, 1e-12]


def barrier(p):
    return jnp.log(p[0]) + p[1] ** 2


def beside_1(p):
    return jnp.log(1 - p[0]) * p[1]


def gentle(p):
    return jnp.exp(p[0]) + p[1] ** 2


@functools.cache
def beside_0(wrap):
    """Derivatives beside a wall at 0, compiled once for all points."""
    return (
        wrap(jaxfd.hessian(barrier, bounds=POSITIVE)),
        wrap(jaxfd.hessian_diagonal(barrier, bounds=POSITIVE)),
        wrap(jaxfd.derivative(jnp.log, order=2, bounds=POSITIVE)),
        wrap(jaxfd.derivative(jnp.log, order=3, bounds=POSITIVE)),
    )


def counted(fun):
    host = Counted(fun)
    return host, jaxfd.blackbox(host, SCALAR)


class TestBesideAWall:
    """The scale may be the way to the wall, or that of the entry: both are right."""

    @pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
    @pytest.mark.parametrize("x", WAYS)
    def test_in_a_kernel(self, x, wrap):
        point = jnp.array([x, 1.0])
        hessian, diagonal, second, third = beside_0(wrap)
        scaled = np.asarray(hessian(point)) * np.array([[-x * x], [1]])
        np.testing.assert_allclose(scaled, [[1, 0], [0, 2]], atol=2e-6)
        np.testing.assert_allclose(diagonal(point) * np.array([-x * x, 1]), [1, 2], rtol=2e-6)
        np.testing.assert_allclose(second(x) * -x * x, 1, rtol=2e-6)
        np.testing.assert_allclose(third(x) * x**3, 2, rtol=1e-4)

    @pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.vmap], ids=["eager", "jit", "vmap"])
    @pytest.mark.parametrize("traced", [True, False])
    def test_products_with_a_vector(self, traced, wrap):
        fun = barrier if traced else counted(lambda p: np.log(p[0]) + p[1] ** 2)[1]
        vector = jnp.array([1.0, 0.5])

        def product(point):
            return jaxfd.hvp(fun, (point,), (vector,), bounds=POSITIVE)

        run = wrap(product)
        points = np.array([[1e-3, 1.0], [1e-7, 1.0], [0.5, 1.0]])
        if wrap is jax.vmap:  # points of several sizes, each beside one of twice its size
            found = run(jnp.asarray(np.concatenate([points, 2 * points])))[: len(points)]
        else:
            found = np.stack([run(jnp.asarray(point)) for point in points])
        scaled = found * np.stack([-(points[:, 0] ** 2), points[:, 1]], axis=-1)
        np.testing.assert_allclose(scaled, np.ones((3, 2)), rtol=2e-6)

    @pytest.mark.parametrize("x", [1e-3, 1e-7])
    def test_on_the_host(self, x):
        point = np.array([x, 1.0])
        _, box = counted(lambda p: np.log(p[0]) + p[1] ** 2)
        bound = jaxfd.blackbox(lambda p: np.log(p[0]) + p[1] ** 2, SCALAR, bounds=POSITIVE)
        for found in (
            jaxfd.hessian(box, bounds=POSITIVE)(point),
            jax.hessian(bound)(jnp.asarray(point)),
            jnp.diag(jaxfd.hessian_diagonal(box, bounds=POSITIVE)(point)),
        ):
            scaled = np.diag(found) * np.array([-x * x, 1])
            np.testing.assert_allclose(scaled, [1, 2], rtol=1e-6)

    @pytest.mark.parametrize("way", [1e-2, 1e-4, 1e-6, 1e-9])
    def test_a_wall_that_is_not_0(self, way):
        found = jaxfd.hessian(beside_1, bounds=(0, 1))(jnp.array([1 - way, 0.5]))
        np.testing.assert_allclose(found[0, 0] * way**2, -0.5, rtol=1e-6)
        np.testing.assert_allclose(found[0, 1] * way, -1, rtol=1e-6)

    @pytest.mark.parametrize("x", [1e-2, 1e-4, 1e-6, 1e-9])
    @pytest.mark.parametrize("noise", [0.0, 1e-13])
    def test_the_usual_scale_keeps_its_digits(self, x, noise):
        rng = np.random.default_rng(0)

        def fun(p):
            return (np.exp(p[0]) + p[1] ** 2) * (1 + noise * rng.standard_normal())

        point = np.array([x, 1.0])
        _, box = counted(fun)
        found = jaxfd.hessian(box, bounds=POSITIVE)(point)
        np.testing.assert_allclose(found, [[np.exp(x), 0], [0, 2]], atol=2e-7 + 3e8 * noise)
        found = jaxfd.hessian(gentle, bounds=POSITIVE)(point)
        np.testing.assert_allclose(found, [[np.exp(x), 0], [0, 2]], atol=2e-7)

    def test_what_it_costs(self):
        """No more where no wall is near, mapped or not."""
        far = jnp.ones(2)
        for mapped in (False, True):
            points = Points()

            def fun(p, points=points):
                points(p)
                return barrier(p)

            hessian = jaxfd.hessian(fun, bounds=POSITIVE)
            if mapped:
                jax.jit(jax.vmap(hessian))(jnp.stack([far, far]))
            else:
                jax.jit(hessian)(far)
            assert len(points.taken()) == (1 + mapped) * (2 * 4 + 2 + 1)
        host, box = counted(lambda p: np.log(p[0]) + p[1] ** 2)
        jaxfd.hessian(box, bounds=POSITIVE)(np.ones(2))
        assert host.calls == 2 * 4 + 2 + 1

    def test_bars(self):
        estimate = jax.jit(jaxfd.estimate(barrier, derivative=2, bounds=POSITIVE))
        for x in (1e-3, 1e-7):
            found = estimate(jnp.array([x, 1.0]))
            assert abs(found.hessian[0, 0] + x**-2) <= found.error[0, 0] <= 1e-4 * x**-2

    def test_each_call_of_a_batch(self):
        batch = jnp.array([[1e-4, 1.0], [1.0, 1.0]])
        found = jax.jit(jax.vmap(jaxfd.hessian(barrier, bounds=POSITIVE)))(batch)
        np.testing.assert_allclose(found[:, 0, 0] * batch[:, 0] ** 2, [-1, -1], rtol=2e-6)
        np.testing.assert_allclose(found[:, 1, 1], [2, 2], rtol=1e-6)

    def test_it_can_be_differentiated(self):
        def trace(p):
            return jnp.trace(jaxfd.hessian(lambda q: jnp.sum(q**3), bounds=POSITIVE)(p))

        np.testing.assert_allclose(jax.grad(trace)(jnp.array([1.0, 2.0])), [6, 6], rtol=1e-5)

    def test_float32(self):
        with x64(False):
            x = np.float32(1e-3)
            found = jaxfd.hessian(barrier, bounds=POSITIVE)(jnp.array([x, 1.0], np.float32))
            assert found.dtype == np.float32
            np.testing.assert_allclose(found[0, 0] * x * x, -1, rtol=1e-2)


class TestOneEntry:
    """Noise of a single entry."""

    @pytest.mark.parametrize("seed", range(3))
    def test_the_only_one(self, seed):
        rng = np.random.default_rng(seed)
        _, box = counted(lambda x: np.sin(x) + 1e-6 * rng.standard_normal())
        for hessian in (jaxfd.hessian(box), jax.hessian(box)):
            assert abs(float(hessian(1.0)) + np.sin(1.0)) < 0.01

    @pytest.mark.parametrize("number", [2, 3, 10])
    def test_one_of_several(self, number):
        def fun(x):
            bits = int(np.float64(x[0]).view(np.uint64))
            return np.sum(x**2) + 1e-6 * np.random.default_rng(bits).standard_normal()

        x = np.linspace(1.0, 2.0, number)
        _, box = counted(fun)
        np.testing.assert_allclose(jaxfd.hessian(box)(x), 2 * np.eye(number), atol=0.05)
        np.testing.assert_allclose(jaxfd.hessian_diagonal(box)(x), np.full(number, 2.0), atol=0.05)

    def test_what_smooth_ones_cost(self):
        host, box = counted(np.sin)
        assert abs(float(jaxfd.hessian(box)(1.0)) + np.sin(1.0)) < 1e-7
        assert host.calls == 5
        for number in (2, 5):
            host, box = counted(lambda x: np.sum(np.cosh(x)))
            jaxfd.hessian(box)(np.linspace(0.5, 1.0, number))
            assert host.calls == number**2 + number + 1


class TestNothingButZeros:
    """A misfit that is printed, at its minimum."""

    CASES = (
        (lambda p: (p[0] - 1) ** 2 + 50 * (p[1] - 2) ** 2, [1.0, 2.0], [[2.0, 0.0], [0.0, 100.0]]),
        (
            lambda p: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2,
            [1.0, 1.0],
            [[802.0, -400.0], [-400.0, 200.0]],
        ),
    )

    @pytest.mark.parametrize("case", range(len(CASES)))
    def test_a_printed_misfit(self, case):
        fun, x, exact = self.CASES[case]
        _, box = counted(lambda p: np.round(fun(p), 4))
        x = jnp.array(x)
        for found in (jaxfd.hessian(box)(x), jax.hessian(box)(x)):
            np.testing.assert_allclose(found, exact, atol=0.01)
        np.testing.assert_allclose(jaxfd.hessian_diagonal(box)(x), np.diag(exact), atol=0.01)
        found = jaxfd.estimate(box, derivative=2)(x)
        assert np.all(np.abs(found.hessian - np.array(exact)) <= np.asarray(found.error))

    def test_one_variable(self):
        _, box = counted(lambda x: np.round(400 * (x - 1) ** 2, 4))
        assert abs(float(jaxfd.derivative(box, order=2)(1.0)) - 800) < 1
        assert abs(float(jaxfd.hessian(box)(1.0)) - 800) < 1

    def test_a_step_that_was_asked_for_has_no_bar(self):
        _, box = counted(lambda p: np.round(np.sum((p - 1) ** 2), 4))
        method = jaxfd.Central(step=1e-3)
        found = jaxfd.estimate(box, derivative=2, method=method)(np.ones(2))
        np.testing.assert_array_equal(found.hessian, np.zeros((2, 2)))
        assert np.all(np.isinf(found.error))

    def test_what_is_0_everywhere(self):
        host, box = counted(lambda p: 0.0 * np.sum(p))
        found = jaxfd.estimate(box, derivative=2)(np.ones(2))
        np.testing.assert_array_equal(found.hessian, np.zeros((2, 2)))
        assert found.evaluations == host.calls <= 13 + 60 * 2 + 96
        np.testing.assert_array_equal(jaxfd.hessian_diagonal(box)(np.ones(2)), np.zeros(2))

    def test_a_product_at_0_costs_no_search(self):
        host, box = counted(lambda p: p[0] * p[1])
        found = jaxfd.estimate(box, derivative=2)(np.zeros(2))
        np.testing.assert_allclose(found.hessian, [[0, 1], [1, 0]], atol=1e-12)
        assert host.calls == 13
        jaxfd.hessian(box)(np.zeros(2))
        assert host.calls == 13 + 7
