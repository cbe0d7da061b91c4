"""What functions read, told from their code and the objects it names."""

import dataclasses
import functools
import itertools
import random
import time
import types
from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _noticed import check_noticed

import jaxfd
from jaxfd._functions import state_of

T = TypeVar("T")
SCALE = 1.0
TABLE = {"a": 1.0, "b": [1, 2]}
DATA = np.arange(5.0)
MODULE = types.ModuleType("module")
MODULE.scale = 2.0
MODULE.inner = types.ModuleType("module.inner")
MODULE.inner.k = 1
PAIR = (1.0, [2.0])
COUNTS, SEEN = [0], []


def helper(x):
    return x * SCALE


def calls_helper(x):
    return helper(x) + 1


def wrapped(fun):
    @functools.wraps(fun)
    def inner(*args):
        return fun(*args) * SCALE

    return inner


def recursive(x, n=3):
    return x if n == 0 else recursive(x * SCALE, n - 1)


class Model:
    rate = 2

    def __init__(self):
        self.weight = jnp.ones(3)
        self.table = {"q": 1}
        self.log = open  # not read, and not known
        self.calls = 0

    def loss(self, x):
        self.calls += 1
        return jnp.sum(x * self.weight) * self.rate * self.twice * self.table["q"]

    @property
    def twice(self):
        return 2 * SCALE

    def __call__(self, x):
        return self.loss(x)


class Child(Model):
    def loss(self, x):
        return super().loss(x)


class Held(Generic[T]):
    rate = 1.0

    def __call__(self, x):
        return x * self.rate


class Slotted:
    __slots__ = ("rate",)

    def __init__(self):
        self.rate = 1.0

    def __call__(self, x):
        return x * self.rate


@dataclasses.dataclass(frozen=True)
class Frozen:
    rate: float = 1.0
    inner: object = None

    def __call__(self, x):
        return x * self.rate * self.inner(x)


class Layer(eqx.Module):
    weight: jax.Array

    def __call__(self, x):
        return jnp.tanh(self.weight @ x)


def closed_over(value):
    return lambda x: x * value


def set_global(name, value):
    return lambda: globals().__setitem__(name, value)


def make(kind):
    """A function, and what changes something that it reads."""
    if kind == "global":
        return helper, set_global("SCALE", 10.0)
    if kind == "sign of zero":
        set_global("SCALE", 0.0)()
        return helper, set_global("SCALE", -0.0)
    if kind == "in another function":
        return calls_helper, set_global("SCALE", 11.0)
    if kind == "another function of the name":
        return calls_helper, set_global("helper", lambda x: x)
    if kind == "item of a list in a dict":
        return lambda x: TABLE["b"][0] * x, lambda: TABLE["b"].__setitem__(0, 7)
    if kind == "new key":
        return lambda x: sum(TABLE) * x, lambda: TABLE.update(c=1)
    if kind == "list in a tuple":
        return lambda x: x * PAIR[1][0], lambda: PAIR[1].append(3.0)
    if kind == "array in place":
        return lambda x: x * DATA.sum(), lambda: DATA.__setitem__(0, 7.0)
    if kind == "large array in place":
        data = np.zeros(100_000)
        return closed_over(data), lambda: data.__setitem__(-1, 7.0)
    if kind == "module":
        return lambda x: x * MODULE.scale, lambda: setattr(MODULE, "scale", 5)
    if kind == "module in a module":
        return lambda x: x * MODULE.inner.k, lambda: setattr(MODULE.inner, "k", 5)
    if kind == "cell":
        value = 1.0

        def fun(x):
            return x * value

        def change():
            nonlocal value
            value = 2.0

        return fun, change
    if kind == "lambda inside":
        return lambda x: (lambda y: y * SCALE)(x), set_global("SCALE", 12.0)
    if kind == "defaults":
        return recursive, lambda: setattr(recursive, "__defaults__", (4,))
    if kind == "recursion":
        return recursive, set_global("SCALE", 13.0)
    if kind == "mutable default":
        cache = {"k": 1}

        def fun(x, cache=cache):
            return x * cache["k"]

        return fun, lambda: cache.update(k=2)
    if kind == "code":

        def fun(x):
            return x

        return fun, lambda: setattr(fun, "__code__", (lambda x: 2 * x).__code__)
    if kind == "function attribute":

        def fun(x):
            return x * fun.rate

        fun.rate = 1.0
        return fun, lambda: setattr(fun, "rate", 2.0)
    if kind == "wrapped":
        return wrapped(calls_helper), set_global("SCALE", 14.0)
    if kind == "partial":
        inner = [1.0]
        return functools.partial(lambda v, x: x * v[0], inner), lambda: inner.__setitem__(0, 2.0)
    if kind == "vmap":
        return jax.vmap(helper), set_global("SCALE", 15.0)
    if kind == "custom_jvp":
        return jax.custom_jvp(helper), set_global("SCALE", 16.0)
    if kind == "optax":
        rates = {"r": 0.1}
        optimizer = optax.sgd(lambda count: rates["r"])
        return optimizer.update, lambda: rates.update(r=0.2)
    if kind == "hook":
        return jaxfd.differentiable(helper), set_global("SCALE", 17.0)
    if kind == "function of a transform":
        return jaxfd.grad(helper), set_global("SCALE", 18.0)
    model = Model()
    if kind == "instance":
        return model.loss, lambda: setattr(model, "weight", jnp.zeros(3))
    if kind == "shadowed class attribute":
        return model, lambda: setattr(model, "rate", 3)
    if kind == "class attribute":
        return model, lambda: setattr(Model, "rate", Model.rate + 1)
    if kind == "dict of an instance":
        return model.loss, lambda: model.table.update(q=2)
    if kind == "property":
        return model.loss, set_global("SCALE", 19.0)
    if kind == "method":
        return model, lambda: setattr(model, "loss", lambda x: x)
    if kind == "super":
        return Child(), lambda: setattr(Model, "rate", Model.rate + 1)
    if kind == "overridden":
        loss = Model.loss
        return Child(), lambda: setattr(Model, "loss", lambda self, x: loss(self, x))
    if kind == "slots":
        slotted = Slotted()
        return lambda x: slotted(x), lambda: setattr(slotted, "rate", 2.0)
    if kind == "dataclass":
        frozen = Frozen(inner=helper)
        return frozen, lambda: object.__setattr__(frozen, "rate", 2.0)
    if kind == "equinox":
        layer = Layer(jnp.ones((2, 2)))
        return layer, lambda: object.__setattr__(layer, "weight", jnp.zeros((2, 2)))
    if kind == "generic":
        held = Held()
        return held, lambda: setattr(held, "rate", 2.0)
    if kind == "by name":
        slotted = Slotted()
        return lambda x: x * getattr(slotted, "ra" + "te"), lambda: setattr(slotted, "rate", 7)
    assert kind == "instance in a list"
    held = [model]
    return lambda x: sum(m(x) for m in held), lambda: setattr(model, "weight", jnp.zeros(3))


