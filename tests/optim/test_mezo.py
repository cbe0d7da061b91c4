"""Steps in place: what optax.sgd does on the estimated gradient, without a gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _directions import KEY, label, make
from _tools import Host, close

import jaxfd
from jaxfd import SPSA, GaussianSmoothing, Guided, LowRank, RandomCoordinates
from jaxfd.optim._mezo import mezo

SCALAR = jax.ShapeDtypeStruct((), np.float64)
PARAMS = {"w": np.array([[0.3, -1.2], [2.1, 0.5], [1.0, 1.5]]), "b": np.array(0.7)}


def params():
    return jax.tree.map(jnp.asarray, PARAMS)


def loss(p):
    return jnp.sum((p["w"] - 1.0) ** 2) * (1 + p["b"] ** 2)


def host_loss(p):
    return np.sum((p["w"] - 1.0) ** 2) * (1 + p["b"] ** 2)


def by_sgd(rate, method, key, p, fun=loss):
    """One step of optax with the gradient that jaxfd.grad estimates from the same key."""
    keys = jax.random.split(key)
    gradient = jaxfd.grad(fun, method=method.following(keys[1], None))(p)
    optimizer = optax.sgd(rate)
    updates, _ = optimizer.update(gradient, optimizer.init(p), p)
    return optax.apply_updates(p, updates), keys[0]


@pytest.mark.heavy
class TestIsSgd:
    @pytest.mark.parametrize(
        ("family", "options"),
        [
            *((family, {}) for family in (SPSA, LowRank, RandomCoordinates)),
            (SPSA, {"antithetic": False}),
            (SPSA, {"antithetic": False, "baseline": "leave_one_out", "shaping": "rank"}),
            (GaussianSmoothing, {"combine": "least_squares"}),
        ],
        ids=lambda v: label(v) or str(v),
    )
    def test_two_steps(self, family, options):
        key = jax.random.key(1)
        method = make(family, 5, key=key, **options)
        optimizer = mezo(0.01, method)
        p, state = params(), optimizer.init(params())
        assert np.isnan(state.value)
        step = jax.jit(functools.partial(optimizer.step, value_fn=loss))
        expected = params()
        for count in (1, 2):
            p, state = step(p, state)
            expected, key = by_sgd(0.01, method, key, expected)
            close(p, expected, 1e-9)
            assert state.count == count
            assert state.skipped == 0
            np.testing.assert_array_equal(state.key, jax.random.key_data(key))
        # The mean of the values at the points, not far from the value at x.
        np.testing.assert_allclose(state.value, loss(p), rtol=0.5)

    def test_guided_keeps_its_subspace(self):
        past = jax.tree.map(lambda x: x[None], params())
        method = Guided(KEY, 4, past, sigma=0.1)
        optimizer = mezo(0.01, method)
        p, state = optimizer.step(params(), optimizer.init(params()), value_fn=loss)
        close(p, by_sgd(0.01, method, KEY, params())[0], 1e-9)
        optimizer.step(p, state, value_fn=loss)

    @pytest.mark.parametrize(
        "key", [jax.random.PRNGKey(3), jax.random.key(3), jax.random.key(3, impl="rbg")], ids=str
    )
    def test_kinds_of_keys(self, key):
        method = SPSA(key, 3, sigma=0.1)
        optimizer = mezo(0.01, method)
        p, state = optimizer.step(params(), optimizer.init(params()), value_fn=loss)
        close(p, by_sgd(0.01, method, key, params())[0], 1e-9)
        assert jnp.issubdtype(state.key.dtype, np.uint32)

    def test_black_box(self):
        host = Host(lambda rows: None)

        def fun(p):
            host.calls.append(np.zeros((1, 1)))
            return host_loss(p)

        method = SPSA(jax.random.key(1), 4, sigma=0.1)
        optimizer = mezo(0.01, method)
        step = jax.jit(functools.partial(optimizer.step, value_fn=jaxfd.blackbox(fun, SCALAR)))
        p, state = step(params(), optimizer.init(params()))
        assert len(host.calls) == 8
        exact, values = optimizer.step(params(), optimizer.init(params()), value_fn=loss)
        close(p, exact, 1e-9)
        np.testing.assert_allclose(state.value, values.value)


class TestInPrograms:
    def test_donated_and_scanned(self):
        optimizer = mezo(
            lambda count: 0.02 / (1 + count.astype(np.float64)), SPSA(KEY, 2, sigma=1e-3)
        )
        step = jax.jit(functools.partial(optimizer.step, value_fn=loss), donate_argnums=(0, 1))
        p, state = params(), optimizer.init(params())
        first = loss(p)
        for _ in range(5):
            p, state = step(p, state)

        @jax.jit
        def run(p, state):
            return jax.lax.scan(
                lambda c, _: (optimizer.step(*c, value_fn=loss), None), (p, state), length=5
            )[0]

        scanned, other = run(params(), optimizer.init(params()))
        close(scanned, p, 1e-9)
        close(other, state, 1e-9)
        assert state.count == 5
        assert loss(p) < first
        # The method's own key is not donated with the state.
        optimizer.init(params())

    def test_vmap(self):
        optimizer = mezo(0.01, SPSA(jax.random.key(1), 2, sigma=0.1))
        batch = jax.tree.map(lambda x: jnp.stack([x, x + 1]), params())
        state = jax.vmap(optimizer.init)(batch)
        p, _ = jax.vmap(functools.partial(optimizer.step, value_fn=loss))(batch, state)
        alone, _ = optimizer.step(params(), optimizer.init(params()), value_fn=loss)
        close(jax.tree.map(lambda x: x[0], p), alone, 1e-9)

    def test_schedule(self):
        seen = []

        def rate(count):
            seen.append(count)
            return jnp.where(count == 0, 0.0, 0.01)

        optimizer = mezo(rate, SPSA(KEY, 2, sigma=0.1))
        p, state = optimizer.step(params(), optimizer.init(params()), value_fn=loss)
        close(p, params(), 0)
        moved, _ = optimizer.step(p, state, value_fn=loss)
        assert np.all(moved["w"] != p["w"])
        assert [int(c) for c in seen] == [0, 1]

    def test_extra_arguments(self):
        """Those that the function names; the others are for somebody else."""

        def fun(p, x, *, scale):
            return jnp.sum((p @ x) ** 2) * scale

        optimizer = mezo(0.01, SPSA(KEY, 2, sigma=0.1))
        x = jnp.asarray([1.0, -1.0, 2.0])
        p, state = jnp.ones(3), optimizer.init(jnp.ones(3))
        found, _ = optimizer.step(p, state, value_fn=fun, x=x, scale=2.0, other="unused")
        exact, _ = by_sgd(0.01, SPSA(KEY, 2, sigma=0.1), KEY, p, lambda p: fun(p, x, scale=2.0))
        close(found, exact, 1e-9)

    def test_mixed_and_low_precision(self):
        p = {"a": jnp.ones(4, jnp.bfloat16), "b": jnp.ones(3, np.float32), "c": jnp.ones(2)}

        def fun(p):
            return sum(jnp.sum(leaf.astype(np.float64) ** 2) for leaf in jax.tree.leaves(p))

        method = SPSA(KEY, 8, sigma=0.25)
        optimizer = mezo(0.05, method)
        found, state = optimizer.step(p, optimizer.init(p), value_fn=fun)
        close(found, by_sgd(0.05, method, KEY, p, fun)[0], 0.02)
        assert state.value.dtype == np.float64


class TestLost:
    @staticmethod
    def _lossy(p):
        """NaN on one side of the second entry, infinite on one of the third."""
        return jnp.where(p[1] > 1.0, jnp.nan, jnp.where(p[2] > 1.0, jnp.inf, jnp.sum(p**2)))

    def test_some(self):
        p = jnp.ones(3)
        method = SPSA(KEY, 24, sigma=0.1, antithetic=False)
        optimizer = mezo(0.01, method)
        for fun in (self._lossy, jaxfd.blackbox(self._lossy, SCALAR)):
            found, state = optimizer.step(p, optimizer.init(p), value_fn=fun)
            assert state.skipped == 1
            assert np.isfinite(state.value)
            close(found, by_sgd(0.01, method, KEY, p, self._lossy)[0], 1e-9)
            found, state = optimizer.step(p - 0.5, state, value_fn=fun)
            assert state.skipped == 1

    def test_all(self):
        """Nothing moves."""
        p = params()
        optimizer = mezo(0.01, SPSA(KEY, 3, sigma=0.1))
        found, state = optimizer.step(p, optimizer.init(p), value_fn=lambda p: jnp.nan * p["b"])
        close(found, p, 0)
        assert state.skipped == 1
        assert state.count == 1
        assert np.isnan(state.value)
        found, state = optimizer.step(found, state, value_fn=loss)
        assert state.skipped == 1
        assert np.isfinite(state.value)
        assert np.any(found["w"] != p["w"])


class TestErrors:
    def test_method(self):
        with pytest.raises(TypeError, match=r"mezo needs a random method, got Central.*SPSA"):
            mezo(0.1, jaxfd.Central())
        with pytest.raises(TypeError, match=r"such as SPSA\(\)"):
            mezo(0.1, SPSA)
        with pytest.raises(TypeError, match="needs a PRNG key"):
            mezo(0.1, SPSA())

    def test_function(self):
        optimizer = mezo(0.1, SPSA(KEY))
        with pytest.raises(TypeError, match=r"mezo needs the function.*value_fn=loss"):
            optimizer.step(params(), optimizer.init(params()))
        with pytest.raises(TypeError, match=r"mezo needs a value_fn that returns one number"):
            optimizer.step(params(), optimizer.init(params()), value_fn=lambda p: p["w"])
        ints = jnp.arange(3)
        with pytest.raises(TypeError, match=r"mezo needs real or complex inputs.*int"):
            optimizer.step(ints, optimizer.init(jnp.ones(3)), value_fn=jnp.sum)
