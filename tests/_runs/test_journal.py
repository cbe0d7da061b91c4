"""The journal: what is found again and what is not, bit for bit, and how it is read."""

import contextlib
import dataclasses
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import _simulators as simulators
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _bench import SCALAR, Bench
from _executors import executor
from _simulators import SLOPE, Fails, X
from _tools import x64

import jaxfd

PAIR = jax.ShapeDtypeStruct((2,), np.float64)


class Mesh:
    """Two of them differ, and their text does not say so."""

    def __init__(self, size):
        self.size = size

    def __repr__(self):
        return "Mesh()"

    def __eq__(self, other):
        return self.size == other.size

    def __hash__(self):
        return hash(self.size)


@functools.partial(jax.tree_util.register_dataclass, data_fields=["x"], meta_fields=["mesh"])
@dataclasses.dataclass
class Meshed:
    x: object
    mesh: Mesh


class Terse(str):
    """A text that keeps to itself."""

    def __repr__(self):
        return "Terse"


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


class TestFound:
    def test_not_evaluated_again_and_the_same_bits(self, bench):
        plain = jax.value_and_grad(jaxfd.blackbox(simulators.quadratic, SCALAR))(X)
        for expected in (7, 0, 0):
            found = jax.value_and_grad(bench.box())(X)
            assert bench.evaluated() == expected
            for a, b in zip(found, plain, strict=True):
                assert np.asarray(a).tobytes() == np.asarray(b).tobytes()

    @pytest.mark.parametrize(
        ("run", "more"),
        [
            (lambda box: jaxfd.grad(box)(X), 0),
            (lambda box: jax.jit(jax.grad(box))(X), 0),
            (lambda box: box(X), 0),
            (lambda box: jaxfd.grad(box, method=jaxfd.Forward())(X), 3),
            (lambda box: jax.vmap(jax.grad(box))(jnp.stack([X, X + 1])), 7),
            (lambda box: jax.hessian(box)(X), 12),
        ],
        ids=["jaxfd.grad", "jit", "call", "Forward", "vmap", "hessian"],
    )
    def test_by_other_transforms(self, bench, run, more):
        jax.value_and_grad(bench.box())(X)
        assert bench.evaluated() == 7
        box = bench.box()
        found = run(box)
        assert bench.evaluated() == more
        np.testing.assert_array_equal(found, run(jaxfd.blackbox(simulators.quadratic, SCALAR)))

    @pytest.mark.parametrize("first", [False, True])
    def test_by_vectorised_functions_and_others(self, bench, first):
        options = [{"vectorized": first}, {"vectorized": not first}]
        one, two = (jax.jacrev(bench.box(simulators.curve, PAIR, **o))(X) for o in options)
        assert bench.evaluated() == 7
        np.testing.assert_array_equal(one, two)

    @pytest.mark.parametrize("vectorized", [False, True], ids=["single", "vectorized"])
    def test_a_part(self, bench, vectorized):
        jaxfd.grad(bench.box(vectorized=vectorized), method=jaxfd.Central(step=1e-3))(X)
        bench.evaluated()
        box = bench.box(vectorized=vectorized)
        found = jaxfd.value_and_grad(box, method=jaxfd.Central(4, step=1e-3))(X)
        assert bench.evaluated() == 13 - 6
        plain = jaxfd.blackbox(simulators.quadratic, SCALAR)
        expected = jaxfd.value_and_grad(plain, method=jaxfd.Central(4, step=1e-3))(X)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("vectorized", [False, True], ids=["single", "vectorized"])
    def test_duplicates_in_a_batch_are_evaluated_once(self, bench, vectorized):
        batch = jnp.stack([X, X + 1, X, X])
        values = jax.vmap(bench.box(vectorized=vectorized))(batch)
        assert bench.evaluated() == 2
        np.testing.assert_array_equal(values, simulators.quadratic(np.asarray(batch)))

    @pytest.mark.parametrize("kind", ["threads", "spawn", "loky"])
    def test_with_an_executor(self, bench, kind):
        with executor(kind) as pool:
            first = jax.grad(bench.box(executor=pool))(X)
            assert bench.evaluated() == 7
            second = jax.grad(bench.box(executor=pool))(X)
        assert bench.evaluated() == 0
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first, SLOPE, rtol=1e-9)

    def test_single_precision_is_recognised(self, bench):
        plain = jax.grad(jaxfd.blackbox(simulators.returns_single, SCALAR))(X)
        for _ in range(2):
            found = jax.grad(bench.box(simulators.returns_single))(X)
            assert np.asarray(found).tobytes() == np.asarray(plain).tobytes()
        bench.evaluated()
        jax.grad(bench.box(simulators.returns_single))(X)
        assert bench.evaluated() == 0

    def test_where_jax_computes_in_single_precision(self, bench):
        with x64(False):
            single = jax.ShapeDtypeStruct((), np.float32)
            found = [jax.grad(bench.box(out=single))(jnp.asarray(X, jnp.float32)) for _ in "ab"]
        assert bench.evaluated() == 7
        np.testing.assert_array_equal(*found)

    def test_nan_is_a_result(self, bench):
        for expected in (7, 0):
            value, _ = jax.value_and_grad(bench.box(Fails("nan", "centre")))(X)
            assert np.isnan(value)
            assert bench.evaluated() == expected

    @pytest.mark.parametrize("kind", [np.float16, jnp.bfloat16, jnp.float8_e4m3fn])
    def test_narrow_numbers(self, bench, kind):
        out = jax.ShapeDtypeStruct((), kind)
        box = jaxfd.blackbox(lambda x: x.astype(kind), out, journal=bench.path, name="f")
        for _ in "ab":
            assert float(box(jnp.asarray(1.5))) == 1.5
        (runs,) = jaxfd.Journal(bench.path).runs()
        assert runs.outputs["out"].astype(np.float64).tolist() == [1.5]

    def test_outputs_of_every_kind(self, bench):
        out = {
            "b": jax.ShapeDtypeStruct((), np.bool_),
            "c": jax.ShapeDtypeStruct((2, 1), np.complex128),
            "e": jax.ShapeDtypeStruct((0,), np.float64),
            "i": jax.ShapeDtypeStruct((3,), np.int32),
        }
        value = {
            "b": np.True_,
            "c": np.array([[1 + 2j], [np.nan - 0.0j]]),
            "e": np.zeros(0),
            "i": np.array([1, -2, 3], np.int32),
        }
        first, second = (
            jaxfd.blackbox(lambda x: value, out, journal=bench.path, name="f")(X) for _ in "ab"
        )
        assert len(jaxfd.Journal(bench.path)) == 1
        for key in out:
            assert np.asarray(first[key]).tobytes() == np.asarray(second[key]).tobytes()
            assert second[key].dtype == out[key].dtype


