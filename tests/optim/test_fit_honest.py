"""Fits of hard functions: found from where one starts, and nothing is said that is not known."""

import numpy as np
import pytest
from scipy import optimize

from jaxfd.optim import Status, least_squares

T = np.linspace(0.0, 4.0, 20)
Y = 3 * np.exp(-0.5 * T) + 0.01 * np.cos(40 * T)
RIGHT, ERRORS = np.array([3.00246, 0.500613]), np.array([0.004668, 0.001305])
ONES = np.ones(2)


def decay(p):
    with np.errstate(all="ignore"):
        return p[0] * np.exp(-p[1] * T)


def noise(number):
    """Noise that is a function of one number."""
    return np.random.default_rng(int(np.float64(number).view(np.uint64))).normal(size=len(T))


class TestZeroToRounding:
    """Residuals are not zero because those at the start were astronomical."""

    @pytest.mark.parametrize("start", [20.0, 40.0, 60.0])
    def test_stiff_exponential(self, start):
        t = np.linspace(0, 1, 20)
        data = np.exp(t) + 0.01 * np.cos(30 * t)
        fit = least_squares(lambda p: np.exp(p[0] * t), np.array([start]), data=data)
        assert fit.converged
        assert fit.x[0] == pytest.approx(0.99967, abs=1e-5)

    def test_a_diode(self):
        """So curved a valley that rounding decides whether 3,000 evaluations lead through it."""
        volts = np.linspace(0, 0.8, 20)

        def model(p):
            with np.errstate(all="ignore"):
                return p[0] * (np.exp(volts / p[1]) - 1) + p[2]

        data = 1e-9 * (np.exp(volts / 0.04) - 1) + 1e-3
        reached = 0
        for start in (0.00999, 0.01, 0.01001):
            with np.errstate(all="ignore"):
                fit = least_squares(model, np.array([1e-9, start, 0.0]), data=data)
            assert fit.converged or fit.status is Status.LIMIT
            assert fit.converged == (fit.cost < 1e-12)
            reached += fit.converged
        assert reached

    def test_a_fall_from_great_heights_is_no_zero(self):
        """The sum of squares falls from 1e108: what is left of it is not nothing for that."""
        volts = np.linspace(0, 0.8, 30)

        def model(p):
            with np.errstate(all="ignore"):
                return p[0] * (np.exp(volts / p[1]) - 1) + p[2]

        with np.errstate(all="ignore"):
            fit = least_squares(
                model,
                np.array([4.7e-13, 5.2e-3, 8e-3]),
                data=model([1e-12, 0.026, 0.0]),
                max_evaluations=300,
            )
        assert not fit.converged or fit.cost < 1e-12

    def test_high_powers_from_far_away(self):
        fit = least_squares(lambda p: np.r_[(p[0] - 1) ** 9, p[0] - 1.5, 0.3], np.array([1e3]))
        assert fit.x[0] == pytest.approx(1.49993, abs=1e-4)


def in_digits(digits):
    return lambda v: np.array([float(f"%.{digits}g" % each) for each in v])


ROUNDINGS = {
    "3 decimals": lambda v: np.round(v, 3),
    "4 decimals": lambda v: np.round(v, 4),
    "3 digits": in_digits(3),
    "4 digits": in_digits(4),
    "6 digits": in_digits(6),
}


class TestRoundedValues:
    @pytest.mark.parametrize("rounding", ROUNDINGS)
    @pytest.mark.parametrize("inside", [False, True])
    def test_parameters_and_errors(self, rounding, inside):
        def values(p):
            return ROUNDINGS[rounding](decay(p)) - (Y if inside else 0)

        fit = least_squares(values, ONES, data=None if inside else Y)
        assert fit.converged
        assert np.all(np.abs(fit.x - RIGHT) < ERRORS)
        np.testing.assert_allclose(fit.standard_errors, ERRORS, rtol=0.1)

    def test_an_onset_behind_the_data(self):
        """Nothing changes near the start."""

        def ramp(p):
            return np.where(p[0] < T, T - p[0], 0.0) * p[1]

        fit = least_squares(ramp, np.array([5.0, 1.0]), data=ramp([2.0, 1.5]))
        assert not fit.converged or fit.cost < 1e-12

    def test_residuals_that_never_change(self):
        fit = least_squares(lambda p: np.ones(3) + 0 * p[0], np.array([2.0]))
        assert fit.status is Status.STUCK
        assert "no step that was tried changes the residuals" in fit.message


class TestNoise:
    @pytest.mark.parametrize("level", [1e-2, 1e-3, 1e-4, 1e-5])
    @pytest.mark.parametrize("entry", [0, 1])
    def test_that_follows_one_parameter(self, level, entry):
        def values(p):
            return decay(p) * (1 + level * noise(p[entry]))

        fit = least_squares(values, ONES, data=Y)
        assert fit.status is Status.NOISE
        assert np.all(np.abs(fit.x - RIGHT) < 3 * ERRORS)
        assert np.all(np.asarray(fit.standard_errors) > 0.8 * ERRORS)


