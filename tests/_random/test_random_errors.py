"""Bad input to random methods gets a clear error; and methods are values like any other."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _directions import ALL, FAMILIES, KEY, label, make

import jaxfd
from jaxfd import SPSA, GaussianSmoothing, Guided, LowRank, Orthogonal, RandomCoordinates, Sphere

X = np.array([1.0, 2.0, 3.0])
SCALAR = jax.ShapeDtypeStruct((), np.float64)
families = pytest.mark.parametrize("family", FAMILIES, ids=label)


def grad(method, x=X):
    return jaxfd.grad(lambda x: sum(jnp.sum(leaf) for leaf in jax.tree.leaves(x)), method=method)(x)


class TestMaking:
    @pytest.mark.parametrize("family", FAMILIES, ids=label)
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"num_samples": 0}, ValueError, r"num_samples must be 1 or more, got 0"),
            ({"num_samples": -3}, ValueError, r"num_samples must be 1 or more, got -3"),
            ({"num_samples": 2.0}, TypeError, r"num_samples must be an integer, got 2\.0"),
            ({"num_samples": True}, TypeError, r"num_samples must be an integer, got True"),
            ({"num_samples": None}, TypeError, r"num_samples must be an integer, got None"),
            ({"antithetic": "no"}, ValueError, r"antithetic must be one of True, False, got 'no'"),
            ({"baseline": "center"}, ValueError, r"'centre', 'leave_one_out', got 'center'"),
            ({"shaping": "ranks"}, ValueError, r"None, 'rank', 'standardized', got 'ranks'"),
            ({"combine": "sum"}, ValueError, r"'mean', 'least_squares', got 'sum'"),
        ],
        ids=str,
    )
    def test_options(self, family, options, error, message):
        with pytest.raises(error, match=rf"{family.__name__}: .*{message}"):
            family(KEY, **options)

    @pytest.mark.parametrize(
        "sigma", [0, 0.0, -1.0, np.nan, np.inf, {"a": 0.1, "b": -0.1}], ids=str
    )
    def test_sigma(self, sigma):
        with pytest.raises(ValueError, match=r"sigma must be positive and finite, got .*: give"):
            SPSA(KEY, sigma=sigma)
        with pytest.raises(ValueError, match=r"sigma must be positive"):
            GaussianSmoothing(KEY, 3, sigma)

    def test_leave_one_out(self):
        options = {"antithetic": False, "baseline": "leave_one_out"}
        for make_it in (
            lambda: Orthogonal(KEY, 2, **options),
            lambda: RandomCoordinates(KEY, 2, **options),
            lambda: Guided(KEY, 3, np.ones((1, 3)), **options),
        ):
            with pytest.raises(ValueError, match=r'independently.*use baseline="centre"'):
                make_it()
        with pytest.raises(ValueError, match=r"needs num_samples of 2 or more, got 1"):
            SPSA(KEY, 1, **options)

    @pytest.mark.parametrize(("rank", "error"), [(0, ValueError), (1.5, TypeError)])
    def test_rank(self, rank, error):
        with pytest.raises(error, match=rf"LowRank: rank must be .*, got {rank}"):
            LowRank(KEY, 4, rank=rank)


class TestUsing:
    @families
    def test_missing_key(self, family):
        with pytest.raises(TypeError, match=rf"{family.__name__} needs a PRNG key: set key="):
            grad(family(sigma=0.1))

    @pytest.mark.parametrize(
        "key", [0, 3.0, "a", np.array([0, 1]), np.array([1], np.uint32)], ids=str
    )
    def test_no_key(self, key):
        with pytest.raises(TypeError, match=r"SPSA: key must be a PRNG key, got .*jax.random.key"):
            grad(SPSA(key))

    @pytest.mark.parametrize("kind", [jax.random.key, jax.random.PRNGKey])
    def test_several_keys(self, kind):
        with pytest.raises(TypeError, match=r"one PRNG key, got an array of shape \(3.*jax.vmap"):
            grad(SPSA(jax.random.split(kind(0), 3)))

    def test_checked_by_every_door(self):
        for door in (
            jaxfd.grad,
            jaxfd.value_and_grad,
            jaxfd.jacobian,
            jaxfd.estimate,
            jaxfd.hessian,
            jaxfd.derivative,
            jaxfd.differentiable,
        ):
            with pytest.raises(TypeError, match="needs a PRNG key"):
                door(jnp.sum, method=SPSA())
        with pytest.raises(TypeError, match="needs a PRNG key"):
            jaxfd.blackbox(np.sum, SCALAR, method=SPSA())
        with pytest.raises(TypeError, match=r"such as SPSA\(\)"):
            jaxfd.grad(jnp.sum, method=SPSA)

    def test_gaussian_smoothing_needs_sigma(self):
        with pytest.raises(TypeError, match=r"GaussianSmoothing needs sigma.*set sigma=0\.1"):
            grad(GaussianSmoothing(KEY, 3))

    @pytest.mark.parametrize("box", [False, True], ids=["traced", "box"])
    @pytest.mark.parametrize(("family", "most"), [(Orthogonal, 6), (RandomCoordinates, 3)])
    def test_more_samples_than_there_are(self, family, most, box):
        fun = jaxfd.blackbox(np.sum, SCALAR) if box else jnp.sum
        with pytest.raises(ValueError, match=rf"num_samples is {most + 1}.*only|most.*take fewer"):
            jaxfd.grad(fun, method=family(KEY, most + 1))(X)
        jaxfd.grad(fun, method=family(KEY, most))(X)

    def test_sigma_that_does_not_fit(self):
        message = r"SPSA: sigma has a leaf of shape \(3,\): give one number for each leaf"
        for sigma in (np.full(3, 0.1), jnp.full(3, 0.1)):
            with pytest.raises(ValueError, match=message):
                grad(SPSA(KEY, sigma=sigma))
        with pytest.raises(ValueError, match=r"typical has a leaf of shape \(3,\): give one"):
            grad(SPSA(KEY, sigma=jaxfd.Relative(typical=np.ones(3))))
        with pytest.raises(ValueError, match=r"sigma has the structure .*give one number"):
            grad(SPSA(KEY, sigma={"a": 0.1}))
        with pytest.raises(TypeError, match=r"sigma must be a number.*got 'a'"):
            grad(SPSA(KEY, sigma="a"))

    @pytest.mark.parametrize(
        "subspace",
        [None, [1.0, 2.0], np.zeros((0, 3)), {"a": np.ones((1, 3)), "b": np.ones((2, 3))}],
        ids=["none", "numbers", "nothing", "lengths"],
    )
    def test_subspace_that_is_none(self, subspace):
        with pytest.raises(ValueError, match=r"Guided: subspace must have leaves with one more"):
            grad(Guided(KEY, 5, subspace, sigma=0.1))

    @pytest.mark.parametrize(
        ("subspace", "x"),
        [
            (np.ones((1, 2)), X),
            (np.ones((1, 3, 1)), X),
            (np.ones((1, 3)), {"a": X, "b": X}),
            ([np.ones((1, 3)), np.ones((1, 2))], [X, X]),
            (np.ones((1, 3), complex), X),
        ],
        ids=["size", "rank", "leaves", "one", "complex"],
    )
    @pytest.mark.parametrize("box", [False, True], ids=["traced", "box"])
    def test_subspace_that_does_not_fit(self, subspace, x, box):
        method = Guided(KEY, 5, subspace, sigma=0.1)
        fun = jaxfd.blackbox(lambda x: 0.0, SCALAR) if box else lambda x: 0.0
        message = r"Guided: subspace has vectors of shapes .*real leaves of shapes .*like the arg"
        with pytest.raises(ValueError, match=message):
            jaxfd.grad(fun, method=method)(x)

    def test_subspace_takes_all_samples(self):
        with pytest.raises(ValueError, match=r"num_samples is 2, but the subspace alone takes 2"):
            grad(Guided(KEY, 2, np.ones((2, 3)), sigma=0.1))

    def test_shaping_of_complex_outputs(self):
        method = SPSA(KEY, 4, sigma=0.1, shaping="rank")
        with pytest.raises(TypeError, match=r"SPSA: shaping needs real outputs, got complex128"):
            jaxfd.jacobian(lambda x: x.astype(np.complex128), method=method)(X)


class TestValues:
    @pytest.mark.parametrize("family", ALL, ids=label)
    def test_pytrees(self, family):
        method = make(family, 3, jnp.asarray(X), jax.random.key(1), combine="least_squares")
        leaves, tree = jax.tree.flatten(method)
        again = jax.tree.unflatten(tree, leaves)
        assert type(again) is family
        assert again.num_samples == 3
        assert again.combine == "least_squares"
        assert jax.tree.structure(jax.tree.map(lambda leaf: leaf, method)) == tree
        for value in (None, object(), 0, -1.0, "word"):
            assert type(jax.tree.map(lambda _, v=value: v, method)) is family
        paths = [path[0].name for path, _ in jax.tree_util.tree_leaves_with_path(method)]
        assert paths == ["key", "sigma", *(["subspace"] if family is Guided else [])]
        with pytest.raises(dataclasses.FrozenInstanceError):
            method.num_samples = 4
        assert family.__name__ in repr(method)

    def test_structures_know_their_class(self):
        """JAX would run what it has compiled for one family with another."""
        methods = [family(KEY, 2, sigma=0.1) for family in FAMILIES]
        structures = [jax.tree.structure(m) for m in methods]
        for i, a in enumerate(structures):
            assert all(a != b for b in structures[:i])
        for option in ({"num_samples": 3}, {"antithetic": False}, {"shaping": "rank"}):
            assert (
                jax.tree.structure(SPSA(KEY, **{"num_samples": 2, "sigma": 0.1, **option}))
                != (structures[0])
            )

    def test_as_an_argument(self):
        """Of jit and of vmap; another key or sigma compiles nothing anew."""
        traces = []

        @jax.jit
        def gradient(method, x):
            traces.append(type(method))
            return jaxfd.grad(lambda x: jnp.sum(x**2), method=method)(x)

        keys = jax.random.split(jax.random.key(0), 3)
        alone = [gradient(SPSA(key, 2, sigma=0.1), X) for key in keys]
        gradient(SPSA(keys[0], 2, sigma=0.2), X)
        assert traces == [SPSA]
        gradient(Sphere(keys[0], 2, sigma=0.1), X)
        gradient(SPSA(keys[0], 2, sigma=0.1, antithetic=False), X)
        assert traces == [SPSA, Sphere, SPSA]
        for method, axes in (
            (SPSA(keys, 2, sigma=np.full(3, 0.1)), 0),
            (SPSA(keys, 2, sigma=0.1), SPSA(0, 2, sigma=None)),
            (
                SPSA(keys, 2, sigma=np.full(3, 0.1)),
                jax.tree.map(lambda _: 0, SPSA(keys, 2, sigma=0.1)),
            ),
        ):
            many = jax.vmap(gradient, (axes, None))(method, X)
            np.testing.assert_allclose(many, np.stack(alone), rtol=1e-9)

    def test_in_a_scan(self):
        method = SPSA(jax.random.key(0), 2, sigma=0.1)

        def step(carry, _):
            method, x = carry
            key, now = jax.random.split(method.key)
            x = x - 0.05 * jaxfd.grad(
                lambda x: jnp.sum(x**2), method=dataclasses.replace(method, key=now)
            )(x)
            return (dataclasses.replace(method, key=key), x), None

        method = jax.tree.map(jnp.asarray, method)
        (_, x), _ = jax.lax.scan(step, (method, jnp.asarray(X)), length=60)
        assert np.abs(x).max() < 0.2