class TestMissed:
    @pytest.mark.parametrize(
        "other",
        [{"name": "g"}, {"version": "2"}, {"out": jax.ShapeDtypeStruct((), np.float32)}],
        ids=["name", "version", "out"],
    )
    def test_another_function(self, bench, other):
        bench.box()(X)
        bench.box(**other)(X)
        assert bench.evaluated() == 2

    @pytest.mark.parametrize(
        ("one", "two"),
        [
            ((0.0,), (-0.0,)),
            ((1,), (1.0,)),
            ((1.0,), (np.ones(1),)),
            ((np.ones((2, 3)),), (np.ones((3, 2)),)),
            (([1.0, 2.0],), ((1.0, 2.0),)),
            (({"a": 1.0},), ({"b": 1.0},)),
            ((1.0, "red"), (1.0, "blue")),
            ((1.0, True), (1.0, 1)),
            ((1.0, None), (1.0,)),
            ((np.int32(1),), (np.int64(1),)),
            ((np.nan,), (np.frombuffer(b"\1\0\0\0\0\0\xf8\x7f")[0],)),
        ],
        ids=str,
    )
    def test_other_arguments(self, bench, one, two):
        calls = []

        def count(*args):
            calls.append(args)
            return 0.0

        box = jaxfd.blackbox(count, SCALAR, journal=bench.path, name="f")
        for args in (one, two, one, two):
            box(*args)
        assert len(calls) == 2

    @pytest.mark.parametrize(
        ("two", "three"),
        [(Meshed(1.0, Mesh(2)), Meshed(1.0, Mesh(3))), (Terse("ab"), Terse("abc"))],
        ids=["structure", "value"],
    )
    def test_what_is_hidden_by_its_text(self, bench, two, three):
        """It is told apart, or refused; the result of another call would be wrong."""

        def size(what):
            return float(what.mesh.size if isinstance(what, Meshed) else len(what))

        box = jaxfd.blackbox(size, SCALAR, journal=bench.path, name="f")
        with contextlib.suppress(TypeError):
            assert float(box(two)) == 2.0
            assert float(box(three)) == 3.0

    def test_keywords(self, bench):
        calls = []

        def count(x, *, a=0.0, b=0.0):
            calls.append((a, b))
            return 0.0

        box = jaxfd.blackbox(count, SCALAR, journal=bench.path, name="f")
        for keywords in ({"a": 1.0}, {"b": 1.0}, {"a": 1.0}, {}):
            box(1.0, **keywords)
        assert len(calls) == 3

    @pytest.mark.parametrize("on_error", ["raise", "nan", lambda x, error: 0.0])
    def test_failures_are_not_kept(self, bench, on_error):
        box = bench.box(Fails(), on_error=on_error)
        for evaluated in (5, 1) if on_error == "raise" else (7, 1):
            if on_error == "raise":
                with pytest.raises(ArithmeticError):
                    jax.grad(box)(X)
            elif on_error == "nan":
                with pytest.warns(RuntimeWarning, match=r"1 of 7 points"):
                    jax.grad(box)(X)
            else:
                jax.grad(box)(X)
            assert bench.evaluated() == evaluated
        assert len(jaxfd.Journal(bench.path)) == (4 if on_error == "raise" else 6)

    def test_what_was_lost_is_filled_in_later(self, bench, tmp_path):
        fun = simulators.Flaky(str(tmp_path))
        with pytest.warns(RuntimeWarning, match=r"1 of 7 points"):
            jax.grad(bench.box(fun, on_error="nan"))(X)
        bench.evaluated()
        gradient = jax.grad(bench.box(fun, on_error="nan"))(X)
        assert bench.evaluated() == 1
        expected = jax.grad(jaxfd.blackbox(simulators.quadratic, SCALAR))(X)
        np.testing.assert_array_equal(gradient, expected)


