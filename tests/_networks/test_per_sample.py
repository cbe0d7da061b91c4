"""Differences at pre-activations: values, counts, and what they refuse."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import Points, close
from hypothesis import given, settings, strategies as st
from jax.flatten_util import ravel_pytree

import jaxfd


@jaxfd.layer
def dense(p, x):
    return x @ p["w"] + p["b"]


def start(sizes, dtype, seed=0):
    """Parameters of a network and its last layer's size in labels."""
    rng = np.random.default_rng(seed)
    return [
        {
            "w": jnp.asarray(rng.normal(size=(n, m)) / np.sqrt(n), dtype),
            "b": jnp.asarray(rng.normal(size=m), dtype),
        }
        for n, m in itertools.pairwise(sizes)
    ]


def samples(count, size, dtype, seed=1):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(count, size)), dtype), jnp.asarray(
        rng.normal(size=count), dtype
    )


def forward(params, x, unit=jnp.tanh):
    for p in params[:-1]:
        x = unit(dense(p, x))
    return dense(params[-1], x)


def loss(params, x, y):
    return jnp.mean((jnp.sum(jnp.sin(forward(params, x)), -1) - y) ** 2)


def tol(dtype):
    return 2e-4 if np.dtype(dtype) == np.float32 else 1e-8


trick = jaxfd.per_sample(loss)
exact = jax.jit(jax.grad(loss))
matmul = jaxfd.layer(jnp.matmul)


# What float32 changes shows in `test_like_jax`, `test_methods` and `test_jit`.
mostly_float64 = pytest.mark.parametrize(
    "dtype",
    [np.dtype(np.float64), pytest.param(np.dtype(np.float32), marks=pytest.mark.heavy)],
    ids=str,
)


@pytest.fixture
def call(dtype):
    """A network 3-4-2 and seven samples."""
    return start((3, 4, 2), dtype), *samples(7, 3, dtype)


