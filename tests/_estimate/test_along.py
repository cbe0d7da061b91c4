"""Derivatives along tangents of any size, from the smallest to the largest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd


class TestTangents:
    """A derivative is as long as its tangent, from the smallest to the largest."""

    @staticmethod
    def wave(x):
        return jnp.stack([jnp.sum(jnp.sin(x)), x[0] * x[1]])

    @staticmethod
    def _box(mode="reverse"):
        return jaxfd.blackbox(
            lambda x: np.stack([np.sum(np.sin(x)), x[0] * x[1]]),
            jax.ShapeDtypeStruct((2,), np.float32),
            mode=mode,
        )

    @pytest.mark.parametrize("size", [3e-37, 1e-20, 1e38])
    @pytest.mark.parametrize("kind", ["jvp", "box", "forward", "forward box", "ComplexStep"])
    def test_sizes(self, kind, size):
        x = jnp.asarray([0.3, 1.0, -2.0], np.float32)
        unit = np.asarray([1.0, -0.5, 0.25], np.float32)
        jvp = {
            "jvp": lambda t: jaxfd.jvp(self.wave, (x,), (t,)),
            "box": lambda t: jaxfd.jvp(self._box(), (x,), (t,)),
            "forward": lambda t: jax.jvp(
                jaxfd.differentiable(self.wave, mode="forward"), (x,), (t,)
            ),
            "forward box": lambda t: jax.jvp(self._box("forward"), (x,), (t,)),
            "ComplexStep": lambda t: jaxfd.jvp(self.wave, (x,), (t,), method=jaxfd.ComplexStep()),
        }[kind]
        exact = np.asarray(jax.jvp(self.wave, (x,), (jnp.asarray(unit),))[1], np.float64)
        factor = np.float32(size)
        found = np.asarray(jvp(jnp.asarray(unit * factor))[1], np.float64)
        np.testing.assert_allclose(found / np.float64(factor), exact, rtol=1e-3)
        both = jax.jit(jax.vmap(jvp))(jnp.asarray(np.stack([unit * factor, unit])))[1]
        np.testing.assert_allclose(both[0], found, rtol=1e-4)
        np.testing.assert_allclose(both[1], exact, rtol=1e-3)

    def test_powers_of_two_change_nothing(self):
        x, unit = jnp.asarray([0.3, 1.0, -2.0], np.float32), np.float32([1.0, -0.5, 0.25])
        jvp = jax.jit(lambda t: jaxfd.jvp(self.wave, (x,), (t,))[1])
        for power in (-60, -1, 7, 80):
            factor = np.float32(2.0**power)
            np.testing.assert_array_equal(jvp(unit * factor), jvp(unit) * factor)

    def test_zero_and_not_finite(self):
        x = jnp.asarray([0.3, 1.0, -2.0], np.float32)
        for fun in (self.wave, self._box()):
            found = jaxfd.jvp(fun, (x,), (jnp.zeros_like(x),))[1]
            np.testing.assert_array_equal(found, 0)
            found = jaxfd.jvp(fun, (x,), (jnp.full_like(x, np.nan),))[1]
            assert np.all(np.isnan(found))
        found = jaxfd.jvp(self.wave, (x,), (x.at[0].set(np.inf),))[1]
        assert not np.any(np.isfinite(found))

    def test_complex_tangents_and_half_precision(self):
        z, t = jnp.asarray([1 + 2j, 0.5 - 1j], np.complex64), np.complex64([1, 1j])
        for size in (1e-30, 1e30):
            found = jaxfd.jvp(lambda z: z**2, (z,), (jnp.asarray(t * np.float32(size)),))[1]
            np.testing.assert_allclose(np.asarray(found) / np.float32(size), 2 * z * t, rtol=1e-4)
        x = jnp.ones(3, np.float16)
        found = jaxfd.jvp(jnp.sin, (x,), (x * np.float16(3e4),))[1]
        np.testing.assert_allclose(found.astype(np.float32), 3e4 * np.cos(1.0), rtol=1e-2)

    def test_hvp(self):
        x, v = jnp.asarray([0.3, 1.0], np.float32), np.float32([1.0, -0.5])
        for size in (1e-20, 1e20):
            factor = np.float32(size)
            found = jaxfd.hvp(lambda x: jnp.sum(jnp.sin(x)), (x,), (jnp.asarray(v * factor),))
            np.testing.assert_allclose(found / factor, -np.sin(x) * v, rtol=1e-2)

    def test_the_transpose(self):
        fun = jaxfd.differentiable(self.wave, mode="forward")
        x = jnp.asarray([0.3, 1.0, -2.0], np.float32)
        for size in (1e-20, 1e20):
            factor = np.float32(size)
            _, push = jax.linearize(fun, x)
            pull = jax.linear_transpose(push, x)
            cotangent = jnp.asarray([factor, 0 * factor])
            np.testing.assert_allclose(pull(cotangent)[0] / factor, np.cos(x), rtol=1e-3)

    def test_differentiated_itself(self):
        x, t = jnp.asarray([0.3, 1.0, -2.0]), jnp.asarray([1e-9, 2e-9, 0.0])
        slopes = jax.grad(lambda t: jaxfd.jvp(self.wave, (x,), (t,))[1][0])(t)
        np.testing.assert_allclose(slopes, np.cos(x), rtol=1e-4)
