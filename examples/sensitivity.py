"""Which inputs does a result hang on? Derivatives with error bars, and why tables get them wrong.

First a function that everybody can check by hand, ``T(x) = 100 / (x + 1)`` at ``x = 5``, whose
derivative is ``-100 / 36 = -2.7778``. Differences of values that were rounded to one decimal first,
as a calculator or a printed table shows them, give ``-0.4 / 0.14``, which is -2.9 to the same
decimal. Each value is wrong by up to 0.05, so the difference quotient by up to ``0.05 / h``: with
``h = 0.07`` that is 0.7, and no decimal of the -2.9 means anything. `jaxfd.step_sweep` shows which
step such values would need.

Then a model: influenza in a boarding school of 763 boys, the equations of Kermack and McKendrick

    dS/dt = -r S I        dI/dt = r S I - a I,

integrated by SciPy. How many boys are ill at the peak, and which of the four parameters decides
it? `jaxfd.sensitivity` ranks them. There is a formula for the peak, so the answer is checked.

    python examples/sensitivity.py [--save-plots DIR]

Needs ``pip install jaxfd[examples]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from scipy.integrate import solve_ivp

import jaxfd

matplotlib.use("Agg")
import matplotlib.pyplot as plt

X, SLOPE = 5.0, -100 / 36
# What rounding to one decimal may add to, or take from, a value.
ROUNDING = 0.05
TABLE_STEP = 0.07

# J. D. Murray, "Mathematical Biology I", 3rd ed. (2002), section 10.2: fitted to the counts in
# "Influenza in a boarding school", British Medical Journal, 4 March 1978, p. 587. One boy began
# it. Rates per day; the recovery rate is the fitted 202 boys times r.
SCHOOL = {
    "start": {"healthy": 762.0, "ill": 1.0},
    "rate": {"infection": 2.18e-3, "recovery": 202 * 2.18e-3},
}


def temperature(x: Any) -> Any:
    """The function by hand."""
    return 100 / (x + 1)


def rounded_temperature(x: Any) -> Any:
    """The same as a table with one decimal has it."""
    return np.round(temperature(x), 1)


def peak(school: Mapping[str, Mapping[str, np.ndarray]]) -> float:
    """Integrates the epidemic until as many recover as fall ill; returns how many are ill then."""
    r, a = school["rate"]["infection"], school["rate"]["recovery"]

    def slope(_: float, state: np.ndarray) -> tuple[float, float]:
        healthy, ill = state
        return -r * healthy * ill, (r * healthy - a) * ill

    def at_peak(_: float, state: np.ndarray) -> float:
        return r * state[0] - a

    at_peak.terminal = True  # type: ignore[attr-defined]
    start = (school["start"]["healthy"], school["start"]["ill"])
    # Differences divide the integrator's error by the step: it must be small.
    solution = solve_ivp(
        slope, (0.0, 1000.0), start, method="DOP853", events=at_peak, rtol=1e-11, atol=1e-11
    )
    if not solution.success or not len(solution.y_events[0]):
        raise RuntimeError(f"no peak at {school}: {solution.message}")
    return float(solution.y_events[0][0, 1])


def peak_formula(school: Any) -> Any:
    """The same by the first integral of the equations, ``S + I - (a / r) log S``."""
    start, relative = school["start"], school["rate"]["recovery"] / school["rate"]["infection"]
    everybody = start["healthy"] + start["ill"]
    return everybody - relative + relative * jnp.log(relative / start["healthy"])


def by_hand() -> Any:
    """Shows what rounding does to a derivative; returns the sweep."""
    one_number = jax.ShapeDtypeStruct((), jnp.float32)
    table = jaxfd.blackbox(rounded_temperature, one_number)
    above, below = (float(rounded_temperature(X + h)) for h in (TABLE_STEP, -TABLE_STEP))
    quotient = (above - below) / (2 * TABLE_STEP)
    result = jaxfd.sensitivity(temperature, X)
    steps = np.geomspace(1e-3, 4.0, 49)
    sweep = jaxfd.step_sweep(table, X, steps=steps, exact=SLOPE)

    print(f"T(x) = 100 / (x + 1) at x = {X:g}")
    print(f"  exact derivative            {SLOPE:.4f}")
    print(f"  jaxfd.sensitivity           {result.derivatives[0]:.4f} +- {result.errors[0]:.1g}")
    print(
        f"  from a table, h = {TABLE_STEP:g}      ({above} - {below}) / {2 * TABLE_STEP:g} = "
        f"{quotient:.1f} +- {ROUNDING / TABLE_STEP:.1f}"
    )
    print(
        f"  from a table, best step     {sweep.best_step:.2f}, error {sweep.best_error:.2f} "
        f"(at h = {TABLE_STEP:g}: {abs(quotient - SLOPE):.2f})\n"
    )
    assert abs(result.derivatives[0] - SLOPE) <= result.errors[0] < 1e-2
    assert f"{quotient:.1f}" == "-2.9"
    # Nowhere is the error larger than rounding and truncation together; the latter is known here.
    h = np.asarray(sweep.steps)
    truncation = 100 / (36 - h**2) - 100 / 36
    assert np.all(sweep.error <= ROUNDING / h + truncation + 1e-5)
    # The two make the V: short steps see a constant, or a jump; long ones see the curvature.
    assert np.max(sweep.error[h < 0.05]) > 1 > 0.15 > sweep.best_error
    assert sweep.error[-1] > 10 * sweep.best_error
    assert 0.1 < sweep.best_step < 1.5
    return sweep


def epidemic() -> Any:
    """Ranks the parameters of the epidemic; returns the ranking."""
    model = jaxfd.blackbox(peak, jax.ShapeDtypeStruct((), jnp.float32))
    result = jaxfd.sensitivity(model, SCHOOL)
    print("boys ill at the peak of an influenza in a school")
    print(result)

    expected = peak_formula(SCHOOL)
    slopes = jax.grad(peak_formula)(jax.tree.map(jnp.float32, SCHOOL))
    exact = {f"{a}.{b}": float(slope) for a, part in slopes.items() for b, slope in part.items()}
    assert abs(result.value - expected) < 1e-3
    for name, slope, error in zip(result.names, result.derivatives, result.errors, strict=True):
        # The formula is differentiated in float32, the model in float64.
        assert abs(slope - exact[name]) <= error + 1e-5 * abs(slope), name
    # Only the ratio of the rates matters, so one per cent of the one is minus one of the other.
    ranked = dict(zip(result.names, result.elasticities, strict=True))
    assert abs(ranked["rate.infection"] + ranked["rate.recovery"]) < 1e-3
    assert result.names[0] == "start.healthy"
    assert result.names[-1] == "start.ill"
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Prints, checks and perhaps draws."""
    parser = argparse.ArgumentParser(description="Derivatives of named parameters, with bounds.")
    parser.add_argument("--save-plots", type=Path, metavar="DIR", help="where pictures go")
    options = parser.parse_args(argv)
    results = {
        "table_steps.png": ("T(x) from a table with one decimal, central differences", by_hand()),
        "epidemic.png": ("boys ill at the peak of an epidemic", epidemic()),
    }
    if options.save_plots is not None:
        options.save_plots.mkdir(parents=True, exist_ok=True)
        for name, (title, result) in results.items():
            jaxfd.plot(result, title=title)
            plt.savefig(options.save_plots / name, dpi=150)
            plt.close()
            print(f"picture  {options.save_plots / name}")


if __name__ == "__main__":
    main()
