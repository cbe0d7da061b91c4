"""Structured evaluation: following changes gives what evaluating whole points gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxfd
from jaxfd import _structured

N = 100


def _x(dtype=np.float64, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=N), dtype)


def _agree(fun, x, tolerance):
    """Compares with points evaluated as arrays, which an explicit chunk size asks for."""
    followed = jaxfd.grad(fun)(x)
    arrays = jaxfd.grad(fun, chunk_size=50)(x)
    scale = float(jnp.max(jnp.abs(arrays))) + 1e-3
    np.testing.assert_allclose(followed, arrays, rtol=0, atol=tolerance * scale)


@pytest.fixture
def outcomes(monkeypatch):
    """Whether each program was followed."""
    seen = []
    original = _structured.outputs

    def spy(*args):
        result = original(*args)
        seen.append(result is not None)
        return result

    monkeypatch.setattr(_structured, "outputs", spy)
    return seen


def _square(x):
    return x.reshape(10, 10)


FOLLOWED = {
    "rosenbrock": lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
    "mean": lambda x: jnp.mean(jnp.sin(x)) ** 2,
    "inner product": lambda x: x @ x + jnp.exp(x[::-1] @ x / 100),
    "jitted": jax.jit(lambda x: jnp.sum(jax.nn.softplus(x) * jax.nn.relu(x))),
    "strides": lambda x: jnp.sum(x[::2] * x[1::2]) + jnp.sum(x[::-1][:5]) ** 2,
    "two axes": lambda x: jnp.sum(jnp.diff(_square(x), axis=0) ** 2 * _square(x).T[1:]),
    "rows": lambda x: jnp.sum(jnp.sum(_square(x), 0) ** 2) + jnp.sum(jnp.sum(_square(x), 1) ** 3),
    "concatenate": lambda x: jnp.sum(jnp.concatenate([x[:3], x, x[-2:]]) ** 3),
    "roll": lambda x: jnp.sum(x * jnp.roll(x, 1) * jnp.roll(x, -3)),
    "pad": lambda x: jnp.sum(jnp.pad(x, (2, 3))[1:-1] * jnp.pad(x, (1, 4))[1:-1]),
    "pick": lambda x: x[3] * x[7] + x[3] * jnp.sum(x**2),
    "laplace": lambda x: jnp.sum((x[2:] - 2 * x[1:-1] + x[:-2]) ** 2 * x[1:-1]),
    "select": lambda x: jnp.sum(jnp.where(jnp.abs(x) < 1, x**2 / 2, jnp.abs(x) - 0.5)),
    "constant": lambda x: jnp.sum(jnp.ones(3, x.dtype)),
    "unused": lambda x: jnp.sum(x[:2] ** 2),
}
NOT_FOLLOWED = {
    "a changed mean meets the array": jnp.var,
    "keepdims": lambda x: jnp.sum((x - jnp.sum(x, keepdims=True)) ** 2),
    "a changed row meets the matrix": lambda x: jnp.sum((_square(x) - _square(x)[0]) ** 2),
    "matrix product": lambda x: jnp.sum((_square(x) @ _square(x)) ** 2),
    "maximum": lambda x: jnp.max(x) + jnp.sum(x),
    "cumulative": lambda x: jnp.sum(jnp.cumsum(x) ** 2),
    "sort": lambda x: jnp.sum(jnp.sort(x) * jnp.arange(N, dtype=x.dtype)),
    "loop": lambda x: jax.lax.fori_loop(0, 3, lambda i, c: c + jnp.sum(x**2), jnp.zeros_like(x[0])),
    "branch": lambda x: jax.lax.cond(x[0] > 0, jnp.sum, lambda y: jnp.sum(y**2), x),
    "stack of windows": lambda x: jnp.sum(x[jnp.arange(N - 1)] * x[jnp.arange(1, N)]),
}


@pytest.mark.parametrize("name", FOLLOWED)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-3), (np.float64, 2e-9)])
def test_followed_programs_agree_with_whole_points(name, dtype, tolerance, outcomes):
    _agree(FOLLOWED[name], _x(dtype), tolerance)
    # The second call, with a chunk size, evaluates arrays and does not ask.
    assert outcomes == [True]


@pytest.mark.parametrize("name", NOT_FOLLOWED)
def test_other_programs_are_evaluated_whole(name, outcomes):
    x = _x()
    np.testing.assert_allclose(
        jaxfd.grad(NOT_FOLLOWED[name])(x), jax.grad(NOT_FOLLOWED[name])(x), rtol=1e-5, atol=1e-5
    )
    assert outcomes == [False]


def test_is_no_less_accurate_than_whole_points():
    x = _x(np.float32)
    exact = np.asarray(jax.grad(FOLLOWED["rosenbrock"])(x.astype(np.float64)))
    followed = np.abs(np.asarray(jaxfd.grad(FOLLOWED["rosenbrock"])(x)) - exact)
    arrays = np.abs(np.asarray(jaxfd.grad(FOLLOWED["rosenbrock"], chunk_size=50)(x)) - exact)
    assert np.median(followed) <= 1.5 * np.median(arrays)


@pytest.mark.parametrize("method", [jaxfd.Forward(), jaxfd.Central(4), jaxfd.Backward(2)])
def test_with_every_stencil_and_the_value(method):
    x = _x()
    value, gradient = jaxfd.value_and_grad(FOLLOWED["laplace"], method=method)(x)
    np.testing.assert_allclose(value, FOLLOWED["laplace"](x), rtol=1e-13)
    np.testing.assert_allclose(gradient, jax.grad(FOLLOWED["laplace"])(x), rtol=1e-4, atol=1e-5)


def test_under_vmap_and_jit():
    xs = jnp.stack([_x(seed=1), _x(seed=2)])
    fun = FOLLOWED["rosenbrock"]
    np.testing.assert_allclose(
        jax.jit(jax.vmap(jaxfd.grad(fun)))(xs), jax.vmap(jax.grad(fun))(xs), rtol=1e-6, atol=1e-6
    )


def test_a_value_that_is_not_finite_stays_where_it_belongs():
    # The terms are not finite at x itself, but are at both points that move entry 5: differences
    # of sums would say NaN there.
    x = _x().at[5].set(0.0)
    gradient = jaxfd.grad(lambda x: jnp.sum(x / jnp.abs(x)), method=jaxfd.Central(step=0.5))(x)
    assert float(gradient[5]) == 2.0
    assert np.isnan(np.delete(np.asarray(gradient), 5)).all()


def test_nan_at_one_point_only():
    x = jnp.full(N, 2.0).at[7].set(1e-9)
    gradient = jaxfd.grad(lambda x: jnp.sum(jnp.log(x)))(x)
    assert np.isnan(gradient[7])
    np.testing.assert_allclose(np.delete(np.asarray(gradient), 7), 0.5, rtol=1e-9)


def test_other_leaves_and_bounds():
    params = {"a": _x(), "b": _x(seed=3).reshape(10, 10), "c": jnp.array(0.7)}

    def fun(p):
        return jnp.sum(p["a"] ** 2) * p["c"] + jnp.sum(jnp.diff(p["b"], axis=1) ** 2)

    for bounds in (None, (-5.0, 5.0)):
        found = jaxfd.grad(fun, bounds=bounds)(params)
        exact = jax.grad(fun)(params)
        jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, atol=1e-7), found, exact)


_STEPS = {
    "sin": jnp.sin,
    "square": lambda y: y**2,
    "halve": lambda y: y * 0.5 - 0.1,
    "tail": lambda y: y[1:],
    "head": lambda y: y[:-1],
    "stride": lambda y: y[::2],
    "reverse": lambda y: y[::-1],
    "neighbours": lambda y: y[1:] * y[:-1],
    "far": lambda y: y[3:] - y[:-3],
    "pad": lambda y: jnp.pad(y, (1, 2)),
    "twice": lambda y: jnp.concatenate([y[:4], y]),
    "clip": lambda y: jnp.clip(y, -1.0, 1.0),
    "fold": lambda y: jnp.sum(y[: y.size // 4 * 4].reshape(4, -1), 0),
    "turn": lambda y: y[: y.size // 4 * 4].reshape(4, -1).T.reshape(-1),
}


@given(st.lists(st.sampled_from(sorted(_STEPS)), min_size=1, max_size=5), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_random_programs(names, seed):
    def fun(x):
        y = x
        for name in names:
            y = _STEPS[name](y)
        return jnp.sum(y * jnp.cos(y)) + jnp.sum(x[:3])

    # A step that is no rounding matter, so that the two ways must agree closely.
    x = _x(seed=seed)
    method = jaxfd.Central(step=0.01)
    followed = jaxfd.grad(fun, method=method)(x)
    arrays = jaxfd.grad(fun, method=method, chunk_size=50)(x)
    np.testing.assert_allclose(followed, arrays, rtol=1e-9, atol=1e-9)
