"""What a fit is given besides floats, what it hands back of it, and what its folder tells apart."""

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
        ids=str,
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
