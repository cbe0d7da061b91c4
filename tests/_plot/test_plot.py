"""Pictures: what is on the axes, not which pixels."""

import dataclasses
import itertools
import sys

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import jaxfd

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Where the picture is the point: of a search each shape of the argument takes long to trace.
QUICK = jaxfd.Central()
LONG = "a_parameter_whose_name_goes_on_and_on_without_end"


@pytest.fixture(autouse=True)
def _no_figure_stays():
    before = dict(matplotlib.rcParams)
    yield
    assert len(plt.get_fignums()) <= 1
    plt.close("all")
    assert dict(matplotlib.rcParams) == before


def drawn(ax):
    """Draws for real, so that what does not fit complains; returns the texts that can be seen."""
    ax.figure.canvas.draw()
    legend = ax.get_legend()
    texts = [*ax.get_yticklabels(), ax.title, ax.xaxis.label, ax.yaxis.label]
    texts += legend.get_texts() if legend else []
    return [text.get_text() for text in texts]


def inside(ax):
    """Asserts that every label and the legend lie inside the figure, and names do not overlap."""
    ax.figure.canvas.draw()
    renderer = ax.figure.canvas.get_renderer()
    width, height = ax.figure.canvas.get_width_height()
    legend = ax.get_legend()
    low, high = sorted(ax.get_ylim())
    ticks = zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)
    texts = [t for at, t in ticks if low <= at <= high and t.get_text()]
    boxes = [t.get_window_extent(renderer) for t in texts]
    others = [ax.title, ax.xaxis.label, ax.yaxis.label, *([legend] if legend else [])]
    for box in (*boxes, *(other.get_window_extent(renderer) for other in others)):
        if box.width and box.height:
            assert box.x0 >= -1
            assert box.y0 >= -1
            assert box.x1 <= width + 1
            assert box.y1 <= height + 1
    for one, other in itertools.pairwise(boxes):
        assert not one.overlaps(other)


def labels(ax):
    return ax.get_legend_handles_labels()[1]


def line(ax, label):
    handles, names = ax.get_legend_handles_labels()
    return handles[names.index(label)]


def many(p):
    return sum(jnp.sum(jnp.sin(leaf) * leaf**2) for leaf in jax.tree.leaves(p))


def box(fun, dtype=np.float64):
    """A black box, which takes `Adaptive` without time to compile."""
    return jaxfd.blackbox(fun, jax.ShapeDtypeStruct((), dtype))


def host_many(p):
    return sum(np.sum(np.sin(leaf) * leaf**2) for leaf in jax.tree.leaves(p))


def slopes(p):
    return jax.tree.map(lambda x: np.cos(x) * x**2 + 2 * x * np.sin(x), p)


MANY = box(host_many)


def entries(count, dtype=np.float64):
    return {LONG: np.linspace(-3.0, 3.0, count, dtype=dtype)}


