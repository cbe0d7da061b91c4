"""The place on the host whose points one compiled function evaluates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd
from jaxfd._jaxpr import trace
from jaxfd._places import Batches, Device, Schedule
from jaxfd._points import Cloud, Coordinates
from jaxfd._random import SPSA


class Recorded(Batches):
    """Batches that remember how many points were asked for, had room, and shared a chunk."""

    def __init__(self, program):
        super().__init__(program)
        self.taken = []

    def run(self, key, schedule, block, size, x, rest, ids, values, count, home=None):
        self.taken.append((count, len(ids[0]), size))
        return super().run(key, schedule, block, size, x, rest, ids, values, count, home)


def place_of(fun, x, chunk_size=None):
    """A place for a function of leaves, what it records, and how often the function was traced."""
    traced = []

    def counted(leaves):
        traced.append(1)
        return fun(leaves)

    program = trace(counted, x)
    batches = Recorded(lambda key, rest: program)
    return Device(batches, "key", program, (), Schedule(chunk_size)), batches.taken, traced


def keep(centre, outputs, d):
    """Outputs with directions in front."""
    return [np.moveaxis(o, 1, 0) for o in outputs]


def moved(x, entry, value):
    """The leaves with one entry, counted through all of them, put to a value."""
    flat = np.concatenate([leaf.reshape(-1) for leaf in x])
    flat[entry] = value
    parts = np.split(flat, np.cumsum([leaf.size for leaf in x])[:-1])
    return [p.reshape(leaf.shape) for p, leaf in zip(parts, x, strict=True)]


def two_outputs(leaves):
    a, b = leaves
    return (jnp.sum(jnp.sin(a)) * jnp.prod(b), jnp.cos(b)), None


@pytest.fixture(params=[3, 70], ids=["together", "apart"])
def leaves(request, dtype):
    """Two leaves, in one block of directions or in two."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=request.param).astype(dtype), rng.normal(size=(2, 1)).astype(dtype)]


class TestPoints:
    def points(self, x, nodes=5):
        count = sum(leaf.size for leaf in x)
        values = np.random.default_rng(1).normal(size=(nodes, count)).astype(x[0].dtype)
        return Coordinates(x, (), values)

    def test_all(self, leaves):
        place, taken, traced = place_of(two_outputs, leaves)
        points = self.points(leaves)
        centre, found = place.evaluate(points, keep, None, ride=True)
        tol = 100 * np.finfo(leaves[0].dtype).eps
        for output, wanted in zip(centre, two_outputs(leaves)[0], strict=True):
            assert output.dtype == leaves[0].dtype
            np.testing.assert_allclose(output, wanted, rtol=tol)
        assert [o.shape for o in found] == [(points.count, 5), (points.count, 5, 2, 1)]
        for k, entry in ((0, 0), (3, 2), (4, points.count - 1)):
            wanted, _ = two_outputs(moved(leaves, entry, points.values[k, entry]))
            for output, here in zip(found, wanted, strict=True):
                assert isinstance(output, np.ndarray)
                np.testing.assert_allclose(output[entry, k], here, rtol=tol, atol=tol)
        assert len(traced) == 1
        assert sum(count for count, _, _ in taken) == 5 * points.count + 1
        # A chunk is filled up, no more.
        assert all(room - count < size <= 64 for count, room, size in taken)

    def test_some(self, leaves):
        place, taken, _ = place_of(two_outputs, leaves)
        points = self.points(leaves)
        _, every = place.evaluate(points, keep, None, ride=True)
        taken.clear()
        wanted = np.zeros(points.count, bool)
        wanted[[1, points.count - 1]] = True
        found = place.some(points, wanted)
        for output, whole in zip(found, every, strict=True):
            whole = np.moveaxis(whole, 0, 1)
            np.testing.assert_allclose(output[:, wanted], whole[:, wanted], rtol=1e-5)
            assert np.all(np.isnan(output[:, ~wanted]))
        assert sum(count for count, _, _ in taken) == 5 * 2
        assert place.some(points, wanted & False)[0].shape == (5, points.count)

    def test_more_points_than_there_is_room_for(self, dtype):
        x = [np.linspace(0.1, 1, 4, dtype=dtype)]
        place, taken, _ = place_of(lambda z: (jnp.sum(jnp.sin(z[0])), None), x)
        place.evaluate(self.points(x, 3), keep, None, ride=True)
        points = self.points(x, 7)
        _, found = place.evaluate(points, keep, None, ride=False)
        wanted = np.sin(points.values) + (np.sum(np.sin(x[0])) - np.sin(x[0]))
        np.testing.assert_allclose(found[0].T, wanted, rtol=1e-6, atol=1e-6)
        assert [count for count, _, _ in taken] == [13, 13, 13, 2]

    @pytest.mark.parametrize("chunk_size", [1, 7, 100])
    def test_chunk_size(self, chunk_size):
        x = [np.linspace(0.1, 1, 80)]
        place, taken, _ = place_of(lambda z: (jnp.sum(jnp.sin(z[0])), None), x, chunk_size)
        _, found = place.evaluate(self.points(x, 2), keep, None, ride=True)
        _, other = place_of(lambda z: (jnp.sum(jnp.sin(z[0])), None), x)[0].evaluate(
            self.points(x, 2), keep, None, ride=True
        )
        np.testing.assert_allclose(found[0], other[0], rtol=1e-14)
        assert [size for _, _, size in taken] == [chunk_size]

    def test_pairs_of_entries(self):
        x = [np.array([0.3, 0.5, 0.7])]
        place, _, _ = place_of(lambda z: (jnp.prod(z[0]), None), x)
        values = np.array([[1.0, 2.0, 3.0]])
        pairs = np.array([0, 1]), np.array([2, 2])
        _, found = place.evaluate(Coordinates(x, (), values, pairs), keep, None, ride=False)
        np.testing.assert_allclose(found[0][:, 0], [1.0 * 0.5 * 3.0, 0.3 * 2.0 * 3.0])

    def test_sums_that_are_not_finite_are_not_followed(self):
        """From an infinite sum on, changes say nothing: points are evaluated whole."""
        x = [np.linspace(0.0, 1, 80)]
        place, _, _ = place_of(lambda z: (jnp.sum(1 / z[0]), None), x)
        points = Coordinates(x, (), np.full((1, 80), 0.5))
        centre, found = place.evaluate(points, keep, None, ride=True)
        assert np.isinf(centre[0])
        assert np.isfinite(found[0][0, 0])
        assert np.all(np.isinf(found[0][1:]))

    def test_auxiliary_outputs_stay_where_they_are(self):
        x = [np.array([0.3, 0.5])]
        place, taken, _ = place_of(lambda z: (jnp.sum(z[0]), (jax.random.key(0), 2 * z[0])), x)
        centre, _ = place.evaluate(self.points(x, 2), keep, None, ride=True)
        assert isinstance(centre[0], np.ndarray)
        assert jnp.issubdtype(centre[1].dtype, jax.dtypes.prng_key)
        np.testing.assert_array_equal(centre[2], 2 * x[0])
        assert [count for count, _, _ in taken] == [4]


