"""Outputs of host functions as they come, and what a function does to its row."""

import fractions

import jax
import numpy as np
import pytest
from _tools import close

import jaxfd

NUMBER = jax.ShapeDtypeStruct((), np.float64)
X = np.array([0.5, 1.0, -2.0])


def box(fun, out=NUMBER, **options):
    return jaxfd.blackbox(fun, out, **options)


class TestWhatIsReturned:
    """One number comes in many forms."""

    @pytest.mark.parametrize(
        "form",
        [float, np.float64, np.asarray, lambda v: np.array(v)[()], np.longdouble, list],
        ids=["float", "float64", "array", "scalar", "longdouble", "list"],
    )
    def test_one_number(self, form):
        def fun(x):
            return form(np.sum(x**2)) if form is not list else float(np.sum(x**2))

        close(jaxfd.grad(box(fun))(X), 2 * X, 1e-8)

    def test_integers_for_floats(self):
        close(jaxfd.grad(box(lambda x: 3))(X), 0 * X, 0)
        close(jaxfd.jacobian(box(lambda x: (x > 0).sum() * 1.0))(X), 0 * X, 0)

    @pytest.mark.parametrize("kind", [np.float32, np.float16])
    def test_narrow_numbers_are_stepped_for(self, kind):
        function = box(lambda x: kind(np.sum(x**2)))
        found = jaxfd.estimate(function)(X)
        assert function.program.eps == np.finfo(kind).eps
        assert np.all(np.asarray(found.step) > 1e-4)
        close(found.grad, 2 * X, 0.1)

    def test_narrow_at_one_point_only(self):
        def fun(x):
            value = np.sum(x**2)
            return np.float32(value) if x[2] > -2 else value

        function = box(fun)
        jaxfd.grad(function)(X)
        assert function.program.eps == np.finfo(np.float32).eps

    def test_complex_and_arrays(self):
        out = jax.ShapeDtypeStruct((2,), np.complex128)
        found = jaxfd.jacobian(box(lambda x: np.array([x[0] * 1j, x[1] ** 2]), out))(X)
        close(found, np.array([[1j, 0, 0], [0, 2, 0]]), 1e-8)
        halves = jaxfd.jacobian(box(lambda x: (x[:2] * 1j).astype(np.complex64), out))(X)
        close(halves, np.array([[1j, 0, 0], [0, 1j, 0]]), 1e-2)

    def test_integers_beside_numbers(self):
        out = {"a": NUMBER, "n": jax.ShapeDtypeStruct((2,), np.int32)}

        def fun(x):
            return {"a": float(x @ x), "n": np.array([1, 2], np.int8 if x[0] > 0.5 else np.int64)}

        value, aux = jaxfd.grad(box(lambda x: (fun(x)["a"], fun(x)), (NUMBER, out)), has_aux=True)(
            X
        )
        close(value, 2 * X, 1e-8)
        close(aux["n"], np.array([1, 2], np.int32), 0)

    def test_subnormal_numbers(self):
        tiny = 1e-310
        found = jaxfd.derivative(box(lambda x: x * tiny), method=jaxfd.Central(step=1.0))(2.0)
        assert abs(float(found) / tiny - 1) < 1e-3

    @pytest.mark.parametrize(
        ("value", "error", "text"),
        [
            (np.zeros(2), ValueError, "returned the shape"),
            ("text", TypeError, "returned dtype"),
            (None, TypeError, "returned the structure"),
            (True, TypeError, "returned dtype bool"),
            (1j, TypeError, "returned dtype complex128"),
            (np.zeros((), np.int64), TypeError, "returned dtype int64"),
            (fractions.Fraction(1, 2), TypeError, "returned dtype object"),
        ],
    )
    def test_something_else_at_one_point(self, value, error, text):
        def fun(x):
            return value if x[1] > 1 else 1.0

        with pytest.raises(error, match=text) as caught:
            jaxfd.grad(box(fun))(X)
        assert "point 4 of 6" in caught.value.__notes__[0]


class TestRows:
    """Each point is the function's own."""

    @staticmethod
    def spoils(x):
        value = float(np.sum(x**2))
        x[:] = 7.0
        if value > 5.26:
            raise ArithmeticError("too large")
        return value

    def test_it_may_write_to_them(self):
        def fun(x):
            value = np.sum(x**2)
            x[:] = np.nan
            return value

        close(box(fun)(X), np.sum(X**2), 1e-12)
        close(jaxfd.value_and_grad(box(fun))(X), (np.sum(X**2), 2 * X), 1e-8)
        close(jax.grad(box(fun))(X), 2 * X, 1e-8)
        close(jaxfd.jvp(box(fun), (X,), (np.ones(3),))[1], np.sum(2 * X), 1e-8)
        rows = np.stack([X, 2 * X])
        close(jax.vmap(jaxfd.grad(box(fun)))(rows), 2 * rows, 1e-8)

    @pytest.mark.parametrize("step", [0.1])
    def test_an_error_says_what_they_were(self, step):
        method = jaxfd.Central(step=step)
        with pytest.raises(ArithmeticError) as caught:
            jaxfd.grad(box(self.spoils), method=method)(X)
        note = caught.value.__notes__[0]
        assert "point 2 of 6" in note or "point 5 of 6" in note
        assert "array([ 0.5,  1. , -2.1])" in note or "array([ 0.5,  1. , -1.9])" in note

    def test_of_one_value(self):
        with pytest.raises(ArithmeticError) as caught:
            box(self.spoils)(2 * X)
        assert "array([ 1.,  2., -4.])" in caught.value.__notes__[0]

    def test_vectorised(self):
        def fun(x):
            x[:] = 7.0
            raise ArithmeticError

        with pytest.raises(ArithmeticError) as caught:
            jaxfd.grad(box(fun, vectorized=True), method=jaxfd.Central(step=0.25))(X)
        assert "points 0 to 5 of 6" in caught.value.__notes__[0]
        assert "7." not in caught.value.__notes__[0].split("x = ")[1]


class TestArguments:
    """What does not move comes along, whatever the tree."""

    @pytest.mark.parametrize("vectorized", [False, True])
    def test_fixed_arguments_under_vmap(self, vectorized):
        def fun(x, scale, *, power):
            return np.sum(x**2, axis=-1) * scale**power

        function = box(fun, vectorized=vectorized)
        rows, scales = np.stack([X, 2 * X]), np.array([2.0, 3.0])

        def call(x, scale):
            return function(x, scale, power=2.0)

        found = jax.vmap(jaxfd.grad(call))(rows, scales)
        close(found, 2 * rows * scales[:, None] ** 2, 1e-8)

    def test_trees_and_static_ones(self):
        def fun(tree, name, count):
            assert (name, type(count)) == ("linear", int)
            return tree["a"] * count + np.sum(tree["b"])

        tree = {"a": np.float64(2.0), "b": X}
        found = jaxfd.grad(box(fun))(tree, "linear", 3)
        close(found, {"a": np.float64(3.0), "b": np.ones(3)}, 1e-8)

    def test_complex_arguments(self):
        z = np.array([1.0 + 2.0j, 0.5 - 1.0j])
        found = jaxfd.grad(box(lambda z: np.sum(np.abs(z) ** 2)))(z)
        close(found, 2 * np.conj(z), 1e-7)

    def test_nothing_moves(self):
        empty = np.zeros((0,))
        assert jaxfd.grad(box(lambda x: 1.0))(empty).shape == (0,)