class TestLargeArguments:
    def test_stored_once(self, bench):
        data = jnp.asarray(np.random.default_rng(0).normal(size=2**17))

        def model(x, data):
            return np.sum(x**2) * data[0]

        journal = jaxfd.Journal(bench.path)
        box = jaxfd.blackbox(model, SCALAR, journal=journal, name="f")
        gradient = jax.grad(box)(X, data)
        (runs,) = journal.runs()
        assert len(runs) == 7
        np.testing.assert_array_equal(runs.inputs["data"], np.stack([data] * 7))
        journal.close()
        assert data.nbytes < bench.path.stat().st_size < 1.5 * data.nbytes
        np.testing.assert_allclose(gradient, 2 * X * data[0], rtol=1e-8)

    @pytest.mark.parametrize("size", [511, 512, 513])
    def test_one_number_changed(self, bench, size):
        box = bench.box(lambda x: x.sum())
        x = np.ones(size)
        box(x)
        x[-1] = 2.0
        assert float(box(x)) == size + 1
        assert bench.evaluated() == 2
        (runs,) = jaxfd.Journal(bench.path).runs()
        np.testing.assert_array_equal(runs.inputs["x"][1], x)


class TestFailures:
    def test_what_finished_beside_a_failure_is_kept(self, bench):
        """In the same chunk: seven points, of which the one before the last fails."""

        def fails(x):
            if x[1] > X[1]:
                raise ArithmeticError("no such point")
            return simulators.quadratic(x)

        with ThreadPoolExecutor(1) as pool:
            box = bench.box(fails, executor=pool, chunk_size=7)
            with pytest.raises(ArithmeticError):
                jax.grad(box)(X)
        assert len(jaxfd.Journal(bench.path)) == 6


class TestThreads:
    def test_of_one_journal(self, bench):
        box = bench.box(vectorized=True)
        batches = [jnp.asarray(X + i + np.arange(5)[:, None]) for i in range(4)]
        found = [None] * 4
        start = threading.Barrier(4)

        def run(i):
            start.wait()
            with x64(True):
                found[i] = jax.vmap(box)(batches[i])

        threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for batch, values in zip(batches, found, strict=True):
            np.testing.assert_array_equal(values, simulators.quadratic(np.asarray(batch)))
        assert len(jaxfd.Journal(bench.path)) == 8
