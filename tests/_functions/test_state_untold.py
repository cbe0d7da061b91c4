"""Changes that no plain name in the code tells of: by reflection, in classes, in libraries."""

import abc
import collections
import dataclasses
import enum
import functools
import inspect
import typing
from operator import attrgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _noticed import check_noticed

import jaxfd
from jaxfd._functions import state_of

SCALE = 1.0


def scale(value):
    return lambda: globals().__setitem__("SCALE", value)


def helper(x):
    return x * SCALE


class Held:
    def __init__(self):
        self.kappa = 1.0

    def __str__(self):
        return str(self.kappa)


def by_name(kind):
    held, get = Held(), getattr

    def change():
        held.kappa = 3.0

    if kind == "getattr under another name":
        return lambda x: x * get(held, "kappa"), change
    if kind == "imported attrgetter":
        return lambda x: x * attrgetter("kappa")(held), change
    if kind == "__getattribute__":
        return lambda x: x * object.__getattribute__(held, "kappa"), change
    if kind == "text":
        return lambda x: x * float(str(held)), change
    if kind == "formatted":
        return lambda x: x * float(f"{held}"), change
    if kind == "per cent":
        return lambda x: x * float("%s" % held), change  # noqa: UP031
    if kind == "attribute in a format":
        return lambda x: x * float("{.kappa}".format(held)), change  # noqa: UP032
    if kind == "name of a function":
        return lambda x: x * len(helper.__name__), lambda: setattr(helper, "__name__", "other")
    assert kind == "text of a function"
    return lambda x: x * len(helper.__doc__ or ""), lambda: setattr(helper, "__doc__", "other")


def absent(kind):
    """What is not there yet."""

    class Kind:
        pass

    held = Kind()
    if kind == "class, getattr":
        return lambda x: x * getattr(held, "rate", 1.0), lambda: setattr(Kind, "rate", 2.0)
    if kind == "class, hasattr":
        return lambda x: x * hasattr(Kind, "rate"), lambda: setattr(Kind, "rate", 2.0)
    if kind == "class, error":

        def fun(x):
            try:
                return x * held.rate
            except AttributeError:
                return x

        return fun, lambda: setattr(Kind, "rate", 2.0)
    if kind == "function":

        def fun(x):
            return x * getattr(fun, "rate", 1.0)

        return fun, lambda: setattr(fun, "rate", 2.0)
    if kind == "truth":
        return lambda x: x if held else 2 * x, lambda: setattr(Kind, "__bool__", lambda self: False)
    if kind == "dir":
        return lambda x: x * len(dir(Kind)), lambda: setattr(Kind, "more", 1)
    if kind == "members":
        return lambda x: x * len(inspect.getmembers(Kind)), lambda: setattr(Kind, "more", 1)
    assert kind == "base"

    class Other:
        rate = 2.0

    Kind = type("Kind", (type("Base", (), {}),), {})
    held = Kind()
    return (
        lambda x: x * getattr(held, "rate", 1.0),
        lambda: setattr(Kind, "__bases__", (*Kind.__bases__, Other)),
    )


def of_class(kind):
    if kind == "written property":

        class Kind:
            def write(self, value):
                self.own = value * SCALE

            rate = property(lambda self: self.own, write)

        def fun(x):
            made = Kind()
            made.rate = x
            return made.own

        return fun, scale(2.0)
    if kind == "__setattr__":

        class Kind:
            def __setattr__(self, name, value):
                object.__setattr__(self, name, value * SCALE)

        def fun(x):
            made = Kind()
            made.rate = x
            return made.rate

        return fun, scale(2.0)
    if kind in ("made of its type", "made of its class"):

        class Kind:
            def __init__(self):
                self.rate = SCALE

            def typed(self, x):
                return type(self)().rate * x

            def classed(self, x):
                return self.__class__().rate * x

        held = Kind()
        return held.typed if "type" in kind else held.classed, scale(2.0)
    if kind == "replaced":

        @dataclasses.dataclass(frozen=True)
        class Kind:
            rate: float = 0.0

            def __post_init__(self):
                object.__setattr__(self, "rate", SCALE)

        held = Kind()
        return lambda x: dataclasses.replace(held).rate * x, scale(2.0)
    if kind == "called instance in a class":

        class Called:
            def __call__(self, x):
                return x * SCALE

        class Kind:
            __call__ = Called()

        return Kind(), scale(2.0)
    if kind == "special name":

        class Kind:
            __rate__ = 1.0

        return lambda x: x * Kind.__rate__, lambda: setattr(Kind, "__rate__", 2.0)
    if kind == "item of a class":

        class Kind:
            def __class_getitem__(cls, item):
                return SCALE

        return lambda x: x * Kind[0], scale(2.0)
    if kind == "class inside":

        class Base:
            def __init_subclass__(cls):
                cls.rate = SCALE

        def fun(x):
            class Kind(Base):
                pass

            return x * Kind.rate

        return fun, scale(2.0)
    if kind == "abstract":

        class Abstract(abc.ABC):  # noqa: B024
            pass

        held = Held()
        return lambda x: x * isinstance(held, Abstract), lambda: Abstract.register(Held)
    if kind == "protocol":

        @typing.runtime_checkable
        class Asked(typing.Protocol):
            def ready(self): ...

        class Kind:
            pass

        held = Kind()
        return lambda x: x * isinstance(held, Asked), lambda: setattr(Kind, "ready", helper)
    assert kind == "of a library's class"

    class Table(collections.UserDict):
        pass

    table = Table(k=1.0)
    return lambda x: x * table["k"], lambda: table.update(k=2.0)