class TestStepSweep:
    def test_one_entry(self):
        sweep = jaxfd.step_sweep(jnp.sin, 1.0, exact=np.cos(1.0))
        ax = jaxfd.plot(sweep)
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        assert ax.get_xlabel() == "step h"
        assert "reference" in ax.get_ylabel()
        h, e = line(ax, "x").get_data()
        np.testing.assert_array_equal(h, sweep.steps)
        np.testing.assert_array_equal(e[sweep.error > 0], sweep.error[sweep.error > 0])
        assert {"default step", "best step", "$c/h$, rounding"} <= set(labels(ax))
        assert "$c\\,h^2$, truncation" in labels(ax)
        inside(ax)

    def test_markers(self):
        sweep = jaxfd.step_sweep(jnp.sin, 1.0, exact=np.cos(1.0))
        ax = jaxfd.plot(sweep)
        single = {
            one.get_marker(): (one.get_xdata()[0], one.get_ydata()[0])
            for one in ax.get_lines()
            if len(one.get_xdata()) == 1
        }
        np.testing.assert_allclose(single["D"], (sweep.default_step, sweep.default_error))
        np.testing.assert_allclose(single["*"], (sweep.best_step, sweep.best_error))
        stems = [c.get_segments()[0][0][0] for c in ax.collections]
        np.testing.assert_allclose(stems, [sweep.default_step, sweep.best_step])

    def test_branches_have_their_slopes(self):
        sweep = jaxfd.step_sweep(jnp.sin, 1.0, exact=np.cos(1.0), method=jaxfd.Central(4))
        ax = jaxfd.plot(sweep)
        slopes = {}
        for one in ax.get_lines():
            if one.get_linestyle() in ("--", ":") and len(one.get_xdata()) > 1:
                x, y = np.log(one.get_data())
                slopes[one.get_linestyle()] = np.polyfit(x, y, 1)[0]
        assert slopes == pytest.approx({"--": 4.0, ":": -1.0})

    @pytest.mark.parametrize("exact", [jax.grad(many), None], ids=["exact", "estimated"])
    def test_the_worst_of_many(self, exact, dtype):
        x = entries(100, dtype)
        fun = box(host_many, dtype)
        sweep = jaxfd.step_sweep(fun, x, method=jaxfd.Forward(), exact=exact)
        ax = jaxfd.plot(sweep)
        worst = np.argsort(-sweep.default_error[LONG], kind="stable")[:6]
        shown = [label for label in labels(ax) if label.startswith("a_param")]
        assert len(shown) == 6
        assert {label[label.index("[") :] for label in shown} == {f"[{i}]" for i in worst}
        assert max(map(len, shown)) <= 32
        assert "6 of 100" in ax.get_title()
        drawn = sweep.uncertainty[LONG][worst].max() > ax.get_ylim()[0]
        assert ("reference's own error" in labels(ax)) == drawn
        inside(ax)

    def test_a_reference_with_an_error(self):
        rng = np.random.default_rng(0)
        x = np.array([1.0, 2.0])
        sweep = jaxfd.step_sweep(box(lambda x: np.sum(x**2) + 1e-3 * rng.normal()), x)
        ax = jaxfd.plot(sweep)
        assert "reference's own error" in labels(ax)
        top = max(patch.get_y() + patch.get_height() for patch in ax.patches)
        assert top == pytest.approx(sweep.uncertainty.max())
        inside(ax)

    @pytest.mark.parametrize("known", [[np.inf, 1e-9], [np.inf, np.inf], [np.nan, 1e-9]])
    def test_a_reference_without_a_bound(self, known):
        x = np.array([1.0, 2.0])
        sweep = jaxfd.step_sweep(MANY, x, exact=slopes)
        ax = jaxfd.plot(dataclasses.replace(sweep, uncertainty=np.array(known)))
        assert labels(ax)[0] == "x[0] (reference unsure)"
        assert ("reference's own error" in labels(ax)) == (1e-9 in known)
        assert np.all(np.isfinite(ax.get_ylim()))
        inside(ax)

    def test_limits_hold_what_there_is(self):
        sweep = jaxfd.step_sweep(many, {"a": np.array([1e-3, 1e4])}, exact=jax.grad(many))
        ax = jaxfd.plot(sweep)
        positive = sweep.error["a"][sweep.error["a"] > 0]
        low, high = ax.get_ylim()
        assert 0 < low < positive.min()
        assert positive.max() < high
        assert ax.get_xlim()[0] < sweep.steps["a"].min()
        assert ax.get_xlim()[1] > sweep.steps["a"].max()

    def test_default_outside_of_the_sweep(self):
        ax = jaxfd.plot(jaxfd.step_sweep(box(np.sin), 1.0, steps=[0.1, 0.2], exact=np.cos))
        assert ax.get_xlim()[0] < 1e-4

    def test_zeros_stand_on_the_floor(self):
        x = np.array([0.0, 3.0])
        sweep = jaxfd.step_sweep(lambda x: jnp.sum(2 * x), x, exact=np.array([2.0, 2.0]))
        ax = jaxfd.plot(sweep)
        at = [one for one in ax.get_lines() if one.get_marker() == "v" and len(one.get_xdata())]
        assert sum(len(one.get_xdata()) for one in at) == np.sum(sweep.error == 0) > 0
        assert all(one.get_ydata()[0] > ax.get_ylim()[0] for one in at)
        assert "error is 0" in labels(ax)

    @pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [np.nan] * 3, [0.0, np.nan, 1e-3]])
    def test_nothing_for_a_logarithm(self, values):
        sweep = jaxfd.step_sweep(jnp.sin, 1.0, steps=[0.1, 0.2, 0.4], exact=0.5)
        sweep = dataclasses.replace(sweep, error=np.array(values), default_error=np.array(0.0))
        ax = jaxfd.plot(sweep)
        assert ("error is 0" in labels(ax)) == (0.0 in values)
        inside(ax)

    def test_a_name_with_an_underscore(self):
        ax = jaxfd.plot(
            jaxfd.step_sweep(box(lambda p: p["_k"] ** 3), {"_k": 1.0}, exact={"_k": 3.0})
        )
        assert " _k" in labels(ax)


