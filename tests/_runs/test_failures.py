"""Points that fail: what is raised and what it says, what counts instead, what is tried again."""

import concurrent.futures
import os
import re
import warnings

import _simulators as simulators
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _executors import KINDS, executor
from _simulators import SLOPE, Fails, FailsInBatch, Flaky, Logged, X, log

import jaxfd

SCALAR = jax.ShapeDtypeStruct((), np.float64)
# jaxfd.grad makes the points below X, then those above: the first one above is number 3.
WHERE = r"point 3 of 6 \(counted from 0\), x = array\(\[ *1\.0000\d+, *-2\. *, *3\. *\]\)"


@pytest.fixture(scope="module", params=["serial", *KINDS])
def pool(request):
    with executor(request.param) as made:
        yield made


def box_of(fun, pool=None, **options):
    return jaxfd.blackbox(fun, SCALAR, executor=pool, **options)


def is_processes(pool):
    return pool is not None and not isinstance(pool, concurrent.futures.ThreadPoolExecutor)


def notes(error):
    return "\n".join(error.__notes__)


class TestRaise:
    def test_its_own_exception_and_the_point(self, pool):
        box = box_of(Fails(), pool)
        with pytest.raises(ArithmeticError) as caught:
            jaxfd.grad(box)(X)
        assert str(caught.value) == "the mesh is tangled"
        assert re.search("Fails raised this at " + WHERE, notes(caught.value))
        assert ("in _raise" in notes(caught.value)) == is_processes(pool)

    def test_other_points_of_the_box_work_after(self, pool):
        box = box_of(Fails(), pool)
        with pytest.raises(ArithmeticError):
            jaxfd.grad(box)(X)
        away = X - 1.0
        expected = jaxfd.grad(box_of(simulators.quadratic))(away)
        np.testing.assert_array_equal(jaxfd.grad(box)(away), expected)

    def test_the_name_that_was_given(self, pool):
        with pytest.raises(ArithmeticError) as caught:
            jaxfd.grad(box_of(Fails(), pool, name="wind tunnel"))(X)
        assert "wind tunnel raised this at point 3 of 6" in notes(caught.value)

    def test_a_single_call(self, pool):
        with pytest.raises(ArithmeticError) as caught:
            box_of(Fails(where="centre"), pool)(X)
        assert "at point 0 of 1 (counted from 0), x = array([ 1., -2.,  3.])" in notes(caught.value)

    def test_sys_exit(self, pool):
        """It ends the program that it is called in, and no other."""
        box = box_of(Fails("sys.exit"), pool)
        if is_processes(pool):
            with pytest.raises(RuntimeError, match=r"sys\.exit\(3\)") as caught:
                jaxfd.grad(box)(X)
            assert re.search(WHERE, notes(caught.value))
        else:
            with pytest.raises(SystemExit, match="3"):
                jaxfd.grad(box)(X)

    @pytest.mark.parametrize(
        ("how", "text"),
        [("awkward", "AwkwardError: this and that"), ("clinging", "ClingingError: cannot let go")],
    )
    def test_exceptions_that_do_not_bear_the_journey(self, pool, how, text):
        with pytest.raises((RuntimeError, *simulators.UNPICKLABLE)) as caught:
            jaxfd.grad(box_of(Fails(how), pool))(X)
        error = caught.value
        assert re.search(WHERE, notes(error))
        if is_processes(pool):
            assert (type(error), str(error)) == (RuntimeError, text)
            assert "in _raise" in notes(error)
        else:
            assert f"{type(error).__name__}: {error}" == text

    @pytest.mark.parametrize(
        ("how", "kind", "text"),
        [
            ("shape", ValueError, r"returned the shape \(2,\)"),
            ("dtype", TypeError, "returned dtype int64"),
            ("object", TypeError, "returned the structure"),
        ],
    )
    def test_something_else_than_declared(self, pool, how, kind, text):
        with pytest.raises(kind, match=text) as caught:
            jaxfd.grad(box_of(Fails(how), pool))(X)
        assert re.search(WHERE, notes(caught.value))

    def test_nan_is_no_failure(self, pool):
        gradient = jaxfd.grad(box_of(Fails("nan"), pool))(X)
        np.testing.assert_array_equal(np.isnan(gradient), [True, False, False])

    def test_in_a_jitted_program(self, pool):
        box = box_of(Fails(), pool)
        with pytest.raises(jax.errors.JaxRuntimeError) as caught:
            jax.jit(jaxfd.grad(box))(X)
        text = str(caught.value)
        assert "ArithmeticError: the mesh is tangled" in text
        assert re.search("Fails raised this at " + WHERE, text)
        assert ("in _raise" in text) or not is_processes(pool)

    def test_the_same_object_is_annotated_once(self):
        error = ArithmeticError("always me")

        def always(x):
            raise error

        box = box_of(always)
        for _ in range(3):
            with pytest.raises(ArithmeticError):
                box(X)
        assert notes(error).count("always raised this at point 0 of 1") == 1

    def test_long_arguments_are_cut(self, pool):
        with pytest.raises(ArithmeticError) as caught:
            box_of(Fails(where="everywhere"), pool)(jnp.arange(1e5))
        assert re.search(r"x = array\(\[.*\.\.\..*9\.9999e\+04", notes(caught.value))
        assert len(caught.value.__notes__[0]) < 3000


