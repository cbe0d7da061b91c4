"""Sensitivities: values, names, order, and what is refused."""

import collections
import dataclasses
import runpy
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import REPOSITORY, Host, x64
from hypothesis import given, strategies as st

import jaxfd
from jaxfd._arrays import entry_names
from jaxfd._reports.entries import flat, unflat

SCALAR = jax.ShapeDtypeStruct((), np.float64)
# The default takes seconds to compile for every traceable function.
QUICK = jaxfd.Central(order=4)
EXAMPLE = REPOSITORY / "examples" / "sensitivity.py"

# Exponents are elasticities, whatever the values: Young's modulus, an expansion, a count.
POWERS = {"E": -1.0, "alpha": 2.0, "beam": {"width": -3.0, "length": np.array([0.5, 1.5])}}
VALUES = {"E": 2.1e11, "alpha": -1.2e-5, "beam": {"width": 0.05, "length": np.array([3.0, 70.0])}}


def power_law(p):
    return 7.0 * jnp.prod(
        jnp.concatenate(
            [
                jnp.ravel(jnp.abs(x) ** jnp.asarray(n, x.dtype))
                for x, n in zip(jax.tree.leaves(p), jax.tree.leaves(POWERS), strict=True)
            ]
        )
    )


def host_power_law(p):
    pairs = zip(jax.tree.leaves(p), jax.tree.leaves(POWERS), strict=True)
    return 7.0 * np.prod(np.concatenate([np.ravel(np.abs(x) ** n) for x, n in pairs]))


def box(fun):
    """A black box, which takes the default method at once."""
    return jaxfd.blackbox(fun, SCALAR)


class TestValues:
    def check(self, result, tol):
        expected = dict(zip(entry_names(POWERS), flat(POWERS), strict=True))
        values = dict(zip(entry_names(VALUES), flat(VALUES), strict=True))
        assert sorted(result.names) == sorted(expected)
        for i, name in enumerate(result.names):
            assert result.elasticities[i] == pytest.approx(expected[name], rel=tol)
            assert abs(result.elasticities[i] - expected[name]) <= result.elasticity_errors[i]
            assert result.x[i] == pytest.approx(values[name], rel=1e-6)
            slope = expected[name] * result.value / values[name]
            assert result.derivatives[i] == pytest.approx(slope, rel=tol)
            assert abs(result.derivatives[i] - slope) <= result.errors[i] + 1e-6 * abs(slope)
        sizes = np.abs(result.elasticities)
        assert np.all(sizes[:-1] >= sizes[1:] * (1 - 1e-2))
        assert result.names[0] == "beam.width"
        assert result.names[-1] == "beam.length[0]"
        assert float(result.value) == pytest.approx(host_power_law(VALUES), rel=1e-5)

    def test_traced(self, dtype):
        x = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), VALUES)
        self.check(jaxfd.sensitivity(power_law, x), 1e-6 if dtype == np.float64 else 1e-2)

    @pytest.mark.parametrize("enabled", [False, True], ids=["x64 off", "x64 on"])
    def test_black_box(self, enabled):
        with x64(enabled):
            fun = jaxfd.blackbox(host_power_law, jax.ShapeDtypeStruct((), jnp.float32))
            self.check(jaxfd.sensitivity(fun, VALUES), 1e-5)

    def test_one_estimate(self):
        host = Host(lambda x: np.sum(x**2, axis=-1))
        fun = jaxfd.blackbox(host, SCALAR, vectorized=True)
        result = jaxfd.sensitivity(fun, np.ones(3), method=jaxfd.Central())
        assert [len(batch) for batch in host.taken()] == [13]
        assert result.evaluations == 13
        result = jaxfd.sensitivity(fun, np.ones(3))
        assert result.evaluations == host.evaluations == 25 * 3 - 2
        assert isinstance(result.evaluations, int)

    def test_method_and_its_error(self):
        result = jaxfd.sensitivity(jnp.exp, 1.0, method=jaxfd.Forward(step=1e-3))
        assert result.derivatives[0] == pytest.approx(np.e * (1 + 5e-4), rel=1e-6)
        assert np.e * 5e-4 <= result.errors[0] < np.e * 5e-3
        assert 5e-4 * np.e <= result.elasticity_errors[0] < np.inf

    def test_bounds(self):
        def fun(p):
            return np.exp(p["x"]) + p["y"] if p["x"] >= 0 else np.nan

        x = {"x": 0.0, "y": 2.0}
        assert not np.isfinite(jaxfd.sensitivity(box(fun), x).errors).all()
        result = jaxfd.sensitivity(box(fun), x, bounds=({"x": 0.0, "y": -np.inf}, np.inf))
        np.testing.assert_allclose(result.derivatives, [1.0, 1.0], rtol=1e-9)
        with pytest.raises(ValueError, match="outside bounds"):
            jaxfd.sensitivity(box(fun), x, bounds=(1.0, 2.0))

    @pytest.mark.parametrize(
        ("fun", "x", "slope"),
        [
            (lambda x: np.sin(x / 1e-9), 1e-9, np.cos(1.0) * 1e9),
            (lambda x: np.exp(-x / 1e-5), 1e-5, -1e5 / np.e),
            (lambda k: k**3, 2e-3, 12e-6),
            (lambda k: 1 + k**3, 2e-3, 12e-6),
            (np.sqrt, 1e-5, 0.5 / 1e-5**0.5),
            (lambda e: 1 / e, 2.1e11, -1 / 2.1e11**2),
        ],
    )
    def test_numbers_of_any_size(self, fun, x, slope):
        """Steps that suit numbers near 1 would be far too long, or short, here."""
        result = jaxfd.sensitivity(box(fun), x)
        assert result.derivatives[0] == pytest.approx(slope, rel=1e-7)
        assert abs(result.derivatives[0] - slope) <= result.errors[0] < 1e-6 * abs(slope)

    def test_noise_is_in_the_bars(self):
        rng = np.random.default_rng(0)
        fun = box(lambda x: x[0] ** 2 * x[1] * (1 + 1e-3 * rng.standard_normal()))
        result = jaxfd.sensitivity(fun, np.array([2e-3, 40.0]))
        assert result.names == ("x[0]", "x[1]")
        gaps = np.abs(result.elasticities - [2.0, 1.0])
        assert np.all(gaps <= result.elasticity_errors)
        assert np.all(result.elasticity_errors < 0.3)


