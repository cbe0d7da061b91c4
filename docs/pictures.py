"""Draws the picture of the README and of the start page, from two runs.

Run it with ``python docs/pictures.py``.
On the left a loss of hard thresholds, trained with `jax.grad` and with `jaxfd`; on the right a
simulator that JAX cannot trace, integrated by SciPy, fitted to the pelt counts of the examples.
Writes ``docs/_static/overview.svg`` and ``overview-dark.svg``.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from scipy.integrate import solve_ivp

import jaxfd

matplotlib.use("svg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
STEPS = 150
# Of the palette of Okabe and Ito, which the colour-blind can tell apart.
GREY, BLUE, ORANGE = "#888888", "#0072B2", "#E69F00"
BLUE_ON_DARK = "#56B4E9"


def thresholds() -> dict[str, list[float]]:
    """The loss at each step of Adam: an alarm's share of wrong answers, by its thresholds."""
    key = jax.random.key(0)
    fault = jax.random.bernoulli(key, 0.4, (2000,))
    readings = jax.random.normal(jax.random.key(1), (2000, 3)) + 2.0 * fault[:, None]

    def loss(t: jax.Array) -> jax.Array:
        return jnp.mean(jnp.all(readings > t, axis=1) != fault)

    gradients = {
        "jax.grad": jax.grad(loss),
        "jaxfd.grad": jaxfd.grad(loss, method=jaxfd.Central(step=0.3)),
    }
    curves = {}
    for name, gradient in gradients.items():
        solver = optax.adam(0.05)

        @jax.jit
        def step(t: Any, state: Any, gradient: Any = gradient, solver: Any = solver) -> Any:
            updates, state = solver.update(gradient(t), state)
            return optax.apply_updates(t, updates), state, loss(t)

        t, curve = jnp.full(3, 2.0), []
        state = solver.init(t)
        for _ in range(STEPS):
            t, state, value = step(t, state)
            curve.append(float(value))
        curves[name] = curve
    return curves


def hares_and_lynxes() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Years, pelts, fine times and the fitted curves."""
    with (HERE.parent / "examples" / "lynx_hare.csv").open(newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    years = np.array([float(row["year"]) for row in rows])
    pelts = np.array([[float(row["hare"]), float(row["lynx"])] for row in rows])

    def simulate(p: np.ndarray, times: np.ndarray = years - years[0]) -> np.ndarray:
        a, b, c, d = np.exp(p[:4])

        def slope(_: float, s: np.ndarray) -> tuple[float, float]:
            hare, lynx = np.exp(s)
            return a - b * lynx, d * hare - c

        span = (0.0, times[-1])
        options: dict[str, Any] = {"method": "DOP853", "rtol": 1e-9, "atol": 1e-9}
        return np.asarray(solve_ivp(slope, span, p[4:], t_eval=times, **options).y.T)

    def misfit(p: np.ndarray) -> float:
        return float(np.mean((simulate(p) - np.log(pelts)) ** 2))

    box = jaxfd.blackbox(misfit, jax.ShapeDtypeStruct((), jnp.float32))
    start = np.log([0.5, 0.02, 0.5, 0.02, *pelts[0]])
    result = jaxfd.optim.minimize(box, jnp.asarray(start, jnp.float32))
    fine = np.linspace(0.0, years[-1] - years[0], 201)
    return years, pelts, years[0] + fine, np.exp(simulate(np.asarray(result.x, float), fine))


def draw(file: Path, dark: bool, curves: Any, fit: Any) -> None:
    """Draws both runs on a light or a dark ground."""
    ink, blue = ("#dddddd", BLUE_ON_DARK) if dark else ("#222222", BLUE)
    look = {
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), ink),
        **dict.fromkeys(("xtick.color", "ytick.color"), ink),
        **{"svg.fonttype": "path", "svg.hashsalt": "jaxfd", "font.size": 10},
        **{"axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11},
    }
    with plt.rc_context(look):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.0), layout="constrained")
        left.plot(curves["jax.grad"], "--", color=GREY, label="jax.grad")
        left.plot(curves["jaxfd.grad"], color=blue, label="jaxfd.grad")
        left.set(title="A loss of hard thresholds", xlabel="step of Adam", ylabel="loss")
        left.set_ylim(0, None)
        left.legend(frameon=False)
        years, pelts, fine, fitted = fit
        for k, (name, colour, mark) in enumerate((("hares", blue, "o"), ("lynxes", ORANGE, "^"))):
            right.plot(fine, fitted[:, k], color=colour)
            right.plot(years, pelts[:, k], mark, color=colour, ms=4, label=name)
        right.set(title="A simulator that JAX cannot trace, fitted", xlabel="year")
        right.set_ylabel("pelts (thousands)")
        right.set_ylim(0, 100)
        right.set_xticks(years[::4].astype(int))
        right.legend(frameon=False, ncols=2, loc="upper right")
        figure.savefig(file, transparent=True, metadata={"Date": None})
        plt.close(figure)


def main() -> None:
    """Runs both and draws them twice."""
    curves, fit = thresholds(), hares_and_lynxes()
    for name, dark in (("overview.svg", False), ("overview-dark.svg", True)):
        draw(HERE / "_static" / name, dark, curves, fit)


if __name__ == "__main__":
    main()
