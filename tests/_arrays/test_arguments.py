"""Arguments of any shape: trees, dtypes, and what is no array at all, as with ``jax.grad``."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import close
from hypothesis import HealthCheck, given, settings, strategies as st

import jaxfd
from jaxfd import Central, ComplexStep, Forward

REAL = [jnp.float16, jnp.bfloat16, np.float32, np.float64]
COMPLEX = [np.complex64, np.complex128]
SHAPES = [(), (1,), (2, 3), (0,), (2, 0)]


def leaves(dtypes):
    def leaf(dtype, shape, seed):
        numbers = np.random.default_rng(seed).uniform(0.5, 2.0, (2, *shape))
        numbers = numbers[0] + 1j * numbers[1] if dtype in COMPLEX else numbers[0]
        return jnp.asarray(numbers, dtype)

    return st.builds(leaf, st.sampled_from(dtypes), st.sampled_from(SHAPES), st.integers(0, 99))


def trees(dtypes):
    return st.recursive(
        st.one_of(leaves(dtypes), st.none()),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.tuples(inner, inner),
            st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
        ),
        max_leaves=4,
    )


def energy(tree, weight=1.0):
    """The sum of ``|z|^2 + Re z`` over all entries, in float64."""
    total = jnp.zeros((), np.float64)
    for leaf in jax.tree.leaves(tree):
        wide = leaf.astype(np.complex128 if jnp.iscomplexobj(leaf) else np.float64)
        total = total + weight * jnp.sum(jnp.abs(wide) ** 2 + wide.real)
    return total


# Each tree has shapes of its own: one program compiles faster than each operation by itself.
gradient_of_energy = jax.jit(jax.grad(energy))


def coarsest(tree):
    """The error to expect of the coarsest leaf."""
    eps = [float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(tree)]
    return 8 * max(eps, default=1e-16) ** (2 / 3)


quick = settings(max_examples=18, suppress_health_check=[HealthCheck.too_slow])


class TestAnyTree:
    """Whatever the tree, results have the structure, shapes and dtypes of JAX's own."""

    @quick
    @given(trees(REAL + COMPLEX))
    def test_grad(self, tree):
        close(jaxfd.grad(energy)(tree), gradient_of_energy(tree), coarsest(tree))

    @settings(quick, max_examples=10)
    @given(trees(REAL + COMPLEX), st.integers(1, 5))
    def test_value_and_grad_in_chunks(self, tree, chunk_size):
        value, gradient = jax.jit(jaxfd.value_and_grad(energy, chunk_size=chunk_size))(tree)
        close(value, jax.jit(energy)(tree), 1e-12)
        close(gradient, gradient_of_energy(tree), coarsest(tree))

    @settings(quick, max_examples=8)
    @given(trees(REAL).filter(jax.tree.leaves))
    def test_jacobian(self, tree):
        def fun(tree):
            total = energy(tree)
            return {
                "total": total,
                "pair": (jnp.stack([total, 2 * total, total]), total[None, None]),
            }

        close(jaxfd.jacobian(fun)(tree), jax.jit(jax.jacrev(fun))(tree), 8 * coarsest(tree))

    @settings(quick, max_examples=10)
    @given(trees([np.float32, np.float64]).filter(jax.tree.leaves))
    def test_hessian(self, tree):
        found = jaxfd.hessian(energy)(tree)
        with jax.numpy_dtype_promotion("standard"):
            exact = jax.jit(jax.hessian(energy))(tree)
        eps = [float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(tree)]
        close(found, exact, 40 * max(eps, default=1e-16) ** 0.5)

    @settings(quick, max_examples=10)
    @given(trees(REAL + COMPLEX))
    def test_estimate(self, tree):
        result = jaxfd.estimate(energy)(tree)
        size = sum(
            leaf.size * (2 if jnp.iscomplexobj(leaf) else 1) for leaf in jax.tree.leaves(tree)
        )
        assert result.evaluations == 2 * size + 1 + (6 if size else 0)
        assert jax.tree.structure(result.step) == jax.tree.structure(tree)
        assert jax.tree.structure(result.error) == jax.tree.structure(tree)
        for step, error, leaf in zip(
            *map(jax.tree.leaves, (result.step, result.error, tree)), strict=True
        ):
            assert step.shape == error.shape == leaf.shape

    @settings(quick, max_examples=10)
    @given(trees([np.float32, np.float64]))
    def test_through_the_hook(self, tree):
        hooked = jaxfd.differentiable(energy)
        close(jax.grad(hooked)(tree), gradient_of_energy(tree), coarsest(tree))

    @settings(quick, max_examples=10)
    @given(trees(REAL))
    def test_black_box(self, tree):
        def host(tree):
            return sum((np.sum(leaf**2 + leaf) for leaf in jax.tree.leaves(tree)), np.float64(0))

        box = jaxfd.blackbox(host, jax.ShapeDtypeStruct((), np.float64))
        # Points are made in float64: what is lost is lost in the rounding of the result alone.
        eps = [float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(tree)]
        tol = 2 * max([1e-9, *eps])
        close(jaxfd.grad(box)(tree), gradient_of_energy(tree), tol)
        close(jax.grad(box)(tree), gradient_of_energy(tree), tol)


