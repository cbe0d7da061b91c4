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
a new one. The whole fit is then repeated undisturbed, and is the same in every bit.

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


def simulate(rates: dict[str, float]) -> np.ndarray:
    """Integrates Robertson's reaction.

    Args:
        rates: those of `NAMES`.

    Returns:
        Logarithms of a and b at `TIMES`, shape ``(7, 2)``.

    Raises:
        RuntimeError: the integrator gave up.
    """
    k1, k2, k3 = (rates[name] for name in NAMES)

    def slope(_: float, y: np.ndarray) -> list[float]:
        a, b, c = y
        forth, back, on = k1 * a, k3 * b * c, k2 * b * b
        return [back - forth, forth - back - on, on]

    solution = solve_ivp(
        slope, (0.0, TIMES[-1]), (1.0, 0.0, 0.0), "LSODA", TIMES, rtol=1e-10, atol=1e-16
    )
    if not solution.success:
        raise RuntimeError(f"the integrator failed at {rates}: {solution.message}")
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


def fit(executor: Any, progress: Callable[[Any], None] | None = None) -> Any:
    """Fits the rates by least squares.

    Args:
        executor: runs `simulate`; None runs it here.
        progress: is told of every point.

    Returns:
        A `jaxfd.optim.Fit`.
    """
    import jax
    import jax.numpy as jnp

    import jaxfd

    out = jax.ShapeDtypeStruct(TABLE.shape, jnp.float32)
    model = jaxfd.blackbox(simulate, out, executor=executor, progress=progress)
    start = dict(zip(NAMES, GUESS, strict=True))
    return jaxfd.optim.least_squares(model, start, data=np.log(TABLE), transform="log")


def main(argv: Sequence[str] | None = None) -> None:
    """Fits on a cluster; on our own, kills a process, and compares with a fit undisturbed."""
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
            accident = Accident(next(iter(before.values())), points=12)
        spread = fit(client.get_executor(), accident)

        print(f"\n{'':4}{'guess':>12}{'fitted':>12}{'+-':>12}{'published':>12}")
        for name, guess, published in zip(NAMES, GUESS, PUBLISHED, strict=True):
            values = guess, spread.x[name], spread.standard_errors[name], published
            print(f"{name:4}" + "".join(f"{value:12.5g}" for value in values))

        # Elsewhere the last bit may be another processor's.
        if options.scheduler is None:
            print("\nonce more, undisturbed")
            again = fit(client.get_executor())
            same = spread.x == again.x and np.array_equal(spread.covariance, again.covariance)
            assert same, "the accident shows in the result"
            print("rates and standard errors are the same, bit for bit")
    if options.scheduler is None:
        cluster.close()


if __name__ == "__main__":
    main()