KINDS = """global|sign of zero|in another function|another function of the name|new key|cell|code
item of a list in a dict|list in a tuple|array in place|large array in place|module|recursion
module in a module|lambda inside|defaults|mutable default|function attribute|wrapped|partial|vmap
custom_jvp|optax|hook|function of a transform|instance|shadowed class attribute|class attribute
dict of an instance|property|method|super|overridden|slots|dataclass|equinox|generic|by name
instance in a list"""


@pytest.mark.parametrize("kind", KINDS.replace("\n", "|").split("|"))
def test_a_change_is_noticed(kind):
    before = dict(globals())
    try:
        check_noticed(*make(kind))
    finally:
        globals().update(before)


def with_getattr():
    class Any:
        def __getattr__(self, name):
            return SCALE

    held = Any()
    return lambda x: x * held.rate


def with_iterator():
    numbers = itertools.count()
    return lambda x: x * next(numbers)


def with_generator():
    numbers = (i for i in range(3))
    return lambda x: x * next(numbers)


def imports_module(x):
    import random

    return x * random.random()


UNKNOWN = {
    "NumPy's random numbers": lambda: lambda x: x * np.random.normal(),
    "random numbers": lambda: lambda x: x * random.random(),
    "a generator of random numbers": lambda: closed_over(np.random.default_rng(0)),
    "time": lambda: lambda x: x * time.time(),
    "input": lambda: lambda x: x * float(input()),
    "eval": lambda: lambda x: x * eval("SCALE"),
    "globals": lambda: lambda x: x * globals()["SCALE"],
    "a module as a whole": lambda: lambda x: helper((x, MODULE)),
    "__getattr__": with_getattr,
    "an iterator": with_iterator,
    "a generator": with_generator,
    "an import inside": lambda: imports_module,
    "lru_cache": lambda: functools.lru_cache(helper),
    "a set of objects": lambda: closed_over({helper}),
    "an array of objects": lambda: closed_over(np.array([None, helper])),
    "an iterator without end": lambda: closed_over(itertools.cycle([1])),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_nothing_is_said_where_it_cannot_be_known(kind):
    assert state_of(UNKNOWN[kind]()) is None


def test_tracers_are_no_state():
    found = []

    def outer(y):
        found.append(state_of(lambda x: x * y))
        return y

    jax.make_jaxpr(outer)(1.0)
    assert found == [None]


def counts(x):
    COUNTS[0] += 1
    SEEN.append(x)
    return x


def counts_in_vain(x):
    COUNTS[0] += 1
    return x * COUNTS[0]


def appends_and_reads(x):
    SEEN.append(x)
    return x * len(SEEN)


def counted():
    count = 0

    def fun(x):
        nonlocal count
        count += 1
        return x

    return fun


class TestCounting:
    """What is only counted, and comes back in no result, is not read."""

    @pytest.mark.parametrize("fun", [counts, counted(), Model().loss], ids=["list", "cell", "self"])
    def test_not_read(self, fun):
        state = state_of(fun)
        fun(1.0)
        assert state.holds(fun)

    @pytest.mark.parametrize("fun", [counts_in_vain, appends_and_reads])
    def test_read(self, fun):
        state = state_of(fun)
        fun(1.0)
        assert not state.holds(fun)


def test_what_is_not_read_may_change():
    model = Model()
    state = state_of(model.loss)
    model.log = None
    assert state.holds(model.loss)
    Model.other = 1
    try:
        assert state.holds(model.loss)
    finally:
        del Model.other


def test_equal_numbers_are_the_same():
    values = {"k": 1000.5, "n": float("nan"), "s": "ab"}
    fun = closed_over(values)
    state = state_of(fun)
    values.update(k=float("1000.5"), n=float("nan"), s="".join("ab"))
    assert state.holds(fun)
    values.update(k=np.float64(1000.5))
    assert not state.holds(fun)


def test_objects_that_hold_each_other():
    first, second = {}, {}
    first["other"], second["other"] = second, first
    fun = closed_over(first)
    state = state_of(fun)
    assert state.holds(fun)
    second["more"] = 1
    assert not state.holds(fun)


def test_too_much_is_unknown():
    assert state_of(closed_over(list(range(100_000)))) is None


def test_types_asked_for():
    assert state_of(lambda x: x if isinstance(x, int) else 2 * x).asks
    assert not state_of(helper).asks
