"""Gradients along random directions, against analytic answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _directions import (
    ALL,
    FAMILIES,
    KEY,
    by_hand,
    directions,
    factors,
    label,
    make,
    off,
)
from _tools import close
from hypothesis import HealthCheck, given, settings, strategies as st

import jaxfd
from jaxfd import SPSA, GaussianSmoothing, Guided, LowRank, Orthogonal, RandomCoordinates, Sphere

families = pytest.mark.parametrize("family", FAMILIES, ids=label)
some = pytest.mark.parametrize(
    "family", [SPSA, Sphere, LowRank, RandomCoordinates, Guided], ids=label
)
X = np.array([0.3, -1.2, 2.1, 0.7])


def bowl(x):
    """Not quadratic, so that the points matter."""
    return (np if isinstance(x, np.ndarray) else jnp).sum(x**3 + x * x[..., ::-1], axis=-1)


def slope_of(x):
    return 3 * x**2 + 2 * x[::-1]


class TestByHand:
    """The estimate is what its formula says, written out in NumPy."""

    @pytest.mark.parametrize(
        ("family", "antithetic"),
        [*((family, True) for family in ALL), (SPSA, False), (Guided, False)],
        ids=lambda v: label(v) or ("both" if v else "one-sided"),
    )
    def test_mean(self, family, antithetic):
        x = jnp.asarray(X)
        count = 4 if family is RandomCoordinates else 6
        method = make(family, count, x, antithetic=antithetic)
        u = directions(method, [x])
        hand = by_hand(bowl, X, u, 0.1, antithetic, factors(method, 4))
        np.testing.assert_allclose(jaxfd.grad(bowl, method=method)(x), hand, rtol=1e-9, atol=1e-9)

    def test_sigma_of_each_leaf(self):
        """The direction of a leaf is divided by the leaf's own distance."""
        tree = {"a": jnp.asarray(X), "b": jnp.asarray(0.5)}
        method = SPSA(KEY, 5, sigma={"a": 0.1, "b": 0.3})
        found = jaxfd.grad(lambda t: bowl(t["a"]) * t["b"], method=method)(tree)
        u = directions(method, jax.tree.leaves(tree))
        h = np.r_[np.full(4, 0.1), 0.3]

        def fun(z):
            return bowl(z[:, :4]) * z[:, 4]

        z = np.r_[X, 0.5]
        slopes = (fun(z + h * u) - fun(z - h * u)) / 2
        hand = np.mean(slopes[:, None] * u, axis=0) / h
        np.testing.assert_allclose(np.r_[found["a"], found["b"]], hand, rtol=1e-9)

    def test_lost_in_rounding(self):
        """No silent zeros where sigma is less than the spacing of x."""
        x = jnp.full(3, 1e8, np.float32)
        method = Orthogonal(KEY, 3, sigma=1e-4)
        found = jaxfd.estimate(lambda x: jnp.sum(x.astype(np.float64) ** 2), method=method)(x)
        np.testing.assert_allclose(found.grad, 2e8, rtol=1e-4)
        assert np.all(found.step > 1e4)
        low = jnp.ones(4, jnp.bfloat16)
        found = jaxfd.grad(
            lambda x: jnp.sum(x.astype(np.float32) ** 2),
            method=SPSA(KEY, 8, sigma=1e-4, combine="least_squares"),
        )(low)
        np.testing.assert_allclose(found.astype(np.float32), 2.0, rtol=0.02)

    @pytest.mark.parametrize("family", [SPSA, GaussianSmoothing], ids=label)
    @pytest.mark.parametrize("host", [False, True])
    def test_entries_lost_in_rounding_go_farther_alone(self, family, host):
        """The others keep sigma, and what is divided by is what each was moved."""
        tree = {"a": jnp.array([1e5, 1.0], np.float32), "b": jnp.array(0.5, np.float32)}

        def fun(t):
            return 2 * (t["a"][0] - 1e5) + 3 * (t["a"][1] - 1) + 4 * (t["b"] - 0.5)

        level = 1e-13 if host else 1e-3
        box = jaxfd.blackbox(fun, jax.ShapeDtypeStruct((), np.float32)) if host else fun
        method = family(KEY, 400, sigma=level)
        found = jaxfd.estimate(box, method=method)(tree)
        spacing = 2.0**-36 if host else 2.0**-7
        first, second = np.asarray(found.step["a"])
        assert spacing / 2 < first <= 4 * spacing
        np.testing.assert_allclose([second, found.step["b"]], level, rtol=1e-6)
        grad = [*np.asarray(found.grad["a"]), float(found.grad["b"])]
        # Others add noise in proportion to how much farther they go.
        noise = np.array([1.0, first / level, first / level]) * 10 / 20
        assert np.all(np.abs(grad - np.array([2.0, 3.0, 4.0])) < 4 * noise)

    @pytest.mark.parametrize("sigma", [None, jaxfd.Relative(), jaxfd.Relative(1e-3, typical=2.0)])
    def test_sigma_relative_to_the_largest_entry(self, sigma):
        method = SPSA(KEY, 3, sigma=sigma)
        found = jaxfd.estimate(bowl, method=method)(jnp.asarray(10 * X))
        rel = np.finfo(float).eps ** (1 / 3) if sigma is None or sigma.rel is None else 1e-3
        np.testing.assert_allclose(found.step, rel * 21.0)
        # One-sided points balance otherwise, small arguments count as `typical`.
        method = SPSA(KEY, 3, sigma=sigma, antithetic=False)
        found = jaxfd.estimate(bowl, method=method)(jnp.asarray(X * 1e-3))
        rel = np.finfo(float).eps ** (1 / 2) if rel != 1e-3 else rel
        np.testing.assert_allclose(found.step, rel * (2.0 if rel == 1e-3 else 1.0))


