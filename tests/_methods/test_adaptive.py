"""`Adaptive` as a value: its options, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _rows import ADAPTIVE, INF, Rows

import jaxfd
from jaxfd import Adaptive


class TestRefused:
    @pytest.mark.parametrize("noise", [-1.0, np.nan, INF])
    def test_noise(self, noise):
        with pytest.raises(ValueError, match="noise must be 0 or more and finite"):
            Adaptive(noise=noise)

    @pytest.mark.parametrize("typical", [-1.0, 0.0, np.nan, INF])
    def test_typical(self, typical):
        with pytest.raises(ValueError, match="typical must be positive and finite"):
            Adaptive(typical=typical)

    @pytest.mark.parametrize(
        ("repeats", "kind"),
        [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)],
    )
    def test_repeats(self, repeats, kind):
        with pytest.raises(kind, match="repeats must be"):
            Adaptive(repeats=repeats)

    def test_along_a_tangent(self):
        x = jnp.ones(2)
        with pytest.raises(ValueError, match=r"Adaptive has no fixed stencil.*Use Central\(\)"):
            jaxfd.jvp(lambda x: jnp.sum(x**2), (x,), (x,), method=ADAPTIVE)

    def test_too_high_an_order(self):
        with pytest.raises(ValueError, match=r"up to order 6, not 7: use Central\(\)"):
            jaxfd.derivative(jnp.sin, 7, method=ADAPTIVE)


class TestMethodAsValue:
    @pytest.mark.parametrize(
        "method", [ADAPTIVE, Adaptive(0.1, 3, 2.0), Adaptive(noise=1e-6), Adaptive(typical=1e-3)]
    )
    def test_hash_equality_and_repr(self, method):
        again = eval(repr(method), vars(jaxfd))
        assert again == method
        assert hash(again) == hash(method)
        assert method != Adaptive(noise=0.5)

    def test_pytree(self):
        method = Adaptive(noise=0.1, repeats=3, typical=2.0)
        leaves, tree = jax.tree.flatten(method)
        assert leaves == [0.1, 2.0]
        assert jax.tree.unflatten(tree, leaves) == method
        assert jax.tree.leaves(ADAPTIVE) == [1.0]

    def test_argument_of_jit_and_vmap(self):
        rows = Rows(np.sin)
        noise = np.array([1e-6, 1e-3])

        def error(method):
            return jaxfd.estimate(rows.box, method=method)(0.3, 0).error

        plain = np.array([error(Adaptive(noise=level)) for level in noise])
        traces = []

        @jax.jit
        def jitted(method):
            traces.append(method)
            return error(method)

        np.testing.assert_array_equal([jitted(Adaptive(noise=level)) for level in noise], plain)
        assert len(traces) == 1
        found = jax.vmap(lambda level: error(Adaptive(noise=level)))(noise)
        np.testing.assert_array_equal(found, plain)
        # The bar grows as the noise does.
        assert plain[1] / plain[0] == pytest.approx(1e3, rel=0.9)