class TestEstimate:
    def test_values_and_bars(self):
        result = jaxfd.estimate(many, method=jaxfd.Central(step=0.3))({"a": 1.0, "b": -2.0})
        ax = jaxfd.plot(result)
        assert [t for t in drawn(ax) if t][:2] == ["a", "b"]
        (container,) = ax.containers
        points, _, (bars,) = container.lines
        np.testing.assert_array_equal(points.get_xdata(), [result.grad["a"], result.grad["b"]])
        for row, (name, segment) in enumerate(zip("ab", bars.get_segments(), strict=True)):
            np.testing.assert_allclose(segment[:, 1], row)
            centre, half = np.mean(segment[:, 0]), np.ptp(segment[:, 0]) / 2
            assert centre == pytest.approx(result.grad[name])
            assert half == pytest.approx(result.error[name])
        assert ax.get_xlabel() == "gradient"
        # The first is on top.
        assert ax.get_ylim()[0] > ax.get_ylim()[1]
        inside(ax)

    def test_bars_too_short_to_see(self, dtype):
        result = jaxfd.estimate(jnp.sin)(jnp.asarray(1.0, dtype))
        ax = jaxfd.plot(result)
        assert f"too short to see: at most {float(result.error):.1g}" in ax.get_xlabel()
        inside(ax)

    @pytest.mark.parametrize(("count", "named"), [(1, True), (30, True), (31, False), (300, False)])
    def test_names_where_there_is_room(self, count, named):
        ax = jaxfd.plot(jaxfd.estimate(MANY)(entries(count)))
        inside(ax)
        assert any(t.get_text().startswith("a_param") for t in ax.get_yticklabels()) == named
        assert ax.get_ylabel() == ("" if named else "entry")

    def test_no_bounds(self):
        result = jaxfd.estimate(MANY)(entries(3))
        unknown = jax.tree.map(lambda error: jnp.full_like(error, jnp.nan), result.error)
        ax = jaxfd.plot(dataclasses.replace(result, error=unknown))
        assert labels(ax) == ["error bound unknown"]
        assert len(line(ax, "error bound unknown").get_xdata()) == 3
        assert "too short" not in ax.get_xlabel()
        inside(ax)

    def test_some_are_not_finite(self):
        result = jaxfd.estimate(lambda x: jnp.sum(x**3))(np.arange(4.0))
        grad, error = np.array(result.grad), np.array(result.error)
        grad[1], error[2] = np.nan, np.inf
        ax = jaxfd.plot(dataclasses.replace(result, grad=grad, error=error))
        np.testing.assert_array_equal(line(ax, "not finite").get_ydata(), [1])
        np.testing.assert_array_equal(line(ax, "error bound unknown").get_ydata(), [2])
        assert np.all(np.isfinite(ax.get_xlim()))
        inside(ax)

    def test_refused(self):
        batch = jax.vmap(jaxfd.estimate(jnp.sin))(jnp.ones(2))
        with pytest.raises(ValueError, match=r"one gradient, got estimates of shape \(2,\)"):
            jaxfd.plot(batch)
        result = jaxfd.estimate(lambda z: jnp.abs(z) ** 2)(1.0 + 2.0j)
        with pytest.raises(TypeError, match="plot needs real"):
            jaxfd.plot(result)
        with pytest.raises(ValueError, match="no entries"):
            jaxfd.plot(jaxfd.estimate(lambda x: jnp.ones(()))({}))


class TestGradCheck:
    def test_verdicts_by_colour_and_shape(self):
        x = {"a": 1.0, "b": 2.0, "c": -1.0}
        wrong = {**jax.grad(many)(x), "b": 3.0}
        report = jaxfd.check_grads(MANY, x, wrong)
        ax = jaxfd.plot(report)
        assert ax.get_xscale() == "log"
        good, bad = line(ax, "agrees"), line(ax, "differs")
        assert good.get_marker() != bad.get_marker()
        assert good.get_color() != bad.get_color()
        np.testing.assert_array_equal(bad.get_ydata(), [1])
        gap = abs(float(report.claimed["b"] - report.estimated["b"]))
        np.testing.assert_allclose(bad.get_xdata(), [gap])
        assert "differs" in ax.get_title()
        left = ax.get_xlim()[0]
        for patch, bar in zip(ax.patches, jax.tree.leaves(report.bar), strict=True):
            assert patch.get_x() == pytest.approx(left)
            assert patch.get_x() + patch.get_width() == pytest.approx(float(bar))
        inside(ax)

    def test_gaps_of_nothing_and_bars_without_end(self):
        report = jaxfd.check_grads(MANY, {"a": 1.0, "b": 2.0}, slopes)
        report = dataclasses.replace(
            report,
            claimed={"a": report.estimated["a"], "b": np.array(np.nan)},
            bar={"a": np.array(np.inf), "b": np.array(np.nan)},
            verdicts={"a": np.array("cannot tell"), "b": np.array("differs")},
        )
        ax = jaxfd.plot(report)
        assert np.all(np.isfinite(ax.get_xlim()))
        low, high = ax.get_xlim()
        assert line(ax, "cannot tell").get_xdata()[0] == low
        assert line(ax, "differs").get_xdata()[0] == high
        inside(ax)

    @pytest.mark.parametrize("count", [1, 100])
    def test_sizes(self, count, dtype):
        fun, x = box(host_many, dtype), entries(count, dtype)
        ax = jaxfd.plot(jaxfd.check_grads(fun, x, slopes, method=QUICK))
        assert len(ax.patches) == count
        inside(ax)