class TestSpecialNumbers:
    def test_f_is_zero(self):
        result = jaxfd.sensitivity(box(lambda x: 3 * x[0] - x[1]), np.array([1.0, 3.0]))
        assert result.value == 0
        assert np.all(np.isnan(result.elasticities))
        assert np.all(np.isnan(result.elasticity_errors))
        np.testing.assert_allclose(np.abs(result.derivatives * result.x), 3.0)

    def test_f_is_zero_sorted_by_what_it_would_be(self):
        slopes = np.array([1.0, -5.0, 3.0])
        result = jaxfd.sensitivity(box(lambda x: slopes @ (x - 2.0)), 2 * np.ones(3))
        assert result.names == ("x[1]", "x[2]", "x[0]")

    def test_x_is_zero(self):
        slopes = np.array([1.0, -5.0, 3.0])
        result = jaxfd.sensitivity(box(lambda x: 1 + slopes @ x), np.zeros(3))
        np.testing.assert_array_equal(result.elasticities, 0.0)
        np.testing.assert_array_equal(result.elasticity_errors, 0.0)
        assert result.names == ("x[1]", "x[2]", "x[0]")
        np.testing.assert_allclose(result.derivatives, [-5.0, 3.0, 1.0], rtol=1e-9)

    def test_nan_comes_last(self):
        def fun(x):
            return x[1] + x[2] ** 3 if x[0] == 1.0 else np.nan

        result = jaxfd.sensitivity(box(fun), np.ones(3))
        assert result.names == ("x[2]", "x[1]", "x[0]")
        assert np.isnan(result.elasticities[-1])

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_f_is_not_finite(self, value):
        result = jaxfd.sensitivity(box(lambda x: x * value), 1.0)
        assert not np.isfinite(result.elasticities[0])

    def test_tiny_value(self):
        result = jaxfd.sensitivity(box(lambda x: x * 1e-250), 1e200)
        assert result.elasticities[0] == pytest.approx(1.0, rel=1e-9)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Spring:
    k: float
    damping: object


Pair = collections.namedtuple("Pair", ["first", "second"])


class TestNames:
    @pytest.mark.parametrize(
        ("tree", "names"),
        [
            (1.0, ["x"]),
            (np.ones(2), ["x[0]", "x[1]"]),
            (np.ones((1, 2)), ["x[0,0]", "x[0,1]"]),
            ([1.0, np.ones(1)], ["x[0]", "x[1][0]"]),
            ((1.0, {"a": 2.0}), ["x[0]", "x[1].a"]),
            ({"gain": np.ones(2), "spring": {"k": 2.0}}, ["gain[0]", "gain[1]", "spring.k"]),
            ({"a": [1.0, {"b": 2.0}]}, ["a[0]", "a[1].b"]),
            ({3: 1.0, 5: 2.0}, ["x[3]", "x[5]"]),
            (Spring(1.0, np.ones(1)), ["k", "damping[0]"]),
            ({"s": Spring(1.0, {"d": 2.0})}, ["s.k", "s.damping.d"]),
            (Pair(1.0, 2.0), ["first", "second"]),
            ({"a": None, "b": np.zeros((0, 3)), "c": 1.0}, ["c"]),
            ({}, []),
            ({"a.b": 1.0, "a": {"b": 2.0}}, ["a.b", "['a.b']"]),
            ({"x": {"a[0]": 1.0}, "a[0]": 2.0, "a": [3.0]}, ["a[0]", "['a[0]']", "x['a[0]']"]),
            ({"k 1": 1.0, "": 2.0}, ["['']", "k 1"]),
        ],
    )
    def test_names(self, tree, names):
        assert entry_names(tree) == names
        assert len(flat(tree)) == len(names)

    @given(st.lists(st.integers(0, 3), max_size=3), st.integers(0, 3))
    def test_flat_and_back(self, shape, count):
        rng = np.random.default_rng(0)
        tree = {"a": rng.normal(size=shape), "b": [rng.normal(size=2), 3.0]}
        lead = jax.tree.map(lambda leaf: np.stack([leaf] * (count + 1)), tree)
        np.testing.assert_array_equal(flat(lead, 1)[0], flat(tree))
        back = unflat(flat(lead, 1), tree)
        jax.tree.map(np.testing.assert_array_equal, back, lead)


