"""Tracing: a function is run by Python once for each kind of arguments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxfd
from jaxfd import Central, ComplexStep, Forward


def loss(x):
    return jnp.sum(jnp.sin(x)) + x[0] * x[1]


X = np.array([0.3, -1.2, 2.1])


class Traced:
    """A function that counts how often Python runs it."""

    def __init__(self, fun=loss):
        self.fun = fun
        self.count = 0

    def __call__(self, *args, **kwargs):
        self.count += 1
        return self.fun(*args, **kwargs)


class TestTracing:
    @pytest.mark.parametrize(
        "transform",
        [
            jaxfd.grad,
            jaxfd.value_and_grad,
            jaxfd.jacobian,
            jaxfd.hessian,
            jaxfd.estimate,
            functools.partial(jaxfd.grad, method=Forward(3)),
            functools.partial(jaxfd.grad, method=Central(step=1e-3)),
            functools.partial(jaxfd.grad, method=ComplexStep()),
            functools.partial(jaxfd.grad, chunk_size=2),
            functools.partial(jaxfd.grad, bounds=(-9.0, 9.0)),
            lambda fun: jax.jit(jaxfd.grad(fun)),
        ],
    )
    def test_once_and_never_again(self, transform):
        fun = Traced()
        transformed = transform(fun)
        x = jnp.asarray(X)
        transformed(x)
        assert fun.count == 1
        transformed(x + 1.0)
        transformed(x * 2.0)
        assert fun.count == 1

    def test_derivative(self):
        fun = Traced(jnp.sin)
        estimated = jaxfd.derivative(fun, 2)
        for x in (0.1, 0.2, 0.3):
            np.testing.assert_allclose(estimated(x), -np.sin(x), rtol=1e-4)
        assert fun.count == 1

    def test_other_arguments_and_static_ones(self):
        fun = Traced(lambda x, n, word, *, scale: scale * jnp.sum(x**n) * len(word))
        estimated = jaxfd.grad(fun)
        for scale in (1.0, 2.0):
            estimated(jnp.asarray(X), 2, "word", scale=scale)
        assert fun.count == 1
        estimated(jnp.asarray(X), 3, "word", scale=1.0)  # integers are traced
        assert fun.count == 1
        estimated(jnp.asarray(X), 3, "words", scale=1.0)
        assert fun.count == 2

    def test_a_new_shape_or_dtype_is_traced_anew(self):
        fun = Traced(lambda x: jnp.sum(x**2))
        estimated = jaxfd.grad(fun)
        estimated(jnp.ones(2))
        estimated(jnp.ones(3))
        estimated(jnp.ones(3, np.float32))
        assert fun.count == 3

    def test_products_trace_once(self):
        """They are called once and thrown away: one trace each, and no compilation to keep."""
        fun = Traced()
        x = jnp.asarray(X)
        jaxfd.jvp(fun, (x,), (x,))
        assert fun.count == 1
        jaxfd.hvp(fun, (x,), (x,))
        assert fun.count == 2

    @pytest.mark.parametrize("mode", ["reverse", "forward", "recompute"])
    @pytest.mark.parametrize("outer", [lambda fun: fun, jax.jit], ids=["eager", "jit"])
    def test_hook(self, mode, outer):
        fun = Traced()
        gradient = outer(jax.grad(jaxfd.differentiable(fun, mode=mode)))
        gradient(jnp.asarray(X))
        first = fun.count
        gradient(jnp.asarray(X) + 1.0)
        gradient(jnp.asarray(X) + 2.0)
        assert fun.count == first
