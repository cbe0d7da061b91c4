"""Pools in adversity: what hangs, what swallows an interrupt, what waits for itself."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import _simulators as simulators
import jax
import numpy as np
import pytest
from _executors import PROCESSES, executor
from _simulators import SLOPE, X
from _tools import x64

import jaxfd

SCALAR = jax.ShapeDtypeStruct((), np.float64)


@pytest.fixture(scope="module", params=PROCESSES)
def pool(request):
    with executor(request.param) as pool:
        yield pool


class TestTimeout:
    def test_a_swallowed_interrupt_is_no_result(self, pool, tmp_path):
        path = tmp_path / "runs.sqlite"
        box = jaxfd.blackbox(simulators.swallows, SCALAR, executor=pool, timeout=0.3, journal=path)
        with pytest.raises(TimeoutError, match=r"timeout=0.3 s\. It ran point 0 of 1"):
            box(X)
        assert len(jaxfd.Journal(path)) == 0

    def test_points_that_end_as_their_time_is_up(self, pool):
        """Each is right or too late; nobody is interrupted, and no worker dies."""
        jax.grad(jaxfd.blackbox(simulators.quadratic, SCALAR, executor=pool))(X)
        late = []

        def stand_in(x, error):
            late.append(type(error))
            return simulators.quadratic(x)

        box = jaxfd.blackbox(
            simulators.near, SCALAR, executor=pool, timeout=0.01, on_error=stand_in
        )
        for _ in range(30):
            np.testing.assert_allclose(jax.grad(box)(X), SLOPE, atol=1e-8)
        assert set(late) <= {TimeoutError}

    def test_a_neighbour_that_hangs_is_not_left_behind(self, pool):
        box = jaxfd.blackbox(simulators.fails_beside_a_hang, SCALAR, executor=pool)
        with pytest.raises(ArithmeticError):
            jax.grad(box)(X)
        after = jaxfd.blackbox(simulators.quadratic, SCALAR, executor=pool)
        np.testing.assert_allclose(jax.grad(after)(X), SLOPE, atol=1e-8)


def test_a_box_inside_a_box_on_the_same_threads():
    """It would wait for a thread that waits for it."""
    with ThreadPoolExecutor(2) as pool:
        inner = jaxfd.blackbox(simulators.quadratic, SCALAR, executor=pool)

        def outer(x):
            with x64(True):
                return float(inner(x)) ** 2

        gradient = jax.grad(jaxfd.blackbox(outer, SCALAR, executor=pool))(X)
    np.testing.assert_allclose(gradient, 2 * simulators.quadratic(X) * SLOPE, rtol=1e-7)


TAKES_THE_NAME = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import jax, jax.numpy as jnp, numpy as np, jaxfd

def simulate(x):
    return float(np.sum(x))

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    out = jax.ShapeDtypeStruct((), jnp.float32)
    simulate = jaxfd.blackbox(simulate, out, executor=pool, on_error="nan")
    try:
        simulate(np.ones(2))
    except TypeError as error:
        print(error)
"""
SHARES_A_JOURNAL = """
import sys
import jax, jax.numpy as jnp, numpy as np, jaxfd

def simulate(x):
    return FACTOR * float(np.sum(x))

box = jaxfd.blackbox(simulate, jax.ShapeDtypeStruct((), jnp.float32), journal=sys.argv[1])
print(box(np.ones(2)))
"""


def printed(path, *arguments):
    """What a script prints."""
    done = subprocess.run(
        [sys.executable, str(path), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class TestScripts:
    def test_a_box_that_takes_the_name_of_its_function(self, tmp_path):
        path = tmp_path / "script.py"
        path.write_text(TAKES_THE_NAME)
        assert "give the box another one" in printed(path)

    def test_functions_of_one_name_do_not_share_runs(self, tmp_path):
        for factor in (1, 7):
            path = tmp_path / f"script{factor}.py"
            path.write_text(SHARES_A_JOURNAL.replace("FACTOR", str(factor)))
            for _ in range(2):
                assert float(printed(path, tmp_path / "runs.sqlite")) == 2 * factor
        assert len(jaxfd.Journal(tmp_path / "runs.sqlite")) == 2