class TestValues:
    def test_like_jax(self, call, dtype):
        value, gradient = jax.value_and_grad(trick)(*call)
        np.testing.assert_allclose(value, loss(*call), rtol=1e-6)
        close(gradient, exact(*call), tol(dtype))

    def test_without_differentiation_it_is_the_loss(self, call):
        assert trick(*call) == loss(*call)

    @pytest.mark.parametrize(
        "method",
        [jaxfd.Forward(3), jaxfd.Backward(3), jaxfd.Central(4), jaxfd.Central(step=1e-3)],
    )
    def test_methods(self, call, method):
        gradient = jax.grad(jaxfd.per_sample(loss, method=method))(*call)
        close(gradient, exact(*call), 2e-3)

    @pytest.mark.heavy
    def test_adaptive(self, call, dtype):
        gradient = jax.jit(jax.grad(jaxfd.per_sample(loss, method=jaxfd.Adaptive())))(*call)
        close(gradient, exact(*call), tol(dtype))

    @mostly_float64
    @pytest.mark.parametrize("chunk_size", [1, 3, 1000])
    def test_chunks(self, call, dtype, chunk_size):
        gradient = jax.grad(jaxfd.per_sample(loss, chunk_size=chunk_size))(*call)
        close(gradient, exact(*call), tol(dtype))

    def test_steps_fit_the_size_of_pre_activations(self):
        # A step for numbers around one would be lost beside a pre-activation of 1e6.
        def fun(w, x):
            return jnp.mean(jnp.sin(1e-6 * jaxfd.layer(jnp.multiply)(x, w)))

        x, w = jnp.asarray([1e6, 2e6], np.float32), jnp.float32(1.0)
        close(jax.grad(jaxfd.per_sample(fun))(w, x), jax.jit(jax.grad(fun))(w, x), 1e-4)

    def test_a_threshold(self):
        def fun(w, x, y):
            return jnp.mean((jnp.sign(matmul(x, w)) - y) ** 2)

        x, y = jnp.array([[1.0, 0.5], [2.0, 2.0]]), jnp.array([1.0, -1.0])
        w = jnp.array([0.5, 0.1])
        assert not jax.jit(jax.grad(fun))(w, x, y).any()
        found = jax.grad(jaxfd.per_sample(fun, method=jaxfd.Central(step=2.0)))(w, x, y)
        close(found, jnp.array([0.5, 0.75]), 1e-9)

    # Every example compiles a program, as it has shapes of its own.
    @pytest.mark.parametrize("examples", [6, pytest.param(15, marks=pytest.mark.heavy)])
    def test_shapes(self, examples):
        @jax.jit
        def both(*call):
            return jax.grad(trick)(*call), jax.grad(loss)(*call)

        @settings(max_examples=examples)
        @given(
            st.lists(st.integers(1, 5), min_size=2, max_size=4),
            st.integers(1, 4),
            st.sampled_from([np.float32, np.float64]),
        )
        def check(sizes, count, dtype):
            call = start(sizes, dtype), *samples(count, sizes[0], dtype)
            close(*both(*call), tol(dtype))

        check()

    def test_parameters_in_two_dtypes_and_a_shared_one(self):
        def fun(params, x):
            h = jaxfd.layer(lambda w, x: x @ w.astype(x.dtype))(params["low"], x)
            h = jnp.tanh(matmul(jnp.tanh(h), params["shared"]))
            return jnp.mean(matmul(h, params["shared"]) ** 3)

        params = {"low": jnp.eye(3, dtype=np.float32), "shared": jnp.full((3, 3), 0.3)}
        x, _ = samples(4, 3, np.float64)
        close(jax.grad(jaxfd.per_sample(fun))(params, x), jax.jit(jax.grad(fun))(params, x), 1e-6)

    def test_complex_layers(self):
        def fun(w, x):
            return jnp.mean(jnp.abs(jaxfd.layer(jnp.multiply)(w, x)) ** 2)

        w, x = jnp.array(1.0 + 2.0j), jnp.array([1.0 + 0.5j, 2.0 - 1.0j])
        close(jax.grad(jaxfd.per_sample(fun))(w, x), jax.jit(jax.grad(fun))(w, x), 1e-8)

    def test_a_parameter_as_a_layer_of_its_own(self):
        def fun(gain, x):
            return jnp.mean(jnp.sin(x * jaxfd.layer(lambda p: p)(gain)))

        x, _ = samples(5, 3, np.float64)
        gain = jnp.arange(1.0, 4.0)
        close(jax.grad(jaxfd.per_sample(fun))(gain, x), jax.jit(jax.grad(fun))(gain, x), 1e-8)

    def test_a_derivative_of_its_own_inside_a_layer_counts(self):
        @jax.custom_vjp
        def straight(w):
            return jnp.round(w)

        straight.defvjp(lambda w: (jnp.round(w), None), lambda _, ct: (ct,))

        def fun(w, x):
            return jnp.mean(jnp.sin(jaxfd.layer(lambda w, x: x * straight(w))(w, x)))

        w, x = jnp.array(1.2), jnp.array([0.1, 0.2])
        close(jax.grad(jaxfd.per_sample(fun))(w, x), jnp.mean(x * jnp.cos(x)), 1e-8)

    @pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
    def test_random_directions_are_drawn_for_every_sample(self, make):
        params, (x, y) = start((3, 4, 2), np.float64), samples(200, 3, np.float64)

        def angle(gradient):
            a, b = (ravel_pytree(g)[0] for g in (gradient, exact(params, x, y)))
            return jnp.vdot(a, b) / jnp.linalg.norm(a) / jnp.linalg.norm(b)

        def fun(p, x, y):
            return jaxfd.per_sample(loss, method=jaxfd.SPSA(make(0), 4, sigma=1e-4))(p, x, y)

        # One draw for all samples would be right in 4 of 6 dimensions at most.
        assert angle(jax.jit(jax.grad(fun))(params, x, y)) > 0.95

    def test_nan_like_jax(self, call):
        params, x, y = call
        gradient = jax.grad(trick)(params, x.at[2].set(np.nan), y)
        assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(gradient))

    def test_unused_parameters_have_no_gradient(self, call):
        params, x, y = call
        fun = jaxfd.per_sample(lambda p, x, y: loss(p[0], x, y))
        gradient = jax.grad(fun)((params, jnp.ones(2)), x, y)
        assert not gradient[1].any()
        assert not jax.grad(lambda unused: fun((params, unused), x, y))(jnp.ones(2)).any()