@pytest.mark.heavy
class TestComplete:
    """With as many samples as entries nothing is missing."""

    @pytest.mark.parametrize("family", [Orthogonal, RandomCoordinates], ids=label)
    def test_quadratic(self, family, dtype):
        x = jnp.asarray(X, dtype)
        method = family(KEY, 4)
        tol = 1e-9 if dtype == np.float64 else 1e-3
        value, gradient = jaxfd.value_and_grad(lambda x: x @ x + x[0], method=method)(x)
        close(gradient, 2 * x + np.eye(4, dtype=dtype)[0], tol)
        np.testing.assert_allclose(value, x @ x + x[0], rtol=1e-6)

    def test_coordinates_are_central_differences(self):
        x = jnp.asarray(X)
        found = jaxfd.grad(bowl, method=RandomCoordinates(KEY, 4, sigma=0.1))(x)
        np.testing.assert_allclose(
            found, jaxfd.grad(bowl, method=jaxfd.Central(step=0.1))(x), rtol=1e-9
        )
        few = RandomCoordinates(KEY, 2, sigma=0.1, combine="least_squares")
        found = np.asarray(jaxfd.grad(bowl, method=few)(x))
        assert np.sum(found == 0) == 2
        np.testing.assert_allclose(found[found != 0], (slope_of(X) + 0.01)[found != 0], rtol=1e-9)
        # The mean stands for those that were not chosen.
        found = np.asarray(jaxfd.grad(bowl, method=RandomCoordinates(KEY, 2, sigma=0.1))(x))
        np.testing.assert_allclose(
            found[found != 0], 2 * (slope_of(X) + 0.01)[found != 0], rtol=1e-9
        )

    @pytest.mark.parametrize("size", [200, 256])
    def test_hadamard(self, size):
        """Several leaves of sizes that are no multiples of a word."""
        slopes = np.random.default_rng(0).normal(size=size)
        x = [jnp.zeros(37), jnp.zeros((3, 5, 2), np.float32), jnp.zeros(size - 67)]
        parts = [
            jnp.asarray(slopes[:37]),
            jnp.asarray(slopes[37:67].reshape(3, 5, 2)),
            jnp.asarray(slopes[67:]),
        ]

        def fun(x):
            return sum(jnp.vdot(a.astype(np.float64), b) for a, b in zip(x, parts, strict=True))

        combine = "mean" if size == 256 else "least_squares"
        method = Orthogonal(KEY, size, sigma=0.25, combine=combine)
        found = jaxfd.grad(fun, method=method)(x)
        close(found, [p.astype(a.dtype) for p, a in zip(parts, x, strict=True)], 1e-5)

    @pytest.mark.parametrize("family", [SPSA, LowRank, Guided], ids=label)
    def test_least_squares(self, family, dtype):
        x = jnp.asarray(X, dtype)
        method = make(family, 8, x, combine="least_squares")
        tol = 1e-8 if dtype == np.float64 else 1e-3
        close(
            jaxfd.grad(lambda x: x @ x + x[0], method=method)(x),
            2 * x + np.eye(4, dtype=dtype)[0],
            tol,
        )

    @pytest.mark.parametrize("family", [SPSA, LowRank, Guided], ids=label)
    def test_least_squares_is_a_projection(self, family):
        """It explains what was seen, and nothing else: done again it changes nothing."""
        x = jnp.asarray(X)
        method = make(family, 3, x, combine="least_squares")
        first = jaxfd.grad(bowl, method=method)(x)
        u = directions(method, [x])
        seen = (bowl(X + 0.1 * u) - bowl(X - 0.1 * u)) / 0.2
        np.testing.assert_allclose(u @ first, seen, rtol=1e-9)
        again = jaxfd.grad(lambda x: x @ first, method=method)(x)
        np.testing.assert_allclose(again, first, rtol=1e-9, atol=1e-9)

    def test_least_squares_of_more_samples_than_entries_in_mixed_precision(self):
        """The rounding of float32 directions is no information, even in float64."""
        x = jnp.asarray(X, np.float32)
        method = GaussianSmoothing(KEY, 40, 0.1, combine="least_squares")
        found = jaxfd.grad(lambda x: bowl(x.astype(np.float64)), method=method)(x)
        u = directions(method, [x])
        seen = (bowl(X + 0.1 * u) - bowl(X - 0.1 * u)) / 0.2
        np.testing.assert_allclose(found, np.linalg.lstsq(u, seen)[0], rtol=1e-4)
        box = jaxfd.blackbox(bowl, jax.ShapeDtypeStruct((), np.float64))
        np.testing.assert_allclose(jaxfd.grad(box, method=method)(x), found, rtol=1e-4)

    def test_guided_has_its_subspace_exactly(self):
        x = jnp.linspace(-1.0, 1.0, 40)
        past = jnp.stack([2 * x, jnp.zeros(40), 4 * x])  # one vector, written three times
        found = jaxfd.grad(lambda x: x @ x, method=Guided(KEY, 4, past, sigma=0.1))(x)
        np.testing.assert_allclose(found, 2 * x, rtol=1e-9, atol=1e-12)
        # Nothing known yet: normal directions, of which the first places are spent.
        none = Guided(KEY, 5, jnp.zeros((2, 40)), sigma=0.1)
        u = directions(none, [x])
        hand = by_hand(lambda x: np.sum(x**2, -1), x, u[2:], 0.1)
        np.testing.assert_allclose(jaxfd.grad(lambda x: x @ x, method=none)(x), hand, rtol=1e-9)


