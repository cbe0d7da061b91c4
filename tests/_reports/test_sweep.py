"""Step sweeps: the errors at all steps, what is read off them, and what they cost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import Chosen, Host, name, run_python, x64

import jaxfd
from jaxfd import Backward, Central, Forward

SCALAR = jax.ShapeDtypeStruct((), np.float64)
X = {"a": 1.0, "b": np.array([100.0, 2.0])}


# A black box, for which a reference takes no time to compile; good until the next one.
boxed = Chosen(lambda fun: jaxfd.blackbox(fun, SCALAR))


def cubic(p):
    return jnp.exp(p["a"]) + jnp.sum(p["b"] ** 3) / 100


def host_cubic(p):
    return np.exp(p["a"]) + np.sum(p["b"] ** 3, axis=-1) / 100


class TestValues:
    @pytest.mark.parametrize("method", [Backward(2), Central(4)], ids=name)
    def test_derivatives_are_those_of_grad(self, method):
        steps = [1e-4, 1e-2]
        sweep = jaxfd.step_sweep(cubic, X, method=method, steps=steps, exact=X)
        for k, h in enumerate(steps):
            again = type(method)(order=method.order, step=h)
            expected = jaxfd.grad(cubic, method=again)(X)
            for leaf, found in zip(
                jax.tree.leaves(expected), jax.tree.leaves(sweep.derivative), strict=True
            ):
                np.testing.assert_allclose(found[k], leaf, rtol=1e-11)

    @pytest.mark.parametrize("method", [Forward(), Backward(2), Central(), Central(4)], ids=name)
    def test_black_box_is_the_same(self, method):
        steps = [1e-3, 1e-2, 1e-1]
        exact = jax.grad(cubic)(X)
        traced = jaxfd.step_sweep(cubic, X, method=method, steps=steps, exact=exact)
        hosted = jaxfd.step_sweep(boxed(host_cubic), X, method=method, steps=steps, exact=exact)
        for a, b in zip(
            jax.tree.leaves(traced.derivative), jax.tree.leaves(hosted.derivative), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-7)
        for a, b in zip(jax.tree.leaves(traced.steps), jax.tree.leaves(hosted.steps), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10)

    def test_errors_are_distances_from_the_truth(self, dtype):
        x = jnp.asarray([0.5, -2.0], dtype)
        sweep = jaxfd.step_sweep(lambda x: jnp.sum(jnp.sin(x)), x, exact=np.cos(x))
        assert sweep.derivative.dtype == dtype
        wide = np.asarray(sweep.derivative).astype(np.float64)
        np.testing.assert_allclose(
            sweep.error, np.abs(wide - np.asarray(jnp.cos(x), float)), atol=1e-7
        )
        np.testing.assert_array_equal(sweep.uncertainty, [0.0, 0.0])

    @pytest.mark.parametrize("method", [Forward(), Central(), Central(4)], ids=name)
    def test_both_branches_of_the_v(self, method):
        sweep = jaxfd.step_sweep(jnp.exp, 1.0, method=method, exact=np.e)
        # The first error term of each method, for which all derivatives are e.
        constant = {1: 1 / 2, 2: 1 / 6, 4: 1 / 30}[method.order]
        assert sweep.truncation == pytest.approx(constant * np.e, rel=0.15)
        assert 1e-18 < sweep.rounding < 1e-15
        assert sweep.order == method.order
        # Where they meet is where the best step is.
        p = method.order
        meet = (sweep.rounding / sweep.truncation) ** (1 / (p + 1))
        assert meet / 30 < sweep.best_step < meet * 30
        assert sweep.best_error <= sweep.error.max() / 1e4

    def test_default_step_is_that_of_the_method(self):
        sweep = jaxfd.step_sweep(cubic, X, method=Central(step=1e-3), exact=jax.grad(cubic))
        result = jaxfd.estimate(cubic, method=Central(step=1e-3))(X)
        np.testing.assert_array_equal(sweep.default_step["b"], result.step["b"])
        gap = np.abs(np.asarray(result.grad["b"]) - sweep.reference["b"])
        np.testing.assert_array_equal(sweep.default_error["b"], gap)

    def test_a_reference_of_its_own_has_an_error(self):
        for fun in (jnp.exp, boxed(np.exp)):
            sweep = jaxfd.step_sweep(fun, 1.0, steps=[1e-3, 1e-2])
            assert abs(sweep.reference - np.e) <= sweep.uncertainty
            assert 0 < sweep.uncertainty < 1e-11
            assert isinstance(sweep.evaluations, int)

    def test_a_reference_of_a_noisy_function(self):
        rng = np.random.default_rng(0)
        sweep = jaxfd.step_sweep(boxed(lambda x: np.exp(x) + 1e-4 * rng.standard_normal()), 1.0)
        assert abs(sweep.reference - np.e) <= sweep.uncertainty
        assert 1e-5 < sweep.uncertainty < 0.1
        assert sweep.best_step > 1e-3

    def test_a_reference_that_is_none(self):
        sweep = jaxfd.step_sweep(boxed(lambda x: float(x > 0)), 0.0)
        assert np.isinf(sweep.uncertainty)
        assert "0" in str(sweep)

    def test_no_luck(self):
        """One difference that is right by chance is not the best step."""
        h = np.geomspace(1e-3, 1.0, 13)
        lucky = 3.0 * np.abs(h - h[2])
        fun = boxed(lambda x: x + np.sign(x) * np.interp(np.log(abs(x) + 1e-9), np.log(h), lucky))
        sweep = jaxfd.step_sweep(fun, 0.0, steps=h, exact=1.0)
        assert sweep.error[2] == pytest.approx(0.0, abs=1e-4)
        assert sweep.best_step != h[2]

    def test_stairs(self):
        """Of a table with one decimal: constant, then jumps, then the V's right side."""
        fun = boxed(lambda x: np.round(100 / (x + 1), 1))
        sweep = jaxfd.step_sweep(fun, 5.0, exact=-100 / 36)
        assert sweep.default_error == pytest.approx(100 / 36)
        assert sweep.best_error < 0.1
        assert 0.1 < sweep.best_step < 2.0
        # The flat part is no rounding branch: that is at most the rounding of a value.
        assert 0.003 < sweep.rounding < 0.05


