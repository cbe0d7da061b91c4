"""Python's numbers as arguments and tangents of hooked functions and black boxes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd

NUMBER = jax.ShapeDtypeStruct((), np.float64)


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize("kind", ["traced", "black box"])
def test_jvp_of_pythons_numbers(kind, mode):
    """Outside of jit, JAX hands tangents over as they came."""
    if kind == "traced":
        fun = jaxfd.differentiable(jnp.sin, mode=mode)
    else:
        fun = jaxfd.blackbox(np.sin, NUMBER, mode=mode)
    for x, t in ((1.0, 2.0), (np.float64(1.0), 2.0), (1.0, np.float64(2.0))):
        value, slope = jax.jvp(fun, (x,), (t,))
        assert value == pytest.approx(np.sin(1.0), abs=1e-9)
        assert slope == pytest.approx(2 * np.cos(1.0), abs=1e-9)
        assert (value.dtype, slope.dtype) == (np.float64, np.float64)


def test_other_ways_of_pythons_numbers():
    fun = jaxfd.differentiable(lambda x, y: x * y["a"] ** 2)
    _, slope = jax.jvp(fun, (3.0, {"a": 2.0}), (1.0, {"a": 1.0}))
    assert slope == pytest.approx(16.0, abs=1e-7)
    sine = jaxfd.differentiable(jnp.sin)
    assert jax.linearize(sine, 1.0)[1](1.0) == pytest.approx(np.cos(1.0), abs=1e-9)
    _, second = jax.jvp(jax.grad(sine), (1.0,), (1.0,))
    assert second == pytest.approx(-np.sin(1.0), abs=1e-6)
    wave = jaxfd.differentiable(lambda z: z**2)
    assert jax.jvp(wave, (1 + 2j,), (1j,))[1] == pytest.approx(-4 + 2j, abs=1e-8)
    slope = jaxfd.differentiable(jnp.sin, mode="forward")
    with pytest.raises(TypeError, match="asked for the second derivative"):
        jax.jvp(lambda x: jax.jvp(slope, (x,), (1.0,))[1], (1.0,), (1.0,))
