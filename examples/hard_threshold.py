"""Trains hard thresholds, where ``jax.grad`` returns zeros.

A machine has three sensors, and an alarm that goes off when all of them are above their
thresholds. A fault that is missed costs 10, a false alarm costs 1. The mean cost over a record
of readings is a staircase in the thresholds: flat everywhere, with a tiny step where a threshold
passes a reading. Its true slope is 0, which is what automatic differentiation says, and useless.
What one wants is the slope of the hill that the staircase runs down.

    python examples/hard_threshold.py [--save-plot FILE]

The picture needs ``pip install jaxfd[plot]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from jax.scipy.stats import norm

import jaxfd

READINGS = 4000
SHARE_OF_FAULTS = 0.2
# Sensor readings are normal with standard deviation 1, and higher by this when there is a fault.
LIFT = jnp.array([1.0, 2.0, 3.0])
MISSED, FALSE_ALARM = 10.0, 1.0

# Why not the default step. It assumes a smooth function and balances rounding against curvature:
# 5e-3 in float32, 6e-6 in float64. A staircase is only seen by a step that many readings lie
# under. n of them are counted with an error of sqrt(n), so the slope has a noise that falls with
# the step; and a bias that grows with its square, once it is no longer small against the scale on
# which the cost itself bends (here 1, the spread of the readings). 0.3 is a fair middle: several
# hundred of 4000 readings lie within 0.3 of a threshold, and curvature adds a few per cent.
STEP = 0.3


def record(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Makes sensor readings, shape ``(READINGS, 3)``, and whether there was a fault."""
    noise, kind = jax.random.split(key)
    faults = jax.random.bernoulli(kind, SHARE_OF_FAULTS, (READINGS,))
    readings = jax.random.normal(noise, (READINGS, 3)) + faults[:, None] * LIFT
    return readings, faults


def cost(thresholds: jax.Array, readings: jax.Array, faults: jax.Array) -> jax.Array:
    """The mean cost of an alarm with these thresholds, shape ``(3,)``."""
    alarm = jnp.all(readings > thresholds, axis=1)
    return jnp.mean(jnp.where(faults, MISSED * ~alarm, FALSE_ALARM * alarm))


def expected_cost(thresholds: jax.Array) -> jax.Array:
    """The hill under the staircase, known here because the readings are made up."""
    caught = jnp.prod(norm.sf(thresholds - LIFT))
    false = jnp.prod(norm.sf(thresholds))
    return SHARE_OF_FAULTS * MISSED * (1 - caught) + (1 - SHARE_OF_FAULTS) * FALSE_ALARM * false


def descend(loss: Callable[[jax.Array], jax.Array], thresholds: jax.Array) -> jax.Array:
    """An ordinary optax loop: it need not know where its gradients come from."""
    solver = optax.adam(optax.cosine_decay_schedule(0.1, 200))

    @jax.jit
    def step(thresholds: jax.Array, state: optax.OptState) -> tuple[jax.Array, optax.OptState]:
        updates, state = solver.update(jax.grad(loss)(thresholds), state)
        return optax.apply_updates(thresholds, updates), state

    state = solver.init(thresholds)
    for _ in range(200):
        thresholds, state = step(thresholds, state)
    return thresholds


def draw(
    staircase: Callable[[jax.Array], jax.Array],
    start: jax.Array,
    slopes: dict[str, jax.Array],
    file: Path,
) -> None:
    """The cost along the first threshold, from afar and from near, with the slopes seen there."""
    import matplotlib.pyplot as plt

    _, panes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, width, title in ((panes[0], 1.4, "from afar"), (panes[1], 0.004, "from near")):
        at = start[0] + jnp.linspace(-width, width, 801)
        line = jax.vmap(lambda t: start.at[0].set(t))(at)
        axes.plot(at, jax.vmap(staircase)(line), color="0.4", label="mean cost")
        if width > 1:
            axes.plot(at, jax.vmap(expected_cost)(line), ":", color="#009E73", label="expected")
        for (name, slope), look in zip(slopes.items(), ("--", "-"), strict=True):
            tangent = staircase(start) + slope[0] * (at - start[0])
            near = jnp.abs(at - start[0]) < 0.6 * width
            colour = "#D55E00" if look == "--" else "#0072B2"
            axes.plot(at[near], tangent[near], look, color=colour, label=name)
        axes.set(title=title, xlabel="first threshold", ylabel="mean cost")
        axes.locator_params(axis="x", nbins=5)
    panes[0].legend(frameon=False)
    plt.savefig(file, dpi=120)
    plt.close()
    print(f"picture  {file}")


def main(argv: Sequence[str] | None = None) -> None:
    """Compares gradients, trains, and prints what came of it."""
    parser = argparse.ArgumentParser(description="Hard thresholds, trained.")
    parser.add_argument("--save-plot", type=Path, metavar="FILE", help="where the picture goes")
    options = parser.parse_args(argv)
    readings, faults = record(jax.random.key(0))

    def staircase(thresholds: jax.Array) -> jax.Array:
        return cost(thresholds, readings, faults)

    hill = jaxfd.differentiable(staircase, method=jaxfd.Central(step=STEP))
    start = jnp.full(3, 1.5)

    print("gradient of the mean cost at the first thresholds")
    gradients = {
        "jax.grad": jax.grad(staircase)(start),
        "jaxfd.grad, default step": jaxfd.grad(staircase)(start),
        f"jax.grad of jaxfd.differentiable, step {STEP}": jax.grad(hill)(start),
        "exact, of the expected cost": jax.grad(expected_cost)(start),
    }
    for name, gradient in gradients.items():
        print(f"  {name:46}" + "".join(f"{g:8.3f}" for g in gradient))

    if options.save_plot is not None:
        slopes = {"slope by jax.grad": jax.grad(staircase)(start)}
        draw(
            staircase, start, {**slopes, "slope by jaxfd": jax.grad(hill)(start)}, options.save_plot
        )

    print("\nafter 200 steps of Adam" + f"{'thresholds':>33}{'mean cost':>23}{'expected':>10}")
    ends = {
        "start": start,
        "jax.grad": descend(staircase, start),
        "jaxfd.differentiable": descend(hill, start),
        "jax.grad of the expected cost": descend(expected_cost, start),
    }
    for name, end in ends.items():
        print(
            f"  {name:38}" + "".join(f"{t:8.3f}" for t in end) + f"{staircase(end):15.4f}"
            f"{expected_cost(end):10.4f}"
        )

    assert not jnp.any(gradients["jax.grad"]), "jax.grad sees a flat staircase"
    assert staircase(ends["jaxfd.differentiable"]) < 0.6 * staircase(start)


if __name__ == "__main__":
    main()
