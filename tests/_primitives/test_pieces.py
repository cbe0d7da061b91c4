"""Programs whose batch is cut to pieces: the same numbers, so many members at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import close

from jaxfd._jaxpr import largest
from jaxfd._primitives import in_pieces

SIZE = 10
X = np.linspace(-1.0, 1.0, SIZE * 3).reshape(SIZE, 3)
Y = np.array([2.0, 3.0, 5.0])


def cut(at_once, seen=None):
    """A function of two arrays of which ``at_once`` members run side by side."""

    def fits(count, size):
        if seen is not None:
            seen.append((count, size))
        return min(count, at_once)

    def fun(x, y):
        def inner():
            return {"out": jnp.sin(x) * y, "sum": (jnp.sum(x), jnp.argmax(x))}

        return in_pieces(inner, fits, largest)

    return fun


def plain(x, y):
    return {"out": jnp.sin(x) * y, "sum": (jnp.sum(x), jnp.argmax(x))}


class TestBatches:
    @pytest.mark.parametrize("at_once", [1, 2, 3, 5, 10, 100])
    def test_same_numbers(self, at_once):
        for axes in ((0, None), (1, 0), (-1, 0)):
            first = X if axes[0] == 0 else X.T
            args = (first, Y if axes[1] is None else np.outer(np.arange(SIZE), Y))
            found = jax.jit(jax.vmap(cut(at_once), in_axes=axes))(*args)
            close(found, jax.vmap(plain, in_axes=axes)(*args), 1e-15)

    def test_a_vmap_around_counts_the_one_inside(self):
        seen = []
        fun = jax.vmap(jax.vmap(cut(4, seen), in_axes=(0, None)), in_axes=(0, None))
        both = np.stack([X[:4], X[4:8]])
        close(fun(both, Y), jax.vmap(jax.vmap(plain, (0, None)), (0, None))(both, Y), 1e-15)
        (count, size), (other, more) = seen[0], seen[-1]
        assert (count, other, more) == (4, 2, 4 * size)

    def test_pieces_in_pieces(self):
        fun = jax.vmap(jax.vmap(cut(1), in_axes=(0, None)), in_axes=(0, None))
        both = np.stack([X[:4], X[4:8]])
        close(fun(both, Y), jax.vmap(jax.vmap(plain, (0, None)), (0, None))(both, Y), 1e-15)

    def test_members_run_in_a_loop(self):
        def names(at_once):
            mapped = jax.vmap(cut(at_once), in_axes=(0, None))
            return str(jax.make_jaxpr(mapped)(X, Y))

        assert "scan" in names(1)
        assert "scan" in names(5)
        assert "scan" not in names(SIZE)


class TestDerivatives:
    @pytest.mark.parametrize("at_once", [1, 3, 100])
    def test_in_and_around(self, at_once):
        def total(fun):
            return lambda x, y: jnp.sum(fun(x, y)["out"] ** 2)

        def both(fun):
            inner = jax.vmap(jax.grad(total(fun), argnums=(0, 1)), in_axes=(0, None))

            def outer(x, y):
                return jnp.sum(jax.vmap(total(fun), in_axes=(0, None))(x, y))

            return inner(X, Y), jax.grad(outer, argnums=(0, 1))(X, Y), jax.hessian(outer)(X, Y)

        close(both(cut(at_once)), both(plain), 1e-12)

    def test_jvp_and_checkpoint(self):
        def along(fun):
            tangents = (np.ones(3), np.zeros(3))
            return jax.jvp(lambda x, y: fun(x, y)["out"], (X[0], Y), tangents)

        close(along(cut(1)), along(plain), 1e-15)
        kept = jax.checkpoint(lambda x: jnp.sum(cut(1)(x, Y)["out"]))
        close(jax.grad(kept)(X[0]), np.cos(X[0]) * Y, 1e-15)


class TestWhatIsNotCut:
    def test_collectives(self):
        def fun(x):
            return in_pieces(lambda: x - jax.lax.pmean(x, "i"), lambda *_: 1, largest)

        close(jax.vmap(fun, axis_name="i")(X), X - X.mean(0), 1e-15)

    def test_effects_stay_in_order(self, capfd):
        def fun(x):
            def inner():
                jax.debug.print("seen {}", x, ordered=True)
                return 2 * x

            return in_pieces(inner, lambda *_: 1, largest)

        assert jax.jit(fun)(np.float64(3)) == 6
        jax.effects_barrier()
        assert "seen 3" in capfd.readouterr().out
