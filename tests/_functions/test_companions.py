"""What arguments bring along: methods of theirs read things that the function does not name."""

import dataclasses
import enum
import typing

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import tree_util

import jaxfd
import jaxfd.optim
from jaxfd._functions import companions

SCALE = 1.0


def scaled(x):
    return x * SCALE


@tree_util.register_dataclass
@dataclasses.dataclass
class Data:
    w: float

    def scaled(self, x):
        return self.w * x * SCALE


class Pair(typing.NamedTuple):
    w: float

    def scaled(self, x):
        return self.w * x * SCALE


class Layer(eqx.Module):
    w: jax.Array
    act: typing.Callable = eqx.field(static=True, default=jnp.abs)

    def scaled(self, x):
        return self.act(self.w * x) * SCALE


class Mode(enum.Enum):
    ONE = 1

    def scaled(self, x):
        return x * SCALE


class Holder:
    def __init__(self, fun):
        self.fun = fun

    def scaled(self, x):
        return self.fun(x)


class Watched:
    """No pytree, but a leaf."""


tree_util.register_pytree_node(Holder, lambda h: ((), h.fun), lambda fun, _: Holder(fun))

GIVEN = {
    "dataclass": Data(1.0),
    "named tuple": Pair(1.0),
    "module": Layer(jnp.ones(())),
    "static function": Layer(jnp.ones(()), scaled),
    "enumeration": Mode.ONE,
    "function in a node": Holder(scaled),
    "partial": tree_util.Partial(scaled),
    "in a list": [{"a": Data(1.0)}],
}


def use(x, given):
    given = given[0]["a"] if isinstance(given, list) else given
    return given.scaled(x) if hasattr(given, "scaled") else given(x)


@pytest.mark.parametrize("kind", GIVEN)
def test_new_answers_where_something_changed(kind, monkeypatch):
    for k in (1.0, 3.0):
        monkeypatch.setitem(globals(), "SCALE", k)
        # The static function is scaled once more by the method.
        wanted = jax.grad(use)(2.0, GIVEN[kind])
        assert jaxfd.grad(use)(2.0, GIVEN[kind]) == pytest.approx(float(wanted), rel=1e-4)


def test_what_is_differentiated(monkeypatch):
    for k in (1.0, 3.0):
        monkeypatch.setitem(globals(), "SCALE", k)
        found = jaxfd.grad(lambda pair: pair.scaled(2.0))(Pair(1.0))
        assert found.w == pytest.approx(2 * k)
        hook = jaxfd.differentiable(_total)
        assert jax.grad(hook)(Data(1.0)).w == pytest.approx(2 * k)
        assert jaxfd.grad(_total)(Data(1.0)).w == pytest.approx(2 * k)


def _total(data):
    return data.scaled(2.0)


def test_optimisers(monkeypatch):
    for k in (1.0, 3.0):
        monkeypatch.setitem(globals(), "SCALE", k)
        found = jaxfd.optim.minimize(_distance, Data(0.5))
        assert found.x.w == pytest.approx(1 / k, rel=1e-4)
        assert jaxfd.optim.least_squares(_residual, Data(0.5)).x.w == pytest.approx(1 / k)


def _distance(data):
    return (data.scaled(1.0) - 1.0) ** 2


def _residual(data):
    return jnp.reshape(data.scaled(1.0) - 1.0, (1,))


def test_programs_are_kept():
    traced = [0]

    def fun(x, given):
        traced[0] += 1
        return given.scaled(x)

    for given in (Data(1.0), Pair(1.0), Layer(jnp.ones(())), Mode.ONE):
        before = traced[0]
        for _ in range(3):
            assert jaxfd.grad(fun)(1.0, given) == pytest.approx(1.0)
        assert traced[0] == before + 1


def test_what_comes_along():
    plain = ({"a": [1.0, None, (jnp.ones(2), "text")]}, np.ones(2), 3, jnp.sin, jnp.float32)
    assert companions(plain) == companions(plain) == ()
    assert companions(GIVEN["dataclass"]) == (Data,)
    assert companions([GIVEN["module"], GIVEN["enumeration"], GIVEN["module"]]) == (Mode, Layer)
    assert companions(GIVEN["static function"]) == (Layer, scaled)
    # What would be kept alive, or has a state that nobody watches.
    for stranger in (lambda x: x, Holder(lambda x: x), Watched(), np.array([None]), Holder([1])):
        assert companions(stranger) is None
