"""Worker processes that die or hang: the point is named, the others are not lost."""

import concurrent.futures
import re
import time

import _simulators as simulators
import jax
import numpy as np
import pytest
from _executors import PROCESSES, executor
from _simulators import SLOPE, After, Fails, FailsInBatch, Flaky, Logged, X, log
from _tools import x64

import jaxfd

SCALAR = jax.ShapeDtypeStruct((), np.float64)
WHERE = r"point 3 of 6 \(counted from 0\), x = array\(\[ *1\.0000\d+, *-2\. *, *3\. *\]\)"


@pytest.fixture(scope="module", params=PROCESSES)
def pool(request):
    with executor(request.param) as made:
        yield made


def box_of(fun, pool, **options):
    return jaxfd.blackbox(fun, SCALAR, executor=pool, **options)


def serial(method=jaxfd.Central()):
    return jaxfd.grad(jaxfd.blackbox(simulators.quadratic, SCALAR), method=method)(X)


DEATHS = {"exit": r"exit code 7", "kill": "SIGKILL", "terminate": "SIGTERM"}


def in_every_pool(hows, chunk_sizes):
    """Every failure with every chunk size in one kind of pool; in the other it is heavy.

    Every pair occurs: failure and chunk size, failure and pool, chunk size and pool.
    """
    cases = []
    for i, how in enumerate(hows):
        for j, chunk_size in enumerate(chunk_sizes):
            for k, kind in enumerate(PROCESSES):
                marks = [] if (i + j) % 2 == k else [pytest.mark.heavy]
                cases.append(pytest.param(kind, how, chunk_size, marks=marks))
    return pytest.mark.parametrize(("pool", "how", "chunk_size"), cases, indirect=["pool"])


class TestDeath:
    @in_every_pool(DEATHS, [1, 3])
    def test_names_the_point_and_works_again(self, pool, how, chunk_size):
        box = box_of(Fails(how), pool, chunk_size=chunk_size)
        for _ in range(2):
            with pytest.raises(concurrent.futures.BrokenExecutor) as caught:
                jaxfd.grad(box)(X)
            assert re.search("Fails: its worker process died.* It ran " + WHERE, str(caught.value))
        away = X - 1.0
        expected = jaxfd.grad(jaxfd.blackbox(simulators.quadratic, SCALAR))(away)
        np.testing.assert_array_equal(jaxfd.grad(box)(away), expected)

    @pytest.mark.parametrize("how", ["exit", "kill"])
    def test_says_how(self, pool, how):
        with pytest.raises(concurrent.futures.BrokenExecutor, match=DEATHS[how]):
            jaxfd.grad(box_of(Fails(how), pool))(X)

    @in_every_pool(DEATHS, [1, 3, 7])
    def test_nan(self, pool, how, chunk_size):
        box = box_of(Fails(how), pool, chunk_size=chunk_size, on_error="nan")
        with pytest.warns(RuntimeWarning, match=r"4 of 13 points failed"):
            found = jaxfd.estimate(box)(X)
        np.testing.assert_array_equal(found.one_sided, [True, False, False])
        np.testing.assert_allclose(found.grad, SLOPE, atol=1e-4)
        np.testing.assert_array_equal(found.grad[1:], serial()[1:])

    def test_several_points(self, pool):
        box = box_of(Fails("exit", "both"), pool, on_error="nan")
        with pytest.warns(RuntimeWarning, match=r"10 of 19 points failed"):
            found = jaxfd.estimate(box, method=jaxfd.Central(4))(X)
        np.testing.assert_array_equal(np.isnan(found.grad), [True, False, False])
        np.testing.assert_array_equal(found.grad[1:], serial(jaxfd.Central(4))[1:])

    @pytest.mark.parametrize("how", ["exit", "kill", "terminate"])
    def test_retries(self, pool, tmp_path, how):
        box = box_of(Flaky(str(tmp_path), how=how), pool, retries=1)
        np.testing.assert_array_equal(jaxfd.grad(box)(X), serial())

    def test_handler(self, pool):
        seen = []

        def instead(x, error):
            seen.append(error)
            return simulators.quadratic(x)

        box = box_of(Fails("exit"), pool, on_error=instead)
        np.testing.assert_array_equal(jaxfd.grad(box)(X), serial())
        (error,) = seen
        assert isinstance(error, concurrent.futures.BrokenExecutor)
        assert re.search(WHERE, str(error))

    def test_vectorised(self, pool):
        box = box_of(FailsInBatch("exit"), pool, vectorized=True, on_error="nan")
        with pytest.warns(RuntimeWarning, match=r"1 of 6 points failed"):
            gradient = jaxfd.grad(box)(X)
        np.testing.assert_allclose(gradient, SLOPE, atol=1e-4)

    def test_in_a_jitted_program(self, pool):
        with pytest.raises(jax.errors.JaxRuntimeError) as caught:
            jax.jit(jaxfd.grad(box_of(Fails("exit"), pool)))(X)
        assert re.search(r"(BrokenProcessPool|TerminatedWorkerError): Fails", str(caught.value))
        assert re.search(WHERE, str(caught.value))

    def test_two_boxes_of_one_pool(self, pool):
        dies, lives = box_of(Fails("exit"), pool), box_of(simulators.quadratic, pool)
        with pytest.raises(concurrent.futures.BrokenExecutor):
            jaxfd.grad(dies)(X)
        np.testing.assert_array_equal(jaxfd.grad(lives)(X), serial())

    @pytest.mark.parametrize("how", DEATHS)
    def test_does_no_harm_to_another_box(self, pool, tmp_path, how):
        """A worker dies while a point of another box runs beside it."""
        path = str(tmp_path / "log")
        works = box_of(Logged(path, simulators.sleepy), pool)
        dies = box_of(After(path, Fails(how, "centre")), pool)

        def work():
            with x64(True):
                return works(X)

        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            found = thread.submit(work)
            with pytest.raises(concurrent.futures.BrokenExecutor, match="After: its worker"):
                dies(X)
            assert found.result() == simulators.quadratic(X)


