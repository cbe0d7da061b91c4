"""What a fit hands back, refuses, keeps and draws."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from matplotlib import pyplot

import jaxfd
from jaxfd.optim import least_squares

T = np.linspace(0.0, 3.0, 16)
Y = 2 * np.exp(-0.7 * T) + 0.05 * np.cos(9 * T)
X0 = {"a": 1.0, "k": 1.0}


def decay(p):
    return p["a"] * np.exp(-p["k"] * T)


@pytest.fixture(scope="module")
def fit():
    return least_squares(decay, X0, data=Y, profile=True)


class TestFit:
    def test_prints_as_a_table(self, fit):
        text = str(fit)
        assert text.startswith("converged: ")
        assert "a, k: +" in text
        assert f"{fit.x['a']:.7g}" in text
        assert "95 % by profiling" in text

    def test_numbers_for_json(self, fit):
        back = json.loads(json.dumps(fit.to_dict()))
        assert back["status"] == "converged"
        assert back["x"] == fit.x

    def test_history_falls(self, fit):
        assert (np.diff(fit.history) <= 1e-12 * fit.history[:-1]).all()
        assert fit.history[-1] == fit.cost

    def test_jacobian_is_that_of_the_residuals(self, fit):
        a, k = fit.x["a"], fit.x["k"]
        exact = np.stack([np.exp(-k * T), -a * T * np.exp(-k * T)], 1)
        gap = np.abs(fit.jacobian - exact)
        assert (gap <= 1e-7).all()
        assert (fit.jacobian_error < 1e-4).all()

    def test_limits_are_where_the_others_can_do_no_better(self, fit):
        """Fitted anew with one entry at its limit, the sum of squares is what it should be."""
        bound = 2.144787  # of Student's t with 14 degrees of freedom, 97.5 %
        rise = bound**2 * fit.reduced_chi_square / 2
        for row, name in enumerate(fit.names):
            for value in fit.intervals[row]:
                held = least_squares(
                    decay,
                    {**fit.x, name: value},
                    data=Y,
                    free=[other for other in fit.names if other != name],
                )
                assert held.cost - fit.cost == pytest.approx(rise, rel=5e-3)

    @pytest.mark.parametrize(
        ("model", "words"),
        [
            (lambda p: (p["a"] + p["k"]) * T, "cannot be told apart"),
            (lambda p: p["a"] * T + 0 * p["k"], "has no influence"),
            (lambda p: np.array([p["a"], p["k"] ** 2]) - 2, "no degree of freedom"),
        ],
    )
    def test_says_when_errors_cannot_be_trusted(self, model, words):
        fit = least_squares(model, X0)
        assert words in " ".join(fit.warnings)
        assert np.isnan(fit.standard_errors["k"])


class TestWords:
    """What was not measured is not spoken of, and what is missing is told."""

    @pytest.mark.parametrize("most", [1, 2])
    def test_no_slope_yet(self, most):
        fit = least_squares(lambda p: np.asarray(decay(p)) + 0, X0, data=Y, max_evaluations=most)
        assert "slopes were never differenced: errors are unknown" in fit.warnings
        assert not any("influence" in warning or "noise" in warning for warning in fit.warnings)
        assert np.isnan(fit.jacobian).all()
        assert fit.history[0] == fit.cost
        str(fit)

    @pytest.mark.parametrize("most", range(3, 16))
    def test_slopes_that_were_learnt(self, most):
        fit = least_squares(decay, X0, data=Y, max_evaluations=most)
        assert not any("influence" in warning or "nan" in warning for warning in fit.warnings)

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ({"max_evaluations": 6}, "6 evaluations were not enough"),
            ({"max_evaluations": 30}, "evaluations were not enough"),
            ({"callback": lambda fit: len(fit.history) > 2}, "the callback asked for the end"),
            ({"data": 2 * np.exp(-0.7 * T)}, "the residuals are zero to rounding"),
            ({"data": 2 * np.exp(-0.7 * T) + 1e-14 * np.cos(9 * T)}, "zero to rounding"),
        ],
        ids=["at first", "on the way", "a callback", "exact data", "nearly"],
    )
    def test_why_there_are_no_intervals(self, options, why):
        fit = least_squares(decay, X0, **{"data": Y, **options}, profile=True)
        assert np.isnan(fit.intervals).all()
        assert any("no 95 % limits" in w and why in w for w in fit.warnings), fit.warnings

    def test_one_interval_that_is_missing(self):
        fit = least_squares(decay, {**X0, "z": 1.0}, data=Y, profile=True)
        assert np.isnan(fit.intervals).tolist() == [[False] * 2, [False] * 2, [True] * 2]
        assert "z: no lower 95 % limit was found by profiling" in fit.warnings

    def test_exact_data_with_known_errors_have_intervals(self):
        data = 2 * np.exp(-0.7 * T)
        fit = least_squares(decay, X0, data=data, sigma=0.01, absolute_sigma=True, profile=True)
        assert (fit.intervals[:, 0] < [2, 0.7]).all()
        assert (fit.intervals[:, 1] > [2, 0.7]).all()


class TestProgress:
    """What is told of a fit while it runs, and of its failures when it is over."""

    def test_tells_cost_steps_evaluations_and_batches(self):
        seen = []
        fit = least_squares(decay, X0, data=Y, progress=seen.append)
        costs = [p.value for p in seen]
        assert costs == sorted(costs, reverse=True)
        # Points of differences count, and may lie a little lower.
        assert fit.cost * (1 - 1e-6) <= costs[-1] <= fit.cost * (1 + 1e-12)
        assert [p.done for p in seen] == [p.evaluations for p in seen]
        assert seen[-1].evaluations == fit.num_evaluations
        assert seen[-1].batches == fit.num_batches
        assert seen[-1].steps == len(fit.history) - 1
        assert f"value {seen[-1].value:.6g}, {seen[-1].steps} steps, " in str(seen[-1])

    def test_failures(self):
        def fails(p):
            return decay(p) * (np.nan if p["k"] > 0.71 else 1.0)

        fit = least_squares(fails, {"a": 1.0, "k": 0.5}, data=Y)
        assert fit.num_failed > 0
        assert f", {fit.num_failed} failed; " in str(fit)
        assert "failed" not in str(least_squares(decay, X0, data=Y))

    def test_batches_after_a_fit_that_was_refused_warn_each(self):
        with pytest.raises(TypeError, match="method"):
            least_squares(decay, X0, data=Y, method=jaxfd.ComplexStep())
        box = jaxfd.blackbox(
            lambda x: 1.0 if x < 0.3 else 1 / 0, jax.ShapeDtypeStruct((), float), on_error="nan"
        )
        for _ in range(2):
            with pytest.warns(jaxfd.JaxfdWarning, match="count as NaN"):
                jaxfd.grad(box)(0.3)


class TestPlot:
    def test_draws_four_pictures(self, fit):
        ax = jaxfd.plot(fit)
        titles = [a.get_title() for a in ax.figure.axes]
        for title in ("data and model", "residuals", "correlations", "convergence"):
            assert title in titles
        pyplot.close(ax.figure)


def wrong(**options):
    return lambda: least_squares(decay, X0, data=Y, **options)


class TestBadInput:
    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (lambda: least_squares(lambda p: T[: int(p["a"] > 1) + 5], X0), "residuals: .*shape"),
            (lambda: least_squares(lambda p: T[:0], X0), "residuals: .*no numbers"),
            (lambda: least_squares(lambda p: T * 1j, X0), "residuals: .*complex"),
            (lambda: least_squares(lambda p: p["a"] - 1, X0), "residuals .*1 numbers for 2"),
            (lambda: least_squares(lambda p: T * np.nan, X0), "residuals: .*not finite at x0"),
            (wrong(sigma=-1.0), "sigma must be positive"),
            (wrong(sigma=np.ones(3)), r"sigma has the shape \(3,\)"),
            (wrong(sigma=np.ones((16, 16))), "sigma is a matrix"),
            (wrong(absolute_sigma=True), "absolute_sigma=True needs sigma"),
            (wrong(free={"a": True}), "free lacks 'k'"),
            (wrong(free=["b"]), "free names 'b'"),
            (wrong(free={"a": False, "k": False}), "free leaves nothing"),
            (wrong(transform={"b": "log"}), "transform has 'b'"),
            (wrong(transform={"a": "sqrt"}), "transform must be 'log'"),
            (wrong(bounds=(2.0, 0.0)), "bounds of a.*crossed"),
            (wrong(bounds=(2.0, None)), "x0 lies outside bounds: a"),
            (wrong(bounds=({"b": 0.0}, None)), "has 'b'"),
            (wrong(starts=[{"a": 1.0}]), r"starts\[0\] has the structure"),
            (wrong(starts=[{"a": -1.0, "k": 1.0}], bounds=(0, None)), r"starts\[0\]: a is -1"),
            (wrong(starts=3), "give key="),
            (wrong(loss="square"), "loss must be"),
            (lambda: least_squares(decay, {"a": 0.0, "k": 1.0}, data=Y, transform="log"), "log"),
            (lambda: least_squares(decay, {"a": np.nan, "k": 1.0}, data=Y), "x0 must be finite"),
            (lambda: least_squares(decay, {"a": 1, "k": 2}, data=Y), "x0 holds no floating"),
        ],
    )
    def test_is_refused_by_name(self, call, words):
        with pytest.raises((TypeError, ValueError), match=words):
            call()


PROGRAM = """
import os, signal, sys
import numpy as np
from jaxfd.optim import least_squares
import test_fit_program