class TestNan:
    """on_error="nan": a point that failed counts as NaN."""

    @pytest.mark.parametrize("how", ["raise", "awkward", "sys.exit", "shape", "dtype", "object"])
    @pytest.mark.parametrize("where", ["above", "below"])
    def test_a_side_that_is_lost(self, pool, how, where):
        box = box_of(Fails(how, where), pool, on_error="nan")
        with pytest.warns(RuntimeWarning, match=r"^Fails: 1 of 7 points failed and count as NaN"):
            value, gradient = jaxfd.value_and_grad(box)(X)
        assert value == simulators.quadratic(X)
        np.testing.assert_allclose(gradient, SLOPE, atol=1e-4)
        whole = jaxfd.grad(box_of(simulators.quadratic))(X)
        np.testing.assert_array_equal(gradient[1:], whole[1:])
        assert gradient[0] != whole[0]

    def test_where_no_value_is_asked_for(self, pool):
        box = box_of(Fails(), pool, on_error="nan")
        with pytest.warns(RuntimeWarning, match=r"1 of 6 points"):
            gradient = jaxfd.grad(box)(X)
        np.testing.assert_allclose(gradient, SLOPE, atol=1e-4)

    @pytest.mark.parametrize("where", ["above", "nowhere"])
    def test_estimate_says_so(self, pool, where):
        box = box_of(Fails(where=where), pool, on_error="nan")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            found = jaxfd.estimate(box)(X)
        np.testing.assert_array_equal(found.one_sided, [where == "above", False, False])
        np.testing.assert_allclose(found.grad, SLOPE, atol=1e-4)
        # Six further points tell what one side alone does not.
        assert not np.any(np.isnan(found.error))
        assert np.all(np.abs(found.grad - SLOPE) <= found.error)

    def test_both_sides_lost(self):
        box = box_of(Fails(where="both"), on_error="nan")
        with pytest.warns(RuntimeWarning, match=r"8 of 13 points"):
            found = jaxfd.estimate(box)(X)
        np.testing.assert_array_equal(np.isnan(found.grad), [True, False, False])
        np.testing.assert_array_equal(found.one_sided, [False] * 3)

    def test_centre_lost(self):
        box = box_of(Fails(where="centre"), on_error="nan")
        with pytest.warns(RuntimeWarning, match=r"1 of 7 points"):
            value, gradient = jaxfd.value_and_grad(box)(X)
        assert np.isnan(value)
        np.testing.assert_array_equal(gradient, jaxfd.grad(box_of(simulators.quadratic))(X))

    @pytest.mark.parametrize("where", ["farthest", "above"])
    def test_central_4(self, where):
        # The second point above X lies 2 h = 1e-3 or more from it.
        method = jaxfd.Central(4, step=3e-4)
        box = box_of(Fails(where=where), on_error="nan")
        lost = {"farthest": 4, "above": 5}[where]  # three of the points that a bar needs, too
        with pytest.warns(RuntimeWarning, match=rf"{lost} of 19 points"):
            found = jaxfd.estimate(box, method=method)(X)
        np.testing.assert_array_equal(found.one_sided, [True, False, False])
        # With three points and the centre, or two: exact for a quadratic.
        np.testing.assert_allclose(found.grad, SLOPE, atol=1e-8)

    @pytest.mark.parametrize("method", [jaxfd.Forward(1), jaxfd.Forward(2)], ids=["1", "2"])
    def test_methods_with_one_side(self, method):
        box = box_of(Fails(), on_error="nan")
        with pytest.warns(RuntimeWarning, match="points failed"):
            found = jaxfd.estimate(box, method=method)(X)
        assert np.isnan(found.grad[0])
        np.testing.assert_allclose(found.grad[1:], SLOPE[1:], atol=1e-4)
        assert not found.one_sided.any()

    def test_bounds(self):
        # Entry 1 sits at its wall, so that rays go one way; entry 0 loses what is above.
        box = box_of(Fails(), on_error="nan")
        bounds = (jnp.array([-9.0, -2.0, -9.0]), jnp.full(3, 9.0))
        with pytest.warns(RuntimeWarning, match=r"7 of 13 points"):
            found = jaxfd.estimate(box, bounds=bounds)(X)
        np.testing.assert_array_equal(found.one_sided, [True, True, False])
        np.testing.assert_allclose(found.grad, SLOPE, atol=1e-4)

    def test_a_wall_and_no_point_left_beside_it(self):
        box = box_of(Fails(), on_error="nan")
        with pytest.warns(RuntimeWarning, match=r"8 of 13 points"):
            found = jaxfd.estimate(box, bounds=(jnp.asarray(X), jnp.full(3, 9.0)))(X)
        np.testing.assert_array_equal(np.isnan(found.grad), [True, False, False])

    @pytest.mark.parametrize("run", [jaxfd.grad, jax.grad], ids=["jaxfd", "jax"])
    @pytest.mark.parametrize("mode", ["reverse", "forward", "recompute"])
    def test_modes(self, run, mode):
        box = box_of(Fails(), on_error="nan", mode=mode)
        with pytest.warns(RuntimeWarning, match="points failed"):
            gradient = run(box)(X)
        np.testing.assert_allclose(gradient, SLOPE, atol=1e-4)

    @pytest.mark.parametrize("run", [jaxfd.jvp, jax.jvp], ids=["jaxfd", "jax"])
    def test_along_a_tangent(self, run):
        box = box_of(Fails(), on_error="nan", mode="forward")
        with pytest.warns(RuntimeWarning, match="points failed"):
            value, slope = run(box, (X,), (jnp.array([1.0, 0.0, 0.0]),))
        assert value == simulators.quadratic(X)
        np.testing.assert_allclose(slope, SLOPE[0], atol=1e-4)

    def test_vmap_and_jit(self):
        box = box_of(Fails(), on_error="nan")
        points = jnp.stack([X - 1.0, X])
        # At X - 1 nothing is above X.
        with pytest.warns(RuntimeWarning, match=r"1 of 14 points"):
            _, gradients = jax.jit(jax.vmap(jax.value_and_grad(box)))(points)
        truth = jax.vmap(jax.grad(lambda x: jnp.sum(x**2) + jnp.prod(x)))(points)
        np.testing.assert_allclose(gradients, truth, atol=1e-4)

    def test_a_vectorised_function_is_cut_in_halves(self, pool, tmp_path):
        path = str(tmp_path / "log")
        fun = Logged(path, FailsInBatch())
        box = box_of(fun, pool, vectorized=True, chunk_size=8, on_error="nan")
        with pytest.warns(RuntimeWarning, match=r"1 of 7 points"):
            _, gradient = jax.value_and_grad(box)(X)
        np.testing.assert_allclose(gradient, SLOPE, atol=1e-4)
        # Point 4 of 0-6: 7 = 3 + 4, 4 = 2 + 2, 2 = 1 + 1.
        assert sorted(len(call) for call in log(path)) == [1, 1, 2, 2, 3, 4, 7]

    def test_integers_alone_cannot_say_nan(self):
        def count(x):
            raise ArithmeticError("lost count")

        whole = jax.ShapeDtypeStruct((), np.int32)
        box = jaxfd.blackbox(count, whole, on_error="nan")
        with pytest.raises(ArithmeticError, match="lost count"):
            box(X)

    def test_integers_beside_floats_count_as_zero(self):
        out = {"n": jax.ShapeDtypeStruct((2,), np.int32), "x": SCALAR}

        def fails(x):
            raise ArithmeticError

        with pytest.warns(RuntimeWarning, match=r"1 of 1 points"):
            found = jaxfd.blackbox(fails, out, on_error="nan")(X)
        np.testing.assert_array_equal(found["n"], [0, 0])
        assert np.isnan(found["x"])


