"""`jaxfd.optim.minimize` on the host: what it spends, what units do to it, what it calls an end.

Functions here are NumPy's, so nothing is compiled.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _tools import Counted, x64

import jaxfd
from jaxfd.optim import minimize
from jaxfd.optim._quasi_newton.metric import Metric


def rosenbrock(x):
    # JAX cannot trace this.
    x = [float(z) for z in x]
    return sum(100 * (b - a * a) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(x))


def bowl(x):
    return float(np.sum((x - np.arange(1.0, 1 + len(x))) ** 2))


def control(u):
    x, v = 1.0, 0.0
    for a in u.tolist():
        v += 0.1 * a
        x += 0.1 * v
    return 1e-3 * float(u @ u) + 10 * x * x + v * v


def dense(n):
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(n, n)))
    matrix, at = basis * np.logspace(0, 4, n) @ basis.T, rng.normal(size=n)
    return lambda x: float((x - at) @ matrix @ (x - at) / 2)


class TestPlainFunctions:
    def test_nothing_is_compiled(self, caplog):
        fun = Counted(rosenbrock)
        minimize(fun, np.array([-1.2, 1.0]))  # that JAX cannot trace it is learnt by a call
        fun.calls = 0
        with jax.log_compiles():
            found = minimize(fun, np.array([-1.2, 1.0]))
        assert [each for each in caplog.messages if "Finished XLA compilation" in each] == []
        assert found.converged
        assert found.num_evaluations == fun.calls < 200
        np.testing.assert_allclose(found.x, 1.0, atol=1e-4)

    def test_all_digits_where_jax_has_few(self):
        box = jaxfd.blackbox(bowl, jax.ShapeDtypeStruct((), np.float32))
        with x64(False):
            for fun in (lambda x: bowl(np.asarray(x).astype(np.float64)), box):
                found = minimize(fun, np.array([1e5, 3.0]))
                assert found.x.dtype == np.float64
                assert found.value < 1e-9
            assert minimize(box, jnp.array([3.0, 1.0])).x.dtype == np.float32

    def test_pytree_bounds_and_gradient(self):
        x0 = {"a": 5.0, "b": np.array([5.0, 5.0])}
        upper = {"a": 9.0, "b": np.array([1.5, 9.0])}
        found = minimize(
            lambda p: bowl(np.array([float(p["a"]), *p["b"].tolist()])),
            {"a": np.array(0.5), "b": np.array([0.5, 0.5])},
            bounds=(0.0, upper),
        )
        assert jax.tree.structure(found.x) == jax.tree.structure(x0)
        np.testing.assert_allclose(found.x["b"], [1.5, 3.0], atol=1e-5)
        np.testing.assert_allclose(found.gradient["b"], [-1.0, 0.0], atol=1e-4)
        assert np.all(found.gradient_error["b"] < 1e-4)

    def test_what_it_raises_arrives_as_it_is(self):
        def broken(x):
            if float(x[0]) > 0.5:
                raise ZeroDivisionError("no such valve")
            return bowl(x)

        with pytest.raises(ZeroDivisionError, match="no such valve"):
            minimize(broken, np.zeros(2))

    def test_with_a_method_or_an_optimizer(self):
        found = minimize(rosenbrock, np.array([-1.2, 1.0]), method=jaxfd.Central())
        assert found.value < 1e-8
        with jax.numpy_dtype_promotion("standard"):
            found = minimize(lambda x: bowl(x) + 0 * float(x[0]), np.zeros(2), optax.sgd(0.3))
        assert found.value < 1e-6
        assert found.status == "converged"

    def test_goes_on_from_a_checkpoint(self, tmp_path):
        whole = minimize(rosenbrock, np.array([-1.2, 1.0]))
        for steps in (1, 7):
            minimize(rosenbrock, np.array([-1.2, 1.0]), checkpoint=tmp_path, max_steps=steps)
        fun = Counted(rosenbrock)
        again = minimize(rosenbrock, np.array([-1.2, 1.0]), checkpoint=tmp_path)
        np.testing.assert_array_equal(again.x, whole.x)
        np.testing.assert_array_equal(again.history, whole.history)
        assert again.num_evaluations == whole.num_evaluations
        with pytest.raises(ValueError, match="another problem"):
            minimize(fun, np.array([-1.2, 1.0]), checkpoint=tmp_path)


def test_a_composition_goes_on_where_jax_has_few_digits(tmp_path):
    box = jaxfd.blackbox(lambda x: 1e4 + x**2, jax.ShapeDtypeStruct((2,), np.float32))

    def loss(x):
        return jnp.sum((box(x) - 1e4 - 2.0) ** 2)

    with x64(False):
        x0 = jnp.array([1.0, 3.0])
        whole = minimize(loss, x0)
        for steps in (2, 4, 2000):
            found = minimize(loss, x0, checkpoint=tmp_path, max_steps=steps)
    np.testing.assert_array_equal(found.history, whole.history)
    np.testing.assert_allclose(np.abs(found.x), 2**0.5, rtol=1e-5)


class TestSpends:
    """The limits are 1.1 times what scipy's BFGS takes, or today's and a tenth."""

    @pytest.mark.parametrize(
        ("fun", "x0", "most"),
        [
            (control, np.zeros(20), 208),
            (control, np.zeros(60), 335),
            (dense(20), np.ones(20), 785),
            (lambda x: float(np.logspace(0, 4, 20) @ (x - 0.5) ** 2), np.ones(20), 95),
        ],
        ids=["control 20", "control 60", "dense", "diagonal"],
    )
    def test_on_larger_problems(self, fun, x0, most):
        found = minimize(fun, x0)
        assert found.converged
        assert found.num_evaluations <= most

    def test_beyond_some_hundred(self):
        bends = np.where(np.arange(600) % 2, 1.0, 3.0)
        found = minimize(lambda x: float(bends @ (x - np.roll(x, 1) / 2) ** 2), np.ones(600))
        assert found.converged
        assert found.value < 1e-8


class TestUnits:
    @pytest.mark.parametrize("method", [None, jaxfd.Central()])
    @pytest.mark.parametrize("units", [(1e-6, 1.0), (1e-6, 1e6), (1e3, 1e-5)])
    def test_change_nothing(self, units, method):
        units = np.array(units)
        plain = minimize(rosenbrock, np.array([-1.2, 1.0]), method=method)
        other = minimize(lambda x: rosenbrock(x / units), units * [-1.2, 1.0], method=method)
        assert other.converged
        assert abs(other.num_evaluations - plain.num_evaluations) <= 0.1 * plain.num_evaluations
        np.testing.assert_allclose(other.x / units, 1.0, atol=1e-3)

    def test_of_entries_at_zero(self):
        units = 10.0 ** np.array([-6, 5, -2, 6])
        found = minimize(lambda x: bowl(x / units), np.zeros(4))
        assert found.converged
        assert 0 < found.num_scaling <= 8 * 4
        np.testing.assert_allclose(found.x / units, [1, 2, 3, 4], rtol=1e-4)
        assert found.num_evaluations - found.num_scaling <= 40

    @pytest.mark.parametrize("tiny", [1e-12, 1e-200])
    def test_an_entry_that_starts_tiny_is_not_frozen(self, tiny):
        found = minimize(bowl, np.array([0.0, tiny]))
        assert found.converged
        np.testing.assert_allclose(found.x, [1, 2], atol=1e-5)


class TestStatus:
    def test_an_entry_on_a_step(self):
        def fun(x):
            return float(np.floor(x[0] / 100) ** 2 + (x[1] - 2) ** 2)

        found = minimize(fun, np.array([150.5, 1.0]))
        assert found.value < 1e-6 or found.status == "no progress"

    def test_a_gradient_that_is_unknown(self):
        found = minimize(
            lambda x: np.nan if x[0] != 1 else float((x[1] - 2) ** 2), np.array([1.0, 0.0])
        )
        assert not found.converged
        assert found.status == "failed points"
        assert "x[0]" in found.message

    def test_a_wall_of_failures(self):
        found = minimize(lambda x: np.nan if x[0] > 0.5 else bowl(x), np.zeros(2))
        assert found.status == "failed points"
        assert "along x[0];" in found.message
        np.testing.assert_allclose(found.x, [0.5, 2.0], atol=1e-4)

    @pytest.mark.parametrize(
        "fun",
        [
            lambda x: -float(x[0]),
            lambda x: float(np.log(abs(x[0])) - 1 / x[0] ** 2),
            lambda x: -np.inf if x[0] > 3 else -float(x[0]),
        ],
        ids=["linear", "pole", "-inf"],
    )
    def test_unbounded(self, fun):
        found = minimize(fun, np.ones(1))
        assert found.status == "unbounded"
        assert not found.converged

    @pytest.mark.parametrize("rate", [2.0, 1e-13])
    def test_an_optimizer_that_gets_nowhere(self, rate):
        with jax.numpy_dtype_promotion("standard"):
            found = minimize(bowl, jnp.zeros(2), optax.sgd(rate), max_steps=300)
        assert found.status == "no progress"
        assert not found.converged

    def test_much_noise(self):
        rng = np.random.default_rng(0)
        found = minimize(
            lambda x: (1 + float(np.sum((x - 3) ** 2))) * (1 + 0.1 * rng.normal()), np.zeros(2)
        )
        assert found.status == "noise reached"
        assert found.converged
        assert 0.01 < found.noise < 1
        assert np.sum((found.x - 3) ** 2) < 0.5

    def test_an_inflection_is_no_end(self):
        found = minimize(lambda x: float(np.sum(x**3) + np.sum(x**4)), np.ones(2))
        np.testing.assert_allclose(found.x, -0.75, atol=1e-4)

    def test_an_entry_that_does_not_count(self):
        found = minimize(lambda x: float((x[0] - 3) ** 2), np.ones(2))
        assert found.converged
        assert found.message.endswith("moves of x[1] change nothing")


def test_metric_is_the_inverse_of_a_quadratics_hessian():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4))
    hessian, metric = root @ root.T + np.eye(4), Metric.begin(np.ones(4))
    for _ in range(300):
        s = rng.normal(size=4)
        metric = metric.learn(s, hessian @ s, np.zeros(4))
    g = rng.normal(size=4)
    np.testing.assert_allclose(metric.times(g), np.linalg.solve(hessian, g), rtol=1e-3)
    free = np.array([True, False, True, True])
    part = np.linalg.solve(hessian[np.ix_(free, free)], g[free])
    np.testing.assert_allclose(metric.within(g, free)[free], part, rtol=1e-3)
    flat = metric.learn(-s, hessian @ s, np.zeros(4))
    assert flat.wider
    np.testing.assert_array_equal(flat.inverse, metric.inverse)
