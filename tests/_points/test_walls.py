"""Walls near ``x``: functions of any scale beside them, hooks with bounds, infinite values."""

import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import Chosen, name as name_of

import jaxfd

# Functions on (0, inf), their derivatives, and where to look.
SMALL = {
    "inverse": (lambda x: 2.37e-8 / x, lambda x: -2.37e-8 / x**2, (1.45e-7, 1e-9)),
    "decay": (lambda x: jnp.exp(-x / 1e-4), lambda x: -np.exp(-x / 1e-4) / 1e-4, (1e-5, 2e-6)),
    "saturation": (lambda x: x / (x + 1e-6), lambda x: 1e-6 / (x + 1e-6) ** 2, (1e-6, 1e-8)),
    "logarithm": (jnp.log, lambda x: 1 / x, (1e-7, 1e-12)),
    "diffusion": (
        lambda x: jnp.exp(-4e-14 / x),
        lambda x: np.exp(-4e-14 / x) * 4e-14 / x**2,
        (3e-14, 1e-13),
    ),
}
# Functions of scale 1, to which the wall means nothing.
WIDE = {"cosine": (jnp.cos, lambda x: -np.sin(x)), "exponential": (jnp.exp, np.exp)}


boxed = Chosen(lambda fun: jaxfd.blackbox(fun, jax.ShapeDtypeStruct((), jnp.float64)))


def scalar_box(fun):
    """The function behind a callback, in NumPy float64; good until the next one."""
    return boxed(_numpy(fun))


def _numpy(fun):
    """The same function with NumPy in place of jax.numpy."""
    names = {jnp.exp: np.exp, jnp.log: np.log, jnp.cos: np.cos}
    if fun in names:
        return names[fun]
    return types.FunctionType(fun.__code__, {"jnp": np, "np": np})


@pytest.mark.parametrize("name", SMALL)
class TestSmallScales:
    @pytest.mark.parametrize("method", [jaxfd.Adaptive(), jaxfd.Central(), jaxfd.Central(4)])
    def test_box(self, name, method):
        fun, slope, places = SMALL[name]
        estimate = jaxfd.estimate(scalar_box(fun), method=method, bounds=(0.0, jnp.inf))
        for x in places:
            found = estimate(x)
            error = abs(float(found.grad) - slope(x))
            assert error <= max(float(found.error), 1e-9 * abs(slope(x)))
            tolerance = 1e-7 if isinstance(method, jaxfd.Adaptive) else 0.1
            assert error <= tolerance * abs(slope(x))

    def test_traced(self, name, dtype):
        fun, slope, places = SMALL[name]
        x = places[0]
        g = jax.jit(jaxfd.grad(fun, bounds=(0.0, jnp.inf)))
        tolerance = 0.1 if dtype == np.float64 else 0.3
        np.testing.assert_allclose(g(jnp.asarray(x, dtype)), slope(x), rtol=tolerance)
        np.testing.assert_allclose(
            jax.vmap(g)(jnp.full(2, x, dtype)), [slope(x)] * 2, rtol=tolerance
        )

    def test_check_agrees(self, name):
        fun, slope, places = SMALL[name]
        x = jnp.asarray(places[0])
        box = scalar_box(fun)
        report = jaxfd.check_grads(box, x, grad=jnp.asarray(slope(places[0])), bounds=(0, jnp.inf))
        assert report.verdict != "differs"


class TestWideScales:
    @pytest.mark.parametrize("name", WIDE)
    @pytest.mark.parametrize("x", [0.0, 1e-7, 1e-4, 1e-3])
    def test_hardly_worse(self, name, x):
        """A function that the wall means nothing to loses digits beside it, and knows it."""
        fun, slope = WIDE[name]
        found = jaxfd.estimate(scalar_box(fun), bounds=(0.0, jnp.inf))(x)
        assert abs(float(found.grad) - slope(x)) <= min(1e-6, float(found.error))

    def test_a_given_step_is_kept(self):
        steps = []
        box = jaxfd.blackbox(
            lambda x: steps.append(float(x)) or float(x), jax.ShapeDtypeStruct((), jnp.float64)
        )
        jaxfd.grad(box, method=jaxfd.Central(step=1e-3), bounds=(0.0, 1.0))(1e-7)
        assert max(steps) > 1e-3

    def test_negative_entries_alike(self):
        found = jaxfd.grad(lambda x: jnp.log(-x), bounds=(-jnp.inf, 0.0))(-1e-7)
        np.testing.assert_allclose(found, -1e7, rtol=1e-3)

    def test_a_wall_elsewhere_says_nothing_of_scales(self):
        """Beside a wall that is not at 0 a function of scale 1 loses no digits."""
        found = jaxfd.grad(jnp.sin, bounds=(0.5, 1.0))(0.5 + 1e-9)
        np.testing.assert_allclose(found, np.cos(0.5), rtol=1e-9)


