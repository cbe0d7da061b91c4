"""Fits a simulator that JAX cannot trace to real data, with optax.

The Lotka-Volterra equations for hares ``u`` and lynxes ``v``,

    du/dt = (a - b v) u        dv/dt = (d u - c) v,

are integrated by SciPy and fitted to the Hudson's Bay Company's pelt counts of 1900-1920.
`jaxfd.blackbox` brings the integrator into JAX; from there on everything is ordinary JAX and
optax: ``jax.value_and_grad``, ``optax.adam``, ``optax.lbfgs`` with its own line search.

    python examples/fit_lynx_hare.py [--output PATH]

Needs ``pip install jaxfd[examples]``.
"""

from __future__ import annotations

import argparse
import csv
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from scipy.integrate import solve_ivp
from tqdm import tqdm

import jaxfd

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DATA = Path(__file__).with_name("lynx_hare.csv")

NAMES = ("a", "b", "c", "d", "hare0", "lynx0")
UNITS = ("1/year", "1/year/k lynx", "1/year", "1/year/k hare", "thousands", "thousands")

# Posterior means and standard deviations of the same model in B. Carpenter, "Predator-Prey
# Population Dynamics: the Lotka-Volterra model in Stan" (2018), section "Fitting the Hudson's
# Bay Company data".
PUBLISHED = (0.545, 0.028, 0.803, 0.024, 33.96, 5.93)
SPREAD = (0.064, 0.004, 0.092, 0.004, 2.86, 0.54)

# Round numbers of the right order, and the first row of the data for the initial values.
RATES = (0.5, 0.02, 0.5, 0.02)

# A difference quotient divides the integrator's error by the step (6e-6 here), so at SciPy's
# default tolerance of 1e-3 it would show nothing but the integrator choosing other time steps.
TOLERANCE = 1e-9

# Evaluations of the equations in one run: 600 are usual; for wild parameters there is no end.
BUDGET = 50_000


class LotkaVolterra:
    """The simulator: NumPy in, NumPy out.

    Args:
        times: when populations are wanted, in years from the start.

    Attributes:
        runs: how often it has been run.
    """

    def __init__(self, times: np.ndarray) -> None:
        self.times = times
        self.runs = 0

    def __call__(self, log_parameters: np.ndarray) -> np.ndarray:
        """Integrates the equations.

        Args:
            log_parameters: logarithms of the six parameters, shape ``(6,)``.

        Returns:
            Logarithms of hares and lynxes, in thousands, shape ``(times, 2)``.

        Raises:
            RuntimeError: the integrator gave up.
        """
        self.runs += 1
        evaluations = 0

        # A made-up value would bend the fit unseen; better to stop, and to say where.
        def give_up(reason: str) -> NoReturn:
            values = zip(NAMES, np.exp(log_parameters), strict=True)
            where = ", ".join(f"{name}={value:.6g}" for name, value in values)
            raise RuntimeError(f"the integrator failed at {where}: {reason}")

        # In logarithms: what is compared with the data anyway, and no population turns negative.
        def slope(_: float, log_state: np.ndarray) -> tuple[float, float]:
            nonlocal evaluations
            evaluations += 1
            if evaluations > BUDGET:
                give_up(f"not done after {BUDGET} evaluations.")
            hare, lynx = np.exp(log_state)
            return a - b * lynx, d * hare - c

        with np.errstate(over="ignore", invalid="ignore"):
            a, b, c, d = np.exp(log_parameters[:4])
            solution = solve_ivp(
                slope,
                (0.0, self.times[-1]),
                log_parameters[4:],
                method="DOP853",
                t_eval=self.times,
                rtol=TOLERANCE,
                atol=TOLERANCE,
            )
            if not solution.success or not np.all(np.isfinite(solution.y)):
                give_up(solution.message)
        return solution.y.T


class Interrupt:
    """Ctrl-C as a flag, looked at between steps; a second Ctrl-C stops at once.

    Inside a compiled program a ``KeyboardInterrupt`` would come back as an XLA error.
    """

    asked = False

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.asked = True
        signal.signal(signal.SIGINT, self._before)


class Fit(NamedTuple):
    """Parameters, as logarithms, and their loss."""

    parameters: jax.Array
    loss: float