class TestTransforms:
    def test_jit(self, call, dtype):
        close(jax.jit(jax.grad(trick))(*call), exact(*call), tol(dtype))

    def test_vmap_over_parameters_and_over_batches(self, call, dtype):
        double = jax.tree.map(lambda leaf: 2 * np.asarray(leaf), call)
        many = jax.tree.map(lambda *leaves: np.stack(leaves), call, double)
        for axes in ((0, None, None), (None, 0, 0), (0, 0, 0)):
            args = tuple(m if a == 0 else c for m, c, a in zip(many, call, axes, strict=True))
            found = jax.vmap(jax.grad(trick), axes)(*args)
            second = (d if a == 0 else c for d, c, a in zip(double, call, axes, strict=True))
            both = jax.tree.map(lambda *rows: np.stack(rows), exact(*call), exact(*second))
            close(found, both, 10 * tol(dtype))

    @mostly_float64
    def test_scan(self, call, dtype):
        params, x, y = call

        def train(fun):
            def step(params, _):
                gradient = jax.grad(fun)(params, x, y)
                return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), None

            return jax.lax.scan(step, params, length=3)[0]

        close(jax.jit(lambda: train(trick))(), jax.jit(lambda: train(loss))(), tol(dtype))

    @mostly_float64
    def test_vjp_scales_and_remat(self, call, dtype):
        params, x, y = call
        value, pull = jax.vjp(lambda p: jax.checkpoint(trick)(p, x, y), params)
        expected = jax.tree.map(lambda g: 3 * g, exact(*call))
        close(pull(jnp.full_like(value, 3))[0], expected, 10 * tol(dtype))

    @mostly_float64
    @pytest.mark.parametrize(
        "inner", [jax.jit, jax.checkpoint, lambda fun: jax.jit(jax.checkpoint(fun))]
    )
    def test_calls_inside_the_loss(self, call, dtype, inner):
        found = jax.grad(jaxfd.per_sample(inner(loss)))(*call)
        close(found, exact(*call), tol(dtype))

    @mostly_float64
    def test_models_of_one_sample_under_vmap(self, call, dtype):
        def fun(params, x, y):
            one = jax.vmap(lambda x: jnp.sum(jnp.sin(forward(params, x))))(x)
            return jnp.mean((one - y) ** 2)

        close(jax.grad(jaxfd.per_sample(fun))(*call), exact(*call), tol(dtype))

    @mostly_float64
    def test_a_layer_applied_to_each_part_of_a_sample(self, dtype):
        params = start((3, 2), dtype)
        tokens = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5, 3)), dtype)

        def fun(params, x):
            return jnp.mean(jax.vmap(jax.vmap(lambda t: jnp.sin(forward(params, t))))(x)[:, 1:])

        close(
            jax.grad(jaxfd.per_sample(fun))(params, tokens),
            jax.jit(jax.grad(fun))(params, tokens),
            1e-4,
        )

    @mostly_float64
    def test_arguments_that_are_no_batch(self, call, dtype):
        params, x, y = call

        def fun(x, scale, params, y):
            return loss(jax.tree.map(lambda p: scale * p, params), x, y)

        found = jax.grad(jaxfd.per_sample(fun, (0, -1)), argnums=(1, 2))
        scale = jnp.asarray(0.5, dtype)
        close(
            found(x, scale, params, y),
            jax.jit(jax.grad(fun, argnums=(1, 2)))(x, scale, params, y),
            tol(dtype),
        )

    def test_steps_as_tracers(self, call, dtype):
        def gradient(step):
            return jax.grad(jaxfd.per_sample(loss, method=jaxfd.Central(step=step)))(*call)

        found = jax.vmap(gradient)(jnp.asarray([1e-3, 1e-2], dtype))
        close(jax.tree.map(lambda g: g[0], found), exact(*call), 5e-3)


