"""Bounds: no point outside the box, and the same order of accuracy beside its walls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import REAL_METHODS, Host, Points, close, name, rate, tolerance
from hypothesis import example, given, settings, strategies as st

import jaxfd
from jaxfd import Backward, Central, ComplexStep, Forward

SCALAR = jax.ShapeDtypeStruct((), np.float64)
FEW = [Forward(), Forward(3), Backward(), Backward(2), Central(), Central(4), Central(6)]


def alternate(methods):
    """Pairs of method and dtype: the default in both, the others in one by turns."""
    pairs = []
    for i, method in enumerate(methods):
        dtypes = [np.float32, np.float64]
        pairs += [
            (method, np.dtype(d)) for d in (dtypes if method == Central() else [dtypes[i % 2]])
        ]
    return pairs


def compiled(methods):
    """Every method in both dtypes; only the pairs that alternate are quick.

    Kernels take long to compile, and what the box does in a dtype is the same for all stencils.
    """
    quick, cases = alternate(methods), []
    for method in methods:
        for dtype in map(np.dtype, (np.float32, np.float64)):
            marks = [] if (method, dtype) in quick else [pytest.mark.heavy]
            cases.append(pytest.param(method, dtype, marks=marks, id=f"{dtype}-{name(method)}"))
    return pytest.mark.parametrize(("method", "dtype"), cases)


# Made once, as each takes time to trace.
HOST_SUM = Host(lambda x: np.sum(x, axis=-1))
SUM = jaxfd.blackbox(HOST_SUM, SCALAR, vectorized=True)
SLOPES = np.array([2.0, -3.0, 0.5])
LINEAR = jaxfd.blackbox(lambda x: x @ SLOPES, SCALAR, vectorized=True)


def nudge(x, ulps):
    """The number so many floating-point numbers above or below another."""
    for _ in range(abs(ulps)):
        x = np.nextafter(x, np.sign(ulps) * np.inf, dtype=x.dtype)
    return x


@st.composite
def boxes(draw, dtype):
    """Three coordinates in boxes of any width, down to a few ulps and to none."""
    magnitudes = st.sampled_from([0.0, 1e-12, 1e-3, 1.0, 30.0, 1e6])
    triples = []
    for _ in range(3):
        x = dtype.type(draw(magnitudes) * draw(st.floats(-1, 1)))
        sides = []
        for sign in (-1, 1):
            kind = draw(st.sampled_from(["wall", "ulps", "near", "far", "infinite"]))
            if kind == "wall":
                side = x
            elif kind == "ulps":
                side = nudge(x, sign * draw(st.integers(1, 40)))
            elif kind == "near":
                side = x + dtype.type(sign * 10.0 ** draw(st.floats(-9, -1))) * max(1, abs(x))
            elif kind == "far":
                side = x + dtype.type(sign * draw(st.floats(0.1, 10.0))) * max(1, abs(x))
            else:
                side = dtype.type(sign * np.inf)
            sides.append(dtype.type(side))
        triples.append((sides[0], x, sides[1]))
    lower, x, upper = np.asarray(triples, dtype).T
    return lower, np.clip(x, lower, upper), upper


STUCK = (np.array([0.1, 0.2, 0.3]),) * 3
CORNER = (np.zeros(3), np.array([0.0, 1e-300, 5e-324]), np.array([1.0, 1e-300, 1.0]))


class TestNoPointOutside:
    @settings(max_examples=80)
    @given(boxes(np.dtype(np.float64)), st.sampled_from(REAL_METHODS))
    @example(STUCK, Central())
    @example(CORNER, Central(6))
    def test_on_the_host(self, box, method):
        lower, x, upper = box
        HOST_SUM.taken()
        gradient = jaxfd.grad(SUM, method=method, bounds=(lower, upper))(x)
        points = np.concatenate(HOST_SUM.taken())
        assert np.all(points >= lower)
        assert np.all(points <= upper)
        assert np.all(np.asarray(gradient)[lower == upper] == 0)

    @compiled(FEW)
    def test_in_a_kernel(self, method, dtype):
        points = Points()

        def fun(x):
            points(x)
            return jnp.sum(x)

        @jax.jit
        def gradient(x, lower, upper):
            return jaxfd.grad(fun, method=method, bounds=(lower, upper))(x)

        @settings(max_examples=40)
        @given(boxes(dtype))
        @example(tuple(a.astype(dtype) for a in STUCK))
        def check(box):
            lower, x, upper = box
            found = np.asarray(gradient(x, lower, upper))
            taken = points.taken()
            assert len(taken) == 3 * method.order + 1
            assert np.all(taken >= lower)
            assert np.all(taken <= upper)
            assert np.all(found[lower == upper] == 0)

        check()

    @settings(max_examples=40)
    @given(boxes(np.dtype(np.float64)), st.sampled_from(FEW))
    def test_a_linear_function_is_still_differentiated(self, box, method):
        """Wherever the box has room for the points, what comes out is the slope."""
        lower, x, upper = box
        found = np.asarray(jaxfd.grad(LINEAR, method=method, bounds=(lower, upper))(x))
        width = upper - lower
        room = width > 1e-4 * np.maximum(1.0, np.abs(x))
        size = np.sum(np.abs(SLOPES * x)) + 1.0
        error = 1e-9 * size / np.minimum(np.where(room, width, 1.0), 1.0)
        assert np.all((np.abs(found - SLOPES) <= error)[room])

    def test_without_bounds_there_are_points_outside(self):
        """The recorders above would see one."""
        HOST_SUM.taken()
        jaxfd.grad(SUM)(np.zeros(3))
        assert np.any(np.concatenate(HOST_SUM.taken()) < 0)

    @pytest.mark.parametrize("transform", ["value_and_grad", "jacobian", "estimate"])
    def test_other_transforms(self, transform):
        points = Points()

        def fun(x):
            points(x)
            return jnp.sum(jnp.log(x))

        x = jnp.asarray([1e-3, 0.5, 1.0])
        getattr(jaxfd, transform)(fun, bounds=(1e-3, 1.0))(x)
        taken = points.taken()
        assert len(taken) == (13 if transform == "estimate" else 7)
        assert taken.min() >= 1e-3
        assert taken.max() <= 1.0


class TestOrderBesideAWall:
    @pytest.mark.parametrize("method", REAL_METHODS, ids=name)
    def test_same_order(self, method):
        """On a wall, near one that comes closer as the step does, in a corner, and in the open."""
        steps = np.array([1.0, 0.8, 0.64, 0.5]) * 0.05

        def error(h, below, above):
            bounds = (0.4 - below * h, 0.4 + above * h)
            step = type(method)(order=method.order, step=h)
            return jnp.abs(jaxfd.grad(jnp.exp, method=step, bounds=bounds)(0.4) - np.exp(0.4))

        errors = jax.jit(jax.vmap(jax.vmap(error, (0, None, None)), (None, 0, 0)))
        # Closed boxes grow with the number of points, which must fit into them. None ends where a
        # point does: whether that lies inside is a matter of rounding.
        p = method.order
        below = np.array([0.0, 1.5, np.inf, np.inf, 0.55 * p, 2.0 * p])
        above = np.array([np.inf, np.inf, 0.0, 1.5, 1.0 * p, 0.0])
        rows = np.asarray(errors(steps, below, above))
        for row, place in zip(rows, zip(below, above, strict=True), strict=True):
            assert rate(steps, row) == pytest.approx(method.order, abs=0.35), place
        if isinstance(method, Central):
            nowhere = np.full(6, np.inf)
            open_field = errors(4 * steps, nowhere, nowhere)[0]
            assert rate(4 * steps, open_field) == pytest.approx(method.order, abs=0.35)

    @compiled(FEW)
    def test_values(self, method, dtype):
        """At each wall, at a corner, in a box narrower than the step, and far from any wall."""
        x = jnp.asarray([0.5, 0.5, 0.5, 0.5], dtype)
        lower = jnp.asarray([0.5, -np.inf, 0.5 - 2.0**-6, -9.0], dtype)
        upper = jnp.asarray([9.0, 0.5, 0.5 + 2.0**-7, np.inf], dtype)

        def fun(x):
            return jnp.sum(jnp.exp(x)) + x[0] * x[1] * x[2] * x[3]

        found = jaxfd.grad(fun, method=method, bounds=(lower, upper))(x)
        # The narrow box allows a step of 2^-6 / 8 or so, whatever the method wants.
        eps = float(jnp.finfo(dtype).eps)
        close(found, jax.grad(fun)(x), 12 * tolerance(method, dtype) + 2e4 * eps)

    def test_where_there_is_room_the_stencil_stays_as_it_is(self):
        x = jnp.asarray([0.5, 2.0])
        free = jaxfd.grad(lambda x: jnp.sum(jnp.sin(x)))(x)
        boxed = jaxfd.grad(lambda x: jnp.sum(jnp.sin(x)), bounds=(-9.0, 9.0))(x)
        close(boxed, free, 1e-10)

    def test_logarithm_close_to_its_wall(self):
        host = Host(lambda x: np.log(x[:, 0]))
        box = jaxfd.blackbox(host, SCALAR, vectorized=True)
        found = jaxfd.grad(box, bounds=(0.0, np.inf))(np.array([0.01]))
        np.testing.assert_allclose(found, [100.0], rtol=1e-6)
        assert np.concatenate(host.calls).min() > 0

    @pytest.mark.parametrize("x", [1e-2, 1e-4, 1e-6, 1e-9])
    def test_logarithm_in_a_kernel(self, x):
        points = Points()

        def fun(x):
            points(x)
            return jnp.log(x)

        found = jaxfd.grad(fun, bounds=(0.0, jnp.inf))(x)
        assert points.taken().min() > 0
        assert np.isfinite(found)
        if x == 1e-2:
            np.testing.assert_allclose(found, 1 / x, rtol=1e-6)


class TestNoWidth:
    def test_gradient_is_zero(self, dtype):
        x = jnp.asarray([1.0, 2.0, 3.0], dtype)
        bounds = (jnp.asarray([0.0, 2.0, 0.0], dtype), jnp.asarray([9.0, 2.0, 9.0], dtype))
        for method in (Forward(3), Central()):
            found = jax.jit(jaxfd.grad(lambda x: jnp.sum(x**2), method=method, bounds=bounds))(x)
            close(found, 2 * x * np.array([1, 0, 1], dtype), 4 * tolerance(method, dtype))
            assert found[1] == 0

    def test_even_if_the_function_fails_there(self):
        def fun(x):
            return jnp.where(x[0] == 1.0, 0.0, jnp.nan) + x[1] ** 2

        found = jaxfd.grad(fun, bounds=(np.array([1.0, 0.0]), np.array([1.0, 9.0])))(
            jnp.asarray([1.0, 2.0])
        )
        np.testing.assert_allclose(found, [0.0, 4.0], rtol=1e-9)

    def test_error_is_unknown_there(self):
        result = jaxfd.estimate(lambda x: jnp.sum(x**2), bounds=(1.0, 1.0))(jnp.ones(2))
        np.testing.assert_array_equal(result.grad, [0.0, 0.0])
        np.testing.assert_array_equal(result.error, [np.inf, np.inf])

    def test_on_the_host(self):
        box = jaxfd.blackbox(lambda x: np.sum(x**2), SCALAR)
        found = jaxfd.grad(box, bounds=(np.array([1.0, 0.0]), np.array([1.0, 9.0])))(
            np.array([1.0, 2.0])
        )
        np.testing.assert_allclose(found, [0.0, 4.0], rtol=1e-8)


class TestFewSpacings:
    """A box in which a row of points cannot be told apart is one without width, and no NaN."""

    METHODS = (*FEW, jaxfd.Adaptive())

    @staticmethod
    def estimate(method):
        def run(x, lower, upper):
            return jaxfd.estimate(jnp.sin, method=method, bounds=(lower, upper))(x)

        return run

    @staticmethod
    def check(estimate, dtype):
        """Tries boxes of up to 16 spacings, with ``x`` anywhere in them."""
        for start in (1.0, -1.0, 1.5):
            x = dtype.type(start)
            for ulps in range(1, 9):
                boxes = [(0, ulps), (-ulps, 0), (-ulps, ulps), (-1, ulps)]
                for below, above in boxes:
                    found = estimate(x, nudge(x, below), nudge(x, above))
                    assert np.isfinite(found.grad)
                    assert not abs(found.grad - np.cos(x)) > found.error

    @compiled(METHODS)
    def test_gradient_is_finite(self, method, dtype):
        self.check(jax.jit(self.estimate(method)), dtype)

    @pytest.mark.parametrize("method", METHODS, ids=name)
    def test_gradient_is_finite_eagerly(self, method, dtype):
        if (method, dtype) not in alternate(self.METHODS):
            self.check(self.estimate(method), dtype)
        found = self.estimate(method)(dtype.type(1), dtype.type(1), nudge(dtype.type(1), 1))
        assert found.grad == 0
        assert found.error == np.inf

    def test_along_a_tangent(self, dtype):
        x = np.asarray([1.0, 2.0], dtype)
        upper = np.asarray([nudge(x[0], 1), 9.0], dtype)
        run = jax.jit(lambda t: jaxfd.jvp(lambda x: jnp.sum(x**2), (x,), (t,), bounds=(x, upper)))
        close(run(jnp.ones(2, dtype))[1], np.asarray(4.0, dtype), 4 * tolerance(Central(), dtype))


class TestForms:
    """Bounds may be numbers, arrays, trees, infinite, missing, traced."""

    x = np.array([0.0, 1.0])

    @staticmethod
    def fun(x):
        """NaN outside of [0, 1], so that the bounds show."""
        return jnp.sum(jnp.where((x >= 0) & (x <= 1), jnp.exp(x), jnp.nan))

    @pytest.mark.parametrize(
        "bounds",
        [
            (0.0, 1.0),
            [0, 1],
            (np.zeros(2), np.ones(2)),
            (0.0, np.ones(2)),
            (np.array([0.0, -np.inf]), np.array([np.inf, 1.0])),
        ],
        ids=["numbers", "list", "arrays", "mixed", "infinite"],
    )
    def test_array_argument(self, bounds):
        gradient = jaxfd.grad(self.fun, bounds=bounds)
        np.testing.assert_allclose(gradient(self.x), np.exp(self.x), rtol=1e-8)
        np.testing.assert_allclose(jax.jit(gradient)(self.x), np.exp(self.x), rtol=1e-8)

    def test_one_side_missing(self):
        for x, bounds in [([0.0, 0.5], (0.0, None)), ([0.5, 1.0], (None, 1.0))]:
            found = jaxfd.grad(self.fun, bounds=bounds)(jnp.asarray(x))
            np.testing.assert_allclose(found, np.exp(x), rtol=1e-8)

    def test_no_side_at_all(self):
        found = jaxfd.grad(self.fun, bounds=(None, None))(jnp.asarray([0.25, 0.5]))
        np.testing.assert_allclose(found, np.exp([0.25, 0.5]), rtol=1e-8)

    def test_trees(self):
        tree = {"a": jnp.asarray([0.0, 1.0]), "b": (jnp.asarray(1.0, np.float32), None)}
        lower = {"a": np.zeros(2), "b": (0.0, None)}
        upper = {"a": 1.0, "b": (np.float32(1.0), None)}

        def fun(tree):
            return self.fun(tree["a"]) + self.fun(tree["b"][0]).astype(np.float64)

        found = jaxfd.grad(fun, bounds=(lower, upper))(tree)
        np.testing.assert_allclose(found["a"], np.exp([0.0, 1.0]), rtol=1e-3)
        np.testing.assert_allclose(found["b"][0], np.exp(1.0), rtol=1e-3)

    def test_several_arguments(self):
        def fun(x, y):
            return self.fun(x) * self.fun(y)

        bounds = ((0.0, np.zeros(2)), (1.0, 1.0))
        found = jaxfd.grad(fun, (0, 1), bounds=bounds)(jnp.asarray(1.0), jnp.asarray([0.0, 1.0]))
        np.testing.assert_allclose(found[0], np.e * (1 + np.e), rtol=1e-8)
        np.testing.assert_allclose(found[1], np.e * np.exp([0.0, 1.0]), rtol=1e-8)

    def test_under_vmap_and_traced(self):
        def gradient(x, lower):
            return jaxfd.grad(self.fun, bounds=(lower, 1.0))(x)

        x = jnp.asarray([[0.0, 1.0], [0.5, 1.0]])
        found = jax.jit(jax.vmap(gradient))(x, jnp.asarray([0.0, 0.5]))
        np.testing.assert_allclose(found, np.exp(x), rtol=1e-8)

    def test_black_box_under_vmap(self):
        host = Host(lambda x: np.sum(np.log(x), axis=-1))
        box = jaxfd.blackbox(host, SCALAR, vectorized=True)
        x = jnp.asarray([[0.25, 1.0], [2.0, 1.5], [0.5, 2.0]])
        found = jax.jit(jax.vmap(jaxfd.grad(box, bounds=(0.25, 2.0))))(x)
        np.testing.assert_allclose(found, 1 / x, rtol=1e-7)
        assert len(host.calls) == 1
        assert host.calls[0].min() >= 0.25
        assert host.calls[0].max() <= 2.0

    def test_low_precision(self):
        x = jnp.asarray([0.0, 1.0], jnp.bfloat16)

        def fun(x):
            return self.fun(x.astype(np.float32))

        found = jaxfd.grad(fun, bounds=(0.0, 1.0))(x)
        np.testing.assert_allclose(found.astype(np.float32), np.exp([0.0, 1.0]), rtol=0.1)

    def test_size_zero_and_empty(self):
        found = jaxfd.grad(lambda x: jnp.sum(x), bounds=(0.0, 1.0))(jnp.zeros((0, 2)))
        assert found.shape == (0, 2)
        assert jaxfd.grad(lambda x: jnp.sum(jnp.ones(2)), bounds=(0.0, 1.0))({}) == {}


class TestOutside:
    """An x outside the box is an error, and NaN where it is not known before it is run."""

    def test_traced_x_gives_nan(self):
        gradient = jax.jit(jaxfd.grad(lambda x: jnp.sum(x**2), bounds=(0.0, 1.0)))
        found = gradient(jnp.asarray([0.5, 1.5, -0.5]))
        np.testing.assert_allclose(found, [1.0, np.nan, np.nan], rtol=1e-9)

    def test_and_no_point_is_outside_even_so(self):
        points = Points()

        def fun(x):
            points(x[:1])
            return jnp.sum(x**2)

        jax.block_until_ready(jax.jit(jaxfd.grad(fun, bounds=(0.0, 1.0)))(jnp.asarray([0.5, 1.5])))
        taken = points.taken()
        assert taken.min() >= 0.0
        assert taken.max() <= 1.0

    def test_black_box_raises(self):
        box = jaxfd.blackbox(lambda x: np.sum(x**2), SCALAR)
        with pytest.raises(ValueError, match="x lies outside bounds"):
            jaxfd.grad(box, bounds=(0.0, 1.0))(jnp.asarray([0.5, 1.5]))


def test_complex_step_needs_no_room():
    """Points leave the axis, not the box: the real part is where it was."""
    points = Points()

    def fun(x):
        points(x.real)
        return jnp.sum(x**3)

    x = jnp.asarray([0.0, 1.0])
    found = jaxfd.grad(fun, method=ComplexStep(), bounds=(0.0, 1.0))(x)
    np.testing.assert_allclose(found, 3 * x**2, rtol=1e-14, atol=1e-30)
    np.testing.assert_array_equal(points.taken(), np.tile(x, (len(points.taken()) or 2, 1)))
