"""The search on functions that jump, bend, fail or have no derivative: the bar says so."""

import math

import jax
import numpy as np
import pytest
from _rows import ADAPTIVE, INF, MOST, SCALAR, SETTLED, Rows, columns, uniform
from _tools import Host

import jaxfd


class TestBrokenFunctions:
    def test_constant(self):
        found = Rows(lambda t: np.full_like(t, 7.0), np.zeros_like)(np.array([1.0, 0.0]))
        np.testing.assert_array_equal(found.grad, 0)
        assert np.all(found.error <= [1e-13, 0])

    def test_inputs_that_are_ignored(self):
        host = Host(lambda x: np.sin(x[:, 0]) + 3)
        box = jaxfd.blackbox(host, SCALAR, vectorized=True)
        found = jaxfd.estimate(box, method=ADAPTIVE)(np.array([0.3, 1.0, 1e9, 0.0]))
        np.testing.assert_allclose(found.grad[0], math.cos(0.3), rtol=1e-13)
        np.testing.assert_array_equal(found.grad[1:], 0)
        assert found.error.max() <= 1e-12
        assert found.evaluations == host.evaluations <= 4 * MOST + 1

    def test_discontinuities(self):
        """Wherever the value at the jump itself lies, and whatever is added."""
        steps = [
            np.sign,
            *(lambda t, v=v: np.heaviside(t, v) for v in (0.0, 0.5, 1.0)),
        ]
        added = [np.zeros_like, lambda t: 3 * t, np.exp, np.sin, lambda t: t**2]
        sizes = [1.0, -5.0, 100.0]
        funs = [
            lambda t, s=s, a=a, size=size, at=at: size * s(t - at) + a(t)
            for s in steps
            for a in added
            for size in sizes
            for at in (0.0, 1.0)
        ]
        found = Rows(*funs)(np.array([0.0, 1.0] * (len(funs) // 2)))
        np.testing.assert_array_equal(found.error, INF)

    @pytest.mark.xfail(
        strict=True,
        reason="a jump that is smaller than what the function does on the lowest rung is seen "
        "only by the two points close to x, and taken for noise",
    )
    def test_a_small_discontinuity(self):
        found = Rows(lambda t: 1e-6 * np.sign(t) + np.sin(t))(0.0)
        assert found.error[0] >= 1.0

    def test_a_jump_beside_x(self):
        """The function is smooth as far as the jump, and the bar must not deny the rest."""
        away = 10.0 ** np.array([-1, -3, -6, -9])
        rows = Rows(*[lambda t, d=d: np.sign(t - 1 - d) + t for d in away])
        found = rows(1.0)
        assert np.all(np.abs(found.grad - 1) <= found.error)

    def test_kinks(self):
        cases = [
            (np.abs, 0.0, 2.0),
            (lambda t: np.abs(t) + t, 1.0, 2.0),
            (lambda t: 3 * np.abs(t) + np.sin(t), 1.0, 6.0),
            (lambda t: np.maximum(t, 0), 0.5, 1.0),
            (lambda t: 1e3 * np.maximum(t, 0) + np.exp(t), 501.0, 1e3),
            (lambda t: np.abs(t) * np.cos(t) + t**2, 0.0, 2.0),
        ]
        funs, slope, jump = columns(cases)
        for at in (0.0, 1.0):
            found = Rows(*[lambda t, f=f, at=at: f(t - at) for f in funs])(at)
            assert np.all(found.error >= 0.9 * jump / 2)
            assert np.all(found.error <= 2 * jump)
            assert np.all(np.abs(found.grad - slope) <= 0.51 * jump)

    @pytest.mark.xfail(
        strict=True,
        reason="the kink's part of the change is looked for on the two lowest rungs only, where "
        "curvature hides it",
    )
    def test_a_small_kink(self):
        found = Rows(lambda t: 1e-3 * np.abs(t) + np.exp(t))(0.0)
        assert found.error[0] >= 0.9e-3

    def test_a_kink_beside_x(self):
        rows = Rows(*[lambda t, d=d: np.abs(t - 1 - d) for d in (0.1, 1e-3, -1e-3)])
        found = rows(1.0)
        exact = np.array([-1.0, -1.0, 1.0])
        assert np.all(np.abs(found.grad - exact) <= np.maximum(found.error, 1e-14))
        np.testing.assert_allclose(found.grad, exact, rtol=1e-12)

    def test_not_finite_at_x(self):
        bad = [lambda t, v=v: np.where(t == 0, v, np.sin(t)) for v in (np.nan, INF, -INF)]
        found = Rows(*bad, np.sin)(0.0)
        assert np.all(np.isnan(found.grad[:3]))
        np.testing.assert_array_equal(found.error[:3], INF)
        assert found.grad[3] == pytest.approx(1.0, rel=1e-13)

    def test_not_finite_anywhere(self):
        found = Rows(lambda t: np.full_like(t, np.nan), lambda t: np.full_like(t, INF))(1.0)
        assert np.all(np.isnan(found.grad))
        np.testing.assert_array_equal(found.error, INF)

    @pytest.mark.parametrize("x", [np.nan, INF])
    def test_x_is_not_finite(self, x):
        box = jaxfd.blackbox(lambda x: np.sum(x**2, axis=-1), SCALAR, vectorized=True)
        found = jaxfd.estimate(box, method=ADAPTIVE)(np.array([x, 1.0]))
        assert np.isnan(found.grad[0])
        assert found.error[0] == INF

    def test_points_that_are_not_finite_are_left_out(self):
        """Beyond some distance, to both sides or to one."""
        away = [0.1, 1e-2, 1e-4, 1e-6]
        funs = []
        for distance in away:
            for bad in (np.nan, INF):
                far = [np.abs, lambda t: t, lambda t: -t]
                funs += [
                    lambda t, d=distance, b=bad, g=g: np.where(g(t - 1) > d, b, np.exp(t))
                    for g in far
                ]
        found = Rows(*funs)(1.0)
        error = np.abs(found.grad - math.e)
        assert np.all(error <= np.repeat([1e-12, 1e-11, 1e-10, 1e-8], 6))
        assert np.all(error <= found.error)
        far = Rows(*funs, dtype=np.float32)(1.0)
        assert np.all(np.isnan(far.grad) | (np.abs(far.grad - math.e) <= 3 * far.error))

    def test_one_side_that_is_not_finite_is_not_denied(self):
        """Without a derivative the bar is infinite."""
        found = Rows(np.sqrt, lambda t: np.where(t > 0, np.nan, np.exp(t)))(0.0)
        right = np.isnan(found.grad) | (np.abs(found.grad - [INF, 1.0]) <= found.error)
        assert np.all(right)

    @pytest.mark.xfail(
        strict=True,
        reason="points to one side of x are taken for the sake of walls only: where a side is "
        "not finite the gradient is NaN",
    )
    def test_one_side_that_is_not_finite_is_left_out(self):
        funs = [
            lambda t, b=b, s=s: np.where(s * t > 0, b, np.exp(t))
            for b in (np.nan, INF)
            for s in (1, -1)
        ]
        found = Rows(*funs)(0.0)
        assert np.all(np.abs(found.grad - 1) <= found.error)
        assert np.all(found.error < 1e-6)

    def test_failures_of_a_black_box(self):
        calls = []

        def fun(x):
            calls.append(x)
            if np.any(np.abs(x - 1.0) > 0.3):
                raise RuntimeError("the mesh is inverted")
            return np.sum(np.sin(x))

        box = jaxfd.blackbox(fun, SCALAR, on_error="nan")
        x = np.array([1.0, 0.9])
        with pytest.warns(RuntimeWarning, match="the mesh is inverted"):
            found = jaxfd.estimate(box, method=ADAPTIVE)(x)
        np.testing.assert_allclose(found.grad, np.cos(x), rtol=1e-12)
        assert np.all(np.abs(found.grad - np.cos(x)) <= found.error)
        assert found.evaluations == len(calls) == 2 * SETTLED + 1

    def test_failures_at_random(self):
        """One point in fifty fails: nearly all gradients are still found, the others are NaN."""
        count = 200

        def pairs(t, k):
            return np.where(uniform(t, k) < 0.02, np.nan, np.sin(t))

        x = np.linspace(0.5, 1.5, count)
        rows = Rows(pairs=pairs)
        found = rows(x, count=count)
        lost = np.isnan(found.grad)
        assert lost.mean() <= 0.08
        np.testing.assert_array_equal(np.isinf(found.error), lost)
        error = np.abs(found.grad - np.cos(x))[~lost]
        assert np.mean(error <= found.error[~lost]) >= 0.98
        assert np.median(error) <= 1e-13
        assert error.max() <= 1e-5


@pytest.mark.parametrize("x", [0.0, 1e-12, 3e-12])
@pytest.mark.parametrize("fun", [np.sign, lambda t: np.tanh(t / 1e-12)], ids=["sign", "tanh"])
def test_a_rise_nearer_than_all_rungs(fun, x):
    """Every rung shows the same change to both sides: no slope follows from that."""
    found = jaxfd.estimate(jaxfd.blackbox(fun, SCALAR), method=ADAPTIVE)(x)
    assert found.error == np.inf


class TestTreads:
    """Stairs so wide that nothing moves on a lower ladder, as in single precision."""

    def test_the_slope_of_stairs_is_not_known_to_be_nothing(self):
        single = jax.ShapeDtypeStruct((), np.float32)
        box = jaxfd.blackbox(lambda x: np.sin(np.round(np.float32(x), 2)), single)
        estimate = jaxfd.estimate(box, method=ADAPTIVE)
        held = 0
        for x in np.linspace(0.4, 2.8, 40, dtype=np.float32):
            found = estimate(x)
            held += bool(abs(found.grad - np.cos(x)) <= found.error)
        assert held >= 38

    @pytest.mark.parametrize("form", ["%.3f", "%.5g", "%.6g"])
    def test_a_rounded_argument(self, form):
        """Points of a fit may all be on the grid of an input deck, but for an offset of all."""
        box = jaxfd.blackbox(lambda x: np.sin(float(form % x)), SCALAR)
        estimate = jaxfd.estimate(box, method=ADAPTIVE)
        for x in np.random.default_rng(3).uniform(0.3, 5.0, 30):
            found = estimate(x)
            assert abs(found.grad - np.cos(x)) <= found.error
