"""Simulators that fail in every way: NumPy and the standard library only, no JAX.

Workers import this module by its name. Those that fail do so at one side of `X`, so that a test
says in advance which point it will be.
"""

import dataclasses
import os
import signal
import sys
import threading
import time

import numpy as np

X = np.array([1.0, -2.0, 3.0])


def quadratic(x):
    """Takes one point or several; at `X` its gradient is `SLOPE`."""
    return np.sum(x**2, axis=-1) + np.prod(x, axis=-1)


SLOPE = np.array([-4.0, -1.0, 4.0])


def curve(x):
    """Two numbers that no difference quotient gets right to the last bit."""
    return np.stack([np.sin(x[..., 0]) * x[..., 1], np.exp(0.3 * x[..., 2])], -1)


def worker(x):
    """The process that runs the point."""
    return float(os.getpid()) + 0.0 * np.sum(x)


def has_jax(x):
    """1 where JAX has been imported."""
    return float("jax" in sys.modules) + 0.0 * np.sum(x)


def returns_single(x):
    return np.float32(quadratic(x))


def sleepy(x):
    """A tenth of a second of simulated work."""
    time.sleep(0.1)
    return quadratic(x)


class AwkwardError(Exception):
    """Cannot be unpickled: pickle calls it with one argument."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class ClingingError(Exception):
    """Cannot be pickled."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


UNPICKLABLE = (AwkwardError, ClingingError)


def _raise(error):
    raise error


def _hang():
    time.sleep(600)


def _hang_on():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    time.sleep(600)


# What to do at the point that fails; what is returned is returned.
HOW = {
    "raise": lambda: _raise(ArithmeticError("the mesh is tangled")),
    "awkward": lambda: _raise(AwkwardError("this", "that")),
    "clinging": lambda: _raise(ClingingError("cannot let go")),
    "sys.exit": lambda: sys.exit(3),
    "exit": lambda: os._exit(7),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "terminate": lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(600)),
    "hang": _hang,
    "hang on": _hang_on,
    "shape": lambda: np.zeros(2),
    "dtype": lambda: np.int64(3),
    "object": lambda: None,
    "nan": lambda: np.nan,
}
# Which points fail, seen from X: along the first entry, those above, below, both, or X alone.
WHERE = {
    "above": lambda x: x[0] > X[0],
    "below": lambda x: x[0] < X[0],
    "both": lambda x: x[0] != X[0],
    "farthest": lambda x: x[0] > X[0] + 5e-4,
    "centre": lambda x: np.array_equal(x, X),
    "everywhere": lambda x: True,
    "nowhere": lambda x: False,
}


@dataclasses.dataclass(frozen=True)
class Fails:
    """`quadratic`, but for the points that fail."""

    how: str = "raise"
    where: str = "above"

    def __call__(self, x):
        if WHERE[self.where](x):
            return HOW[self.how]()
        return quadratic(x)


@dataclasses.dataclass(frozen=True)
class FailsInBatch:
    """Takes several points, and fails with all of them if one does."""

    how: str = "raise"
    where: str = "above"

    def __call__(self, x):
        if any(WHERE[self.where](row) for row in x):
            HOW[self.how]()
        return quadratic(x)


@dataclasses.dataclass(frozen=True)
class Logged:
    """Writes every point to a file before it does what ``fun`` does; see `log`."""

    path: str
    fun: object = quadratic

    def __call__(self, x):
        points = np.atleast_2d(x)
        line = " ".join([str(len(points)), *(float(v).hex() for v in points.reshape(-1))]) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line.encode())
        os.close(file)
        return self.fun(x)


def log(path):
    """The calls in a file of `Logged`: arrays of shape ``(points, n)``, in the order written."""
    calls = []
    if os.path.exists(path):
        with open(path) as file:
            for line in file:
                count, *values = line.split()
                calls.append(np.array([float.fromhex(v) for v in values]).reshape(int(count), -1))
    return calls


@dataclasses.dataclass(frozen=True)
class Flaky:
    """Fails the first ``times`` times at the point that fails, then no more."""

    folder: str
    times: int = 1
    how: str = "raise"
    where: str = "above"

    def __call__(self, x):
        if WHERE[self.where](x):
            for attempt in range(self.times):
                try:
                    os.close(os.open(f"{self.folder}/{attempt}", os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    continue
                return HOW[self.how]()
        return quadratic(x)


def works_for_a_minute(x):
    """Says who runs it, then works as Python code does: an interrupt can come in."""
    if x[0] < 0:
        return quadratic(x)
    os.write(1, f"running {os.getpid()}\n".encode())
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.01)
    return quadratic(x)


def sleeps_for_a_minute(x):
    """Says who runs it, then waits in one call of the operating system."""
    if x[0] < 0:
        return quadratic(x)
    os.write(1, f"running {os.getpid()}\n".encode())
    time.sleep(60)
    return quadratic(x)


@dataclasses.dataclass(frozen=True)
class After:
    """Waits for a file before it does what ``fun`` does."""

    path: str
    fun: object

    def __call__(self, x):
        end = time.monotonic() + 60
        while not os.path.exists(self.path) and time.monotonic() < end:
            time.sleep(0.01)
        return self.fun(x)


def swallows(x):
    """Works until it is interrupted, then returns what it has, as many solvers do."""
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        return 0.0
    return quadratic(x)


def near(x):
    """Takes about as long as it may."""
    time.sleep(0.009 + 0.002 * (hash(x.tobytes()) % 7) / 7)
    return quadratic(x)


def fails_beside_a_hang(x):
    if x[0] > X[0]:
        time.sleep(0.3)
        raise ArithmeticError("no such point")
    if x[1] > X[1]:
        time.sleep(600)
    return quadratic(x)
