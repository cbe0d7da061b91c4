"""Verdicts: right gradients are never called wrong, wrong ones are found."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _checks import QUICK, SMOOTH, X, box, check, entries, host_smooth, slope, smooth
from _tools import Chosen, x64
from hypothesis import given, strategies as st

import jaxfd

slope_of_smooth = jax.jit(jax.grad(smooth))
# Compiled at once, and not operation by operation when JAX differentiates it.
compiled_smooth = jax.jit(smooth)


BOXES = {np.dtype(d): Chosen(functools.partial(box, dtype=d)) for d in (np.float64, np.float32)}


def boxed(fun, dtype=np.float64):
    """What `box` makes, good until the next function of the dtype is boxed."""
    return BOXES[np.dtype(dtype)](fun)


@jax.custom_vjp
def buggy(x):
    return jnp.sum(jnp.sin(x) * x)


def _backward(x, cotangent):
    bug = jnp.asarray([1, 1.001, 1], x.dtype)
    return (cotangent * (jnp.cos(x) * x + jnp.sin(x)) * bug,)


buggy.defvjp(lambda x: (buggy(x), x), _backward)


class TestRight:
    def test_by_automatic_differentiation(self):
        report = check(smooth, jnp.asarray(X))
        assert report.ok
        assert entries(report) == ["agrees"] * 3
        assert report.taylor == "agrees"
        assert report.slope == pytest.approx(2, abs=0.1)
        np.testing.assert_allclose(report.claimed, slope(X), rtol=1e-12)
        np.testing.assert_allclose(report.estimated, slope(X), rtol=1e-6)

    @pytest.mark.parametrize("form", [slope, slope(X), jnp.asarray(slope(X)), list])
    def test_given(self, form):
        if form is list:
            at, gradient = list(X), [float(s) for s in slope(X)]
            assert check(boxed(lambda x: host_smooth(np.stack(x))), at, gradient).ok
        else:
            assert check(SMOOTH, X, form).ok

    def test_by_automatic_differentiation_in_float32(self):
        report = check(smooth, X.astype(np.float32))
        assert report.ok
        assert "differs" not in entries(report)
        assert report.taylor != "differs"

    def test_in_float32(self):
        fun = boxed(host_smooth, np.float32)
        for seed in range(5):
            x = np.random.default_rng(seed).uniform(-2, 2, 3).astype(np.float32)
            right = slope(x.astype(np.float64))
            for claim in (right, right.astype(np.float32)):
                report = check(fun, x, claim)
                assert report.verdict != "differs"
                assert report.taylor != "differs"
        assert check(smooth, x, method=QUICK).verdict != "differs"

    def test_without_64_bits(self):
        with x64(False):
            assert check(compiled_smooth, X, method=QUICK).verdict != "differs"
            fun = box(host_smooth, np.float32)
            assert check(fun, X, slope(X)).verdict != "differs"
            assert check(fun, X, lambda x: -slope(np.asarray(x))).verdict == "differs"

    @pytest.mark.parametrize("offset", [1e4, 1e8, -1e12])
    def test_large_values(self, offset, dtype):
        x = X.astype(dtype)
        fun = boxed(lambda x: np.sum(x) + dtype.type(offset), dtype)
        assert check(fun, x, np.ones(3)).verdict != "differs"

    def test_large_values_are_no_excuse(self):
        fun = boxed(lambda x: 1e8 + np.sum(x))
        assert check(fun, X, np.ones(3)).ok
        assert check(fun, X, np.array([1.0, 1.01, 1.0])).verdict == "differs"

    @pytest.mark.parametrize("scale", [1e-200, 1e-12, 1e12, 1e200])
    def test_scale_of_the_function(self, scale):
        fun, right = boxed(lambda x: scale * host_smooth(x)), scale * slope(X)
        assert check(fun, X, right).ok
        assert check(fun, X, right * np.array([1, 1, 1.001])).verdict == "differs"

    def test_scales_of_the_argument(self):
        x = {"large": np.array([2e8, 3e8]), "small": np.array([1e-3])}

        fun = boxed(lambda x: np.sum(np.sin(x["large"] / 1e8)) + np.exp(x["small"][0]))
        assert check(fun, x, {"large": np.cos(x["large"] / 1e8) / 1e8, "small": np.exp([1e-3])}).ok

    @pytest.mark.parametrize(
        ("right", "offset"),
        [(np.array([2, 0, -0.3]), 0.0), (np.zeros(3), 3.0), (np.zeros(3), 0.0)],
        ids=["linear", "constant", "zero"],
    )
    @pytest.mark.parametrize("method", [jaxfd.Adaptive(), QUICK], ids=["Adaptive", "Central"])
    def test_remainders_that_vanish(self, right, offset, dtype, method):
        x, weights = X.astype(dtype), right.astype(dtype)
        fun = boxed(lambda x: np.sum(weights * x) + dtype.type(offset), dtype)
        report = check(fun, x, right, method=method)
        assert report.ok
        assert report.taylor == "agrees"
        wrong = right + np.array([0, 0, 0.1])
        assert check(fun, x, wrong, method=method).verdict == "differs"

    def test_at_a_minimum(self):
        fun = boxed(lambda x: np.sum((x - 1) ** 2) + 3)
        x = np.full(3, 1 + 1e-9)
        assert check(fun, x, 2 * (x - 1)).ok
        assert check(fun, np.ones(3), np.array([0, 0.01, 0])).verdict == "differs"

    def test_entries_without_effect(self):
        x = {"used": X, "unused": np.ones(2)}
        fun = boxed(lambda x: host_smooth(x["used"]))
        report = check(fun, x, {"used": slope(X), "unused": np.zeros(2)})
        assert report.ok
        assert entries(report) == ["agrees"] * 5

    def test_forms_of_arguments(self):
        @jax.jit
        def fun(t):
            return jnp.sum(t["a"][0] ** 2) * t["b"][0] + t["a"][1]

        tree = {"a": [np.ones((2, 2)), jnp.asarray(2.0)], "b": (3.0, None), "empty": np.zeros(0)}
        report = check(fun, tree, method=QUICK)
        assert report.ok
        assert jax.tree.map(np.shape, report.bar) == jax.tree.map(np.shape, tree)
        assert check(jnp.sin, 0.3, method=QUICK).ok
        assert check(lambda x: x**2, np.float32(3.0), method=QUICK).verdict != "differs"


class TestWrong:
    @pytest.mark.parametrize(
        "wrong",
        [
            lambda x: -slope(x),
            lambda x: slope(x)[::-1],
            lambda x: 2 * slope(x),
            lambda x: slope(x) * np.array([1, 1, 0]),
            lambda x: slope(x) + np.array([0, 1e-2, 0]),
            lambda x: 0 * x,
        ],
        ids=["sign", "swapped", "factor", "missing", "added", "zero"],
    )
    def test_grossly(self, wrong, dtype):
        fun = boxed(host_smooth, dtype)
        report = check(fun, X.astype(dtype), lambda x: wrong(np.asarray(x)))
        assert report.verdict == "differs"
        assert report.slope == pytest.approx(1, abs=0.2)

    @pytest.mark.parametrize("entry", [0, 1, 2])
    @pytest.mark.parametrize("error", [1e-3, -1e-3, 0.5])
    def test_in_one_entry(self, entry, error):
        wrong = slope(X)
        wrong[entry] *= 1 + error
        report = check(SMOOTH, X, wrong)
        assert report.verdict == "differs"
        assert report.worst == f"x[{entry}]"
        assert entries(report).count("differs") == 1

    def test_custom_rule_with_a_small_bug(self):
        report = check(buggy, X, method=QUICK)
        assert report.verdict == "differs"
        assert report.worst == "x[1]"
        assert report.taylor == "differs"
        assert report.slope == pytest.approx(1, abs=0.1)

    def test_custom_rule_with_a_small_bug_in_float32(self):
        report = check(buggy, X.astype(np.float32))
        assert report.verdict == "differs"
        assert entries(report) == ["agrees", "differs", "agrees"]

    def test_part_that_is_not_differentiated(self):
        report = check(lambda x: compiled_smooth(jax.lax.stop_gradient(x)) + x[0], X, method=QUICK)
        assert report.verdict == "differs"
        assert entries(report) == ["differs"] * 3

    def test_small_leaf_beside_a_large_one(self):
        fun = boxed(lambda x: 1e6 * np.sum(np.sin(x["a"])) + np.sum(np.sin(x["b"])))
        x = {"a": X, "b": X}
        right = {"a": 1e6 * np.cos(X), "b": np.cos(X)}
        assert check(fun, x, right).ok
        right["b"] = right["b"] * np.array([1, 1.001, 1])
        report = check(fun, x, right)
        assert report.verdict == "differs"
        assert report.worst == "b[1]"

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, value):
        report = check(SMOOTH, X, np.array([value, *slope(X)[1:]]))
        assert report.verdict == "differs"
        assert entries(report) == ["differs", "agrees", "agrees"]
        assert report.worst == "x[0]"

    def test_tolerance(self):
        wrong = slope(X) * 1.01
        assert check(SMOOTH, X, wrong).verdict == "differs"
        assert check(SMOOTH, X, wrong, rtol=0.02).ok


class TestCannotTell:
    def test_function_without_values(self):
        report = check(lambda x: jnp.sum(jnp.log(x)), X, method=QUICK)
        assert report.verdict == "cannot tell"
        report = check(boxed(lambda x: np.sum(x) * np.nan), X, np.ones(3))
        assert entries(report) == ["cannot tell"] * 3
        assert math.isnan(report.slope)

    def test_values_at_some_points_only(self):
        def fun(x):
            return np.sum(np.sqrt(x)) if np.all(x >= 0) else np.nan

        x = np.array([0.0, 1.0, 1e-3])
        report = check(boxed(fun), x, np.array([7.0, 0.5, 0.5 / 1e-3**0.5]))
        assert entries(report)[0] == "cannot tell"
        assert "differs" not in entries(report)

    @pytest.mark.parametrize("low", [jnp.bfloat16, jnp.float16])
    def test_low_precision(self, low):
        x = jnp.asarray(X, low)
        assert check(compiled_smooth, x, method=QUICK).verdict == "cannot tell"
        report = check(compiled_smooth, x, lambda x: -8 * slope_of_smooth(x), method=QUICK)
        assert report.verdict == "differs"

    def test_low_precision_by_default(self):
        x = jnp.asarray(X, jnp.bfloat16)
        assert check(compiled_smooth, x).verdict == "cannot tell"

    @pytest.mark.parametrize("at", [0.0, 1.0])
    @pytest.mark.parametrize("claim", [0.0, 0.5, 1.0])
    def test_kink(self, at, claim, dtype):
        x = np.array([0.0, at, 2.0], dtype)
        right = np.array([claim, claim if at == 0 else 1.0, 1.0], dtype)
        fun = boxed(lambda x: np.sum(np.maximum(x, 0)), dtype)
        for method in (jaxfd.Adaptive(), QUICK):
            assert check(fun, x, right, method=method).verdict == "cannot tell"
        report = check(fun, x, right)
        assert "a kink at x" in str(report)
        assert report.slope == pytest.approx(1, abs=0.1)

    def test_kink_by_automatic_differentiation(self):
        report = check(lambda x: jnp.sum(jax.nn.relu(x)), np.array([0.0, 1.0, 2.0]))
        assert entries(report) == ["cannot tell", "agrees", "agrees"]
        assert report.kink == pytest.approx(1, rel=0.5)

    def test_kinks_against_each_other(self):
        fun = boxed(lambda x: np.sum(np.abs(x) * np.array([1, -1, 1.0])))
        for claim in (np.array([1, -1, 1.0]), np.zeros(3), np.array([-1, -1, 0.5])):
            assert check(fun, np.zeros(3), claim).verdict != "differs"

    def test_a_kink_is_no_excuse(self):
        fun = boxed(lambda x: np.sum(np.maximum(x, 0)))
        assert check(fun, np.array([0.0, 1, 2]), np.array([3, 1, 1.0])).verdict == "differs"

    def test_partial_derivatives_without_a_gradient(self):
        """All entries are right, and still no gradient describes the function."""

        fun = boxed(lambda x: x[0] * x[1] / np.sqrt(np.sum(x**2) + 1e-300))
        report = check(fun, np.zeros(2), np.zeros(2))
        assert report.verdict == "cannot tell"

    def test_zero_gradient_of_a_quantised_function(self):
        """Right on each step of the stairs, and wrong about the stairs: never called right."""
        report = check(boxed(lambda x: np.round(np.sum(x) * 1e3) / 1e3), X, np.zeros(3))
        assert report.verdict == "cannot tell"

    @pytest.mark.parametrize("rate", [1e4, 1e6])
    def test_ripples(self, rate):
        """The gradient is right, but on the scale of the ripples alone."""
        fun = boxed(lambda x: np.sum(x**2) + np.sin(rate * x[0]) / rate**0.5)
        right = 2 * X + np.array([rate**0.5 * np.cos(rate * X[0]), 0, 0])
        assert check(fun, X, right).verdict != "differs"

    def test_method_without_error_bound(self):
        report = check(compiled_smooth, X, method=jaxfd.ComplexStep())
        assert entries(report) == ["cannot tell"] * 3
        assert report.ok
        assert "along a line" in str(report)
        assert (
            check(compiled_smooth, X, lambda x: -slope(x), method=jaxfd.ComplexStep()).verdict
            == "differs"
        )
        assert check(compiled_smooth, X, method=jaxfd.Forward()).ok


class TestNoise:
    """Noise that no dtype tells of widens the bars, and does not make a right gradient wrong."""

    @pytest.mark.parametrize("level", [1e-10, 1e-6, 1e-3, 1.0])
    @pytest.mark.parametrize("method", [jaxfd.Adaptive(), jaxfd.Central(), QUICK])
    def test_right(self, level, method):
        rng = np.random.default_rng(0)
        fun = boxed(lambda x: np.sum(np.sin(x)) + level * rng.standard_normal())
        for _ in range(6):
            x = rng.uniform(-2, 2, 3)
            report = check(fun, x, np.cos, method=method)
            assert report.verdict != "differs"
            assert report.taylor != "differs"

    def test_wrong(self):
        rng = np.random.default_rng(0)
        fun = boxed(lambda x: np.sum(np.sin(x)) + 1e-6 * rng.standard_normal())
        found = []
        for _ in range(10):
            x = rng.uniform(-1, 1, 3)
            assert check(fun, x, -np.cos(x)).verdict == "differs"
            found.append(check(fun, x, np.cos(x) * np.array([1, 1.001, 1])).verdict)
        assert found.count("differs") > 7
        assert "agrees" not in found

    def test_float32_inside_of_float64(self):
        fun = boxed(lambda x: np.sum(np.sin(x.astype(np.float32))))
        for seed in range(5):
            x = np.random.default_rng(seed).uniform(-2, 2, 3)
            for method in (jaxfd.Adaptive(), QUICK):
                assert check(fun, x, np.cos, method=method).verdict != "differs"


@st.composite
def problems(draw, dtype=np.float64):
    """A random smooth function of a few numbers, a point, and the gradient there."""
    n = draw(st.sampled_from([1, 3]))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    matrix, shift = rng.standard_normal((n, n)), rng.standard_normal(n)
    scale = 10.0 ** draw(st.integers(-6, 6))
    offset = scale * draw(st.sampled_from([0.0, 1.0, -1e3]))
    outer, inner = draw(
        st.sampled_from(
            [(np.sin, np.cos), (np.cosh, np.sinh), (lambda z: z**3, lambda z: 3 * z**2)]
        )
    )
    x = rng.standard_normal(n) * draw(st.sampled_from([0.01, 1.0, 3.0]))

    def fun(x):
        values = outer(matrix.astype(dtype) @ x + shift.astype(dtype))
        return dtype(scale) * np.sum(values) + dtype(offset)

    return boxed(fun, dtype), x, scale * matrix.T @ inner(matrix @ x + shift)


class TestProperties:
    @given(problems())
    def test_right_gradients_are_not_called_wrong(self, problem):
        fun, x, gradient = problem
        report = check(fun, x, gradient)
        assert report.verdict != "differs", report
        assert report.taylor != "differs", report

    @given(problems(np.float32))
    def test_nor_in_float32(self, problem):
        fun, x, gradient = problem
        report = check(fun, x, gradient.astype(np.float32))
        assert report.verdict != "differs", report
        assert report.taylor != "differs", report

    @pytest.mark.parametrize(("of", "share"), [(np.float64, 0.9), (np.float32, 0.5)])
    def test_wrong_ones_are_found(self, of, share):
        found = []

        @given(problems(of), st.sampled_from([1.001, 0.999, 1.5, -1.0]))
        def collect(problem, factor):
            fun, x, gradient = problem
            worst = np.argmax(np.abs(gradient))
            gradient[worst] *= factor
            report = check(fun, x, gradient)
            assert entries(report)[worst] != "agrees", report
            found.append(report.verdict == "differs")

        collect()
        assert np.mean(found) > share
