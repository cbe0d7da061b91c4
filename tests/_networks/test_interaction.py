"""Samples that know of each other are refused, also where a loss does not show it yet."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd

matmul, same = jaxfd.layer(jnp.matmul), jaxfd.layer(lambda p: p)
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 3)), RNG.normal(size=8)
ZEROS, ONES = np.zeros((3, 1)), np.ones((3, 1))


def normed(h):
    return (h - h.mean(0)) / jnp.sqrt(h.var(0) + jnp.asarray(1e-3, h.dtype))


def error(h, y):
    return jnp.mean((h[:, 0] - y) ** 2)


MIXED = {
    "a head of zeros": (lambda p, x, y: error(matmul(normed(x), p[0]), y), [ZEROS]),
    "a gain of zeros": (
        lambda p, x, y: error(matmul(x + normed(x) * same(p[1]), p[0]), y),
        [ONES, np.zeros(3)],
    ),
    "a gain of zero inside of a layer": (
        lambda p, x, y: error(
            matmul(x + jaxfd.layer(lambda g, x: g * normed(x))(p[1], x), p[0]), y
        ),
        [ONES, np.zeros(())],
    ),
    "after a layer": (
        lambda p, x, y: error(matmul(jnp.tanh(normed(matmul(x, p[0]))), p[1]), y),
        [np.ones((3, 4)), np.zeros((4, 1))],
    ),
    "attention over the batch": (
        lambda p, x, y: error(matmul(jax.nn.softmax(x @ x.T) @ x, p[0]), y),
        [ZEROS],
    ),
}
HEAD = np.array([[0.3, -0.9], [-1.2, 0.4], [0.8, 0.5], [0.6, -0.7]])


def chosen(z):
    return -jnp.mean(jax.nn.log_softmax(z)[:, 0])


# At these sizes a loss in float32 hides all of it in the digits that a mean is allowed.
SMALL = {
    "a small head": (
        lambda p, x, y: chosen(matmul(normed(matmul(x, p[0])), p[1])),
        [np.ones((3, 4)) * X[:3, :1], 3e-3 * HEAD],
    ),
    "a small branch": (
        lambda p, x, y: error(matmul(x + matmul(normed(x), p[0]), p[1]), y),
        [1e-5 * HEAD[:3, [0, 1, 0]], ONES],
    ),
    "two layers, each half as small": (
        lambda p, x, y: chosen(matmul(matmul(normed(x), p[0]), p[1])),
        [0.05 * HEAD[:3, [0, 1, 0, 1]], 0.05 * HEAD],
    ),
    "an offset": (lambda p, x, y: 1e3 + error(matmul(normed(x), p[0]), y), [0.3 * HEAD[:3, :1]]),
}
APART = {
    "tanh": (
        lambda p, x, y: error(matmul(jnp.tanh(matmul(x, p[0])), p[1]), y),
        [np.ones((3, 4)), np.zeros((4, 1))],
    ),
    "sign": (
        lambda p, x, y: error(matmul(jnp.sign(matmul(x, p[0])), p[1]), y),
        [np.ones((3, 4)), np.zeros((4, 1))],
    ),
    "a small head": (
        lambda p, x, y: error(matmul(jnp.tanh(matmul(x, p[0])), p[1]), y),
        [np.ones((3, 4)), 1e-3 * HEAD[:, :1]],
    ),
    "widths": (
        lambda p, x, y: error(matmul(jnp.sqrt(same(p[1])) * x, p[0]), y),
        [ONES, np.array([0.1, 1.0, 2.0])],
    ),
    "picked by number": (
        lambda p, x, y: (
            -jnp.mean(jax.nn.log_softmax(matmul(x, p[0]))[jnp.arange(len(y)), (y > 0).astype(int)])
        ),
        [np.zeros((3, 2))],
    ),
}


def cast(params, dtype):
    return [jnp.asarray(p, dtype) for p in params], jnp.asarray(X, dtype), jnp.asarray(Y, dtype)


@pytest.mark.parametrize("case", MIXED)
def test_mixed(case, dtype):
    loss, params = MIXED[case]
    gradient = jax.grad(jaxfd.per_sample(loss))
    with pytest.raises(ValueError, match="not the mean of its samples' losses"):
        gradient(*cast(params, dtype))
    found = jax.jit(gradient)(*cast(params, dtype))
    assert all(np.isnan(g).all() for g in found)


@pytest.mark.parametrize("case", SMALL)
def test_small(case):
    loss, params = SMALL[case]
    found = jaxfd.per_sample(loss)
    with pytest.raises(ValueError, match="not the mean of its samples' losses"):
        jax.grad(found)(*cast(params, np.float32))


def squares(p, x, y):
    return (matmul(x, p[0])[:, 0] - y) ** 2


ALONE = {
    "a masked mean": lambda p, x, y: jnp.mean(squares(p, x, y), where=y > 0),
    "padding at the end": lambda p, x, y: jnp.mean(squares(p, x, y), where=x[:, 0] != 0),
    "statistics of the input": lambda p, x, y: error(matmul(x / x.std(0), p[0]), y),
    "a variance without bias": lambda p, x, y: error(matmul(x / x.std(0, ddof=1), p[0]), y),
    "a correlation": lambda p, x, y: 1 - jnp.corrcoef(matmul(x, p[0])[:, 0], y)[0, 1],
}


@pytest.mark.parametrize("case", ALONE)
def test_no_loss_alone(case):
    params, x, y = cast([ONES], np.float64)
    x = x.at[4:].set(0) if case == "padding at the end" else x
    with pytest.raises(ValueError, match="not the mean of its samples' losses"):
        jax.grad(jaxfd.per_sample(ALONE[case]))(params, x, y)


def test_a_loss_that_is_nan_stays_nan():
    params, x, y = cast([ONES], np.float64)
    found = jax.grad(jaxfd.per_sample(lambda *args: jnp.mean(squares(*args))))(
        params, x, y.at[2].set(np.nan)
    )
    assert np.isnan(found[0]).all()


@functools.cache
def exact_apart(case):
    loss, params = APART[case]
    return jax.jit(jax.grad(loss))(*cast(params, np.float64))


@pytest.mark.parametrize("case", APART)
def test_apart(case, dtype):
    loss, params = APART[case]
    found = jax.grad(jaxfd.per_sample(loss))(*cast(params, dtype))
    exact = exact_apart(case)
    atol = 1e-2 if dtype == np.float32 else 1e-6
    for mine, wanted in zip(found, exact, strict=True):
        np.testing.assert_allclose(mine, wanted, atol=atol)
