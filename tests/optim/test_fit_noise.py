"""Fits of noisy functions: what they spend, where they end, and what they say of it."""

import re

import numpy as np
import pytest

import jaxfd
from jaxfd.optim import Status, least_squares

T = np.linspace(0.0, 4.0, 20)
Y = 3 * np.exp(-0.5 * T) + 0.01 * np.cos(40 * T)
RIGHT, ERRORS = np.array([3.00246, 0.500613]), np.array([0.004668, 0.001305])
ONES = np.ones(2)


def noisy(function, level, seed=0):
    """A function whose every value has noise of its own; JAX cannot trace it."""
    rng = np.random.default_rng(seed)

    def values(p):
        found = function(np.asarray(p, float))
        return found * (1 + level * rng.standard_normal(found.shape))

    return values


def decay(p):
    return p[0] * np.exp(-p[1] * T)


def sums(p):
    """Residuals that differ from their own entry by a sum of all: linear, and well determined."""
    r = np.full(45, -2 * p.sum() / 45 - 1)
    r[:9] += p
    return r


def one_row(p):
    """Residuals that all see one number."""
    return np.arange(1, 36) * (np.arange(1, 8) @ p) - 1


class TestEvaluations:
    def test_learnt_noise_is_forgotten(self):
        """The first differences were nothing but noise; so was the curvature made of them."""
        fit = least_squares(noisy(sums, 1e-6), np.full(9, 10.0))
        assert fit.num_evaluations < 20 * 10
        assert fit.cost == pytest.approx(18.0, rel=1e-4)

    @pytest.mark.parametrize("level", [1e-6, 1e-3])
    def test_steps_within_the_noise_end(self, level):
        fit = least_squares(noisy(one_row, level), np.ones(7), max_evaluations=800)
        assert fit.status is Status.NOISE
        assert fit.cost == pytest.approx(35 * 34 / (4 * 71), rel=10 * level)

    def test_flat_steps_tell_nothing_of_noise(self):
        """Beside the best point nothing changes: what was known of the rounding stays known."""

        def rounded(p):
            return np.array([float(f"{v:.3g}") for v in decay(np.asarray(p, float))]) - Y

        fit = least_squares(rounded, ONES)
        assert fit.status is Status.NOISE
        assert fit.noise > 1e-4
        assert fit.num_evaluations < 120

    def test_the_end_without_noise(self):
        """Slopes from both sides come at once, where slopes from one used to come first."""

        def plain(p):
            return decay(np.asarray(p, float))

        fit = least_squares(plain, ONES, data=Y)
        assert fit.status is Status.CONVERGED
        assert fit.num_evaluations <= 30
        np.testing.assert_allclose(fit.standard_errors, ERRORS, rtol=1e-3)

    def test_a_given_method_sees_noise_on_the_way(self):
        fit = least_squares(noisy(decay, 1e-6), ONES, data=Y, method=jaxfd.Forward())
        assert not fit.converged
        assert "noise hides the slopes" in fit.message
        assert fit.num_evaluations < 200

    def test_far_away(self):
        """Where a linear model foretells all, steps grow fast."""
        a = np.random.default_rng(1).normal(size=(30, 4))
        far = a @ np.array([1e6, -2e6, 5e5, 3e6])
        fit = least_squares(lambda p: a @ np.asarray(p, float) - far, np.ones(4))
        np.testing.assert_allclose(fit.x, [1e6, -2e6, 5e5, 3e6], rtol=1e-9)
        assert fit.num_evaluations < 60


class TestMean:
    """Where one evaluation moves the best point by several standard errors, several are asked."""

    def test_is_near_the_optimum(self):
        fits = [least_squares(noisy(decay, 1e-2, seed), ONES, data=Y) for seed in range(9)]
        far = [np.max(np.abs(fit.x - RIGHT) / ERRORS) for fit in fits]
        # One evaluation alone is off by 3.4 of these, whatever is done with it.
        assert np.median(far) < 1.7
        assert all(fit.status is Status.NOISE for fit in fits)

    def test_says_how_far_off_it_may_be(self):
        fit = least_squares(noisy(decay, 1e-2), ONES, data=Y)
        words = r"that, of \d+ evaluations, puts parameters off by about ([\d.e-]+) of their"
        said = float(re.search(words, fit.message).group(1))
        assert 0.05 < said < 1

    def test_of_little_noise_is_one_evaluation(self):
        fit = least_squares(noisy(decay, 1e-5), ONES, data=Y)
        assert "; that puts parameters off by about 0.00" in fit.message

    def test_stays_inside_of_walls(self):
        seen = []
        values = noisy(decay, 1e-2)

        def watched(p):
            seen.append(np.array(p, float))
            return values(p)

        bounds = (np.array([0.0, 0.55]), np.array([10.0, 2.0]))
        fit = least_squares(watched, ONES, data=Y, bounds=bounds)
        assert fit.converged
        assert min(p[1] for p in seen) >= 0.55


class TestPoorSlopes:
    """Noise that is too little to be noticed beside the start, and far more than the change."""

    @pytest.mark.parametrize("level", [1e-6, 1e-5])
    def test_are_differenced_anew(self, level):
        """Steps that brought half of what was promised went on by the hundred."""
        t = np.linspace(0.0, 10.0, 50)
        data = np.exp(-0.7 * t) + 0.01 * np.cos(40 * t)
        fit = least_squares(noisy(lambda p: np.exp(-p[0] * t), level), np.array([1e-2]), data=data)
        best = least_squares(lambda p: np.exp(-p[0] * t), np.ones(1), data=data)
        assert abs(fit.x[0] - best.x[0]) < best.standard_errors[0]
        assert fit.num_evaluations < 150

    def test_a_1_that_is_always_there_is_no_rounding(self):
        t = np.linspace(0.0, 10.0, 50)

        def single(p):
            return np.exp(-p[0] * t).astype(np.float32)

        fit = least_squares(single, np.array([1e-3]), data=np.exp(-0.7 * t))
        assert fit.noise < 1e-6
        assert fit.x[0] == pytest.approx(0.7, abs=1e-6)
        assert fit.num_evaluations < 150
