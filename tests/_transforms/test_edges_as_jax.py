"""Where JAX's own transforms work, these do: 8-bit floats, traps for NaN, short tracebacks."""

import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd


def squares(x):
    return jnp.sum(x.astype(jnp.float32) ** 2)


class TestFloat8:
    x = jnp.array([1.0, 2.0], jnp.float8_e4m3fn)

    def test_slopes(self):
        found = jaxfd.grad(squares)(self.x)
        assert found.dtype == self.x.dtype
        np.testing.assert_array_equal(found.astype(np.float32), [2, 4])
        _, tangent = jaxfd.jvp(squares, (self.x,), (self.x,))
        assert tangent == 10

    def test_what_is_not_known_is_said(self):
        assert np.all(np.isinf(jaxfd.estimate(squares)(self.x).error))
        with pytest.raises(TypeError, match=r"Adaptive needs floats of 16 bits.*Central"):
            jaxfd.grad(squares, method=jaxfd.Adaptive())(self.x)


@pytest.mark.parametrize(
    "method", [jaxfd.ComplexStep(), jaxfd.RandomCoordinates(jax.random.key(0), 1)]
)
def test_estimates_where_nan_is_trapped(method):
    """What cannot be known is infinite there, as NaN would end the program."""
    fun = jaxfd.estimate(lambda x: jnp.sum(jnp.sin(x)), method=method)
    with jax.debug_nans(True):
        assert np.all(np.isinf(fun(jnp.ones(3)).error))


def broken(x):
    raise ZeroDivisionError("the user's own")


@pytest.mark.parametrize(
    "call",
    [
        lambda: jaxfd.grad(broken)(1.0),
        lambda: jaxfd.jvp(broken, (1.0,), (1.0,)),
        lambda: jaxfd.hessian(broken)(1.0),
        lambda: jax.grad(jaxfd.differentiable(broken))(1.0),
        lambda: jaxfd.grad(jaxfd.blackbox(broken, jax.ShapeDtypeStruct((), np.float64)))(1.0),
    ],
    ids=["grad", "jvp", "hessian", "hook", "box"],
)
def test_few_frames_of_ours_above_an_error_of_the_user(call):
    with pytest.raises(ZeroDivisionError, match="own") as raised:
        call()
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert frames[-1].name == "broken"
    ours = str(Path(jaxfd.__file__).parent)
    assert sum(f.filename.startswith(ours) for f in frames) <= 1