@pytest.mark.parametrize("low", [jnp.float16, jnp.bfloat16], ids=["float16", "bfloat16"])
class TestLowPrecision:
    """Points are stored in 16 bits, differences are not formed in them."""

    def test_grad(self, low):
        x = jnp.asarray([0.5, 1.0, 3.0], low)
        found = jaxfd.grad(lambda x: jnp.sum(x.astype(np.float32) ** 2))(x)
        close(
            found, (2 * x.astype(np.float32)).astype(low), 8 * float(jnp.finfo(low).eps) ** (2 / 3)
        )

    def test_output_in_low_precision(self, low):
        x = jnp.asarray([0.5, 1.0, 3.0], low)
        found = jax.jit(jaxfd.jacobian(lambda x: x * x))(x)
        close(found, jnp.diag(2 * x), 16 * float(jnp.finfo(low).eps) ** (2 / 3))

    def test_hook(self, low):
        x = jnp.asarray([0.5, 1.0, 3.0], low)
        hooked = jaxfd.differentiable(lambda x: jnp.sum(x * x))
        for mode in ("reverse", "forward", "recompute"):
            hooked = jaxfd.differentiable(lambda x: jnp.sum(x * x), mode=mode)
            close(jax.grad(hooked)(x), 2 * x, 16 * float(jnp.finfo(low).eps) ** (2 / 3))

    def test_sum_over_many_contributions(self, low):
        """A contraction of 4096 rows in 16 bits would stop growing at 256 or 2048."""
        hooked = jaxfd.differentiable(lambda x: jnp.full(4096, 1.0, low) * x)
        x = jnp.asarray(1.0, low)
        _, slope = jax.jvp(hooked, (x,), (x,))
        assert slope.dtype == low
        pulled = jaxfd.differentiable(lambda x: jnp.full(4096, 1.0, low) * x, mode="recompute")
        gradient = jax.grad(lambda x: jnp.sum(pulled(x).astype(np.float32)))(x)
        np.testing.assert_allclose(float(gradient), 4096, rtol=0.05)


class TestDegenerate:
    @pytest.mark.parametrize("transform", [jaxfd.grad, jaxfd.jacobian, jaxfd.hessian])
    @pytest.mark.parametrize("tree", [(), {}, None, [None, {}]], ids=str)
    def test_trees_without_leaves(self, transform, tree):
        assert transform(lambda t: jnp.asarray(1.0))(tree) == tree

    def test_value_of_a_tree_without_leaves(self):
        value, gradient = jaxfd.value_and_grad(lambda t: jnp.asarray(1.5))({})
        assert (float(value), gradient) == (1.5, {})

    @pytest.mark.parametrize("method", [Central(), Forward(), Central(4), ComplexStep()])
    def test_leaf_of_size_zero(self, method, dtype):
        x = jnp.zeros((0, 3), dtype)
        close(jaxfd.grad(lambda x: jnp.sum(x), method=method)(x), x, 0)
        close(
            jaxfd.jacobian(lambda x: jnp.sum(x, 0), method=method)(x),
            jnp.zeros((3, 0, 3), dtype),
            0,
        )

    def test_output_of_size_zero(self, dtype):
        x = jnp.ones(2, dtype)
        close(jaxfd.jacobian(lambda x: x[:0])(x), jnp.zeros((0, 2), dtype), 0)
        pair = jax.jit(lambda x: jaxfd.jvp(lambda x: x[:0], (x,), (x,)))(x)
        close(pair, (x[:0], x[:0]), 0)

    def test_no_outputs(self):
        assert jaxfd.jacobian(lambda x: {})(1.0) == {}

    def test_python_number(self):
        found = jaxfd.grad(lambda x: x**2)(3.0)
        close(found, jax.grad(lambda x: x**2)(3.0), 1e-9)

    def test_numpy_array(self):
        x = np.array([1.0, 2.0], np.float32)
        close(jaxfd.grad(lambda x: jnp.sum(x**2))(x), jnp.asarray(2 * x), 1e-3)


