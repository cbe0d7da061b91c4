"""Chunks: how many points are evaluated at once changes nothing but the memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import close

import jaxfd
from jaxfd import Central, ComplexStep, Forward


class TestChunks:
    """How many points are evaluated at once changes nothing but the memory."""

    x = np.array([0.3, -1.2, 2.1, 0.9, -0.4])

    @staticmethod
    def fun(x):
        return jnp.sum(jnp.sin(x)) * x[0] + jnp.prod(x[1:])

    @staticmethod
    @functools.cache
    def whole(transform, method):
        """Without chunks: compiled once, for all sizes of chunks."""
        return transform(TestChunks.fun, method=method)(TestChunks.x)

    @pytest.mark.parametrize("chunk_size", [1, 2, 3, 7, 10, 11, 1000])
    def test_grad(self, chunk_size):
        for method in (Central(), Forward(2)):
            parts = jaxfd.value_and_grad(self.fun, method=method, chunk_size=chunk_size)(self.x)
            close(parts, self.whole(jaxfd.value_and_grad, method), 1e-9)

    @pytest.mark.parametrize("chunk_size", [1, 3, 1000])
    def test_trees_and_outputs(self, chunk_size):
        def fun(tree):
            total = jnp.sum(tree["a"] ** 2) * tree["b"][0]
            return {
                "total": total,
                "vector": jnp.sin(tree["a"]),
                "matrix": jnp.outer(tree["a"], tree["b"]),
            }

        tree = {"a": jnp.asarray(self.x), "b": jnp.asarray([0.5, 2.0])}
        close(jaxfd.jacobian(fun, chunk_size=chunk_size)(tree), jax.jacrev(fun)(tree), 1e-8)

    @pytest.mark.parametrize("chunk_size", [1, 3, 7, 1000])
    def test_hessian(self, chunk_size):
        found = jaxfd.hessian(self.fun, chunk_size=chunk_size)(self.x)
        close(found, self.whole(jaxfd.hessian, Central()), 1e-6)

    @pytest.mark.parametrize("chunk_size", [1, 7])
    def test_estimate_and_bounds(self, chunk_size):
        def run(**options):
            return jaxfd.estimate(self.fun, bounds=(-1.2, 2.1), **options)(self.x)

        close(run(chunk_size=chunk_size), run(), 1e-9)

    @pytest.mark.parametrize("chunk_size", [1, 3])
    def test_with_aux_and_complex_step(self, chunk_size):
        def run(**options):
            fun = lambda x: (self.fun(x), x * 2)  # noqa: E731
            return jaxfd.grad(fun, has_aux=True, method=ComplexStep(), **options)(self.x)

        close(run(chunk_size=chunk_size), run(), 1e-14)

    @pytest.mark.parametrize("size", [64, 65])
    def test_sizes_about_the_block(self, size):
        tree = [jnp.linspace(0.5, 1.5, size), jnp.ones(3), jnp.zeros(0), jnp.linspace(0.1, 0.2, 70)]

        def fun(tree):
            return sum((jnp.sum(leaf**2) for leaf in tree), jnp.zeros(()))

        close(jaxfd.grad(fun)(tree), jax.grad(fun)(tree), 1e-7)
        close(jaxfd.grad(fun, chunk_size=32)(tree), jax.grad(fun)(tree), 1e-7)

    def test_so_many_points_that_the_library_makes_chunks(self):
        x = jnp.linspace(-1.0, 1.0, 700)

        def fun(x):
            return jnp.sum(jnp.cos(x) * x[::-1])

        value, slope = jaxfd.value_and_grad(fun)(x)
        np.testing.assert_allclose(value, fun(x), rtol=1e-12)
        np.testing.assert_allclose(slope, jax.grad(fun)(x), rtol=1e-5, atol=1e-7)
