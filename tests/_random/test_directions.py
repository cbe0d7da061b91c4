"""Random directions: what they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _directions import INDEPENDENT, KEY, directions, label, make

from jaxfd import SPSA, GaussianSmoothing, Guided, LowRank, Orthogonal, RandomCoordinates, Sphere

some = pytest.mark.parametrize(
    "family", [SPSA, Sphere, LowRank, RandomCoordinates, Guided], ids=label
)
X = np.array([0.3, -1.2, 2.1, 0.7])
LIKE = [jax.ShapeDtypeStruct((4, 3), np.float32), jax.ShapeDtypeStruct((5,), np.float64)]


class TestDirections:
    """Mean zero, variance one, uncorrelated."""

    @pytest.mark.parametrize("family", [*INDEPENDENT, Orthogonal], ids=label)
    def test_moments(self, family):
        if family is Orthogonal:
            keys = jax.random.split(jax.random.key(3), 800)

            @jax.jit
            @jax.vmap
            def bases(key):
                ids = np.arange(17, dtype=np.int32)
                u = Orthogonal(key, 17).directions(LIKE).several(ids)
                return jnp.concatenate([v.reshape(17, -1).astype(np.float64) for v in u], 1)

            u = bases(keys)
            u = np.asarray(u).reshape(-1, 17)
        else:
            u = directions(make(family, 12_000), LIKE)
        few = 4.5 / np.sqrt(len(u))
        assert np.abs(u.mean(axis=0)).max() < few
        products = u[:, :, None] * u[:, None, :]
        error = products.std(axis=0) / np.sqrt(len(u)) + 1e-6
        assert np.max(np.abs(products.mean(axis=0) - np.eye(17)) / error) < 5

    def test_signs(self):
        u = directions(make(SPSA, 50), LIKE)
        np.testing.assert_array_equal(np.abs(u), 1.0)
        # All four combinations of two entries occur, and no two directions are the same.
        assert len({tuple(row) for row in u[:, :2]}) == 4
        assert len({tuple(row) for row in u}) == 50

    def test_length_on_the_sphere(self):
        u = directions(make(Sphere, 50), LIKE)
        np.testing.assert_allclose(np.sum(u**2, axis=1), 17, rtol=1e-6)

    def test_large_leaves_are_drawn_in_slabs(self):
        """More than 2^18 entries, in no multiple of that; the two ways agree on lengths."""
        like = [jax.ShapeDtypeStruct((3, 2**17 + 5), np.float32)]
        for family in (GaussianSmoothing, Sphere):
            (u,) = make(family, 1).directions(like).one(np.int32(0))
            flat = np.asarray(u, np.float64).reshape(-1)
            assert abs(np.sum(flat**2) / flat.size - 1) < (1e-5 if family is Sphere else 0.01)
            assert len(np.unique(flat)) > 0.9 * flat.size
            assert abs(np.mean(flat[: 2**17] * flat[-(2**17) :])) < 5 / 2**8.5

    @pytest.mark.parametrize("size", [5, 17, 128])
    def test_small_bases_are_orthogonal(self, size):
        like = [jax.ShapeDtypeStruct((size - 1,), np.float64), jax.ShapeDtypeStruct((), np.float64)]
        u = directions(make(Orthogonal, 2 * size), like)
        for basis in (u[:size], u[size:]):
            np.testing.assert_allclose(basis @ basis.T, size * np.eye(size), atol=1e-9 * size)
        assert np.abs(u[:size] - u[size:]).max() > 0.1

    @pytest.mark.parametrize(
        "shapes",
        [
            [(256,)],
            [(100,), (12, 13)],
            [(), (31,), (3, 3, 11), (1, 125)],
            [(1,)] * 30 + [(226,)],
            [(0,), (256,)],
        ],
        ids=["one", "two", "four", "many", "empty"],
    )
    def test_hadamard_rows_are_orthogonal(self, shapes):
        """Whatever the sizes of the leaves, where all of them make a power of two."""
        u = directions(make(Orthogonal, 512), [jax.ShapeDtypeStruct(s, np.float32) for s in shapes])
        np.testing.assert_array_equal(np.abs(u), 1.0)
        for basis in (u[:256], u[256:]):
            np.testing.assert_array_equal(basis @ basis.T, 256 * np.eye(256))
        assert np.mean(u[:256] == u[256:]) == pytest.approx(0.5, abs=0.02)
        assert np.abs(u.mean(axis=0)).max() < 0.25

    @pytest.mark.parametrize("shapes", [[(33,)] * 5, [(1,)] * 30 + [(100,)], [(131,)]], ids=len)
    def test_hadamard_rows_of_other_sizes(self, shapes):
        """Nearly so, up to half as many as the next power of two."""
        like = [jax.ShapeDtypeStruct(s, np.float32) for s in shapes]
        u = directions(make(Orthogonal, 128), like)
        n = u.shape[1]
        products = u @ u.T - n * np.eye(128)
        assert np.abs(products).max() <= n - 128

    def test_hadamard_first_bits_are_random(self):
        """Over keys all signs are fair, those of the first row and of the first entry too."""
        keys = jax.random.split(KEY, 400)
        like = [jax.ShapeDtypeStruct((150,), np.float32)]

        @jax.jit
        @jax.vmap
        def rows(key):
            ids = np.array([0, 1, 149, 150, 299], np.int32)
            return Orthogonal(key, 300).directions(like).several(ids)[0]

        u = np.asarray(rows(keys))
        assert np.abs(u.mean(axis=0)).max() < 5 / 20

    def test_coordinates(self):
        u = directions(make(RandomCoordinates, 17), LIKE)
        np.testing.assert_array_equal(np.sort(np.argmax(u, axis=1)), np.arange(17))
        np.testing.assert_array_equal(np.sum(np.abs(u), axis=1), 1.0)

    @pytest.mark.parametrize("rank", [1, 2])
    def test_low_rank(self, rank):
        shapes = [(6, 8), (2, 3, 2, 7), (8, 6)]
        drawn = directions(
            make(LowRank, 3, rank=rank), [jax.ShapeDtypeStruct(s, np.float64) for s in shapes]
        )
        ends = np.cumsum([np.prod(shape) for shape in shapes])
        for shape, leaf in zip(shapes, np.split(drawn, ends[:-1], axis=1), strict=True):
            for u in leaf:
                assert np.linalg.matrix_rank(u.reshape(-1, shape[-1])) == rank

    def test_guided(self):
        x = jnp.asarray(X)
        u = directions(make(Guided, 6, x), [x])
        past = np.stack([np.cos(X), np.ones(4)])
        # First an orthogonal basis of the subspace, each of length sqrt(n), then what is
        # orthogonal to it.
        np.testing.assert_allclose(u[:2] @ u[:2].T, 4 * np.eye(2), atol=1e-12)
        inside = u[:2].T @ u[:2] / 4
        np.testing.assert_allclose(past @ inside, past, rtol=1e-12)
        np.testing.assert_allclose(u[2:] @ past.T, 0, atol=1e-12)

    @some
    def test_the_sum_replays_what_points_use(self, family):
        """The sum of c_i u_i, of several outputs, of squares, and added to something."""
        x = [jnp.asarray(X), jnp.asarray(np.arange(6.0).reshape(3, 2), np.float32)]
        method = make(family, 9, x)
        u = np.split(directions(method, x), [4], axis=1)
        c = np.random.default_rng(0).normal(size=(9, 2))

        @jax.jit
        def sums(c):
            found = method.directions(x)
            both = [c, c.astype(np.float32)]
            squares = found.sum(both, squared=True)
            return found.sum(both), squares, found.sum([a[:, 0] for a in both], onto=x)

        for total, square, moved, start, v in zip(*sums(c), x, u, strict=True):
            exact = (c.T @ v).reshape(2, *start.shape)
            np.testing.assert_allclose(total, exact, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(moved, np.asarray(start) + exact[0], rtol=1e-5, atol=1e-5)
            assert moved.dtype == start.dtype
            exact = (c.T @ v**2).reshape(2, *start.shape)
            np.testing.assert_allclose(square, exact, rtol=1e-4, atol=1e-5)
