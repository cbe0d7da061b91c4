"""Searches on the host for functions that JAX traces: the same results, and little to compile."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _rows import ADAPTIVE, SETTLED
from _tools import close, x64

import jaxfd
from jaxfd import Adaptive
from jaxfd._estimate import searched
from jaxfd._estimate.estimation import Estimation
from jaxfd._estimate.searched import HostSearch, is_eager
from jaxfd._places import Batches


@pytest.fixture
def on_host(monkeypatch):
    """Whether each call with a search was made on the host."""
    made, run = [], HostSearch.run

    def recorded(self, *args):
        found = run(self, *args)
        made.append(found is not None)
        return found

    monkeypatch.setattr(HostSearch, "run", recorded)
    return made


@pytest.fixture
def batches(monkeypatch):
    """For each batch how many points were wanted, and how many were run."""
    taken, run = [], Batches.run

    def recorded(self, key, schedule, block, size, x, rest, ids, values, count, home=None):
        taken.append((count, size * -(-count // size)))
        return run(self, key, schedule, block, size, x, rest, ids, values, count, home)

    monkeypatch.setattr(Batches, "run", recorded)
    return taken


class KernelError(Exception):
    """Raised where a kernel would be compiled."""


@pytest.fixture
def no_kernel(monkeypatch):
    """A kernel is made by nobody: what comes to that raises."""

    def made(self, *args):
        raise KernelError

    monkeypatch.setattr(Estimation, "run", made)


def sines(x):
    return jnp.sum(jnp.sin(x))


# What may be asked for: a function, its arguments, and the exact derivative.
ASKED = {
    "number": (lambda: jaxfd.grad(jnp.sin, method=ADAPTIVE), (0.5,), np.cos(0.5)),
    "numpy": (lambda: jaxfd.grad(sines, method=ADAPTIVE), (np.ones(3),), np.cos(np.ones(3))),
    "argnums": (
        lambda: jaxfd.grad(lambda x, y: x * sines(y), (1, 0), method=ADAPTIVE),
        (np.array(2.0), np.ones(2)),
        (2 * np.cos(np.ones(2)), 2 * np.sin(1.0)),
    ),
    "jacobian": (
        lambda: jaxfd.jacobian(lambda x: {"s": sines(x), "m": jnp.outer(x, x)}, method=ADAPTIVE),
        (np.array([1.0, 2.0]),),
        {
            "s": np.cos([1.0, 2.0]),
            "m": np.array([[[2.0, 0], [2, 1]], [[2, 1], [0, 4]]]),
        },
    ),
    "derivative": (
        lambda: jaxfd.derivative(lambda t: jax.lax.complex(t**2, t), method=ADAPTIVE),
        (0.5,),
        np.complex128(1 + 1j),
    ),
    "complex": (
        lambda: jaxfd.grad(lambda z: jnp.sum(z.real**2 * z.imag), method=ADAPTIVE),
        (np.array([1 + 2j]),),
        np.array([4 - 1j]),
    ),
    "holomorphic": (
        lambda: jaxfd.grad(jnp.exp, holomorphic=True, method=ADAPTIVE),
        (np.array(0.5 + 1j),),
        np.exp(0.5 + 1j),
    ),
    "chunks": (
        lambda: jaxfd.grad(sines, method=ADAPTIVE, chunk_size=5),
        (np.ones(3),),
        np.cos(np.ones(3)),
    ),
    "bounds": (
        lambda: jaxfd.grad(lambda x: jnp.sum(jnp.sqrt(x)), method=ADAPTIVE, bounds=(1.0, 4.0)),
        (np.array([1.0, 4.0]),),
        np.array([0.5, 0.25]),
    ),
    "nothing": (lambda: jaxfd.grad(sines, method=ADAPTIVE), (np.zeros(0),), np.zeros(0)),
    "no output": (
        lambda: jaxfd.jacobian(lambda x: x[:0], method=ADAPTIVE),
        (np.ones(2),),
        np.zeros((0, 2)),
    ),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("bits", [32, 64])
def test_what_may_be_asked(asked, bits, on_host):
    """Also: the shapes and dtypes that the kernel has, as JAX's arrays."""
    make, args, exact = ASKED[asked]
    with x64(bits == 64):
        transform = make()
        found = transform(*args)
        assert on_host == [True]
        shapes = jax.eval_shape(make(), *args)
    for leaf, like, wanted in zip(*map(jax.tree.leaves, (found, shapes, exact)), strict=True):
        assert isinstance(leaf, jax.Array)
        assert leaf.weak_type == like.weak_type
        assert (leaf.shape, leaf.dtype) == (like.shape, like.dtype)
        np.testing.assert_allclose(leaf, wanted, rtol=1e-12 if bits == 64 else 2e-5, atol=1e-6)


