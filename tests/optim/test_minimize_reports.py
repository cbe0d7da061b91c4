"""What `jaxfd.optim` says of a run, and of arguments that do not fit; and how Ctrl-C ends one."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _bench import ended, program

import jaxfd
from jaxfd.optim import estimate_gradient, mezo, minimize


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


_HEAD = """
import gc, os, signal
# A shell in the background hands on SIGINT as ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
import jax, jax.numpy as jnp, numpy as np, jaxfd

def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
"""
_COMPILES_LONG = """
compile = jax.stages.Lowered.compile

def said(*args, **options):
    print("compiling", flush=True)
    return compile(*args, **options)

jax.stages.Lowered.compile = said

def fun(x):
    # Takes XLA a second or more.
    for k in range(100):
        x = jnp.sin(x) * jnp.cos(x + k) @ jnp.ones((3, 3))
    return jnp.sum(x**2)

try:
    print(jaxfd.optim.minimize(fun, jnp.ones(3)).message, flush=True)
except KeyboardInterrupt:
    print("KeyboardInterrupt", flush=True)
"""
_LOST = """
def press(phase, info):
    # What is raised here Python prints, and forgets.
    gc.callbacks.remove(press)
    os.kill(os.getpid(), signal.SIGINT)

def collect(result):
    gc.callbacks.append(press)
    gc.collect()

