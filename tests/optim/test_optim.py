"""`jaxfd.optim.estimate_gradient` and `spsa`: links of optax chains."""

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _tools import Points, close, run_python

import jaxfd
from jaxfd.optim import estimate_gradient, spsa


def loss(x):
    """Smallest, and zero, at 3."""
    return jnp.sum((x - 3.0) ** 2)


def descend(optimizer, x, steps, fun=loss, **extra):
    """So many steps inside one scan."""

    @jax.jit
    def run(x):
        def step(carry, _):
            x, state = carry
            updates, state = optimizer.update(x, state, x, value_fn=fun, **extra)
            return (optax.apply_updates(x, updates), state), None

        return jax.lax.scan(step, (x, optimizer.init(x)), length=steps)[0]

    return run(x)


def gradient(method, x, fun=loss, state=None, **extra):
    link = estimate_gradient(method)
    return link.update(None, link.init(x) if state is None else state, x, value_fn=fun, **extra)


@pytest.fixture
def optax_promotes():
    """Most of optax does not run under strict dtype promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


RANDOM = [
    jaxfd.SPSA(jax.random.key(0), 4),
    jaxfd.SPSA(jax.random.PRNGKey(0), 4),
    jaxfd.SPSA(jax.random.key(0), 4, antithetic=False),
    jaxfd.GaussianSmoothing(jax.random.key(0), 4, sigma=1e-2),
    jaxfd.Orthogonal(jax.random.key(0), 3),
]


def every(*methods):
    """All methods in float64, the first in float32 too; the others there are heavy."""
    cases = [pytest.param(method, np.dtype(np.float64)) for method in methods]
    for i, method in enumerate(methods):
        marks = [pytest.mark.heavy] if i else []
        cases.append(pytest.param(method, np.dtype(np.float32), marks=marks))
    return pytest.mark.parametrize(("method", "dtype"), cases)


METHODS = [jaxfd.Central(), *RANDOM]


@functools.cache
def trained(number, dtype):
    """A chain with one of the methods, and where 300 steps lead: compiled once for all tests."""
    optimizer = optax.chain(estimate_gradient(METHODS[number]), optax.adam(1e-1))
    return optimizer, *descend(optimizer, jnp.asarray([0.3, -1.2, 2.1], dtype), 300)


class TestValues:
    @pytest.mark.parametrize("method", [jaxfd.Central(), jaxfd.Forward(), jaxfd.ComplexStep()])
    def test_as_jaxfd_grad(self, x, method):
        def fun(x):
            return jnp.sum(x**2)

        found, state = gradient(method, x, fun)
        value, expected = jaxfd.value_and_grad(fun, method=method)(x)
        close(found, expected, 0)
        assert state.value == value
        assert state.value.dtype == x.dtype
        assert (
            int(state.evaluations)
            == {"Central": 7, "Forward": 4, "ComplexStep": 4}[type(method).__name__]
        )

    @every(*METHODS)
    def test_counts_what_is_evaluated(self, x, method):
        points = Points()

        def fun(x):
            points(x)
            return jnp.sum(x**2)

        _, state = gradient(method, x, fun)
        assert len(points.taken()) == int(state.evaluations)

    def test_incoming_updates_are_ignored(self, x):
        link = estimate_gradient(jaxfd.Central())
        one, _ = link.update(x, link.init(x), x, value_fn=loss)
        other, _ = link.update(x * jnp.nan, link.init(x), x, value_fn=loss)
        close(one, other, 0)

    def test_extra_arguments_that_the_function_names(self, x):
        def fun(x, batch, *, scale):
            return scale * jnp.sum(x * batch)

        found, _ = gradient(jaxfd.Central(), x, fun, batch=x, scale=2, other="unseen")
        close(found, 2 * x, 1e-2 if x.dtype == np.float32 else 1e-6)

    def test_outside_of_jit_it_is_traced_once(self, x):
        traced = []

        def fun(x, batch):
            traced.append(0)
            return jnp.sum(x * batch)

        link = estimate_gradient(jaxfd.SPSA(jax.random.key(0)))
        state = link.init(x)
        for k in range(3):
            _, state = link.update(None, state, x, value_fn=fun, batch=x + k)
        assert len(traced) == 1

    def test_black_box(self, x):
        calls = []

        def fun(x):
            calls.append(x)
            return np.sum(x**2)

        box = jaxfd.blackbox(fun, jax.ShapeDtypeStruct((), x.dtype))
        found, state = gradient(jaxfd.Central(), x, box)
        close(found, 2 * x, 1e-6)
        assert len(calls) == int(state.evaluations) == 7
        assert all(call.dtype == np.float64 for call in calls)

    def test_bounds(self):
        points = Points()

        def fun(x):
            points(x)
            return jnp.sum(x**2)

        x = jnp.array([0.0, 1.0])
        link = estimate_gradient(jaxfd.Central(step=0.1), bounds=(0, 1))
        found, _ = link.update(x, link.init(x), x, value_fn=fun)
        seen = points.taken()
        assert seen.min() >= 0
        assert seen.max() <= 1
        close(found, 2 * x, 1e-9)

    def test_schedule_of_methods(self, x):
        def method(count):
            return jaxfd.SPSA(jax.random.key(0), sigma=1.0 / (count + 1).astype(x.dtype))

        points = Points()

        def fun(x):
            points(x)
            return jnp.sum(x)

        (_, state) = descend(optax.chain(estimate_gradient(method), optax.sgd(0.0)), x, 3, fun)
        away = np.abs(points.taken() - np.asarray(x, np.float64)).max(axis=1)
        np.testing.assert_allclose(sorted(away), [1 / 3, 1 / 3, 1 / 2, 1 / 2, 1, 1], rtol=1e-5)
        assert int(state[0].count) == 3


class TestKeys:
    @every(*RANDOM)
    def test_another_one_each_time(self, x, method):
        link = estimate_gradient(method)
        state = link.init(x)
        one, after = link.update(None, state, x, value_fn=loss)
        two, _ = link.update(None, after, x, value_fn=loss)
        again, _ = link.update(None, state, x, value_fn=loss)
        close(one, again, 0)
        assert type(method).__name__ == "Orthogonal" or not np.array_equal(one, two)
        assert not np.array_equal(state.key, after.key)

    def test_guided_follows_the_gradients(self):
        x = jnp.arange(100.0)
        subspace = jnp.zeros((2, 100))
        method = jaxfd.Guided(jax.random.key(0), 4, subspace)
        link = estimate_gradient(method)
        found, state = link.update(None, link.init(x), x, value_fn=loss)
        (kept,) = (leaf for leaf in state.carried if leaf.shape == (2, 100))
        close(kept[1], found, 0)
        assert not kept[0].any()

    def test_missing(self, x):
        with pytest.raises(TypeError, match="SPSA needs a PRNG key"):
            estimate_gradient(jaxfd.SPSA())


@pytest.mark.usefixtures("optax_promotes")
class TestCombinators:
    """In a scan inside of jit."""

    @every(*range(len(METHODS)))
    def test_chain(self, method, dtype):
        _, found, state = trained(method, dtype)
        assert found.dtype == dtype
        assert loss(found) < 1e-2
        assert int(state[0].count) == 300
        assert int(state[0].skipped) == 0

    def test_schedule_and_clipping(self, x):
        rate = optax.cosine_decay_schedule(0.5, 200)
        optimizer = optax.chain(
            estimate_gradient(jaxfd.Central()), optax.clip_by_global_norm(1.0), optax.sgd(rate)
        )
        assert loss(descend(optimizer, x, 200)[0]) < 1e-3

    def test_multi_steps(self, x):
        inner = optax.chain(
            estimate_gradient(jaxfd.SPSA(jax.random.key(0))),
            optax.MultiSteps(optax.sgd(0.05), 4).gradient_transformation(),
        )
        assert loss(descend(inner, x, 400)[0]) < 1e-2
        outer = optax.MultiSteps(
            optax.chain(estimate_gradient(jaxfd.Central()), optax.sgd(0.05)), 2
        )
        found, state = descend(outer, x, 200)
        assert loss(found) < 1e-2
        assert int(state.inner_opt_state[0].count) == 100

    def test_masked(self):
        points = Points()

        def fun(params):
            points(params["a"], params["b"])
            return jnp.sum(params["a"] ** 2) + 10 * jnp.sum(params["b"] ** 2)

        params = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0, 4.0, 5.0])}
        mask = {"a": True, "b": False}
        link = optax.masked(estimate_gradient(jaxfd.Central()), mask)
        zeros = jax.tree.map(jnp.zeros_like, params)
        found, state = link.update(
            zeros, link.init(params), params, value_fn=fun, full_params=params
        )
        close(found, {"a": 2 * params["a"], "b": zeros["b"]}, 1e-8)
        seen = points.taken()
        assert len(seen) == int(state.inner_state.evaluations) == 5
        np.testing.assert_array_equal(seen[:, 2:], np.tile(params["b"], (5, 1)))
        with pytest.raises(ValueError, match="full_params=params"):
            link.update(zeros, link.init(params), params, value_fn=fun)

    def test_multi_transform(self):
        params = {"a": jnp.ones(2), "b": {"c": jnp.ones(3)}}
        optimizer = optax.multi_transform(
            {
                "fine": optax.chain(estimate_gradient(jaxfd.Central()), optax.sgd(0.1)),
                "rough": optax.chain(
                    estimate_gradient(jaxfd.SPSA(jax.random.key(1), 2)), optax.adam(0.1)
                ),
            },
            {"a": "fine", "b": {"c": "rough"}},
        )

        def fun(params):
            return loss(params["a"]) + loss(params["b"]["c"])

        @jax.jit
        def run(params):
            def step(carry, _):
                params, state = carry
                updates, state = optimizer.update(
                    params, state, params, value_fn=fun, full_params=params
                )
                return (optax.apply_updates(params, updates), state), None

            return jax.lax.scan(step, (params, optimizer.init(params)), length=300)[0][0]

        assert fun(run(params)) < 1e-2


@pytest.mark.usefixtures("optax_promotes")
class TestNotFinite:
    def test_skipped_and_counted(self, dtype):
        x = jnp.array([2.0, 1.0], dtype)

        def fun(x):
            # Where x[0] is not 2, not a number.
            return jnp.where(x[0] == 2, jnp.sum(x**2), jnp.nan)

        optimizer = optax.chain(estimate_gradient(jaxfd.Central()), optax.adam(0.1))
        found, state = descend(optimizer, x, 20, fun)
        assert found[0] == 2
        assert abs(found[1]) < 1
        assert int(state[0].skipped) == 20

    def test_a_value_that_is_not(self, x):
        optimizer = optax.chain(estimate_gradient(jaxfd.Central()), optax.adam(0.1))
        found, state = descend(optimizer, x, 3, lambda x: jnp.sum(x) * jnp.nan)
        close(found, x, 0)
        assert int(state[0].skipped) == 3
        assert np.isnan(state[0].value)


@pytest.mark.usefixtures("optax_promotes")
class TestState:
    @every(*range(len(METHODS)))
    def test_pickled(self, x, method, dtype):
        optimizer, _, state = trained(method, dtype)
        again = pickle.loads(pickle.dumps(state))
        one, _ = optimizer.update(x, state, x, value_fn=loss)
        two, _ = optimizer.update(x, again, x, value_fn=loss)
        close(one, two, 0)

    def test_no_leaf_is_a_typed_key(self, x):
        state = estimate_gradient(jaxfd.SPSA(jax.random.key(0, impl="rbg"))).init(x)
        assert state.key.dtype == np.uint32
        gradient(jaxfd.SPSA(jax.random.key(0, impl="rbg")), x, state=state)

    def test_orbax(self, tmp_path):
        checkpoint = pytest.importorskip("orbax.checkpoint")
        x = jnp.ones(3)
        optimizer = optax.chain(estimate_gradient(jaxfd.SPSA(jax.random.key(0))), optax.adam(1e-1))
        _, state = descend(optimizer, x, 3)
        with checkpoint.StandardCheckpointer() as keeper:
            keeper.save(tmp_path / "state", state)
            keeper.wait_until_finished()
            again = keeper.restore(tmp_path / "state", optimizer.init(x))
        close(again, state, 0)

    def test_vmap_over_states(self):
        link = estimate_gradient(jaxfd.SPSA(jax.random.key(0)))
        xs = jnp.arange(6.0).reshape(2, 3)
        states = jax.vmap(link.init)(xs)
        found, states = jax.vmap(lambda state, x: link.update(None, state, x, value_fn=loss))(
            states, xs
        )
        assert found.shape == (2, 3)
        assert states.count.shape == (2,)


class TestErrors:
    def test_no_method(self):
        with pytest.raises(TypeError, match="method must be a method value"):
            estimate_gradient("central")
        with pytest.raises(TypeError, match=r"such as Central\(\)"):
            estimate_gradient(jaxfd.Central)
        with pytest.raises(TypeError, match="method must be a method value"):
            estimate_gradient(lambda count: count).init(jnp.ones(2))

    def test_no_function(self, x):
        link = estimate_gradient(jaxfd.Central())
        with pytest.raises(TypeError, match="value_fn=loss"):
            link.update(x, link.init(x), x)
        with pytest.raises(ValueError, match="needs the parameters"):
            link.update(x, link.init(x), value_fn=loss)


class TestSpsa:
    def test_gains(self):
        """Of a linear function in one variable every estimate is exact."""
        points = Points()

        def fun(x):
            points(x)
            return 2.0 * jnp.sum(x)

        optimizer = spsa(jax.random.key(0), a=0.5, c=0.25, stability=10.0)
        x = jnp.zeros(1)
        state = optimizer.init(x)
        for k in range(3):
            updates, state = optimizer.update(x, state, x, value_fn=fun)
            np.testing.assert_allclose(updates, [-2 * 0.5 / (10 + k + 1) ** 0.602], rtol=1e-5)
            taken = points.taken()
            assert len(taken) == 2
            np.testing.assert_allclose(np.abs(taken), 0.25 / (k + 1) ** 0.101, rtol=1e-5)

    def test_converges(self, x):
        found, state = descend(spsa(jax.random.key(0), a=1.0, stability=10.0), x, 1000)
        assert found.dtype == x.dtype
        assert loss(found) < 1e-3
        assert int(state[0].evaluations) == 2000

    def test_default_gains_suit_any_steepness(self):
        """One is the other in other units: the same path, to a few roundings."""

        @jax.jit
        def run(x, scale):
            return descend(spsa(jax.random.key(0)), x, 500, lambda x: scale * loss(x))[0]

        x = jnp.zeros(3)
        path, _ = descend(spsa(jax.random.key(0)), x, 500)
        for scale in (1e-6, 1.0, 1e6):
            found = run(x, scale)
            assert loss(found) < 1e-2
            np.testing.assert_allclose(found, path, rtol=1e-3)

    def test_first_steps_are_as_long_as_asked(self):
        optimizer = spsa(jax.random.key(0), step=0.02)
        x = jnp.zeros(1)
        state = optimizer.init(x)
        updates, state = optimizer.update(x, state, x, value_fn=lambda x: jnp.sum(x) * 1e5)
        assert np.mean(np.abs(updates)) == pytest.approx(0.02, rel=1e-5)
        steep, state = optimizer.update(x, state, x, value_fn=lambda x: jnp.sum(x) * 1e9)
        assert np.mean(np.abs(steep)) <= 0.0201
        nothing, _ = optimizer.update(x, state, x, value_fn=lambda x: jnp.sum(x) * 0)
        np.testing.assert_array_equal(nothing, np.zeros(1))
        with pytest.raises(ValueError, match="a or step"):
            spsa(jax.random.key(0), a=0.1, step=0.1)

    @pytest.mark.parametrize("name", ["a", "c", "step", "alpha", "gamma", "stability"])
    def test_out_of_range(self, name):
        with pytest.raises(ValueError, match=f"^{name} must be"):
            spsa(jax.random.key(0), **{name: -1.0})

    def test_key(self):
        with pytest.raises(TypeError, match="PRNG key"):
            spsa(3)


def test_optax_comes_on_demand():
    run_python(
        "import sys, jaxfd\n"
        "jaxfd.grad, jaxfd.plot\n"
        "assert 'optax' not in sys.modules\n"
        "assert jaxfd.optim.minimize\n"
        "assert 'optax' in sys.modules\n"
    )


@pytest.mark.parametrize("name", jaxfd.optim.__all__)
def test_documented(name):
    thing = getattr(jaxfd.optim, name)
    assert thing.__doc__
    if isinstance(thing, functools.partial) or not isinstance(thing, type):
        assert "Example:" in thing.__doc__
