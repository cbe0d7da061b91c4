"""Ctrl-C, and the end of the program: both come at once, and leave nothing behind."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from _bench import HEAD, ended

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGINT to one process is POSIX")

RUNS = ["eager", "jit", "again", "pending", "scan"]
# From the signal to the end of the process, in seconds.
LIMIT = 2.0

_HEAD = f"""
{HEAD}
import contextlib, signal, threading
# A shell in the background hands on SIGINT as ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
import jax, jax.numpy as jnp, numpy as np, jaxfd
import _simulators as simulators
from _executors import executor, make

def again(box):
    gradient = jax.jit(jax.grad(box))
    gradient(-X)
    # This time no Python code is between the caller and the program.
    return gradient(X)

OUT = jax.ShapeDtypeStruct((), np.float32)
X = jnp.asarray(simulators.X, jnp.float32)

def slowly(x):
    # Enough to do that the program is dispatched and not run by the thread that asks for it.
    big = jnp.ones((1500, 1500), jnp.float32) * x[0]
    for _ in range(8):
        big = big @ big / 1500.0
    return x + 0.0 * big[0, 0]

RUNS = {{
    "eager": lambda box: jax.grad(box)(X),
    "jit": lambda box: jax.jit(jax.grad(box))(X),
    "again": again,
    "pending": lambda box: jax.jit(lambda x: jax.grad(box)(slowly(x)))(X),
    "scan": lambda box: jax.jit(
        lambda x: jax.lax.scan(lambda x, _: (x - 0.1 * jax.grad(box)(x), 0), slowly(x), length=3)[0]
    )(X),
}}
"""
_INTERRUPTED = """
def main(kind, fun, run):
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(executor(kind))
        box = jaxfd.blackbox(getattr(simulators, fun), OUT, executor=pool)
        jax.block_until_ready(RUNS[run](box))

if __name__ == "__main__":
    main(*sys.argv[1:])
"""
_GOES_ON = """
box = jaxfd.blackbox(simulators.works_for_a_minute, OUT)
for _ in range(2):
    try:
        jax.block_until_ready(RUNS[sys.argv[1]](box))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
after = jaxfd.blackbox(simulators.quadratic, OUT)
print(np.asarray(RUNS["pending"](after)).round(3).tolist())
"""

_LOST = """
import gc
from concurrent.futures import ThreadPoolExecutor

def comes(phase, info):
    if phase == "stop" and threading.current_thread() is threading.main_thread():
        gc.callbacks.remove(comes)
        signal.raise_signal(signal.SIGINT)

class Pool(ThreadPoolExecutor):
    def submit(self, *args):
        future = super().submit(*args)
        gc.callbacks.append(comes)
        gc.collect()
        return future

with Pool(2) as pool:
    jax.grad(jaxfd.blackbox(simulators.works_for_a_minute, OUT, executor=pool))(X)