class TestResults:
    def test_estimate(self, dtype, on_host):
        x = jnp.asarray([0.5, 1.5, -3.0], dtype)
        found = jaxfd.estimate(sines, method=ADAPTIVE)(x)
        shapes = jax.eval_shape(jaxfd.estimate(sines, method=ADAPTIVE), x)
        assert jax.tree.structure(found) == jax.tree.structure(shapes)
        for leaf, like in zip(*map(jax.tree.leaves, (found, shapes)), strict=True):
            assert (leaf.shape, leaf.dtype) == (like.shape, like.dtype)
        assert found.evaluations == 3 * SETTLED + 1
        error = np.abs(np.asarray(found.grad) - np.cos(np.asarray(x, np.float64)))
        assert np.all(error <= np.asarray(found.error))
        assert np.all(error <= 100 * np.finfo(dtype).eps)
        assert on_host == [True]

    def test_auxiliary_data_of_any_kind(self, on_host):
        def fun(x, key, *, name):
            return sines(x), {"twice": 2 * x, "key": key, "name": name, "none": None}

        x, key = jnp.ones(2), jax.random.key(3)
        transform = jaxfd.value_and_grad(fun, has_aux=True, method=ADAPTIVE)
        (value, aux), slope = transform(x, key, name="a")
        close((value, slope), (sines(x), jnp.cos(x)), 1e-13)
        close(aux["twice"], 2 * x, 0)
        assert aux["key"] == key
        assert (aux["name"], aux["none"]) == ("a", None)
        assert on_host == [True]

    def test_integer_leaves(self, on_host):
        tree = {"x": jnp.asarray(2.0), "n": jnp.asarray([1, 2])}
        fun = lambda t: t["x"] ** 2 * jnp.sum(t["n"]).astype(float)  # noqa: E731
        found = jaxfd.grad(fun, allow_int=True, method=ADAPTIVE)(tree)
        exact = {"x": jnp.asarray(12.0), "n": np.zeros(2, jax.dtypes.float0)}
        close(found, exact, 1e-13)
        assert on_host == [True]

    def test_weak_types_reach_the_function(self, on_host):
        seen = []

        def fun(x, y):
            seen.append((x.weak_type, y.weak_type))
            return x * y

        found = jaxfd.value_and_grad(fun, method=ADAPTIVE)(2.0, jnp.asarray(1.5, np.float16))
        close(found, (jnp.asarray(3.0, np.float16), jnp.asarray(1.5)), 1e-3)
        assert seen == [(True, False)]

    def test_repeats_noise_and_typical(self, batches):
        method = Adaptive(noise=1e-3, repeats=2, typical={"a": 2.0, "b": jnp.asarray([1.0, 2])})
        x = {"a": jnp.asarray(0.5), "b": jnp.asarray([0.5, 1.5])}
        found = jaxfd.estimate(lambda t: jnp.sin(t["a"]) + sines(t["b"]), method=method)(x)
        for key in x:
            error = np.abs(found.grad[key] - np.cos(x[key]))
            assert np.all(error <= found.error[key])
        assert found.evaluations == sum(count for count, _ in batches)
        assert found.evaluations >= 2 * 3 * SETTLED + 1

    def test_the_place_of_the_argument(self):
        here = jax.device_put(jnp.ones(2), jax.devices()[0])
        grad = jaxfd.grad(sines, method=ADAPTIVE)
        assert grad(here).committed
        assert not grad(jnp.ones(2)).committed


