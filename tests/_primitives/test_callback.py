"""The primitive that calls the host: batching, results, errors and threads."""

import subprocess
import sys
import threading
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import REPOSITORY, run_python

import jaxfd
from jaxfd._primitives.callback import host_call

SCALAR = jax.ShapeDtypeStruct((), np.float32)


class Recorder:
    """A callback that remembers what it was called with.

    Args:
        fun: maps the operands of one call to its results.
    """

    name = "recorder"

    def __init__(self, fun):
        self.fun = fun
        self.shapes = []
        self.batched = []
        self.sizes = []

    def __call__(self, arrays, batched, size):
        assert all(type(a) is np.ndarray for a in arrays)
        self.shapes.append(tuple(a.shape for a in arrays))
        self.batched.append(batched)
        self.sizes.append(size)
        if size is None:
            return self.fun(*arrays)
        rows = [
            self.fun(*(a[i] if b else a for a, b in zip(arrays, batched, strict=True)))
            for i in range(size)
        ]
        return [np.stack(column) for column in zip(*rows, strict=True)]


def mixed(a, b, c):
    """Tells its three operands apart, and their order."""
    return [np.sum(a) + 10 * b[0] * b[1] ** 2 + 100 * c, a * c]


OUT = (SCALAR, jax.ShapeDtypeStruct((3,), np.float32))


def call(recorder, *operands):
    return tuple(host_call(recorder, OUT, operands))


def numbers(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), np.float32)


def check(results, operands, maps):
    """Compares batched results with a loop over `mixed`.

    Args:
        results: what the batched call gave.
        operands: its operands, every batch axis in front.
        maps: for each batch axis, the operands that have it.
    """
    flat = [np.asarray(o, np.float64) for o in operands]
    sizes = [
        next(flat[i].shape[sum(i in m for m in maps[:k])] for i in m) for k, m in enumerate(maps)
    ]
    for index in np.ndindex(*sizes):
        picked = [
            o[tuple(j for j, m in zip(index, maps, strict=True) if i in m)]
            for i, o in enumerate(flat)
        ]
        for got, want in zip(results, mixed(*picked), strict=True):
            np.testing.assert_allclose(got[index], want, rtol=1e-5, atol=1e-5)


@pytest.fixture(params=["eager", "jit"])
def compiled(request):
    """Either `jax.jit` or nothing."""
    return jax.jit if request.param == "jit" else lambda fun: fun