class TestJacobianTrees:
    """Non-square, mixed, nested: the very tree of ``jax.jacrev``."""

    def test_argnums_and_output_trees(self):
        def fun(a, b, c):
            total = jnp.sum(a) * b["x"]
            return [jnp.outer(total, c), {"s": jnp.sum(b["x"]) * jnp.sum(c)}]

        args = (jnp.ones((2, 1)), {"x": jnp.arange(1.0, 4.0)}, jnp.asarray([0.5, 2.0]))
        for argnums in (0, 1, (0,), (2, 1), [0, 2], -1, (-2, 0)):
            exact = jax.jit(jax.jacrev(fun, argnums))(*args)
            close(jaxfd.jacobian(fun, argnums)(*args), exact, 1e-8)

    def test_mixed_dtypes(self):
        def fun(tree):
            a, b = tree["a"], tree["b"]
            return {"low": a * a, "high": jnp.sum(b**2) * jnp.sum(a).astype(np.float64)}

        tree = {"a": jnp.asarray([1.0, 2.0], np.float32), "b": jnp.asarray([[0.5], [0.25]])}
        found = jaxfd.jacobian(fun)(tree)
        with jax.numpy_dtype_promotion("standard"):
            exact = jax.jit(jax.jacrev(fun))(tree)
        close(found, exact, 2e-3)
        # What does not touch the float32 leaf is as exact as float64 allows.
        np.testing.assert_allclose(found["high"]["b"], exact["high"]["b"], rtol=1e-3)


class TestArguments:
    def test_argnums(self):
        def fun(x, y, z):
            return x * y**2 * z**3

        args = (2.0, 3.0, 5.0)
        for argnums in (0, 1, 2, -1, (0, 2), (2, 0), (-3,), [1], np.int64(1)):
            exact = jax.jit(jax.grad(fun, argnums))(*args)
            close(jaxfd.grad(fun, argnums)(*args), exact, 1e-4)

    def test_kwargs_are_passed_through(self):
        def fun(x, *, scale, shift=0.0):
            return jnp.sum(scale["a"] * x**2) + shift

        value, gradient = jaxfd.value_and_grad(fun)(jnp.ones(2), scale={"a": 3.0}, shift=1.0)
        assert float(value) == 7.0
        np.testing.assert_allclose(gradient, [6.0, 6.0], rtol=1e-9)

    def test_what_is_no_array_is_passed_through(self):
        def fun(x, power, kind, act, flag, options):
            for _ in range(power):
                x = act(x)
            assert kind in ("sum", "mean")
            assert flag is True
            assert options == {"depth": 2, "name": "n", "none": None}
            return getattr(jnp, kind)(x) * (2 if flag else 1)

        x = jnp.asarray([0.5, 1.0])
        options = {"depth": 2, "name": "n", "none": None}
        for power, kind in [(2, "sum"), (1, "mean"), (0, "sum")]:
            rest = (power, kind, jnp.sin, True, options)
            close(jaxfd.grad(fun)(x, *rest), jax.grad(fun)(x, *rest), 1e-9)

    def test_a_changed_static_argument_counts(self):
        """The transform is the same, and what it kept from the first call does not stick."""
        gradient = jaxfd.grad(lambda x, n, word: x**n * len(word))
        assert float(gradient(2.0, 2, "ab")) == pytest.approx(8.0)
        assert float(gradient(2.0, 3, "ab")) == pytest.approx(24.0)
        assert float(gradient(2.0, 3, "abc")) == pytest.approx(36.0)
        assert float(gradient(2.0, True, "abc")) == pytest.approx(3.0)
        assert float(gradient(2.0, 1, "a")) == pytest.approx(1.0)

    def test_unhashable_argument(self):
        gradient = jaxfd.grad(lambda x, words: x * len(words))
        assert float(gradient(2.0, {"a", "b"})) == pytest.approx(2.0)
        assert float(gradient(2.0, {"a", "b", "c"})) == pytest.approx(3.0)

    def test_integer_arrays_beside_the_differentiated_argument(self):
        def fun(x, index, mask):
            return jnp.sum(jnp.where(mask, x[index], 0.0))

        args = (
            jnp.asarray([1.0, 2.0, 3.0]),
            jnp.asarray([2, 2, 0]),
            jnp.asarray([True, True, False]),
        )
        close(jaxfd.grad(fun)(*args), jax.grad(fun)(*args), 1e-9)

    def test_derivative_passes_arguments_on(self):
        found = jaxfd.derivative(lambda t, n, *, word: t**n * len(word), 2)(2.0, 3, word="ab")
        np.testing.assert_allclose(found, 24.0, rtol=1e-5)