class TestSteps:
    def test_default_spans_the_dtype(self, dtype):
        x = jnp.asarray([0.0, -50.0], dtype)
        eps = float(jnp.finfo(dtype).eps)
        for order, reach in [(2, 1), (4, 2)]:
            sweep = jaxfd.step_sweep(
                lambda x: jnp.sum(x**2), x, method=Central(order=order), exact=2 * x
            )
            assert sweep.steps.shape == (41, 2)
            assert sweep.steps[0, 0] == pytest.approx(eps**0.75, rel=1e-3)
            np.testing.assert_allclose(sweep.steps[-1], np.array([0.5, 25.0]) / reach, rtol=1e-6)
            assert np.all(np.diff(sweep.steps, axis=0) > 0)

    def test_a_black_box_has_float64_whatever_jax_has(self):
        with x64(False):
            fun = jaxfd.blackbox(np.exp, jax.ShapeDtypeStruct((), np.float32))
            sweep = jaxfd.step_sweep(fun, 1.0, exact=np.float32(np.e))
        assert sweep.steps[0] < 1e-11
        assert sweep.best_error < 3e-7

    def test_absolute(self):
        sweep = jaxfd.step_sweep(boxed(host_cubic), X, steps=[0.5, 0.25])
        np.testing.assert_array_equal(sweep.steps["b"], [[0.25, 0.25], [0.5, 0.5]])

    def test_relative(self):
        rule = jaxfd.Relative(rel=np.array([0.25, 0.5]), typical={"a": 4.0, "b": 8.0})
        sweep = jaxfd.step_sweep(boxed(host_cubic), X, steps=rule)
        np.testing.assert_array_equal(sweep.steps["a"], [1.0, 2.0])
        np.testing.assert_array_equal(sweep.steps["b"], [[25.0, 2.0], [50.0, 4.0]])

    def test_typical_of_the_method(self):
        method = Central(step=jaxfd.Relative(typical=1e-3))
        sweep = jaxfd.step_sweep(jnp.sin, 0.0, method=method, exact=1.0)
        assert sweep.steps[-1] == pytest.approx(5e-4)

    def test_lost_in_rounding(self):
        """A step that does not move x has no derivative; `grad` would take another step."""
        for fun in (lambda x: x**2, boxed(lambda x: x**2)):
            sweep = jaxfd.step_sweep(fun, 1e6, steps=[1e-13, 1.0], exact=2e6)
            assert np.isnan(sweep.derivative[0])
            assert sweep.best_step == 1.0

    def test_one(self):
        sweep = jaxfd.step_sweep(boxed(np.sin), 1.0, steps=[1e-3])
        assert (
            sweep.best_step == sweep.default_step == pytest.approx(np.finfo(float).eps ** (1 / 3))
        )
        assert sweep.best_error == sweep.default_error < sweep.error[0]
        assert np.isnan(sweep.truncation)
        assert np.isnan(sweep.rounding)


