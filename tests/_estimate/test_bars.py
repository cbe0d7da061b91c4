"""Error bars where steps are long: nothing promised that the values do not show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd

FUNCTIONS = [
    lambda x: jnp.exp(x) * jnp.sin(2 * x),
    lambda x: x**3 - x,
    lambda x: jnp.log(1 + x * x),
    lambda x: jnp.sqrt(x * x + 0.01),
]
POINTS = [-1.3, -0.4, 0.0, 1e-3, 0.4, 0.5, 1.0, 2.2]
KINDS = [
    jaxfd.Forward,
    jaxfd.Backward,
    lambda step: jaxfd.Forward(2, step=step),
    jaxfd.Central,
    lambda step: jaxfd.Central(4, step=step),
]


@pytest.mark.parametrize("kind", KINDS, ids=["forward", "backward", "forward2", "central", "4"])
def test_long_steps(kind):
    held, finite = [], []
    for fun in FUNCTIONS:
        slope = jax.vmap(jax.grad(fun))(jnp.array(POINTS))
        for step in (1e-2, 0.1, 0.4):
            found = [jaxfd.estimate(fun, method=kind(step=step))(x) for x in POINTS]
            error = np.abs(np.array([f.grad for f in found]) - slope)
            bar = np.array([f.error for f in found])
            held += list(bar >= error)
            finite += list(np.isfinite(bar))
    assert np.mean(held) >= 0.98
    assert np.mean(finite) >= 0.95


def test_no_point_lies_far_beyond_a_long_step():
    seen = []
    box = jaxfd.blackbox(
        lambda x: (seen.append(float(x)), x * x)[1], jax.ShapeDtypeStruct((), "f8")
    )
    jaxfd.estimate(box, method=jaxfd.Central(step=0.7))(0.2)
    assert max(np.abs(seen)) < 10