class TestCost:
    def test_one_trace_for_all_batches_and_calls(self, batches):
        traced = []

        def fun(x, scale):
            traced.append(1)
            return scale * jnp.sum(jnp.abs(x))

        grad = jaxfd.grad(fun, method=ADAPTIVE)
        for scale in (1.0, 2.0, np.float64(3.0)):
            x = jnp.asarray([0.0, 1.0, scale])
            np.testing.assert_allclose(grad(x, float(scale)), [0, scale, scale], atol=1e-9)
        assert len(batches) > 6  # a kink takes further rounds
        assert len(traced) == 1
        grad(jnp.ones(2), 1.0)
        assert len(traced) == 2

    @pytest.mark.parametrize("size", [1, 3, 50, 200])
    def test_points_that_fill_up_are_few(self, size, batches):
        x = np.linspace(0.1, 1.0, size)
        found = jaxfd.estimate(sines, method=ADAPTIVE)(x)
        assert found.evaluations == size * SETTLED + 1 == sum(count for count, _ in batches)
        run = sum(run for _, run in batches)
        assert run <= 1.08 * int(found.evaluations)

    def test_rounds_evaluate_what_is_wanted(self, batches):
        x = np.where(np.arange(60) == 7, 0.0, 1.0)  # one kink among smooth entries
        found = jaxfd.estimate(lambda x: jnp.sum(jnp.abs(x)), method=ADAPTIVE)(x)
        assert found.evaluations == sum(count for count, _ in batches)
        assert all(run - count < 64 for count, run in batches)


class TestWhereItIsNot:
    """Inside of what JAX traces the search stays in the kernel."""

    def test_traced_arguments_and_traces(self, on_host):
        grad = jaxfd.grad(jnp.sin, method=ADAPTIVE)
        for transform in (lambda f: f, jax.vmap, jax.grad):
            jax.eval_shape(transform(grad), jnp.ones(3) if transform is jax.vmap else 1.0)
        jax.eval_shape(lambda y: y * grad(1.0), 2.0)
        assert on_host == []

    @pytest.mark.parametrize("setting", ["jax_disable_jit", "jax_debug_nans", "jax_debug_infs"])
    def test_settings(self, setting):
        assert is_eager(1.0, np.ones(3), jnp.ones(2))
        before = getattr(jax.config, setting)
        jax.config.update(setting, True)
        try:
            assert not is_eager(1.0)
        finally:
            jax.config.update(setting, before)

    def test_too_many_numbers(self, monkeypatch, on_host, no_kernel):
        monkeypatch.setattr(searched, "_MOST", 6)
        jac = jaxfd.jacobian(lambda x: 2 * x, method=ADAPTIVE)
        np.testing.assert_allclose(jac(jnp.ones(2)), 2 * np.eye(2))
        with pytest.raises(KernelError):
            jac(jnp.ones(3))
        assert on_host == [True, False]

    def test_closures_and_effects(self, on_host, no_kernel):
        """What a function closes over may be traced though its arguments are not."""

        def closed(y):
            return jaxfd.grad(lambda x: x * y, method=ADAPTIVE)(1.0)

        def calls_back(x):
            jax.debug.callback(lambda x: None, x)
            return x

        np.testing.assert_allclose(closed(3.0), 3.0, rtol=1e-12)
        with pytest.raises(KernelError):
            jax.vmap(closed)(jnp.ones(2))
        with pytest.raises(KernelError):
            jaxfd.grad(calls_back, method=ADAPTIVE)(1.0)
        box = jaxfd.blackbox(np.sin, jax.ShapeDtypeStruct((), np.float64))
        with pytest.raises(KernelError):
            jaxfd.grad(lambda x: 2 * box(x), method=ADAPTIVE)(1.0)
        assert on_host == [True, False, False, False]


@pytest.mark.parametrize(
    ("fun", "x", "message"),
    [
        (lambda x: x, np.ones(2), "grad needs a function with a scalar output"),
        (lambda x: jnp.int32(1), 1.0, "grad needs real or complex outputs"),
        (lambda x: float(x), 1.0, "grad cannot trace <lambda>"),
        (lambda x: x, 1, "grad needs real or complex inputs"),
        (lambda x: x * 1j, 1.0, "grad needs real outputs"),
    ],
)
def test_errors_are_those_of_the_kernel(fun, x, message):
    for transform in (lambda f: f, jax.jit):
        with pytest.raises(TypeError, match=re.escape(message)):
            transform(jaxfd.grad(fun, method=ADAPTIVE))(x)
