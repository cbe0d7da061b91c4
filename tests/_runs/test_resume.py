"""One journal and several programs: at once, one after the other, one of them killed."""

import concurrent.futures
import os
import signal
import subprocess
import threading

import pytest
from _bench import SCALAR, Bench, program
from _simulators import X, quadratic
from _tools import x64

import jaxfd


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


_WRITER = """
import sys
import jax, numpy as np, jaxfd
from _simulators import Logged, X, quadratic
jax.config.update("jax_enable_x64", True)
path, log = sys.argv[1:]
box = jaxfd.blackbox(
    Logged(log, quadratic), jax.ShapeDtypeStruct((), np.float64), journal=path, name="f"
)
print("ready", flush=True)
sys.stdin.readline()
values = [float(box(X + i)) for i in range(200)]
assert values == [float(quadratic(X + i)) for i in range(200)]
"""
_KILLED = """
import sys
import jax, numpy as np, jaxfd
from _simulators import Logged, X, curve
jax.config.update("jax_enable_x64", True)
path, log, stop = sys.argv[1], sys.argv[2], int(sys.argv[3])

def fun(x):
    value = Logged(log, curve)(x)
    fun.calls += 1
    if fun.calls == stop:
        print("here", flush=True)
        sys.stdin.readline()
    return value

fun.calls = 0
box = jaxfd.blackbox(fun, jax.ShapeDtypeStruct((2,), np.float64), journal=path, name="f")
x = X + np.zeros((4, 1))
print(np.asarray(jax.vmap(jax.jacrev(box))(x + np.arange(4.0)[:, None])).tobytes().hex())
"""


_FORKED = """
import os, sys
import jaxfd
journal = jaxfd.Journal(sys.argv[1])
assert len(journal) == 1
child = os.fork()
if child:
    os.waitpid(child, 0)
print(len(journal), flush=True)
if not child:
    os._exit(0)
"""


class TestProcesses:
    def test_two_write_at_once(self, bench, tmp_path):
        arguments = [bench.path, tmp_path / "log"]
        children = [program(_WRITER, *arguments, stdin=subprocess.PIPE) for _ in range(2)]
        assert [child.stdout.readline() for child in children] == ["ready\n"] * 2
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        ends = [child.communicate(timeout=60) for child in children]
        for child, (_, errors) in zip(children, ends, strict=True):
            assert child.returncode == 0, errors
        assert len(jaxfd.Journal(bench.path)) == 200
        assert 200 <= bench.evaluated() <= 400

    def test_several_make_the_file_at_once(self, tmp_path):
        """Each with a connection of its own, as programs have: none may fail."""
        start = threading.Barrier(4, timeout=60)

        def write(path, i):
            box = jaxfd.blackbox(quadratic, SCALAR, journal=path, name="f")
            start.wait()
            with x64(True):
                box(X + i)

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for attempt in range(30):
                path = tmp_path / f"{attempt}.sqlite"
                for future in [pool.submit(write, path, i) for i in range(4)]:
                    future.result()
                assert len(jaxfd.Journal(path)) == 4

    def test_forked(self, bench):
        bench.box()(X)
        child = program(_FORKED, bench.path)
        out, errors = child.communicate(timeout=60)
        assert (out, child.returncode) == ("1\n1\n", 0), errors

    def test_killed_and_resumed(self, bench, tmp_path):
        whole = program(_KILLED, tmp_path / "other.sqlite", tmp_path / "other", 0)
        expected, errors = whole.communicate(timeout=60)
        assert whole.returncode == 0, errors
        first = program(_KILLED, bench.path, tmp_path / "log", 11, stdin=subprocess.PIPE)
        assert first.stdout.readline() == "here\n"
        os.kill(first.pid, signal.SIGKILL)
        first.communicate(timeout=60)
        # The eleventh point was begun and not finished.
        assert bench.evaluated() == 11
        assert len(jaxfd.Journal(bench.path)) == 10
        second = program(_KILLED, bench.path, tmp_path / "log", 0)
        out, errors = second.communicate(timeout=60)
        assert second.returncode == 0, errors
        assert out == expected
        assert bench.evaluated() == 28 - 10
