"""How Ctrl-C ends a run of `jaxfd.optim.minimize`, even while XLA compiles."""

import os
import signal

import jax.numpy as jnp
import pytest
from _bench import ended, program
from _tools import rosenbrock

from jaxfd.optim import minimize

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
