"""Black boxes under load: ``python -m benchmarks.stress``.

Every run is a child process with a hard time limit that takes 300 gradients with 1 MB of
data, one program pending before each and one after it, and checks every number.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd
from benchmarks import _simulators
from benchmarks._children import HEAD, Outcome, run

_SCALAR = jax.ShapeDtypeStruct((), np.float32)
_DATA = np.random.default_rng(0).normal(size=2**18).astype(np.float32)  # 1 MB
_N = 3
_Loop = Callable[[Callable[..., jax.Array], jax.Array, jax.Array, int], tuple[Any, Any]]


@contextlib.contextmanager
def _executor(kind: str) -> Iterator[Any]:
    if kind == "none":
        yield None
    elif kind == "threads":
        with ThreadPoolExecutor(4) as pool:
            yield pool
    elif kind in ("spawn", "forkserver"):
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(kind)) as processes:
            yield processes
    elif kind == "loky":
        import loky

        with loky.ProcessPoolExecutor(2) as workers:
            yield workers
    else:
        from distributed import Client, LocalCluster

        options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
        with LocalCluster(**options) as cluster, Client(cluster) as client:
            yield client.get_executor()


def _pending(size: int = 256) -> jax.Array:
    """Dispatches work and does not wait for it."""
    matrix = jnp.full((size, size), 1.0 / size, jnp.float32)
    return _products(matrix)


@jax.jit
def _products(matrix: jax.Array) -> jax.Array:
    result = matrix
    for _ in range(4):
        result = result @ matrix
    return result


def _by_jit(box: Any, x: jax.Array, data: jax.Array, count: int) -> tuple[Any, Any]:
    """One program for each gradient."""
    step = jax.jit(jax.grad(box))
    points, gradients, waiting = [], [], []
    for _ in range(count):
        waiting.append(_pending())
        gradient = step(x, data)
        points.append(x)
        gradients.append(gradient)
        x = x - 0.01 * gradient
        waiting.append(_pending())
    jax.block_until_ready(waiting)
    return jnp.stack(points), jnp.stack(gradients)


def _by_scan(box: Any, x: jax.Array, data: jax.Array, count: int) -> tuple[Any, Any]:
    """One program for all."""

    def body(x: jax.Array, _: Any) -> tuple[jax.Array, Any]:
        gradient = jax.grad(box)(x, data)
        return x - 0.01 * gradient, (x, gradient)

    compiled = jax.jit(lambda x: jax.lax.scan(body, x, length=count)[1])
    before, result, after = _pending(), compiled(x), _pending()
    jax.block_until_ready((before, after))
    points, gradients = result
    return points, gradients


def _by_vmap(box: Any, x: jax.Array, data: jax.Array, count: int) -> tuple[Any, Any]:
    """Ten gradients in each host call."""
    points = x + 0.01 * jnp.arange(count, dtype=x.dtype)[:, None]
    step = jax.jit(jax.vmap(jax.grad(box), in_axes=(0, None)))
    gradients, waiting = [], []
    for i in range(0, count, 10):
        waiting.append(_pending())
        gradients.append(step(points[i : i + 10], data))
        waiting.append(_pending())
    jax.block_until_ready(waiting)
    return points, jnp.concatenate(gradients)


_LOOPS: dict[str, _Loop] = {"jit": _by_jit, "scan": _by_scan, "vmap": _by_vmap}


def _check(points: Any, gradients: Any) -> None:
    scale = 1.0 + np.mean(_DATA.astype(np.float64) ** 2)
    wanted = 2 * np.asarray(points, np.float64) * scale
    np.testing.assert_allclose(np.asarray(gradients), wanted, rtol=1e-5, atol=1e-5)


@dataclasses.dataclass(frozen=True)
class Scenario:
    """What a child process does.

    Attributes:
        executor: which executor runs the points.
        loop: how gradients are asked for.
        threads: Python threads that do so at once.
        cores: how many cores the child is pinned to.
        asynchronous: whether JAX dispatches programs without waiting.
        gradients: how many each thread takes.
    """

    executor: str
    loop: str
    threads: int
    cores: int
    asynchronous: bool
    gradients: int = 300

    @property
    def title(self) -> str:
        dispatch = "async" if self.asynchronous else "sync"
        return (
            f"{self.gradients} gradients by {self.loop}, executor {self.executor}, {dispatch}, "
            f"{self.threads} thread(s), {self.cores} core(s)"
        )

    def run(self) -> None:
        """Raises where a number is wrong."""
        jax.config.update("jax_cpu_enable_async_dispatch", self.asynchronous)
        errors: list[BaseException] = []
        with _executor(self.executor) as executor:
            box = jaxfd.blackbox(_simulators.quadratic, _SCALAR, executor=executor)
            data = jnp.asarray(_DATA)

            def work(seed: int) -> None:
                try:
                    x = jnp.linspace(0.5, 1.0 + seed, _N)
                    _check(*_LOOPS[self.loop](box, x, data, self.gradients))
                except BaseException as error:
                    errors.append(error)

            workers = [threading.Thread(target=work, args=(i,)) for i in range(self.threads)]
            for thread in workers:
                thread.start()
            for thread in workers:
                thread.join()
        if errors:
            raise errors[0]


def _all() -> list[Scenario]:
    """Every way of asking with no executor, and every executor in two ways."""
    scenarios = [
        Scenario("none", loop, threads, cores, asynchronous)
        for loop in _LOOPS
        for threads in (1, 2)
        for cores in (1, 2)
        for asynchronous in (True, False)
    ]
    for executor in ("threads", "spawn", "forkserver", "loky", "dask"):
        scenarios += [
            Scenario(executor, "jit", 1, 1, True, 100),
            Scenario(executor, "jit", 2, 2, False, 50),
            Scenario(executor, "scan", 1, 2, True, 100),
            Scenario(executor, "vmap", 2, 2, True, 50),
        ]
    return scenarios


SCENARIOS = {str(i): scenario for i, scenario in enumerate(_all())}


def measure(name: str, runs: int, limit: float) -> Outcome:
    """Runs one scenario in child processes; see `_children.run`."""
    return run(__spec__.name, name, runs, limit, SCENARIOS[name].cores)


def main(arguments: Sequence[str] = ()) -> int:
    """Prints the table.

    Returns:
        How many runs hung or failed.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stress", description=__doc__)
    parser.add_argument("--runs", type=int, default=1, help="runs of each scenario")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds a run may take")
    parser.add_argument("--executor", default=None, help="only with this executor")
    options = parser.parse_args(arguments)
    print(f"jax {jax.__version__}, CPU; goal: 0 hangs, 0 failures")
    print(HEAD)
    bad = 0
    for name, scenario in SCENARIOS.items():
        if options.executor not in (None, scenario.executor):
            continue
        outcome = measure(name, options.runs, options.limit)
        bad += outcome.bad
        print(outcome.row(scenario.title), flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
