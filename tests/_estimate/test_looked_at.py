"""Noise that drowns second derivatives of a composition with a black box inside, outside of jit.

Each composition is asked at one place, so that little is compiled.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import x64

import jaxfd
from jaxfd import Adaptive, Central

SCALAR = jax.ShapeDtypeStruct((), np.float32)
TRUE = np.array([[1.0, 2.0], [2.0, 100.0]])


def bowl(p):
    return p[0] ** 2 / 2 + 2 * p[0] * p[1] + 50 * p[1] ** 2


class Noisy:
    """A black box whose values have a relative noise, and a count of its runs."""

    def __init__(self, level=1e-6, shown=None):
        self.level, self.shown, self.runs = level, shown, 0
        self.rng = np.random.default_rng(0)
        self.box = jaxfd.blackbox(self, SCALAR)

    def __call__(self, p):
        self.runs += 1
        value = bowl(p) * (1 + self.level * self.rng.normal())
        return float(f"{value:{self.shown}}") if self.shown else value

    def spent(self):
        runs, self.runs = self.runs, 0
        return runs


@pytest.fixture
def x():
    return jnp.array([1.0, 2.0], np.float32)


def test_hessian_is_that_of_the_box_at_the_same_cost(x):
    noisy = Noisy()
    np.testing.assert_allclose(jaxfd.hessian(noisy.box)(x), TRUE, atol=0.2)
    bare = noisy.spent()
    hessian = jaxfd.hessian(lambda p: -0.5 * noisy.box(p))
    found = hessian(x)
    np.testing.assert_allclose(found, -TRUE / 2, atol=0.1)
    assert found.dtype == np.float32
    assert noisy.spent() == bare
    np.testing.assert_allclose(hessian(x), -TRUE / 2, atol=0.1)
    assert noisy.spent() == bare


def test_without_noise_nothing_more_is_run(x):
    clean = Noisy(0.0)
    jaxfd.hessian(clean.box)(x)
    bare = clean.spent()
    np.testing.assert_allclose(jaxfd.hessian(lambda p: 2 * clean.box(p))(x), 2 * TRUE, atol=1e-3)
    assert clean.spent() == bare


def test_printed_values(x):
    printed = Noisy(0.0, ".8g")
    found = jaxfd.hessian(lambda p: -printed.box(p))(x)
    np.testing.assert_allclose(found, -TRUE, atol=0.01)


def test_diagonal_derivative_and_product(x):
    noisy = Noisy()
    found = jaxfd.hessian_diagonal(jax.jit(noisy.box))(x)
    np.testing.assert_allclose(found, [1.0, 100.0], atol=0.1)
    along = jaxfd.derivative(lambda s: 2 * noisy.box(jnp.stack([s, 2 * s])), order=2)
    np.testing.assert_allclose(along(1.0), 2 * 409.0, rtol=1e-2)


def test_estimate_searches_too_and_its_bar_holds(x):
    noisy = Noisy()
    found = jaxfd.estimate(lambda p: -0.5 * noisy.box(p), derivative=2)(x)
    bar = np.asarray(found.error)
    assert np.all(np.abs(np.asarray(found.hessian) + TRUE / 2) <= bar)
    assert np.all(bar < 1.0)
    assert int(found.evaluations) == noisy.spent()


def test_trees_auxiliary_data_and_integers(x):
    noisy = Noisy()

    def fun(d, times):
        total = sum(noisy.box(jnp.stack([d["a"], d["b"]])) for _ in range(times))
        return total, {"seen": d["a"]}

    found, aux = jaxfd.hessian(fun, has_aux=True)({"a": x[0], "b": x[1]}, 2)
    table = [[found[i][j] for j in "ab"] for i in "ab"]
    np.testing.assert_allclose(table, 2 * TRUE, atol=0.4)
    assert aux["seen"] == 1.0
    assert aux["seen"].dtype == np.float32


def test_beside_a_wall(x):
    rng = np.random.default_rng(0)
    box = jaxfd.blackbox(lambda p: np.sum(np.log(p)) * (1 + 1e-8 * rng.normal()), SCALAR)
    hessian = jaxfd.hessian(lambda p: 2 * box(p), bounds=(0, np.inf))
    found = hessian(jnp.array([1e-2, 1.0], np.float32))
    np.testing.assert_allclose(np.diag(found), [-2e4, -2.0], rtol=2e-2)


def test_in_float64(x):
    noisy = Noisy()
    with x64(True):
        found = jaxfd.hessian(lambda p: 2 * noisy.box(p))(np.array([1.0, 2.0]))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, 2 * TRUE, atol=0.4)


def test_a_step_of_the_users_own_is_kept(x):
    noisy = Noisy(0.0)
    jaxfd.hessian(lambda p: 2 * noisy.box(p), method=Central(step=0.1))(x)
    assert noisy.spent() == 7


def test_a_search_that_is_asked_for_compiles_no_search(x):
    noisy = Noisy()
    found = jaxfd.grad(lambda p: 2 * noisy.box(p), method=Adaptive())(x)
    np.testing.assert_allclose(found, [10.0, 404.0], rtol=1e-2)


def test_errors_of_the_box_are_its_own(x):
    def fails(p):
        raise OverflowError("of the model")

    box = jaxfd.blackbox(fails, SCALAR)
    with pytest.raises(OverflowError, match="of the model"):
        jaxfd.hessian(lambda p: 2 * box(p))(x)


def test_a_function_without_a_box_is_traced_once(x):
    traces = []

    def fun(p):
        traces.append(p)
        return bowl(p)

    hessian = jaxfd.hessian(fun)
    hessian(x), hessian(2 * x)
    assert len(traces) == 1