class TestOddFunctions:
    def test_nan_far_away(self):
        x = np.array([0.01, 0.2])
        sweep = jaxfd.step_sweep(lambda x: jnp.sum(jnp.log(x)), x, exact=1 / x)
        assert np.all(np.isnan(sweep.error[-1]))
        assert np.all(sweep.best_error < 1e-4)
        assert "nan" not in str(sweep)

    def test_nan_everywhere(self):
        sweep = jaxfd.step_sweep(boxed(lambda x: x * np.nan), 1.0)
        assert np.isnan(sweep.best_step)
        assert "nan" in str(sweep)

    def test_a_black_box_that_fails_far_away(self):
        def fails(x):
            if x < 0:
                raise ValueError("negative")
            return np.sqrt(x)

        fun = jaxfd.blackbox(fails, SCALAR, on_error="nan")
        with pytest.warns(RuntimeWarning):
            sweep = jaxfd.step_sweep(fun, 0.1, exact=0.5 / np.sqrt(0.1))
        assert np.isnan(sweep.error[-1])
        assert sweep.best_error < 1e-8
        with pytest.raises(ValueError, match="negative"):
            jaxfd.step_sweep(boxed(fails), 0.1)

    def test_no_error_at_all(self):
        fun = boxed(lambda x: 2 * x)
        sweep = jaxfd.step_sweep(fun, 0.0, steps=2.0 ** np.arange(-20, 0), exact=2.0)
        np.testing.assert_array_equal(sweep.error, 0.0)
        assert np.isnan(sweep.rounding)
        assert np.isnan(sweep.truncation)

    def test_derivative_of_zero(self):
        sweep = jaxfd.step_sweep(jnp.cos, 0.0, exact=0.0)
        assert sweep.best_error == 0

    def test_low_precision(self):
        for low in (jnp.float16, jnp.bfloat16):
            sweep = jaxfd.step_sweep(jnp.sin, jnp.asarray(1.0, low), exact=jnp.asarray(0.54, low))
            assert sweep.derivative.dtype == low
            assert sweep.best_error < 0.1

    def test_mixed_leaves(self):
        x = {"a": jnp.float32(1.0), "b": (np.ones((2, 3)), np.zeros((0, 2))), "c": 2.0}

        def fun(x):
            small = jnp.sum(jnp.sin(x["b"][0])) + x["c"] ** 2
            return jnp.sin(x["a"]).astype(small.dtype) * small

        sweep = jaxfd.step_sweep(fun, x, exact=jax.grad(fun))
        assert sweep.error["b"][0].shape == (41, 2, 3)
        assert sweep.error["b"][1].shape == (41, 0, 2)
        assert sweep.derivative["a"].dtype == np.float32
        assert sweep.best_step["a"].shape == ()
        hosted = jaxfd.step_sweep(boxed(lambda x: np.sum(x["b"][0]) * x["c"] * x["a"]), x)
        assert hosted.error["b"][0].shape == (41, 2, 3)
        assert hosted.default_error["c"] < 1e-6

    def test_differentiable_hook(self):
        hooked = jaxfd.differentiable(jnp.sin)
        assert jaxfd.step_sweep(hooked, 1.0, exact=np.cos(1.0)).best_error < 1e-9


class TestCost:
    @pytest.mark.parametrize("method", [Forward(), Central(4)], ids=name)
    def test_one_batch_of_a_black_box(self, method):
        host = Host(lambda x: np.sum(x**2, axis=-1))
        fun = jaxfd.blackbox(host, SCALAR, vectorized=True)
        sweep = jaxfd.step_sweep(fun, np.ones(3), method=method, exact=2 * np.ones(3))
        usual, swept = host.taken()
        assert len(usual) == method.order * 3 + 7
        assert len(swept) == 3 * (41 * method.order + 1)
        assert sweep.evaluations == len(usual) + len(swept)

    def test_count_of_a_traced_function(self):
        sweep = jaxfd.step_sweep(lambda x: jnp.sum(x**2), np.ones(3), exact=2 * np.ones(3))
        assert sweep.evaluations == 13 + 41 * 6
        sweep = jaxfd.step_sweep(jnp.sin, 1.0, method=Forward(), steps=[0.1, 0.2], exact=1.0)
        assert sweep.evaluations == 8 + 2 * 2

    def test_the_reference_counts(self):
        host = Host(np.sin)
        fun = jaxfd.blackbox(host, SCALAR, vectorized=True)
        known = jaxfd.step_sweep(fun, 1.0, exact=0.5).evaluations
        assert host.evaluations == known
        found = jaxfd.step_sweep(fun, 1.0).evaluations
        assert host.evaluations == known + found
        assert found == known + 25