class TestBatching:
    def test_no_batch(self, compiled):
        host, operands = Recorder(mixed), (numbers(3), numbers(2), numbers())
        results = compiled(lambda *o: call(host, *o))(*operands)
        check(results, operands, [])
        assert host.shapes == [((3,), (2,), ())]
        assert host.sizes == [None]
        assert host.batched == [(False, False, False)]

    def test_one_call_and_unbatched_operands_stay_so(self, compiled):
        host, operands = Recorder(mixed), (numbers(4, 3), numbers(2), numbers(4))
        mapped = jax.vmap(lambda *o: call(host, *o), in_axes=(0, None, 0))
        check(compiled(mapped)(*operands), operands, [{0, 2}])
        assert host.shapes == [((4, 3), (2,), (4,))]
        assert host.sizes == [4]
        assert host.batched == [(True, False, True)]

    def test_any_axis(self, compiled):
        host, operands = Recorder(mixed), (numbers(4, 3), numbers(4, 2), numbers(4))
        mapped = jax.vmap(lambda *o: call(host, *o), in_axes=(1, -1, 0), out_axes=(0, 1))
        first, second = compiled(mapped)(operands[0].T, operands[1].T, operands[2])
        check((first, second.T), operands, [{0, 1, 2}])
        assert host.shapes == [((4, 3), (4, 2), (4,))]

    @pytest.mark.parametrize(
        ("outer", "inner", "shapes"),
        [
            ((0, 0, 0), (0, 0, 0), ((20, 3), (20, 2), (20,))),
            ((0, None, 0), (0, None, None), ((20, 3), (2,), (20,))),
            ((0, None, None), (None, 0, None), ((20, 3), (20, 2), ())),
            ((None, None, 0), (None, None, 0), ((3,), (2,), (20,))),
        ],
    )
    def test_nested_vmap_merges_leading_axes(self, compiled, outer, inner, shapes):
        host = Recorder(mixed)
        maps = [{i for i, a in enumerate(axes) if a is not None} for axes in (outer, inner)]
        operands = [
            numbers(*([5] if i in maps[0] else []), *([4] if i in maps[1] else []), *shape)
            for i, shape in enumerate([(3,), (2,), ()])
        ]
        mapped = jax.vmap(jax.vmap(lambda *o: call(host, *o), in_axes=inner), in_axes=outer)
        results = compiled(mapped)(*operands)
        assert [r.shape for r in results] == [(5, 4), (5, 4, 3)]
        check(results, operands, maps)
        assert host.shapes == [shapes]
        assert host.sizes == [20]

    def test_three_levels(self, compiled):
        host, operands = Recorder(mixed), (numbers(2, 5, 3), numbers(4, 2), numbers())
        fun = jax.vmap(lambda *o: call(host, *o), in_axes=(0, None, None))
        fun = jax.vmap(fun, in_axes=(None, 0, None))
        results = compiled(jax.vmap(fun, in_axes=(0, None, None)))(*operands)
        assert [r.shape for r in results] == [(2, 4, 5), (2, 4, 5, 3)]
        for i, j, k in np.ndindex(2, 4, 5):
            want = mixed(operands[0][i, k], operands[1][j], operands[2])
            np.testing.assert_allclose(results[0][i, j, k], want[0], rtol=1e-5)
            np.testing.assert_allclose(results[1][i, j, k], want[1], rtol=1e-5)
        assert host.shapes == [((40, 3), (40, 2), ())]

    @pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0)])
    def test_an_empty_batch_makes_no_call(self, compiled, shape):
        host = Recorder(mixed)
        mapped = lambda *o: call(host, *o)  # noqa: E731
        for _ in shape:
            mapped = jax.vmap(mapped, in_axes=(0, None, None))
        results = compiled(mapped)(numbers(*shape, 3), numbers(2), numbers())
        assert [r.shape for r in results] == [shape, (*shape, 3)]
        assert [r.dtype for r in results] == [np.float32, np.float32]
        assert host.sizes == []

    def test_inside_scan(self):
        host = Recorder(lambda x: [np.sum(x**2)])

        def body(x, _):
            (y,) = host_call(host, [SCALAR], [x])
            return x + 1, y

        run = jax.jit(lambda x: jax.lax.scan(body, x, length=5)[1])
        want = [np.sum((np.arange(3.0) + i) ** 2) for i in range(5)]
        np.testing.assert_allclose(run(jnp.arange(3, dtype=np.float32)), want)
        assert host.sizes == [None] * 5
        xs = jnp.stack([jnp.arange(3, dtype=np.float32)] * 4)
        np.testing.assert_allclose(jax.jit(jax.vmap(run))(xs), [want] * 4)
        assert host.sizes[5:] == [4] * 5

    def test_black_box_sees_one_batch_for_all_calls(self, compiled):
        seen = []

        def fun(x):
            seen.append(x.shape)
            return np.sum(x**3, axis=-1)

        box = jaxfd.blackbox(fun, SCALAR, vectorized=True)
        x = numbers(4, 5, 2)
        found = compiled(jax.vmap(jax.vmap(jax.grad(box))))(x)
        np.testing.assert_allclose(found, 3 * x**2, rtol=1e-5, atol=1e-6)
        assert seen == [(4 * 5 * (2 * 2 + 1), 2)]


class TestResults:
    @pytest.mark.parametrize("batched", [False, True])
    @pytest.mark.parametrize(
        ("given", "declared"),
        [
            (np.float64, np.float32),
            (np.float64, jnp.bfloat16),
            (np.float32, np.float64),
            (np.int64, np.int32),
            (np.int64, np.float32),
            (np.complex128, np.complex64),
        ],
    )
    def test_cast_to_what_was_declared(self, compiled, given, declared, batched):
        host = Recorder(lambda x: [np.full(2, 3, given), np.asarray(4, given)])
        out = [jax.ShapeDtypeStruct((2,), declared), jax.ShapeDtypeStruct((), declared)]
        fun = lambda x: tuple(host_call(host, out, [x]))  # noqa: E731
        if batched:
            fun = jax.vmap(fun)
        first, second = compiled(fun)(numbers(5))
        lead = (5,) if batched else ()
        assert (first.shape, second.shape) == ((*lead, 2), lead)
        assert first.dtype == second.dtype == declared
        assert bool(jnp.all(first == jnp.asarray(3, declared)))
        assert bool(jnp.all(second == jnp.asarray(4, declared)))

    def test_python_numbers_and_lists(self, compiled):
        host = Recorder(lambda x: [1, [1.0, 2.0, 3.0]])
        first, second = compiled(lambda x: tuple(host_call(host, OUT, [x])))(numbers(2))
        assert first == 1
        assert second.tolist() == [1.0, 2.0, 3.0]
        assert first.dtype == second.dtype == np.float32

    def test_operands_keep_their_dtypes(self, compiled):
        seen = []
        host = Recorder(lambda *arrays: seen.extend(a.dtype for a in arrays) or [np.float32(0)])
        dtypes = [np.float16, jnp.bfloat16, np.float32, np.float64, np.int8, np.bool_, np.complex64]
        operands = [jnp.ones(2, dtype) for dtype in dtypes]
        jax.block_until_ready(compiled(lambda *o: host_call(host, [SCALAR], o))(*operands))
        assert seen == dtypes

    def test_nothing_in_and_nothing_but_empty_arrays_out(self, compiled):
        empty = jax.ShapeDtypeStruct((0, 3), np.float32)
        host = Recorder(lambda: [np.zeros((0, 3)), 5.0])
        first, second = compiled(lambda: tuple(host_call(host, [empty, SCALAR], [])))()
        assert first.shape == (0, 3)
        assert second == 5

    def test_equal_callbacks_share_a_program(self):
        host, traces = Recorder(lambda x: [np.sum(x)]), []

        @jax.jit
        def fun(x):
            traces.append(1)
            return host_call(host, [SCALAR], [x])[0]

        for _ in range(3):
            fun(numbers(3)).block_until_ready()
        assert len(traces) == 1
        assert len(host.sizes) == 3