print(jaxfd.optim.minimize(rosenbrock, jnp.array([-1.2, 1.0]), callback=collect).message)
"""


@pytest.fixture
def start():
    """Starts a program, and sees to it that it ends."""
    with ended() as children:

        def start(code):
            child = program(_HEAD + code, start_new_session=True)
            children.append(child)
            return child

        yield start


@pytest.mark.heavy
@pytest.mark.skipif(os.name == "nt", reason="SIGINT to one process is POSIX")
class TestInterrupt:
    @pytest.mark.parametrize(("compiled", "says"), [(1, "KeyboardInterrupt"), (2, "interrupted")])
    def test_while_xla_compiles(self, start, compiled, says):
        """XLA goes on, and the program neither waits for it to go on nor ends before it."""
        child = start(_COMPILES_LONG)
        for _ in range(compiled):
            assert child.stdout.readline() == "compiling\n", child.communicate()[1]
        child.send_signal(signal.SIGINT)
        out, errors = child.communicate(timeout=100)
        assert (child.returncode, out, errors) == (0, f"{says}\n", "")

    def test_lost_in_a_garbage_collection(self, start):
        out, errors = start(_LOST).communicate(timeout=100)
        assert out == "interrupted\n"
        assert errors.startswith("Exception ignored in")


def test_ctrl_c_is_handled_as_before():
    before = signal.getsignal(signal.SIGINT)
    minimize(rosenbrock, jnp.zeros(2), max_steps=1)
    assert signal.getsignal(signal.SIGINT) is before


class TestTolerance:
    """It is as small as the function."""

    def test_small_values(self, dtype):
        t = jnp.linspace(0, 1, 50, dtype=dtype)
        data = 2e-6 * jnp.exp(-3 * t)
        found = minimize(
            lambda p: jnp.sum((1e-6 * p[0] * jnp.exp(-p[1] * t) - data) ** 2), jnp.ones(2, dtype)
        )
        assert found.converged
        np.testing.assert_allclose(found.x, [2.0, 3.0], rtol=1e-4)

    @pytest.mark.parametrize("unit", [2.0**-100, 1e-8, 1e8])
    def test_any_unit(self, unit):
        found = minimize(lambda x: unit * rosenbrock(x), jnp.array([-1.2, 1.0]))
        assert found.converged
        np.testing.assert_allclose(found.x, 1.0, atol=1e-3)

    def test_units_below_one_change_nothing(self):
        one, other = (
            minimize(lambda x, unit=2.0**-k: unit * rosenbrock(x), jnp.array([-1.2, 1.0]))
            for k in (10, 70)
        )
        np.testing.assert_array_equal(one.x, other.x)
        assert one.num_evaluations == other.num_evaluations

    @pytest.mark.parametrize("more", [-1.0, 1.0, 1e3])
    def test_any_zero(self, more):
        found = minimize(lambda x: more + rosenbrock(x), jnp.array([-1.2, 1.0]))
        assert found.converged
        np.testing.assert_allclose(found.x, 1.0, atol=1e-3)

    @pytest.mark.parametrize("fun", [rosenbrock, lambda x: jnp.sum((x - 1) ** 2)])
    def test_starts_at_zero(self, dtype, fun):
        found = minimize(fun, jnp.ones(2, dtype))
        assert found.converged
        assert found.value == 0

    def test_with_an_optimizer(self):
        with jax.numpy_dtype_promotion("standard"):
            found = minimize(lambda x: 1e-12 * jnp.sum((x - 3) ** 2), jnp.zeros(2), optax.sgd(1e11))
        np.testing.assert_allclose(found.x, 3.0, atol=1e-2)


class TestNoMinimum:
    @pytest.mark.parametrize(
        "fun",
        [lambda x: -jnp.sum(x), lambda x: jnp.sum(x**3), lambda x: -jnp.sum(jnp.log(x))],
        ids=["linear", "cubic", "logarithm"],
    )
    def test_unbounded(self, dtype, fun):
        found = minimize(fun, jnp.ones(2, dtype))
        assert not found.converged
        assert "seems to have no minimum" in found.message

    def test_far_away_is_none(self):
        found = minimize(lambda x: jnp.sum((jnp.log(x) - 40) ** 2), jnp.ones(2))
        assert found.converged
        np.testing.assert_allclose(found.x, np.exp(40), rtol=1e-3)

    @pytest.mark.parametrize(
        "fun",
        [lambda x: 0 * jnp.sum(x) + 2, lambda x: jnp.sum((x / 1e20 - 3) ** 2)],
        ids=["constant", "far"],
    )
    def test_flat(self, dtype, fun):
        found = minimize(fun, jnp.zeros(2, dtype))
        assert not found.converged
        assert found.message.startswith("no point near x0 has another value")
        np.testing.assert_array_equal(found.x, 0)

    def test_down_to_a_plateau(self):
        found = minimize(lambda x: jnp.sum(jnp.floor(64 * x) ** 2) / 64**2, jnp.array([1.0, 2.0]))
        assert found.converged
        assert found.value == 0


class TestStuck:
    def test_rounding(self):
        x0 = jnp.array([-1.2, 1.0, -1.2, 1.0, -1.2], np.float32)
        with jax.enable_x64(False):
            found = minimize(rosenbrock, x0)
            assert not found.converged
            assert "enable x64, or give method=jaxfd.Central()" in found.message
            assert minimize(rosenbrock, x0, method=jaxfd.Central()).value < 1e-4


class TestArguments:
    def test_checkpoint_that_is_a_file(self, tmp_path):
        path = tmp_path / "file"
        path.write_text("")
        for place in (path, path / "inside"):
            with pytest.raises(ValueError, match=r"checkpoint must be a folder, but .*file"):
                minimize(rosenbrock, jnp.zeros(2), checkpoint=place)

    def test_method_beside_its_own(self):
        optimizer = optax.chain(estimate_gradient(jaxfd.Forward()), optax.sgd(1e-3))
        with pytest.raises(ValueError, match="but optimizer estimates gradients for itself"):
            minimize(rosenbrock, jnp.zeros(2), optimizer, method=jaxfd.Central())

    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_bounds_for_each_entry(self, n):
        with pytest.raises(TypeError, match=r"one pair .*not a pair for each entry"):
            minimize(rosenbrock, jnp.zeros(n), bounds=[(-0.5, 0.5)] * n)

    def test_bounds_of_a_pair_of_numbers(self):
        found = minimize(lambda p: p[0] ** 2 + p[1] ** 2, (1.0, 2.0), bounds=((0.5, 1), (3, 3.0)))
        np.testing.assert_allclose(found.x, [0.5, 1.0])


LINKS = [jaxfd.Central(), jaxfd.SPSA(jax.random.key(0))]


def update(method, params, value_fn, **extra):
    link = estimate_gradient(method)
    return link.update(None, link.init(params), params, value_fn=value_fn, **extra)[0]


def mezo_step(params, value_fn, **extra):
    optimizer = mezo(0.1, jaxfd.SPSA(jax.random.key(0)))
    return optimizer.step(params, optimizer.init(params), value_fn=value_fn, **extra)


class TestEstimates:
    def test_any_keyword(self):
        seen = []

        def fun(p, **extra):
            seen.append(sorted(extra))
            return jnp.sum(p * extra["batch"])

        x = jnp.ones(2)
        found = update(jaxfd.Central(), x, fun, batch=3.0, value=1.0, grad=x)
        np.testing.assert_allclose(found, 3.0)
        mezo_step(x, fun, batch=3.0)
        assert all(names == ["batch"] for names in seen)

    def test_keywords_that_are_named(self):
        def fun(p, *rest, value=0.0, batch=1.0):
            return jnp.sum(p) * (batch + value) + len(rest)

        found = update(jaxfd.Central(), jnp.ones(2), fun, batch=3.0, value=1.0, rest=5.0, else_=1)
        np.testing.assert_allclose(found, 4.0)

    @pytest.mark.parametrize("params", [{"w": jnp.ones(2), "n": jnp.arange(3)}, jnp.arange(3)])
    def test_integers(self, params):
        for run in (lambda: update(LINKS[0], params, None), lambda: mezo_step(params, None)):
            with pytest.raises(TypeError, match=r"real or complex parameters, but params.* is int"):
                run()

    @pytest.mark.parametrize(
        ("fun", "kind"),
        [(lambda p: (jnp.sum(p), p), "a tuple"), (lambda p: p, r"the shape \(2,\)")],
    )
    def test_more_than_one_number(self, fun, kind):
        x = jnp.ones(2)
        words = f"needs a value_fn that returns one number, got {kind}: .*return the loss"
        for run in (*(lambda m=m: update(m, x, fun) for m in LINKS), lambda: mezo_step(x, fun)):
            with pytest.raises(TypeError, match=words):
                run()

    def test_guided_makes_its_subspace(self):
        x = {"a": jnp.arange(20.0), "b": jnp.ones((2, 3))}
        key = jax.random.key(0)

        def loss(p):
            return jnp.sum(p["a"] ** 2) + jnp.sum(p["b"])

        none = jax.tree.map(lambda z: jnp.zeros((2, *z.shape), z.dtype), x)
        states = []
        for subspace in (None, none):
            link = estimate_gradient(jaxfd.Guided(key, 4, subspace))
            state = link.init(x)
            for _ in range(3):
                _, state = link.update(None, state, x, value_fn=loss)
            states.append(state)
        for one, other in zip(*map(jax.tree.leaves, states), strict=True):
            np.testing.assert_array_equal(one, other)
        with pytest.raises(ValueError, match=r"subspace must have .*jnp\.zeros if there are none"):
            estimate_gradient(jaxfd.Guided(key, 1))
