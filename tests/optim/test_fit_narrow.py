"""Fits of parameters that are large against what they do: positions, frequencies, times."""

import numpy as np
import pytest

from jaxfd.optim import Status, least_squares

SPREAD = np.random.default_rng(3).normal(size=200)


def peak(at):
    t = np.linspace(at - 3, at + 3, 80)
    right = np.array([10, at, 0.5, 1.0])

    def values(p):
        return p[0] * np.exp(-(((t - p[1]) / p[2]) ** 2) / 2) + p[3]

    return (
        values,
        right,
        0.05 * np.sin(37 * t),
        right + np.array([-2, 0.3, 0.2, -1]),
        [10, 0.5, 0.5, 1],
    )


def line(at, width):
    t = np.linspace(at - 40 * width, at + 40 * width, 200)
    right = np.array([1000, at, width, 10])

    def values(p):
        return p[0] / (1 + ((t - p[1]) / p[2]) ** 2) + p[3]

    return (
        values,
        right,
        5 * SPREAD,
        right + np.array([-200, 0.5 * width, 0.3 * width, -5]),
        right / [1, at / width, 1, 1],
    )


def sine(seconds):
    t = np.linspace(0, seconds, 200)
    right = np.array([2, 50.02, 0.5])

    def values(p):
        return p[0] * np.sin(2 * np.pi * p[1] * t + p[2])

    return (
        values,
        right,
        0.1 * SPREAD,
        right + np.array([-0.2, -0.15 / seconds, -0.3]),
        [2, 0.1 / seconds, 0.5],
    )


def transit(at):
    t = np.linspace(at - 0.2, at + 0.2, 200)
    right = np.array([0.01, at, 0.01, 1.0])

    def values(p):
        return p[3] - p[0] / (1 + np.exp(np.minimum((abs(t - p[1]) - 0.06) / p[2], 300)))

    return (
        values,
        right,
        0.001 * SPREAD,
        right + np.array([-0.002, 0.01, 0.005, 0]),
        [0.01, 0.01, 0.01, 1],
    )


PROBLEMS = {
    "a peak at 1000": peak(1000.0),
    "a peak at 6000": peak(6000.0),
    "a peak at 1e7": peak(1e7),
    "a spectral line": line(656.28, 0.1),
    "a resonator": line(3.3e9, 1e5),
    "mains for 10 s": sine(10.0),
    "mains for a minute": sine(60.0),
    "a transit": transit(2459000.51),
}


def exact(values, right, data, sizes):
    """Parameters and errors by steps that are known to suit."""
    x, d = np.array(right, float), np.diag(1e-4 * np.asarray(sizes, float))
    for _ in range(6):
        steps = [(x + e) - (x - e) for e in d]
        slopes = [(values(x + e) - values(x - e)) / s.sum() for e, s in zip(d, steps, strict=True)]
        a = np.array(slopes).T
        x = x + np.linalg.lstsq(a * np.diag(d), data - values(x), rcond=None)[0] * np.diag(d)
    left = data - values(x)
    unit = a * np.diag(d)
    variance = left @ left / (len(left) - len(x))
    return x, np.sqrt(np.diag(np.linalg.inv(unit.T @ unit)) * variance) * np.diag(d)


@pytest.mark.parametrize("name", PROBLEMS)
class TestNarrow:
    def test_curvature_is_not_noise(self, name):
        values, right, left, start, sizes = PROBLEMS[name]
        data = values(right) + left
        x, errors = exact(values, right, data, sizes)
        fit = least_squares(lambda p: values(np.asarray(p)), start, data=data)
        assert fit.status is Status.CONVERGED
        assert fit.noise == 0
        assert fit.warnings == ()
        assert fit.num_evaluations < 80
        assert np.all(np.abs(fit.x - x) < 1e-3 * errors)
        np.testing.assert_allclose(fit.standard_errors, errors, rtol=2e-3)

    @pytest.mark.parametrize("level", [1e-7, 1e-5, 1e-3])
    def test_noise_beside_curvature(self, name, level):
        values, right, left, start, sizes = PROBLEMS[name]
        data = values(right) + left
        x, errors = exact(values, right, data, sizes)
        rng = np.random.default_rng(0)
        scale = level * np.std(data)

        def noisy(p):
            return values(np.asarray(p)) + scale * rng.normal(size=len(data))

        fit = least_squares(noisy, start, data=data)
        assert fit.status is Status.NOISE
        assert 0.4 < fit.noise / scale < 2.5
        assert np.all(np.abs(fit.x - x) < errors)
        np.testing.assert_allclose(fit.standard_errors, errors, rtol=0.15)