def of_library(kind):
    if kind == "set from outside":
        tan = jnp.tan
        return lambda x: jnp.tan(x), lambda: setattr(jnp, "tan", lambda x: tan(x))
    if kind == "method of a member":

        class Mode(enum.Enum):
            ONE = 1

            def __call__(self, x):
                return x * SCALE

        mode = Mode.ONE
        return lambda x: mode(x), scale(2.0)
    if kind == "value of a member":
        Mode = enum.Enum("Mode", {"ONE": [1.0]})
        return lambda x: x * Mode.ONE.value[0], lambda: Mode.ONE.value.append(1)
    if kind == "members of an enumeration":

        class Mode(enum.Enum):
            ONE = 1

        Mode.ONE.rate = 1.0
        return lambda x: x * sum(m.rate for m in Mode), lambda: setattr(Mode.ONE, "rate", 2.0)
    if kind == "ufunc of Python":
        ufunc = np.frompyfunc(lambda x: x * SCALE, 1, 1)
        return lambda x: x * ufunc(1.0), None
    if kind == "made by a library":
        made = dataclasses.make_dataclass("Made", [], namespace={"rate": 1.0})
        return lambda x: x * made.rate, lambda: setattr(made, "rate", 2.0)
    if kind == "name of a library":
        names = {"__name__": "jax.mine", "rate": 1.0}
        exec("def fun(x):\n    return x * rate", names)
        return names["fun"], lambda: names.update(rate=2.0)
    if kind == "default of a dict":
        table = collections.defaultdict(lambda: SCALE)
        return lambda x: x * table.copy()["k"], scale(2.0)
    if kind == "random inside":

        def fun(x):
            from numpy import random

            return x * random.normal()

        return fun, None
    if kind == "settings":
        return lambda x: x * len(np.geterr()["divide"]), None
    if kind == "configuration":
        return lambda x: x * jax.config.jax_check_tracer_leaks, None
    if kind == "all of the configuration":
        return lambda x: x * jax.config.read("jax_check_tracer_leaks"), None
    if kind == "attribute of a partial":
        part = functools.partial(lambda x: x * part.rate)
        part.rate = 1.0
        return part, lambda: setattr(part, "rate", 2.0)
    if kind == "walls of a hook":
        upper = np.ones(())
        hook = jaxfd.differentiable(helper, bounds=(0.0, upper))
        return lambda x: hook(x), lambda: upper.__setitem__((), 2.0)
    assert kind == "globals of a function"
    return lambda x: x * helper.__globals__["SCALE"], None


KINDS = {
    by_name: """getattr under another name|imported attrgetter|__getattribute__|text|formatted
per cent|attribute in a format|name of a function|text of a function""",
    absent: "class, getattr|class, hasattr|class, error|function|truth|dir|members|base",
    of_class: """written property|__setattr__|made of its type|made of its class|replaced
called instance in a class|special name|item of a class|class inside|abstract|protocol
of a library's class""",
    of_library: """set from outside|method of a member|value of a member|members of an enumeration
made by a library|name of a library|default of a dict|attribute of a partial|walls of a hook""",
}


@pytest.mark.parametrize(
    ("make", "kind"),
    [(make, kind) for make in KINDS for kind in KINDS[make].replace("\n", "|").split("|")],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_change_is_noticed(make, kind, monkeypatch):
    monkeypatch.setattr(jnp, "tan", jnp.tan)
    monkeypatch.setattr(helper, "__name__", "helper")
    monkeypatch.setattr(helper, "__doc__", None)
    monkeypatch.setitem(globals(), "SCALE", 1.0)
    check_noticed(*make(kind))


@pytest.mark.parametrize(
    "kind",
    [
        *("ufunc of Python", "random inside", "settings", "all of the configuration"),
        "globals of a function",
    ],
)
def test_nothing_is_said_where_it_cannot_be_known(kind):
    assert state_of(of_library(kind)[0]) is None


def test_settings_of_jax_are_read_one_by_one():
    fun, _ = of_library("configuration")
    state = state_of(fun)
    assert state.holds(fun)
    with jax.checking_leaks():
        assert not state.holds(fun)


def test_what_is_only_written_may_change():
    class Counter:
        calls = 0

    def fun(x):
        Counter.calls += 1
        return x

    state = state_of(fun)
    fun(1.0)
    assert state.holds(fun)


def test_classes_are_not_held():
    import gc
    import weakref

    class Pair(typing.NamedTuple):
        first: float

    pair = Pair(1.0)
    fun = lambda x: x * pair.first  # noqa: E731
    state = state_of(fun)
    assert state.holds(fun)
    kept = weakref.ref(Pair)
    del Pair, pair, fun
    gc.collect()
    assert kept() is None


def test_what_jax_and_its_libraries_are_made_of_is_known():
    import equinox as eqx
    import optax

    layer = eqx.nn.MLP(3, 1, 4, 2, key=jax.random.key(0))
    every = [
        lambda x: jnp.linalg.norm(x) + jnp.add(x, jnp.float32(jnp.pi)) + jnp.fft.fft(x).real,
        lambda x: jax.nn.relu(x) + jax.scipy.special.erf(x) + jax.lax.add(x, np.linspace(0, 1, 3)),
        lambda x: layer(x) * jax.random.normal(jax.random.key(0)),
        optax.adam(1e-2).update,
        jax.vmap(layer),
    ]
    assert all(state_of(fun) is not None for fun in every)
