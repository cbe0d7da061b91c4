"""The search beside walls: no point outside, and bars that hold."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _rows import ADAPTIVE, INF, SCALAR, SETTLED, Rows, columns
from _tools import Host
from hypothesis import given, settings, strategies as st

import jaxfd

POSITIVE = (0.0, INF)
WALLS = [
    # Functions that are smooth on the wall, at every distance from it.
    *((np.log1p, d, 1 / (1 + d), 1e-9) for d in (0.0, 1e-12, 1e-6, 1e-3)),
    *((np.exp, d, math.exp(d), 1e-9) for d in (0.0, 1e-12, 1e-6, 1e-3)),
    *((np.sin, d, math.cos(d), 1e-9) for d in (0.0, 1e-12, 1e-6, 1e-3)),
    *((lambda t: t**2, d, 2 * d, 0) for d in (0.0, 1e-12, 1e-6, 1e-3)),
    # Functions that are singular there.
    *((np.sqrt, d, 0.5 / math.sqrt(d), 1e-6) for d in (1e-9, 1e-8, 1e-6, 1e-3)),
    *((lambda t: np.sqrt(t) + t, d, 0.5 / math.sqrt(d) + 1, 1e-6) for d in (1e-9, 1e-6, 1e-3)),
    *((np.log, d, 1 / d, 1e-6) for d in (1e-9, 1e-8, 1e-6, 1e-3)),
    (lambda t: t**1.5, 1e-3, 1.5 * math.sqrt(1e-3), 1e-6),
    (lambda t: t * np.log(t), 1e-3, 1 + math.log(1e-3), 1e-6),
]


SINE, DECAY = 0, 1


def decay(x, scale):
    return jnp.exp(-x / scale)


def sine_or_decay(x, scale, which):
    return jax.lax.switch(which, [lambda x, scale: jnp.sin(x), decay], x, scale)


@jax.jit
def _in_a_kernel(which, x, scale, lower, upper):
    estimate = jaxfd.estimate(sine_or_decay, method=ADAPTIVE, bounds=(lower, upper))
    return estimate(x, scale, which)


def in_a_kernel(which, x, lower, upper, scale=1.0):
    """The estimate of a sine or a decay in a box: one program a dtype, whatever the numbers."""
    numbers = (np.asarray(number, x.dtype) for number in (x, scale, lower, upper))
    return _in_a_kernel(which, *numbers)


@st.composite
def boxes(draw):
    """Three coordinates in boxes of any width, down to none."""
    triples = []
    for _ in range(3):
        x = draw(st.sampled_from([0.0, 1e-12, 1e-3, 1.0, 1e6])) * draw(st.floats(-1, 1))
        sides = []
        for sign in (-1, 1):
            kind = draw(st.sampled_from(["wall", "ulp", "near", "far", "infinite"]))
            distance = {
                "wall": 0.0,
                "ulp": np.spacing(abs(x)),
                "near": 10.0 ** draw(st.floats(-13, -1)) * max(1, abs(x)),
                "far": draw(st.floats(0.1, 10.0)) * max(1, abs(x)),
                "infinite": INF,
            }[kind]
            sides.append(x + sign * distance)
        triples.append((sides[0], x, sides[1]))
    return tuple(np.asarray(triples).T)


class TestWalls:
    def test_at_and_near_a_wall(self):
        funs, x, exact, tolerance = columns(WALLS)
        rows = Rows(*funs)
        found = rows(x, bounds=POSITIVE)
        assert np.concatenate(rows.taken()).min() >= 0
        error = np.abs(found.grad - exact)
        assert np.all(error <= tolerance * np.abs(exact) + 1e-12)
        assert np.mean(error <= found.error) >= 0.95
        assert np.all(error <= 1.5 * found.error)
        assert np.all(found.one_sided[x == 0])
        smooth = np.isin(funs, [np.log1p, np.exp, np.sin])
        np.testing.assert_array_equal(found.evaluations[smooth], SETTLED + 1)

    def test_at_and_near_an_upper_wall(self):
        funs, x, exact, tolerance = columns(WALLS)
        mirrored = [lambda t, f=f: f(5 - t) for f in funs]
        rows = Rows(*mirrored)
        there = 5 - x
        found = rows(there, bounds=(-INF, 5.0))
        assert np.concatenate(rows.taken()).max() <= 5
        # 5 - x is known to an ulp of 5 only.
        known = x >= 1e-6
        error = np.abs(found.grad + exact)
        wall = 1e-15 / np.maximum(x, 1e-6) * np.abs(exact)
        assert np.all((error <= 100 * tolerance * np.abs(exact) + 1e-9 + wall)[known])
        assert np.all((error <= 3 * found.error + wall)[known])
        assert np.all(found.one_sided[x == 0])

    def test_no_point_on_a_wall_from_inside(self):
        """Functions are often singular there."""
        rows = Rows(np.log, lambda t: 1 / t, lambda t: np.sqrt(t))
        rows(1e-3, bounds=POSITIVE)
        assert np.concatenate(rows.taken()).min() > 0

    def test_very_close_to_a_singular_wall(self):
        x = np.repeat([1e-12, 1e-11, 1e-10], 2)
        found = Rows(*[np.sqrt, np.log] * 3)(x, bounds=POSITIVE)
        exact = np.where(np.arange(6) % 2 == 0, 0.5 / np.sqrt(x), 1 / x)
        assert np.all(np.abs(found.grad - exact) <= 10 * found.error)

    def test_a_curvature_that_is_singular_on_the_wall(self):
        x = np.array([0.0, 1e-9, 1e-7, 1e-6])
        found = Rows(*[lambda t: t**1.5] * 4)(x, bounds=POSITIVE)
        assert np.all(np.abs(found.grad - 1.5 * np.sqrt(x)) <= found.error)

    def test_powers_on_the_wall(self):
        """What converges like a power of the step has a bar that knows it."""
        powers = (1.3, 1.5, 1.9, 2.3, 2.5, 3.2)
        found = Rows(*[lambda t, p=p: t**p for p in powers])(0.0, bounds=POSITIVE)
        assert np.all(np.abs(found.grad) <= found.error)
        assert np.all(found.error <= 0.1)

    @pytest.mark.parametrize("side", [1.0, -1.0])
    @pytest.mark.parametrize("scale", [1e-6, 1e-7, 1e-8])
    def test_a_small_scale_on_the_wall(self, side, scale, dtype):
        """All rungs of a first ladder show one change: the slope is found below, or not known."""
        lower, upper = bounds = (0.0, jnp.inf) if side > 0 else (-jnp.inf, 0.0)
        x, signed = jnp.zeros((), dtype), jnp.asarray(side * scale, dtype)
        eager = jaxfd.estimate(decay, method=ADAPTIVE, bounds=bounds)(x, signed)
        for found in (eager, in_a_kernel(DECAY, x, lower, upper, signed)):
            assert abs(found.grad + side / scale) <= found.error
            assert found.error <= 1e-2 / scale
            assert found.evaluations <= 60

    def test_a_scale_below_all_ladders(self):
        """Nothing but one change is seen: the slope may be anything."""
        found = Rows(lambda t: np.exp(-t / 1e-12), lambda t: 1 / (1 + np.exp(t / 1e-11)))(
            0.0, bounds=POSITIVE
        )
        np.testing.assert_array_equal(found.error, np.inf)

    @pytest.mark.parametrize("steep", [1.0, -0.75, 3.0, math.pi])
    def test_the_value_on_the_wall_counts(self, steep):
        """Also where the function is a line beyond its scale, exact at every point."""
        scales = [1e-4, 1e-5, 1e-6, 1e-7, 1e-9, 1e-12]
        fades = [lambda t, s=s: np.exp(-t / s) + steep * t for s in scales]
        bends = [lambda t, s=s: t / (t + s) + steep * t for s in scales]
        smalls = [lambda t, s=s: 1e-3 * np.exp(-t / s) + np.exp(steep * t) for s in scales]
        found = Rows(*fades, *bends, *smalls)(0.0, bounds=POSITIVE)
        one = 1 / np.array(scales)
        right = steep + np.array([*-one, *one, *(-1e-3 * one)])
        assert np.all(np.abs(found.grad - right) <= found.error)

    def test_boxes_of_a_few_spacings(self, dtype):
        """Where the points of a fit cannot be told apart nothing is known, and that is no NaN."""
        for x in dtype.type([1.0, -1.0, 3e5]):
            for spacings in (1, 2, 3, 5, 8, 16, 18, 24):
                width = spacings * np.spacing(np.abs(x))
                for lower, upper in ((x, x + width), (x - width, x), (x - width, x + width)):
                    found = in_a_kernel(SINE, x, lower, upper)
                    assert np.isfinite(found.grad)
                    assert abs(found.grad - np.cos(x)) <= found.error
        one, next_one = dtype.type(1), np.nextafter(dtype.type(1), dtype.type(2))
        found = jaxfd.estimate(jnp.sin, method=ADAPTIVE, bounds=(one, next_one))(one)
        assert found.grad == 0
        assert found.error == np.inf

    def test_boxes_of_subnormal_width(self):
        rows = Rows(np.sin)
        for width in (5e-324, 1e-320, 1e-310):
            found = rows(0.0, bounds=(-width, width))
            assert found.grad[0] == 0
            assert found.error[0] == np.inf

    def test_second_derivatives_in_a_box_of_a_few_spacings(self):
        lower, upper = np.array([1.0, 0.0]), np.array([1.0 + 2.0**-52, 9.0])
        hessian = jaxfd.hessian(
            lambda x: jnp.sum(x**2) * x[0], method=jaxfd.Adaptive(), bounds=(lower, upper)
        )(jnp.ones(2))
        np.testing.assert_allclose(hessian, [[0.0, 0.0], [0.0, 2.0]], rtol=1e-9)

    def test_a_singular_wall_behind_a_subtraction(self):
        found = Rows(lambda t: np.arcsin(1 - t))(1e-6, bounds=(0.0, 1.0))
        exact = -1 / math.sqrt(1 - (1 - 1e-6) ** 2)
        assert abs(found.grad[0] - exact) <= 10 * found.error[0]

    def test_narrow_boxes(self):
        """What the width allows, and no more."""
        rows = Rows(np.exp, np.sin, lambda t: 1 / (1 + t))
        for width, tolerance in ((1e-1, 1e-12), (1e-4, 1e-10), (1e-8, 1e-6), (1e-12, 1e-2)):
            found = rows(0.5, bounds=(0.5 - width, 0.5 + width / 8))
            points = np.concatenate(rows.taken())
            assert points.min() >= 0.5 - width
            assert points.max() <= 0.5 + width / 8
            exact = [math.exp(0.5), math.cos(0.5), -1 / 2.25]
            error = np.abs(found.grad - exact)
            assert np.all(error <= tolerance)
            assert np.all(error <= found.error)

    def test_a_point_far_from_zero(self):
        """The room counts, not the size of x."""
        rows = Rows(*[lambda t: np.sqrt(t - 1000.0)] * 3)
        away = np.array([1e-6, 1e-3, 1.0])
        x = 1000 + away
        found = rows(x, bounds=(1000.0, INF))
        assert np.concatenate(rows.taken()).min() >= 1000
        exact = 0.5 / np.sqrt(x - 1000)
        error = np.abs(found.grad - exact)
        assert np.all(error <= [1e-5, 1e-6, 1e-8])
        assert np.all(error <= 3 * found.error)

    def test_no_width(self):
        host = Host(lambda x: np.sum(np.exp(x), axis=-1))
        box = jaxfd.blackbox(host, SCALAR, vectorized=True)
        bounds = (np.array([0.0, 1.0, 0.0]), np.array([1.0, 1.0, 2.0]))
        x = np.array([0.5, 1.0, 0.0])
        found = jaxfd.estimate(box, method=ADAPTIVE, bounds=bounds)(x)
        assert found.grad[1] == 0
        assert found.error[1] == np.inf
        error = np.abs(found.grad - np.exp(x))[[0, 2]]
        assert np.all(error <= found.error[np.array([0, 2])])
        np.testing.assert_array_equal(found.one_sided[np.array([0, 2])], [False, True])
        assert found.evaluations == host.evaluations
        points = np.concatenate(host.calls)
        assert np.all(points >= bounds[0])
        assert np.all(points <= bounds[1])

    def test_no_width_even_if_the_function_fails_there(self):
        box = jaxfd.blackbox(
            lambda x: np.where(x[:, 0] == 1.0, 0.0, np.nan) + x[:, 1] ** 2, SCALAR, vectorized=True
        )
        bounds = (np.array([1.0, 0.0]), np.array([1.0, 9.0]))
        found = jaxfd.estimate(box, method=ADAPTIVE, bounds=bounds)(np.array([1.0, 2.0]))
        np.testing.assert_allclose(found.grad, [0.0, 4.0], rtol=1e-13)

    def test_outside(self):
        box = jaxfd.blackbox(lambda x: np.sum(x, axis=-1), SCALAR, vectorized=True)
        with pytest.raises(ValueError, match=r"x lies outside bounds: entry \(1,\) is 1.5"):
            jaxfd.grad(box, method=ADAPTIVE, bounds=(0.0, 1.0))(np.array([0.5, 1.5]))

    def test_no_point_outside_any_box(self):
        host = Host(lambda x: np.sum(np.sin(x), axis=-1))
        box = jaxfd.blackbox(host, SCALAR, vectorized=True)

        @settings(max_examples=40)
        @given(boxes())
        def check(limits):
            lower, x, upper = limits
            host.taken()
            found = jaxfd.estimate(box, method=ADAPTIVE, bounds=(lower, upper))(x)
            points = np.concatenate(host.calls)
            assert np.all(points >= lower)
            assert np.all(points <= upper)
            assert found.evaluations == len(points)
            assert np.all(np.asarray(found.grad)[lower == upper] == 0)
            error = np.abs(np.asarray(found.grad) - np.cos(x))
            # Boxes of a few ulps may leave nothing to be found, and the bar says so.
            lost = np.isnan(found.grad) & np.isinf(found.error)
            assert np.all((upper - lower <= 64 * np.spacing(np.abs(x)))[lost])
            assert np.all((error <= 2 * found.error)[(lower < upper) & ~lost])

        check()