BEAM = {"width": 1.0, "length": 2.0, "load": 0.5}


@box
def beam(p):
    return p["width"] ** 3 / p["length"] + 0.1 * p["load"]


class TestSensitivity:
    def test_bars(self):
        result = jaxfd.sensitivity(beam, BEAM)
        ax = jaxfd.plot(result)
        texts = drawn(ax)
        assert texts[:3] == ["width = 1", "length = 2", "load = 0.5"]
        widths = {round(p.get_y() + p.get_height() / 2): p.get_width() for p in ax.patches}
        assert [widths[i] for i in range(3)] == pytest.approx(list(result.elasticities))
        assert {"f grows with x", "f falls with x"} <= set(texts)
        grows, falls = (line(ax, f"f {how} with x") for how in ("grows", "falls"))
        assert grows[0].get_facecolor() != falls[0].get_facecolor()
        assert all(p.get_width() > 0 for p in grows)
        assert all(p.get_width() < 0 for p in falls)
        assert ax.get_xlabel().startswith("elasticity")
        inside(ax)

    def test_error_bars(self):
        result = jaxfd.sensitivity(beam, BEAM, method=jaxfd.Central(step=0.2))
        ax = jaxfd.plot(result)
        assert "too short" not in ax.get_xlabel()
        bars = next(c for c in ax.containers if hasattr(c, "has_xerr")).lines[2][0]
        halves = [np.ptp(segment[:, 0]) / 2 for segment in bars.get_segments()]
        assert halves == pytest.approx(list(result.elasticity_errors))

    def test_no_elasticity(self):
        ax = jaxfd.plot(jaxfd.sensitivity(box(lambda x: x[0] * 2 - x[1]), np.array([1.0, 2.0])))
        assert ax.get_xlabel().startswith("x df/dx")
        assert sorted(p.get_width() for p in ax.patches) == pytest.approx([-2.0, 2.0])

    @pytest.mark.parametrize("count", [1, 30, 100])
    def test_sizes(self, count, dtype):
        fun, x = box(host_many, dtype), entries(count, dtype)
        ax = jaxfd.plot(jaxfd.sensitivity(fun, x, method=QUICK))
        assert len(ax.patches) == min(count, 30)
        assert ("30 most important of 100" in ax.get_title()) == (count == 100)
        inside(ax)
        assert all("[" in t.get_text() for t in ax.get_yticklabels())

    def test_zeros_and_nan(self):
        fun = box(lambda x: 1 + x[1] + x[2] if x[0] == 1 else np.nan)
        result = jaxfd.sensitivity(fun, np.array([1.0, 2.0, 0.0]), method=QUICK)
        ax = jaxfd.plot(result)
        np.testing.assert_array_equal(line(ax, "not finite").get_ydata(), [2])
        inside(ax)


