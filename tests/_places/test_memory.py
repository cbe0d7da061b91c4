"""What an estimate takes: so many points at once as memory holds, whatever ``vmap`` is around."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import close

import jaxfd

N, MANY, BATCH = 20, 2**18, 16
POINT = 4 * MANY


def curve(x):
    """A megabyte of intermediate numbers, in which every entry of ``x`` changes all."""
    return jnp.sum(jnp.sin(jnp.cumsum(jnp.tile(x, MANY // N + 1)[:MANY])))


def followed(x):
    """The same of which an entry changes a part."""
    return jnp.sum(jnp.tanh(jnp.outer(x, jnp.linspace(0.0, 1.0, MANY // N, dtype=np.float32))))


def temporaries(fun, batch=False):
    x = jax.ShapeDtypeStruct((BATCH, N) if batch else (N,), np.float32)
    return jax.jit(fun).lower(x).compile().memory_analysis().temp_size_in_bytes


@functools.cache
def of_values(fun):
    return temporaries(fun), temporaries(jax.vmap(fun), batch=True)


TRANSFORMS = {
    "grad": jaxfd.grad,
    "hook": lambda fun: jax.grad(jaxfd.differentiable(fun)),
    "random": lambda fun: jaxfd.grad(fun, method=jaxfd.SPSA(jax.random.key(0), 32, sigma=0.1)),
}


class TestTemporaries:
    @pytest.mark.parametrize("fun", [curve, followed])
    @pytest.mark.parametrize("transform", TRANSFORMS)
    def test_one_and_a_batch(self, fun, transform):
        one, many = of_values(fun)
        derivative = TRANSFORMS[transform](fun)
        assert temporaries(derivative) <= 2**23 * max(1, one / POINT) + 3 * one
        assert temporaries(jax.vmap(derivative), batch=True) <= 1.3 * many

    def test_a_stencil_of_many_points(self):
        one, _ = of_values(curve)
        wide = jaxfd.grad(curve, method=jaxfd.Central(8))
        assert temporaries(wide) <= 2**23 * max(1, one / POINT) + 3 * one


class TestNumbers:
    """Pieces change no number, and cheap estimates are not cut."""

    @staticmethod
    def fun(x):
        return jnp.mean(jnp.sin(jnp.cumsum(jnp.tile(x, 2**17)) / 2**16))

    def test_as_one_by_one(self):
        rows = np.linspace(-1.0, 1.0, 12).reshape(2, 3, 2)
        gradient = jax.jit(jaxfd.grad(self.fun))
        found = jax.vmap(jax.vmap(gradient))(rows)
        each = [[gradient(row) for row in part] for part in rows]
        np.testing.assert_allclose(found, each, rtol=1e-9)

    def test_adaptive_and_estimate(self):
        rows = np.linspace(-1.0, 1.0, 6).reshape(3, 2)
        one = jaxfd.estimate(self.fun, method=jaxfd.Adaptive())
        found = jax.vmap(one)(rows)
        close(found.grad[1], one(rows[1]).grad, 1e-9)
        assert found.evaluations.shape == (3,)

    def test_small_ones_run_side_by_side(self):
        rows = jax.ShapeDtypeStruct((50, 3), np.float64)
        text = jax.jit(jax.vmap(jaxfd.grad(lambda x: jnp.sum(x**2)))).lower(rows).as_text()
        assert "while" not in text

    def test_differentiated_again(self):
        rows = np.linspace(0.1, 1.0, 4).reshape(2, 2)

        def total(rows):
            return jnp.sum(jax.vmap(jaxfd.grad(self.fun, method=jaxfd.Central(step=1e-3)))(rows))

        exact = jax.grad(lambda rows: jnp.sum(jax.vmap(jax.grad(self.fun))(rows)))(rows)
        np.testing.assert_allclose(jax.grad(total)(rows), exact, rtol=1e-3)

    def test_named_axes(self):
        rows = np.linspace(0.1, 1.0, 4).reshape(2, 2)

        def centred(x):
            return jaxfd.grad(self.fun)(x - jax.lax.pmean(x, "i"))

        found = jax.vmap(centred, axis_name="i")(rows)
        close(found, jax.vmap(jax.grad(self.fun))(rows - rows.mean(0)), 1e-6)

    def test_one_host_call(self):
        calls = []

        def host(x):
            calls.append(len(x))
            return np.sum(x**2, axis=-1)

        box = jaxfd.blackbox(host, jax.ShapeDtypeStruct((), np.float64), vectorized=True)
        rows = np.linspace(0.1, 1.0, 8).reshape(4, 2)
        found = jax.vmap(jaxfd.grad(lambda x: jnp.sin(box(x))))(rows)
        assert len(calls) == 1
        close(found, jax.vmap(jax.grad(lambda x: jnp.sin(jnp.sum(x**2))))(rows), 1e-7)
