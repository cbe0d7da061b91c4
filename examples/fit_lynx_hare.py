"""Fits a simulator that JAX cannot trace to real data, with standard errors, in seconds.

The Lotka-Volterra equations for hares ``u`` and lynxes ``v``,

    du/dt = (a - b v) u        dv/dt = (d u - c) v,

are integrated by SciPy and fitted to the Hudson's Bay Company's pelt counts of 1900-1920 by
`jaxfd.optim.least_squares`: a plain Python function goes in, and nothing is compiled. Parameters
are positive, so their logarithms are fitted; values, errors and limits are those of the parameters
themselves. Beside them stand the published ones, from a Bayesian fit of the same model.

    python examples/fit_lynx_hare.py [--output PATH]

Needs ``pip install jaxfd[examples]``.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import matplotlib
import numpy as np
from scipy.integrate import solve_ivp

import jaxfd
from jaxfd.optim import Fit, least_squares

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

# A difference quotient divides the integrator's error by the step. At SciPy's default tolerance of
# 1e-3 the fit would have to take longer steps, for the noise of the integrator choosing others.
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

    def __call__(self, parameters: dict[str, float]) -> np.ndarray:
        """Integrates the equations.

        Args:
            parameters: the six parameters by name.

        Returns:
            Logarithms of hares and lynxes, in thousands, shape ``(times, 2)``.

        Raises:
            RuntimeError: the integrator gave up.
        """
        self.runs += 1
        evaluations = 0

        # A made-up value would bend the fit unseen; better to stop, and to say where.
        def give_up(reason: str) -> NoReturn:
            where = ", ".join(f"{name}={value:.6g}" for name, value in parameters.items())
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
            a, b, c, d = (parameters[name] for name in NAMES[:4])
            solution = solve_ivp(
                slope,
                (0.0, self.times[-1]),
                np.log([parameters[name] for name in NAMES[4:]]),
                method="DOP853",
                t_eval=self.times,
                rtol=TOLERANCE,
                atol=TOLERANCE,
            )
            if not solution.success or not np.all(np.isfinite(solution.y)):
                give_up(solution.message)
        return solution.y.T


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads years, shape ``(rows,)``, and hare and lynx pelts, shape ``(rows, 2)``."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    years = np.array([float(row["year"]) for row in rows])
    return years, np.array([[float(row["hare"]), float(row["lynx"])] for row in rows])


def draw(path: Path, years: np.ndarray, pelts: np.ndarray, fit: Fit) -> None:
    """Saves a picture of the data and of the fitted curves."""
    times = np.linspace(0.0, years[-1] - years[0], 401)
    curves = np.exp(LotkaVolterra(times)(fit.x))
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


def main(argv: Sequence[str] | None = None) -> Fit:
    """Fits, prints and draws."""
    parser = argparse.ArgumentParser(description="Fit a Lotka-Volterra simulator to pelt counts.")
    parser.add_argument("--output", type=Path, default=Path("lynx_hare.png"), help="the picture")
    parser.add_argument(
        "--rates", type=float, nargs=4, default=RATES, metavar=tuple(NAMES[:4]), help="first guess"
    )
    options = parser.parse_args(argv)
    if min(options.rates) <= 0:
        parser.error("--rates must be positive: they are fitted on a log scale.")

    years, pelts = read(DATA)
    simulator = LotkaVolterra(years - years[0])
    start = dict(zip(NAMES, [*options.rates, *pelts[0].tolist()], strict=True))
    began = time.perf_counter()
    fit = least_squares(simulator, start, data=np.log(pelts), transform="log", profile=True)
    seconds = time.perf_counter() - began
    print(fit)

    print(f"\n{'':8}{'fitted':>9}{'+-':>9}{'published':>11}{'+-':>8}")
    published = zip(NAMES, PUBLISHED, SPREAD, UNITS, strict=True)
    for name, mean, spread, unit in published:
        value, error = fit.x[name], fit.standard_errors[name]
        print(f"{name:8}{value:9.4f}{error:9.4f}{mean:11.4g}{spread:8.3g}  {unit}")
    scatter = fit.reduced_chi_square**0.5
    print(
        f"\nscatter of the logarithms  {scatter:.3f} (published noise: 0.25)"
        f"\nsimulator runs             {simulator.runs}"
        f"\ntime                       {seconds:.1f} s"
    )
    draw(options.output, years, pelts, fit)
    beside = options.output.with_stem(f"{options.output.stem}_fit")
    jaxfd.plot(fit)
    plt.savefig(beside, dpi=100)
    print(f"pictures                   {options.output}, {beside}")
    return fit


if __name__ == "__main__":
    main()
