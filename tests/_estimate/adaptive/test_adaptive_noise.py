"""The search for derivatives of noisy functions."""

import math

import numpy as np
from _rows import ADAPTIVE, SETTLED, Rows, normal

from jaxfd import Adaptive

SEEDS = 25


def noisy(level, x=1.0, method=ADAPTIVE, fresh=None, fun=np.sin, count=SEEDS):
    """Estimates of a function times ``1 + level N``, and their errors for the sine."""

    def pairs(t, k):
        noise = normal(t, k) if fresh is None else fresh.standard_normal(t.shape)
        return fun(t) * (1 + level * noise)

    rows = Rows(pairs=pairs)
    found = rows(x, method=method, count=count)
    return found, np.abs(found.grad - math.cos(x)), rows


class TestNoise:
    def test_noise_that_is_a_function_of_the_point(self):
        found, error, _ = noisy(1e-6)
        assert np.median(error) <= 5e-6
        assert np.mean(error <= found.error) >= 0.9
        assert np.median(found.error) <= 1e-4

    def test_noise_that_differs_from_call_to_call(self):
        found, error, _ = noisy(1e-6, fresh=np.random.default_rng(0))
        assert np.median(error) <= 5e-6
        assert np.mean(error <= found.error) >= 0.9
        assert np.median(found.error) <= 1e-4

    def test_bars_cover_at_all_levels(self):
        covered, errors, bars = [], [], []
        levels = [1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2]
        for level in levels:
            found, error, _ = noisy(level, count=400)
            covered.append(np.mean(error <= found.error))
            errors.append(np.median(error))
            bars.append(np.median(found.error / error))
        assert min(covered) >= 0.9
        assert np.mean(covered) >= 0.95
        assert max(bars) <= 15
        # Of sin(x)(1 + s N) at 1, sixteen points within 1/2 or so tell the slope to a few s.
        assert np.all(np.array(errors) <= 8 * np.array(levels))
        assert np.all(np.array(errors) >= 0.3 * np.array(levels))

    def test_the_step_grows_with_the_noise(self):
        steps = []
        for level in (0.0, 1e-10, 1e-6, 1e-2):
            found, _, _ = noisy(level, fun=lambda t: np.sin(50 * t))
            steps.append(np.median(found.step))
        assert np.all(np.diff(steps) >= 0)
        assert steps[-1] >= 2 * steps[0]

    def test_noise_larger_than_the_slope(self):
        """A slope of 1e-3 in noise of 1e-2: lost close by, found farther out, or the bar says."""
        rows = Rows(pairs=lambda t, k: 1e-3 * t + 1e-2 * normal(t, k))
        found = rows(1.0, count=SEEDS)
        error = np.abs(found.grad - 1e-3)
        assert np.mean(error <= found.error) >= 0.9
        assert np.median(found.step) > 10
        assert np.median(error) <= 1e-3

    def test_nothing_but_noise(self):
        found = Rows(pairs=lambda t, k: normal(t, k))(1.0, count=100)
        assert np.mean(np.abs(found.grad) <= found.error) >= 0.9

    def test_noise_given(self):
        """The bar is never below what noise of that size leaves of the best straight line."""
        for level in (1e-9, 1e-6, 1e-3, 1.0):
            found, error, _ = noisy(1e-6, method=Adaptive(noise=level))
            best = level / found.step / math.sqrt(2 * sum((i / 8) ** 2 for i in range(1, 9)))
            assert np.all(found.error >= best)
            assert np.mean(error <= found.error) >= 0.9
        found, error, _ = noisy(0.0, method=Adaptive(noise=0.0))
        assert np.all(error <= 1e-13)

    def test_noise_given_is_as_good_as_noise_seen(self):
        for level in (1e-8, 1e-4):
            _, seen, _ = noisy(level, count=100)
            found, given, _ = noisy(level, count=100, method=Adaptive(noise=level * math.sin(1)))
            assert np.median(given) <= 2 * np.median(seen)
            assert np.mean(given <= found.error) >= 0.95

    def test_repeats(self):
        """Nine times as often, a third of the error."""
        errors = []
        for repeats in (1, 9):
            rng = np.random.default_rng(1)
            method = Adaptive(repeats=repeats)
            found, error, rows = noisy(1e-3, method=method, fresh=rng, count=100)
            np.testing.assert_array_equal(found.evaluations, SETTLED * repeats + 1)
            assert np.mean(error <= found.error) >= 0.9
            assert len(rows.taken()) == 2
            errors.append(np.median(error))
        assert 2 <= errors[0] / errors[1] <= 5

    def test_repeats_with_other_rounds(self):
        rows = Rows(lambda t: np.cos(1e5 * t), np.abs, np.sin)
        found = rows(np.array([0.3, 0.0, 1.0]), method=Adaptive(repeats=3))
        assert found.evaluations[2] == 3 * SETTLED + 1
        assert np.all(found.evaluations % 3 == 1)
        np.testing.assert_allclose(
            found.grad, [-1e5 * math.sin(3e4), 0.0, math.cos(1.0)], rtol=1e-11
        )
