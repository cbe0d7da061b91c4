"""`jaxfd.optim.minimize`: one call, and everything that may come in between."""

import os
import signal
import time

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
import pytest
from _bench import ended, program
from _tools import Host, Points, rosenbrock

import jaxfd
from jaxfd.optim import Result, _loop, estimate_gradient, minimize, spsa

matplotlib.use("Agg")


def bowl(x):
    return jnp.sum((x - 3.0) ** 2)


def hard(dtype=np.float64):
    return jnp.asarray([-1.2, 1.0], dtype)


@pytest.fixture
def optax_promotes():
    """Most of optax does not run under strict dtype promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture
def x64_everywhere():
    """Callbacks may run in threads that do not know of a context manager."""
    jax.config.update("jax_enable_x64", True)
    yield
    # What was there before cannot be asked: the context manager that all tests are in says True.
    jax.config.update("jax_enable_x64", False)


def same(one, two):
    """Asserts that two results agree bit for bit."""
    for a, b in zip(jax.tree.leaves(one.x), jax.tree.leaves(two.x), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.history, two.history)
    assert one.value == two.value
    assert one.num_evaluations == two.num_evaluations
    assert one.message == two.message


class TestDefault:
    def test_value(self, dtype):
        found = minimize(rosenbrock, hard(dtype))
        assert found.x.dtype == dtype
        np.testing.assert_allclose(found.x, 1.0, atol=2e-2 if dtype == np.float32 else 1e-5)
        assert found.converged
        np.testing.assert_allclose(found.value, rosenbrock(found.x), rtol=1e-3)
        assert found.num_evaluations < 400
        assert len(found.history) < 100
        assert np.all(np.diff(found.history) <= 1e-6 * found.history[:-1])

    def test_counts_what_is_evaluated(self, dtype):
        points = Points()

        def fun(x):
            points(x)
            return rosenbrock(x)

        found = minimize(fun, hard(dtype))
        assert len(points.taken()) == found.num_evaluations

    @pytest.mark.usefixtures("x64_everywhere")
    def test_black_box(self, dtype):
        host = Host(lambda x: np.sum((x - 3.0) ** 4, axis=-1) + x[..., 0] ** 2, vectorized=False)
        box = jaxfd.blackbox(host, jax.ShapeDtypeStruct((), dtype))
        found = minimize(box, jnp.asarray([1.0, 2.0], dtype))
        assert found.converged
        assert host.evaluations == found.num_evaluations
        expected = minimize(lambda x: bowl(x) ** 0 * jnp.sum((x - 3.0) ** 4) + x[0] ** 2, hard())
        np.testing.assert_allclose(found.value, expected.value, atol=1e-5)

    def test_pytree_of_several_dtypes(self):
        def fun(p):
            return bowl(p["a"]) + bowl(p["b"][0].astype(np.float64)) + p["b"][1] ** 2

        x0 = {"a": jnp.ones((2, 2)), "b": (jnp.zeros(3, np.float32), jnp.array(5.0))}
        found = minimize(fun, x0)
        assert jax.tree.structure(found.x) == jax.tree.structure(x0)
        assert jax.tree.map(lambda z: z.dtype, found.x) == jax.tree.map(lambda z: z.dtype, x0)
        assert found.value < 1e-6

    def test_one_number(self):
        found = minimize(lambda x: (x - 2) ** 4, 1.0)
        assert abs(found.x - 2) < 2e-2

    def test_badly_scaled(self):
        """Entries of 500 and 1e-4, as in the data sets of NIST."""

        def fun(x):
            return ((x[0] - 240) / 500) ** 2 + (x[0] * x[1] - 0.13) ** 2

        found = minimize(fun, jnp.array([500.0, 1e-4]))
        assert found.value < 1e-9

    def test_starts_at_the_end(self):
        found = minimize(bowl, jnp.full(2, 3.0))
        assert found.converged
        assert found.value == 0

    @pytest.mark.usefixtures("x64_everywhere")
    @pytest.mark.parametrize("noise", [1e-8, 1e-3])
    def test_noise(self, noise):
        rng = np.random.default_rng(0)
        box = jaxfd.blackbox(
            lambda x: (1 + np.sum((x - 3.0) ** 2)) * (1 + noise * rng.normal()),
            jax.ShapeDtypeStruct((), np.float64),
        )
        found = minimize(box, jnp.array([1.0, -2.0, 0.5]))
        assert bowl(found.x) < 10 * noise
        assert found.num_evaluations < 2000

    def test_constant_in_pieces(self):
        found = minimize(lambda x: jnp.sum(jnp.floor(64 * x) ** 2) / 64**2, jnp.array([1.0, 2.0]))
        assert found.value < 0.1

    def test_method_is_used_as_it_is(self):
        points = Points()

        def steps(x):
            points(x)
            return jnp.sum(jnp.floor(64 * x) ** 2) / 64**2

        found = minimize(steps, jnp.array([1.0, 2.0]), method=jaxfd.Central(step=0.25))
        assert found.value < 1e-2
        taken = points.taken()
        assert len(taken) == found.num_evaluations
        assert np.any(taken == 1.25)


class TestBounds:
    @pytest.mark.parametrize("optimizer", [None, optax.sgd(1e-3)])
    def test_nothing_outside(self, optimizer):
        points = Points()

        def fun(x):
            points(x)
            return rosenbrock(x)

        with jax.numpy_dtype_promotion("standard"):
            found = minimize(fun, hard() * 0.5, optimizer, bounds=(-2.0, 0.75))
        taken = points.taken()
        assert taken.min() >= -2
        assert taken.max() <= 0.75
        if optimizer is None:
            np.testing.assert_allclose(found.x, [0.75, 0.5625], atol=1e-4)
            assert found.converged

    def test_at_a_wall(self):
        found = minimize(bowl, jnp.array([0.0, 0.0]), bounds=(jnp.array([-1.0, -1.0]), 2.0))
        np.testing.assert_array_equal(found.x, 2.0)
        assert found.converged

    def test_each_its_own(self):
        x0 = {"a": jnp.array([1.0]), "b": jnp.array([1.0])}
        found = minimize(
            lambda p: bowl(p["a"]) + bowl(p["b"]), x0, bounds=(None, {"a": 2.0, "b": jnp.inf})
        )
        np.testing.assert_allclose(found.x["a"], 2.0)
        np.testing.assert_allclose(found.x["b"], 3.0, atol=1e-4)

    def test_start_outside(self):
        with pytest.raises(ValueError, match="x lies outside bounds"):
            minimize(bowl, hard(), bounds=(0, 1))


@pytest.mark.usefixtures("optax_promotes")
class TestOptimizers:
    @pytest.mark.parametrize(
        "optimizer",
        [
            optax.adam(0.1),
            optax.lbfgs(),
            optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(20)),
            optax.sgd(optax.cosine_decay_schedule(0.3, 300)),
        ],
    )
    def test_of_optax(self, dtype, optimizer):
        with jax.enable_x64(dtype == np.float64):
            found = minimize(bowl, jnp.ones(3, dtype), optimizer, max_steps=400)
            assert found.x.dtype == dtype
            assert found.value < 1e-5

    def test_evaluations_of_backtracking(self):
        points = Points()

        def fun(x):
            points(x)
            return rosenbrock(x)

        optimizer = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(30))
        found = minimize(fun, hard(), optimizer, max_steps=20)
        assert len(points.taken()) == found.num_evaluations

    def test_random_method(self, dtype):
        method = jaxfd.SPSA(num_samples=2)
        one = minimize(bowl, jnp.full(3, 2.5, dtype), method=method, key=jax.random.key(1))
        assert one.value < 1e-2
        keyed = jaxfd.SPSA(jax.random.key(5), 2)
        two = minimize(bowl, jnp.full(3, 2.5, dtype), method=keyed, key=jax.random.key(1))
        same(one, two)
        other = minimize(bowl, jnp.full(3, 2.5, dtype), method=keyed)
        assert not np.array_equal(one.x, other.x)

    def test_one_that_estimates_for_itself(self):
        points = Points()

        def fun(x):
            points(x)
            return bowl(x)

        optimizer = spsa(jax.random.key(0), a=1.0, stability=10.0)
        found = minimize(fun, jnp.zeros(3), optimizer, max_steps=100)
        assert found.value < 1e-2
        # Two for the gradient and one for the value.
        assert found.num_evaluations == len(points.taken()) == 3 * len(found.history)

    def test_multi_transform(self):
        optimizer = optax.multi_transform(
            {"slow": optax.sgd(0.1), "fast": optax.adam(0.1)}, {"a": "slow", "b": "fast"}
        )
        x0 = {"a": jnp.zeros(2), "b": jnp.ones(2)}
        found = minimize(lambda p: bowl(p["a"]) + bowl(p["b"]), x0, optimizer)
        assert found.value < 1e-4


class TestNotFinite:
    def test_mid_run(self):
        """A wall of NaN, with the minimum right before it."""

        def fun(x):
            return jnp.where(x[0] > 1, jnp.nan, bowl(x))

        found = minimize(fun, jnp.zeros(2))
        assert np.isfinite(found.value)
        assert found.value < 4.2

    def test_optimizer_runs_into_it(self):
        def fun(x):
            return jnp.where(jnp.any(x > 1), jnp.nan, bowl(x))

        found = minimize(fun, jnp.zeros(2), optax.sgd(0.4), max_steps=50)
        assert np.isfinite(found.x).all()
        assert found.value < 9
        assert "not finite" in found.message

    @pytest.mark.parametrize("optimizer", [None, optax.sgd(0.1)])
    def test_at_the_start(self, optimizer):
        with pytest.raises(ValueError, match="fun is nan at x0"):
            minimize(lambda x: jnp.sum(x) * jnp.nan, jnp.ones(2), optimizer)


class TestBudgets:
    def test_evaluations(self):
        found = minimize(rosenbrock, hard(), max_evaluations=40)
        assert 40 <= found.num_evaluations < 60
        assert not found.converged
        assert found.message == "the budget of 40 evaluations is spent"

    def test_steps(self):
        found = minimize(rosenbrock, hard(), max_steps=7)
        assert len(found.history) == 7
        assert found.message == "the budget of 7 steps is spent"

    def test_seconds(self):
        found = minimize(rosenbrock, hard(), max_seconds=0)
        assert len(found.history) == 0
        assert "the time of 0 seconds is over" in found.message
        np.testing.assert_array_equal(found.x, hard())

    def test_tolerance(self):
        loose = minimize(rosenbrock, hard(), tol=1e-2)
        tight = minimize(rosenbrock, hard())
        assert loose.num_evaluations < tight.num_evaluations
        assert loose.converged


class TestBetween:
    def test_callback_sees_every_step(self):
        seen = []
        found = minimize(rosenbrock, hard(), callback=seen.append, path=True)
        np.testing.assert_array_equal([result.value for result in seen], found.history)
        np.testing.assert_array_equal([result.x for result in seen], found.path)
        np.testing.assert_allclose(list(map(rosenbrock, found.path)), found.history)
        assert all(isinstance(result, Result) for result in seen)
        assert seen[0].message == "still going"
        assert seen[0].num_evaluations < seen[-1].num_evaluations == found.num_evaluations

    @pytest.mark.usefixtures("x64_everywhere")
    def test_callback_stops(self):
        box = jaxfd.blackbox(lambda x: np.sum(x**2), jax.ShapeDtypeStruct((), np.float64))
        found = minimize(box, hard(), callback=lambda result: len(result.history) == 1)
        assert len(found.history) == 1
        assert found.message == "the callback asked to stop"
        assert not found.converged

    def test_progress(self):
        seen = []
        found = minimize(rosenbrock, hard(), progress=seen.append)
        assert seen[0].name == "rosenbrock"
        assert (seen[0].done, seen[0].planned) == (0, 2000)
        assert seen[-1].done == len(found.history)

    def test_segments_change_nothing(self, monkeypatch):
        whole = minimize(rosenbrock, hard())
        for longest in (1, 3, 256):
            monkeypatch.setattr(_loop, "_LONGEST", longest)
            same(minimize(rosenbrock, hard()), whole)


@pytest.mark.heavy
class TestCheckpoint:
    OPTIONS = (
        {},
        {"method": jaxfd.SPSA(jax.random.key(0)), "max_steps": 60},
        {"optimizer": optax.adam(0.05), "max_steps": 60},
        {"bounds": (-2.0, 1.0)},
    )

    @pytest.mark.usefixtures("optax_promotes")
    @pytest.mark.parametrize("options", OPTIONS, ids=["default", "random", "adam", "bounds"])
    def test_goes_on_where_it_was(self, tmp_path, options):
        whole = minimize(rosenbrock, hard(), **options)
        for steps in (1, 5, 12):
            part = minimize(
                rosenbrock, hard(), checkpoint=tmp_path, **{**options, "max_steps": steps}
            )
            assert len(part.history) == steps
        same(minimize(rosenbrock, hard(), checkpoint=tmp_path, **options), whole)
        # Once it is over nothing is evaluated any more.
        same(minimize(rosenbrock, hard(), checkpoint=tmp_path, **options), whole)
        assert os.listdir(tmp_path) == ["run.npz"]

    @pytest.mark.usefixtures("optax_promotes")
    @pytest.mark.parametrize(
        "other",
        [
            {"fun": bowl},
            {"x0": jnp.array([-1.0, 1.0])},
            {"bounds": (-2.0, 2.0)},
            {"method": jaxfd.Forward()},
            {"method": jaxfd.SPSA(jax.random.key(0))},
            {"optimizer": optax.adam(0.1)},
        ],
        ids=lambda other: next(iter(other)),
    )
    def test_of_another_problem(self, tmp_path, other):
        minimize(rosenbrock, hard(), checkpoint=tmp_path, max_steps=3)
        problem = {"fun": rosenbrock, "x0": hard(), **other}
        with pytest.raises(ValueError, match="holds a run of another problem"):
            minimize(**problem, checkpoint=tmp_path)

    @pytest.mark.usefixtures("optax_promotes")
    def test_constants_and_rates_count(self, tmp_path):
        data = jnp.arange(3.0)
        run = {"checkpoint": tmp_path, "max_steps": 3}
        minimize(lambda x: jnp.sum((x - data) ** 2), jnp.ones(3), optax.adam(0.1), **run)
        minimize(lambda x: jnp.sum((x - data) ** 2), jnp.ones(3), optax.adam(0.1), **run)
        with pytest.raises(ValueError, match="another problem"):
            minimize(lambda x: jnp.sum((x - data) ** 2), jnp.ones(3), optax.adam(0.2), **run)
        other = jnp.arange(3.0) + 1
        with pytest.raises(ValueError, match="another problem"):
            minimize(lambda x: jnp.sum((x - other) ** 2), jnp.ones(3), optax.adam(0.1), **run)


_FIT = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import jax, jax.numpy as jnp, numpy as np, jaxfd
jax.config.update("jax_enable_x64", True)
folder, pause, traced = sys.argv[1], float(sys.argv[2]), sys.argv[3] == "traced"

def simulate(x):
    time.sleep(float(sys.argv[2]))  # a global number would be part of the problem
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2

def slow(x):
    # Some ten milliseconds of work, which the value feels by nothing.
    y = jax.lax.fori_loop(0, int(1e7 * pause), lambda i, y: jnp.sin(y), x[0])
    return simulate_traced(x) + 0 * y

def simulate_traced(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2

box = jaxfd.blackbox(simulate, jax.ShapeDtypeStruct((), np.float64))
print("ready", flush=True)
found = jaxfd.optim.minimize(
    slow if traced else box,
    jnp.array([-1.2, 1.0]),
    checkpoint=None if folder == "none" else folder,
    callback=lambda result: print(len(result.history), flush=True),
)
print("end", found.message, flush=True)
print(np.asarray(found.x).tobytes().hex(), found.history.tobytes().hex(), found.num_evaluations)
"""


