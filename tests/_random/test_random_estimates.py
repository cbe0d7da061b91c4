"""What an estimate along random directions says of its error, and how many samples it takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd

NUMBER = jax.ShapeDtypeStruct((), np.float64)


class TestRandomEstimates:
    key = jax.random.key(0)
    x = np.arange(1.0, 9.0)

    @staticmethod
    def square(x):
        return (x * x).sum()

    @pytest.mark.parametrize("options", [{}, {"combine": "least_squares"}])
    @pytest.mark.parametrize("kind", ["traced", "black box"])
    @pytest.mark.parametrize("count", [1, 3, 8])
    def test_coordinates_that_were_not_drawn(self, kind, count, options):
        fun = self.square if kind == "traced" else jaxfd.blackbox(self.square, NUMBER)
        method = jaxfd.RandomCoordinates(self.key, count, **options)
        found = jax.jit(jaxfd.estimate(fun, method=method))(jnp.asarray(self.x))
        drawn = np.asarray(found.grad) != 0
        assert drawn.sum() == count
        np.testing.assert_array_equal(np.isinf(found.error), ~drawn)

    def test_several_leaves_bounds_and_calls(self):
        def fun(tree):
            return jnp.sum(tree["a"] ** 2) + jnp.sum(tree["b"])

        tree = {"a": jnp.asarray(self.x), "b": jnp.ones((2, 2), np.float32)}
        method = jaxfd.RandomCoordinates(self.key, 5)
        bounds = ({"a": 0.0, "b": 1.0}, {"a": 8.0, "b": 1.0})

        def one(tree):
            return jaxfd.estimate(fun, method=method, bounds=bounds)(tree)

        with jax.numpy_dtype_promotion("standard"):
            found = jax.vmap(one)(jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), tree))
        unknown = sum(int(np.sum(np.isinf(leaf))) for leaf in jax.tree.leaves(found.error))
        assert unknown == 2 * (12 - 5)
        assert not any(np.any(np.isnan(leaf)) for leaf in jax.tree.leaves(found.error))

    def test_a_lost_sample_leaves_its_entry_unknown(self):
        def fun(x):
            return np.where(x[2] == 3.0, np.sum(x**2), np.nan)

        box = jaxfd.blackbox(fun, NUMBER)
        found = jaxfd.estimate(box, method=jaxfd.RandomCoordinates(self.key, 8))(self.x)
        np.testing.assert_array_equal(np.isinf(found.error), np.arange(8) == 2)

    def test_printed_as_what_it_is(self):
        found = jaxfd.estimate(self.square, method=jaxfd.SPSA(self.key, 4))(self.x)
        assert not found.bound
        assert "standard error" in str(found)
        assert "error bound" not in str(found)
        assert jax.tree.map(lambda leaf: leaf, found).bound is False
        found = jaxfd.estimate(self.square)(self.x)
        assert found.bound
        assert "error bound" in str(found)
        lines = str(found).splitlines()[1:]
        assert len({len(line) for line in lines}) == 1


class Four:
    def __index__(self):
        return 4

    def __repr__(self):
        return "Four()"


@pytest.mark.parametrize("count", [np.int64(4), np.uint8(4), np.array(4), Four()], ids=repr)
def test_numbers_of_samples(count):
    key = jax.random.key(0)
    method = jaxfd.SPSA(key, count)
    assert type(method.num_samples) is int
    assert method == jaxfd.SPSA(key, 4)
    assert jaxfd.LowRank(key, 4, rank=count).rank == 4
    assert jax.tree.structure(method) == jax.tree.structure(jaxfd.SPSA(key, 4))


@pytest.mark.parametrize("count", [np.float64(4), np.True_, np.array([4]), "4"], ids=repr)
def test_what_is_no_number_of_samples(count):
    with pytest.raises(TypeError, match="SPSA: num_samples must be an integer, got"):
        jaxfd.SPSA(jax.random.key(0), count)