@pytest.mark.heavy
class TestOnAverage:
    """Right in the mean over keys, to 4.5 standard errors."""

    @some
    def test_gradient_of_the_blurred_function(self, family):
        """A sum of cubes: 3 x^2 + m sigma^2, m the fourth moment of the entries."""
        x = jnp.asarray(np.linspace(-1.0, 1.5, 12).reshape(4, 3))
        moments = {Orthogonal: 36 / 14, Sphere: 36 / 14, GaussianSmoothing: 3.0, LowRank: 9.0}
        cubic = family is not Guided
        sigma, keys = 0.5, jax.random.split(jax.random.key(1), 6000)

        def one(key):
            method = make(family, 3, x, key, sigma)
            fun = (lambda x: jnp.sum(x**3)) if cubic else (lambda x: jnp.sum(x**2))
            return jaxfd.grad(fun, method=method)(x)

        found = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=1000))(keys)
        exact = 3 * x**2 + moments.get(family, 1.0) * sigma**2 if cubic else 2 * x
        assert off(found, exact) < 4.5

    @pytest.mark.parametrize(
        ("family", "options"),
        [
            (LowRank, {}),
            (SPSA, {"antithetic": False}),
            (GaussianSmoothing, {"antithetic": False, "baseline": "leave_one_out"}),
            (Guided, {}),
        ],
    )
    def test_error_is_the_standard_error(self, family, options):
        x = jnp.asarray(np.linspace(-1.0, 1.5, 12).reshape(4, 3))

        def one(key):
            found = jaxfd.estimate(
                lambda x: jnp.sum(x**3) + x[0, 0] * x[1, 1],
                method=make(family, 20, x, key, **options),
            )(x)
            return found.grad, found.error

        keys = jax.random.split(jax.random.key(2), 2000)
        gradients, errors = jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=500))(keys)
        spread = np.var(gradients, axis=0)
        np.testing.assert_allclose(np.mean(errors**2, axis=0), spread, rtol=0.25)
        assert float(np.mean(errors**2)) == pytest.approx(float(np.mean(spread)), rel=0.05)

    def test_error_is_unknown_for_one_sample_and_for_least_squares(self):
        for options in ({"num_samples": 1}, {"num_samples": 4, "combine": "least_squares"}):
            found = jaxfd.estimate(bowl, method=SPSA(KEY, sigma=0.1, **options))(jnp.asarray(X))
            assert np.all(np.isnan(found.error))