def _end(child):
    out, errors = child.communicate(timeout=100)
    assert child.returncode == 0, errors
    return out.splitlines()


@pytest.fixture
def start():
    with ended() as children:

        def start(*arguments):
            child = program(_FIT, *arguments, start_new_session=True)
            children.append(child)
            assert child.stdout.readline() == "ready\n"
            return child

        yield start


@pytest.mark.heavy
class TestPrograms:
    def test_killed_at_any_moment(self, start, tmp_path):
        whole = _end(start("none", 0, "box"))
        delays = np.random.default_rng(0).uniform(0, 0.08, 4)
        for delay in delays:
            child = start(tmp_path, 0.002, "box")
            child.stdout.readline()
            time.sleep(delay)
            child.kill()
            child.communicate()
            assert child.returncode == -signal.SIGKILL
        rest = _end(start(tmp_path, 0, "box"))
        assert rest[-2:] == whole[-2:]
        assert int(rest[0]) > 1, "nothing was resumed"

    @pytest.mark.skipif(os.name == "nt", reason="SIGINT to one process is POSIX")
    @pytest.mark.parametrize("kind", ["box", "traced"])
    def test_interrupted(self, start, tmp_path, kind):
        child = start(tmp_path, 0.2, kind)
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        begun = time.monotonic()
        lines = _end(child)
        assert time.monotonic() - begun < 10
        assert lines[-2] == "end interrupted"
        rest = _end(start(tmp_path, 0, kind) if kind == "box" else start(tmp_path, 0.2, kind))
        whole = _end(start("none", 0, kind) if kind == "box" else start("none", 0.2, kind))
        assert rest[-2:] == whole[-2:]