class TestLayer:
    def test_changes_nothing_elsewhere(self, call):
        params, x, _ = call
        bare = x @ params[0]["w"] + params[0]["b"]
        assert (dense(params[0], x) == bare).all()
        assert (jax.jit(jax.vmap(dense, (None, 0)))(params[0], x) == bare).all()
        _, tangent = jax.jvp(lambda x: dense(params[0], x), (x,), (x,))
        close(tangent, x @ params[0]["w"], 1e-6)

    def test_methods_of_a_class(self):
        class Model:
            scale = 3.0

            @jaxfd.layer
            def first(self, x):
                return self.scale * x

            def second(self, x):
                return self.scale * x

        model = Model()
        assert model.first(2.0) == 6.0
        assert jaxfd.layer(model.second)(2.0) == 6.0

    def test_modules_keep_their_parameters_and_integers_pass(self):
        @jax.tree_util.register_pytree_node_class
        class Linear:
            def __init__(self, w):
                self.w = w

            def __call__(self, x):
                return x @ self.w, 3

            def tree_flatten(self):
                return [self.w], None

            @classmethod
            def tree_unflatten(cls, _, leaves):
                return cls(*leaves)

        def fun(model, x):
            z, three = model(x)
            return jnp.mean(jnp.sin(z)) * three

        model, (x, _) = jaxfd.layer(Linear(jnp.ones((3, 2)))), samples(4, 3, np.float64)
        assert [leaf.shape for leaf in jax.tree.leaves(model)] == [(3, 2)]
        close(jax.grad(jaxfd.per_sample(fun))(model, x), jax.jit(jax.grad(fun))(model, x), 1e-8)

    def test_needs_a_function(self):
        with pytest.raises(TypeError, match="layer needs a function, got float"):
            jaxfd.layer(1.0)


class TestModules:
    def found_and_expected(self, differentiate, model, fun):
        x, _ = samples(4, 3, np.float32)
        return differentiate(jaxfd.per_sample(fun))(model, x), differentiate(fun)(model, x)

    def test_equinox(self):
        eqx = pytest.importorskip("equinox")

        class Model(eqx.Module):
            first: object
            second: object
            unit: object

            def __call__(self, x):
                return self.second(self.unit(jaxfd.layer(self.first)(x)))

        keys = jax.random.split(jax.random.key(0), 2)
        first = eqx.nn.Linear(3, 4, key=keys[0], dtype=np.float32)
        second = eqx.nn.Linear(4, 2, key=keys[1], dtype=np.float32)
        model = Model(first, jaxfd.layer(second), jnp.tanh)

        @eqx.filter_jit
        def fun(model, x):
            return jnp.mean(jax.vmap(model)(x) ** 3)

        close(*self.found_and_expected(eqx.filter_grad, model, fun), 1e-3)

    def test_flax(self):
        nn = pytest.importorskip("flax.linen")

        class Model(nn.Module):
            @nn.compact
            def __call__(self, x):
                return jaxfd.layer(nn.Dense(2))(jnp.tanh(jaxfd.layer(nn.Dense(4))(x)))

        def fun(params, x):
            return jnp.mean(Model().apply(params, x) ** 3)

        params = Model().init(jax.random.key(0), jnp.ones((1, 3), np.float32))
        close(*self.found_and_expected(jax.grad, params, fun), 1e-3)


class TestCounts:
    """How often the parts of a network 3-n-2 are evaluated, for a few samples."""

    def counted(self, transform, active=slice(None), units=4, count=5):
        """Evaluations before the first layer, between the layers, and of the loss."""
        parts = [Points() for _ in range(3)]
        params = [p["w"] for p in start((3, units, 2), np.float64)]
        batch = samples(count, 3, np.float64)

        def fun(chosen, x, y):
            mixed = [*params]
            mixed[active] = chosen
            parts[0](x.sum())
            h = jnp.tanh(matmul(x, mixed[0]))
            parts[1](h.sum())
            value = jnp.mean((jnp.sum(matmul(h, mixed[1]), -1) - y) ** 2)
            parts[2](value)
            return value

        jax.block_until_ready(transform(fun)(params[active], *batch))
        return [len(part.taken()) for part in parts]

    @pytest.mark.parametrize(
        ("method", "nodes", "centre"),
        [(jaxfd.Central(), 2, 0), (jaxfd.Central(4), 4, 0), (jaxfd.Forward(), 1, 1)],
    )
    def test_units_not_weights(self, method, nodes, centre):
        counts = self.counted(lambda fun: jax.grad(jaxfd.per_sample(fun, method=method)))
        # The batch once as a whole, and every sample once at x; then every sample at each point.
        assert counts[2] == 1 + 5 * (1 + centre + nodes * (4 + 2))

    def test_what_comes_before_a_layer_is_evaluated_once(self):
        def transform(fun):
            return jax.grad(jaxfd.per_sample(fun, chunk_size=1000))

        first, middle, last = self.counted(transform, units=63, count=1)
        # Once at x, and once for all the points of each of the two layers.
        assert first == 1 + (1 + 2)
        assert middle == 1 + (1 + 2 * 63 + 1)
        assert last == 1 + (1 + 2 * (63 + 2))

    def test_frozen_layers_cost_nothing(self):
        def transform(fun):
            return jax.grad(jaxfd.per_sample(fun))

        first, middle, last = self.counted(transform, slice(1, 2))
        assert first == middle == 1 + 5 * 2
        assert last == 1 + 5 * (1 + 2 * 2)

    def test_the_value_costs_one(self):
        assert self.counted(jaxfd.per_sample) == [1, 1, 1]

    def test_traced_once_for_many_calls(self, call):
        traced = 0

        def fun(*args):
            nonlocal traced
            traced += 1
            return loss(*args)

        gradient = jax.grad(jaxfd.per_sample(fun))
        gradient(*call)
        first = traced
        gradient(*call)
        assert traced == first