class TestEntriesNearZero:
    """They have no scale of their own."""

    @pytest.mark.parametrize("start", [[1.0, 1.0], [3.0, 0.1], [3.0, 0.0]])
    def test_at_the_optimum(self, start):
        x = np.linspace(-0.5, 0.5, 20)
        data = 3 + 0.1 * np.cos(9 * np.arange(20))
        data = data - x * (x @ data) / (x @ x)
        fit = least_squares(lambda p: p[0] + p[1] * x, np.array(start), data=data)
        left = data - data.mean()
        wanted = np.sqrt(left @ left / 18 / np.array([20, x @ x]))
        np.testing.assert_allclose(fit.standard_errors, wanted, rtol=1e-5)
        assert fit.warnings == ()

    @pytest.mark.parametrize("start", [2.0, 0.5, 1 + 1e-10, 1 + 1e-14])
    def test_logarithms_of_ones(self, start):
        slope = -T * np.exp(-T)
        left = 0.01 * np.cos(7 * T)
        left = left - slope * (slope @ left) / (slope @ slope)
        fit = least_squares(
            lambda p: np.exp(-p["k"] * T),
            {"k": start},
            data=np.exp(-T) + left,
            transform={"k": "log"},
        )
        wanted = np.sqrt(left @ left / 19 / (slope @ slope))
        assert fit.x["k"] == pytest.approx(1.0, abs=1e-6)
        assert fit.standard_errors["k"] == pytest.approx(wanted, rel=1e-5)

    @pytest.mark.parametrize("tiny", [1e-6, 1e-9, 1e-12, 1e-30])
    def test_at_the_start(self, tiny):
        fit = least_squares(decay, np.array([tiny, 1.0]), data=Y)
        assert fit.converged
        np.testing.assert_allclose(fit.x, RIGHT, rtol=1e-5)


class TestFailures:
    @pytest.mark.parametrize("start", [[1.0, 0.1], [2.0, 0.15], [3.0, 0.1]])
    def test_a_wall_of_them_is_no_minimum(self, start):
        def values(p):
            return decay(p) if p[1] < 0.2 else np.full(len(T), np.nan)

        fit = least_squares(values, np.array(start), data=Y)
        assert fit.status is Status.FAILED
        assert "lead to failed runs" in fit.message
        assert fit.warnings


class TestLosses:
    @pytest.mark.parametrize("unit", [1.0, 1e-5, 1e-9])
    def test_soft_l1_of_small_residuals(self, unit):
        def own(z):
            return np.array([2 * (np.sqrt(1 + z) - 1), (1 + z) ** -0.5, -0.5 * (1 + z) ** -1.5])

        fits = [
            least_squares(lambda p: unit * decay(p), ONES, data=unit * Y, loss=loss)
            for loss in ("soft_l1", own)
        ]
        exact = optimize.least_squares(
            lambda p: decay(p) - Y, ONES, loss="soft_l1", f_scale=1 / unit, xtol=1e-15, ftol=1e-15
        )
        for fit in fits:
            np.testing.assert_allclose(fit.x, exact.x if unit == 1 else RIGHT, rtol=1e-5)

    def test_bad_ones(self):
        with pytest.raises(ValueError, match=r"loss returned the shape \(20,\)"):
            least_squares(decay, ONES, data=Y, loss=lambda z: z)
        with pytest.raises(ValueError, match="f_scale must be one number"):
            least_squares(decay, ONES, data=Y, loss="huber", f_scale=np.ones(20))
        matrix = np.eye(20) * 1e-12
        matrix[0, 1] = 5e-13
        with pytest.raises(ValueError, match="must be symmetric"):
            least_squares(decay, ONES, data=Y, sigma=matrix)


class TestSeveralMinima:
    def test_mirrored_ones_are_two(self):
        fit = least_squares(
            lambda p: np.array([p[0] ** 2 - 1, 0.3, 0.2]),
            np.array([2.0]),
            starts=[np.array([-2.0])],
        )
        assert sorted(round(float(m.x[0]), 6) for m in fit.minima) == [-1.0, 1.0]

    def test_an_exact_one_is_one(self):
        fit = least_squares(
            lambda p: np.array([p[0], p[1] - 1, p[0] * p[1]]),
            2 * ONES,
            starts=[np.array([-2.0, 1.0]), np.array([1.0, 3.0])],
        )
        assert len(fit.minima) == 1

    def test_a_valley_is_one(self):
        fit = least_squares(
            lambda p: (p[0] + p[1]) * np.ones(4) - [1, 1.1, 0.9, 1.2],
            2 * ONES,
            starts=[np.array([-2.0, 1.0]), np.array([1.0, 3.0])],
        )
        assert len(fit.minima) == 1


def test_intervals_beside_a_wall():
    """Those of the other entries hold, and the entry at its wall has one to the other side."""
    bounds = (np.array([0.0, 0.0, 0.3]), np.full(3, 10.0))
    fit = least_squares(
        lambda p: decay(p) + p[2], np.array([1.0, 1.0, 0.5]), data=Y, bounds=bounds, profile=True
    )
    fixed = least_squares(lambda p: decay(p) + 0.3, ONES, data=Y, profile=True)
    np.testing.assert_allclose(fit.intervals[:2], fixed.intervals, rtol=0.01)
    assert fit.intervals[2, 0] == -np.inf
    assert 0.3 < fit.intervals[2, 1] < 0.5


def test_a_checkpoint_of_another_start(tmp_path):
    """The points of both are kept, and none is taken for another."""
    for start in ([3.0, 0.5], [4.0, 0.3]):
        fit = least_squares(decay, np.array(start), data=Y, checkpoint=tmp_path)
        np.testing.assert_allclose(fit.x, RIGHT, rtol=1e-5)
    again = least_squares(decay, np.array([4.0, 0.3]), data=Y, checkpoint=tmp_path)
    assert again.x.tobytes() == fit.x.tobytes()
