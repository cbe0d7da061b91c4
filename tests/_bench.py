"""A journal beside a log of the points that were really evaluated, and programs to share it."""

import contextlib
import os
import signal
import subprocess
import sys

import _simulators as simulators
import jax
import numpy as np
from _simulators import Logged, log

import jaxfd

SCALAR = jax.ShapeDtypeStruct((), np.float64)
# The first line of a program that is to find the helpers of these tests.
HEAD = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"


class Bench:
    """Makes boxes that share a journal, and counts what they evaluate."""

    def __init__(self, folder, log=None):
        self.path = folder / "runs.sqlite"
        self._log = folder / "log" if log is None else log

    def box(self, fun=simulators.quadratic, out=SCALAR, *, version="", name="f", **options):
        journal = jaxfd.Journal(self.path, version=version)
        return jaxfd.blackbox(
            Logged(str(self._log), fun), out, journal=journal, name=name, **options
        )

    def evaluated(self):
        """Points evaluated since the last call of this."""
        count = sum(len(call) for call in log(self._log))
        self._log.unlink(missing_ok=True)
        return count


def program(code, *arguments, **options):
    """Runs a program that finds the helpers of these tests."""
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@contextlib.contextmanager
def ended():
    """A list for programs, each with a session of its own: they and all of their workers end."""
    children = []
    try:
        yield children
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