class TestTimeout:
    @in_every_pool(["hang", "hang on"], [1, 3])
    def test_names_the_point_and_works_again(self, pool, how, chunk_size):
        box = box_of(Fails(how), pool, timeout=1.0, chunk_size=chunk_size)
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="longer than timeout=1 s") as caught:
            jaxfd.grad(box)(X)
        assert time.monotonic() - began < 30
        assert re.search(WHERE, str(caught.value))
        away = X - 1.0
        expected = jaxfd.grad(jaxfd.blackbox(simulators.quadratic, SCALAR))(away)
        np.testing.assert_array_equal(jaxfd.grad(box)(away), expected)

    @in_every_pool(["hang", "hang on"], [1, 3, 7])
    def test_others_go_on(self, pool, how, chunk_size):
        box = box_of(Fails(how), pool, timeout=1.0, chunk_size=chunk_size, on_error="nan")
        with pytest.warns(RuntimeWarning, match=r"4 of 13 points failed.*longer than timeout=1 s"):
            found = jaxfd.estimate(box)(X)
        np.testing.assert_array_equal(found.one_sided, [True, False, False])
        np.testing.assert_array_equal(found.grad[1:], serial()[1:])

    def test_each_point_is_run_once_beside_one_that_hangs(self, pool, tmp_path):
        path = str(tmp_path / "log")
        box = box_of(Logged(path, Fails("hang")), pool, timeout=1.0, chunk_size=3, on_error="nan")
        with pytest.warns(RuntimeWarning, match=r"1 of 6 points"):
            jaxfd.grad(box)(X)
        assert len(log(path)) == 7  # the centre is asked for where a side was lost

    def test_retries(self, pool, tmp_path):
        box = box_of(Flaky(str(tmp_path), how="hang"), pool, timeout=1.0, retries=1)
        np.testing.assert_array_equal(jaxfd.grad(box)(X), serial())

    def test_counts_from_the_start_of_each_point(self, pool):
        # Seven points of 0.1 s in one worker take longer than the 0.5 s that one may take.
        box = box_of(simulators.sleepy, pool, timeout=0.5, chunk_size=7)
        np.testing.assert_array_equal(jaxfd.value_and_grad(box)(X)[1], serial())

    def test_vectorised(self, pool):
        box = box_of(FailsInBatch("hang"), pool, vectorized=True, timeout=0.5, on_error="nan")
        with pytest.warns(RuntimeWarning, match=r"1 of 6 points failed"):
            gradient = jaxfd.grad(box)(X)
        np.testing.assert_allclose(gradient, SLOPE, atol=1e-4)