class TestHandler:
    """on_error is a function that stands in."""

    def test_sees_point_and_exception(self, pool):
        seen = []

        def instead(x, error):
            seen.append((x, error))
            return simulators.quadratic(x)

        gradient = jaxfd.grad(box_of(Fails(), pool, on_error=instead))(X)
        expected = jaxfd.grad(box_of(simulators.quadratic))(X)
        np.testing.assert_array_equal(gradient, expected)
        ((x, error),) = seen
        assert isinstance(x, np.ndarray)
        assert x[0] > X[0]
        assert (type(error), str(error)) == (ArithmeticError, "the mesh is tangled")

    def test_sees_all_arguments(self):
        seen = []

        def fails(x, y, *, scale):
            raise ArithmeticError

        box = box_of(fails, on_error=lambda x, error: seen.append(x) or 0.0)
        box(1.0, jnp.ones(2), scale=3.0)
        ((x, y, kwargs),) = seen
        assert (float(x), list(y), float(kwargs["scale"])) == (1.0, [1.0, 1.0], 3.0)

    def test_its_value_is_checked(self):
        with pytest.raises(ValueError, match=r"returned the shape \(2,\)"):
            jaxfd.grad(box_of(Fails(), on_error=lambda x, error: np.zeros(2)))(X)

    def test_what_it_raises_is_raised(self):
        def never(x, error):
            raise LookupError("no table for this") from error

        with pytest.raises(LookupError, match="no table"):
            jaxfd.grad(box_of(Fails(), on_error=never))(X)

    def test_of_a_vectorised_function_sees_points_one_by_one(self, pool):
        seen = []

        def instead(x, error):
            seen.append(x.shape)
            return simulators.quadratic(x)

        box = box_of(FailsInBatch(), pool, vectorized=True, on_error=instead)
        np.testing.assert_allclose(jax.grad(box)(X), SLOPE, rtol=1e-9)
        assert seen == [(3,)]


