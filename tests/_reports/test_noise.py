"""Noise levels from difference tables: of plain numbers, of traced functions, of black boxes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import Host, Points, x64
from hypothesis import given, settings, strategies as st

import jaxfd
from jaxfd._reports.noise import Noise, choose, difference_table
from jaxfd._reports.probe import default_direction

SCALAR = jax.ShapeDtypeStruct((), np.float64)


def host(fun):
    """A black box of one array."""
    return jaxfd.blackbox(fun, SCALAR)


def hashed(x):
    """A number in [-1/2, 1/2) that depends on every bit of ``x``: noise that repeats."""
    bits = jax.lax.bitcast_convert_type(x, np.uint64 if x.dtype == np.float64 else np.uint32)
    number = bits.dtype.type
    bits = (bits ^ (bits >> number(7))) * number(2654435761)
    bits = bits ^ (bits >> number(9))
    return (bits % number(10007)).astype(x.dtype) / 10007 - 0.5


def within(noise, level, factor=4.0):
    """Whether a level was found, to the factor that so few numbers allow."""
    return noise.conclusive and level / factor < float(noise) < level * factor


class TestTable:
    """The arithmetic on plain numbers."""

    def test_levels_by_hand(self):
        table = difference_table(np.array([0.0, 1.0, 0.0, 1.0, 0.0]))
        # Differences of order k are +-2^(k-1), and gamma_k is (k!)^2 / (2k)!.
        wanted = [2.0 ** (k - 1) / math.sqrt(math.comb(2 * k, k)) for k in (1, 2, 3, 4)]
        np.testing.assert_allclose(table.levels, wanted, rtol=1e-14)
        assert table.conclusive
        assert table.level == table.levels[0]

    @settings(max_examples=60)
    @given(st.integers(0, 10**6), st.sampled_from([1e-300, 1e-9, 1.0, 1e9, 1e300]))
    def test_white_noise(self, seed, level):
        values = level * np.random.default_rng(seed).standard_normal(400)
        table = difference_table(values)
        assert table.conclusive
        assert table.level == pytest.approx(level, rel=0.2)

    def test_the_median_of_short_tables_is_right(self):
        rng = np.random.default_rng(3)
        for smooth in (0.0, 1e3 * np.arange(9.0), 1e3 * np.arange(9.0) ** 2):
            tables = [difference_table(smooth + rng.standard_normal(9)) for _ in range(300)]
            found = np.array([table.level for table in tables if table.conclusive])
            assert len(found) > 290
            assert np.median(found) == pytest.approx(0.95, abs=0.15)
            assert np.mean((found > 1 / 3) & (found < 3)) > 0.95

    @given(st.integers(0, 6), st.sampled_from([1.0, 3e-200, 7e200]))
    def test_a_polynomial_has_no_noise(self, degree, scale):
        table = difference_table(scale * np.arange(-4.0, 5.0) ** degree)
        assert table.levels[-1] <= 1e-13 * table.levels[0] + 1e-300
        assert not table.conclusive or table.level <= 1e-13 * abs(scale) * 4.0**degree

    def test_values_that_stand_still(self):
        table = difference_table(np.array([0.0, 0, 0, 0, 1, 1, 1, 1, 1]))
        assert table.still
        assert not table.conclusive
        assert table.level == table.levels[0] > 0
        assert difference_table(np.zeros(9)).levels == (0.0,) * 8

    def test_the_finest_conclusive_table_is_believed(self):
        rng = np.random.default_rng(0)
        quiet, loud = (difference_table(s * rng.standard_normal(9)) for s in (1e-9, 1.0))
        smooth = difference_table(np.arange(9.0) ** 7)
        assert choose([quiet, loud], [1e-9, 1e-3]) == 0
        assert choose([smooth, loud], [1e-9, 1e-3]) == 1
        # Values that stood still at a finer spacing are not explained by little noise.
        still = difference_table(np.zeros(9))
        rising = difference_table(np.arange(9.0) + 1e-9 * rng.standard_normal(9))
        assert rising.conclusive
        assert choose([still, rising, loud], [1e-6, 1e-3, 1e-1]) == 2
        assert choose([still, still, still], [1.0, 2.0, 3.0]) == 2


class TestLevels:
    """Levels that are known, in traced functions and black boxes."""

    def test_rounding(self, x, dtype):
        noise = jaxfd.estimate_noise(lambda x: jnp.sum(jnp.sin(x)) + 3, x)
        assert within(noise, 4 * jnp.finfo(dtype).eps / math.sqrt(12), 6)
        assert noise.evaluations == 25

    @pytest.mark.parametrize("level", [1e-8, 1e-4, 1.0, 1e3])
    def test_noise_that_repeats(self, level):
        x = jnp.asarray([0.3, -1.2, 2.1])
        noise = jaxfd.estimate_noise(lambda x: jnp.sum(x**2) + level * hashed(x[0]), x)
        assert within(noise, level / math.sqrt(12))

    def test_noise_that_repeats_in_float32(self):
        x = jnp.asarray([0.3, -1.2, 2.1], np.float32)
        noise = jaxfd.estimate_noise(lambda x: jnp.sum(x**2) + 1e-3 * hashed(x[0]), x)
        assert within(noise, 1e-3 / math.sqrt(12))

    @pytest.mark.parametrize("level", [1e-10, 1e-5, 1.0, 1e3])
    def test_random_numbers(self, level):
        rng = np.random.default_rng(1)
        fun = host(lambda x: np.sum(np.exp(x)) + level * rng.standard_normal())
        assert within(jaxfd.estimate_noise(fun, np.array([0.3, -1.2, 2.1])), level)

    def test_noise_in_proportion_to_the_value(self):
        rng = np.random.default_rng(2)
        fun = host(lambda x: 1e6 * np.exp(x[0]) * (1 + 1e-3 * rng.standard_normal()))
        assert within(jaxfd.estimate_noise(fun, np.array([0.5])), 1e3 * np.exp(0.5))

    @pytest.mark.parametrize("quantum", [1e-9, 1e-6, 1e-3])
    @pytest.mark.parametrize("start", [0.1, 0.77, 1.3])
    def test_quantised(self, quantum, start):
        def fun(x):
            return jnp.round(jnp.exp(x) / quantum) * quantum

        noise = jaxfd.estimate_noise(fun, start)
        assert within(noise, quantum / math.sqrt(12))

    def test_steps_too_wide_to_be_noise_are_not_overlooked(self):
        noise = jaxfd.estimate_noise(lambda x: jnp.floor(50 * x) / 50, 0.9999 + 0.02)
        assert not noise.conclusive
        assert 1e-3 < noise.level < 0.02

    def test_float32_inside_of_float64(self):
        fun = host(lambda x: float(np.sum(np.sin(x.astype(np.float32)))))
        for x in np.random.default_rng(0).uniform(1, 2, (5, 3)):
            assert within(jaxfd.estimate_noise(fun, x), 1e-7, 8)

    def test_float32_results_of_a_black_box(self):
        fun = host(lambda x: np.sum(np.sin(x)).astype(np.float32) + np.float32(2))
        assert within(jaxfd.estimate_noise(fun, np.array([0.3, 1.2])), 1e-7)

    def test_without_64_bits_a_black_box_is_still_seen_in_64(self):
        with x64(False):
            fun = jaxfd.blackbox(
                lambda x: float(np.sum(np.sin(x)) + 3), jax.ShapeDtypeStruct((), np.float32)
            )
            noise = jaxfd.estimate_noise(fun, jnp.asarray([0.3, -1.2, 2.1]))
        # The changes come back in float32, which is seen where they are large.
        assert within(noise, 2e-16, 20)

    def test_low_precision(self):
        for low in (jnp.bfloat16, jnp.float16):
            x = jnp.asarray([0.3, -1.2, 2.1], low)
            noise = jaxfd.estimate_noise(lambda x: jnp.sum(jnp.sin(x)) + 3, x)
            assert 0.05 * jnp.finfo(low).eps < noise.level < 10 * jnp.finfo(low).eps

    def test_its_own_waves_are_no_noise(self):
        noise = jaxfd.estimate_noise(lambda x: jnp.sin(1000 * x), 0.3)
        assert noise.level < 1e-14

    def test_the_scale_is_the_callers(self):
        def fun(x):
            return jnp.sum(x**2) + 1e-3 * jnp.sin(1e6 * x[0])

        x = jnp.asarray([1.0, 2.0])
        assert jaxfd.estimate_noise(fun, x).level < 1e-12
        coarse = jaxfd.estimate_noise(fun, x, step=1e-2)
        assert within(coarse, 1e-3 / math.sqrt(2))
        assert coarse.evaluations == 9
        assert coarse.spacing == 1e-2


class TestNoNoise:
    """What is exact, as far as can be seen: the rounding of the value, and not conclusive."""

    @pytest.mark.parametrize(
        "fun",
        [lambda x: 2 * x[0] + x[1], lambda x: 0 * x[0] + 3.0],
        ids=["linear", "constant"],
    )
    def test_exact(self, fun, dtype):
        x = jnp.asarray([1.0, 2.0], dtype)
        noise = jaxfd.estimate_noise(fun, x)
        assert not noise.conclusive
        assert noise.level == pytest.approx(jnp.finfo(dtype).eps * abs(float(fun(x))))

    def test_zero(self):
        noise = jaxfd.estimate_noise(lambda x: 0 * x, 1.0)
        assert float(noise) == 0.0
        assert not noise.conclusive

    def test_large_offset(self):
        noise = jaxfd.estimate_noise(lambda x: 1e8 + jnp.sum(x), jnp.asarray([0.3, -1.2]))
        assert 1e-9 < noise.level < 1e-7


class TestPoints:
    def test_lie_on_a_line_through_every_leaf(self):
        points = Points()

        def fun(x):
            points(x["a"], x["b"])
            return jnp.sum(x["a"]) + x["b"] ** 2

        x = {"a": jnp.asarray([0.3, 50.0]), "b": jnp.asarray(2.0)}
        noise = jaxfd.estimate_noise(fun, x)
        taken = points.taken()
        assert len(taken) == noise.evaluations == 25
        moved = taken - np.array([0.3, 50.0, 2.0])
        far = moved[np.argmax(np.abs(moved[:, 0]))]
        assert np.all(far != 0)
        assert np.all(np.abs(far) <= 0.02 * np.array([1.0, 50.0, 2.0]))
        assert np.linalg.matrix_rank(moved, tol=1e-12) == 1

    def test_are_exact(self):
        """A point that is rounded would show the argument's rounding as noise of the function."""
        x = np.array([0.3, -1.2, 50.0])
        (direction,) = default_direction([x])
        for spacing in 2.0 ** np.array([-39.0, -24.0, -9.0]):
            assert np.all(((x + 4 * spacing * direction) - x) / spacing == 4 * direction)

    def test_one_host_call(self):
        seen = Host(lambda x: np.sum(x, axis=-1))
        jaxfd.estimate_noise(jaxfd.blackbox(seen, SCALAR, vectorized=True), np.array([0.3, 1.0]))
        assert [len(batch) for batch in seen.calls] == [25]

    def test_direction(self):
        points = Points()

        def fun(x):
            points(x)
            return jnp.sum(x**2)

        x = jnp.asarray([0.3, 1.0])
        small = jaxfd.estimate_noise(fun, x, direction=np.array([1e-3, 0.0]))
        taken = points.taken()
        assert np.all(taken[:, 1] == 1.0)
        assert np.ptp(taken[:, 0]) > 1e-3
        unit = jaxfd.estimate_noise(fun, x, direction=jnp.asarray([1.0, 0.0]))
        assert small.spacing == pytest.approx(1e3 * unit.spacing, rel=0.5)

    def test_repeats(self):
        x = jnp.asarray([0.3, -1.2, 2.1])
        first, second = (jaxfd.estimate_noise(lambda x: jnp.sum(jnp.sin(x)), x) for _ in range(2))
        assert first == second


