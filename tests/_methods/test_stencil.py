"""Stencils: the error falls as the order of the method says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import REAL_METHODS, name, rate

import jaxfd
from jaxfd import Backward, Central, ComplexStep, Forward


class TestConvergence:
    """The error falls as the order of the method says, until rounding takes over.

    The functions are exponentials: all their derivatives have one sign, so that the leading term
    of the error is never cancelled by the next.
    """

    shrink = np.array([1.0, 0.8, 0.64, 0.5])

    def steps(self, method):
        return self.shrink * (0.2 if isinstance(method, Central) else 0.05)

    @pytest.mark.parametrize("method", REAL_METHODS, ids=name)
    def test_first_derivative(self, method):
        def error(h):
            step = type(method)(order=method.order, step=h)
            return jnp.abs(jaxfd.grad(jnp.exp, method=step)(0.4) - np.exp(0.4))

        steps = self.steps(method)
        assert rate(steps, jax.jit(jax.vmap(error))(steps)) == pytest.approx(method.order, abs=0.3)

    @pytest.mark.parametrize("derivative", [2, 3, 4])
    @pytest.mark.parametrize(
        "method", [Forward(), Forward(2), Backward(3), Central(), Central(4)], ids=name
    )
    def test_higher_derivative(self, method, derivative):
        def error(h):
            step = type(method)(order=method.order, step=h)
            return jnp.abs(jaxfd.derivative(jnp.exp, derivative, method=step)(0.4) - np.exp(0.4))

        steps = self.steps(method)
        assert rate(steps, jax.jit(jax.vmap(error))(steps)) == pytest.approx(method.order, abs=0.3)

    def test_complex_step(self):
        def error(h):
            return jnp.abs(jaxfd.grad(jnp.exp, method=ComplexStep(step=h))(0.4) - np.exp(0.4))

        steps = 0.1 * self.shrink
        assert rate(steps, jax.jit(jax.vmap(error))(steps)) == pytest.approx(2, abs=0.05)

    @pytest.mark.parametrize(
        "method", [Forward(), Forward(2), Backward(3), Central(), Central(4)], ids=name
    )
    @pytest.mark.parametrize("transform", ["hessian", "hvp", "jvp"])
    def test_along_pairs_and_tangents(self, method, transform):
        x, tangent = jnp.asarray([0.4, 0.7]), jnp.asarray([1.0, 0.5])

        def smooth(x):
            return jnp.exp(0.8 * x[0] + 0.5 * x[1])

        exact = {
            "hessian": lambda: jax.jit(jax.hessian(smooth))(x),
            "hvp": lambda: jax.jit(jax.hessian(smooth))(x) @ tangent,
            "jvp": lambda: jax.jvp(smooth, (x,), (tangent,))[1],
        }[transform]()

        def error(h):
            step = type(method)(order=method.order, step=h)
            found = {
                "hessian": lambda: jaxfd.hessian(smooth, method=step)(x),
                "hvp": lambda: jaxfd.hvp(smooth, (x,), (tangent,), method=step),
                "jvp": lambda: jaxfd.jvp(smooth, (x,), (tangent,), method=step)[1],
            }[transform]()
            return jnp.max(jnp.abs(found - exact))

        steps = self.steps(method)
        assert rate(steps, jax.jit(jax.vmap(error))(steps)) == pytest.approx(method.order, abs=0.3)
