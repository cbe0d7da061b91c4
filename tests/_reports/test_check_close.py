"""A close look before anything is called wrong: kinks, tables, and the spacing of ``x`` itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _checks import QUICK, box, check, entries
from _tools import Chosen

import jaxfd

BOXES = {np.dtype(d): Chosen(functools.partial(box, dtype=d)) for d in (np.float64, np.float32)}


def boxed(fun, dtype=np.float64):
    """What `box` makes, good until the next function of the dtype is boxed."""
    return BOXES[np.dtype(dtype)](fun)


# Functions of the distance from a kink, and a slope there.
FLANKS = {
    "exp": (lambda u: np.exp(-np.abs(u)), -1.0),
    "log": (lambda u: np.log1p(np.abs(u)), 1.0),
    "ramp": (lambda u: np.tanh(np.maximum(u, 0)), 1.0),
    "leak": (lambda u: np.tanh(np.where(u > 0, u, u / 10)), 0.5),
}


class TestKinksWithCurvedFlanks:
    """The claim is a slope of one side: nothing that the kink may explain is called wrong."""

    @pytest.mark.parametrize("flank", FLANKS)
    @pytest.mark.parametrize("scale", [1e-2, 1e-3])
    @pytest.mark.parametrize("method", [jaxfd.Adaptive(), QUICK], ids=["Adaptive", "Central"])
    def test_one_sided_slopes(self, flank, scale, method, dtype):
        fun, slope = FLANKS[flank]
        for at in (0.0, 1.0):
            seen = boxed(lambda x, at=at: fun((x - dtype.type(at)) / dtype.type(scale)), dtype)
            x = np.asarray(at, dtype)
            assert check(seen, x, np.asarray(slope / scale), method=method).verdict == "cannot tell"

    def test_among_smooth_entries(self, dtype):
        def fun(x):
            return np.tanh(np.abs(x[0]) * 1000) + np.sum(np.sin(x[1:]))

        x = np.array([0.0, 1.0, -2.0], dtype)
        right = np.array([1000, *np.cos(x[1:])])
        report = check(boxed(fun, dtype), x, right)
        assert entries(report) == ["cannot tell", "agrees", "agrees"]
        assert report.verdict == "cannot tell"
        assert report.kink > 0
        assert "a kink at x" in str(report)
        right[1] *= 1.01
        assert check(boxed(fun, dtype), x, right).verdict == "differs"

    @pytest.mark.parametrize("flank", ["exp", "log", "ramp"])
    def test_what_the_kink_does_not_explain(self, flank):
        fun, slope = FLANKS[flank]
        seen = boxed(lambda x: fun(x * 1000))
        assert check(seen, np.asarray(0.0), np.asarray(3000 * slope)).verdict == "differs"
        for claim in (slope, -slope, 0.0):
            # Beside the kink there is one slope.
            report = check(seen, np.asarray(2e-3), np.asarray(-1e3 * claim))
            assert report.verdict != "agrees"


class TestTables:
    """Kinks of a table on both sides of x: right between two of them, and nowhere else."""

    @pytest.mark.parametrize("nodes", [301, 601, 1001])
    @pytest.mark.parametrize("x", [1.2345, 4.5678])
    def test_right_between_nodes(self, nodes, x):
        at = np.linspace(0, 6, nodes)
        i = np.searchsorted(at, x)
        right = (np.sin(at[i]) - np.sin(at[i - 1])) / (at[i] - at[i - 1])
        fun = boxed(lambda x: np.interp(x.astype(np.float64), at, np.sin(at)), np.float32)
        for claim in (right, np.float32(right)):
            assert check(fun, np.float32(x), np.asarray(claim)).verdict != "differs"
        assert check(fun, np.float32(x), np.asarray(-right)).verdict == "differs"
        assert check(fun, np.float32(x), np.asarray(1.1 * right)).verdict == "differs"

    @pytest.mark.parametrize("nodes", [50, 1001, 30001])
    def test_that_a_program_looks_up(self, nodes):
        """In float32 a slope between nodes is lost in rounding long before the table's own is."""
        at = jnp.linspace(0, 3, nodes, dtype=np.float32)
        values = jnp.exp(at)

        def fun(x):
            return jnp.sum(jnp.interp(x, at, values))

        report = functools.partial(jaxfd.check_grads, fun)
        for x in np.random.default_rng(0).uniform(0.2, 2.8, (6, 2)).astype(np.float32):
            right = jax.grad(fun)(x)
            assert report(x, right).verdict != "differs"
            assert report(x, -right).verdict == "differs"

    def test_a_smooth_function_is_none(self):
        fun = boxed(np.sin, np.float32)
        for x in (1.2345, 4.5678):
            wrong = np.asarray(1.002 * np.cos(x))
            assert check(fun, np.float32(x), wrong).verdict == "differs"

    @pytest.mark.parametrize("grid", [1e-3, 1e-5])
    def test_nor_are_stairs(self, grid):
        for at in (0.3, 0.71, 1.1):
            fun = boxed(lambda x: np.round(np.sin(x) / grid) * grid)
            assert check(fun, np.asarray(at), np.asarray(-np.cos(at))).verdict == "differs"


class TestSpacings:
    """No derivative is known better than the spacing of x allows."""

    @pytest.mark.parametrize("x", [100.75, 1000.75, -33.25])
    def test_zero_to_the_rounding_of_its_argument(self, x):
        fun = boxed(lambda x: np.sin(2 * np.pi * x))
        right = 2 * np.pi * np.cos(2 * np.pi * x)
        report = check(fun, np.asarray(x), np.asarray(right))
        assert report.ok
        assert float(report.bar) > abs(right)
        assert check(fun, np.asarray(x), np.asarray(right + 1e-6)).verdict == "differs"

    def test_where_no_digits_are_left(self):
        fun = boxed(lambda x: np.sin(2 * np.pi * x))
        assert check(fun, np.asarray(2459000.75), np.asarray(-8.8e-9)).verdict != "differs"

    @pytest.mark.parametrize("period", [0.02, 0.07, 1.0, 20.0])
    def test_features_between_spacings(self, period):
        rate = np.float32(2 * np.pi / period)
        fun = boxed(lambda t: np.sin((t - np.float32(2459000.5)) * rate), np.float32)
        x = np.float32(2459000.75)
        right = rate * np.cos(np.float32(0.25) * rate)
        assert check(fun, x, np.asarray(right)).verdict != "differs"

    @pytest.mark.parametrize("scale", [1e-5, 1e-7, 1e-9])
    def test_a_scale_beside_a_wall(self, scale):
        """The line beyond the scale has another slope, and another value at x."""
        fun = boxed(lambda x: np.exp(-x / scale) + x)
        report = check(fun, np.asarray(0.0), np.asarray(1.0), bounds=(0, np.inf))
        assert report.verdict != "agrees"
        right = np.asarray(1 - 1 / scale)
        assert check(fun, np.asarray(0.0), right, bounds=(0, np.inf)).verdict != "differs"
