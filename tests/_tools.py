"""What several test modules share: methods, tolerances, and recorders of points."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd

# Where the benchmarks and examples lie, which some tests run.
REPOSITORY = Path(__file__).parent.parent
REAL_METHODS = [
    *(jaxfd.Forward(order=p) for p in range(1, 7)),
    *(jaxfd.Backward(order=p) for p in range(1, 7)),
    *(jaxfd.Central(order=p) for p in (2, 4, 6)),
]
METHODS = [*REAL_METHODS, jaxfd.ComplexStep()]


def name(method):
    """A short name of a method, for the ids of parametrised tests."""
    return f"{type(method).__name__}{getattr(method, 'order', '')}"


def x64(enabled):
    """A context in which JAX has 64-bit numbers, or has not."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(enabled)
    from jax import experimental

    return experimental.enable_x64(enabled)


def tolerance(method, dtype, derivative=1):
    """The error that a method's default step promises, relative to numbers of size 1.

    With ``h = eps^(1/(p+d))`` truncation and rounding are both about ``eps^(p/(p+d))``: the one
    times a derivative of the function, the other times the sum of the weights.
    """
    eps = float(jnp.finfo(dtype).eps)
    if isinstance(method, jaxfd.ComplexStep):
        return 10 * eps
    stencil = method.stencil(derivative)
    weight = sum(abs(float(w)) for w in stencil.weights)
    return (3 + 3 * weight) * eps ** (stencil.accuracy / (stencil.accuracy + derivative))


def rate(steps, errors):
    """The power of the step with which errors fall: the slope in logarithms."""
    return np.polyfit(np.log(np.asarray(steps)), np.log(np.asarray(errors)), 1)[0]


def close(actual, desired, tol):
    """Asserts that two trees agree in structure, shapes, dtypes, and numbers to ``tol``."""
    assert jax.tree.structure(actual) == jax.tree.structure(desired)
    for a, d in zip(jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True):
        assert np.shape(a) == np.shape(d)
        assert a.dtype == d.dtype
        if a.dtype == jax.dtypes.float0:
            continue
        wide = np.complex128 if np.iscomplexobj(a) else np.float64
        np.testing.assert_allclose(
            np.asarray(a).astype(wide), np.asarray(d).astype(wide), rtol=tol, atol=tol
        )


class Points:
    """Records, from inside a traceable function, where it is evaluated.

    Call it in the function with all its inputs; each evaluated point is one row of `taken`.
    """

    def __init__(self):
        self._seen = []

    def __call__(self, *inputs):
        flat = [jnp.asarray(i).real.astype(np.float64).reshape(-1) for i in inputs]
        jax.debug.callback(lambda v: self._seen.append(np.asarray(v)), jnp.concatenate(flat))

    def taken(self):
        """The points since the last call of this, shape ``(count, n)``."""
        jax.effects_barrier()
        seen, self._seen = self._seen, []
        return np.stack(seen) if seen else np.zeros((0, 0))


class Counted:
    """A function that counts its calls."""

    def __init__(self, fun):
        self.fun, self.calls = fun, 0

    def __call__(self, x):
        self.calls += 1
        return self.fun(x)


class Chosen:
    """One black box for many functions, each until the next: a box takes long to trace.

    Args:
        make: makes the box of a function.
    """

    def __init__(self, make):
        self._fun = None
        self._box = make(lambda *args: self._fun(*args))

    def __call__(self, fun):
        self._fun = fun
        return self._box


@dataclasses.dataclass
class Host:
    """A host function of one array that records how it is called.

    Attributes:
        fun: maps points, shape ``(points, n)``, to values, shape ``(points, ...)``.
        vectorized: whether it is to be called with a batch.
        calls: the batches seen, each of shape ``(points, n)``.
    """

    fun: object
    vectorized: bool = True
    calls: list = dataclasses.field(default_factory=list)

    def __call__(self, x):
        batch = x if self.vectorized else x[None]
        self.calls.append(np.array(batch))
        values = self.fun(batch)
        return values if self.vectorized else values[0]

    @property
    def evaluations(self):
        """The number of points seen."""
        return sum(len(batch) for batch in self.calls)

    def taken(self):
        """The batches since the last call of this."""
        calls, self.calls = self.calls, []
        return calls


def run_python(code, **environment):
    """Runs a program in a process of its own and returns what it printed."""
    import os

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rosenbrock(x):
    """A curved valley, with its minimum of 0 where every entry is 1."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