class TestComplex:
    z = np.array([1 + 2j, 3 - 1j])

    @pytest.mark.parametrize("family", [Orthogonal, RandomCoordinates], ids=label)
    def test_argument(self, family):
        def energy(z):
            return jnp.sum(jnp.abs(z) ** 2) + z[0].imag

        z = jnp.asarray(self.z)
        close(jaxfd.grad(energy, method=family(KEY, 4))(z), jax.grad(energy)(z), 1e-8)

    def test_holomorphic(self):
        z = jnp.asarray(self.z)
        found = jaxfd.grad(lambda z: jnp.sum(z**2), holomorphic=True, method=Orthogonal(KEY, 2))(z)
        close(found, 2 * z, 1e-8)

    def test_output(self):
        def wave(x):
            return jnp.exp(1j * x.astype(np.complex128))

        x = jnp.asarray([0.5, 1.0])
        exact = jnp.diag(1j * wave(x))
        method = Orthogonal(KEY, 2, sigma=1e-4)
        close(jaxfd.jacobian(wave, method=method)(x), exact, 1e-7)
        box = jaxfd.blackbox(lambda x: np.exp(1j * x), jax.ShapeDtypeStruct((2,), np.complex128))
        close(jaxfd.jacobian(box, method=method)(x), exact, 1e-7)
        close(
            jaxfd.jacobian(wave, method=make(SPSA, 4, combine="least_squares", sigma=1e-4))(x),
            exact,
            1e-7,
        )


class TestTrees:
    @pytest.mark.parametrize("family", [LowRank, Orthogonal, RandomCoordinates], ids=label)
    def test_empty(self, family):
        method = family(KEY, 2, sigma=0.1)
        box = jaxfd.blackbox(lambda x: np.sum(x), jax.ShapeDtypeStruct((), np.float64))
        for fun in (jnp.sum, box):
            close(jaxfd.grad(fun, method=method)(jnp.zeros((0, 2))), jnp.zeros((0, 2)), 0)

        def total(tree):
            return tree["empty"].sum() + tree["x"].sum()

        tree = {"empty": jnp.zeros((2, 0)), "x": jnp.ones(2)}
        box = jaxfd.blackbox(total, jax.ShapeDtypeStruct((), np.float64))
        found = jaxfd.grad(total, method=method)(tree)
        assert jax.tree.map(jnp.shape, found) == {"empty": (2, 0), "x": (2,)}
        close(jaxfd.grad(box, method=method)(tree), found, 1e-12)

    @families
    def test_scalar(self, family):
        x = jnp.asarray(3.0)
        method = family(KEY, 1, sigma=0.1)
        found = float(jaxfd.grad(lambda x: x**2, method=method)(x))
        u = directions(method, [x]).item()
        assert found == pytest.approx(6.0 * u**2)

    DTYPES = (jnp.float16, jnp.bfloat16, np.float32, np.float64, np.complex64, np.complex128)

    @staticmethod
    def _leaf(dtype, shape, seed):
        numbers = np.random.default_rng(seed).uniform(0.5, 2.0, (2, *shape))
        is_complex = jnp.issubdtype(dtype, np.complexfloating)
        return jnp.asarray(numbers[0] + 1j * numbers[1] if is_complex else numbers[0], dtype)

    @settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.recursive(
            st.builds(
                lambda *args: TestTrees._leaf(*args),
                st.sampled_from(DTYPES),
                st.sampled_from([(), (1,), (2, 3), (0,), (2, 0), (2, 1, 3)]),
                st.integers(0, 9),
            ),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
                | st.tuples(inner, st.none())
            ),
            max_leaves=3,
        ),
        st.sampled_from([Orthogonal, RandomCoordinates, LowRank, SPSA]),
    )
    def test_any_tree(self, tree, family):
        """Structure, shapes, dtypes as from `jax.grad`; and the numbers, where all are seen."""

        def energy(tree):
            total = jnp.zeros((), np.float64)
            for leaf in jax.tree.leaves(tree):
                wide = leaf.astype(np.complex128 if jnp.iscomplexobj(leaf) else np.float64)
                total = total + jnp.sum(jnp.abs(wide) ** 2 + wide.real)
            return total

        def slope(leaf):
            wide = np.asarray(leaf).astype(np.complex128 if jnp.iscomplexobj(leaf) else np.float64)
            return jnp.asarray(2 * np.conj(wide) + 1, leaf.dtype)

        leaves = jax.tree.leaves(tree)
        size = sum(leaf.size * (2 if jnp.iscomplexobj(leaf) else 1) for leaf in leaves)
        complete = family in (Orthogonal, RandomCoordinates)
        found = jaxfd.grad(energy, method=family(KEY, max(size, 1)))(tree)
        eps = max([float(jnp.finfo(leaf.dtype).eps) for leaf in leaves], default=1e-16)
        close(found, jax.tree.map(slope, tree), 8 * eps ** (2 / 3) if complete else 1e3)