class UnphysicalError(Exception):
    """An exception that no library raises."""


def simulator(x):
    raise UnphysicalError("pressure below zero at step 17")


def entries(host):
    """Ways to call a failing black box eagerly."""
    box = jaxfd.blackbox(host, SCALAR)
    return {
        "value": box,
        "grad": jax.grad(box),
        "jaxfd.grad": jaxfd.grad(box),
        "vmap": lambda x: jax.vmap(box)(x[None]),
        "primitive": lambda x: host_call(lambda arrays, *_: host(*arrays), [SCALAR], [x]),
    }


ENTRIES = ["value", "grad", "jaxfd.grad", "vmap", "primitive"]


class TestErrors:
    @pytest.mark.parametrize("entry", ENTRIES)
    def test_eagerly_the_exception_is_the_original(self, entry):
        with pytest.raises(UnphysicalError) as info:
            entries(simulator)[entry](numbers(3))
        assert str(info.value) == "pressure below zero at step 17"
        frames = traceback.extract_tb(info.value.__traceback__)
        assert frames[-1].name == "simulator"
        assert frames[-1].filename == __file__

    @pytest.mark.parametrize("entry", ENTRIES)
    def test_under_jit_the_text_has_type_message_and_traceback(self, entry):
        with pytest.raises(jax.errors.JaxRuntimeError) as info:
            jax.block_until_ready(jax.jit(entries(simulator)[entry])(numbers(3)))
        text = str(info.value)
        assert "UnphysicalError: pressure below zero at step 17" in text
        line = simulator.__code__.co_firstlineno + 1
        assert f'File "{__file__}", line {line}, in simulator' in text

    def test_the_next_call_is_as_if_nothing_had_been(self, compiled):
        broken = [True, False]

        def fun(x):
            if broken.pop(0):
                raise UnphysicalError
            return np.sum(x)

        box = compiled(jaxfd.blackbox(fun, SCALAR))
        with pytest.raises((UnphysicalError, jax.errors.JaxRuntimeError)):
            box(numbers(3)).block_until_ready()
        np.testing.assert_allclose(box(jnp.ones(3, np.float32)), 3)

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    @pytest.mark.parametrize("entry", ENTRIES)
    def test_eagerly_an_interrupt_is_an_interrupt(self, entry, kind):
        def interrupted(x):
            raise kind

        with pytest.raises(kind):
            entries(interrupted)[entry](numbers(3))

    def test_under_jit_an_interrupt_reaches_the_program(self):
        code = """
import jax, jax.numpy as jnp, jaxfd

def interrupted(x):
    raise KeyboardInterrupt

box = jax.jit(jaxfd.blackbox(interrupted, jax.ShapeDtypeStruct((), jnp.float32)))
try:
    try:
        box(jnp.ones(3)).block_until_ready()
    except jax.errors.JaxRuntimeError:
        for _ in range(10**9):  # the interrupt comes as soon as JAX is through with its own
            pass
except KeyboardInterrupt:
    print("interrupted")
"""
        assert run_python(code) == "interrupted\n"

    def test_wrong_number_of_results(self):
        host = Recorder(lambda x: [np.sum(x), np.sum(x)])
        with pytest.raises(ValueError, match=r"zip\(\)"):
            host_call(host, [SCALAR], [numbers(3)])

    def test_no_derivative_of_its_own(self):
        host = Recorder(lambda x: [np.sum(x)])
        with pytest.raises(TypeError, match=r"derivative of .* recorder.*jaxfd\.hessian"):
            jax.grad(lambda x: host_call(host, [SCALAR], [x])[0])(numbers(3))


