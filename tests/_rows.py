"""What tests of `Adaptive` share: many functions of one number in one black box, and noise.

Most functions there are black boxes of NumPy: the host runs the same lines as a kernel, and
nothing is compiled. `Rows` puts many functions of one number into one box, so that one call tests
them all, each with a search of its own.
"""

import jax
import numpy as np

import jaxfd
from jaxfd import Adaptive

SCALAR = jax.ShapeDtypeStruct((), np.float64)
ADAPTIVE = Adaptive()
SETTLED = 24  # evaluations of an entry with nothing special about it, besides the one at x
MOST = 60
INF = np.inf


class Rows:
    """Functions of one number in one vectorised black box; row ``k`` is estimated from ``x[k]``.

    Every estimate is also checked for its number of evaluations: those made are those reported.

    Args:
        funs: functions of an array of points.
        dtype: what the box returns.
        pairs: one function of points and the numbers of their rows, instead of ``funs``.
    """

    def __init__(self, *funs, dtype=np.float64, pairs=None):
        self.funs, self.dtype, self.pairs = funs, dtype, pairs
        self.points, self.rows = [], []
        self.box = jaxfd.blackbox(self._evaluate, SCALAR, vectorized=True)
        self._estimates = {}
        if dtype != np.float64:
            self.box(0.5, 0)  # the box has shown how coarse it is before it is estimated
            self.taken()

    def _evaluate(self, x, k):
        self.points.append(np.array(x))
        self.rows.append(np.array(k))
        with np.errstate(all="ignore"):
            if self.pairs is not None:
                return self.pairs(x, k).astype(self.dtype)
            values = np.empty(x.shape, self.dtype)
            for row, fun in enumerate(self.funs):
                values[k == row] = fun(x[k == row])
        return values

    def taken(self):
        """The batches of points since the last call of this."""
        points, self.points, self.rows = self.points, [], []
        return points

    def __call__(self, x, method=ADAPTIVE, bounds=None, count=None):
        count = count or len(self.funs)
        estimate = jax.vmap(jaxfd.estimate(self.box, method=method, bounds=bounds))
        x = np.broadcast_to(np.asarray(x, np.float64), (count,))
        self.taken()
        found = jax.tree.map(np.asarray, estimate(x, np.arange(count)))
        made = np.bincount(np.concatenate(self.rows), minlength=count)
        np.testing.assert_array_equal(found.evaluations, made)
        assert found.evaluations.max() <= MOST * method.repeats + 1
        return found


def uniform(x, seed):
    """Numbers in (0, 1) that look random, and are a function of the bits of ``x``."""
    with np.errstate(over="ignore"):
        z = np.asarray(x, np.float64).view(np.uint64)
        z = z + np.uint64(0x9E3779B97F4A7C15) * (np.asarray(seed).astype(np.uint64) + np.uint64(1))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(11)).astype(np.float64) + 0.5) / 2**53


def normal(x, seed):
    """The same, normally distributed."""
    first, second = uniform(x, 2 * seed), uniform(x, 2 * seed + 1)
    return np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)


def columns(cases):
    """Functions, points, derivatives, and tolerances."""
    funs, *numbers = zip(*cases, strict=True)
    return funs, *map(np.array, numbers)