MODES = ["reverse", "forward", "recompute"]


class TestHooks:
    """Differences of hooks stay inside their box; values are asked for anywhere."""

    @staticmethod
    def density(x):
        if x <= 0:
            return -np.inf
        return np.log(x) - x

    @pytest.mark.parametrize("mode", ["reverse", "recompute"])
    def test_black_box(self, mode):
        seen = []

        def density(x):
            seen.append(float(x))
            return self.density(x)

        out = jax.ShapeDtypeStruct((), jnp.float64)
        box = jaxfd.blackbox(density, out, bounds=(0.0, jnp.inf), mode=mode)
        for x in (1e-7, 0.5):
            value, slope = jax.jit(jax.value_and_grad(box))(x)
            np.testing.assert_allclose(value, np.log(x) - x)
            np.testing.assert_allclose(slope, 1 / x - 1, rtol=1e-3)
        assert min(seen) > 0
        value, slope = jax.value_and_grad(box)(-1.0)
        assert value == -np.inf
        assert np.isnan(slope)

    @pytest.mark.parametrize("mode", ["reverse", "recompute"])
    def test_traced(self, mode, dtype):
        hooked = jaxfd.differentiable(
            lambda p: jnp.sum(jnp.sqrt(p["a"])) + p["b"],
            bounds=(0.0, 9.0),
            mode=mode,
        )
        p = {"a": jnp.asarray([1e-4, 4.0], dtype), "b": jnp.asarray(1.0, dtype)}
        slope = jax.grad(hooked)(p)
        np.testing.assert_allclose(slope["a"], [50.0, 0.25], rtol=0.02)
        np.testing.assert_allclose(slope["b"], 1.0, rtol=1e-3)
        batch = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), p)
        both = jax.vmap(jax.grad(hooked))(batch)
        np.testing.assert_allclose(both["a"][1], slope["a"], rtol=1e-3)

    def test_trees_of_bounds(self):
        hooked = jaxfd.differentiable(
            lambda p, y: p["a"] * y + jnp.log(p["b"]),
            bounds=(({"a": -1.0, "b": 0.0}, -jnp.inf), ({"a": 1.0, "b": jnp.inf}, jnp.inf)),
        )
        slopes = jax.grad(hooked, argnums=(0, 1))({"a": 1.0, "b": 1e-5}, 3.0)
        np.testing.assert_allclose(slopes[0]["a"], 3.0, rtol=1e-6)
        np.testing.assert_allclose(slopes[0]["b"], 1e5, rtol=1e-3)
        np.testing.assert_allclose(slopes[1], 1.0, rtol=1e-6)

    def test_bad(self):
        fun = jnp.sin
        with pytest.raises(TypeError, match="bounds must be a pair"):
            jaxfd.differentiable(fun, bounds=3.0)
        with pytest.raises(ValueError, match="crossed"):
            jaxfd.differentiable(fun, bounds=(1.0, 0.0))(0.5)


# Functions of two numbers, beside a wall of the first.
TANGENT = {
    "logarithms": lambda x: jnp.log(x[0]) + jnp.log(x[1]),
    "decay": lambda x: jnp.exp(-x[0] / 1e-6) + x[1] ** 2,
    "wide": lambda x: jnp.cos(x[0]) + x[0] * x[1] + x[1] ** 2,
}
SLOPES = {name: jax.jit(jax.grad(fun)) for name, fun in TANGENT.items()}
TANGENT_METHODS = [jaxfd.Central(), jaxfd.Central(4), jaxfd.Forward()]
CASES = [
    pytest.param(
        name,
        method,
        np.dtype(dtype),
        # Kernels take long to compile: each function and method in one dtype, the others are heavy.
        marks=[pytest.mark.heavy] if (i + j + k) % 2 else [],
        id=f"{np.dtype(dtype)}-{name}-{name_of(method)}",
    )
    for i, name in enumerate(TANGENT)
    for j, method in enumerate(TANGENT_METHODS)
    for k, dtype in enumerate((np.float32, np.float64))
]


