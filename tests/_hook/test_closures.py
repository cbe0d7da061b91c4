"""Hooked functions that close over what is differentiated say so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd


class TestClosures:
    @staticmethod
    def scaled(mode):
        return lambda a: jaxfd.differentiable(lambda x: a * x, mode=mode)(2.0)

    @pytest.mark.parametrize("mode", ["reverse", "forward", "recompute"])
    def test_say_so(self, mode):
        fun = self.scaled(mode)
        for use in (
            lambda: jax.grad(fun)(1.0),
            lambda: jax.jit(jax.grad(fun))(1.0),
            lambda: jax.vmap(jax.grad(fun))(jnp.ones(3)),
            lambda: jax.grad(lambda a: jax.vmap(fun)(a * jnp.ones(3)).sum())(1.0),
            lambda: jax.jvp(fun, (1.0,), (1.0,)),
        ):
            with pytest.raises(TypeError, match=r"closes over .* pass it as an argument"):
                use()

    @pytest.mark.parametrize("mode", ["reverse", "forward", "recompute"])
    def test_what_is_not_differentiated_may_be_closed_over(self, mode):
        fun = self.scaled(mode)
        assert jax.jit(fun)(3.0) == 6.0
        np.testing.assert_array_equal(jax.vmap(fun)(jnp.arange(3.0)), [0, 2, 4])
        assert jaxfd.grad(fun)(3.0) == pytest.approx(2.0)

        def slope(a):
            return jax.grad(jaxfd.differentiable(lambda x: a * x, mode=mode))(1.0)

        np.testing.assert_allclose(jax.jit(jax.vmap(slope))(jnp.arange(3.0)), [0, 1, 2], rtol=1e-8)

        def stopped(a):
            fixed = jax.lax.stop_gradient(a)
            return jaxfd.differentiable(lambda x: fixed * x, mode=mode)(a)

        assert jax.jit(jax.grad(stopped))(3.0) == pytest.approx(3.0)
