"""Random methods wherever they run: transforms, jit, vmap, black boxes, hooks; what that costs."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _directions import ALL, KEY, make
from _tools import Host, close

import jaxfd
from jaxfd import SPSA, GaussianSmoothing, Guided, LowRank, Orthogonal, RandomCoordinates

SCALAR = jax.ShapeDtypeStruct((), np.float64)
X = np.array([0.3, -1.2, 2.1])


def loss(x):
    return (np if isinstance(x, np.ndarray) else jnp).sum(x**3 + x * x[..., ::-1], axis=-1)


def vector(x):
    xp = np if isinstance(x, np.ndarray) else jnp
    return xp.stack([xp.sin(x[..., 0]) * x[..., 1], x[..., 2] ** 2], -1)


# The same function as JAX traces it and as the host is called with it, differentiated with the
# same directions.
FOUR = SPSA(KEY, 4, sigma=0.1)

RANKS = {"antithetic": False, "shaping": "rank"}
SQUARES = {"combine": "least_squares"}


class TestTransforms:
    def test_they_agree(self):
        x = jnp.asarray(X)
        gradient = jaxfd.grad(loss, method=FOUR)(x)
        value, same = jaxfd.value_and_grad(loss, method=FOUR)(x)
        np.testing.assert_array_equal(same, gradient)
        np.testing.assert_allclose(value, loss(x), rtol=1e-14)
        result = jaxfd.estimate(loss, method=FOUR)(x)
        np.testing.assert_allclose(result.grad, gradient, rtol=1e-12)
        assert result.value == value
        np.testing.assert_allclose(result.step, 0.1)
        assert not np.any(result.one_sided)
        assert jax.tree.map(jnp.shape, (result.error, result.step)) == ((3,), (3,))
        aux, (gradient_, word) = (
            None,
            jaxfd.grad(lambda x: (loss(x), {"twice": 2 * x}), has_aux=True, method=FOUR)(x),
        )
        np.testing.assert_allclose(gradient_, gradient, rtol=1e-12)
        np.testing.assert_array_equal(word["twice"], 2 * x)
        assert aux is None
        rows = jaxfd.jacobian(lambda x: {"a": loss(x), "v": vector(x)}, method=FOUR)(x)
        np.testing.assert_allclose(rows["a"], gradient, rtol=1e-12)
        first = jaxfd.grad(lambda x: vector(x)[0], method=FOUR)(x)
        np.testing.assert_allclose(rows["v"][0], first, rtol=1e-12)
        assert rows["v"].shape == (2, 3)

    def test_several_arguments(self):
        def fun(a, b, *, scale):
            return scale * loss(a) * b

        found = jaxfd.grad(fun, (0, 1), method=Orthogonal(KEY, 4, sigma=1e-4))(
            jnp.asarray(X), jnp.asarray(2.0), scale=3.0
        )
        exact = jax.grad(fun, (0, 1))(jnp.asarray(X), jnp.asarray(2.0), scale=3.0)
        close(found, exact, 1e-6)

    def test_transforms_with_directions_of_their_own(self):
        """There the method is its stencil."""

        def run(m, x, v, t):
            return (
                jaxfd.jvp(loss, (x,), (v,), method=m),
                jaxfd.hvp(loss, (x,), (v,), method=m),
                jaxfd.hessian(loss, method=m)(x),
                jaxfd.derivative(jnp.sin, 2, method=m)(t),
            )

        @jax.jit
        def both(methods, *args):
            return [run(m, *args) for m in methods]

        args = jnp.asarray(X), jnp.asarray([1.0, 0.5, -2.0]), 0.4
        for methods in (
            (FOUR, jaxfd.Central(step=0.1)),
            (SPSA(KEY, 4, sigma=0.1, antithetic=False), jaxfd.Forward(step=0.1)),
        ):
            close(*both(methods, *args), 1e-12)

    def test_jit_vmap_scan(self, dtype):
        """The same key makes the same numbers, alone and in a batch."""
        batch = jnp.asarray(np.stack([X, X + 1.0, X * 0]), dtype)
        keys = jax.random.split(jax.random.key(3), 3)
        tol = 1e-11 if dtype == np.float64 else 1e-3

        @jax.jit
        def gradient(key, x):
            return jaxfd.grad(loss, method=SPSA(key, 4, sigma=0.1))(x)

        alone = jnp.stack([gradient(key, x) for key, x in zip(keys, batch, strict=True)])
        close(jax.jit(jax.vmap(gradient))(keys, batch), alone, tol)
        _, scanned = jax.lax.scan(lambda c, kx: (c, gradient(*kx)), 0, (keys, batch))
        close(scanned, alone, tol)
        for axes in ((0, None), (None, 0)):
            many = jax.vmap(gradient, axes)(
                keys if axes[0] == 0 else keys[0], batch if axes[1] == 0 else batch[0]
            )
            close(many[0], alone[0], tol)
        assert np.abs(alone[1] - gradient(keys[0], batch[1])).max() > 0.01
        np.testing.assert_array_equal(gradient(keys[0], batch[0]), alone[0])
        np.testing.assert_array_equal(
            jaxfd.grad(loss, method=SPSA(keys[0], 4, sigma=0.1))(batch[0]).dtype, dtype
        )

    def test_differentiable_in_x(self):
        """An estimate is a function like any other, with a derivative of its own."""
        x = jnp.asarray(X)
        method = Orthogonal(KEY, 3, sigma=0.1)
        found = jax.jacrev(jaxfd.grad(lambda x: jnp.sum(x**2 * x[0]), method=method))(x)
        np.testing.assert_allclose(found, jax.hessian(lambda x: jnp.sum(x**2 * x[0]))(x), atol=1e-9)


class TestKeys:
    def test_raw_and_typed_keys(self):
        x = jnp.asarray(X)
        gradient = jax.jit(lambda key: jaxfd.grad(loss, method=SPSA(key, 9, sigma=0.1))(x))
        typed, raw = jax.random.key(5), jax.random.PRNGKey(5)
        np.testing.assert_array_equal(gradient(raw), gradient(typed))
        np.testing.assert_array_equal(gradient(np.asarray(raw)), gradient(typed))
        assert np.any(gradient(jax.random.key(6)) != gradient(typed))

    @pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
    def test_other_generators(self, impl):
        """Under vmap rbg makes other numbers; points and sums are made of the same ones even so."""
        slopes = np.array([1.0, -2.0, 0.5])
        x = jnp.asarray(X)

        def gradient(key):
            return jaxfd.grad(lambda x: x @ slopes, method=SPSA(key, 4000, sigma=0.1))(x)

        keys = jax.random.split(jax.random.key(5, impl=impl), 2)
        found = jax.jit(jax.vmap(gradient))(keys)
        assert np.abs(found - slopes).max() < 5 * np.sqrt(5.25 / 4000)
        np.testing.assert_allclose(found[1], gradient(keys[1]), rtol=1e-9)
        assert np.any(found[0] != found[1])


@pytest.mark.heavy
class TestChunks:
    @pytest.mark.parametrize(
        "method",
        [
            SPSA(KEY, 200, sigma=0.1),
            LowRank(KEY, 100, sigma=0.1, antithetic=False),
        ],
        ids=lambda m: type(m).__name__,
    )
    def test_the_same_bits_whatever_the_chunk(self, method):
        dtype = np.dtype(np.float32)
        rng = np.random.default_rng(0)
        inputs = jnp.asarray(rng.normal(size=(64, 16)), dtype)
        params = [jnp.asarray(rng.normal(size=s) / 4, dtype) for s in ((16, 64), (64,), (64, 1))]

        def mlp(params):
            hidden = jnp.tanh(inputs @ params[0] + params[1])
            return jnp.mean((jax.nn.relu(hidden @ params[2]) - 1.0) ** 2)

        found = [
            jaxfd.value_and_grad(mlp, method=method, chunk_size=chunk_size)(params)
            for chunk_size in (None, 7)
        ]
        for other in found[1:]:
            jax.tree.map(np.testing.assert_array_equal, found[0], other)


class TestEvaluations:
    @pytest.mark.parametrize(
        ("options", "grad", "value"),
        [
            ({}, 10, 11),
            ({"antithetic": False}, 6, 6),
            ({"antithetic": False, "baseline": "leave_one_out"}, 5, 6),
            ({"shaping": "rank"}, 10, 11),
            ({"combine": "least_squares"}, 10, 11),
        ],
        ids=str,
    )
    def test_counts(self, options, grad, value):
        host = Host(loss)
        box = jaxfd.blackbox(host, SCALAR, vectorized=True)
        method = SPSA(KEY, 5, sigma=0.1, **options)
        jaxfd.grad(box, method=method)(X)
        assert [len(batch) for batch in host.taken()] == [grad]
        jaxfd.value_and_grad(box, method=method)(X)
        assert [len(batch) for batch in host.taken()] == [value]
        result = jaxfd.estimate(box, method=method)(X)
        assert [len(batch) for batch in host.taken()] == [value]
        assert result.evaluations == value
        assert result.evaluations.dtype == np.int32
        traced = jax.eval_shape(jaxfd.estimate(loss, method=method), X)
        assert traced.evaluations == jax.ShapeDtypeStruct((), np.int32)

    def test_traced(self):
        seen = []

        def fun(x):
            jax.debug.callback(lambda v: seen.append(v), x[0])
            return jnp.sum(x)

        for method, count in ((FOUR, 8), (SPSA(KEY, 4, sigma=0.1, antithetic=False), 5)):
            jax.block_until_ready(jaxfd.grad(fun, method=method)(jnp.asarray(X)))
            jax.effects_barrier()
            assert len(seen) == count
            seen.clear()
            assert jaxfd.estimate(loss, method=method)(X).evaluations == (9 if count == 8 else 5)


class TestBlackBoxes:
    @pytest.mark.parametrize(
        ("family", "dtype", "options"),
        [
            *((family, np.float64, {}) for family in ALL),
            (SPSA, np.float32, {}),
            (SPSA, np.float64, RANKS),
            (SPSA, np.float64, SQUARES),
            (Guided, np.float64, SQUARES),
            pytest.param(Guided, np.float64, RANKS, marks=pytest.mark.heavy),
            pytest.param(Guided, np.float32, {}, marks=pytest.mark.heavy),
        ],
        ids=lambda v: "-".join(v) or "mean" if isinstance(v, dict) else v.__name__,
    )
    def test_the_same_directions_as_a_kernel(self, family, dtype, options):
        """With a sigma given, host and kernel agree to rounding."""
        x = jnp.asarray(X, dtype)
        tol = 1e-9 if dtype == np.float64 else 2e-3
        box = jaxfd.blackbox(
            loss,
            SCALAR if dtype == np.float64 else jax.ShapeDtypeStruct((), np.float32),
            vectorized=True,
        )
        method = make(family, 3, x, **options)
        traced, host = (jaxfd.estimate(f, method=method)(x) for f in (loss, box))
        close(host, traced, tol)

    def test_jacobian_of_trees(self):
        def fun(tree):
            return {"v": vector(tree["x"]) * tree["s"], "s": loss(tree["x"])}

        def host(tree):
            return {"v": vector(tree["x"]) * tree["s"][..., None], "s": loss(tree["x"])}

        tree = {"x": jnp.asarray(X), "s": jnp.asarray(2.0, np.float32)}
        out = {"v": jax.ShapeDtypeStruct((2,), np.float64), "s": SCALAR}
        box = jaxfd.blackbox(host, out, vectorized=True)
        method = GaussianSmoothing(KEY, 3, 0.1)
        traced = jaxfd.jacobian(
            lambda t: fun({"x": t["x"], "s": t["s"].astype(np.float64)}), method=method
        )(tree)
        close(jaxfd.jacobian(box, method=method)(tree), traced, 1e-6)

    def test_executor_chunks_and_vectorized(self):
        x = jnp.asarray(X)
        exact = jaxfd.grad(loss, method=FOUR)(x)
        with ThreadPoolExecutor(2) as pool:
            box = jaxfd.blackbox(loss, SCALAR, executor=pool)
            np.testing.assert_allclose(jaxfd.grad(box, method=FOUR)(x), exact, rtol=1e-12)
        host = Host(loss)
        box = jaxfd.blackbox(host, SCALAR, vectorized=True)
        for chunk_size, sizes in ((3, [3, 3, 2]), (8, [8]), (100, [8]), (None, [8])):
            found = jaxfd.grad(box, method=FOUR, chunk_size=chunk_size)(x)
            np.testing.assert_allclose(found, exact, rtol=1e-12)
            assert [len(batch) for batch in host.taken()] == sizes

    def test_vmap_over_x_and_over_keys(self):
        host = Host(loss)
        box = jaxfd.blackbox(host, SCALAR, vectorized=True)
        batch = jnp.asarray(np.stack([X, X + 1.0]))
        keys = jax.random.split(KEY, 2)
        one = jax.jit(lambda key, x: jaxfd.grad(loss, method=SPSA(key, 4, sigma=0.1))(x))

        def gradient(key, x):
            return jaxfd.grad(box, method=SPSA(key, 4, sigma=0.1))(x)

        exact = jnp.stack([one(keys[0], x) for x in batch])
        close(jax.jit(jax.vmap(gradient, (None, 0)))(keys[0], batch), exact, 1e-9)
        assert [len(points) for points in host.taken()] == [16]
        exact = jnp.stack([one(key, batch[0]) for key in keys])
        close(jax.vmap(gradient, (0, None))(keys, batch[0]), exact, 1e-9)
        exact = jnp.stack([one(key, x) for key, x in zip(keys, batch, strict=True)])
        close(jax.vmap(gradient)(keys, batch), exact, 1e-9)
        assert sum(len(points) for points in host.taken()) == 32

    def test_guided_and_sigma_under_vmap(self):
        """What is in the method may be a batch too."""
        box = jaxfd.blackbox(loss, SCALAR)
        past = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1, 3)))
        sigmas = jnp.asarray([0.1, 0.2])
        for fun in (loss, box):
            found = jax.vmap(
                lambda p, s, f=fun: jaxfd.grad(f, method=Guided(KEY, 3, p, sigma=s))(jnp.asarray(X))
            )(past, sigmas)
            alone = jaxfd.grad(loss, method=Guided(KEY, 3, past[1], sigma=0.2))(jnp.asarray(X))
            np.testing.assert_allclose(found[1], alone, rtol=1e-9)

    def test_lost_samples(self):
        """A sample that lost one of its points is left out."""
        x = jnp.asarray(X)
        bad = X[0] + 0.05

        def fails(x):
            if x[0] > bad and x[1] > X[1]:
                raise RuntimeError("no")
            return loss(x)

        def nan(x):
            return jnp.where((x[0] > bad) & (x[1] > X[1]), jnp.nan, loss(x))

        method = SPSA(KEY, 8, sigma=0.1)
        box = jaxfd.blackbox(fails, SCALAR, on_error="nan")
        with pytest.warns(Warning, match="no"):
            found = jaxfd.grad(box, method=method)(x)
        assert np.all(np.isfinite(found))
        np.testing.assert_allclose(found, jaxfd.grad(nan, method=method)(x), rtol=1e-9)
        assert np.any(np.abs(found - jaxfd.grad(loss, method=method)(x)) > 1e-3)

    @pytest.mark.parametrize("shaping", [None, "rank", "standardized"])
    def test_infinite_values_do_not_warn(self, shaping):
        method = SPSA(KEY, 8, sigma=0.1, shaping=shaping)
        limit = X[0] + 0.05
        box = jaxfd.blackbox(
            lambda x: np.where(x[:, 0] > limit, np.inf, loss(x)), SCALAR, vectorized=True
        )
        assert np.all(np.isnan(jaxfd.grad(box, method=method)(X)))
        everywhere = jaxfd.blackbox(lambda x: np.full(len(x), np.inf), SCALAR, vectorized=True)
        assert np.all(np.isnan(jaxfd.grad(everywhere, method=method)(X)))


class TestHooks:
    def test_modes(self):
        x = jnp.asarray(X)
        method = SPSA(jax.random.key(7), 4, sigma=0.1)
        exact = jaxfd.grad(loss, method=method)(x)
        rows = jaxfd.jacobian(vector, method=method)(x)
        for mode in ("reverse", "forward", "recompute"):
            self._check(mode, x, method, exact, rows)

    @staticmethod
    def _check(mode, x, method, exact, rows):
        ct = jnp.asarray([2.0, -1.0])
        out = jax.ShapeDtypeStruct((2,), np.float64)
        hooks = [
            (
                jaxfd.differentiable(loss, method=method, mode=mode),
                jaxfd.differentiable(vector, method=method, mode=mode),
            ),
            (
                jaxfd.blackbox(loss, SCALAR, method=method, mode=mode),
                jaxfd.blackbox(vector, out, method=method, mode=mode),
            ),
        ]
        for scalar, several in hooks:
            value, gradient = jax.jit(jax.value_and_grad(scalar))(x)
            close(value, loss(x), 1e-12)
            np.testing.assert_allclose(gradient, exact, rtol=1e-9)
            (pulled,) = jax.vjp(several, x)[1](ct)
            np.testing.assert_allclose(pulled, ct @ rows, rtol=1e-9)
            batch = jax.vmap(jax.grad(scalar))(jnp.stack([x, x + 1]))
            np.testing.assert_allclose(batch[0], exact, rtol=1e-9)

    def test_only_what_is_differentiated_is_moved(self):
        host = Host(lambda p: loss(p), vectorized=False)

        def fun(x, y):
            host(np.concatenate([x, y]))
            return np.sum(x**2) + np.sum(y)

        box = jaxfd.blackbox(fun, SCALAR, method=SPSA(KEY, 5, sigma=0.1))
        jax.jit(jax.grad(box))(X, X)
        moved = np.concatenate(host.calls) - np.r_[X, X]
        np.testing.assert_array_equal(moved[:, 3:], 0)
        np.testing.assert_allclose(np.abs(moved[np.any(moved != 0, axis=1), :3]), 0.1)

    def test_second_derivatives_are_differences(self):
        hooked = jaxfd.differentiable(loss, method=SPSA(KEY, 4, sigma=1e-3))
        exact = jax.hessian(loss)(jnp.asarray(X))
        np.testing.assert_allclose(jax.hessian(hooked)(jnp.asarray(X)), exact, atol=1e-4)

    def test_training_with_the_key_as_an_argument(self):
        """The key may change from call to call without compiling anew."""
        traces = []

        def fun(x):
            traces.append(1)
            return jnp.sum(x**2)

        @jax.jit
        def step(x, key):
            hooked = jaxfd.differentiable(fun, method=SPSA(key, 2, sigma=1e-3))
            return x - 0.05 * jax.grad(hooked)(x)

        x = jnp.asarray(X)
        step(x, jax.random.key(0))
        before = len(traces)
        for seed in range(100):
            x = step(x, jax.random.key(seed))
        assert len(traces) == before
        assert np.abs(x).max() < 0.05

    def test_coordinates(self):
        hooked = jaxfd.differentiable(loss, method=RandomCoordinates(KEY, 3, sigma=1e-4))
        close(jax.grad(hooked)(jnp.asarray(X)), jax.grad(loss)(jnp.asarray(X)), 1e-6)
