"""Checks of gradients: right ones are never called wrong, wrong ones are found."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import Host, Points, x64
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxfd

SCALAR = jax.ShapeDtypeStruct((), np.float64)
X = np.array([0.3, 1.7, -2.2])


def smooth(x):
    return jnp.sum(jnp.sin(x) * jnp.exp(x / 4))


def slope(x):
    return np.exp(x / 4) * (np.cos(x) + np.sin(x) / 4)


def check(fun, x, grad=None, **options):
    report = jaxfd.check_grads(fun, x, grad, **options)
    assert report.ok == (report.verdict == "agrees")
    return report


def entries(report):
    """The verdicts of all entries, in the order of the leaves."""
    return [v for leaf in jax.tree.leaves(report.verdicts) for v in np.ravel(leaf)]


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
            assert check(lambda x: smooth(jnp.stack(x)), at, gradient).ok
        else:
            assert check(smooth, X, form).ok

    def test_in_float32(self):
        for seed in range(3):
            x = np.random.default_rng(seed).uniform(-2, 2, 4).astype(np.float32)
            report = check(smooth, x)
            assert report.verdict != "differs"
            assert report.taylor != "differs"
            # A gradient in float64 at a float32 point.
            assert check(smooth, x, slope(x.astype(np.float64))).verdict != "differs"

    def test_without_64_bits(self):
        with x64(False):
            assert check(smooth, X).verdict != "differs"
            assert check(smooth, X, lambda x: -slope(np.asarray(x))).verdict == "differs"

    @pytest.mark.parametrize("offset", [1e4, 1e8, -1e12])
    def test_large_values(self, offset, dtype):
        x = X.astype(dtype)
        assert check(lambda x: jnp.sum(x) + dtype.type(offset), x).verdict != "differs"

    def test_large_values_are_no_excuse(self):
        def fun(x):
            return 1e8 + jnp.sum(x)

        assert check(fun, X).ok
        assert check(fun, X, np.array([1.0, 1.01, 1.0])).verdict == "differs"

    @pytest.mark.parametrize("scale", [1e-200, 1e-12, 1e12, 1e200])
    def test_scale_of_the_function(self, scale):
        assert check(lambda x: scale * smooth(x), X).ok
        wrong = scale * slope(X) * np.array([1, 1, 1.001])
        assert check(lambda x: scale * smooth(x), X, wrong).verdict == "differs"

    def test_scales_of_the_argument(self):
        x = {"large": np.array([2e8, 3e8]), "small": np.array([1e-3])}

        def fun(x):
            return jnp.sum(jnp.sin(x["large"] / 1e8)) + jnp.exp(x["small"][0])

        assert check(fun, x).ok

    @pytest.mark.parametrize(
        "fun",
        [lambda x: 2 * x[0] - 0.3 * x[2], lambda x: 0 * x[0] + 3.0, lambda x: 0 * x[0]],
        ids=["linear", "constant", "zero"],
    )
    def test_remainders_that_vanish(self, fun, dtype):
        x = X.astype(dtype)
        report = check(fun, x)
        assert report.ok
        assert report.taylor == "agrees"
        right = np.asarray(jax.grad(fun)(x))
        assert check(fun, x, right + np.array([0, 0, 0.1])).verdict == "differs"

    def test_at_a_minimum(self):
        report = check(lambda x: jnp.sum((x - 1) ** 2) + 3, np.full(3, 1 + 1e-9))
        assert report.ok
        report = check(lambda x: jnp.sum((x - 1) ** 2) + 3, np.ones(3), np.array([0, 0.01, 0]))
        assert report.verdict == "differs"

    def test_entries_without_effect(self):
        x = {"used": X, "unused": np.ones(2)}
        report = check(lambda x: smooth(x["used"]) + 0 * jnp.sum(x["unused"]), x)
        assert report.ok
        assert entries(report) == ["agrees"] * 5

    def test_forms_of_arguments(self):
        tree = {"a": [np.ones((2, 2)), jnp.asarray(2.0)], "b": (3.0, None), "empty": np.zeros(0)}
        report = check(lambda t: jnp.sum(t["a"][0] ** 2) * t["b"][0] + t["a"][1], tree)
        assert report.ok
        assert jax.tree.map(np.shape, report.bar) == jax.tree.map(np.shape, tree)
        assert check(jnp.sin, 0.3).ok
        assert check(lambda x: x**2, np.float32(3.0)).verdict != "differs"


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
        report = check(smooth, X.astype(dtype), lambda x: wrong(np.asarray(x)))
        assert report.verdict == "differs"
        assert report.slope == pytest.approx(1, abs=0.2)

    @pytest.mark.parametrize("entry", [0, 1, 2])
    @pytest.mark.parametrize("error", [1e-3, -1e-3, 0.5])
    def test_in_one_entry(self, entry, error):
        wrong = slope(X)
        wrong[entry] *= 1 + error
        report = check(smooth, X, wrong)
        assert report.verdict == "differs"
        assert report.worst == f"x[{entry}]"
        assert entries(report).count("differs") == 1

    def test_custom_rule_with_a_small_bug(self):
        report = check(buggy, X)
        assert report.verdict == "differs"
        assert report.worst == "x[1]"
        assert report.taylor == "differs"
        assert report.slope == pytest.approx(1, abs=0.1)

    def test_part_that_is_not_differentiated(self):
        report = check(lambda x: smooth(jax.lax.stop_gradient(x)) + x[0], X)
        assert report.verdict == "differs"
        assert entries(report) == ["differs"] * 3

    def test_small_leaf_beside_a_large_one(self):
        def fun(x):
            return 1e6 * jnp.sum(jnp.sin(x["a"])) + jnp.sum(jnp.sin(x["b"]))

        x = {"a": X, "b": X}
        right = {"a": 1e6 * np.cos(X), "b": np.cos(X)}
        assert check(fun, x, right).ok
        right["b"] = right["b"] * np.array([1, 1.001, 1])
        report = check(fun, x, right)
        assert report.verdict == "differs"
        assert report.worst == "b[1]"

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, value):
        report = check(smooth, X, np.array([value, *slope(X)[1:]]))
        assert report.verdict == "differs"
        assert entries(report) == ["differs", "agrees", "agrees"]
        assert report.worst == "x[0]"

    def test_tolerance(self):
        wrong = slope(X) * 1.01
        assert check(smooth, X, wrong).verdict == "differs"
        assert check(smooth, X, wrong, rtol=0.02).ok


class TestCannotTell:
    def test_function_without_values(self):
        report = check(lambda x: jnp.sum(jnp.log(x)), X)
        assert report.verdict == "cannot tell"
        report = check(lambda x: jnp.sum(x) * jnp.nan, X)
        assert entries(report) == ["cannot tell"] * 3
        assert math.isnan(report.slope)

    @pytest.mark.parametrize("low", [jnp.bfloat16, jnp.float16])
    def test_low_precision(self, low):
        x = jnp.asarray(X, low)
        assert check(smooth, x).verdict == "cannot tell"
        assert check(smooth, x, lambda x: -4 * jax.grad(smooth)(x)).verdict == "differs"

    @pytest.mark.parametrize("at", [0.0, 1.0])
    @pytest.mark.parametrize("claim", [0.0, 0.5, 1.0])
    def test_kink(self, at, claim, dtype):
        x = np.array([0.0, at, 2.0], dtype)
        right = np.array([claim, claim if at == 0 else 1.0, 1.0], dtype)
        report = check(lambda x: jnp.sum(jax.nn.relu(x)), x, right)
        assert report.verdict != "differs"
        assert report.verdict == "cannot tell"
        assert "a kink at x" in str(report)
        assert report.slope == pytest.approx(1, abs=0.1)

    def test_kinks_against_each_other(self):
        def fun(x):
            return jnp.sum(jnp.abs(x) * np.array([1, -1, 1.0]))

        for claim in (np.array([1, -1, 1.0]), np.zeros(3), np.array([-1, -1, 0.5])):
            assert check(fun, np.zeros(3), claim).verdict != "differs"

    def test_a_kink_is_no_excuse(self):
        report = check(
            lambda x: jnp.sum(jax.nn.relu(x)), np.array([0.0, 1, 2]), np.array([3, 1, 1.0])
        )
        assert report.verdict == "differs"

    def test_partial_derivatives_without_a_gradient(self):
        """All entries are right, and still no gradient describes the function."""

        def fun(x):
            return jnp.where(jnp.all(x == 0), 0.0, x[0] * x[1] / jnp.sqrt(jnp.sum(x**2) + 1e-300))

        report = check(fun, np.zeros(2), np.zeros(2))
        assert report.verdict == "cannot tell"

    def test_zero_gradient_of_a_quantised_function(self):
        """Right on each step of the stairs, and wrong about the stairs: never called right."""
        report = check(lambda x: jnp.round(jnp.sum(x) * 1e3) / 1e3, X)
        assert not report.ok

    def test_method_without_error_bound(self):
        report = check(smooth, X, method=jaxfd.Forward())
        assert entries(report) == ["cannot tell"] * 3
        assert report.ok
        assert "along a line" in str(report)
        assert check(smooth, X, lambda x: -slope(x), method=jaxfd.Forward()).verdict == "differs"
        assert check(smooth, X, method=jaxfd.ComplexStep()).ok


class TestNoise:
    """Noise that no dtype tells of widens the bars, and does not make a right gradient wrong."""

    @pytest.mark.parametrize("level", [1e-10, 1e-6, 1e-3, 1.0])
    @pytest.mark.parametrize("method", [jaxfd.Central(), jaxfd.Central(order=4)])
    def test_right(self, level, method):
        rng = np.random.default_rng(0)
        box = jaxfd.blackbox(lambda x: np.sum(np.sin(x)) + level * rng.standard_normal(), SCALAR)
        for _ in range(6):
            x = rng.uniform(-2, 2, 3)
            report = check(box, x, np.cos, method=method)
            assert report.verdict != "differs"
            assert report.taylor != "differs"

    def test_wrong(self):
        rng = np.random.default_rng(0)
        box = jaxfd.blackbox(lambda x: np.sum(np.sin(x)) + 1e-6 * rng.standard_normal(), SCALAR)
        for _ in range(10):
            x = rng.uniform(-1, 1, 3)
            assert check(box, x, lambda x: -np.cos(x)).verdict == "differs"

    def test_float32_inside_of_float64(self):
        for seed in range(5):
            x = np.random.default_rng(seed).uniform(-2, 2, 3)

            def fun(x):
                return jnp.sum(jnp.sin(x.astype(np.float32))).astype(np.float64)

            assert check(fun, x, np.cos(x)).verdict != "differs"


class TestBlackBoxes:
    box = jaxfd.blackbox(lambda x: float(np.sum(np.sin(x))), SCALAR)

    def test_gradient_is_needed(self):
        for fun in (self.box, jaxfd.differentiable(smooth)):
            with pytest.raises(ValueError, match=r"is a difference itself.*give grad"):
                jaxfd.check_grads(fun, X)

    def test_checked(self):
        assert check(self.box, X, np.cos).ok
        report = check(self.box, X, lambda x: np.cos(x) * np.array([1, 1, 1.001]))
        assert report.verdict == "differs"
        assert report.worst == "x[2]"

    def test_without_64_bits_the_host_still_has_them(self):
        with x64(False):
            box = jaxfd.blackbox(
                lambda x: float(np.sum(np.sin(x))), jax.ShapeDtypeStruct((), np.float32)
            )
            x = X.astype(np.float32)
            right = np.cos(x.astype(np.float64))
            assert check(box, x, right).ok
            assert check(box, x, right * np.array([1, 1, 1.001])).verdict == "differs"

    def test_evaluations_and_calls(self):
        seen = Host(lambda x: np.sum(np.sin(x), axis=-1))
        report = check(jaxfd.blackbox(seen, SCALAR, vectorized=True), X, np.cos)
        assert len(seen.calls) == 2
        assert report.evaluations == seen.evaluations

    def test_evaluations_of_a_traced_function(self):
        points = Points()

        def fun(x):
            points(x)
            return smooth(x)

        report = check(fun, X, slope)
        assert len(points.taken()) == report.evaluations


class TestBounds:
    @pytest.mark.parametrize("at", [0.0, 1e-6, 0.5, 1.0])
    def test_no_point_outside(self, at):
        seen = Host(lambda x: np.sum(np.exp(x), axis=-1))
        box = jaxfd.blackbox(seen, SCALAR, vectorized=True)
        x = np.array([at, 0.3, 1.0])
        assert check(box, x, np.exp, bounds=(0.0, 1.0)).ok
        assert check(box, x, lambda x: -np.exp(x), bounds=(0.0, 1.0)).verdict == "differs"
        points = np.concatenate(seen.calls)
        assert points.min() >= 0.0
        assert points.max() <= 1.0

    def test_trees_of_bounds(self):
        x = {"a": np.array([0.0, 1.0]), "b": 2.0}

        def fun(x):
            inside = jnp.all((x["a"] >= 0) & (x["a"] <= 1))
            return jnp.where(inside, jnp.sum(jnp.exp(x["a"])) * x["b"], jnp.nan)

        bounds = ({"a": np.zeros(2), "b": -np.inf}, {"a": 1.0, "b": np.inf})
        assert check(fun, x, bounds=bounds).ok

    def test_entries_that_cannot_move(self):
        box = (np.array([0.3, -9.0, -9.0]), np.array([0.3, 9.0, 9.0]))
        for claim in (slope(X), slope(X) + np.array([5.0, 0, 0])):
            report = check(smooth, X, claim, bounds=box)
            assert entries(report)[0] == "cannot tell"
            assert "differs" not in entries(report)
        report = check(smooth, X, slope, bounds=(X, X))
        assert report.verdict == "cannot tell"

    def test_narrow_box(self):
        report = check(smooth, X, slope, bounds=(X - 1e-3, X + 1e-4))
        assert report.ok
        assert check(smooth, X, -slope(X), bounds=(X - 1e-3, X + 1e-4)).verdict == "differs"


class TestReport:
    def test_prints_worst_first(self):
        x = {"rates": np.array([0.3, 1.7]), "k": 2.0}

        def fun(x):
            return jnp.sum(jnp.sin(x["rates"])) * x["k"]

        wrong = {
            "rates": 2 * np.cos(x["rates"]) * np.array([1, 1.5]),
            "k": np.sum(np.sin([0.3, 1.7])),
        }
        report = check(fun, x, wrong)
        lines = str(report).splitlines()
        assert lines[0].startswith("The gradient is wrong. Of 3 entries 1 differ, 2 agree")
        assert lines[0].endswith("rates[1].")
        assert "slope 1.0" in lines[1]
        assert lines[3].startswith("rates[1] ")
        assert lines[3].endswith("differs")
        assert len(lines) == 6

    def test_prints_few_of_many(self):
        text = str(check(lambda x: jnp.sum(x**2), np.arange(1.0, 101)))
        assert len(text.splitlines()) == 24
        assert text.endswith("... 80 more")

    def test_raises(self):
        with pytest.raises(AssertionError, match=r"(?s)The gradient is wrong.*x\[0\]"):
            jaxfd.check_grads(smooth, X, lambda x: -slope(x), raises=True)
        with pytest.raises(AssertionError, match="cannot be told"):
            jaxfd.check_grads(lambda x: jnp.sum(jnp.log(x)), X, raises=True)
        assert jaxfd.check_grads(smooth, X, raises=True).ok

    def test_is_a_pytree(self):
        report = check(smooth, X)
        again = jax.tree.map(lambda leaf: leaf, report)
        assert str(again) == str(report)


class TestArguments:
    @pytest.mark.parametrize("x", [2, np.arange(3), 1j, "x", {}, np.zeros(0), np.array([np.inf])])
    def test_x(self, x):
        with pytest.raises((TypeError, ValueError), match="check_grads"):
            jaxfd.check_grads(lambda x: 1.0, x)

    def test_traced(self):
        with pytest.raises(TypeError, match=r"check_grads .* traced"):
            jax.jit(lambda x: jaxfd.check_grads(smooth, x).claimed)(X)
        with pytest.raises(TypeError, match="fun returned a traced one"):
            jax.jit(lambda y: jaxfd.check_grads(lambda x: x * y, 1.0).claimed)(1.0)
        with pytest.raises(TypeError, match="grad is traced"):
            jax.vmap(lambda y: jaxfd.check_grads(jnp.sin, 1.0, y).claimed)(X)

    def test_output(self):
        with pytest.raises(TypeError, match="scalar output"):
            jaxfd.check_grads(lambda x: x, X)

    @pytest.mark.parametrize(
        ("grad", "error", "match"),
        [
            (np.ones(2), ValueError, r"grad has the shape \(2,\), but x has \(3,\)"),
            ((np.ones(3),), ValueError, "grad has the structure"),
            (lambda x: {"a": x}, ValueError, "grad has the structure"),
            (np.ones(3) + 1j, TypeError, "grad is complex128"),
            (np.array([True, False, True]), TypeError, "grad is bool"),
            (np.zeros(3, jax.dtypes.float0), TypeError, "grad is"),
            ("slope", TypeError, "grad is"),
        ],
        ids=["shape", "tuple", "dict", "complex", "bool", "float0", "string"],
    )
    def test_grad(self, grad, error, match):
        with pytest.raises(error, match=match):
            jaxfd.check_grads(smooth, X, grad)

    def test_integers_are_numbers(self):
        assert check(lambda x: 2 * x[0] - x[1], X, np.array([2, -1, 0])).ok

    @pytest.mark.parametrize("rtol", [0.0, -1.0, np.nan, 1.5])
    def test_rtol_out_of_range(self, rtol):
        with pytest.raises(ValueError, match="rtol"):
            jaxfd.check_grads(smooth, X, rtol=rtol)

    def test_options_of_another_kind(self):
        with pytest.raises(TypeError, match="rtol"):
            jaxfd.check_grads(smooth, X, rtol="small")
        with pytest.raises(TypeError, match="method"):
            jaxfd.check_grads(smooth, X, method="central")
        with pytest.raises(TypeError, match="bounds"):
            jaxfd.check_grads(smooth, X, bounds=1.0)


@st.composite
def problems(draw, dtype=np.float64):
    """A random smooth function of a few numbers, a point, and the gradient there."""
    n = draw(st.integers(1, 5))
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
        values = outer(matrix.astype(dtype) @ x.astype(dtype) + shift.astype(dtype))
        return dtype(scale) * np.sum(values) + dtype(offset)

    gradient = scale * matrix.T @ inner(matrix @ x + shift)
    return jaxfd.blackbox(fun, SCALAR), x, gradient


class TestProperties:
    @settings(max_examples=30)
    @given(problems())
    def test_right_gradients_are_not_called_wrong(self, problem):
        fun, x, gradient = problem
        report = check(fun, x, gradient)
        assert report.verdict != "differs", report
        assert report.taylor != "differs", report

    @settings(max_examples=30)
    @given(problems(np.float32))
    def test_nor_in_float32(self, problem):
        fun, x, gradient = problem
        report = check(fun, x, gradient.astype(np.float32))
        assert report.verdict != "differs", report
        assert report.taylor != "differs", report

    @settings(max_examples=30)
    @given(problems(), st.sampled_from([1.001, 0.999, 1.5, -1.0]))
    def test_wrong_ones_are_not_called_right(self, problem, factor):
        fun, x, gradient = problem
        worst = np.argmax(np.abs(gradient))
        gradient[worst] *= factor
        report = check(fun, x, gradient)
        assert report.verdict != "agrees", report

    def test_and_nearly_always_found(self):
        found = []

        @settings(max_examples=30)
        @given(problems())
        def collect(problem):
            fun, x, gradient = problem
            gradient[np.argmax(np.abs(gradient))] *= 1.001
            found.append(check(fun, x, gradient).verdict == "differs")

        collect()
        assert np.mean(found) > 0.9
