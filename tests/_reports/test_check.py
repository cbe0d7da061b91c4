"""Checks of gradients: what is evaluated, what is printed, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _checks import QUICK, SMOOTH, X, box, check, entries, slope, smooth
from _tools import Host, Points, x64

import jaxfd

SCALAR = jax.ShapeDtypeStruct((), np.float64)


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
        fun = jaxfd.blackbox(seen, SCALAR, vectorized=True)
        report = check(fun, X, np.cos, method=QUICK)
        assert len(seen.calls) == 2
        assert report.evaluations == seen.evaluations
        seen.taken()
        report = check(fun, X, np.cos)
        assert len(seen.calls) <= 4
        assert report.evaluations == seen.evaluations
        assert isinstance(report.evaluations, int)

    def test_evaluations_of_a_traced_function(self):
        points = Points()

        def fun(x):
            points(x)
            return smooth(x)

        report = check(fun, X, slope, method=QUICK)
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
        assert check(fun, x, bounds=bounds, method=QUICK).ok

    def test_entries_that_cannot_move(self):
        bounds = (np.array([0.3, -9.0, -9.0]), np.array([0.3, 9.0, 9.0]))
        for claim in (slope(X), slope(X) + np.array([5.0, 0, 0])):
            report = check(SMOOTH, X, claim, bounds=bounds)
            assert entries(report)[0] == "cannot tell"
            assert "differs" not in entries(report)
        report = check(SMOOTH, X, slope, bounds=(X, X))
        assert report.verdict == "cannot tell"

    def test_narrow_box(self):
        bounds = (X - 1e-3, X + 1e-4)
        assert check(SMOOTH, X, slope, bounds=bounds).ok
        assert check(SMOOTH, X, -slope(X), bounds=bounds).verdict == "differs"


class TestReport:
    def test_prints_worst_first(self):
        x = {"rates": np.array([0.3, 1.7]), "k": 2.0}

        fun = box(lambda x: np.sum(np.sin(x["rates"])) * x["k"])
        wrong = {
            "rates": 2 * np.cos(x["rates"]) * np.array([1, 1.5]),
            "k": np.sum(np.sin([0.3, 1.7])),
        }
        report = check(fun, x, wrong)
        lines = str(report).splitlines()
        assert lines[0].startswith("The gradient is wrong. Of 3 entries 1 differs, 2 agree")
        assert lines[0].endswith("rates[1].")
        assert "slope 1.0" in lines[1]
        assert lines[3].startswith("rates[1] ")
        assert lines[3].endswith("differs")
        assert len(lines) == 6

    def test_prints_few_of_many(self):
        text = str(check(lambda x: jnp.sum(x**2), np.arange(1.0, 101), method=QUICK))
        assert len(text.splitlines()) == 24
        assert text.endswith("... 80 more")

    def test_raises(self):
        with pytest.raises(AssertionError, match=r"(?s)The gradient is wrong.*x\[0\]"):
            jaxfd.check_grads(SMOOTH, X, lambda x: -slope(x), raises=True)
        with pytest.raises(AssertionError, match="cannot be told"):
            jaxfd.check_grads(box(lambda x: np.nan), X, slope, raises=True)
        assert jaxfd.check_grads(SMOOTH, X, slope, raises=True).ok

    def test_is_a_pytree(self):
        report = check(SMOOTH, X, slope)
        again = jax.tree.map(lambda leaf: leaf, report)
        assert str(again) == str(report)


class TestArguments:
    @pytest.mark.parametrize("x", [2, np.arange(3), "x", {}, np.zeros(0), np.array([np.inf])])
    def test_x(self, x):
        with pytest.raises((TypeError, ValueError), match="check_grads"):
            jaxfd.check_grads(lambda x: 1.0, x)

    def test_traced(self):
        with pytest.raises(TypeError, match=r"check_grads .* traced"):
            jax.jit(lambda x: jaxfd.check_grads(smooth, x).claimed)(X)
        with pytest.raises(TypeError, match="fun returned a traced one"):
            jax.jit(lambda y: jaxfd.check_grads(lambda x: x * y, 1.0, method=QUICK).claimed)(1.0)
        with pytest.raises(TypeError, match="grad is traced"):
            jax.vmap(lambda y: jaxfd.check_grads(jnp.sin, 1.0, y, method=QUICK).claimed)(X)

    @pytest.mark.parametrize(
        ("fun", "match"),
        [
            (lambda x: None, "returns a number, got none"),
            (lambda x: jax.lax.complex(x[0], x[1]), "real numbers, got complex128"),
            (lambda x: 3, "int64: return a floating dtype"),
            (np.sin, r"trace sin.*jaxfd\.blackbox"),
        ],
        ids=["None", "complex", "integer", "NumPy"],
    )
    def test_output(self, fun, match):
        with pytest.raises(TypeError, match=f"check_grads .*{match}"):
            jaxfd.check_grads(fun, X)

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
            jaxfd.check_grads(SMOOTH, X, grad)

    def test_integers_are_numbers(self):
        assert check(box(lambda x: 2 * x[0] - x[1]), X, np.array([2, -1, 0])).ok

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


@pytest.mark.parametrize("factor", [1.1, 0.9])
def test_an_error_seen_along_a_line_is_not_called_none(factor):
    """One entry of two thousand that is wrong by a tenth, and not among those looked at."""

    @jax.custom_jvp
    def fun(x):
        return jnp.sum(jnp.sin(x))

    @fun.defjvp
    def rule(primals, tangents):
        slopes = jnp.cos(primals[0]).at[1234].multiply(factor)
        return fun(primals[0]), jnp.dot(slopes, tangents[0])

    x = jnp.linspace(0.1, 1.0, 2000)
    assert not jaxfd.check_grads(fun, x, entries=5).ok
    assert jaxfd.check_grads(lambda x: jnp.sum(jnp.sin(x)), x, entries=5).ok