def minimise(
    name: str,
    loss: Callable[[jax.Array], jax.Array],
    solver: optax.GradientTransformationExtraArgs,
    value_and_grad: Callable[..., tuple[jax.Array, jax.Array]],
    start: jax.Array,
    steps: int,
    interrupt: Interrupt,
) -> Fit:
    """Runs one optax solver and shows its progress.

    Args:
        name: what the progress bar says.
        loss: the function to minimise.
        solver: an optax solver.
        value_and_grad: ``(parameters, state) -> (value, gradient)``.
        start: where to start.
        steps: how many steps at most.
        interrupt: ends the loop early.

    Returns:
        The best parameters seen.
    """

    @jax.jit
    def step(parameters: jax.Array, state: Any) -> tuple[Any, ...]:
        value, grad = value_and_grad(parameters, state=state)
        updates, state = solver.update(
            grad, state, parameters, value=value, grad=grad, value_fn=loss
        )
        return optax.apply_updates(parameters, updates), state, value, jnp.linalg.norm(grad)

    parameters, state, best = start, solver.init(start), Fit(start, np.inf)
    # Where nobody watches, in a log file say, a line now and then is enough.
    pause = 0.1 if sys.stderr.isatty() else 2.0
    with tqdm(total=steps, desc=f"{name:>6}", unit="step", mininterval=pause) as bar:
        for _ in range(steps):
            after, state, value, size = step(parameters, state)
            if value < best.loss:
                best = Fit(parameters, float(value))
            bar.set_postfix(loss=f"{value:.6f}", gradient=f"{size:.1e}", refresh=False)
            bar.update()
            # Float32 losses of 0.05 have no digits left for smaller gradients than this.
            if size < 1e-5:
                bar.total = bar.n
            if interrupt.asked or size < 1e-5:
                break
            parameters = after
    return best


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads years, shape ``(rows,)``, and hare and lynx pelts, shape ``(rows, 2)``."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    years = np.array([float(row["year"]) for row in rows])
    return years, np.array([[float(row["hare"]), float(row["lynx"])] for row in rows])


def draw(path: Path, years: np.ndarray, pelts: np.ndarray, log_parameters: np.ndarray) -> None:
    """Saves a picture of the data and of the fitted curves."""
    times = np.linspace(0.0, years[-1] - years[0], 401)
    curves = np.exp(LotkaVolterra(times)(log_parameters))
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for k, (name, colour) in enumerate((("hare", "tab:blue"), ("lynx", "tab:orange"))):
        axes.plot(years[0] + times, curves[:, k], color=colour, label=f"{name}, fit")
        axes.plot(years, pelts[:, k], "o", color=colour, label=f"{name}, data")
    axes.set(xlabel="year", ylabel="pelts (thousands)", ylim=(0, 95))
    axes.set_xticks(years[::2].astype(int))
    axes.set_title("Hudson's Bay Company pelts and the fitted Lotka-Volterra model")
    axes.legend(ncols=2, loc="upper center", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Fits, prints and draws."""
    parser = argparse.ArgumentParser(description="Fit a Lotka-Volterra simulator to pelt counts.")
    parser.add_argument("--output", type=Path, default=Path("lynx_hare.png"), help="the picture")
    parser.add_argument("--adam", type=int, default=100, metavar="N", help="steps of Adam")
    parser.add_argument("--lbfgs", type=int, default=50, metavar="N", help="L-BFGS steps at most")
    parser.add_argument(
        "--rates", type=float, nargs=4, default=RATES, metavar=tuple(NAMES[:4]), help="first guess"
    )
    options = parser.parse_args(argv)
    if min(options.rates) <= 0:
        parser.error("--rates must be positive: they are fitted on a log scale.")

    years, pelts = read(DATA)
    simulator = LotkaVolterra(years - years[0])
    # The integrator works in float64 whatever JAX does, and jaxfd takes its differences there
    # too: there is no need to switch on jax_enable_x64.
    model = jaxfd.blackbox(simulator, jax.ShapeDtypeStruct(pelts.shape, jnp.float32))
    log_pelts = jnp.log(pelts)

    def loss(log_parameters: jax.Array) -> jax.Array:
        return jnp.mean((model(log_parameters) - log_pelts) ** 2)

    start = jnp.log(jnp.array([*options.rates, *pelts[0]]))
    adam = optax.with_extra_args_support(optax.adam(0.05))
    lbfgs = optax.lbfgs()
    began = time.perf_counter()
    with Interrupt() as interrupt:
        fit = minimise(
            "adam",
            loss,
            adam,
            lambda parameters, state: jax.value_and_grad(loss)(parameters),
            start,
            options.adam,
            interrupt,
        )
        rough, runs = fit, simulator.runs
        if not interrupt.asked:
            # The line search has value and gradient of the next point already; take them from it.
            fit = minimise(
                "lbfgs",
                loss,
                lbfgs,
                optax.value_and_grad_from_state(loss),
                fit.parameters,
                options.lbfgs,
                interrupt,
            )
    seconds = time.perf_counter() - began

    if interrupt.asked:
        print("\ninterrupted: this is the best so far")
    print(f"\n{'':8}{'start':>9}{'fitted':>10}{'published':>11}{'+-':>8}")
    columns = zip(
        NAMES, np.exp(start), np.exp(fit.parameters), PUBLISHED, SPREAD, UNITS, strict=True
    )
    for name, first, value, mean, spread, unit in columns:
        print(f"{name:8}{first:9.4g}{value:10.4f}{mean:11.4g}{spread:8.3g}  {unit}")
    print(
        f"\nmean squared log residual  {rough.loss:.6f} after adam, {fit.loss:.6f} in the end"
        f"\nrms log residual           {fit.loss**0.5:.4f} (published noise: 0.25)"
        f"\nsimulator runs             {simulator.runs} "
        f"({runs} adam, {simulator.runs - runs} lbfgs)"
        f"\ntime                       {seconds:.1f} s"
    )
    draw(options.output, years, pelts, np.asarray(fit.parameters, float))
    print(f"picture                    {options.output}")


if __name__ == "__main__":
    main()