class TestRetries:
    def test_recovers(self, pool, tmp_path):
        box = box_of(Flaky(str(tmp_path), times=2), pool, retries=2)
        expected = jaxfd.grad(box_of(simulators.quadratic))(X)
        np.testing.assert_array_equal(jaxfd.grad(box)(X), expected)
        assert len(os.listdir(tmp_path)) == 2

    @pytest.mark.parametrize("retries", [0, 1, 3])
    def test_so_many_times(self, pool, tmp_path, retries):
        path = str(tmp_path / "log")
        box = box_of(Logged(path, Fails(where="everywhere")), pool, retries=retries)
        with pytest.raises(ArithmeticError):
            box(X)
        assert len(log(path)) == retries + 1

    def test_then_nan(self, tmp_path):
        path = str(tmp_path / "log")
        box = box_of(Logged(path, Fails()), retries=2, on_error="nan")
        with pytest.warns(RuntimeWarning, match=r"1 of 7 points"):
            jax.grad(box)(X)
        assert len(log(path)) == 7 + 2

    def test_on_a_point_that_the_function_wrote_to(self):
        tries = []

        def spoils(x):
            tries.append(x.copy())
            x += 1.0
            if len(tries) == 1:
                raise ArithmeticError("not yet")
            return simulators.quadratic(tries[-1])

        assert jaxfd.blackbox(spoils, SCALAR, retries=1)(X) == simulators.quadratic(X)
        np.testing.assert_array_equal(tries[0], tries[1])
