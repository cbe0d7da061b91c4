"""How `jaxfd.optim.minimize` ends: at a minimum in any unit, or with why there is none."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _tools import rosenbrock

import jaxfd
from jaxfd.optim import minimize


class TestTolerance:
    """It is as small as the function."""

    def test_small_values(self, dtype):
        t = jnp.linspace(0, 1, 50, dtype=dtype)
        data = 2e-6 * jnp.exp(-3 * t)
        found = minimize(
            lambda p: jnp.sum((1e-6 * p[0] * jnp.exp(-p[1] * t) - data) ** 2), jnp.ones(2, dtype)
        )
        assert found.converged
        np.testing.assert_allclose(found.x, [2.0, 3.0], rtol=1e-4)

    @pytest.mark.parametrize("unit", [2.0**-100, 1e-8, 1e8])
    def test_any_unit(self, unit):
        found = minimize(lambda x: unit * rosenbrock(x), jnp.array([-1.2, 1.0]))
        assert found.converged
        np.testing.assert_allclose(found.x, 1.0, atol=1e-3)

    def test_units_below_one_change_nothing(self):
        one, other = (
            minimize(lambda x, unit=2.0**-k: unit * rosenbrock(x), jnp.array([-1.2, 1.0]))
            for k in (10, 70)
        )
        np.testing.assert_array_equal(one.x, other.x)
        assert one.num_evaluations == other.num_evaluations

    @pytest.mark.parametrize("more", [-1.0, 1.0, 1e3])
    def test_any_zero(self, more):
        found = minimize(lambda x: more + rosenbrock(x), jnp.array([-1.2, 1.0]))
        assert found.converged
        np.testing.assert_allclose(found.x, 1.0, atol=1e-3)

    @pytest.mark.parametrize("fun", [rosenbrock, lambda x: jnp.sum((x - 1) ** 2)])
    def test_starts_at_zero(self, dtype, fun):
        found = minimize(fun, jnp.ones(2, dtype))
        assert found.converged
        assert found.value == 0

    def test_with_an_optimizer(self):
        with jax.numpy_dtype_promotion("standard"):
            found = minimize(lambda x: 1e-12 * jnp.sum((x - 3) ** 2), jnp.zeros(2), optax.sgd(1e11))
        np.testing.assert_allclose(found.x, 3.0, atol=1e-2)


SAMPLE = np.random.default_rng(0).normal(3, 1, 40)
# Functions, starts, least values and bounds.
LOW = {
    "a distant well": (lambda x: -np.exp(-np.sum((x - 6) ** 2)), [0.0, 0.0], -1.0, None),
    "the same in a box": (lambda x: -np.exp(-np.sum((x - 6) ** 2)), [0.0, 0.0], -1.0, (-10, 10.0)),
    "a wide well": (lambda x: -np.exp(-(((x[0] - 1000) / 100) ** 2) / 2), [1.0], -1.0, None),
    "a likelihood": (
        lambda x: -np.prod(np.exp(-((SAMPLE - x[0]) ** 2) / 2) * 2),
        [0.0],
        -np.prod(np.exp(-((SAMPLE - SAMPLE.mean()) ** 2) / 2) * 2),
        None,
    ),
    "a start of no height": (lambda x: x[0] * (x[0] - 1), [1e-18], -0.25, None),
    "a deep well": (lambda x: -1 / (1e-6 + np.sum((x - 5) ** 2)), [0.0, 1.0], -1e6, None),
    "towards 0": (lambda x: 1 / (x[0] + 1e-8), [1e-8], 0.0, (0.0, None)),
    "towards a half": (lambda x: -x[0] / (1 + 2 * abs(x[0])), [1e-10], -0.5, None),
}


class TestNoMinimum:
    @pytest.mark.parametrize(
        "fun",
        [lambda x: -jnp.sum(x), lambda x: jnp.sum(x**3), lambda x: -jnp.sum(jnp.log(x))],
        ids=["linear", "cubic", "logarithm"],
    )
    def test_unbounded(self, dtype, fun):
        found = minimize(fun, jnp.ones(2, dtype))
        assert not found.converged
        assert "seems to have no minimum" in found.message

    def test_far_away_is_none(self):
        found = minimize(lambda x: jnp.sum((jnp.log(x) - 40) ** 2), jnp.ones(2))
        assert found.converged
        np.testing.assert_allclose(found.x, np.exp(40), rtol=1e-3)

    def test_in_huge_units_is_none(self):
        found = minimize(lambda x: jnp.sum((x / 1e20 - 3) ** 2), jnp.zeros(2))
        assert found.converged
        assert found.num_scaling > 0
        np.testing.assert_allclose(found.x, 3e20, rtol=1e-4)

    @pytest.mark.parametrize("case", LOW, ids=str)
    def test_only_where_values_fall_without_a_limit(self, case):
        """A first value may be next to nothing beside the least one."""
        fun, start, least, bounds = LOW[case]
        found = minimize(lambda x: float(fun(np.asarray(x))), np.array(start), bounds=bounds)
        assert found.converged
        assert found.value == pytest.approx(least, rel=1e-6, abs=1e-8)

    @pytest.mark.parametrize(
        "fun",
        [
            lambda x: -np.sum(x**2),
            lambda x: x[0] - 2 * x[1],
            lambda x: -np.log(np.log(x[0] + x[1] + 3)),
            lambda x: 1e10 * np.exp(-x[0]) - np.log(x[0] + x[1] + 1),
        ],
        ids=["a hill", "a slope", "slower and slower", "from a height"],
    )
    def test_falls_without_a_limit(self, fun):
        found = minimize(lambda x: float(fun(np.asarray(x))), np.array([1.0, 1.0]))
        assert found.status == "unbounded"

    def test_falls_without_a_limit_by_an_optimizer(self):
        found = minimize(lambda x: -jnp.sum(x**2), jnp.ones(2, np.float32), optax.sgd(9.0))
        assert found.status == "unbounded"

    def test_flat(self, dtype):
        found = minimize(lambda x: 0 * jnp.sum(x) + 2, jnp.zeros(2, dtype))
        assert not found.converged
        assert found.message.startswith("no point near x0 has another value")
        np.testing.assert_array_equal(found.x, 0)

    def test_down_to_a_plateau(self):
        found = minimize(lambda x: jnp.sum(jnp.floor(64 * x) ** 2) / 64**2, jnp.array([1.0, 2.0]))
        assert found.converged
        assert found.value == 0


class TestStuck:
    def test_rounding(self):
        x0 = jnp.array([-1.2, 1.0, -1.2, 1.0, -1.2], np.float32)
        with jax.enable_x64(False):
            assert minimize(rosenbrock, x0).converged
            found = minimize(rosenbrock, x0, method=jaxfd.Central())
            assert found.status == "no progress"
            assert "enable x64" in found.message
            assert found.value < 1e-4

    @pytest.mark.parametrize("n", [3, 8])
    def test_from_closer(self, n):
        """A curvature that changes within the steps of central differences is no dead end."""
        for seed in range(4):
            x0 = 2 * np.random.default_rng(seed).normal(size=n).astype(np.float32)
            found = minimize(rosenbrock, jnp.asarray(x0))
            assert found.converged, found.message
            assert found.value < 1e-6 or found.value == pytest.approx(3.9866, abs=2e-3)


@pytest.mark.parametrize(("n", "least", "near"), [(4, 2.249977e-5, 1e-5), (10, 7.087652e-5, 2e-3)])
def test_a_bent_valley_is_followed(n, least, near):
    """Its floor falls by 1e5 times less than its walls: the first penalty of Gill and Murray."""

    def penalty(x):
        x = np.asarray(x)
        return float(1e-5 * np.sum((x - 1) ** 2) + (np.sum(x**2) - 0.25) ** 2)

    found = minimize(penalty, np.arange(1.0, n + 1))
    assert found.converged
    assert found.value == pytest.approx(least, rel=near)
    # Here it ends with forward differences, which see no curvature.
    other = minimize(penalty, 3 * np.random.default_rng(1).normal(size=n))
    assert other.value == pytest.approx(least, rel=2e-3)


def test_a_steep_bent_valley():
    found = minimize(
        lambda x: float(1e6 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2), np.array([-1.2, 1.0])
    )
    assert found.converged
    assert found.value < 1e-10


HILLS = {
    "top of a wave": (lambda x: np.cos(x[0]), [0.0], -1.0),
    "between two wells": (lambda x: (x[0] ** 2 - 1) ** 2, [0.0], 0.0),
    "a saddle": (lambda x: 1 + x[0] ** 2 - x[1] ** 2 + x[1] ** 4, [0.0, 0.0], 0.75),
    "a saddle of pairs": (lambda x: 3 + x[0] * x[1] + (x**4).sum() / 10, [0.0, 0.0], 1.75),
    "a value of 0 on top": (lambda x: 0.1 * (x[0] - 2) ** 4 - (x[0] - 2) ** 2, [2.0], -2.5),
}


@pytest.mark.parametrize("hill", HILLS)
def test_no_slope_is_not_yet_a_minimum(hill):
    fun, start, least = HILLS[hill]
    found = minimize(lambda x: float(fun(np.asarray(x, float))), np.array(start))
    assert found.converged
    assert found.value == pytest.approx(least, abs=1e-6)