class TestAux:
    """Auxiliary data come from ``x`` itself, whatever they are."""

    @staticmethod
    def fun(x, name="run"):
        aux = {"square": x**2, "name": name, "n": 3, "nothing": None, "half": x[0] / 2, "f": len}
        return jnp.sum(x**3), aux

    x = np.array([1.0, 2.0])

    def check(self, aux):
        assert aux["name"] == "run"
        assert aux["n"] == 3
        assert aux["nothing"] is None
        assert aux["f"] is len
        np.testing.assert_array_equal(aux["square"], self.x**2)
        assert float(aux["half"]) == 0.5

    def test_grad(self):
        gradient, aux = jaxfd.grad(self.fun, has_aux=True)(self.x)
        np.testing.assert_allclose(gradient, 3 * self.x**2, rtol=1e-8)
        self.check(aux)

    def test_value_and_grad(self):
        (value, aux), gradient = jaxfd.value_and_grad(self.fun, has_aux=True)(self.x)
        assert float(value) == 9.0
        np.testing.assert_allclose(gradient, 3 * self.x**2, rtol=1e-8)
        self.check(aux)

    def test_jacobian(self):
        jacobian, aux = jaxfd.jacobian(self.fun, has_aux=True)(self.x)
        np.testing.assert_allclose(jacobian, 3 * self.x**2, rtol=1e-8)
        self.check(aux)

    def test_hessian(self):
        hessian, aux = jaxfd.hessian(self.fun, has_aux=True)(self.x)
        np.testing.assert_allclose(hessian, np.diag(6 * self.x), atol=1e-5)
        self.check(aux)

    def test_estimate(self):
        result = jaxfd.estimate(self.fun, has_aux=True)(self.x)
        np.testing.assert_allclose(result.grad, 3 * self.x**2, rtol=1e-8)
        self.check(result.aux)

    def test_jvp(self):
        x = jnp.asarray(self.x)
        value, slope, aux = jaxfd.jvp(self.fun, (x,), (x,), has_aux=True)
        assert float(value) == 9.0
        np.testing.assert_allclose(slope, 27.0, rtol=1e-8)
        self.check(aux)

    def test_complex_step(self):
        def fun(x):
            return jnp.sum(x**3), {"x": x, "word": "w"}

        gradient, aux = jaxfd.grad(fun, has_aux=True, method=ComplexStep())(jnp.asarray(self.x))
        np.testing.assert_allclose(gradient, 3 * self.x**2, rtol=1e-14)
        assert aux["word"] == "w"
        np.testing.assert_array_equal(aux["x"], self.x)

    def test_integers_and_booleans(self):
        def fun(x):
            return jnp.sum(x**2), (jnp.argmax(x), x > 1.5)

        _, (index, mask) = jax.jit(jaxfd.grad(fun, has_aux=True))(jnp.asarray(self.x))
        assert int(index) == 1
        np.testing.assert_array_equal(mask, [False, True])

    def test_black_box(self):
        def host(x):
            return np.sum(x**3), {"square": x**2, "argmax": np.argmax(x)}

        out = (
            jax.ShapeDtypeStruct((), np.float64),
            {
                "square": jax.ShapeDtypeStruct((2,), np.float64),
                "argmax": jax.ShapeDtypeStruct((), np.int64),
            },
        )
        box = jaxfd.blackbox(host, out)
        gradient, aux = jaxfd.grad(box, has_aux=True)(jnp.asarray(self.x))
        np.testing.assert_allclose(gradient, 3 * self.x**2, rtol=1e-8)
        np.testing.assert_array_equal(aux["square"], self.x**2)
        assert int(aux["argmax"]) == 1


def test_several_primals_and_trees_in_products():
    def fun(a, b):
        return jnp.sum(a["u"] ** 2) * b[0] + jnp.sin(b[0])

    primals = ({"u": jnp.asarray([1.0, 2.0])}, [jnp.asarray(0.5)])
    tangents = ({"u": jnp.asarray([0.1, -1.0])}, [jnp.asarray(2.0)])
    # One program compiles faster than each operation by itself.
    found = jax.jit(functools.partial(jaxfd.jvp, fun))(primals, tangents)
    close(found, jax.jit(functools.partial(jax.jvp, fun))(primals, tangents), 1e-8)
    found = jax.jit(functools.partial(jaxfd.hvp, fun))(primals, tangents)
    exact = jax.jit(functools.partial(jax.jvp, jax.grad(fun, (0, 1))))(primals, tangents)[1]
    close(found, exact, 1e-5)


def test_integer_primal_takes_a_float0_tangent():
    def fun(x, n):
        return x * n.astype(np.float64)

    tangents = (1.0, np.zeros((), jax.dtypes.float0))
    value, slope = jaxfd.jvp(fun, (2.0, jnp.asarray(3)), tangents)
    assert float(value) == 6.0
    np.testing.assert_allclose(slope, 3.0, rtol=1e-9)