class TestText:
    def test_table(self):
        result = jaxfd.sensitivity(box(host_power_law), VALUES)
        lines = str(result).splitlines()
        assert [line.split()[0] for line in lines[2:]] == list(result.names)
        assert len({len(line) for line in lines[1:]}) == 1
        assert "-3.0000" in lines[2]

    def test_long(self):
        result = jaxfd.sensitivity(lambda x: jnp.sum(x**2), np.arange(1.0, 41.0), method=QUICK)
        assert str(result).endswith("... 10 more")
        assert len(str(result).splitlines()) == 33

    def test_a_pytree(self):
        result = jaxfd.sensitivity(jnp.exp, 1.0, method=QUICK)
        assert str(jax.tree.map(np.asarray, result)) == str(result)
        assert str(jax.jit(lambda r: (print(r), r)[1])(result)) == str(result)


class TestErrors:
    @pytest.mark.parametrize(
        ("x", "name"),
        [
            ({"n": 3, "k": 1.0}, r"n is 3 \(int\)"),
            ({"on": True}, r"on is True \(bool\)"),
            ({"z": 1j}, r"z is 1j \(complex"),
            ({"s": "steel"}, r"s is 'steel' \(str\)"),
            (np.arange(3), r"x is array.* \(int"),
            ([1.0, {"a": jnp.ones(2, jnp.complex64)}], r"x\[1\]\.a is .* \(complex64\)"),
        ],
    )
    def test_x(self, x, name):
        with pytest.raises(TypeError, match=f"sensitivity needs real floating numbers, but {name}"):
            jaxfd.sensitivity(lambda x: 1.0, x)
        with pytest.raises(TypeError, match=r"convert it .* or leave it out of x"):
            jaxfd.sensitivity(lambda x: 1.0, x)

    @pytest.mark.parametrize(
        ("x", "match"), [({}, "holds no numbers"), (np.array([np.nan, 1.0]), "needs a finite x")]
    )
    def test_nothing_to_vary(self, x, match):
        with pytest.raises(ValueError, match=f"sensitivity.* {match}"):
            jaxfd.sensitivity(lambda x: jnp.ones(()), x)

    def test_traced(self):
        with pytest.raises(TypeError, match=r"k is traced: .* jaxfd\.estimate"):
            jax.jit(lambda k: jaxfd.sensitivity(lambda p: p["k"], {"k": k}).value)(1.0)

    def test_output(self):
        for out in (jnp.ones(3), {"a": 1.0}):
            with pytest.raises(TypeError, match=r"sensitivity needs .* one number, got"):
                jaxfd.sensitivity(lambda x, out=out: jax.tree.map(lambda a: a * x, out), 1.0)
        fun = jaxfd.blackbox(lambda x: np.ones(3), jax.ShapeDtypeStruct((3,), np.float64))
        with pytest.raises(TypeError, match=r"one number, got the shape \(3,\): reduce it to one"):
            jaxfd.sensitivity(fun, 1.0)
        with pytest.raises(TypeError, match="fun returned a traced one"):
            jax.jit(lambda y: jaxfd.sensitivity(lambda x: x * y, 1.0, method=QUICK).x)(1.0)

    def test_method(self):
        with pytest.raises(TypeError, match="method value"):
            jaxfd.sensitivity(jnp.sin, 1.0, method="central")

    def test_numpy_function(self):
        with pytest.raises(TypeError, match=r"sensitivity cannot trace .*jaxfd\.blackbox"):
            jaxfd.sensitivity(np.sin, 1.0)


def test_example(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--save-plots", str(tmp_path / "plots")])
    with x64(False), jax.numpy_dtype_promotion("standard"):
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    assert "-2.9 +- 0.7" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == [
        "epidemic.png",
        "table_steps.png",
    ]
