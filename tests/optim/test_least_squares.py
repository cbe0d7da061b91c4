"""Least squares: it finds what it should, spends little, and says no more than it knows."""

import concurrent.futures
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import x64
from scipy import optimize

import jaxfd
from jaxfd.optim import Status, least_squares

T = np.linspace(0.0, 4.0, 30)
Y = 3 * np.exp(-0.5 * T) + 0.7 + 0.02 * np.random.default_rng(0).standard_normal(30)
X0 = {"a": 1.0, "c": 0.0, "k": 1.0}


def decay(p):
    return p["a"] * np.exp(-p["k"] * T) + p["c"]


def box_of(fun, shape, **options):
    return jaxfd.blackbox(fun, jax.ShapeDtypeStruct(shape, np.float32), **options)


@pytest.fixture(scope="module")
def reference():
    """What scipy makes of the same data."""
    x, covariance = optimize.curve_fit(
        lambda t, a, c, k: a * np.exp(-k * t) + c, T, Y, [1.0, 0.0, 1.0], xtol=1e-14, ftol=1e-14
    )
    return x, covariance


def as_row(fit):
    return np.array([fit.x[k] for k in ("a", "c", "k")])


class TestSameAsScipy:
    def test_plain_function_and_black_box(self, reference):
        """Both on the host, the same to the last bit, without a compilation in float32 JAX."""
        x, covariance = reference
        fit = least_squares(decay, X0, data=Y)
        boxed = least_squares(box_of(decay, Y.shape), X0, data=Y)
        assert fit.converged
        np.testing.assert_allclose(as_row(fit), x, rtol=1e-6)
        np.testing.assert_allclose(fit.covariance, covariance, rtol=1e-4)
        assert as_row(fit).tobytes() == as_row(boxed).tobytes()

    @pytest.mark.parametrize("composed", [True, False])
    def test_traced_functions_have_all_digits_in_float32(self, reference, composed):
        box = box_of(lambda k: np.exp(-k * T), T.shape)

        def residuals(p):
            curve = box(p["k"]) if composed else jnp.exp(-p["k"] * T)
            return p["a"] * curve + p["c"] - Y

        with x64(False):
            fit = least_squares(residuals, X0)
        np.testing.assert_allclose(as_row(fit), reference[0], rtol=3e-6)
        assert fit.converged

    def test_numbers_that_a_traced_function_reads_are_not_rounded(self):
        """Operators alone can be traced; NumPy's float64 beside them stays what it is."""
        x, y = T + 1.0, 3.0 + (T + 1.0) ** -0.5 + 1e-9 * np.arange(30)
        with x64(False):
            fit = least_squares(lambda p: p["a"] + p["b"] * x**-0.5 - y, {"a": 1.0, "b": 2.0})
        exact = np.linalg.lstsq(np.stack([np.ones(30), x**-0.5], 1), y)[0]
        np.testing.assert_allclose([fit.x["a"], fit.x["b"]], exact, rtol=1e-12)

    def test_errors_of_the_data(self, reference):
        sigma = np.linspace(0.5, 2.0, 30)
        model = lambda t, a, c, k: a * np.exp(-k * t) + c  # noqa: E731
        for given in (sigma, np.diag(sigma**2)):
            for absolute in (False, True):
                x, covariance = optimize.curve_fit(
                    model, T, Y, [1, 0, 1], sigma=sigma, absolute_sigma=absolute
                )
                fit = least_squares(decay, X0, data=Y, sigma=given, absolute_sigma=absolute)
                np.testing.assert_allclose(as_row(fit), x, rtol=1e-5)
                np.testing.assert_allclose(fit.covariance, covariance, rtol=1e-3)
        np.testing.assert_allclose(fit.residuals, decay(fit.x) - Y)

    @pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy", "arctan"])
    def test_robust_losses(self, loss):
        y = Y.copy()
        y[::7] += 1.0
        fit = least_squares(decay, X0, data=y, loss=loss, f_scale=0.1)
        other = optimize.least_squares(
            lambda p: p[0] * np.exp(-p[2] * T) + p[1] - y,
            [3, 0.7, 0.5],
            loss=loss,
            f_scale=0.1,
            xtol=1e-12,
        )
        assert fit.cost <= other.cost * (1 + 1e-6)
        assert "robust" in " ".join(fit.warnings)

    def test_method_is_used_as_it_is(self, reference):
        """A stencil of steps of a tenth: every other point is that far from a centre."""
        points = []

        def model(k):
            points.append(float(k) if isinstance(k, float) else np.nan)
            return 3 * np.exp(-k * T)

        fit = least_squares(model, 1.0, data=Y, method=jaxfd.Central(step=0.125), bounds=(0, None))
        best = fit.x
        assert np.isclose(points, best + 0.125, atol=1e-6).any()
        assert np.isclose(points, best - 0.125, atol=1e-6).any()
        exact = least_squares(model, 1.0, data=Y)
        assert abs(best - exact.x) < 0.01
        with pytest.raises(TypeError, match="method must be"):
            least_squares(model, 1.0, data=Y, method=jaxfd.ComplexStep())


