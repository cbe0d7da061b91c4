"""Points run side by side: the numbers of a serial run, whoever runs them."""

import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import _simulators as simulators
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _executors import KINDS, PROCESSES, executor
from _simulators import SLOPE, Logged, X, log
from _tools import x64

import jaxfd

SCALAR = jax.ShapeDtypeStruct((), np.float64)
PAIR = jax.ShapeDtypeStruct((2,), np.float64)


@pytest.fixture(scope="module", params=[*KINDS, "forkserver"])
def pool(request):
    with executor(request.param) as made:
        yield made


@pytest.fixture(scope="module", params=[*PROCESSES, "forkserver"])
def processes(request):
    with executor(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def threads():
    with executor("threads") as made:
        yield made


@pytest.fixture(scope="module")
def spawned():
    with executor("spawn") as made:
        yield made


def same(actual, desired):
    """Asserts that two trees agree in every bit."""
    assert jax.tree.structure(actual) == jax.tree.structure(desired)
    for a, d in zip(jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True):
        assert (a.shape, a.dtype) == (d.shape, d.dtype)
        assert np.asarray(a).tobytes() == np.asarray(d).tobytes()


BATCH = np.stack([X, X + 0.5, -X])
TRANSFORMS = {
    "call": lambda box: box(X),
    "grad": lambda box: jax.grad(box)(X),
    "jit": lambda box: jax.jit(jax.grad(box))(X),
    "value_and_grad": lambda box: jax.jit(jax.value_and_grad(box))(X),
    "vmap": lambda box: jax.vmap(jax.grad(box))(BATCH),
    "jit of vmap": lambda box: jax.jit(jax.vmap(jax.value_and_grad(box)))(BATCH),
    "hessian": lambda box: jax.hessian(box)(X),
    "jaxfd.grad": lambda box: jaxfd.grad(box, method=jaxfd.Central(4))(X),
    "jaxfd.hessian": lambda box: jaxfd.hessian(box)(X),
    "jvp": lambda box: jaxfd.jvp(box, (X,), (jnp.ones(3),)),
}


class TestValues:
    @pytest.mark.parametrize("transform", TRANSFORMS)
    def test_those_of_a_serial_run(self, pool, transform):
        run = TRANSFORMS[transform]
        box = jaxfd.blackbox(simulators.quadratic, SCALAR, executor=pool)
        same(run(box), run(jaxfd.blackbox(simulators.quadratic, SCALAR)))

    @pytest.mark.parametrize("vectorized", [False, True], ids=["single", "vectorized"])
    @pytest.mark.parametrize("chunk_size", [None, 1, 3, 100])
    def test_chunk_size(self, pool, chunk_size, vectorized):
        options = {"vectorized": vectorized}
        box = jaxfd.blackbox(
            simulators.curve, PAIR, executor=pool, chunk_size=chunk_size, **options
        )
        same(jax.jacrev(box)(X), jax.jacrev(jaxfd.blackbox(simulators.curve, PAIR, **options))(X))

    def test_right(self, pool):
        box = jaxfd.blackbox(simulators.quadratic, SCALAR, executor=pool)
        np.testing.assert_allclose(jax.grad(box)(X), SLOPE, rtol=1e-9)

    def test_single_precision_is_recognised(self, pool):
        box = jaxfd.blackbox(simulators.returns_single, SCALAR, executor=pool)
        gradient = jax.grad(box)(X)
        same(gradient, jax.grad(jaxfd.blackbox(simulators.returns_single, SCALAR))(X))
        np.testing.assert_allclose(gradient, SLOPE, rtol=1e-3)

    @pytest.mark.parametrize("count", [1, 7])
    def test_order_where_later_points_are_faster(self, threads, count):
        order = threading.Semaphore(0)

        def backwards(x):
            if x[0] == count - 1:
                order.release()
            assert order.acquire(timeout=30)
            order.release()
            return x[0] * 10.0

        box = jaxfd.blackbox(backwards, SCALAR, executor=ThreadPoolExecutor(count))
        points = jnp.arange(float(count))[:, None]
        np.testing.assert_array_equal(jax.vmap(box)(points), 10.0 * np.arange(count))

    def test_no_points(self, pool):
        box = jaxfd.blackbox(simulators.quadratic, SCALAR, executor=pool)
        assert jax.grad(box)(jnp.zeros(0)).shape == (0,)
        assert jax.vmap(jax.grad(box))(jnp.zeros((0, 3))).shape == (0, 3)


class TestEvaluations:
    def test_as_many_as_serially(self, pool, tmp_path):
        path = str(tmp_path / "log")
        box = jaxfd.blackbox(Logged(path), SCALAR, executor=pool)
        jax.jit(jax.value_and_grad(box))(X)
        calls = log(path)
        assert [len(call) for call in calls] == [1] * 7
        assert len(np.unique(np.concatenate(calls), axis=0)) == 7

    @pytest.mark.parametrize(
        ("chunk_size", "sizes"), [(None, [3, 4]), (1, [1] * 7), (3, [1, 3, 3]), (100, [7])]
    )
    def test_batches_of_a_vectorised_function(self, pool, tmp_path, chunk_size, sizes):
        path = str(tmp_path / "log")
        box = jaxfd.blackbox(
            Logged(path), SCALAR, vectorized=True, executor=pool, chunk_size=chunk_size
        )
        jax.value_and_grad(box)(X)
        assert sorted(len(call) for call in log(path)) == sizes

    def test_vmap_is_one_batch(self, pool):
        seen = []
        box = jaxfd.blackbox(
            simulators.quadratic,
            SCALAR,
            executor=pool,
            progress=lambda p: seen.append((p.done, p.planned)),
        )
        jax.vmap(jax.grad(box))(BATCH)
        assert seen == [(done, 21) for done in range(1, 22)]


class TestExecutor:
    def test_never_shut_down(self, pool):
        box = jaxfd.blackbox(simulators.quadratic, SCALAR, executor=pool)
        jax.grad(box)(X)
        del box
        assert pool.submit(int, "3").result(timeout=60) == 3

    def test_shared_by_boxes_and_threads(self, pool):
        boxes = [jaxfd.blackbox(simulators.quadratic, SCALAR, executor=pool) for _ in range(3)]
        found = [None] * 3

        def run(i):
            with x64(True):
                found[i] = jax.grad(boxes[i])(X)

        threads = [threading.Thread(target=run, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for gradient in found:
            np.testing.assert_allclose(gradient, SLOPE, rtol=1e-9)

    def test_shut_down_by_its_owner(self):
        pool = ThreadPoolExecutor(1)
        box = jaxfd.blackbox(simulators.quadratic, SCALAR, executor=pool)
        pool.shutdown()
        with pytest.raises(RuntimeError, match="shutdown"):
            jax.grad(box)(X)

    def test_runs_elsewhere(self, processes):
        box = jaxfd.blackbox(simulators.worker, SCALAR, executor=processes)
        assert float(box(X)) != os.getpid()
        assert os.getpid() not in np.asarray(jax.vmap(box)(BATCH))

    def test_workers_import_no_jax(self, processes):
        box = jaxfd.blackbox(simulators.has_jax, SCALAR, executor=processes)
        assert not jax.vmap(box)(BATCH).any()

    def test_anything_with_submit(self):
        class Inline:
            def submit(self, fun, *args, **kwargs):
                from concurrent.futures import Future

                future = Future()
                future.set_result(fun(*args, **kwargs))
                return future

        box = jaxfd.blackbox(lambda x: simulators.quadratic(x), SCALAR, executor=Inline())
        same(jax.grad(box)(X), jax.grad(jaxfd.blackbox(simulators.quadratic, SCALAR))(X))

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
    def test_dask(self):
        distributed = pytest.importorskip("distributed")
        options = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": None}
        with distributed.Client(processes=False, **options) as client:
            with pytest.raises(TypeError, match=r"client\.get_executor\(\)"):
                jaxfd.blackbox(simulators.quadratic, SCALAR, executor=client)
            box = jaxfd.blackbox(
                lambda x: simulators.quadratic(x), SCALAR, executor=client.get_executor()
            )
            np.testing.assert_allclose(jax.jit(jax.grad(box))(X), SLOPE, rtol=1e-9)


class TestRefused:
    def test_fork(self):
        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
        with pytest.raises(ValueError, match=r"^executor .*fork.*spawn"):
            jaxfd.blackbox(simulators.quadratic, SCALAR, executor=pool)

    @pytest.mark.parametrize(
        "what", [object(), 3, ThreadPoolExecutor, "spawn"], ids=["object", "int", "class", "str"]
    )
    def test_no_executor(self, what):
        with pytest.raises(TypeError, match=r"^executor must have a method submit"):
            jaxfd.blackbox(simulators.quadratic, SCALAR, executor=what)

    def test_lambda_for_spawn_before_the_first_point(self, spawned):
        with pytest.raises(TypeError, match=r"^fun .*cannot be sent to a worker process.*loky"):
            jaxfd.blackbox(lambda x: x.sum(), SCALAR, executor=spawned)

    def test_lambda_for_loky(self):
        factor = 2.0
        with executor("loky") as pool:
            box = jaxfd.blackbox(lambda x: factor * x.sum(), SCALAR, executor=pool)
            np.testing.assert_allclose(jax.grad(box)(X), 2.0, rtol=1e-9)

    def test_what_loky_cannot_send(self):
        lock = threading.Lock()
        with executor("loky") as pool, pytest.raises(TypeError, match="cannot be sent"):
            jaxfd.blackbox(lambda x: lock.locked() + x.sum(), SCALAR, executor=pool)

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            *(("chunk_size", v) for v in (0, -1, 2.0, True, "3", np.nan)),
            *(("retries", v) for v in (-1, 1.5, True, None, "3")),
            *(("timeout", v) for v in (0, -1.0, True, "1", np.nan, [1.0])),
            *(("on_error", v) for v in ("ignore", None, 3, np.nan)),
            *(("progress", v) for v in (3, "yes", 1.0)),
            *(("journal", v) for v in (3, 1.5)),
        ],
        ids=str,
    )
    def test_bad_value(self, spawned, option, value):
        with pytest.raises((TypeError, ValueError), match=rf"^{option} must be .*got "):
            jaxfd.blackbox(simulators.quadratic, SCALAR, executor=spawned, **{option: value})

    def test_timeout_without_an_executor(self):
        with pytest.raises(ValueError, match=r"^timeout .*without an executor.*spawn.*loky"):
            jaxfd.blackbox(simulators.quadratic, SCALAR, timeout=1.0)

    def test_timeout_with_threads(self, threads):
        with pytest.raises(ValueError, match=r"^timeout .*ThreadPoolExecutor.*spawn.*loky"):
            jaxfd.blackbox(simulators.quadratic, SCALAR, executor=threads, timeout=1.0)


_SCRIPT = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
import jax, numpy as np, jaxfd

def cube(x):
    return x**3
"""
_RUN = """
pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
box = jaxfd.blackbox(cube, jax.ShapeDtypeStruct((), np.float32), executor=pool)
print(jax.grad(box)(2.0))
"""
_GUARDED = 'if __name__ == "__main__":' + _RUN.replace("\n", "\n    ")


class TestMain:
    """Functions that a script or a session defines itself."""

    def run(self, *arguments):
        return subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False
        )

    def test_script(self, tmp_path):
        path = tmp_path / "script.py"
        path.write_text(_SCRIPT + _GUARDED)
        done = self.run(path)
        assert (done.stdout, done.returncode) == ("12.0\n", 0), done.stderr

    def test_script_without_a_guard(self, tmp_path):
        path = tmp_path / "script.py"
        path.write_text(_SCRIPT + _RUN)
        done = self.run(path)
        assert done.returncode == 1
        errors = [line for line in done.stderr.splitlines() if "BrokenProcessPool: " in line]
        assert "if __name__ == '__main__':" in errors[-1]

    def test_session(self):
        done = self.run("-c", _SCRIPT + _RUN)
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith("TypeError: fun cube was typed into an interactive session")