class TestText:
    def test_table(self):
        text = str(jaxfd.step_sweep(boxed(host_cubic), X)).splitlines()
        assert text[0].startswith("41 steps, ")
        assert [line.split()[0] for line in text[2:]] == ["a", "b[0]", "b[1]"]
        assert len({len(line) for line in text[1:]}) == 1

    def test_one_entry_has_a_line_for_each_step(self):
        steps = [1e-3, 1e-2, 0.5]
        sweep = jaxfd.step_sweep(boxed(np.sin), 1.0, steps=steps, exact=np.cos(1.0))
        rows = [line.split() for line in str(sweep).splitlines()]
        assert rows[4] == ["step", "derivative", "error"]
        np.testing.assert_allclose([float(row[0]) for row in rows[5:]], steps, rtol=0.05)
        np.testing.assert_allclose([float(row[2]) for row in rows[5:]], sweep.error, rtol=0.05)

    def test_one_entry_fits_on_a_screen(self):
        steps = np.geomspace(1e-6, 1.0, 200)
        text = str(jaxfd.step_sweep(boxed(np.sin), 1.0, steps=steps, exact=0.5))
        assert 25 <= len(text.splitlines()) <= 46

    def test_long(self):
        x = {"a_name_of_more_than_usual_length": np.ones(30)}
        text = str(jaxfd.step_sweep(boxed(lambda x: np.sum(*x.values())), x, steps=[1e-3, 1e-2]))
        assert text.endswith("... 10 more")
        assert len(text.splitlines()) == 23

    def test_a_pytree(self):
        sweep = jaxfd.step_sweep(jnp.sin, 1.0, steps=[1e-3, 1e-2], exact=0.5)
        again = jax.tree.map(lambda leaf: leaf, sweep)
        assert str(again) == str(sweep)
        assert again.order == 2


class TestErrors:
    @pytest.mark.parametrize(
        "steps",
        [[], [0.0], [-1.0, 1.0], [np.inf], [[1.0]], 1.0, "abc", {"a": [1.0]}, [1j], np.array([1j])],
    )
    def test_steps(self, steps):
        with pytest.raises(ValueError, match=r"steps must be positive"):
            jaxfd.step_sweep(jnp.sin, 1.0, steps=steps)

    def test_relative_steps(self):
        with pytest.raises(ValueError, match=r"steps\.rel must be positive"):
            jaxfd.step_sweep(jnp.sin, 1.0, steps=jaxfd.Relative(0.1))
        with pytest.raises(ValueError, match="typical has the structure"):
            jaxfd.step_sweep(jnp.sin, 1.0, steps=jaxfd.Relative([0.1], {"a": 1.0}))

    @pytest.mark.parametrize("method", [jaxfd.ComplexStep(), Central, None])
    def test_method(self, method):
        with pytest.raises(TypeError, match="method must be Forward, Backward or Central"):
            jaxfd.step_sweep(jnp.sin, 1.0, method=method)

    @pytest.mark.parametrize("exact", [np.ones(2), {"a": 1.0}, lambda x: np.ones(3)])
    def test_exact(self, exact):
        with pytest.raises(ValueError, match="exact must be a gradient like x"):
            jaxfd.step_sweep(jnp.sin, 1.0, exact=exact)

    def test_exact_is_complex(self):
        with pytest.raises(TypeError, match="exact must be real"):
            jaxfd.step_sweep(jnp.sin, 1.0, exact=1j)

    @pytest.mark.parametrize("x", [3, 1j, np.arange(3), "abc", [1.0, True]])
    def test_x_is_not_real(self, x):
        with pytest.raises(TypeError, match="needs real floating numbers, but x"):
            jaxfd.step_sweep(lambda x: 1.0, x)

    def test_x_is_traced(self):
        with pytest.raises(TypeError, match="x is traced: call it outside of jit"):
            jax.jit(lambda x: jaxfd.step_sweep(jnp.sin, x).best_error)(1.0)

    @pytest.mark.parametrize("x", [{}, np.zeros((0, 3))])
    def test_x_is_empty(self, x):
        with pytest.raises(ValueError, match="no numbers"):
            jaxfd.step_sweep(lambda x: 1.0, x)

    def test_output(self):
        with pytest.raises(
            TypeError, match=r"step_sweep needs .* one number, got the shape \(3,\)"
        ):
            jaxfd.step_sweep(lambda x: x, np.ones(3))
        with pytest.raises(TypeError, match=r"step_sweep needs .* real number, got complex128"):
            jaxfd.step_sweep(lambda x: jax.lax.complex(x, x), 1.0)
        with pytest.raises(TypeError, match="fun returned a traced one"):
            jax.jit(lambda y: jaxfd.step_sweep(lambda x: x * y, 1.0, exact=1.0).error)(1.0)
        with pytest.raises(TypeError, match="must be callable"):
            jaxfd.step_sweep(1.0, 1.0)


def test_without_matplotlib():
    """Numbers and tables need no extra."""
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "import jax.numpy as jnp, jaxfd\n"
        "print(jaxfd.step_sweep(jnp.sin, 1.0, exact=0.54))\n"
        "try: jaxfd.plot([1.0, 2.0])\n"
        "except ImportError as error: print(error)\n"
    )
    assert "pip install 'jaxfd[plot]'" in run_python(code)