def head(params, x):
    """The second layer, not marked."""
    return x @ params[1]["w"] + params[1]["b"]


class TestErrors:
    def refused(self, kind, match, fun, call, transform=jax.grad, **options):
        with pytest.raises(kind, match=match):
            transform(jaxfd.per_sample(fun, **options))(*call)

    def test_parameters_past_the_layers(self, call):
        def last(params, x, y):
            return jnp.mean((head(params, dense(params[0], x))[:, 0] - y) ** 2)

        self.refused(TypeError, r"argument 0\[1\]\['b'\], 0\[1\]\['w'\] meets samples", last, call)

        def hidden(params, x, y):
            h = jnp.sign(x @ params[0]["w"] + params[0]["b"])
            return jnp.mean((dense(params[1], h)[:, 0] - y) ** 2)

        self.refused(TypeError, r"0\[0\]\['w'\] .* wrap that layer", hidden, call)

        def penalty(params, x, y):
            return loss(params, x, y) + jnp.sum(params[0]["w"] ** 2)

        self.refused(TypeError, r"argument 0\[0\]\['w'\] .* outside of per_sample", penalty, call)

        def residual(params, x, y):
            return loss(params[:2], x, y) + jnp.mean(x * params[2])

        call = ([*call[0], jnp.ones_like(call[1][0])], *call[1:])
        self.refused(TypeError, r"argument 0\[2\] meets", residual, call)

    def test_stopped_parameters_may_go_past(self, call, dtype):
        def fun(params, x, y):
            frozen = jax.lax.stop_gradient(params)
            return loss(params, x, y) + jnp.sum(frozen[0]["w"] ** 2)

        close(jax.grad(jaxfd.per_sample(fun))(*call), exact(*call), 10 * tol(dtype))

    def test_thresholds_inside_a_layer(self, call):
        def signs(params, x, y):
            h = jaxfd.layer(lambda p, x: jnp.sign(x @ p["w"] + p["b"]))(params[0], x)
            return jnp.mean((dense(params[1], h)[:, 0] - y) ** 2)

        self.refused(TypeError, r"0\[0\]\['b'\], 0\[0\]\['w'\] is rounded", signs, call)

        def rounded(params, x, y):
            return loss([params[0], jax.tree.map(jnp.round, params[1])], x, y)

        self.refused(TypeError, r"0\[1\]\['w'\] is rounded .* straight", rounded, call)

        def compared(params, x, y):
            h = jaxfd.layer(lambda w, x: jnp.where(x @ w > 0, 1.0, 0.0))(params[0]["w"], x)
            return jnp.mean((dense(params[1], h)[:, 0] - y) ** 2)

        self.refused(TypeError, r"0\[0\]\['w'\] is rounded or compared", compared, call)

    def test_no_layer(self, call):
        def fun(params, x, y):
            return jnp.mean(x @ params[0]["w"])

        self.refused(TypeError, r"no marked layer .* jaxfd\.layer\(fun\)", fun, call)

    def test_layers_in_loops(self, call):
        def fun(params, x, y):
            w = params[0]["w"][:, :3]
            return jnp.mean(jax.lax.fori_loop(0, 2, lambda _, x: matmul(x, w), x))

        self.refused(TypeError, "inside of (scan|while).* Python loop", fun, call)

    def test_no_mean(self, call):
        def total(params, x, y):
            return loss(params, x, y) * x.shape[0]

        self.refused(ValueError, "not the mean", total, call)
        gradient = jax.jit(jax.grad(jaxfd.per_sample(total)))(*call)
        assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(gradient))

    @pytest.mark.parametrize("count", [2, 3, 8, 32])
    def test_other_losses_that_are_no_mean(self, count):
        (x, labels), w = samples(count, 3, np.float64), start((3, 2), np.float64)[0]["w"]

        def fun(w, x, y, chosen):
            z = matmul(x, w)
            errors = jnp.sum(jnp.tanh(z), -1) - y
            others = [
                jnp.sqrt(jnp.mean(errors**2)),
                jnp.mean((jnp.sum(jnp.tanh(z), -1) - labels) ** 2),  # labels closed over
                jnp.max(errors**2),
                jnp.mean((jnp.sum(z - 0.1 * z.mean(0), -1) - y) ** 2),  # normalised
                jnp.mean(errors**2),
            ]
            return jnp.stack(others)[chosen]

        gradient = jax.grad(jaxfd.per_sample(fun, (1, 2)))
        for chosen in range(4):
            with pytest.raises(ValueError, match="batch normalisation"):
                gradient(w, x, labels, jnp.asarray(chosen))
        assert gradient(w, x, labels, jnp.asarray(4)).any()  # a mean is not refused

    def test_a_sample_on_an_edge_is_not_held_against_a_loss(self):
        def fun(w, x, y):
            z = jaxfd.layer(jnp.multiply)(x, w)
            # As rounding may do it: a batch and its samples differ by a hair.
            return jnp.mean(jnp.where(z + 1e-9 * (len(x) > 1) > 0, 1.0, -1.0) * y)

        x, y = jnp.array([0.3, -0.5, -5e-10, 0.7, -1.0, 2.0]), jnp.ones(6)
        gradient = jax.grad(jaxfd.per_sample(fun, method=jaxfd.Central(step=1.0)))(
            jnp.array(1.0), x, y
        )
        np.testing.assert_allclose(gradient, jnp.mean(jnp.where(jnp.abs(x) < 1, x, 0)))

    def test_batches(self, call):
        params, x, y = call
        for kind, match, args in [
            (ValueError, "7 in argument 1, 3 in argument 2", (params, x, y[:3])),
            (ValueError, "argument 2 has no samples", (params, x[:0], y[:0])),
            (ValueError, r"argument 2 is 1\.0, which has no leading axis", (params, x, 1.0)),
            (ValueError, "1 positional argument", (params,)),
            (ValueError, "different numbers of samples, none", (params, None)),
        ]:
            self.refused(kind, match, loss, args, transform=lambda fun: fun)
        self.refused(ValueError, r"batch_argnums is \(3,\)", loss, call, batch_argnums=3)
        with pytest.raises(TypeError, match="keyword argument 'y'"):
            trick(params, x, y=y)

    def test_derivatives_that_are_not_made(self, call):
        params, x, y = call
        with pytest.raises(TypeError, match="argument 1 is a batch argument"):
            jax.grad(trick, argnums=1)(*call)
        with pytest.raises(TypeError, match="first derivatives only"):
            jax.hessian(lambda b: trick([{**params[0], "b": b}, params[1]], x, y))(params[0]["b"])
        with pytest.raises(TypeError, match="pass it as an argument"):
            jax.grad(lambda p: jaxfd.per_sample(lambda s, x, y: loss(p, x, y))(1.0, x, y))(params)
        with pytest.raises(TypeError, match="step of a method cannot be differentiated"):
            jax.grad(lambda h: jaxfd.per_sample(loss, method=jaxfd.Central(step=h))(*call))(1e-3)

    def test_losses_and_options(self, call):
        self.refused(TypeError, "one real number", lambda p, x, y: dense(p[0], x), call)
        self.refused(TypeError, "one real number", lambda p, x, y: (loss(p, x, y), x), call)
        with pytest.raises(TypeError, match="cannot take ComplexStep"):
            jaxfd.per_sample(loss, method=jaxfd.ComplexStep())
        with pytest.raises(TypeError, match="method must be"):
            jaxfd.per_sample(loss, method="central")
        with pytest.raises(ValueError, match="chunk_size must be 1 or more"):
            jaxfd.per_sample(loss, chunk_size=0)
        with pytest.raises(TypeError, match="argnums must be"):
            jaxfd.per_sample(loss, "x")