class TestHoles:
    def test_on_the_edge_of_the_domain(self):
        rng = np.random.default_rng(0)

        def fun(x):
            return np.sqrt(x) + 1e-3 * rng.standard_normal() if x >= 0.5 else np.nan

        assert within(jaxfd.estimate_noise(host(fun), 0.5), 1e-3, 8)

    def test_infinite_values_are_left_out(self):
        noise = jaxfd.estimate_noise(
            lambda x: jnp.where(x > 1.0, jnp.inf, x + 1e-3 * hashed(x)), jnp.asarray(1.0)
        )
        assert within(noise, 1e-3 / math.sqrt(12), 8)

    def test_huge_values(self):
        noise = jaxfd.estimate_noise(lambda x: 1e307 * jnp.sum(x) ** 2, jnp.asarray([0.3, 1.7]))
        assert 1e290 < noise.level < 1e293

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_nothing_left(self, value):
        with pytest.raises(ValueError, match=f"found no 5 .* finite .* {value} at x"):
            jaxfd.estimate_noise(lambda x: x * value, 1.0)

    def test_value_missing_at_x_alone(self):
        with pytest.raises(ValueError, match="nan at x"):
            jaxfd.estimate_noise(lambda x: jnp.sin(x) / x, 0.0)


class TestArguments:
    @pytest.mark.parametrize("x", [2, np.arange(3), {"a": np.array([True])}, 1j, "x", None, {}])
    def test_not_real_numbers(self, x):
        with pytest.raises((TypeError, ValueError), match="estimate_noise"):
            jaxfd.estimate_noise(lambda x: 1.0, x)

    @pytest.mark.parametrize("x", [np.zeros((0, 2)), np.array([1.0, np.nan]), np.inf])
    def test_no_or_no_finite_numbers(self, x):
        with pytest.raises(ValueError, match="estimate_noise"):
            jaxfd.estimate_noise(lambda x: jnp.sum(x), x)

    @pytest.mark.parametrize(
        ("fun", "match"),
        [
            (lambda x: x, r"one number, got the shape \(2,\)"),
            (lambda x: (x[0], x[1]), "one number, got a tuple"),
            (lambda x: x[0].astype(np.complex128), "a real number, got complex128"),
            (lambda x: 3, "int64"),
        ],
        ids=["vector", "pair", "complex", "integer"],
    )
    def test_output(self, fun, match):
        with pytest.raises(TypeError, match=f"estimate_noise needs .*{match}"):
            jaxfd.estimate_noise(fun, jnp.ones(2))

    def test_integer_output_of_a_black_box(self):
        box = jaxfd.blackbox(lambda x: 3, jax.ShapeDtypeStruct((), np.int32))
        with pytest.raises(TypeError, match="int32"):
            jaxfd.estimate_noise(box, jnp.ones(2))

    def test_traced(self):
        with pytest.raises(TypeError, match="traced"):
            jax.jit(lambda x: jaxfd.estimate_noise(jnp.sum, x).level)(jnp.ones(2))
        with pytest.raises(TypeError, match="traced"):
            jax.jit(lambda y: jaxfd.estimate_noise(lambda x: x * y, 1.0).level)(1.0)

    @pytest.mark.parametrize("step", ["1", True, np.ones(2), 1j])
    def test_step_that_is_no_number(self, step):
        with pytest.raises(TypeError, match="step must be one number"):
            jaxfd.estimate_noise(jnp.sum, jnp.ones(2), step=step)

    @pytest.mark.parametrize("step", [0.0, -1.0, np.nan, np.inf])
    def test_step_out_of_range(self, step):
        with pytest.raises(ValueError, match="step must be positive"):
            jaxfd.estimate_noise(jnp.sum, jnp.ones(2), step=step)

    @pytest.mark.parametrize(
        "direction", [np.zeros(2), np.ones(3), (1.0, 1.0), np.array([1.0, np.nan])]
    )
    def test_direction_that_does_not_fit(self, direction):
        with pytest.raises(ValueError, match="direction"):
            jaxfd.estimate_noise(jnp.sum, jnp.ones(2), direction=direction)

    def test_direction_of_integers(self):
        with pytest.raises(TypeError, match="direction"):
            jaxfd.estimate_noise(jnp.sum, jnp.ones(2), direction=np.array([1, 0]))


def test_prints():
    text = str(Noise(1.25e-3, (0.5, 1.2e-3, 1.3e-3), 1e-6, True, 25))
    assert text.splitlines() == [
        "noise 0.00125 at spacing 1e-06 (25 evaluations)",
        "by order of difference: 0.5 0.0012 0.0013",
    ]
    assert "not conclusive" in str(Noise(0.0, (0.0,), 1.0, False, 25))
