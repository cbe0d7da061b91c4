"""Starts whose own size says nothing: an amplitude of 1e-9 hides what everything else does."""

import numpy as np
import pytest

from jaxfd.optim import least_squares

T = np.linspace(0.0, 4.0, 20)
MODELS = {
    "decay": (lambda p: p[0] * np.exp(-p[1] * T), [3.0, 0.5], [1.0]),
    "saturation": (lambda p: p[0] * T / (p[1] + T), [4.0, 1.2], [1.0]),
    "power": (lambda p: p[0] * (T + 0.1) ** p[1], [2.0, 1.3], [1.0]),
    "peak": (
        lambda p: p[0] * np.exp(-(((T - p[1]) / p[2]) ** 2)) + p[3],
        [5.0, 2.0, 0.7, 1.0],
        [1.5, 1.0, 0.5],
    ),
    "wave": (lambda p: p[0] * np.sin(p[1] * T) + p[2], [2.0, 1.5, 0.3], [1.4, 0.1]),
}


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("tiny", [1e-4, -1e-7, 1e-10, -1e-13, 1e-15])
def test_a_tiny_amplitude(name, tiny):
    model, right, others = MODELS[name]
    fit = least_squares(model, np.array([tiny, *others]), data=model(np.array(right)))
    assert fit.converged
    np.testing.assert_allclose(np.abs(fit.x), right, rtol=1e-5)
    assert fit.num_evaluations < 250 * len(right)


@pytest.mark.parametrize("tiny", [1e-6, -1e-12])
def test_units_of_the_data_change_nothing(tiny):
    def model(p):
        return 1e-20 * (p[0] + p[1] * T)

    fit = least_squares(model, np.array([tiny, 1.0]), data=model([3.0, -2.0]))
    assert fit.converged
    np.testing.assert_allclose(fit.x, [3.0, -2.0], rtol=1e-6)
    assert fit.num_evaluations < 60


def test_inside_walls():
    model, right, _ = MODELS["decay"]
    fit = least_squares(model, np.array([1e-9, 1.0]), data=model(right), bounds=(0.0, 2.0))
    assert fit.converged
    assert fit.x[0] == 2.0


def noisy(model, level, seed=3):
    """A model whose every value has noise of its own, a share of it; JAX cannot trace it."""
    rng = np.random.default_rng(seed)
    return lambda p: model(np.asarray(p)) * (1 + level * rng.standard_normal(20))


def drag(p):
    v = np.linspace(5.0, 50.0, 20)
    return p[0] + p[1] * v + p[2] * v**2


DRAG = drag([120.0, 2.0, 0.4]) + 12 * np.random.default_rng(7).standard_normal(20)


class TestNoise:
    """Where noise hides what entries next to 0 do."""

    @pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
    @pytest.mark.parametrize("level", [1e-3, 1e-2])
    def test_a_tiny_amplitude(self, level):
        """Its slope is noise, of a share of the residuals that is beyond notice."""
        model, right, _ = MODELS["power"]
        data = model(right) * (1 + 0.02 * np.cos(9 * T))
        fit = least_squares(noisy(model, level), np.array([1e-9, 1.0]), data=data)
        best = least_squares(model, np.ones(2), data=data)
        assert fit.converged
        assert np.all(np.abs(fit.x - best.x) < 3 * best.standard_errors)

    @pytest.mark.parametrize(("start", "level"), [(1e-9, 1e-6), (1e-9, 1e-4), (1.0, 1e-3)])
    def test_entries_of_no_size(self, start, level):
        fit = least_squares(noisy(drag, level), np.full(3, start), data=DRAG)
        best = least_squares(drag, np.ones(3), data=DRAG)
        assert np.all(np.abs(fit.x - best.x) < 3 * best.standard_errors)
        np.testing.assert_allclose(fit.standard_errors, best.standard_errors, rtol=0.5)

    def test_an_entry_of_0_has_influence(self):
        def rounded(p):
            found = 3e8 * p[0] * np.exp(-T / p[1]) + p[2]
            return np.array([float(f"{v:.5e}") for v in found])

        fit = least_squares(rounded, np.array([1.0, 1.0, 0.0]), data=rounded([1.0, 0.8, 1e7]))
        np.testing.assert_allclose(fit.x, [1.0, 0.8, 1e7], rtol=1e-4)


@pytest.mark.parametrize("level", [0.0, 1e-2])
def test_all_that_there_is_goes_to_0(level):
    """Entries take their rounding with them: such a search used to end in overflow."""
    rows = noisy(lambda p: p[0] * T + p[1] * T**2, level)
    fit = least_squares(rows, np.ones(2))
    assert fit.converged
    assert fit.message == "the residuals are zero to rounding"
    assert np.abs(fit.x).max() < 1e-30
    assert fit.num_evaluations < 150
