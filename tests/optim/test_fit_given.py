"""What a fit is given besides floats, what it hands back of it, and what its folder tells apart."""

import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from matplotlib import pyplot

import jaxfd
from jaxfd.optim import least_squares

T = np.linspace(0.0, 4.0, 20)
Y = 3 * np.exp(-0.5 * T) + 0.01 * np.cos(40 * T)


def decay(p):
    """Nothing that JAX can trace."""
    return np.asarray(p["a"]) * np.exp(-np.asarray(p["k"]) * T)


class Decay(NamedTuple):
    a: object
    n: object
    k: object


class TestOtherLeaves:
    """Leaves that are no floats are handed on, and are no parameters of what is printed."""

    @pytest.mark.parametrize(
        ("other", "error"),
        [
            (2, 0.0),
            ("fast", 0.0),
            (True, 0.0),
            (np.arange(3), [0.0, 0.0, 0.0]),
            (np.ones(2, bool), [0.0, 0.0]),
            (jax.random.key(0), 0.0),
            (object(), 0.0),
            ({"by": np.sin, "size": 1.0}, {"by": 0.0, "size": 0.0}),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_of_any_kind(self, other, error):
        fit = least_squares(decay, {"a": 1.0, "b": other, "k": 1.0}, data=Y, free=["a", "k"])
        assert fit.names == ("a", "k")
        np.testing.assert_equal(fit.standard_errors["b"], error)
        assert fit.standard_errors["k"] == pytest.approx(0.001305, rel=1e-3)
        assert f"{fit.x['k']:.7g}" in str(fit)
        assert json.loads(json.dumps(fit.to_dict()))["x"]["k"] == fit.x["k"]
        jaxfd.plot(fit)
        pyplot.close("all")

    def test_in_other_containers(self):
        fit = least_squares(
            lambda p: np.asarray(p.a) * np.exp(-np.asarray(p.k) * T) * p.n,
            Decay(np.ones(1), 2, 1.0),
            data=Y,
        )
        assert fit.names == ("a[0]", "k")
        assert "a[0] " in str(fit)
        assert fit.x.n == 2
        assert fit.standard_errors.n == 0


def scaled(p):
    return decay(p) * p["n"] * (3 if p.get("mode") == "fast" else 1)


def ordered(p):
    first, second = p if isinstance(p, tuple) else p[::-1]
    return np.asarray(first) * np.exp(-np.asarray(second) * T)


RUN = """
import sys
sys.path.insert(0, sys.argv[2])
from test_fit_given import Y, scaled, least_squares
least_squares(scaled, {"a": 1.0, "k": 1.0, "n": 1}, data=Y, checkpoint=sys.argv[1])
"""


class TestCheckpoint:
    @pytest.mark.parametrize(
        ("fun", "before", "now"),
        [
            (scaled, {"a": 1.0, "k": 1.0, "n": 1}, {"a": 1.0, "k": 1.0, "n": 5}),
            (scaled, {"a": 1.0, "k": 1.0, "n": True}, {"a": 1.0, "k": 1.0, "n": 2}),
            (scaled, *({"a": 1.0, "k": 1.0, "n": np.array([n])} for n in (1, 5))),
            (scaled, *({"a": 1.0, "k": 1.0, "n": jax.numpy.array(n)} for n in (1, 5))),
            (scaled, *({"a": 1.0, "k": 1.0, "n": 1, "mode": m} for m in ("slow", "fast"))),
            (ordered, (2.0, 1.0), [2.0, 1.0]),
        ],
    )
    def test_tells_starts_apart(self, fun, before, now, tmp_path):
        """By all that the function is given, not by the floats alone."""
        options = {"data": Y, "max_evaluations": 3}
        least_squares(fun, before, **options, checkpoint=tmp_path)
        kept = least_squares(fun, now, **options, checkpoint=tmp_path)
        assert kept.history[0] == least_squares(fun, now, **options).history[0]

    def test_what_cannot_be_told_apart(self, tmp_path):
        with pytest.raises(TypeError, match=r"checkpoint: x0 holds something .* no file can tell"):
            least_squares(decay, {"a": 1.0, "b": object(), "k": 1.0}, data=Y, checkpoint=tmp_path)

    @pytest.mark.parametrize("name", ["first-*.pickle", "points.sqlite"])
    def test_that_is_damaged(self, name, tmp_path):
        where = str(tmp_path / "c")
        command = [sys.executable, "-c", RUN, where, str(Path(__file__).parent)]
        subprocess.run(command, check=True, timeout=120)
        (path,) = (tmp_path / "c").glob(name)
        path.write_bytes(path.read_bytes()[:100])
        again = {"data": Y, "checkpoint": where}
        with pytest.raises(ValueError, match=r"checkpoint: .* is damaged .*: delete it"):
            least_squares(scaled, {"a": 1.0, "k": 1.0, "n": 1}, **again)
        path.unlink()
        assert least_squares(scaled, {"a": 1.0, "k": 1.0, "n": 1}, **again).converged

    def test_of_a_traced_function_that_is_damaged(self, tmp_path):
        (tmp_path / "batches.bin").write_bytes(b"no identity\n" * 20)
        with pytest.raises(ValueError, match=r"checkpoint: .*batches.bin is damaged"):
            least_squares(
                lambda p: p["a"] * jax.numpy.exp(-p["k"] * T),
                {"a": 1.0, "k": 1.0},
                data=Y,
                checkpoint=tmp_path,
            )


@functools.partial(jax.tree_util.register_dataclass, data_fields=["a", "k"], meta_fields=[])
@dataclasses.dataclass
class Rates:
    a: object
    k: object


def of_fields(p):
    return np.asarray(p.a) * np.exp(-np.asarray(p.k) * T)


def halves(p):
    return {"u": decay(p)[:10], "v": decay(p)[10:]}


X0 = {"a": 1.0, "k": 1.0}
HALVES = {"u": Y[:10], "v": Y[10:]}


class TestTrees:
    """Options are given for fields as for keys, and for some of them."""

    @pytest.mark.parametrize("transform", [Rates(None, "log"), {"k": "log"}], ids=str)
    def test_transform(self, transform):
        fit = least_squares(of_fields, Rates(1.0, 1.0), data=Y, transform=transform)
        keyed = least_squares(decay, X0, data=Y, transform={"k": "log"})
        assert (fit.x.a, fit.x.k) == (keyed.x["a"], keyed.x["k"])

    @pytest.mark.parametrize("kind", [Rates, lambda a, k: Decay(a, 1, k)], ids=["class", "tuple"])
    def test_bounds_and_sizes(self, kind):
        options = {"bounds": ({"k": 0.6}, None), "x_scale": {"a": 2.0}}
        fit = least_squares(of_fields, kind(1.0, 1.0), data=Y, **options)
        assert fit.x.k == 0.6

    def test_branches(self):
        fit = least_squares(
            lambda p: of_fields(p["of"]) + p["shift"][1],
            {"of": Rates(1.0, 1.0), "shift": np.zeros(2)},
            data=Y,
            free=["of", "shift[1]"],
            bounds=({"of": {"a": 0.0}}, {"shift": [None, 5e-4]}),
        )
        assert fit.converged
        assert fit.x["shift"].tolist() == [0.0, 5e-4]

    def test_none_among_bounds_of_an_array(self):
        def model(p):
            return np.asarray(p["v"])[0] * np.exp(-np.asarray(p["v"])[1] * T)

        fit = least_squares(model, {"v": np.ones(2)}, data=Y, bounds=({"v": [None, 0.6]}, None))
        assert fit.x["v"][1] == 0.6

    def test_a_covariance_of_several_arrays(self):
        spread = np.linspace(1.0, 2.0, 20)
        fit = least_squares(halves, X0, data=HALVES, sigma=np.diag(spread**2))
        one = least_squares(halves, X0, data=HALVES, sigma={"u": spread[:10], "v": spread[10:]})
        assert fit.x["k"] == pytest.approx(one.x["k"], rel=1e-6)
        assert fit.standard_errors["k"] == pytest.approx(one.standard_errors["k"], rel=1e-6)

    def test_starts_of_integers(self):
        whole, real = (
            least_squares(decay, X0, data=Y, starts=[{"a": a, "k": a}]) for a in (2, 2.0)
        )
        assert whole.x == real.x

    def test_a_negative_key(self):
        assert least_squares(decay, X0, data=Y, starts=2, key=-1).converged


def turning(kind):
    """A function that returns something else from its fourth call on."""
    calls = []

    def fun(p):
        calls.append(p)
        return decay(p).astype(kind if len(calls) > 3 else float)

    return fun


def masked(values):
    return np.ma.array(values, mask=np.arange(len(values)) == 3)


def wrong(fun=decay, x0=X0, **options):
    return lambda: least_squares(fun, x0, **{"data": Y, **options})


def square(p):
    return decay(p).reshape(4, 5)


def rows(p):
    return np.asarray(p)[0] * np.exp(-np.asarray(p)[1] * T)


REFUSED = [
    (wrong(data=Y + 1j), "data holds complex numbers"),
    (wrong(data=list(Y + 0j)), "data holds complex numbers"),
    (wrong(data=masked(Y)), "data holds masked numbers"),
    (wrong(data=["1"] * 20), "data must hold real numbers"),
    (wrong(square, data=Y[:5]), r"data has the shape \(5,\) for residuals of shape \(4, 5\)"),
    (wrong(square, data=Y[:4, None]), r"data has the shape \(4, 1\)"),
    (wrong(data=1.0), r"data has the shape \(\)"),
    (wrong(halves, data=Y[:10]), "data is one array, but residuals returns"),
    (wrong(sigma=masked(Y)), "sigma holds masked numbers"),
    (wrong(sigma=np.eye(20) + 0j), "sigma holds complex numbers"),
    (wrong(square, sigma=np.ones(5), data=Y.reshape(4, 5)), r"sigma has the shape \(5,\)"),
    (wrong(halves, data=HALVES, sigma={"u": 1.0}), "sigma lacks 'v': give the keys of residuals"),
    (wrong(bounds=(0j, None)), r"bounds\[0\] holds complex"),
    (wrong(rows, masked(np.ones(4))), "x0 holds masked numbers"),
    (wrong(free=set()), "free leaves nothing to fit"),
    (wrong(free=[]), "free leaves nothing to fit"),
    (wrong(of_fields, Rates(1.0, 1.0), bounds=({"b": 0.0}, None)), r"has 'b', which x0 has not"),
    (wrong(loss=["huber"]), "loss must be 'linear'"),
    (wrong(loss=np.ones(3)), "loss must be 'linear'"),
    (wrong(starts=[{"a": 1j, "k": 1}]), r"starts\[0\] holds complex"),
    (wrong(turning(complex)), "residuals: fun returns complex numbers"),
    (wrong(turning(str)), "residuals: fun returns .*: return real numbers"),
]


@pytest.mark.parametrize(("call", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_is_refused_in_words(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call()
