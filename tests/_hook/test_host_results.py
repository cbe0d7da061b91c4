"""What host functions return and are given: masks, ranges, keys, and arrays they write to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd

X = np.array([1.0, 2.0])
ONE = jax.ShapeDtypeStruct((), np.float32)


def two(dtype):
    return jax.ShapeDtypeStruct((2,), dtype)


def box_of(fun, out=ONE, **options):
    return jaxfd.blackbox(fun, out, **options)


WAYS = [{}, {"retries": 1}, {"vectorized": True}]


class TestMasks:
    @pytest.mark.parametrize("options", WAYS)
    def test_what_is_masked_is_not_known(self, options):
        box = box_of(lambda x: np.ma.masked_less(x, 1.5), two(np.float64), **options)
        np.testing.assert_array_equal(box(X), [np.nan, 2.0])
        slopes = jaxfd.jacobian(box)(X)
        np.testing.assert_allclose(slopes, [[np.nan, np.nan], [0, 1]], atol=1e-9)

    def test_a_sum_of_nothing(self):
        value, slope = jax.value_and_grad(box_of(lambda x: np.ma.masked_less(x, 9.0).sum()))(X)
        assert np.isnan(value)
        assert np.isnan(slope).all()

    def test_a_mask_of_nothing(self):
        box = box_of(lambda x: np.ma.masked_less(x, -1.0), two(np.float64))
        np.testing.assert_array_equal(jax.jit(box)(X), X)

    def test_integers_have_no_nan(self):
        box = box_of(lambda x: np.ma.masked_less(x, 1.5).astype(int), two(np.int32))
        with pytest.raises(TypeError, match="returned a masked array of int64"):
            box(X)


class TestRanges:
    def test_beyond_float32_is_infinite(self):
        box = box_of(lambda x: 1e39 * x)
        x = np.float32(2)
        assert np.isposinf([box(x), jax.jit(box)(x), jax.grad(box)(x)]).all()

    @pytest.mark.parametrize(
        ("value", "dtype"),
        [(3_000_000_000, np.int32), (-3_000_000_000, np.int32), (-1, np.uint8), (256, np.uint8)],
    )
    def test_integers_do_not_wrap(self, value, dtype):
        for returned in (value, np.array(value)):
            box = box_of(lambda x, v=returned: v, jax.ShapeDtypeStruct((), dtype))
            with pytest.raises(ValueError, match=rf"returned {value} .* does not hold"):
                box(1.0)

    def test_integers_that_fit(self):
        box = box_of(lambda x: np.array([255, 0]), two(np.uint8))
        found = box(1.0)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, [255, 0])


class TestArguments:
    @pytest.mark.parametrize("options", WAYS)
    def test_it_may_write_to_them(self, options):
        def fun(x, y):
            x *= 2
            y += 1
            return np.sum(x**2, axis=-1)

        box = box_of(fun, jax.ShapeDtypeStruct((), np.float64), **options)
        x = jnp.asarray(X)
        alone = {"vectorized": False} | options
        for value in (box(x, x), jax.jit(box)(x, x), jax.vmap(box)(x[None], x[None])[0]):
            np.testing.assert_allclose(value, 20.0)
        if not alone["vectorized"]:
            np.testing.assert_allclose(jax.grad(box)(x, x), 8 * X, rtol=1e-8)
        np.testing.assert_array_equal(x, X)

    @pytest.mark.parametrize("options", WAYS[:2])
    def test_errors_show_the_point_as_it_was(self, options):
        def fun(x):
            x[:] = -7.0
            raise ArithmeticError("no such point")

        box = box_of(fun, **options)
        for call in (box, jaxfd.value_and_grad(box, method=jaxfd.Forward())):
            with pytest.raises(ArithmeticError) as raised:
                call(jnp.asarray(X))
            assert "-7" not in "".join(raised.value.__notes__)
            assert "2." in "".join(raised.value.__notes__)


class TestKeys:
    def test_the_same_bits_under_jit_and_outside(self):
        def draw(x, key):
            assert key.dtype == np.uint32
            return x**2 + np.sum(key % 7)

        box = box_of(draw, jax.ShapeDtypeStruct((), np.float64))
        key = jax.random.key(3)
        assert box(2.0, key) == jax.jit(box)(2.0, key)
        np.testing.assert_allclose(jax.grad(box)(2.0, key), 4.0, rtol=1e-6)
        keys = jax.random.split(key, 3)
        found = jax.vmap(box, (None, 0))(2.0, keys)
        np.testing.assert_array_equal(found, jax.jit(jax.vmap(box, (None, 0)))(2.0, keys))
        np.testing.assert_array_equal(found, [box(2.0, key) for key in keys])


class TestOperators:
    matrix = np.diag([1.0, 2.0, 3.0]) + 0.1

    def test_asks_for_a_linear_map(self):
        box = box_of(lambda v: self.matrix @ v, jax.ShapeDtypeStruct((3,), np.float64), name="A")
        b = jnp.ones(3)
        for use in (
            lambda: jax.scipy.sparse.linalg.gmres(box, b),
            lambda: jax.linear_transpose(box, b)(b),
        ):
            with pytest.raises(TypeError, match=r"the transpose of A.*jax.linearize\(A, x\)"):
                use()
        linear = jax.linearize(box, jnp.zeros(3))[1]
        solution = jax.scipy.sparse.linalg.gmres(linear, b)[0]
        np.testing.assert_allclose(self.matrix @ solution, b, rtol=1e-6)
