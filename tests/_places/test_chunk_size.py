"""``chunk_size``: one name everywhere, checked in one place, and it changes no number."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _tools import close

import jaxfd
import jaxfd.optim

X = np.array([0.3, -1.2, 2.1])
V = np.array([1.0, 0.5, -1.0])
KEY = jax.random.key(0)
STEEP = jaxfd.Central(step=1e-3)


def bowl(x):
    return jnp.sum(x**2) + jnp.sin(x[0])


def update(chunk_size):
    optimizer = jaxfd.optim.estimate_gradient(jaxfd.Central(), chunk_size=chunk_size)
    return optimizer.update(X, optimizer.init(X), X, value_fn=bowl)[0]


def stochastic(chunk_size):
    optimizer = jaxfd.optim.spsa(KEY, num_samples=4, chunk_size=chunk_size)
    return optimizer.update(X, optimizer.init(X), X, value_fn=bowl)[0]


def in_place(chunk_size):
    optimizer = jaxfd.optim.mezo(0.1, jaxfd.SPSA(KEY, 4, sigma=0.1), chunk_size=chunk_size)
    return optimizer.step(X, optimizer.init(X), value_fn=bowl)[0]


def hook(chunk_size):
    return jaxfd.differentiable(bowl, method=STEEP, chunk_size=chunk_size)


EVERYWHERE = {
    "grad": lambda c: jaxfd.grad(bowl, chunk_size=c)(X),
    "value_and_grad": lambda c: jaxfd.value_and_grad(bowl, chunk_size=c)(X),
    "jacobian": lambda c: jaxfd.jacobian(bowl, chunk_size=c)(X),
    "hessian": lambda c: jaxfd.hessian(bowl, method=STEEP, chunk_size=c)(X),
    "estimate": lambda c: jaxfd.estimate(bowl, chunk_size=c)(X).grad,
    "derivative": lambda c: jaxfd.derivative(jnp.sin, chunk_size=c)(0.3),
    "jvp": lambda c: jaxfd.jvp(bowl, (X,), (V,), chunk_size=c),
    "hvp": lambda c: jaxfd.hvp(bowl, (X,), (V,), method=STEEP, chunk_size=c),
    "differentiable": lambda c: jax.grad(hook(c))(X),
    "second": lambda c: jax.hessian(hook(c))(X),
    "check_grads": lambda c: jaxfd.check_grads(bowl, X, method=STEEP, chunk_size=c).estimated,
    "sensitivity": lambda c: jaxfd.sensitivity(bowl, X, method=STEEP, chunk_size=c).x,
    "step_sweep": lambda c: (
        jaxfd.step_sweep(bowl, X, exact=jax.grad(bowl), chunk_size=c).default_step
    ),
    "estimate_noise": lambda c: jaxfd.estimate_noise(bowl, X, chunk_size=c).levels[:1],
    "minimize": lambda c: jaxfd.optim.minimize(bowl, X, max_steps=2, chunk_size=c).x,
    "optax": lambda c: jaxfd.optim.minimize(bowl, X, optax.sgd(0.1), max_steps=2, chunk_size=c).x,
    "estimate_gradient": update,
    "spsa": stochastic,
    "mezo": in_place,
}


@pytest.mark.parametrize("name", EVERYWHERE)
class TestEverywhere:
    def test_same_numbers(self, name):
        run = EVERYWHERE[name]
        for one, other in zip(jax.tree.leaves(run(None)), jax.tree.leaves(run(2)), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)

    def test_integers_of_numpy(self, name):
        for one, other in zip(
            *(jax.tree.leaves(EVERYWHERE[name](size)) for size in (2, np.int64(2))), strict=True
        ):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize(
        ("wrong", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), (True, TypeError)]
    )
    def test_refused(self, name, wrong, error):
        with pytest.raises(error, match="chunk_size must be"):
            EVERYWHERE[name](wrong)


class TestLoops:
    """In a kernel it is the number of points that run side by side."""

    @pytest.mark.parametrize("name", ["grad", "jvp", "hvp", "derivative", "differentiable"])
    def test_one_by_one(self, name):
        text = str(jax.make_jaxpr(lambda: EVERYWHERE[name](1))())
        assert "scan" in text or "while" in text


class TestBoxes:
    """A vectorised box gets so many points in a call."""

    @staticmethod
    def recorded(calls):
        def fun(x):
            calls.append(len(x))
            return np.sum(x**2, axis=-1)

        return fun

    def box(self, calls, **options):
        out = jax.ShapeDtypeStruct((), np.float64)
        return jaxfd.blackbox(self.recorded(calls), out, vectorized=True, **options)

    @pytest.mark.parametrize("retries", [0, 1])
    def test_pieces(self, retries):
        calls = []
        box = self.box(calls, chunk_size=4, retries=retries)
        close(jaxfd.grad(box)(X), 2 * X, 1e-8)
        assert calls == [4, 2]

    def test_pieces_under_vmap(self):
        calls = []
        rows = np.stack([X, 2 * X, 3 * X])
        close(jax.vmap(jax.grad(self.box(calls, chunk_size=8)))(rows), 2 * rows, 1e-8)
        assert calls == [8, 8, 5]
        calls.clear()
        close(jax.vmap(self.box(calls, chunk_size=2))(rows), np.sum(rows**2, axis=1), 1e-12)
        assert calls == [2, 1]

    def test_the_smaller_one_counts(self):
        calls = []
        close(jaxfd.grad(self.box(calls, chunk_size=4), chunk_size=3)(X), 2 * X, 1e-8)
        assert calls == [3, 3]

    def test_an_error_names_the_points(self):
        def fun(x):
            if x[0, 1] > -1.2:
                raise ArithmeticError
            return np.sum(x**2, axis=-1)

        out = jax.ShapeDtypeStruct((), np.float64)
        box = jaxfd.blackbox(fun, out, vectorized=True, chunk_size=1)
        with pytest.raises(ArithmeticError) as caught:
            jaxfd.grad(box)(X)
        assert "point 4 of 6" in caught.value.__notes__[0]

    def test_the_old_name(self):
        calls = []
        with pytest.warns(DeprecationWarning, match="chunk_size"):
            box = self.box(calls, chunksize=4)
        jaxfd.grad(box)(X)
        assert calls == [4, 2]
        with pytest.raises(TypeError, match="old name"):
            self.box(calls, chunksize=4, chunk_size=4)
