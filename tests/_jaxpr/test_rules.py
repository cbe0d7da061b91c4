"""Patch rules: a stranger's, written from outside for a primitive that jaxfd does not follow."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _followed import outcomes_of
from jax import lax

import jaxfd
from jaxfd._jaxpr import Patch, added, changes, forget_rule, rule, sum_dtype

N, COLUMNS = 120, 8


def cumsum_rule(eqn, operands, at_x):
    """An entry that moves shifts all sums from it on: a part of its row or column."""
    (operand,), axis, back = operands, eqn.params["axis"], eqn.params["reverse"]
    found = []
    for change in changes(operand, sum_dtype(at_x)):
        moved, place = change.index[axis], sum(a < axis for a in change.axes)
        if moved is None:
            value = lax.cumsum(change.value, place, reverse=back)
        else:
            every = lax.iota(np.int32, operand.shape[axis])
            shifted = every <= moved if back else every >= moved
            value = jnp.expand_dims(change.value, place)
            rest = [1] * value.ndim
            rest[place] = shifted.size
            value = jnp.where(shifted.reshape(rest), value, 0)
        index = (*change.index[:axis], None, *change.index[axis + 1 :])
        found.append(Patch(index, change.valid, value))
    return added(at_x, found)


@pytest.fixture
def stranger():
    rule("cumsum", adds=True)(cumsum_rule)
    yield
    forget_rule("cumsum")


@pytest.fixture
def outcomes(monkeypatch):
    """Whether each program was followed."""
    return outcomes_of(monkeypatch)


def x_of(dtype, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=N), dtype)


def function(axis=0, reverse=False):
    """A new function, so that nothing compiled before is found again."""

    def fun(x):
        table = jnp.sin(x.reshape(-1, COLUMNS))
        # An entry changes two terms, which lie in one sum, or in two.
        sums = lax.cumsum(table[1:] * table[:-1], axis, reverse=reverse)
        return jnp.sum(jnp.cos(jnp.tanh(sums / 2) * 2) * sums) + jnp.sum(lax.cumsum(x[:5]) ** 2)

    return fun


def agrees(found, fun, x):
    """Compares with the exact gradient, as close as the difference itself comes to it."""
    tol = 5e-3 if x.dtype == np.float32 else 1e-7
    exact = jax.grad(fun)(x.astype(np.float64))
    assert found.dtype == x.dtype
    np.testing.assert_allclose(found, exact, rtol=0, atol=tol * float(jnp.max(jnp.abs(exact))))


both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.mark.usefixtures("stranger")
class TestStranger:
    @both_dtypes
    @pytest.mark.parametrize("reverse", [False, True])
    def test_is_followed(self, dtype, reverse, outcomes):
        fun, x = function(0, reverse), x_of(dtype)
        agrees(jaxfd.grad(fun)(x), fun, x)
        assert outcomes == [True]

    def test_is_what_whole_points_give(self, outcomes):
        """Within rounding, along either axis, where the step is no matter of rounding."""
        x, method = x_of(np.float64), jaxfd.Central(step=0.05)
        for axis in (0, 1):
            followed = jaxfd.grad(function(axis), method=method)(x)
            whole = jaxfd.grad(function(axis), method=method, chunk_size=50)(x)
            np.testing.assert_allclose(followed, whole, rtol=0, atol=1e-11)
        # An explicit chunk size asks for whole points.
        assert outcomes == [True, True]

    @both_dtypes
    def test_under_jit_and_vmap(self, dtype, outcomes):
        fun, xs = function(), jnp.stack([x_of(dtype, 1), x_of(dtype, 2)])
        for found, x in zip(jax.jit(jax.vmap(jaxfd.grad(fun)))(xs), xs, strict=True):
            agrees(found, fun, x)
        assert outcomes == [True]

    def test_with_bounds(self, outcomes):
        fun, x = function(), x_of(np.float64)
        agrees(jaxfd.grad(fun, bounds=(float(x.min()), float(x.max())))(x), fun, x)
        assert outcomes == [True]

    def test_says_nothing_where_the_sum_at_x_is_not_finite(self):
        x = x_of(np.float64).at[5].set(0.0)
        found = jaxfd.grad(
            lambda x: jnp.sum(lax.cumsum((x / jnp.abs(x)).reshape(-1, COLUMNS), axis=1)[:, -1]),
            method=jaxfd.Central(step=0.5),
        )(x)
        assert np.isnan(np.delete(np.asarray(found), 5)).all()
        assert float(found[5]) == 2.0

    def test_a_second_rule_for_a_primitive_is_refused(self):
        with pytest.raises(ValueError, match="'cumsum' has a patch rule"):
            rule("cumsum")(cumsum_rule)


class TestRegistry:
    def test_without_the_rule_it_is_not_followed(self, outcomes):
        fun, x = function(), x_of(np.float64)
        agrees(jaxfd.grad(fun)(x), fun, x)
        assert outcomes == [False]

    def test_what_a_rule_costs_is_weighed(self, outcomes):
        """A rule that says it costs more than it saves is not worth following."""

        def dear(eqn, operands, results):
            return N * 1000

        rule("cumsum", cost=dear, adds=True)(cumsum_rule)
        try:
            fun, x = function(), x_of(np.float64)
            agrees(jaxfd.grad(fun)(x), fun, x)
        finally:
            given_back = forget_rule("cumsum")
        assert outcomes == [False]
        assert given_back.patches is cumsum_rule
        assert given_back.cost is dear

    def test_one_function_for_several_primitives(self, outcomes):
        """Entry by entry, as the one in the head of the registry."""

        @rule("bessel_i0e", "bessel_i1e")
        def bessel(eqn, operands, at_x):
            (operand,) = operands
            return [
                dataclasses.replace(patch, value=eqn.primitive.bind(patch.value, **eqn.params))
                for patch in operand.patches
            ]

        def fun(x):
            return jnp.sum(jax.scipy.special.i0e(x) + jax.scipy.special.i1e(x))

        try:
            agrees(jaxfd.grad(fun)(x_of(np.float64)), fun, x_of(np.float64))
        finally:
            forget_rule("bessel_i0e")
            forget_rule("bessel_i1e")
        assert outcomes == [True]