fit = test_fit_program.fit(sys.argv[1])
print(fit.x, fit.covariance.tobytes().hex(), fit.num_evaluations)
"""
MODEL = """
import os, signal
import numpy as np
from jaxfd.optim import least_squares

T = np.linspace(0.0, 3.0, 12)
RUNS = []

def model(p):
    RUNS.append(1)
    if len(RUNS) == int(os.environ["DIES"]):
        os.kill(os.getpid(), signal.SIGKILL)
    with open(os.environ["SEEN"], "a") as file:
        file.write(p.tobytes().hex() + "\\n")
    return p[0] * np.exp(-p[1] * T) + p[2]

def fit(folder):
    data = 2 * np.exp(-1.3 * T) + 0.01 * np.cos(9 * T)
    return least_squares(model, np.array([1.0, 1.0, 0.1]), data=data, checkpoint=folder)
"""


class TestCheckpoint:
    def test_killed_and_resumed(self, tmp_path):
        """Every run is killed after a few points more; in the end nothing was done twice."""
        (tmp_path / "test_fit_program.py").write_text(MODEL)
        (tmp_path / "run.py").write_text(PROGRAM)

        def run(folder, dies):
            env = {**os.environ, "DIES": str(dies), "SEEN": str(tmp_path / f"{folder}.txt")}
            command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / folder)]
            return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

        whole = run("whole", 0)
        assert whole.returncode == 0, whole.stderr
        for dies in (1, 6, 9):
            assert run("parts", dies).returncode == -9
        parts = run("parts", 0)
        assert parts.stdout == whole.stdout
        seen = (tmp_path / "parts.txt").read_text()
        assert seen == (tmp_path / "whole.txt").read_text()

    def test_another_function_is_refused(self, tmp_path):
        least_squares(decay, X0, data=Y, checkpoint=tmp_path / "c")

        def decay_(p):
            return p["a"] * np.exp(-p["k"] * T) + 1

        decay_.__name__ = "decay"
        with pytest.raises(ValueError, match=r"checkpoint: .*another function"):
            least_squares(decay_, X0, data=Y, checkpoint=tmp_path / "c")

    def test_traced_functions_too(self, tmp_path):
        runs = []
        box = jaxfd.blackbox(
            lambda k: runs.append(k) or np.exp(-k * T), jax.ShapeDtypeStruct(T.shape, np.float32)
        )
        found = []
        for _ in range(2):
            runs.clear()
            fit = least_squares(
                lambda p: p["a"] * box(p["k"]) - Y.astype(np.float32), X0, checkpoint=tmp_path / "c"
            )
            found.append((fit.x, fit.covariance.tobytes()))
        assert not runs
        assert found[0] == found[1]