class TestPytrees:
    def test_free_entries_move_alone(self):
        start = {"x": np.array([1.0, 0.5]), "n": 3}
        for free in (["x[0]"], {"x": np.array([True, False]), "n": True}):
            fit = least_squares(lambda p: p["x"][0] * np.ones(5) - p["n"], start, free=free)
            assert fit.x["n"] == 3
            np.testing.assert_allclose(fit.x["x"], [3.0, 0.5])
            assert fit.names == ("x[0]",)
            assert fit.standard_errors["x"][1] == 0

    def test_residuals_may_be_a_tree(self):
        fit = least_squares(lambda p: {"u": p - 1, "v": (2 * p - 2,)}, np.array([3.0, 4.0]))
        np.testing.assert_allclose(fit.x, 1.0)
        assert fit.residuals["v"][0].shape == (2,)

    def test_bounds_hold_everywhere_and_in_user_numbers(self):
        seen = []

        def model(p):
            if isinstance(p["c"], float):  # JAX was asked whether it can trace this
                seen.append((p["c"], p["k"]))
            return decay(p)

        fit = least_squares(
            model, X0, data=Y, bounds=({"k": 0.1}, {"c": 0.6, "k": 2.0}), transform={"k": "log"}
        )
        c, k = np.array(seen).T
        assert c.max() <= 0.6
        assert k.min() >= 0.1
        assert k.max() <= 2.0
        assert fit.x["c"] == 0.6
        assert np.isnan(fit.standard_errors["c"])
        assert "c is at its bound" in " ".join(fit.warnings)
        with_bound = optimize.least_squares(
            lambda p: p[0] * np.exp(-p[2] * T) + p[1] - Y,
            [1, 0, 1],
            bounds=([-np.inf, -np.inf, 0.1], [np.inf, 0.6, 2.0]),
        )
        np.testing.assert_allclose(fit.cost, with_bound.cost, rtol=1e-6)

    def test_logarithms_change_nothing_but_the_way(self, reference):
        fit = least_squares(decay, {**X0, "c": 0.1}, data=Y, transform="log")
        np.testing.assert_allclose(as_row(fit), reference[0], rtol=1e-6)
        np.testing.assert_allclose(fit.covariance, reference[1], rtol=1e-3)

    def test_units_do_not_matter(self):
        with np.errstate(over="ignore"):
            plain = least_squares(decay, {**X0, "c": 0.1}, data=Y)
        for unit in (2.0**-20, 2.0**20):

            def scaled(p, unit=unit):
                with np.errstate(over="ignore"):
                    return decay({**p, "k": p["k"] / unit, "a": p["a"] * unit})

            start = {"a": 1.0 / unit, "c": 0.1, "k": unit}
            fit = least_squares(scaled, start, data=Y)
            assert fit.num_evaluations == plain.num_evaluations
            np.testing.assert_allclose(fit.x["k"] / unit, plain.x["k"], rtol=1e-9)


