"""The function that links of `jaxfd.optim` are given: its keywords, its parameters, its result."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd
from jaxfd.optim import estimate_gradient, mezo

LINKS = [jaxfd.Central(), jaxfd.SPSA(jax.random.key(0))]


def update(method, params, value_fn, **extra):
    link = estimate_gradient(method)
    return link.update(None, link.init(params), params, value_fn=value_fn, **extra)[0]


def mezo_step(params, value_fn, **extra):
    optimizer = mezo(0.1, jaxfd.SPSA(jax.random.key(0)))
    return optimizer.step(params, optimizer.init(params), value_fn=value_fn, **extra)


class TestEstimates:
    def test_any_keyword(self):
        seen = []

        def fun(p, **extra):
            seen.append(sorted(extra))
            return jnp.sum(p * extra["batch"])

        x = jnp.ones(2)
        found = update(jaxfd.Central(), x, fun, batch=3.0, value=1.0, grad=x)
        np.testing.assert_allclose(found, 3.0)
        mezo_step(x, fun, batch=3.0)
        assert all(names == ["batch"] for names in seen)

    def test_keywords_that_are_named(self):
        def fun(p, *rest, value=0.0, batch=1.0):
            return jnp.sum(p) * (batch + value) + len(rest)

        found = update(jaxfd.Central(), jnp.ones(2), fun, batch=3.0, value=1.0, rest=5.0, else_=1)
        np.testing.assert_allclose(found, 4.0)

    @pytest.mark.parametrize("params", [{"w": jnp.ones(2), "n": jnp.arange(3)}, jnp.arange(3)])
    def test_integers(self, params):
        for run in (lambda: update(LINKS[0], params, None), lambda: mezo_step(params, None)):
            with pytest.raises(TypeError, match=r"real or complex parameters, but params.* is int"):
                run()

    @pytest.mark.parametrize(
        ("fun", "kind"),
        [(lambda p: (jnp.sum(p), p), "a tuple"), (lambda p: p, r"the shape \(2,\)")],
    )
    def test_more_than_one_number(self, fun, kind):
        x = jnp.ones(2)
        words = f"needs a value_fn that returns one number, got {kind}: .*return the loss"
        for run in (*(lambda m=m: update(m, x, fun) for m in LINKS), lambda: mezo_step(x, fun)):
            with pytest.raises(TypeError, match=words):
                run()

    def test_guided_makes_its_subspace(self):
        x = {"a": jnp.arange(20.0), "b": jnp.ones((2, 3))}
        key = jax.random.key(0)

        def loss(p):
            return jnp.sum(p["a"] ** 2) + jnp.sum(p["b"])

        none = jax.tree.map(lambda z: jnp.zeros((2, *z.shape), z.dtype), x)
        states = []
        for subspace in (None, none):
            link = estimate_gradient(jaxfd.Guided(key, 4, subspace))
            state = link.init(x)
            for _ in range(3):
                _, state = link.update(None, state, x, value_fn=loss)
            states.append(state)
        for one, other in zip(*map(jax.tree.leaves, states), strict=True):
            np.testing.assert_array_equal(one, other)
        with pytest.raises(ValueError, match=r"subspace must have .*jnp\.zeros if there are none"):
            estimate_gradient(jaxfd.Guided(key, 1))
