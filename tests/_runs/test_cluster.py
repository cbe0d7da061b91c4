"""A dask cluster of two worker processes on this machine, some of which are killed."""

import concurrent.futures
import logging
import os
import signal
import time
import warnings

import dask
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from distributed import Client, LocalCluster

import jaxfd
from jaxfd._runs import cluster as cluster_room

SCALAR = jax.ShapeDtypeStruct((), np.float64)
X = np.array([0.5, -1.0, 2.0, 3.0])


@pytest.fixture(scope="module")
def client():
    """Two workers of one thread each."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture
def executor(client):
    client.wait_for_workers(2, timeout=60)
    return client.get_executor()


def processes(client):
    """The process ids of the workers."""
    return sorted(client.run(os.getpid).values())


def test_values_are_those_without_a_cluster(executor):
    def simulate(x):
        return np.sum(np.sin(x) * x)

    alone = jax.grad(jaxfd.blackbox(simulate, SCALAR))(X)
    spread = jax.grad(jaxfd.blackbox(simulate, SCALAR, executor=executor))
    np.testing.assert_array_equal(spread(X), alone)
    np.testing.assert_array_equal(jax.jit(spread)(X), alone)
    np.testing.assert_array_equal(jax.vmap(spread)(jnp.stack([X, X]))[1], alone)


def test_workers_need_no_jax(executor):
    def modules(x):
        import sys

        return float("jax" in sys.modules) + 0 * x[0]

    assert jaxfd.blackbox(modules, SCALAR, executor=executor)(X) == 0


def test_a_worker_killed_half_way_costs_nothing(client, executor):
    def simulate(x):
        total = sum(i % 7 for i in range(200_000))
        return np.sum(x**2) + 0 * total

    before = processes(client)
    done = []

    def accident(progress):
        done.append(progress.done)
        if progress.done == 4:
            os.kill(before[0], signal.SIGKILL)

    box = jaxfd.blackbox(simulate, SCALAR, executor=executor, progress=accident)
    value, gradient = jax.value_and_grad(box)(X)
    alone = jax.value_and_grad(jaxfd.blackbox(simulate, SCALAR))(X)
    np.testing.assert_array_equal(gradient, alone[1])
    assert value == alone[0]
    assert done == list(range(1, 2 * X.size + 2))
    client.wait_for_workers(2, timeout=60)
    assert before[0] not in processes(client)


def test_a_point_is_tried_again_and_not_answered_from_memory(executor, tmp_path):
    path = str(tmp_path / "tried")

    def flaky(x):
        import os

        if not os.path.exists(path):
            open(path, "w").close()
            raise RuntimeError("licence server busy")
        return np.sum(x)

    assert jaxfd.blackbox(flaky, SCALAR, executor=executor, retries=1)(X) == X.sum()


def test_noise_is_drawn_anew(executor):
    def noisy(x):
        import os

        return float(int.from_bytes(os.urandom(4), "little")) + 0 * x[0]

    box = jaxfd.blackbox(noisy, SCALAR, executor=executor)
    assert box(X) != box(X)


def test_an_exception_names_the_point(executor):
    def simulate(x):
        if x[2] > 2:
            raise FloatingPointError("pressure")
        return np.sum(x)

    with pytest.raises(FloatingPointError, match="pressure") as caught:
        jax.grad(jaxfd.blackbox(simulate, SCALAR, executor=executor))(X)
    notes = "\n".join(caught.value.__notes__)
    assert "point 7 of 9" in notes
    assert "in simulate" in notes


@pytest.fixture(params=[0, 1])
def blaming(request):
    """An executor of four workers; what was to run on several that died is soon given up."""
    options = {"n_workers": 4, "threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": request.param}),
        LocalCluster(**options) as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor()


def deadly(x):
    if x[2] > 2:
        # Where a worker dies while it still starts, dask starts it no more.
        time.sleep(1)
        os._exit(1)
    return np.sum(x)


@pytest.mark.heavy
def test_a_point_that_kills_its_workers_is_named(blaming):
    box = jaxfd.blackbox(deadly, SCALAR, executor=blaming)
    with pytest.raises(concurrent.futures.BrokenExecutor, match=r"process died.* point 7 of 9"):
        jax.grad(box)(X)
    assert box(X) == X.sum()


@pytest.mark.heavy
def test_points_that_waited_behind_it_are_not_blamed(blaming):
    box = jaxfd.blackbox(deadly, SCALAR, executor=blaming, on_error="nan")
    with pytest.warns(RuntimeWarning, match="4 of 15.*process died"):
        found = jaxfd.estimate(box)(X)
    np.testing.assert_array_equal(found.one_sided, [False, False, True, False])
    np.testing.assert_allclose(found.grad, 1, rtol=1e-6)


@pytest.fixture
def deserted(monkeypatch):
    """A cluster without workers, which is told at once."""
    monkeypatch.setattr(cluster_room, "_DESERTED", 0.0)
    with LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster:
        yield cluster


def test_a_cluster_that_has_no_worker_left_ends_the_batch(deserted):
    with Client(deserted) as client:
        box = jaxfd.blackbox(np.sum, SCALAR, executor=client.get_executor(), retries=1)
        with pytest.raises(concurrent.futures.BrokenExecutor, match="no worker left"):
            jax.grad(box)(X)
        deserted.scale(1)
        assert box(X) == X.sum()


def test_elsewhere_a_worker_may_join_late(deserted, monkeypatch):
    told = []

    def join(message, *_):
        told.append(str(message))
        deserted.scale(1)

    with Client(deserted.scheduler_address) as client, warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", join)
        box = jaxfd.blackbox(np.sum, SCALAR, executor=client.get_executor())
        np.testing.assert_allclose(jax.grad(box)(X), 1, rtol=1e-6)
    (message,) = told
    assert "no worker: 9 points wait" in message


def test_the_client_itself_is_no_executor(client):
    with pytest.raises(TypeError, match=r"executor .*get_executor\(\)"):
        jaxfd.blackbox(np.sum, SCALAR, executor=client)


def test_timeout_cannot_be_kept(executor):
    with pytest.raises(ValueError, match=r"timeout .* ClientExecutor.*ProcessPoolExecutor"):
        jaxfd.blackbox(np.sum, SCALAR, executor=executor, timeout=1.0)
