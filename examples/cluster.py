"""Spreads the points of a fit over a cluster, and goes on when a part of it dies.

Robertson's reaction (1966) is the classic stiff system: three substances, and rates of reaction
that differ by a factor of 10^9,

    a' = -k1 a + k3 b c        b' = k1 a - k3 b c - k2 b^2        c' = k2 b^2.

The manual of CVODE's examples (SUNDIALS) prints its solution. From that table, and first guesses
that are wrong by factors of three, the rates are to be found again. SciPy integrates in 20 ms,
which is too little to be worth a cluster: imagine 20 minutes. dask then spreads the points of an
estimate over machines, and all that changes is the executor.

    dask scheduler                              # on one machine
    dask worker tcp://scheduler:8786            # on as many as there are

    python examples/cluster.py --scheduler tcp://scheduler:8786

Without ``--scheduler`` two processes on this machine stand for that cluster. Half-way through the
fit one of them is killed in the middle of its work. dask gives its points to the other and starts
a new one. The whole fit is then repeated without a cluster, and is the same in every bit.

Needs ``pip install 'jaxfd[distributed]'``.
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Callable, Sequence
from logging import CRITICAL
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

try:
    from distributed import Client, LocalCluster
except ImportError as error:
    raise SystemExit("This example needs dask: pip install 'jaxfd[distributed]'") from error

# JAX is imported where it is used, in `fit`: worker processes import this file, and need none.

NAMES = ("k1", "k2", "k3")
PUBLISHED = (0.04, 3e7, 1e4)
GUESS = (0.1, 1e7, 3e4)

# Times, and what CVODE's example cvRoberts_dns prints for a and b.
TIMES = 0.4 * 10.0 ** np.arange(7)
TABLE = np.array(
    [
        [9.851641e-01, 3.386242e-05],
        [9.055097e-01, 2.240338e-05],
        [7.158017e-01, 9.185037e-06],
        [4.505360e-01, 3.223271e-06],
        [1.832299e-01, 8.944378e-07],
        [3.898902e-02, 1.622006e-07],
        [4.936383e-03, 1.984224e-08],
    ]
)


def simulate(log_rates: np.ndarray) -> np.ndarray:
    """Integrates Robertson's reaction.

    Args:
        log_rates: logarithms of `NAMES`, shape ``(3,)``.

    Returns:
        Logarithms of a and b at `TIMES`, shape ``(7, 2)``.

    Raises:
        RuntimeError: the integrator gave up.
    """
    k1, k2, k3 = np.exp(log_rates)

    def slope(_: float, y: np.ndarray) -> list[float]:
        a, b, c = y
        forth, back, on = k1 * a, k3 * b * c, k2 * b * b
        return [back - forth, forth - back - on, on]

    solution = solve_ivp(
        slope, (0.0, TIMES[-1]), (1.0, 0.0, 0.0), "LSODA", TIMES, rtol=1e-10, atol=1e-16
    )
    if not solution.success:
        raise RuntimeError(f"the integrator failed at {np.exp(log_rates)}: {solution.message}")
    return np.log(solution.y[:2].T)


class Accident:
    """A progress function that kills a process once so many points are finished."""

    def __init__(self, process: int, points: int) -> None:
        self._process = process
        self._points = points

    def __call__(self, progress: Any) -> None:
        self._points -= 1
        if self._points == 0:
            print(f"  point {progress.done} of {progress.planned}: kill -9 {self._process}")
            os.kill(self._process, signal.SIGKILL)


def fit(executor: Any, progress: Callable[[Any], None] | None = None) -> np.ndarray:
    """Fits the rates with L-BFGS.

    Args:
        executor: runs `simulate`; None runs it here.
        progress: is told of every point.

    Returns:
        Rates, loss and gradient at every step, shape ``(steps, 7)``.
    """
    import jax
    import jax.numpy as jnp
    import optax

    import jaxfd

    out = jax.ShapeDtypeStruct(TABLE.shape, jnp.float32)
    model = jaxfd.blackbox(simulate, out, executor=executor, progress=progress)
    log_table = jnp.log(TABLE)

    def loss(log_rates: jax.Array) -> jax.Array:
        return jnp.mean((model(log_rates) - log_table) ** 2)

    solver = optax.lbfgs()

    @jax.jit
    def step(log_rates: jax.Array, state: Any) -> tuple[Any, ...]:
        value, grad = optax.value_and_grad_from_state(loss)(log_rates, state=state)
        updates, state = solver.update(
            grad, state, log_rates, value=value, grad=grad, value_fn=loss
        )
        return optax.apply_updates(log_rates, updates), state, value, grad

    log_rates = jnp.log(jnp.array(GUESS))
    state = solver.init(log_rates)
    path = []
    for number in range(40):
        after, state, value, grad = step(log_rates, state)
        path.append(np.array([*np.exp(log_rates), value, *grad]))
        if number % 3 == 0:
            print(f"  step {number:2}, loss {value:.2e}")
        if jnp.linalg.norm(grad) < 1e-5:
            break
        log_rates = after
    return np.array(path)


def main(argv: Sequence[str] | None = None) -> None:
    """Fits on a cluster; on our own, kills a process and compares with a fit without."""
    parser = argparse.ArgumentParser(description="Fit Robertson's reaction on a dask cluster.")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a cluster, tcp://host:8786 say")
    options = parser.parse_args(argv)

    if options.scheduler is not None:
        client = Client(options.scheduler)
    else:
        # Two processes on the loopback, without a web page, and without dask's own words on the
        # process that is about to die.
        cluster = LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=CRITICAL
        )
        client = cluster.get_client()
    with client:
        before = client.run(os.getpid)
        print(f"on the cluster, in processes {', '.join(map(str, before.values()))}")
        accident = None
        if options.scheduler is None:
            accident = Accident(next(iter(before.values())), points=60)
        spread = fit(client.get_executor(), accident)

    print(f"\n{'':4}{'guess':>12}{'fitted':>12}{'published':>12}")
    for name, *values in zip(NAMES, GUESS, spread[-1], PUBLISHED, strict=False):
        print(f"{name:4}" + "".join(f"{value:12.5g}" for value in values))

    # Elsewhere the last bit may be another processor's.
    if options.scheduler is None:
        cluster.close()
        print("\nwithout a cluster")
        alone = fit(None)
        assert np.array_equal(spread, alone), "the cluster shows in the result"
        print("rates, losses and gradients of all steps are the same, bit for bit")


if __name__ == "__main__":
    main()