class TestSpendsLittle:
    def test_first_jacobian_is_one_batch_with_the_centre(self):
        batches = []

        def model(p):
            batches.append(len(p))
            return p @ np.eye(4) - 1

        box = box_of(model, (4,), vectorized=True)
        fit = least_squares(box, np.full(4, 2.0))
        assert batches[0] == 5
        assert fit.num_batches == len(batches)
        assert fit.num_evaluations == sum(batches)

    def test_width_saves_batches(self):
        def rosenbrock(x):
            return np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            wide = least_squares(box_of(rosenbrock, (2,), executor=pool), np.array([-1.2, 1.0]))
        narrow = least_squares(rosenbrock, np.array([-1.2, 1.0]))
        assert wide.num_batches <= narrow.num_batches / 2
        np.testing.assert_allclose(wide.x, 1.0, rtol=1e-6)

    def test_linear_problems_take_a_step(self):
        a = np.random.default_rng(1).standard_normal((20, 6))
        fit = least_squares(lambda x: a @ x - 1, np.ones(6))
        assert fit.num_evaluations <= 4 * 7
        np.testing.assert_allclose(fit.x, np.linalg.lstsq(a, np.ones(20))[0], rtol=1e-6)

    def test_starts_share_batches_and_minima_are_told_apart(self):
        box = box_of(lambda x: np.stack([x**2 - 1, 0.1 * (x - 1)], 1), (2,), vectorized=True)
        fit = least_squares(box, -0.9, starts=[0.9, 1.2])
        assert fit.x == pytest.approx(1.0)
        assert [m.starts for m in fit.minima] == [(1, 2), (0,)]
        alone = [least_squares(box, start) for start in (-0.9, 0.9, 1.2)]
        assert fit.num_batches < sum(other.num_batches for other in alone)


class TestNoiseAndFailures:
    @pytest.mark.parametrize("level", [1e-6, 1e-3])
    def test_noise_is_noticed(self, level):
        rng = np.random.default_rng(2)

        def noisy(p):
            return (decay(p) - Y) * (1 + level * rng.standard_normal(30))

        fit = least_squares(noisy, {"a": 2.0, "c": 0.5, "k": 1.0})
        exact = least_squares(decay, X0, data=Y)
        assert fit.cost <= exact.cost * (1 + 20 * level)
        assert fit.noise > 0
        assert fit.num_evaluations < 200

    def test_failed_points_are_survived(self):
        def fails(p):
            if p["k"] > 0.52:
                raise ValueError("too fast")
            return decay(p)

        box = box_of(fails, Y.shape, on_error="nan")
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            fit = least_squares(box, {**X0, "k": 0.05}, data=Y)
        assert fit.converged
        assert fit.num_failed > 5
        (one,) = told
        assert "later batches of this fit" in str(one.message)
        np.testing.assert_allclose(fit.x["k"], 0.50937, rtol=1e-4)

    def test_a_parameter_whose_runs_fail_is_named(self):
        def fails(p):
            return decay(p) + (0.0 if p["c"] == 0.0 else np.nan)

        fit = least_squares(fails, X0, data=Y)
        assert fit.status is Status.FAILED
        assert "c" in fit.message
        assert not fit.converged

    def test_exceptions_come_as_they_are(self):
        class OddError(Exception):
            pass

        def raises(p):
            raise OddError("here")

        with pytest.raises(OddError, match="here"):
            least_squares(raises, X0, data=Y)
        with pytest.raises(OddError, match="here"):
            least_squares(box_of(raises, Y.shape), X0, data=Y)


class TestEnds:
    def test_ctrl_c_and_callback_and_budget(self):
        calls = []

        def model(p):
            calls.append(p)
            if len(calls) == 12:
                raise KeyboardInterrupt
            return decay(p)

        fit = least_squares(model, X0, data=Y)
        assert fit.status is Status.INTERRUPTED
        assert len(calls) == 12
        fit = least_squares(decay, X0, data=Y, callback=lambda fit: len(fit.history) == 3)
        assert (fit.status, len(fit.history)) == (Status.INTERRUPTED, 3)
        fit = least_squares(decay, X0, data=Y, max_evaluations=10)
        assert fit.status is Status.LIMIT
        assert not fit.converged
        assert fit.num_evaluations <= 14
        assert fit.warnings