"""


@pytest.fixture
def start(tmp_path):
    """Starts a program, and sees to it that it and all of its workers end."""
    with ended() as children:

        def start(code, *arguments):
            path = tmp_path / "program.py"
            path.write_text(_HEAD + code)
            child = subprocess.Popen(
                [sys.executable, str(path), *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            children.append(child)
            return child

        yield start


def is_there(process):
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def running(child, count):
    """Waits until so many points run; the processes that run them."""
    found = []
    while len(found) < count:
        line = child.stdout.readline()
        assert line, child.communicate()[1]
        if line.startswith("running"):
            found.append(int(line.split()[1]))
    return found


def interrupt(child, seconds=LIMIT):
    """Sends Ctrl-C to this process alone; what it still writes."""
    began = time.monotonic()
    child.send_signal(signal.SIGINT)
    try:
        out, errors = child.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        pytest.fail("it goes on 30 s after Ctrl-C")
    assert time.monotonic() - began < seconds
    return out, errors


def stopped(start, kind, fun, run, count):
    """Interrupts a program when so many points run; gives it and the processes that ran them."""
    child = start(_INTERRUPTED, kind, fun, run)
    workers = running(child, count)
    _, errors = interrupt(child)
    assert child.returncode != 0
    assert "KeyboardInterrupt" in errors
    return child, workers


class TestInterrupt:
    @pytest.mark.parametrize("run", RUNS)
    def test_serial(self, start, run):
        stopped(start, "serial", "works_for_a_minute", run, 1)

    @pytest.mark.parametrize("run", ["eager", "jit"])
    def test_serial_inside_one_call_of_the_system(self, start, run):
        stopped(start, "serial", "sleeps_for_a_minute", run, 1)

    @pytest.mark.parametrize("run", RUNS)
    @pytest.mark.parametrize("kind", ["spawn", "loky"])
    def test_processes(self, start, kind, run):
        child, workers = stopped(start, kind, "sleeps_for_a_minute", run, 2)
        assert child.pid not in workers
        assert not [worker for worker in workers if is_there(worker)]

    @pytest.mark.parametrize("run", RUNS)
    def test_threads(self, start, run):
        stopped(start, "threads", "works_for_a_minute", run, 2)

    def test_one_that_came_while_garbage_was_collected(self, start):
        # Python drops what a signal handler raises there.
        child = start(_LOST)
        _, errors = child.communicate(timeout=30)
        assert child.returncode != 0
        assert "KeyboardInterrupt" in errors.splitlines()[-1]

    @pytest.mark.parametrize("run", RUNS)
    def test_the_program_may_go_on(self, start, run):
        child = start(_GOES_ON, run)
        running(child, 1)
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "interrupted\n", child.communicate()[1]
        running(child, 1)
        out, errors = interrupt(child, 10.0)
        assert out == "interrupted\n[-4.0, -1.0, 4.0]\n"
        assert (child.returncode, errors) == (0, "")


_LEAVES = """
box = jaxfd.blackbox(simulators.sleepy, OUT)
result = RUNS["pending"](box)
"""
_LEAVES_WITH_A_POOL = """
if __name__ == "__main__":
    pool = make(sys.argv[1])
    box = jaxfd.blackbox(simulators.sleepy, OUT, executor=pool)
    result = RUNS["pending"](box)
"""
_LEAVES_A_THREAD = """
begun = threading.Event()

def work(x):
    begun.set()
    return simulators.works_for_a_minute(x)

box = jaxfd.blackbox(work, OUT)
threading.Thread(target=lambda: RUNS[sys.argv[1]](box), daemon=True).start()
begun.wait()
"""
_HANDLES = """
def fails(x):
    raise ArithmeticError("no such point")

box = jaxfd.blackbox(fails, OUT)
try:
    jax.block_until_ready(RUNS[sys.argv[1]](box))
except Exception as error:
    assert "ArithmeticError" in f"{type(error).__name__}: {error}"
    print("handled")
"""
_SAYS_NOTHING = """
def fails(x):
    raise ArithmeticError("no such point")

result = RUNS["pending"](jaxfd.blackbox(fails, OUT))
"""


class TestEnd:
    """Of the program, with calls in flight."""

    def end(self, child, seconds=30):
        try:
            out, errors = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            pytest.fail("it does not end")
        assert (child.returncode, errors) == (0, "")
        return out

    def test_a_call_in_flight(self, start):
        self.end(start(_LEAVES))

    @pytest.mark.parametrize("kind", ["threads", "spawn", "loky"])
    def test_a_call_in_flight_with_a_pool(self, start, kind):
        self.end(start(_LEAVES_WITH_A_POOL, kind))

    @pytest.mark.parametrize("run", ["eager", "jit", "again", "pending"])
    def test_a_daemon_thread_in_a_call(self, start, run):
        self.end(start(_LEAVES_A_THREAD, run))

    @pytest.mark.parametrize("run", RUNS)
    def test_an_error_that_was_handled(self, start, run):
        assert self.end(start(_HANDLES, run)) == "handled\n"

    def test_an_error_that_nobody_asked_for(self, start):
        child = start(_SAYS_NOTHING)
        _, errors = child.communicate(timeout=30)
        assert child.returncode in (0, 1)
        assert "Fatal" not in errors
