"""Checks of Jacobians, Hessians, complex numbers, several arguments, and a few entries of many."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _checks import QUICK, check, entries
from _tools import Chosen

import jaxfd

SCALAR = jax.ShapeDtypeStruct((), np.float64)
PAIR = jax.ShapeDtypeStruct((2,), np.float64)


def host(fun, out=SCALAR):
    return jaxfd.blackbox(lambda *args: np.asarray(fun(*args)), out)


BOXES = {out: Chosen(functools.partial(host, out=out)) for out in (SCALAR, PAIR)}


def chosen(fun, out=SCALAR):
    """What `host` makes, good until the next function with such an output is chosen."""
    return BOXES[out](fun)


class TestJacobians:
    @staticmethod
    def both(x):
        return np.stack([np.sin(x[0]) * x[1], x[2] ** 2 + x[0]])

    x = np.array([0.3, 1.2, -2.0])
    right = np.array([[np.cos(0.3) * 1.2, np.sin(0.3), 0], [1, 0, -4]])

    def test_entries_of_every_output(self):
        box = chosen(self.both, PAIR)
        report = check(box, self.x, self.right)
        assert report.ok
        assert entries(report) == ["agrees"] * 6
        assert str(report).startswith("The Jacobian is right. Of 6 entries 6 agree")
        wrong = self.right * np.array([[1, 1, 1], [1, 1, 1.001]])
        report = check(box, self.x, wrong)
        assert (report.verdict, report.worst) == ("differs", "x[1,2]")

    def test_trees_by_jax(self):
        @jax.jit
        def fun(p):
            return {"a": p["u"] * jnp.sum(p["v"]), "b": jnp.outer(p["v"], p["v"])}

        x = {"u": 2.0, "v": jnp.array([1.0, 3.0])}
        assert check(fun, x, method=QUICK).ok
        wrong = jax.tree.map(np.array, jax.jit(jax.jacrev(fun))(x))
        wrong["b"]["v"][0, 1, 1] *= 1.01
        assert check(fun, x, wrong, method=QUICK).worst == "b.v[0,1,1]"
        with pytest.raises(ValueError, match="structure"):
            check(fun, x, {"a": wrong["a"]}, method=QUICK)

    def test_a_kink_of_one_output_is_none_of_another(self):
        box = chosen(lambda x: np.stack([abs(x[0]), np.sin(x[0])]), PAIR)
        report = check(box, np.zeros(1), np.array([[0.0], [1.1]]))
        assert report.verdict == "differs"
        assert entries(report) == ["cannot tell", "differs"]


class TestArguments:
    box = host(lambda a, b, c: np.sum(np.sin(a) * b) * c)
    x = (np.ones(3), np.arange(3.0), 2.0)

    @staticmethod
    def slopes(a, b, c):
        return np.cos(a) * b * c, np.sum(np.sin(a) * b)

    def test_several(self):
        assert check(self.box, self.x, self.slopes, argnums=(0, 2)).ok
        assert check(self.box, self.x, lambda a, b, c: np.sin(a) * c, argnums=1).ok
        report = check(
            self.box, self.x, (self.slopes(*self.x)[0], np.float64(0.1)), argnums=(0, -1)
        )
        assert (report.verdict, report.worst) == ("differs", "x[1]")

    def test_walls_of_one_of_them(self):
        box = chosen(lambda a, b: a[0] * np.sqrt(b) if b >= 0 else 1 / 0)
        x = (np.ones(1), 1e-3)
        claim = 0.5 / np.sqrt(1e-3)
        assert check(box, x, np.float64(claim), argnums=1, bounds=(0, np.inf)).ok
        wrong = np.float64(1.01 * claim)
        assert check(box, x, wrong, argnums=1, bounds=(0, np.inf)).verdict == "differs"

    @pytest.mark.parametrize(("argnums", "error"), [(3, ValueError), ("a", TypeError)])
    def test_strange(self, argnums, error):
        with pytest.raises(error, match="argnums"):
            check(self.box, self.x, self.slopes, argnums=argnums)
        with pytest.raises(TypeError, match="tuple of all arguments"):
            check(self.box, 2.0, self.slopes, argnums=0)


class TestComplex:
    box = host(lambda z: np.sum(np.abs(z) ** 2 * np.cos(np.imag(z))))
    x = np.array([1 + 2j, 0.3 - 1j])

    def test_by_the_convention_of_jax(self):
        def fun(z):
            return jnp.sum(jnp.abs(z) ** 2 * jnp.cos(jnp.imag(z)))

        right = np.asarray(jax.grad(fun)(self.x))
        report = check(self.box, self.x, right)
        assert report.ok
        assert report.claimed.dtype == np.complex128
        assert check(self.box, self.x, right.conj()).verdict == "differs"
        assert check(self.box, self.x, right * np.array([1, 1 + 1e-3j])).worst == "x[1]"


class TestHessians:
    box = host(lambda x: np.sin(x[0] * x[1]) + x[2] ** 3 * x[0])
    x = np.array([0.3, 1.2, -2.0])

    @staticmethod
    def right(x):
        s, c = np.sin(x[0] * x[1]), np.cos(x[0] * x[1])
        mixed = c - x[0] * x[1] * s
        return np.array(
            [
                [-(x[1] ** 2) * s, mixed, 3 * x[2] ** 2],
                [mixed, -(x[0] ** 2) * s, 0],
                [3 * x[2] ** 2, 0, 6 * x[2] * x[0]],
            ]
        )

    def test_entries_and_line(self):
        report = check(self.box, self.x, self.right, derivative=2)
        assert report.ok
        assert report.taylor == "agrees"
        assert str(report).startswith("The Hessian is right. Of 9 entries 9 agree")
        wrong = self.right(self.x)
        wrong[0, 1] *= 1.01
        report = check(self.box, self.x, wrong, derivative=2)
        assert (report.verdict, report.worst) == ("differs", "x[0,1]")
        assert report.slope == pytest.approx(2, abs=0.1)
        assert check(self.box, self.x, -wrong, derivative=2).verdict == "differs"

    @pytest.mark.parametrize("away", [1e-2, 1e-5, 1e-9])
    @pytest.mark.parametrize("side", [-1, 1])
    def test_beside_a_kink(self, away, side):
        box = chosen(lambda x: np.maximum(x[0] - 1, 0) + x[1] ** 2)
        x = np.array([1 + side * away, 0.5])
        for method in (jaxfd.Adaptive(), jaxfd.Central()):
            report = check(box, x, np.diag([0.0, 2.0]), derivative=2, method=method)
            assert report.verdict != "differs", report


class TestFew:
    """Some entries of many, and a line through all."""

    weights = np.linspace(-1, 1, 400)
    box = host(lambda x: np.sum(np.sin(x) * TestFew.weights))
    x = np.linspace(0, 3, 400)
    right = np.cos(x) * weights

    @pytest.mark.parametrize(
        "options", [{"entries": 5}, {"method": jaxfd.RandomCoordinates(jax.random.key(0), 5)}]
    )
    def test_as_many_as_asked(self, options):
        report = check(self.box, self.x, self.right, **options)
        assert report.ok
        assert entries(report).count("agrees") == 5
        assert entries(report).count("not looked at") == 395
        assert report.evaluations < 200
        assert "along a line" in str(report)
        assert check(self.box, self.x, 1.01 * self.right, **options).verdict == "differs"

    def test_by_name(self):
        wrong = self.right.copy()
        wrong[7] *= 1.001
        report = check(self.box, self.x, wrong, entries=["x[7]", "x[399]"])
        assert (report.verdict, report.worst) == ("differs", "x[7]")
        assert np.isfinite(report.estimated).sum() == 2

    def test_the_line_sees_what_they_do_not(self):
        wrong = self.right.copy()
        wrong[100:300] *= -1
        report = check(self.box, self.x, wrong, entries=["x[0]"])
        assert report.verdict == "differs"
        assert report.taylor == "differs"

    def test_an_error_on_the_line_is_one_of_many_or_one_too_large(self):
        """Two per cent in an entry of common size that is not among those looked at."""
        several = [f"x[{i}]" for i in (1, 99, 399)]
        for i in (20, 50, 333):
            wrong = self.right.copy()
            wrong[i] *= 1.02
            report = check(self.box, self.x, wrong, entries=several)
            assert report.verdict != "agrees", report
        noise = 1e-6 * np.random.default_rng(0).uniform(-1, 1, 400)
        assert check(self.box, self.x, self.right * (1 + noise), entries=several).ok

    def test_of_a_tree_beside_walls(self):
        x = {"a": np.ones((3, 4)), "b": (np.arange(3.0), 2.0)}
        box = chosen(lambda t: np.sum(t["a"] ** 2) * t["b"][1] + np.sum(t["b"][0] ** 3))
        right = {"a": 2 * x["a"] * 2.0, "b": (3 * x["b"][0] ** 2, np.float64(12.0))}
        report = check(box, x, right, entries=["a[1,2]", "b[1]"], bounds=(0, np.inf))
        assert report.ok
        assert entries(report).count("agrees") == 2

    @pytest.mark.parametrize(
        ("asked", "error"),
        [
            (0, ValueError),
            (["q"], ValueError),
            ([], ValueError),
            (1.5, TypeError),
            ("x[0]", TypeError),
        ],
    )
    def test_strange(self, asked, error):
        with pytest.raises(error, match="entries"):
            check(self.box, self.x, self.right, entries=asked)


class TestCloseLook:
    """What is right at ``x`` and disagrees with every longer difference is not called wrong."""

    @pytest.mark.parametrize("at", [1.0, 2457958.47])
    @pytest.mark.parametrize("width", [1e-6, 1e-9, 1e-13])
    def test_narrow_features(self, at, width):
        w = width * at
        x = np.array([at + 0.3 * w, 0.7])
        u = (x[0] - at) / w
        box = chosen(lambda x: np.exp(-(((x[0] - at) / w) ** 2) / 2) + np.sin(x[1]))
        right = np.array([-u / w * np.exp(-(u**2) / 2), np.cos(0.7)])
        for method in (jaxfd.Adaptive(), QUICK):
            assert check(box, x, right, method=method).verdict != "differs"
            # Beside the feature the line is all noise, in which QUICK has no witness left.
            wrong = right + np.array([0, 0.1])
            assert check(box, x, wrong, method=method).verdict != "agrees"

    @pytest.mark.parametrize("away", [1e-2, 1e-5, 1e-9])
    @pytest.mark.parametrize("side", [-1, 1])
    def test_beside_a_kink(self, away, side):
        box = chosen(lambda x: np.sum(x * x + np.maximum(x, 0)))
        x = np.array([side * away, 40.0])
        right = 2 * x + (x > 0)
        for method in (jaxfd.Adaptive(), QUICK):
            assert check(box, x, right, method=method).verdict != "differs"
        assert check(box, x, right * np.array([1, 1.01])).verdict == "differs"

    def test_no_effect_is_told_from_a_step_of_stairs(self):
        x = np.array([0.4, 1.3])
        for method in (jaxfd.Adaptive(), QUICK):
            stairs = chosen(lambda x: float(f"{1000 + np.sum(np.sin(x)):.6g}"))
            assert check(stairs, x, np.zeros(2), method=method).verdict != "agrees"
            assert check(chosen(lambda x: 1000.0), x, np.zeros(2), method=method).ok


class TestRandomMethods:
    """A standard error is no bound: what is right is not called wrong, gross errors are found."""

    @pytest.mark.parametrize(
        "make",
        [
            lambda key: jaxfd.SPSA(key, 4),
            lambda key: jaxfd.GaussianSmoothing(key, 8, sigma=0.01),
            lambda key: jaxfd.Sphere(key, 4),
            lambda key: jaxfd.Orthogonal(key, 10),
        ],
    )
    def test_right_and_wrong(self, make):
        box = chosen(lambda x: np.sum(x) ** 2 + np.sum(np.sin(x)))
        x = np.linspace(0, 1, 20)
        right = 2 * np.sum(x) + np.cos(x)
        for seed in range(10):
            assert check(box, x, right, method=make(jax.random.key(seed))).verdict != "differs"
        assert check(box, x, -right, method=make(jax.random.key(0))).verdict == "differs"