PENDING = """
import os, signal, threading, time
import jax, jax.numpy as jnp, numpy as np, jaxfd

def host(x):
    if mode == "raise":
        raise LookupError("no such table")
    if mode == "interrupt":
        for _ in range(200):
            time.sleep(0.05)
    return np.sum(x)

box = jaxfd.blackbox(host, jax.ShapeDtypeStruct((), jnp.float32))
chain = jax.jit(lambda m: (m @ m @ m @ m @ m @ m)[0])
fun = jax.jit(lambda x, c: box(x) + 0 * c[0])
matrix, x = jnp.full((700, 700), 1 / 700), jnp.ones(3)
mode = "value"
assert fun(x, chain(matrix)) == 3

def attempt(call):
    start = time.perf_counter()
    try:
        jax.block_until_ready(call())
    except Exception as error:
        print(type(error).__name__, time.perf_counter() - start < 5, repr(str(error)))

mode = "raise"
attempt(lambda: fun(x, chain(matrix)))
mode = "interrupt"
signal.signal(signal.SIGINT, signal.default_int_handler)
for call in (lambda: box(x), lambda: jax.jit(box)(x)):
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        attempt(call)
        while True:  # where JAX's own error came first, the interrupt follows at once
            pass
    except KeyboardInterrupt:
        print("interrupted")
mode = "value"
assert fun(x, chain(matrix)) == 3
"""


class TestProcess:
    """What needs a process of its own."""

    def test_errors_behind_a_pending_program_and_control_c(self):
        raised, *rest = run_python(PENDING).splitlines()
        assert raised.startswith("JaxRuntimeError True")
        assert "LookupError: no such table" in raised
        assert "in host" in raised
        interrupts = [line for line in rest if not line.startswith("JaxRuntimeError True")]
        assert interrupts == ["interrupted", "interrupted"]


class TestThreads:
    def test_two_at_once(self, compiled):
        calls = []

        def cube(x):
            calls.append(threading.get_ident())
            return np.sum(x**3, axis=-1)

        gradient = compiled(jax.grad(jaxfd.blackbox(cube, SCALAR, vectorized=True)))
        found = {}
        starts = [np.full(50, k + 1, np.float32) for k in range(2)]

        def work(k):
            found[k] = [np.asarray(gradient(starts[k] + i)) for i in range(20)]

        threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(calls) == 40
        for k in range(2):
            for i, got in enumerate(found[k]):
                np.testing.assert_allclose(got, np.full(50, 3.0 * (k + 1 + i) ** 2), rtol=1e-5)

    def test_each_gets_its_own_error(self, compiled):
        def fun(x):
            raise UnphysicalError(f"thread {int(x[0])}")

        box, errors = compiled(jaxfd.blackbox(fun, SCALAR)), {}

        def work(k):
            try:
                jax.block_until_ready(box(np.full(3, k, np.float32)))
            except Exception as error:
                errors[k] = str(error)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert "thread 0" in errors[0]
        assert "thread 1" in errors[1]


class TestHostArrays:
    def test_a_function_that_writes_into_its_arguments_gives_no_wrong_number(self, compiled):
        def fun(x, data):
            data *= 2
            return np.sum(x) * np.sum(data)

        gradient = compiled(jax.vmap(jax.grad(jaxfd.blackbox(fun, SCALAR))))
        x, data = jnp.ones((2, 2), np.float32), jnp.arange(6, dtype=np.float32).reshape(2, 3)
        try:
            found = gradient(x, data)
        except Exception as error:
            assert "read-only" in str(error)  # noqa: PT017
        else:
            np.testing.assert_allclose(found, [[6.0, 6.0], [24.0, 24.0]], rtol=1e-5)

    def test_arguments_may_be_kept(self, compiled):
        kept = []

        def fun(x):
            kept.append(x)
            return np.sum(x)

        box = compiled(jaxfd.blackbox(fun, SCALAR))
        for i in range(20):
            box(jnp.full(1000, i, np.float64)).block_until_ready()
        for i, array in enumerate(kept):
            np.testing.assert_array_equal(array, np.full(1000, i))


SCENARIOS = [
    "vectorized",
    "pointwise",
    "threads",
    "large",
    "shard_map",
    "shard_map_unchecked",
    "global",
    "global_one_core",
    "scan",
]


@pytest.mark.heavy
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_hang(scenario):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.hangs", "--runs", "2", "--only", scenario],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
