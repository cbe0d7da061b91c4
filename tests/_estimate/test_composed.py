"""Estimates of `jax.numpy` code around black boxes, with JAX in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import Host, x64
from hypothesis import given, settings, strategies as st
from jax import lax

import jaxfd

OUT = jax.ShapeDtypeStruct((3,), np.float32)
X = np.array([0.3, 1.1, -0.7], np.float32)
FAR = 1e5
DATA = jnp.asarray([0.5, 0.2, 0.1], np.float32)

outside = pytest.mark.parametrize("way", [lambda f: f, jax.jit], ids=["eager", "jit"])


@pytest.fixture(autouse=True)
def _float32():
    with x64(False):
        yield


def boxed(fun=lambda x: FAR + np.sin(x), out=OUT, **options):
    """A recorder of calls, and a black box of it far from 0."""
    host = Host(fun)
    return host, jaxfd.blackbox(host, out, vectorized=True, **options)


def loss(box):
    return lambda x: jnp.sum((box(x) - FAR - DATA) ** 2)


def slopes(x=X, data=DATA):
    x, data = np.asarray(x, np.float64), np.asarray(data, np.float64)
    return 2 * (np.sin(x) - data) * np.cos(x)


class TestGradient:
    @outside
    def test_is_that_of_the_digits_of_the_box(self, way):
        host, box = boxed()
        found = way(jaxfd.grad(loss(box)))(X)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, slopes(), rtol=1e-5)
        assert [len(batch) for batch in host.calls] == [6]
        assert host.calls[0].dtype == np.float64
        assert len(np.unique(host.calls[0], axis=0)) == 6

    def test_of_every_transform(self):
        _, box = boxed()
        fun = loss(box)
        gradient = slopes()
        curvature = np.diag(2 * np.cos(X) ** 2 - 2 * (np.sin(X) - DATA) * np.sin(X))
        value, found = jaxfd.value_and_grad(fun)(X)
        np.testing.assert_allclose(value, np.sum((np.sin(X) - DATA) ** 2), rtol=1e-6)
        np.testing.assert_allclose(found, gradient, rtol=1e-5)
        found = jaxfd.estimate(fun, method=jaxfd.Adaptive())(X)
        np.testing.assert_allclose(found.grad, gradient, rtol=1e-6)
        assert np.all(np.abs(found.grad - gradient) <= found.error)
        np.testing.assert_allclose(jaxfd.hessian(fun)(X), curvature, atol=5e-3)
        _, slope = jaxfd.jvp(fun, (X,), (X,))
        np.testing.assert_allclose(slope, gradient @ X, rtol=1e-4)
        found = jaxfd.jacobian(lambda x: (box(x) - FAR) * x)(X)
        np.testing.assert_allclose(found, np.diag(np.cos(X) * X + np.sin(X)), atol=1e-5)
        found = jaxfd.grad(fun, bounds=(-1.0, 1.1))(X)
        np.testing.assert_allclose(found, gradient, rtol=1e-4)
        signs = jaxfd.SPSA(jax.random.key(0), 4)
        with x64(True):
            exact = jaxfd.grad(lambda x: jnp.sum((jnp.sin(x) - DATA.astype(np.float64)) ** 2))
            wanted = jax.grad(lambda x: jnp.sum((jnp.sin(x) - np.asarray(DATA, float)) ** 2))
            np.testing.assert_allclose(exact(X.astype(float)), wanted(X.astype(float)), rtol=1e-6)
        assert np.isfinite(jaxfd.grad(fun, method=signs)(X)).all()

    @pytest.mark.parametrize("mode", ["reverse", "forward", "recompute"])
    def test_of_the_hook(self, mode):
        _, box = boxed()
        hooked = jaxfd.differentiable(loss(box), mode=mode)
        np.testing.assert_allclose(jax.grad(hooked)(X), slopes(), rtol=1e-5)

    def test_of_leaves_whole_numbers_and_complex_ones(self):
        out = {"i": jax.ShapeDtypeStruct((), np.int32), "z": jax.ShapeDtypeStruct((), np.complex64)}

        def host(t):
            return {
                "i": np.int32(np.floor(t["a"] * 10)),
                "z": FAR + t["b"].sum() + 1j * t["a"] ** 2,
            }

        box = jaxfd.blackbox(host, out)

        def fun(t):
            found = box(t)
            return jnp.imag(found["z"]) * found["i"].astype(np.float32) + jnp.real(found["z"])

        found = jaxfd.grad(fun)({"a": jnp.float32(0.55), "b": jnp.asarray(X)})
        np.testing.assert_allclose(found["a"], 5 * 2 * 0.55, rtol=1e-6)
        np.testing.assert_allclose(found["b"], np.ones(3), rtol=1e-5)
        holomorphic = jaxfd.blackbox(lambda z: 1e4 + z**2, jax.ShapeDtypeStruct((), np.complex64))
        found = jaxfd.grad(lambda z: holomorphic(z) * z, holomorphic=True)(jnp.complex64(1 + 2j))
        np.testing.assert_allclose(found, 3 * (1 + 2j) ** 2 + 1e4, rtol=1e-6)

    def test_through_loops_and_branches(self):
        _, box = boxed()

        def fun(x):
            y = lax.scan(lambda c, _: (jnp.sin(c), None), box(x) - FAR, None, length=2)[0]
            z = lax.cond(x[0] > 0, lambda y: box(y) - FAR, lambda y: y, y)
            return jnp.sum(lax.fori_loop(0, 2, lambda _, z: jnp.sin(z), z))

        exact = np.ones(3)
        y = X.astype(np.float64)
        for _ in range(6):
            y, exact = np.sin(y), exact * np.cos(y)
        np.testing.assert_allclose(jaxfd.grad(fun)(X), exact, rtol=1e-5)

    def test_random_numbers_are_the_same(self):
        _, box = boxed()
        noise = jax.random.normal(jax.random.key(1), (3,), np.float32)
        fun = lambda x: jnp.sum(  # noqa: E731
            (box(x) - FAR - jax.random.normal(jax.random.key(1), (3,), np.float32)) ** 2
        )
        np.testing.assert_allclose(jaxfd.grad(fun)(X), slopes(data=noise), rtol=1e-5)

    def test_jumps_are_differenced(self):
        _, box = boxed()
        steps = lambda x: jnp.sum(jnp.floor((box(x) - FAR) * 50) / 50)  # noqa: E731
        found = jaxfd.grad(steps, method=jaxfd.Central(step=0.3))(X)
        np.testing.assert_allclose(found, np.cos(X), atol=0.1)
        assert not np.any(jax.grad(steps)(X))

    def test_of_a_narrow_argument_or_result(self):
        _, box = boxed(np.sin)
        found = jaxfd.grad(lambda x: jnp.sum(box(x)))(jnp.asarray(X, jnp.bfloat16))
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(found.astype(np.float32), np.cos(X), atol=0.02)
        found = jaxfd.grad(lambda x: jnp.sum(box(x)).astype(jnp.bfloat16))(X)
        np.testing.assert_allclose(found, np.cos(X), atol=0.05)

    def test_of_a_gradient_of_the_box(self):
        _, box = boxed()
        found = jaxfd.grad(lambda x: jnp.sum(jax.jacobian(box)(x)))(X)
        np.testing.assert_allclose(found, -np.sin(X), atol=1e-3)

    def test_float32_in_a_jax_that_has_float64(self):
        _, box = boxed()
        with x64(True):
            found = jaxfd.grad(loss(box))(jnp.asarray(X))
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, slopes(), rtol=1e-5)
            rounded = jaxfd.grad(lambda x: jnp.sum(box(x.astype(np.float32)) - np.float32(FAR)))
            np.testing.assert_allclose(rounded(X.astype(np.float64)), np.cos(X), rtol=1e-3)


class TestCalls:
    """One for each box and estimate, whatever surrounds it."""

    @outside
    def test_of_a_chain(self, way):
        first, inner = boxed()
        second, outer = boxed()
        fun = lambda x: jnp.sum(outer(inner(x) - FAR) - FAR)  # noqa: E731
        found = way(jaxfd.grad(fun))(X)
        np.testing.assert_allclose(found, np.cos(np.sin(X)) * np.cos(X), rtol=1e-5)
        assert [len(batch) for batch in first.calls] == [6]
        assert [len(batch) for batch in second.calls] == [6]

    @outside
    def test_with_auxiliary_data_under_vmap(self, way):
        host, box = boxed()

        def fun(x):
            y = box(x)
            return jnp.sum((y - FAR - DATA) ** 2), (y, jax.random.key(0))

        batch = jnp.stack([X, 2 * X])
        found, (y, _) = way(jax.vmap(jaxfd.grad(fun, has_aux=True)))(batch)
        np.testing.assert_allclose(found, slopes(batch), rtol=1e-4)
        assert y.dtype == np.float32
        assert [len(points) for points in host.calls] == [14]

    def test_nothing_is_traced_twice(self):
        traced, box = [], boxed()[1]

        def fun(x):
            traced.append(1)
            return jnp.sum(box(x))

        gradient = jaxfd.grad(fun)
        gradient(X), gradient(2 * X)
        assert len(traced) == 1


class TestBoxesThatReturnLess:
    @outside
    def test_are_stepped_for_that(self, way):
        host, box = boxed(lambda x: np.sin(x).astype(np.float32))
        gradient = way(jaxfd.grad(lambda x: jnp.sum(box(x))))
        np.testing.assert_allclose(gradient(X), np.cos(X), rtol=1e-3)
        assert len(host.taken()) == 2
        np.testing.assert_allclose(gradient(X), np.cos(X), rtol=1e-3)
        # What is compiled into another program by then asks every time.
        assert len(host.taken()) == (1 if way is not jax.jit else 2)
        np.testing.assert_allclose(jax.jit(lambda x: gradient(x))(X), np.cos(X), rtol=1e-3)

    def test_once_under_vmap_in_a_program(self):
        host, box = boxed(lambda x: np.sin(x).astype(np.float32))
        found = jax.jit(jax.vmap(jaxfd.grad(lambda x: jnp.sum(box(x)))))(jnp.stack([X, 2 * X]))
        np.testing.assert_allclose(found, np.cos([X, 2 * X]), rtol=1e-3)
        assert [len(batch) for batch in host.calls] == [12, 12]


class TestErrors:
    @pytest.mark.parametrize(
        "transform",
        [jaxfd.grad, jaxfd.hessian, jaxfd.estimate, lambda f: lambda x: jaxfd.jvp(f, (x,), (x,))],
    )
    def test_are_those_of_the_user(self, transform):
        error = KeyError("bad point")

        def fails(x):
            raise error

        box = jaxfd.blackbox(fails, jax.ShapeDtypeStruct((), np.float32))
        with pytest.raises(KeyError) as caught:
            transform(lambda x: jnp.log(box(x)))(1.0)
        assert caught.value is error
        assert "raised this at point" in error.__notes__[0]

    def test_of_other_functions_are_their_own(self):
        with pytest.raises(RuntimeError, match="mine"):
            jaxfd.grad(_raises)(1.0)


def _raises(x):
    raise RuntimeError("mine")


class TestDerivativesOfEstimates:
    @outside
    def test_by_what_lies_around_the_box(self, way):
        _, box = boxed()
        fun = lambda a: jnp.sum(jaxfd.grad(lambda x: a * loss(box)(x))(X))  # noqa: E731
        np.testing.assert_allclose(way(jax.grad(fun))(2.0), slopes().sum(), rtol=1e-4)

    @outside
    def test_through_the_box(self, way):
        _, box = boxed(np.sin)
        fun = lambda a: jnp.sum(jaxfd.grad(lambda x: jnp.sum(box(x * a) ** 2))(X))  # noqa: E731
        x = X.astype(np.float64)
        exact = np.sum(np.sin(4 * x) + 4 * x * np.cos(4 * x))
        np.testing.assert_allclose(way(jax.grad(fun))(2.0), exact, rtol=1e-4)


def test_a_fit_ends_where_its_residuals_are_least():
    host, box = boxed(lambda x: FAR + np.sin(x))
    found = jaxfd.optim.minimize(loss(box), X)
    assert found.converged
    np.testing.assert_allclose(np.sin(found.x), DATA, atol=1e-5)
    assert host.evaluations == found.num_evaluations


OPERATIONS = [
    jnp.sin,
    lambda z: z * z,
    lambda z: jnp.sqrt(np.float32(1) + z * z),
    jax.nn.softmax,
    jnp.cumsum,
    lambda z: z[::-1] - jnp.mean(z),
    lambda z: lax.scan(lambda c, y: (c * np.float32(0.5) + y, c * y), jnp.sum(z), z)[1],
]


@given(
    before=st.lists(st.sampled_from(OPERATIONS), max_size=3),
    after=st.lists(st.sampled_from(OPERATIONS), max_size=3),
    far=st.sampled_from([0.0, 1.0, 1e3, 1e5]),
)
@settings(max_examples=8)
def test_random_programs(before, after, far):
    _, box = boxed(lambda x: far + np.sin(2 * x))

    def program(x, inner):
        for operation in before:
            x = operation(x)
        x = inner(x)
        for operation in after:
            x = operation(x)
        return jnp.sum((x - np.float32(0.3)) ** 2)

    with jax.numpy_dtype_promotion("standard"):
        found = jaxfd.grad(lambda x: program(x, lambda z: box(z) - np.float32(far)))(X)
        with x64(True):
            exact = jax.grad(lambda x: program(x, lambda z: jnp.sin(2 * z)))(X.astype(np.float64))
    np.testing.assert_allclose(found, np.asarray(exact), rtol=1e-5, atol=1e-5 * np.abs(exact).max())