class TestResult:
    def test_printed(self):
        text = str(minimize(bowl, {"a": jnp.ones(2), "b": jnp.array(1.0)}.get("a")))
        assert text.startswith("converged: ")
        assert "evaluations" in text
        assert "x = [3. 3.]" in text
        text = str(minimize(lambda p: bowl(p["a"]), {"a": jnp.ones(2)}, max_steps=1))
        assert text.startswith("not converged: the budget of 1 steps is spent")
        assert "\na = " in text

    def test_drawn(self):
        found = minimize(rosenbrock, hard())
        ax = jaxfd.plot(found)
        (line,) = ax.get_lines()
        np.testing.assert_array_equal(line.get_ydata(), found.history)
        matplotlib.pyplot.close(ax.figure)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"optimizer": "adam"}, TypeError, "optimizer must be an optax optimiser"),
            ({"method": "central"}, TypeError, "method must be a method value"),
            ({"method": jaxfd.Central}, TypeError, r"such as Central\(\)"),
            ({"method": jaxfd.SPSA()}, TypeError, "needs a PRNG key"),
            ({"max_steps": 1.5}, TypeError, "max_steps must be an integer, got 1.5"),
            ({"max_steps": 0}, ValueError, "max_steps must be from 1"),
            ({"max_evaluations": -1}, ValueError, "max_evaluations must be from 1"),
            ({"max_seconds": "long"}, TypeError, "max_seconds must be a number"),
            ({"max_seconds": np.inf}, ValueError, "max_seconds must be 0 or more and finite"),
            ({"tol": -1.0}, ValueError, "tol must be 0 or more"),
            ({"tol": None}, TypeError, "tol must be a number, got None"),
            ({"bounds": 3}, TypeError, "bounds must be a pair"),
            ({"bounds": (1, 0)}, ValueError, "bounds are crossed"),
            ({"callback": 3}, TypeError, "callback must be a function"),
            ({"progress": 3}, TypeError, "progress must be True, False or a function"),
            ({"key": jax.random.key(0)}, ValueError, "key is for random methods"),
        ],
    )
    def test_options(self, options, error, words):
        with pytest.raises(error, match=words):
            minimize(bowl, hard(), **options)

    @pytest.mark.parametrize("x0", [jnp.arange(3), jnp.ones(2) + 1j, "x"])
    def test_start(self, x0):
        with pytest.raises(TypeError, match="minimize"):
            minimize(bowl, x0)

    def test_start_not_finite_or_empty(self):
        with pytest.raises(ValueError, match="minimize needs a finite x"):
            minimize(bowl, jnp.array([1.0, jnp.inf]))
        with pytest.raises(ValueError, match="x holds no numbers"):
            minimize(bowl, jnp.zeros(0))

    def test_function(self):
        with pytest.raises(TypeError, match="returns one number"):
            minimize(lambda x: x, hard())
        with pytest.raises(TypeError, match="fun must be callable"):
            minimize(3, hard())


def test_estimate_gradient_beside_other_links():
    """A chain that estimates for itself is recognised wherever the link is."""
    with jax.numpy_dtype_promotion("standard"):
        optimizer = optax.chain(
            optax.identity(), estimate_gradient(jaxfd.Central()), optax.sgd(0.1)
        )
        found = minimize(bowl, jnp.zeros(2), optimizer, max_steps=100)
    assert found.value < 1e-6
    assert found.num_evaluations == 100 * (5 + 1) or found.converged


@pytest.mark.usefixtures("x64_everywhere")
def test_what_a_black_box_raises_arrives_as_it_is():
    def broken(x):
        if x[0] > 0.5:
            raise ValueError("no such valve")
        return np.sum((x - 1) ** 2)

    box = jaxfd.blackbox(broken, jax.ShapeDtypeStruct((), np.float64))
    with pytest.raises(ValueError, match="no such valve") as caught:
        jaxfd.optim.minimize(box, jnp.zeros(2))
    assert any("at point" in note for note in caught.value.__notes__)
