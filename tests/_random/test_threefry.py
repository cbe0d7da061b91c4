"""Few random numbers are those of `jax.random`, and held directions those that are replayed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfd import SPSA, GaussianSmoothing
from jaxfd._random import threefry

KEYS = jnp.stack([jax.random.key(seed) for seed in (0, 1, 2**40 + 17)])


def bits_of(keys):
    return jax.random.key_data(keys)


class TestNumbers:
    @pytest.mark.parametrize("size", [0, 1, 3, 50, 1024])
    def test_bits_and_normals(self, size, dtype):
        @jax.jit
        def drawn(data):
            return threefry.bits(data, size), threefry.normal(data, size, dtype)

        for key in KEYS:
            bits, normal = drawn(bits_of(key))
            np.testing.assert_array_equal(bits, jax.random.bits(key, (size,), np.uint32))
            assert normal.dtype == dtype
            np.testing.assert_array_equal(normal, jax.random.normal(key, (size,), dtype))

    def test_keys(self):
        for key in KEYS:
            for number in (0, 5, 2**31 - 1):
                wanted = bits_of(jax.random.fold_in(key, number))
                np.testing.assert_array_equal(threefry.fold_in(bits_of(key), number), wanted)

    def test_batches(self):
        def draw(data, number):
            return threefry.normal(threefry.fold_in(data, number), 5, np.float64)

        numbers = np.arange(4, dtype=np.int32)
        found = jax.jit(jax.vmap(jax.vmap(draw, (None, 0)), (0, None)))(bits_of(KEYS), numbers)
        for row, key in zip(found, KEYS, strict=True):
            for part, number in zip(row, numbers, strict=True):
                wanted = jax.random.normal(jax.random.fold_in(key, number), (5,), np.float64)
                np.testing.assert_array_equal(part, wanted)


@pytest.mark.parametrize("kind", [SPSA, GaussianSmoothing])
@pytest.mark.parametrize("count", [1, 2, 33])
class TestHeld:
    def test_points_and_sums(self, kind, count):
        like = [jnp.linspace(0.0, 1.0, 7, dtype=np.float32), jnp.zeros((2, 3), jnp.bfloat16)]
        scales = [jnp.float32(0.3), jnp.asarray(0.3, jnp.bfloat16)]
        numbers = [jnp.linspace(-1.0, 1.0, count, dtype=np.float32)] * 2
        matrix = [jnp.stack([c, c * c], axis=1) for c in numbers]

        def found(key, like, scales, numbers, matrix, held):
            directions = kind(key, count, sigma=0.1).directions(like)
            if held:
                assert directions.held(count) is not directions
                directions = directions.held(count)
            points = jax.vmap(lambda d: directions.points(like, d, scales))
            return (
                points(directions.described(count)),
                directions.sum(numbers),
                directions.sum(matrix),
                directions.sum(numbers, squared=True),
                directions.sum(numbers, onto=like),
            )

        run = jax.jit(found, static_argnums=5)
        args = jax.random.key(3), like, scales, numbers, matrix
        both = zip(*(jax.tree.leaves(run(*args, held)) for held in (True, False)), strict=True)
        for one, other in both:
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)

    def test_many_are_replayed(self, kind, count):
        method = kind(jax.random.key(3), count, sigma=0.1)
        directions = method.directions([jax.ShapeDtypeStruct((2**20,), np.float32)])
        assert directions.held(count) is directions
