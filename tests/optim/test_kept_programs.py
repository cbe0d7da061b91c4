"""A second run with the same function compiles nothing that the first has compiled."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _tools import x64

import jaxfd
from jaxfd.optim import least_squares, minimize


def problem():
    """A function with its minimum at ``at``, and how often it was traced."""
    traced, at = [0], [1.0]

    def fun(x):
        traced[0] += 1
        return jnp.sum((x - at[0]) ** 2)

    return fun, traced, at


ADAM = optax.adam(0.05)
OPTIONS = {
    "quasi-Newton": {},
    "bounds": {"bounds": (-5.0, 5.0)},
    "method": {"method": jaxfd.Central()},
    "SPSA": {"method": jaxfd.SPSA(jax.random.key(0), 4), "max_steps": 5},
    "optimizer": {"optimizer": ADAM, "max_steps": 5},
    "schedule": {"method": lambda count: jaxfd.Central(), "optimizer": ADAM, "max_steps": 5},
}


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"):  # optax's counts
        yield


@pytest.mark.parametrize("name", OPTIONS)
def test_same_numbers_from_kept_programs(name, dtype, caplog):
    fun, _, _ = problem()
    start = jnp.asarray([3.0, -2.0], dtype)
    first = minimize(fun, start, **OPTIONS[name])
    with jax.log_compiles():
        second = minimize(fun, start, **OPTIONS[name])
    assert [each for each in caplog.messages if "Finished XLA compilation" in each] == []
    np.testing.assert_array_equal(first.x, second.x)
    assert second.x.dtype == dtype
    assert first.num_evaluations == second.num_evaluations
    fresh, _, _ = problem()
    other = minimize(fresh, start + 1, **OPTIONS[name])
    same = minimize(fun, start + 1, **OPTIONS[name])
    np.testing.assert_array_equal(other.x, same.x)
    assert other.num_evaluations == same.num_evaluations


def test_walls_and_methods_are_numbers():
    fun, _, _ = problem()
    for upper in (0.5, 0.25, 5.0):
        found = minimize(fun, jnp.array([0.1, -2.0]), bounds=(-5.0, upper))
        np.testing.assert_allclose(found.x, min(upper, 1.0), atol=1e-4)
    for step in (1e-3, 1e-4):
        found = minimize(fun, jnp.array([3.0, -2.0]), method=jaxfd.Central(step=step))
        np.testing.assert_allclose(found.x, 1.0, atol=1e-3)


def test_a_change_is_noticed():
    fun, _, at = problem()
    for centre in (1.0, 2.0, 1.0):
        at[0] = centre
        found = minimize(fun, jnp.array([3.0, -2.0]))
        np.testing.assert_allclose(found.x, centre, atol=1e-4)


@pytest.mark.parametrize("name", ["quasi-Newton", "optimizer"])
def test_nothing_is_kept_alive(name):
    fun, _, _ = problem()
    data = jnp.ones(2)
    optimizer = optax.adam(0.05)

    def own(x):
        return fun(x) + jnp.sum(x * data)

    options = {"optimizer": optimizer, "max_steps": 2} if name == "optimizer" else {}
    minimize(own, jnp.zeros(2), **options)
    references = [weakref.ref(each) for each in (own, data, optimizer.update)]
    del own, data, optimizer, options
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


def test_black_boxes():
    calls = [0]

    def model(x):
        calls[0] += 1
        return float(np.sum((x - 1) ** 2))

    box = jaxfd.blackbox(model, jax.ShapeDtypeStruct((), np.float32))
    with x64(False):
        first = minimize(box, jnp.array([3.0, -2.0]))
        spent, calls[0] = calls[0], 0
        second = minimize(box, jnp.array([3.0, -2.0]))
    np.testing.assert_array_equal(first.x, second.x)
    assert calls[0] == spent


def test_nothing_is_kept_alive_by_a_fit():
    data = np.arange(3.0)

    def residuals(x):
        return x * (1.0 + data) - 1.0

    least_squares(residuals, np.ones(3))
    references = [weakref.ref(each) for each in (residuals, data)]
    del residuals, data
    gc.collect()
    assert [reference() for reference in references] == [None] * 2
