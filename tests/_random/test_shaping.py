"""What becomes of values: baselines, shaping, lost samples, bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from _directions import KEY, by_hand, directions, label, off
from _tools import Host
from hypothesis import given, settings, strategies as st

import jaxfd
from jaxfd import SPSA, GaussianSmoothing, Orthogonal, RandomCoordinates, Sphere

SCALAR = jax.ShapeDtypeStruct((), np.float64)
X = np.array([0.3, -1.2, 2.1])


def loss(x):
    return (np if isinstance(x, np.ndarray) else jnp).sum(x**3 + x * x[..., ::-1], axis=-1)


both = pytest.mark.parametrize("antithetic", [True, False], ids=["both", "one-sided"])


def box_of(fun):
    """The function on the host, of a batch of points."""
    return jaxfd.blackbox(fun, SCALAR, vectorized=True)


class TestBaselines:
    def test_leave_one_out_by_hand(self):
        method = GaussianSmoothing(KEY, 5, sigma=0.1, antithetic=False, baseline="leave_one_out")
        u = directions(method, [jnp.asarray(X)])
        values = loss(X + 0.1 * u)
        others = (values.sum() - values) / 4
        hand = np.mean(((values - others) / 0.1)[:, None] * u, axis=0)
        for fun in (loss, box_of(loss)):
            np.testing.assert_allclose(jaxfd.grad(fun, method=method)(X), hand, rtol=1e-9)

    @pytest.mark.parametrize("baseline", ["centre", "leave_one_out"])
    def test_unbiased(self, baseline):
        """Of a quadratic whose value is large beside its changes."""

        def fun(x):
            return 50.0 + x @ x + x[0] * x[1]

        def one(key):
            method = GaussianSmoothing(key, 3, 0.2, antithetic=False, baseline=baseline)
            return jaxfd.grad(fun, method=method)(jnp.asarray(X))

        found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(4), 5000))
        assert off(found, jax.grad(fun)(jnp.asarray(X))) < 4.5


@pytest.mark.heavy
class TestShaping:
    @both
    def test_ranks_by_hand(self, antithetic):
        """Equal values share their ranks; the centre has one where it is the baseline."""

        def steps(x):
            return np.floor(2 * loss(x)) if isinstance(x, np.ndarray) else jnp.floor(2 * loss(x))

        method = SPSA(KEY, 9, sigma=0.1, antithetic=antithetic, shaping="rank")
        u = directions(method, [jnp.asarray(X)])
        last = X - 0.1 * u if antithetic else X[None]
        values = steps(np.concatenate([X + 0.1 * u, last]))
        assert len(np.unique(values)) < len(values)
        ranks = (scipy.stats.rankdata(values) - 1) / (len(values) - 1) - 0.5
        changes = (ranks[:9] - ranks[9:]) / 2 if antithetic else ranks[:9] - ranks[9]
        hand = np.mean(changes[:, None] * u, axis=0) / 0.1
        for fun in (steps, box_of(steps)):
            np.testing.assert_allclose(
                jaxfd.grad(fun, method=method)(X), hand, rtol=1e-9, atol=1e-12
            )

    @both
    def test_ranks_do_not_see_what_keeps_the_order(self, antithetic):
        method = SPSA(KEY, 16, sigma=0.1, antithetic=antithetic, shaping="rank")
        first = jaxfd.grad(loss, method=method)(X)
        for change in (jnp.exp, lambda y: 1e9 * y - 3.0, lambda y: y**3):
            found = jaxfd.grad(lambda x, c=change: c(loss(x)), method=method)(X)
            np.testing.assert_array_equal(found, first)

    @pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
    @both
    def test_standardized_does_not_see_units(self, antithetic, scale):
        """In float32 too, whose range squares of values would leave."""
        x = jnp.asarray(X, np.float32)
        method = SPSA(KEY, 16, sigma=0.5, antithetic=antithetic, shaping="standardized")
        first = jaxfd.grad(loss, method=method)(x)
        found = jaxfd.grad(lambda x: loss(x) * np.float32(scale), method=method)(x)
        np.testing.assert_allclose(found, first, rtol=1e-4)
        if antithetic:
            u = directions(method, [x])
            values = loss(np.concatenate([X + 0.5 * u, X - 0.5 * u]))
            hand = by_hand(loss, X, u, 0.5) / values.std()
            np.testing.assert_allclose(found, hand, rtol=1e-3)
            found = jaxfd.grad(box_of(lambda x: scale * loss(x) + scale), method=method)(x)
            np.testing.assert_allclose(found, hand, rtol=1e-5)

    @pytest.mark.parametrize("shaping", ["rank", "standardized"])
    @both
    def test_constant_function(self, shaping, antithetic):
        method = SPSA(KEY, 7, sigma=0.1, antithetic=antithetic, shaping=shaping)
        for fun in (lambda x: 0.1 + 0 * x[0], box_of(lambda x: np.full(len(x), 0.1))):
            np.testing.assert_allclose(jaxfd.grad(fun, method=method)(X), 0, atol=1e-12)


class TestLostSamples:
    @staticmethod
    def _fun(bad):
        """Not finite where the first two entries moved the same way."""

        def fun(x):
            xp = np if isinstance(x, np.ndarray) else jnp
            lost = (x[..., 0] - X[0]) * (x[..., 1] - X[1]) > 0
            return xp.where(lost, bad, loss(x))

        return fun

    @pytest.mark.parametrize("combine", ["mean", "least_squares"])
    @both
    def test_the_mean_of_the_others(self, combine, antithetic):
        method = SPSA(KEY, 9, sigma=0.1, antithetic=antithetic, combine=combine)
        u = directions(method, [jnp.asarray(X)])
        kept = u[u[:, 0] * u[:, 1] < 0]
        assert 0 < len(kept) < 9
        hand = by_hand(loss, X, kept, 0.1, antithetic)
        if combine == "least_squares":
            back = loss(X - 0.1 * kept) if antithetic else loss(X)
            slopes = (loss(X + 0.1 * kept) - back) / (0.2 if antithetic else 0.1)
            hand = np.linalg.pinv(kept) @ slopes
        kernel = jaxfd.grad(lambda x, bad: self._fun(bad)(x), method=method)
        current = np.nan  # what the host takes for lost, of which nothing is compiled
        host = jaxfd.grad(box_of(lambda x: self._fun(current)(x)), method=method)
        for bad in (np.nan, np.inf, -np.inf):
            current = bad
            for found in (kernel(X, bad), host(X)):
                np.testing.assert_allclose(found, hand, rtol=1e-9, atol=1e-9, err_msg=str(bad))

    def test_ranks_of_the_others(self):
        method = SPSA(KEY, 9, sigma=0.1, shaping="rank")
        u = directions(method, [jnp.asarray(X)])
        kept = u[u[:, 0] * u[:, 1] < 0]
        values = loss(np.concatenate([X + 0.1 * kept, X - 0.1 * kept]))
        ranks = (scipy.stats.rankdata(values) - 1) / (len(values) - 1) - 0.5
        hand = np.mean((ranks[: len(kept)] - ranks[len(kept) :])[:, None] * kept, axis=0) / 0.2
        for fun in (self._fun(np.nan), box_of(self._fun(np.inf))):
            np.testing.assert_allclose(
                jaxfd.grad(fun, method=method)(X), hand, rtol=1e-9, atol=1e-12
            )

    def test_leave_one_out(self):
        method = SPSA(KEY, 9, sigma=0.1, antithetic=False, baseline="leave_one_out")
        u = directions(method, [jnp.asarray(X)])
        kept = u[u[:, 0] * u[:, 1] < 0]
        values = loss(X + 0.1 * kept)
        changes = values - (values.sum() - values) / (len(kept) - 1)
        hand = np.mean(changes[:, None] * kept, axis=0) / 0.1
        for fun in (self._fun(np.nan), box_of(self._fun(np.inf))):
            np.testing.assert_allclose(jaxfd.grad(fun, method=method)(X), hand, rtol=1e-9)

    @pytest.mark.parametrize("family", [SPSA, RandomCoordinates, Orthogonal], ids=label)
    @pytest.mark.parametrize("combine", ["mean", "least_squares"])
    def test_all_lost(self, family, combine):
        method = family(KEY, 2, sigma=0.1, combine=combine)
        for fun in (lambda x: jnp.nan * x[0], box_of(lambda x: np.full(len(x), np.nan))):
            result = jaxfd.estimate(fun, method=method)(X)
            assert np.all(np.isnan(result.grad))

    def test_of_one_output_alone(self):
        """An output that is lost leaves the others alone, with the mean."""

        def fun(x):
            return jnp.stack([jnp.log(x[0] - X[0]), loss(x)])

        rows = jaxfd.jacobian(fun, method=SPSA(KEY, 6, sigma=0.1))(X)
        exact = jaxfd.grad(loss, method=SPSA(KEY, 6, sigma=0.1))(X)
        assert np.all(np.isnan(rows[0]))
        np.testing.assert_allclose(rows[1], exact, rtol=1e-12)

    def test_error_counts_those_that_are_left(self):
        def one(key, lossy):
            method = SPSA(key, 12, sigma=0.1)
            return jaxfd.estimate(self._fun(jnp.nan) if lossy else loss, method=method)(X)

        keys = jax.random.split(KEY, 1500)
        found = jax.jit(jax.vmap(lambda key: one(key, True)))(keys)
        gradient, error = np.asarray(found.grad), np.asarray(found.error)
        good = np.all(np.isfinite(gradient), axis=1) & np.all(np.isfinite(error), axis=1)
        assert good.mean() > 0.95
        # The last entry is independent of which samples are lost.
        spread = gradient[good][:, 2].std()
        assert np.sqrt(np.mean(error[good][:, 2] ** 2)) == pytest.approx(spread, rel=0.25)


class TestBounds:
    @pytest.mark.parametrize(
        "method",
        [
            SPSA(KEY, 6, sigma=0.3),
            GaussianSmoothing(KEY, 6, 0.3, antithetic=False),
            Sphere(KEY, 6, sigma=0.3),
            jaxfd.LowRank(KEY, 6, sigma=0.3),
            Orthogonal(KEY, 6, sigma=0.3),
            RandomCoordinates(KEY, 6, sigma=0.3),
        ],
        ids=lambda m: type(m).__name__,
    )
    def test_no_point_outside(self, method):
        x = jnp.asarray([[0.0, 0.5], [1.0, 0.9], [0.1, 0.25]])
        lower, upper = np.zeros((3, 2)), np.array([[1.0, 1.0], [1.0, 0.95], [0.2, 0.25]])
        host = Host(lambda p: np.sum(np.sqrt(p) + np.sqrt(upper - p), axis=(1, 2)))
        jaxfd.grad(box_of(host), method=method, bounds=(lower, upper))(x)
        points = np.concatenate(host.calls)
        assert points.min() >= 0
        assert np.all(points <= upper)
        seen = []

        def fun(p):
            jax.debug.callback(lambda v: seen.append(np.asarray(v)), p)
            return jnp.sum(p)

        jax.block_until_ready(jaxfd.grad(fun, method=method, bounds=(lower, upper))(x))
        jax.effects_barrier()
        assert len(seen) == 12 if method.antithetic else 7
        assert np.min(seen) >= 0
        assert np.all(np.asarray(seen) <= upper)

    @settings(max_examples=25)
    @given(
        st.lists(
            st.tuples(st.floats(0, 1), st.sampled_from([0.0, 0.01, 0.1, 0.4, 5.0, np.inf])),
            min_size=3,
            max_size=3,
        ),
        st.lists(st.sampled_from([0.0, 0.01, 0.1, 0.4, 5.0, np.inf]), min_size=3, max_size=3),
        st.booleans(),
    )
    def test_linear_functions_near_walls(self, below, above, antithetic):
        """Signs, taken all eight ways, give the slopes exactly wherever there is any room."""
        x = np.array([a for a, _ in below])
        lower, upper = x - [b for _, b in below], x + above
        slopes = np.array([2.0, -3.0, 0.5])
        host = Host(lambda p: p @ slopes)
        method = RandomCoordinates(KEY, 3, sigma=0.2)
        found = jaxfd.grad(box_of(host), method=method, bounds=(lower, upper))(x)
        wide = upper > lower
        np.testing.assert_allclose(found, np.where(wide, slopes, 0), rtol=1e-9, atol=1e-9)
        many = SPSA(KEY, 400, sigma=0.2, antithetic=antithetic)
        result = jaxfd.estimate(box_of(host), method=many, bounds=(lower, upper))(x)
        error = np.asarray(result.error) + 1e-9
        assert np.all(np.abs(result.grad - np.where(wide, slopes, 0)) <= 5 * error)
        assert np.all(np.asarray(result.grad)[~wide] == 0)
        points = np.concatenate(host.calls)
        assert np.all((points >= lower) & (points <= upper))

    def test_in_a_kernel(self, dtype):
        slopes = np.array([2.0, -3.0, 0.5, 4.0], dtype)
        x = jnp.asarray([0.0, 0.5, 1.0, 2.0], dtype)
        bounds = (np.array([0, 0.45, 0.0, 2.0], dtype), np.array([1, 0.6, 1.0, 2.0], dtype))
        method = RandomCoordinates(KEY, 4, sigma=0.25)
        found = jax.jit(jaxfd.grad(lambda x: x @ slopes, method=method, bounds=bounds))(x)
        np.testing.assert_allclose(found, [2.0, -3.0, 0.5, 0.0], rtol=1e-4)
        rows = jaxfd.jacobian(
            lambda x: jnp.stack([x @ slopes, x[0]]), method=method, bounds=bounds
        )(x)
        np.testing.assert_allclose(
            rows, [[2.0, -3.0, 0.5, 0.0], [1, 0, 0, 0]], rtol=1e-4, atol=1e-6
        )

    def test_outside(self):
        gradient = jaxfd.grad(
            lambda x: jnp.sum(x), method=SPSA(KEY, 4, sigma=0.1), bounds=(0.0, 1.0)
        )
        x = jnp.asarray([0.5, 1.5])
        assert np.isnan(jax.jit(gradient)(x)[1])
        assert np.isfinite(jax.jit(gradient)(x)[0])
        with pytest.raises(ValueError, match="x lies outside bounds"):
            gradient(x)
        box = jaxfd.grad(box_of(lambda x: x.sum(-1)), method=SPSA(KEY, 4), bounds=(0.0, 1.0))
        with pytest.raises(ValueError, match="x lies outside bounds"):
            box(x)

    def test_far_from_walls_nothing_changes(self):
        method = SPSA(KEY, 4, sigma=0.1)
        free = jaxfd.grad(loss, method=method)(X)
        np.testing.assert_allclose(
            jaxfd.grad(loss, method=method, bounds=(-9.0, None))(X), free, rtol=1e-9
        )


@pytest.mark.parametrize(
    "method",
    [SPSA(KEY, 32, sigma=5e-3), GaussianSmoothing(KEY, 32, 5e-3), Orthogonal(KEY, 2, sigma=5e-3)],
    ids=lambda m: type(m).__name__,
)
@pytest.mark.parametrize("host", [False, True])
def test_no_point_on_a_wall_where_x_is_not(method, host):
    """A logarithm is minus infinity on it."""
    log = Host(lambda p: np.sum(np.log(p), axis=-1))
    fun = box_of(log) if host else lambda p: jnp.sum(jnp.log(p))
    found = jaxfd.grad(fun, method=method, bounds=(0.0, np.inf))(jnp.asarray([1e-3, 1.0]))
    assert np.all(np.isfinite(found))
    assert 300 < found[0] < 1000
