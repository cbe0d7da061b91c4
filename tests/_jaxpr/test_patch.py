"""Structured evaluation: following changes gives what evaluating whole points gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _followed import outcomes_of, room
from hypothesis import given, settings, strategies as st

import jaxfd

N = 100


def _x(dtype=np.float64, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=N), dtype)


def _agree(fun, x, tolerance, method=jaxfd.Central()):
    """Compares with points evaluated as arrays, which an explicit chunk size asks for."""
    followed = jaxfd.grad(fun, method=method)(x)
    arrays = jaxfd.grad(fun, method=method, chunk_size=50)(x)
    scale = float(jnp.max(jnp.abs(arrays))) + 1e-3
    np.testing.assert_allclose(followed, arrays, rtol=0, atol=tolerance * scale)


@pytest.fixture
def outcomes(monkeypatch):
    """Whether each program was followed."""
    return outcomes_of(monkeypatch)


def _square(x):
    return x.reshape(10, 10)


def _m(x, *shape):
    """A constant matrix in the dtype of ``x``."""
    return jnp.asarray(np.random.default_rng(7).normal(size=shape) / 3, x.dtype)


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
# Programs in which a moved entry changes rows, columns or blocks.
PARTS = {
    "a changed row meets the matrix": lambda x: jnp.sum((_square(x) - _square(x)[0]) ** 2),
    "layer": lambda x: jnp.sum(jnp.tanh(_m(x, 60, 10) @ _square(x))),
    "two layers": lambda x: jnp.sum(
        jnp.tanh(jnp.tanh(_m(x, 60, 10) @ _square(x) + x[:10]) @ _m(x, 10, 3)) ** 2
    ),
    "softmax": lambda x: jnp.sum(
        jax.nn.log_softmax(jnp.tanh(_m(x, 60, 10) @ _square(x)) @ _m(x, 10, 3))[:, 0]
    ),
    "from the left": lambda x: jnp.sum(jnp.cos(_square(x).T @ _m(x, 10, 60))),
    "many products": lambda x: jnp.sum(
        jnp.einsum("bij,bjk->bik", x.reshape(4, 5, 5), _m(x, 4, 5, 30)) ** 2
    ),
    "bias": lambda x: jnp.sum(jnp.sin(_m(x, 60, 1) + x)),
    "outer": lambda x: jnp.sum(jnp.sin(x[:, None] * _m(x, 30))),
    "flipped slabs": lambda x: jnp.sum(jnp.sin(_m(x, 60, 10) @ _square(x))[::-2, 1:].T[:, 3:] ** 2),
    "padded slabs": lambda x: jnp.sum(jnp.pad(_m(x, 60, 10) @ _square(x), ((1, 2), (0, 3))) ** 3),
    "means of slabs": lambda x: jnp.sum(
        jnp.mean(jnp.exp(jnp.sin(_m(x, 60, 10) @ _square(x))), 0) ** 2
    ),
    "vector": lambda x: jnp.sum(jnp.tanh(_m(x, 60, 10) @ x[:10]) * jnp.sum(x**2)),
}
NOT_FOLLOWED = {
    "a changed mean meets the array": jnp.var,
    "keepdims": lambda x: jnp.sum((x - jnp.sum(x, keepdims=True)) ** 2),
    "matrix product": lambda x: jnp.sum((_square(x) @ _square(x)) ** 2),
    "maximum": lambda x: jnp.max(x) + jnp.sum(x),
    "cumulative": lambda x: jnp.sum(jnp.cumsum(x) ** 2),
    "sort": lambda x: jnp.sum(jnp.sort(x) * jnp.arange(N, dtype=x.dtype)),
    "loop": lambda x: jax.lax.fori_loop(0, 3, lambda i, c: c + jnp.sum(x**2), jnp.zeros_like(x[0])),
    "branch": lambda x: jax.lax.cond(x[0] > 0, jnp.sum, lambda y: jnp.sum(y**2), x),
    "stack of windows": lambda x: jnp.sum(x[jnp.arange(N - 1)] * x[jnp.arange(1, N)]),
}


def _both_dtypes(programs, tolerance):
    """All programs in float64, every second one in float32; the others are heavy."""
    cases = [pytest.param(name, np.float64, tolerance) for name in programs]
    for i, name in enumerate(programs):
        marks = [pytest.mark.heavy] if i % 2 else []
        cases.append(pytest.param(name, np.float32, 2e-3, marks=marks))
    return pytest.mark.parametrize(("name", "dtype", "tolerance"), cases)


@_both_dtypes(FOLLOWED, 2e-9)
def test_followed_programs_agree_with_whole_points(name, dtype, tolerance, outcomes):
    _agree(FOLLOWED[name], _x(dtype), tolerance)
    # The second call, with a chunk size, evaluates arrays and does not ask.
    assert outcomes == [True]


@_both_dtypes(PARTS, 1e-11)
def test_changed_parts_agree_with_whole_points(name, dtype, tolerance, outcomes):
    # A step that is no rounding matter, so that the two ways must agree closely.
    _agree(PARTS[name], _x(dtype), tolerance, jaxfd.Central(step=0.05))
    assert outcomes == [True]


@pytest.mark.parametrize("name", NOT_FOLLOWED)
def test_other_programs_are_evaluated_whole(name, outcomes):
    x = _x()
    exact = jax.jit(jax.grad(NOT_FOLLOWED[name]))(x)
    np.testing.assert_allclose(jaxfd.grad(NOT_FOLLOWED[name])(x), exact, rtol=1e-5, atol=1e-5)
    assert outcomes == [False]


gradient_of_rosenbrock = jax.jit(jax.grad(FOLLOWED["rosenbrock"]))
gradient_of_laplace = jax.jit(jax.grad(FOLLOWED["laplace"]))
gradient_of_layer = jax.jit(jax.grad(PARTS["layer"]))


def test_is_no_less_accurate_than_whole_points():
    x = _x(np.float32)
    exact = np.asarray(gradient_of_rosenbrock(x.astype(np.float64)))
    followed = np.abs(np.asarray(jaxfd.grad(FOLLOWED["rosenbrock"])(x)) - exact)
    arrays = np.abs(np.asarray(jaxfd.grad(FOLLOWED["rosenbrock"], chunk_size=50)(x)) - exact)
    assert np.median(followed) <= 1.5 * np.median(arrays)


@pytest.mark.parametrize("method", [jaxfd.Forward(), jaxfd.Central(4), jaxfd.Backward(2)])
def test_with_every_stencil_and_the_value(method):
    x = _x()
    value, gradient = jaxfd.value_and_grad(FOLLOWED["laplace"], method=method)(x)
    np.testing.assert_allclose(value, FOLLOWED["laplace"](x), rtol=1e-13)
    np.testing.assert_allclose(gradient, gradient_of_laplace(x), rtol=1e-4, atol=1e-5)


def test_under_vmap_and_jit():
    xs = jnp.stack([_x(seed=1), _x(seed=2)])
    fun = FOLLOWED["rosenbrock"]
    np.testing.assert_allclose(
        jax.jit(jax.vmap(jaxfd.grad(fun)))(xs),
        jax.vmap(gradient_of_rosenbrock)(xs),
        rtol=1e-6,
        atol=1e-6,
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

    exact = jax.jit(jax.grad(fun))(params)
    for bounds in (None, (-5.0, 5.0)):
        found = jaxfd.grad(fun, bounds=bounds)(params)
        jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, atol=1e-7), found, exact)


@pytest.fixture
def always(monkeypatch):
    """Has every program followed, worthwhile or not."""
    monkeypatch.setattr(room, "_WORTHWHILE", 0)


@pytest.mark.parametrize("name", NOT_FOLLOWED)
def test_what_is_not_worth_following_would_be_right(name, always):
    _agree(NOT_FOLLOWED[name], _x(), 2e-9)


def test_under_vmap_what_is_not_finite_for_one_costs_the_others_nothing():
    fun = PARTS["layer"]
    xs = jnp.stack([_x(seed=1), _x(seed=2).at[3].set(np.inf), _x(seed=3)])
    found = jax.jit(jax.vmap(jax.vmap(jaxfd.grad(fun))))(jnp.stack([xs, xs[::-1]]))
    np.testing.assert_array_equal(found[0], found[1, ::-1])
    for k in (0, 2):
        np.testing.assert_allclose(found[0, k], gradient_of_layer(xs[k]), rtol=1e-6, atol=1e-7)
    assert np.isnan(found[0, 1, 3])


def test_both_ways_are_not_computed_under_vmap():
    xs = jnp.stack([_x(seed=1), _x(seed=2)])
    program = jax.jit(jax.vmap(jaxfd.grad(PARTS["layer"]))).lower(xs).as_text()
    assert "stablehlo.case" in program


def test_a_gradient_of_a_gradient():
    x = _x()
    fun = PARTS["layer"]
    v = _x(seed=4)
    exact = jax.jit(jax.grad(lambda x: jax.grad(fun)(x) @ v))(x)
    method = jaxfd.Central(step=1e-4)
    mixed = jax.jit(jax.grad(lambda x: jaxfd.grad(fun, method=method)(x) @ v))(x)
    np.testing.assert_allclose(mixed, exact, rtol=1e-5, atol=1e-5)


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


# Each example compiles two programs.
@pytest.mark.parametrize("examples", [10, pytest.param(40, marks=pytest.mark.heavy)])
def test_random_programs(examples):
    steps = st.lists(st.sampled_from(sorted(_STEPS)), min_size=1, max_size=5)
    settings(max_examples=examples)(given(steps, st.integers(0, 9))(_check_random_program))()


def _check_random_program(names, seed):
    def fun(x):
        y = x
        for name in names:
            y = _STEPS[name](y)
        return jnp.sum(y * jnp.cos(y)) + jnp.sum(x[:3])

    _agree(fun, _x(seed=seed), 1e-9, jaxfd.Central(step=0.01))


# Steps on matrices; the vector ``x`` comes in again and again.
_MATRIX_STEPS = {
    "from the left": lambda y, x: _m(x, 4, len(y)) @ y,
    "from the right": lambda y, x: jnp.matmul(y, _m(x, y.shape[1], 6)),
    "own product": lambda y, x: y.T @ y,
    "inner sums": lambda y, x: jnp.einsum("ij,kj->ki", y, _m(x, 3, y.shape[1])),
    "bias": lambda y, x: y + x[: y.shape[1]],
    "column": lambda y, x: y * x[: len(y), None],
    "scale": lambda y, x: y * x[5],
    "by the sum": lambda y, x: y / (3 + jnp.sum(jnp.cos(y))),
    "rows": lambda y, x: y - jnp.mean(y, 1, keepdims=True),
    "columns": lambda y, x: jnp.sum(y, 0, keepdims=True) * jnp.cos(y),
    "softmax": lambda y, x: jax.nn.softmax(y),
    "sin": lambda y, x: jnp.sin(y),
    "gate": lambda y, x: jnp.where(y > 0.1, y, -0.5 * y),
    "turn": lambda y, x: y.T,
    "reverse": lambda y, x: y[::-1, ::-1],
    "part": lambda y, x: y[len(y) // 2 :, : 1 + y.shape[1] // 2],
    "stride": lambda y, x: y[::2],
    "pad": lambda y, x: jnp.pad(y, ((1, 0), (0, 2)), constant_values=0.3),
    "beside": lambda y, x: jnp.concatenate([y, y[:, :1]], 1),
    "below": lambda y, x: jnp.concatenate([y, jnp.cos(y)], 0),
    "axis": lambda y, x: jnp.squeeze(y[:, None, :] * 2.0, 1),
    "blocks": lambda y, x: jnp.sum(y[:, None, :] * y[None, :, :], 0),
    "flat": lambda y, x: y.reshape(1, -1),
    "corner": lambda y, x: x[: y.size].reshape(y.shape) + y,
    "cumulative": lambda y, x: jnp.cumsum(y, 0),
    "maximum": lambda y, x: y - jnp.max(y, 0),
}


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("examples", [10, pytest.param(25, marks=pytest.mark.heavy)])
def test_random_matrix_programs(examples):
    shapes = st.sampled_from([(10, 10), (20, 5), (1, 100), (100, 1)])
    steps = st.lists(st.sampled_from(sorted(_MATRIX_STEPS)), min_size=1, max_size=6)
    check = given(shapes, steps, st.integers(0, 9))(_check_random_matrix_program)
    settings(max_examples=examples)(check)()


def _check_random_matrix_program(shape, names, seed):
    def fun(x):
        y = jnp.sin(x.reshape(shape))
        for name in names:
            # What grows too large for another step is cut.
            y = _MATRIX_STEPS[name](y[:12, :12], x)
        return jnp.sum(jnp.tanh(y / 4) * jnp.cos(y)) + x[0]

    _agree(fun, _x(seed=seed), 1e-9, jaxfd.Central(step=0.01))