class TestTangents:
    """Along a tangent steps shrink beside a wall as they do along each entry."""

    @staticmethod
    def both(name, method):
        """The slope along a tangent, and the gradient."""
        fun, bounds = TANGENT[name], (0.0, jnp.inf)

        def run(x, t):
            gradient = jaxfd.grad(fun, method=method, bounds=bounds)(x)
            return jaxfd.jvp(fun, (x,), (t,), method=method, bounds=bounds)[1], gradient

        return run

    def check(self, run, name, method, dtype):
        eps = float(jnp.finfo(dtype).eps)
        low = 1e-9 if dtype == np.float64 else 1e-6
        for small in (low, 1e-4, 0.01):
            x = np.asarray([small, 1.0], dtype)
            slopes = np.asarray(SLOPES[name](x), np.float64)
            for direction in ((1.0, 1.0), (1.0, -1.0), (0.0, 1.0)):
                t = np.asarray(direction, dtype)
                along, gradient = run(x, t)
                off = np.abs(np.asarray(gradient, np.float64) - slopes) @ np.abs(t)
                size = 1 + np.abs(slopes) @ np.abs(t)
                usual = eps ** (0.5 if method.order == 1 else 0.6) * size
                assert abs(float(along) - slopes @ t) <= 10 * off + 10 * usual

    @pytest.mark.parametrize("method", TANGENT_METHODS, ids=name_of)
    @pytest.mark.parametrize("name", TANGENT)
    def test_as_a_gradient(self, name, method, dtype):
        self.check(self.both(name, method), name, method, dtype)

    @pytest.mark.parametrize(("name", "method", "dtype"), CASES)
    def test_as_a_gradient_compiled(self, name, method, dtype):
        self.check(jax.jit(self.both(name, method)), name, method, dtype)

    @pytest.mark.parametrize("x", [1e-5, 1e-9])
    def test_forward_hooks(self, x):
        out = jax.ShapeDtypeStruct((), jnp.float64)
        box = jaxfd.blackbox(np.log, out, bounds=(0.0, jnp.inf), mode="forward")
        for run in (jax.jvp, jax.jit(jax.jvp, static_argnums=0)):
            np.testing.assert_allclose(run(box, (x,), (1.0,))[1], 1 / x, rtol=1e-4)

    def test_evaluations(self):
        """An entry alone beside its wall takes no more points than one far away."""
        seen = []

        def density(x):
            seen.append(x)
            return np.log(x[0]) + x[1]

        box = jaxfd.blackbox(density, jax.ShapeDtypeStruct((), jnp.float64))
        for x, t, count in (((1e-9, 1.0), (1.0, 0.0), 3), ((0.5, 1.0), (1.0, 1.0), 3)):
            seen.clear()
            jaxfd.jvp(box, (jnp.asarray(x),), (jnp.asarray(t),), bounds=(0.0, jnp.inf))
            assert len(seen) == count

    def test_a_tiny_entry_hides_no_other(self):
        """A step that suits the smallest entry is lost in the rounding of the others."""
        x, t = jnp.asarray([1e-300, 1e-5, 1.0]), jnp.ones(3)

        def fun(x):
            return jnp.cos(x[0]) + x[1] + x[2] ** 2

        run = jax.jit(lambda x, t: jaxfd.jvp(fun, (x,), (t,), bounds=(0.0, jnp.inf))[1])
        np.testing.assert_allclose(run(x, t), 3.0, rtol=1e-5)

    def test_a_given_step_is_kept(self):
        seen = []
        box = jaxfd.blackbox(
            lambda x: seen.append(float(x)) or float(x), jax.ShapeDtypeStruct((), jnp.float64)
        )
        jaxfd.jvp(box, (1e-7,), (1.0,), method=jaxfd.Central(step=1e-3), bounds=(0.0, 1.0))
        assert max(seen) > 1e-3


class TestInfiniteValues:
    """Beside a value that is not finite the other side serves, where points may be lost."""

    def test_one_side(self):
        out = jax.ShapeDtypeStruct((), jnp.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            box = jaxfd.blackbox(lambda x: float(x**2) if x >= 1 else -np.inf, out, on_error="nan")
            found = jaxfd.estimate(box)(1.0)
        assert float(found.value) == 1.0
        np.testing.assert_allclose(found.grad, 2.0, rtol=1e-4)
        assert bool(found.one_sided)

    def test_the_value_itself(self):
        out = jax.ShapeDtypeStruct((), jnp.float64)
        box = jaxfd.blackbox(lambda x: -np.inf, out, on_error="nan")
        value, slope = jax.value_and_grad(box)(1.0)
        assert value == -np.inf
        assert np.isnan(slope)
