"""What a fit says at its end is what it knows: of noise, of jumps, of the best point."""

import numpy as np
import pytest

from jaxfd import Backward, Central, Forward
from jaxfd.optim import Status, least_squares

T = np.linspace(0.0, 4.0, 20)


class TestLowest:
    @pytest.mark.parametrize("budget", [20, 30, 45, 60])
    def test_a_spent_budget_returns_the_lowest(self, budget):
        """Steps that lead up within the noise do not lose it."""
        rng = np.random.default_rng(budget)

        def noisy(p):
            p = np.asarray(p)
            return p[0] * np.exp(-p[1] * T) - 3 * np.exp(-0.5 * T) + 0.05 * rng.normal(size=20)

        fit = least_squares(noisy, np.ones(2), max_evaluations=budget)
        if not fit.converged:
            assert fit.cost == fit.history.min()
            assert fit.cost == pytest.approx(0.5 * np.sum(fit.residuals**2), rel=1e-12)

    def test_a_network_whose_sums_cancel(self):
        t = np.linspace(0.1, 5, 30)
        data = np.sin(2 * t) + 0.01 * np.random.default_rng(1).normal(size=30)

        def network(p):
            p = np.asarray(p)
            return np.tanh(np.outer(t, p[:3]) + p[3:6]) @ p[6:9] + p[9]

        start = np.random.default_rng(4).normal(size=10)
        fit = least_squares(network, start, data=data, max_evaluations=1000)
        assert fit.cost <= fit.history.min() * (1 + 1e-6)
        assert fit.noise < 1e-6


class TestGivenMethods:
    """Their differences are used as they are; the verdict is not."""

    data = 3 * np.exp(-0.5 * T) + 0.01 * np.cos(40 * T)
    errors = np.array([0.004668, 0.001305])

    def fit(self, level, method, model=None):
        rng = np.random.default_rng(0)

        def noisy(p):
            p = np.asarray(p)
            return p[0] * np.exp(-p[1] * T) * (1 + level * rng.normal(size=20))

        return least_squares(model or noisy, np.ones(2), data=self.data, method=method)

    @pytest.mark.parametrize("method", [Forward(), Backward(), Central(), Forward(step=1e-3)])
    @pytest.mark.parametrize("level", [1e-8, 1e-7, 1e-6, 1e-4, 1e-2])
    def test_noise(self, method, level):
        fit = self.fit(level, method)
        assert fit.status is not Status.CONVERGED
        if fit.converged:
            assert np.all(np.abs(fit.x - [3.00246, 0.500613]) < self.errors)
        if np.any(np.abs(np.asarray(fit.standard_errors) / self.errors - 1) > 0.15):
            said = ("noise hides its slope", "errors are rough")
            assert any(words in each for words in said for each in fit.warnings)

    @pytest.mark.parametrize("method", [Forward(), Backward(), Central(), Central(step=0.1)])
    def test_without_noise(self, method):
        fit = self.fit(0.0, method)
        assert fit.status is Status.CONVERGED
        assert fit.warnings == ()
        np.testing.assert_allclose(fit.standard_errors, self.errors, rtol=0.02)

    @pytest.mark.parametrize("method", [Forward(), Central()])
    def test_printed_decimals(self, method):
        fit = self.fit(
            0.0, method, lambda p: np.round(np.asarray(p)[0] * np.exp(-np.asarray(p)[1] * T), 4)
        )
        assert not fit.converged


class TestStairs:
    """A slope of nothing is evidence only where nothing changes farther away either."""

    @pytest.mark.parametrize("method", [None, Forward()])
    @pytest.mark.parametrize("steps", [np.floor, np.round, np.ceil])
    def test_an_entry_on_a_step(self, steps, method):
        def values(p):
            return np.asarray(p)[0] * T + steps(np.asarray(p)[1])

        fit = least_squares(values, np.array([1.0, 0.6]), data=2 * T + 3, method=method)
        assert not fit.converged or fit.cost < 1e-12
        if not fit.converged:
            assert "residuals jump along x[1] and are flat in between" in fit.message
            assert not any("no influence" in each for each in fit.warnings)

    @pytest.mark.parametrize("start", [0.0, 0.6])
    def test_an_entry_without_influence(self, start):
        fit = least_squares(
            lambda p: np.asarray(p)[0] * T + 0 * np.asarray(p)[1],
            np.array([1.0, start]),
            data=2 * T + 3,
        )
        assert fit.status is Status.CONVERGED
        assert any("x[1] has no influence" in each for each in fit.warnings)

    def test_only_stairs(self):
        fit = least_squares(
            lambda p: np.floor(np.asarray(p)[0]) + 0 * T, np.array([0.5]), data=0 * T + 3
        )
        assert not fit.converged or fit.cost == 0
