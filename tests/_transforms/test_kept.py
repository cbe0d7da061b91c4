"""Programs are kept: a transform written in a loop compiles once, and sees what has changed."""

import functools
import gc
import threading
import types
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import x64

import jaxfd

SCALE = 1.0
CONFIG = types.ModuleType("config")
CONFIG.scale = 1.0
X = np.array([0.3, -1.2, 2.1])


def counting():
    """A function, and how often it was traced."""
    traced = [0]

    def fun(x):
        traced[0] += 1
        return jnp.sum(jnp.sin(x))

    return fun, traced


TRANSFORMS = {
    "grad": lambda fun, x: jaxfd.grad(fun)(x),
    "value_and_grad": lambda fun, x: jaxfd.value_and_grad(fun)(x)[1],
    "jacobian": lambda fun, x: jaxfd.jacobian(fun)(x),
    "estimate": lambda fun, x: jaxfd.estimate(fun)(x).grad,
    "hessian": lambda fun, x: jnp.diag(jaxfd.hessian(fun)(x)),
    "hook": lambda fun, x: jax.grad(jaxfd.differentiable(fun))(x),
    "forward hook": lambda fun, x: jax.grad(jaxfd.differentiable(fun, mode="forward"))(x),
    "grad under jit": lambda fun, x: jax.jit(lambda x: jaxfd.grad(fun)(x))(x),
    "grad under vmap": lambda fun, x: jax.vmap(jaxfd.grad(fun))(x[None])[0],
    "SPSA": lambda fun, x: jaxfd.grad(fun, method=jaxfd.SPSA(jax.random.key(0), 4))(x),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_traced_once(name, dtype):
    fun, traced = counting()
    x = jnp.asarray(X, dtype)
    first = TRANSFORMS[name](fun, x)
    assert first.dtype == dtype
    assert np.all(np.isfinite(first))
    once = traced[0]
    for _ in range(3):
        np.testing.assert_array_equal(TRANSFORMS[name](fun, x), first)
    assert traced[0] == once
    if name not in ("SPSA", "hessian"):
        np.testing.assert_allclose(first, np.cos(X), atol=1e-2)


def test_one_function_serves_several_transforms_and_dtypes():
    fun, traced = counting()
    for _ in range(2):
        for dtype in (np.float32, np.float64):
            x = jnp.asarray(X, dtype)
            gradient = jaxfd.grad(fun)(x)
            assert gradient.dtype == dtype
            np.testing.assert_allclose(gradient, np.cos(X), atol=1e-2)
            np.testing.assert_allclose(jaxfd.value_and_grad(fun)(x)[1], gradient, atol=1e-3)
    assert traced[0] == 4
    with x64(False):
        assert jaxfd.grad(fun)(jnp.asarray(X)).dtype == np.float32


@pytest.mark.parametrize("options", [{"argnums": 1}, {"method": jaxfd.Forward()}, {}], ids=str)
def test_options_are_told_apart(options):
    def fun(x, y):
        return jnp.sum(x * y**2)

    x, y = jnp.asarray(X), jnp.asarray(X + 1)
    wanted = 2 * x * y if options.get("argnums") else y**2
    for _ in range(2):
        np.testing.assert_allclose(jaxfd.grad(fun, **options)(x, y), wanted, atol=1e-5)
        assert jaxfd.estimate(fun)(x, y).evaluations == 13


class Model:
    scale = 1.0

    def __init__(self):
        self.own = 1.0

    def loss(self, x):
        return self.scale * self.own * x**2

    __call__ = loss


def changes():
    """By name: a function, and what makes it ``k`` times as large as it was at first."""

    def of_global(x):
        return SCALE * x**2

    def of_module(x):
        return CONFIG.scale * x**2

    cell = 1.0

    def of_cell(x):
        return cell * x**2

    def set_cell(k):
        nonlocal cell
        cell = k

    numbers, table = np.ones(2), {"k": [1.0]}

    def deep(x):
        return of_global(x)

    @functools.wraps(of_global)
    def wrapped(x):
        return of_global(x)

    def default(x, k=1.0):
        return k * x**2

    def set_global(k):
        globals()["SCALE"] = k

    model, other = Model(), Model()
    partial = functools.partial(lambda t, x: t["k"][0] * x**2, table)
    return {
        "global": (of_global, set_global),
        "called": (deep, set_global),
        "wrapped": (wrapped, set_global),
        "in a list": ([of_global][0], set_global),
        "module": (of_module, lambda k: setattr(CONFIG, "scale", k)),
        "cell": (of_cell, set_cell),
        "array": (lambda x: numbers[0] * x**2, lambda k: numbers.__setitem__(0, k)),
        "dict": (lambda x: table["k"][0] * x**2, lambda k: table.update(k=[k])),
        "partial": (partial, lambda k: table["k"].__setitem__(0, k)),
        "default": (default, lambda k: setattr(default, "__defaults__", (k,))),
        "method": (model.loss, lambda k: setattr(model, "own", k)),
        "class": (Model().loss, lambda k: setattr(Model, "scale", k)),
        "callable": (other, lambda k: setattr(other, "own", k)),
    }


@pytest.mark.parametrize("kind", list(changes()))
@pytest.mark.parametrize("way", ["grad", "hook"])
def test_new_answers_where_something_changed(kind, way):
    fun, change = changes()[kind]
    gradient = TRANSFORMS[way]
    try:
        for k in (1.0, 10.0, 3.0, 1.0):
            change(k)
            for _ in range(2):
                assert gradient(fun, 2.0) == pytest.approx(4 * k, rel=1e-6)
    finally:
        change(1.0)


def test_a_kept_function_reads_at_its_first_call():
    """As `jax.jit` does."""
    fun, change = changes()["cell"]
    kept = jaxfd.grad(fun)
    assert kept(2.0) == pytest.approx(4.0)
    change(10.0)
    assert kept(2.0) == pytest.approx(4.0)
    assert jaxfd.grad(fun)(2.0) == pytest.approx(40.0)
    # What it traces for another dtype sees another state, and is found by nobody else.
    assert kept(jnp.float32(2)) == pytest.approx(40.0, rel=1e-3)
    change(1.0)
    assert jaxfd.grad(fun)(jnp.float32(2)) == pytest.approx(4.0, rel=1e-3)


def test_a_function_that_changes_what_it_reads():
    count = [0]

    def fun(x):
        count[0] += 1
        return count[0] * x

    assert [round(float(jaxfd.grad(fun)(1.0))) for _ in range(3)] == [1, 2, 3]


def test_redefined_under_the_same_name():
    for k in (1.0, 2.0, 3.0):

        def fun(x, k=k):
            return k * x

        assert jaxfd.grad(fun)(1.0) == pytest.approx(k)


def test_random_numbers_are_drawn_anew():
    rng = np.random.default_rng(0)
    drawn = {float(jaxfd.grad(lambda x: x * rng.normal())(1.0)) for _ in range(3)}
    fun = lambda x: x * np.random.default_rng().normal()  # noqa: E731
    assert len(drawn) == 3
    assert jaxfd.grad(fun)(1.0) != jaxfd.grad(fun)(1.0)


class Options:
    def __init__(self, scale):
        self.scale = scale


def test_objects_among_the_arguments():
    def fun(x, options):
        return options.scale * x

    options = Options(1.0)
    for k in (1.0, 2.0):
        options.scale = k
        assert jaxfd.grad(fun)(1.0, options) == pytest.approx(k)
        assert jaxfd.grad(lambda x, f: f(x))(1.0, lambda x, k=k: k * x) == pytest.approx(k)


def test_constant_objects_among_the_arguments():
    traced = [0]

    def fun(x, mode, activation):
        traced[0] += 1
        return activation(x) if mode == "one" else x

    for _ in range(2):
        assert jaxfd.grad(fun)(1.0, "one", jnp.sin) == pytest.approx(np.cos(1.0))
        assert jaxfd.grad(fun)(1.0, "two", jnp.sin) == pytest.approx(1.0)
    assert traced[0] == 2


@pytest.mark.parametrize("kind", ["function", "bound method", "instance", "hook"])
def test_nothing_is_kept_alive(kind):
    data = jnp.arange(3.0)
    plain = np.arange(1000.0)
    model = Model()
    model.own = data

    def fun(x):
        return jnp.sum(x * data) + jnp.sum(x * plain[:3])

    held = {"bound method": model.loss, "instance": model}.get(kind, fun)
    gradient = jax.grad(jaxfd.differentiable(held)) if kind == "hook" else jaxfd.jacobian(held)
    gradient(jnp.ones(3))
    kept = model if held is not fun else fun
    references = [weakref.ref(each) for each in (kept, data, plain)]
    del data, plain, model, fun, held, gradient, kept
    gc.collect()
    assert [reference() for reference in references] == [None] * 3


def test_functions_made_inside_of_a_trace():
    @jax.jit
    def outer(x, k):
        return jaxfd.grad(lambda x: jnp.sum(k * x**2))(x)

    for k in (1.0, 2.0):
        np.testing.assert_allclose(outer(jnp.asarray(X), k), 2 * k * X, atol=1e-6)
    for k in (1.0, 2.0):
        found = jax.grad(lambda k: jnp.sum(jaxfd.grad(lambda x: jnp.sum(jnp.sin(x)))(k * X)))(k)
        assert np.isfinite(found)


def test_threads():
    fun, _ = counting()
    x, wanted = jnp.asarray(X), np.cos(X)
    errors, together = [], threading.Barrier(4)

    def work():
        together.wait()
        with x64(True):
            errors.extend(float(np.abs(jaxfd.grad(fun)(x) - wanted).max()) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 80
    assert max(errors) < 1e-6


def test_a_black_box_inside_is_asked_each_time():
    scale = [1.0]
    box = jaxfd.blackbox(lambda x: scale[0] * x, jax.ShapeDtypeStruct((), np.float64))
    fun = lambda x: box(x) ** 2  # noqa: E731
    traced = jaxfd.grad(fun)
    for k in (1.0, 3.0):
        scale[0] = k
        assert jaxfd.grad(fun)(2.0) == pytest.approx(4 * k**2, rel=1e-6)
        assert traced(2.0) == pytest.approx(4 * k**2, rel=1e-6)
