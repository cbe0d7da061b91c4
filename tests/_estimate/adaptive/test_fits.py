"""Fits and ladders: plain numbers, and what they promise of a derivative."""

import math
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest
from _rows import INF
from hypothesis import given, strategies as st

from jaxfd._arrays import power_of_two
from jaxfd._estimate.adaptive.fits import (
    add,
    judge,
    one_sided_fits,
    orthonormal,
    two_sided_fits,
    weigh,
)
from jaxfd._estimate.adaptive.ladder import one_sided_ladder, two_sided_ladder

KINDS = {
    "odd": lambda i: 2 * i + 1,
    "even": lambda i: 2 * i,
    "square": lambda i: 2 * i + 2,
    "all": lambda i: i,
}


def powers(kind, nodes, count):
    """The first powers of a kind at some nodes, one a column."""
    t = np.array([float(node) for node in nodes])
    return np.stack([t ** KINDS[kind](i) for i in range(count)], axis=-1)


class TestPolynomials:
    nodes = tuple(Fraction(i, 7) for i in range(1, 8))

    @pytest.mark.parametrize("kind", KINDS)
    def test_orthonormal(self, kind):
        basis = orthonormal(self.nodes, kind)
        np.testing.assert_allclose(basis.values @ basis.values.T, np.eye(7), atol=1e-12)
        for degree in range(1, 7):
            # What the first ones span is what the first powers do.
            lower = powers(kind, self.nodes, degree)
            np.testing.assert_allclose(basis.values[degree:] @ lower, 0, atol=1e-9)

    @pytest.mark.parametrize("kind", KINDS)
    def test_slopes_are_those_of_least_squares(self, kind):
        basis = orthonormal(self.nodes, kind)
        data = np.random.default_rng(0).normal(size=7)
        for degree in range(2, 6):
            fitted, *_ = np.linalg.lstsq(powers(kind, self.nodes, degree), data, rcond=None)
            exact = {"odd": fitted[0], "all": fitted[1]}.get(kind, 0.0)
            found = basis.slopes[:degree] @ basis.values[:degree] @ data
            np.testing.assert_allclose(found, exact, rtol=1e-8, atol=1e-12)

    def test_fits_to_both_sides(self):
        """Of degree ``2k - 1``: exact for odd powers so far, blind to even ones, and no farther."""
        fits = two_sided_fits()
        t = np.arange(1, 9) / 8
        expected = []
        for m in range(4, 9):
            for k in range(2, m):
                free = 2 * m - k - (k + 1)
                if free >= 3:
                    expected.append((m, k, free))
        assert len(fits.slope) == len(expected)
        for i, (m, k, free) in enumerate(expected):
            assert fits.freedom[i] == free
            assert fits.reach[i] == m / 8
            assert fits.gain[i] == pytest.approx(np.linalg.norm(fits.slope[i]))
            np.testing.assert_array_equal(fits.slope[i, m:], 0)
            for j in range(k + 1):
                data = np.concatenate([t ** (2 * j + 1), t ** (2 * j + 2)])
                left = fits.left[i] @ (fits.basis @ data) ** 2
                slope = fits.slope[i] @ data
                if j < k:
                    assert slope == pytest.approx(float(j == 0), abs=1e-10)
                    assert left == pytest.approx(0, abs=1e-20)
                else:
                    # The first power left out: its error, by gain, bias and residual.
                    only_odd = np.concatenate([t ** (2 * j + 1), 0 * t])
                    row = orthonormal([Fraction(n, 8) for n in range(1, m + 1)], "odd")
                    rest = (row.values @ t[:m] ** (2 * j + 1))[k:]
                    bound = fits.bias[i] * fits.gain[i] * np.sqrt(np.mean(rest**2))
                    assert abs(fits.slope[i] @ only_odd) == pytest.approx(bound, rel=1e-6)

    def test_fits_to_one_side(self):
        fits = one_sided_fits()
        t = np.arange(17) / 16
        expected = [
            (m, k)
            for m in (6, 7, 9, 11, 13, 17)
            for k in range(3, min(m - 1, 10) + 1)
            if m - k >= 3
        ]
        assert len(fits.slope) == len(expected)
        for i, (m, k) in enumerate(expected):
            assert fits.freedom[i] == m - k
            for j in range(k):
                assert fits.slope[i] @ t**j == pytest.approx(float(j == 1), abs=1e-8)
                assert fits.left[i] @ (fits.basis @ t**j) ** 2 == pytest.approx(0, abs=1e-18)
            assert abs(fits.slope[i] @ t**k) > 1e-9

    @pytest.mark.parametrize("single", [False, True], ids=["both sides", "one side"])
    def test_ladders(self, single):
        """Estimates of the slope on every window, exact for the first powers."""
        ladder = one_sided_ladder() if single else two_sided_ladder()
        steps = np.abs(ladder.offsets[: len(ladder.offsets) // (1 if single else 2)])
        kept = (3, 4) if single else (1, 2)
        for i, row in enumerate(ladder.slope):
            scale = ladder.steps[ladder.window[i]]
            for j in range(kept[i % 2]):
                power = j if single else 2 * j + 1
                data = np.concatenate([steps**power, [] if single else 0 * steps])
                assert row @ data / scale == pytest.approx(float(power == 1), abs=1e-9)
            assert ladder.gain[i] == pytest.approx(np.linalg.norm(row))

    @given(st.lists(st.floats(-3, 3), min_size=8, max_size=8), st.integers(-8, 8))
    def test_a_fit_to_a_polynomial_is_exact(self, coefficients, power):
        """Both parts, at any scale, and the bar knows it."""
        radius = 2.0**power
        t = np.arange(1, 9) / 8
        odd = sum(c * t ** (2 * i + 1) for i, c in enumerate(coefficients[:4]))
        even = sum(c * t ** (2 * i + 2) for i, c in enumerate(coefficients[4:]))
        data = np.concatenate([odd, even])[:, None] * radius
        evidence = weigh(np, two_sided_fits(), data, np.array([radius]))
        floor = np.full(1, 1e-15 * radius)
        with np.errstate(all="ignore"):
            judged = judge(np, two_sided_fits(), evidence, floor)
        size = 1 + np.max(np.abs(coefficients))
        assert abs(judged.value[0] - coefficients[0]) <= 1e-12 * size
        assert judged.error[0] <= 1e-11 * size

    def test_more_sets_average_noise_out(self):
        rng = np.random.default_rng(0)
        fits = two_sided_fits()
        t = np.arange(1, 9) / 8
        clean = np.concatenate([t, t**2])[:, None] + np.zeros(300)
        sets = [
            weigh(np, fits, clean + 1e-3 * rng.normal(size=clean.shape), np.ones(300))
            for _ in range(3)
        ]
        floor = np.full(300, 1e-9)
        one = judge(np, fits, sets[0], floor)
        three = judge(np, fits, add(add(*sets[:2]), sets[2]), floor)
        scatter = [np.std(judged.value) for judged in (one, three)]
        assert 1.3 <= scatter[0] / scatter[1] <= 3
        assert np.median(three.error) < np.median(one.error)
        assert np.mean(np.abs(three.value - 1) <= 2.5 * three.error) >= 0.95

    def test_points_that_are_not_finite(self):
        """Fits on fewer points serve, where there are any."""
        fits, floor = two_sided_fits(), np.full(3, 1e-15)
        t = np.arange(1, 9) / 8
        data = np.concatenate([t + t**3, t**2])[:, None] + np.zeros(3)
        data[4, 1] = np.nan  # the fifth rung: four are left
        data[0, 2] = INF
        with np.errstate(all="ignore"):
            judged = judge(np, fits, weigh(np, fits, data, np.ones(3)), floor)
        np.testing.assert_allclose(judged.value[:2], 1.0, rtol=1e-12)
        assert judged.reach[1] == 0.5
        assert np.isnan(judged.value[2])
        assert judged.error[2] == INF

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_power_of_two(self, dtype):
        x = np.array([1.0, 0.99, 1.5, 2.0, 3e-20, 7e20, 0.0, np.nan, INF, -1.0], dtype)
        good = [2.0 ** math.floor(math.log2(v)) for v in x[:6]]
        for xp in (np, jnp):
            found = power_of_two(xp, xp.asarray(x))
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, [*good, 1, 1, 1, 1])
