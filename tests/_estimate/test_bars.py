"""Error bars where steps are long: nothing promised that the values do not show."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import name

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


@functools.cache
def one_entry(method, outer):
    """Estimates of a function that one entry moves, compiled once for all entries."""
    return outer(jaxfd.estimate(lambda x, i: 0.5 + jnp.sin(x[i]), method=method))


class TestEntriesThatAreFew:
    """Of many entries only some are looked at for the grid: what moves the value is among them."""

    @pytest.mark.parametrize("outer", [lambda f: f, jax.jit], ids=["eager", "jit"])
    @pytest.mark.parametrize("entry", [0, 63, 64, 100, 199])
    @pytest.mark.parametrize("method", [jaxfd.Adaptive(), jaxfd.Central()], ids=name)
    def test_one_entry_alone_moves_a_round_value(self, method, entry, outer):
        found = one_entry(method, outer)(jnp.zeros(200), jnp.int32(entry))
        wanted = np.zeros(200)
        wanted[entry] = 1
        error = np.abs(found.grad - wanted)
        assert np.all(error <= found.error)
        assert np.max(found.error) < 1e-9

    def test_each_output_has_its_own(self):
        found = jaxfd.estimate(lambda x: 0.25 + jnp.sin(x[60:70]), method=jaxfd.Adaptive())(
            jnp.zeros(130)
        )
        np.testing.assert_allclose(found.grad, np.eye(130)[60:70], atol=1e-13)
        assert np.max(found.error) < 1e-12


@pytest.mark.parametrize("x", [0.0, 1e-12])
@pytest.mark.parametrize("method", [jaxfd.Central(), jaxfd.Central(order=4)], ids=name)
def test_a_rise_nearer_than_the_stencil(method, x):
    """The values span the same at every distance: no slope follows from that."""
    out = jax.ShapeDtypeStruct((), float)
    box = jaxfd.blackbox(lambda t: np.tanh(t[0] / 1e-12) + t[1], out)
    found = jaxfd.estimate(box, method=method)(jnp.array([x, 1.0]))
    assert found.error[0] == np.inf
    assert np.isfinite(found.error[1])


@pytest.mark.parametrize("order", [6, 8])
def test_a_bar_in_half_precision_is_a_number(order):
    """Powers of how far the rays go leave the range of float16."""
    method = jaxfd.Central(order, step=1e-3)
    found = jaxfd.estimate(lambda x: x.astype(np.float32) ** 2, method=method)(jnp.float16(100))
    assert abs(float(found.grad) - 200) <= float(found.error) < np.inf
