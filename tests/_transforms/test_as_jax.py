"""As ``jax.grad`` does it: weak types, strict ranks, keys and other leaves without a derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd


def square(x):
    return x**2


def weak(value):
    aval = jax.typeof(value)
    return aval.dtype, aval.weak_type


BOX = jaxfd.blackbox(lambda x: float(x) ** 2, jax.ShapeDtypeStruct((), jnp.float64))


class TestWeakTypes:
    @pytest.mark.parametrize("kind", [float, np.float32, np.float64, jnp.asarray])
    def test_gradient(self, kind):
        x = kind(2.0)
        wanted = weak(jax.grad(square)(x))
        for g in (jaxfd.grad(square), jax.jit(jaxfd.grad(square)), jaxfd.grad(BOX)):
            assert weak(g(x)) == wanted
        adaptive = jaxfd.grad(square, method=jaxfd.Adaptive())
        assert weak(adaptive(x)) == wanted
        assert weak(jax.grad(jaxfd.differentiable(square))(x)) == wanted

    def test_everything_else(self):
        assert weak(jaxfd.value_and_grad(square)(2.0)[0]) == weak(square(jnp.asarray(2.0)))
        assert weak(jaxfd.hessian(square)(2.0)) == weak(jax.hessian(square)(2.0))
        assert weak(jaxfd.jacobian(square)(2.0)) == weak(jax.jacrev(square)(2.0))
        pair = jaxfd.jvp(square, (2.0,), (1.0,))
        assert [weak(v) for v in pair] == [weak(v) for v in jax.jvp(square, (2.0,), (1.0,))]
        assert weak(jaxfd.grad(square, holomorphic=True)(2.0 + 1j))[1]
        # What it is for: a model in low precision stays there.
        assert (jnp.bfloat16(1) * jaxfd.grad(square)(2.0)).dtype == jnp.bfloat16

    def test_in_a_tree(self):
        found = jaxfd.grad(lambda p: p["a"] * p["b"])({"a": 2.0, "b": jnp.float32(3.0)})
        assert weak(found["a"])[1]
        assert not weak(found["b"])[1]


METHODS = [
    jaxfd.Central(),
    jaxfd.Central(4),
    jaxfd.Adaptive(),
    jaxfd.SPSA(jax.random.key(0), 4),
    jaxfd.LowRank(jax.random.key(0), 4, sigma=0.1),
    jaxfd.Orthogonal(jax.random.key(0), 4, combine="least_squares"),
]


class TestStrictRanks:
    @pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
    def test_gradients(self, method):
        def fun(x):
            return jnp.sum(x**2)

        x = jnp.arange(6.0).reshape(2, 3)
        box = jaxfd.blackbox(lambda x: np.sum(x**2), jax.ShapeDtypeStruct((), jnp.float64))
        with jax.numpy_rank_promotion("raise"):
            jaxfd.grad(fun, method=method)(x)
            # Ranks are compared while it is traced: what comes of it need not be compiled.
            jax.eval_shape(jaxfd.grad(fun, method=method, bounds=(-1.0, 10.0)), x)
            jaxfd.grad(box, method=method)(x)
            jaxfd.grad(box, method=method, bounds=(-1.0, 10.0))(x)

    def test_everything_else(self):
        def fun(x):
            return jnp.sum(x**2)

        x = jnp.arange(3.0)
        with jax.numpy_rank_promotion("raise"):
            jaxfd.estimate(fun)(x)
            jaxfd.hessian(fun)(x)
            # Ranks are those of the trace: one program compiles faster than each operation.
            jax.jit(lambda x: jaxfd.jvp(fun, (x,), (x,)))(x)
            jax.jit(lambda x: jaxfd.hvp(fun, (x,), (x,)))(x)
            jax.jit(jax.hessian(jaxfd.differentiable(fun)))(x)
            jax.jit(jax.grad(jaxfd.differentiable(fun, mode="forward")))(x)

    def test_of_the_function_are_its_own(self):
        with jax.numpy_rank_promotion("raise"), pytest.raises(ValueError, match="rank"):
            jaxfd.grad(lambda x: jnp.sum(x + jnp.ones((2, 3))))(jnp.ones(3))


class TestKeys:
    def test_a_key_in_the_tree(self):
        params = {"w": jnp.arange(2.0), "key": jax.random.key(0), "n": 3, "on": True}

        def fun(p):
            return jnp.sum(p["w"] ** 2) + 0 * jax.random.normal(p["key"])

        wanted = jax.grad(fun, allow_int=True)(params)
        for g in (jaxfd.grad(fun, allow_int=True), jax.jit(jaxfd.grad(fun, allow_int=True))):
            found = g(params)
            np.testing.assert_allclose(found["w"], wanted["w"], rtol=1e-6)
            for name in ("key", "n", "on"):
                assert found[name].dtype == jax.dtypes.float0
                assert found[name].shape == wanted[name].shape

    def test_refused_without_allow_int(self):
        with pytest.raises(TypeError, match=r"\['key'\].*allow_int=True"):
            jaxfd.grad(lambda p: p["w"])({"w": 1.0, "key": jax.random.key(0)})
