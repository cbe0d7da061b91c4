"""Pictures, compared with those that somebody has looked at: one of each kind, light and dark.

After a change that is meant, run this file with JAXFD_DRAW=1, and look at what is drawn anew.
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import jaxfd

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.testing.compare import compare_images

BASELINE = Path(__file__).with_name("baseline")
# Fonts are drawn a little differently by each version; a bar that is missing counts for more.
TOLERANCE = 12.0
X = np.array([0.3, -1.2, 2.1])
SCALAR = jax.ShapeDtypeStruct((), jnp.float64)


def waves(x):
    return np.sum(np.sin(x) * np.array([1.0, 2.0, 3.0]))


def two_sweeps():
    box = jaxfd.blackbox(waves, SCALAR)
    exact = np.cos(X) * np.array([1.0, 2.0, 3.0])
    steps = np.geomspace(1e-9, 0.3, 25)
    ax = jaxfd.plot(jaxfd.step_sweep(box, X, steps=steps, exact=exact), title="waves, two methods")
    forward = jaxfd.step_sweep(box, X, steps=steps, exact=exact, method=jaxfd.Forward())
    return jaxfd.plot(forward, ax)


def gradient():
    result = jaxfd.Estimate(
        value=np.float64(1.0),
        grad={"k": np.array([1.0, -2.0, np.nan]), "m": np.float64(0.5)},
        error={"k": np.array([0.2, 0.4, np.nan]), "m": np.inf},
        step={"k": np.full(3, 1e-5), "m": np.float64(1e-5)},
        one_sided={"k": np.zeros(3, bool), "m": np.array(False)},
        evaluations=np.array(9),
    )
    return jaxfd.plot(result, title="a model, Central()")


def check():
    wrong = np.cos(X) * np.array([1.0, 2.0, 3.0]) + np.array([0.0, 0.1, 0.0])
    return jaxfd.plot(jaxfd.check_grads(jaxfd.blackbox(waves, SCALAR), X, wrong))


def tornado():
    def sag(p):
        return p["load"] * p["length"] ** 3 / p["stiffness"]

    parameters = {"load": 2.0, "length": 1.5, "stiffness": 40.0}
    return jaxfd.plot(jaxfd.sensitivity(jaxfd.blackbox(sag, SCALAR), parameters))


def histories():
    values = {"adam": 10 * 0.9 ** np.arange(60.0), "lbfgs": 10 * 0.5 ** np.arange(20.0)}
    return jaxfd.plot(values, title="two optimisers")


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("draw", [two_sweeps, gradient, check, tornado, histories])
def test_looks_as_it_did(draw, style, tmp_path):
    name = f"{draw.__name__}_{style.partition('_')[0]}.png"
    with plt.style.context(style):
        ax = draw()
        try:
            path = (BASELINE if os.environ.get("JAXFD_DRAW") else tmp_path) / name
            ax.figure.savefig(path, dpi=50)
        finally:
            plt.close(ax.figure)
    assert compare_images(BASELINE / name, path, TOLERANCE) is None