class TestHistories:
    y = np.exp(-np.arange(50) / 7)

    @pytest.mark.parametrize(
        "make", [list, tuple, np.asarray, jnp.asarray, lambda y: [jnp.asarray(v) for v in y]]
    )
    def test_kinds(self, make):
        ax = jaxfd.plot(make(self.y))
        (only,) = ax.get_lines()
        np.testing.assert_array_equal(only.get_xdata(), np.arange(50))
        np.testing.assert_allclose(only.get_ydata(), self.y, rtol=1e-6)
        assert ax.get_yscale() == "log"
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("iteration", "value")
        assert ax.get_legend() is None
        inside(ax)

    def test_dict(self):
        ax = jaxfd.plot({"adam": self.y, LONG: self.y[:9] / 2, "_3": [1.0], 4: self.y})
        assert labels(ax)[0] == "adam"
        assert labels(ax)[2:] == [" _3", "4"]
        assert len({one.get_linestyle() for one in ax.get_lines()}) > 1
        inside(ax)

    def test_not_positive_is_linear(self):
        assert jaxfd.plot(self.y - 0.5).get_yscale() == "linear"
        plt.close()
        assert jaxfd.plot({"a": self.y, "b": [0.0, 1.0]}).get_yscale() == "linear"

    def test_best(self):
        ax = jaxfd.plot({"a": self.y - 3, "b": np.array([-1.0, -3.0])}, best=-3)
        assert ax.get_yscale() == "log"
        assert ax.get_ylabel() == "value - (-3)"
        np.testing.assert_allclose(line(ax, "a").get_ydata(), self.y)
        inside(ax)

    def test_best_from_the_start(self):
        ax = jaxfd.plot([1.0, 1.0], best=1)
        assert ax.get_yscale() == "linear"
        assert ax.get_ylabel() == "value - 1"

    def test_diverged(self):
        ax = jaxfd.plot({"a": [1.0, np.nan, 2.0, np.inf, 3.0], "b": [np.nan, np.nan]})
        assert labels(ax) == ["a (2 not finite)", "b (2 not finite)"]
        assert ax.get_yscale() == "log"
        # Values between gaps make no line: they need a marker.
        assert ax.get_lines()[0].get_marker() == "."
        inside(ax)

    @pytest.mark.parametrize(
        ("values", "error"),
        [
            ([], ValueError),
            ({}, ValueError),
            ({"a": []}, ValueError),
            (np.ones((2, 2)), ValueError),
            (["a", "b"], TypeError),
            ([[1.0], [1.0, 2.0]], (TypeError, ValueError)),
            ({"a": object()}, TypeError),
            ({"a": 1.0}, ValueError),
            (np.ones(2) * 1j, TypeError),
        ],
    )
    def test_refused(self, values, error):
        with pytest.raises(error, match=r"numbers in a row|nothing to draw"):
            jaxfd.plot(values)
        assert not plt.get_fignums()

    def test_best_is_not_the_best(self):
        with pytest.raises(ValueError, match=r"best is 0\.5, but a gets down to"):
            jaxfd.plot({"a": self.y}, best=0.5)


class TestTheVerb:
    def test_on_given_axes(self):
        figure, axes = plt.subplots(1, 2, layout="constrained")
        size = tuple(figure.get_size_inches())
        assert jaxfd.plot([1.0, 2.0], axes[1]) is axes[1]
        assert jaxfd.plot(jaxfd.sensitivity(box(np.exp), 1.0, method=QUICK), axes[0]) is axes[0]
        assert tuple(figure.get_size_inches()) == size
        assert plt.get_fignums() == [figure.number]

    def test_without_pyplot(self):
        """Axes of a figure that pyplot does not know serve as well, and pyplot stays out of it."""
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.add_subplot()
        jaxfd.plot(jaxfd.step_sweep(box(np.sin), 1.0, exact=np.cos(1.0)), ax)
        inside(ax)
        assert not plt.get_fignums()

    def test_heights(self):
        result = jaxfd.sensitivity(box(np.exp), 1.0, method=QUICK)
        few = jaxfd.plot(result).figure.get_figheight()
        plt.close()
        most = jaxfd.plot(jaxfd.estimate(MANY)(entries(30))).figure.get_figheight()
        assert few < 3 < 7 < most

    @pytest.mark.parametrize("thing", [None, 1.0, "abc", jnp.sin, jaxfd.Central(), object])
    def test_unknown(self, thing):
        with pytest.raises(TypeError, match=r"plot cannot draw a .*: give it what step_sweep"):
            jaxfd.plot(thing)
        assert not plt.get_fignums()

    def test_ax(self):
        figure = plt.figure()
        with pytest.raises(TypeError, match="ax must be matplotlib axes or None, got Figure"):
            jaxfd.plot([1.0], figure)

    def test_best_elsewhere(self):
        with pytest.raises(TypeError, match="best is for histories, not for a Sensitivity"):
            jaxfd.plot(jaxfd.sensitivity(box(np.exp), 1.0, method=QUICK), best=1.0)

    def test_without_matplotlib(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
        with pytest.raises(ImportError, match=r"pip install 'jaxfd\[plot\]'"):
            jaxfd.plot([1.0])


def test_rows_of_other_entries_are_not_drawn_over():
    axes = plt.subplots()[1]

    def slope_of(first, second):
        return jaxfd.estimate(lambda d: d[first] - 2 * d[second])({first: 1.0, second: 1.0})

    jaxfd.plot(slope_of("a", "b"), axes)
    jaxfd.plot(slope_of("a", "b"), axes)
    with pytest.raises(ValueError, match="these axes have rows for a, b"):
        jaxfd.plot(slope_of("b", "c"), axes)
    plt.close(axes.figure)