class TestOtherWays:
    """What a search does not ask for, and an estimator from outside may."""

    x = (np.array([0.3, 0.5]),)

    def place(self):
        return place_of(lambda z: (jnp.sum(jnp.sin(z[0])), None), list(self.x))[0]

    def test_line(self):
        points = np.array([[0.1, 0.2], [0.4, 0.6], [0.0, 1.0]])
        centre, (found,) = self.place().line(self.x, [points], ride=True)
        np.testing.assert_allclose(found, np.sin(points).sum(axis=1), rtol=1e-14)
        np.testing.assert_allclose(centre[0], np.sin(self.x[0]).sum(), rtol=1e-14)
        assert self.place().line(self.x, [points], ride=False)[0] is None

    def test_scatter(self):
        method = SPSA(jax.random.key(0), num_samples=4)
        cloud = Cloud(method.directions(self.x), self.x, (), [np.float64(0.1)], (1, -1), 4)
        centre, (found,) = self.place().scatter(cloud, ride=True)
        assert found.shape == (2, 4)
        np.testing.assert_allclose(centre[0], np.sin(self.x[0]).sum(), rtol=1e-14)
        signs = np.array(method.directions(self.x).arrays(4)[0])
        np.testing.assert_allclose(
            found[1], np.sin(self.x[0] - 0.1 * signs).sum(axis=1), rtol=1e-14
        )

    def test_numbers(self):
        place = self.place()
        assert place.eps(np.float32) == float(np.finfo(np.float32).eps)
        assert place.compute_dtype(np.dtype(np.float16), np.dtype(np.float16)) == np.float32
        both = place.complex(np.float32([np.inf, 1.0]), np.float32([1.0, 2.0]))
        assert both.dtype == np.complex64
        assert both[0].imag == 1.0
        assert place.repeat(lambda n: n + 1, 0, 5, lambda n: n < 3) == 3


def test_the_public_door_uses_it():
    found = jaxfd.grad(lambda x: jnp.sum(jnp.sin(x)), method=jaxfd.Adaptive())(np.ones(3))
    np.testing.assert_allclose(found, np.cos(1.0), rtol=1e-13)
