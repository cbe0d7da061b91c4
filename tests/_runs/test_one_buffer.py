"""Black boxes that return the same buffer each time, as wrapped libraries do."""

import dataclasses
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import jax
import numpy as np
import pytest

import jaxfd
import jaxfd.optim

NUMBER = jax.ShapeDtypeStruct((), np.float64)


def _number():
    """The usual shape of a wrapped library: one buffer, written to at each call."""
    buffer = np.empty(1)

    def simulate(x):
        buffer[0] = x @ x
        return buffer[0:1].reshape(())

    return simulate


def _tree():
    buffer = np.empty(2)

    def simulate(x):
        buffer[:] = x @ x, x.sum()
        return {"both": buffer, "one": (buffer[:1], memoryview(buffer[1:]))}

    return simulate


TREE = {
    "both": jax.ShapeDtypeStruct((2,), np.float64),
    "one": (jax.ShapeDtypeStruct((1,), np.float64),) * 2,
}


class OneThread:
    """An executor of which jaxfd knows nothing; points run here, and nothing is pickled."""

    def submit(self, fun, *args):
        future = Future()
        future.set_result(fun(*args))
        return future


class TestOneBuffer:
    """A function may return the same array each time, as wrapped libraries do."""

    x = np.array([1.0, 2.0, 3.0])
    rows = np.arange(12.0).reshape(4, 3)

    @pytest.fixture(params=["plain", "retries", "chunks", "threads", "own executor"])
    def options(self, request):
        if request.param == "threads":
            with ThreadPoolExecutor(1) as pool:
                yield {"executor": pool, "chunk_size": 4}
        elif request.param == "own executor":
            yield {"executor": OneThread()}
        else:
            yield {
                "plain": {},
                "retries": {"retries": 1},
                "chunks": {"chunk_size": 5, "retries": 1},
            }[request.param]

    def test_gradients(self, options):
        box = jaxfd.blackbox(_number(), NUMBER, **options)
        for transform in (jax.value_and_grad, jaxfd.value_and_grad):
            value, slopes = transform(box)(self.x)
            assert value == 14
            np.testing.assert_allclose(slopes, 2 * self.x, rtol=1e-8)

    def test_values_of_several_calls(self, options):
        box = jaxfd.blackbox(_number(), NUMBER, **options)
        want = np.sum(self.rows**2, axis=1)
        np.testing.assert_array_equal(jax.vmap(box)(self.rows), want)
        np.testing.assert_array_equal([box(row) for row in self.rows], want)
        np.testing.assert_array_equal(jax.jit(jax.vmap(box))(self.rows), want)

    def test_trees(self, options):
        box = jaxfd.blackbox(_tree(), TREE, **options)
        found = jax.vmap(box)(self.rows)
        both = np.stack([np.sum(self.rows**2, axis=1), np.sum(self.rows, axis=1)], 1)
        np.testing.assert_array_equal(found["both"], both)
        np.testing.assert_array_equal(np.concatenate(found["one"], 1), both)

    def test_views_of_the_argument(self, options):
        held = np.empty(3)

        def simulate(x):
            held[:] = x
            x[:] = 7.0  # whoever is given an array may write to it
            return held[::-1]

        box = jaxfd.blackbox(simulate, jax.ShapeDtypeStruct((3,), np.float64), **options)
        if options:
            np.testing.assert_array_equal(jax.vmap(box)(self.rows), self.rows[:, ::-1])
        box = jaxfd.blackbox(lambda x: x[:2], jax.ShapeDtypeStruct((2,), np.float64), **options)
        np.testing.assert_array_equal(jax.vmap(box)(self.rows), self.rows[:, :2])

    def test_a_value_outlives_the_next_call(self):
        buffer = np.empty(1024)

        def simulate(x):
            buffer[:] = x
            return buffer

        box = jaxfd.blackbox(simulate, jax.ShapeDtypeStruct((1024,), np.float64))
        first, second = box(1.0), box(2.0)
        assert (first[0], second[0]) == (1.0, 2.0)

    def test_vectorised_in_chunks(self):
        buffer = np.empty(64)

        def simulate(x):
            found = buffer[: len(x)]
            np.sum(x**2, axis=1, out=found)
            return found

        box = jaxfd.blackbox(simulate, NUMBER, vectorized=True)
        found = jaxfd.grad(box, chunk_size=2)(self.x)
        np.testing.assert_allclose(found, 2 * self.x, rtol=1e-8)
        box = jaxfd.blackbox(simulate, NUMBER, vectorized=True, chunk_size=2, retries=1)
        np.testing.assert_array_equal(jax.vmap(box)(self.rows), np.sum(self.rows**2, axis=1))

    def test_minimize(self):
        box = jaxfd.blackbox(_number(), jax.ShapeDtypeStruct((), np.float32))
        result = jaxfd.optim.minimize(box, self.x.astype(np.float32))
        assert result.converged
        assert result.value < 1e-8

    def test_own_kinds_of_results(self):
        @jax.tree_util.register_dataclass
        @dataclasses.dataclass
        class Pair:
            first: object
            second: object

        buffer = np.empty(())
        lock = threading.Lock()

        def simulate(x):
            with lock:
                buffer[()] = x
            return Pair(buffer, buffer)

        box = jaxfd.blackbox(simulate, Pair(NUMBER, NUMBER), retries=1, chunk_size=3)
        np.testing.assert_array_equal(jax.vmap(box)(np.arange(3.0)).second, np.arange(3.0))
