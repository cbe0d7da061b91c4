"""Black boxes: host functions inside JAX, one call per estimate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import REAL_METHODS, Host, close, name, rate, tolerance

import jaxfd
from jaxfd import Central, Forward

SCALAR = jax.ShapeDtypeStruct((), np.float64)
X = np.array([0.3, -1.2, 2.1])


def host_loss(x):
    return np.sin(x).sum(-1) + x[..., 0] * x[..., 1]


def loss(x):
    return jnp.sum(jnp.sin(x)) + x[0] * x[1]


def host_vector(x):
    return np.stack([np.sin(x[..., 0]) * x[..., 1], np.cos(x[..., 2]) + x[..., 0] ** 2], -1)


def vector(x):
    return jnp.stack([jnp.sin(x[0]) * x[1], jnp.cos(x[2]) + x[0] * x[0]])


gradient_of_loss = jax.jit(jax.grad(loss))
hessian_of_loss = jax.jit(jax.hessian(loss))
jacobian_of_vector = jax.jit(jax.jacrev(vector))
VECTOR = jax.ShapeDtypeStruct((2,), np.float64)
MODES = ["reverse", "forward", "recompute"]
both = pytest.mark.parametrize("vectorized", [False, True], ids=["single", "vectorized"])


class TestValues:
    @both
    def test_call(self, vectorized):
        box = jaxfd.blackbox(host_vector, VECTOR, vectorized=vectorized)
        for run in (box, jax.jit(box)):
            close(run(jnp.asarray(X)), vector(jnp.asarray(X)), 1e-14)
        batch = jnp.stack([X, X + 1])
        close(jax.jit(jax.vmap(box))(batch), jax.vmap(vector)(batch), 1e-14)

    @both
    @pytest.mark.parametrize("method", REAL_METHODS, ids=name)
    def test_jaxfd(self, method, vectorized):
        x = jnp.asarray(X)
        tol = 4 * tolerance(method, np.float64)
        box = jaxfd.blackbox(host_loss, SCALAR, vectorized=vectorized)
        close(jaxfd.grad(box, method=method)(x), gradient_of_loss(x), tol)
        value, gradient = jax.jit(jaxfd.value_and_grad(box, method=method))(x)
        close(value, loss(x), 1e-14)
        close(gradient, gradient_of_loss(x), tol)

    @both
    def test_jacobian_and_jvp(self, vectorized):
        box = jaxfd.blackbox(host_vector, VECTOR, vectorized=vectorized)
        x, v = jnp.asarray(X), jnp.asarray([1.0, 0.5, -2.0])
        exact = jacobian_of_vector(x)
        for found in (jaxfd.jacobian(box)(x), jax.jacrev(box)(x), jax.jacfwd(box)(x)):
            close(found, exact, 1e-8)
        exact = jax.jvp(vector, (x,), (v,))
        close(jaxfd.jvp(box, (x,), (v,)), exact, 1e-8)
        close(jax.jvp(box, (x,), (v,)), exact, 1e-8)

    @both
    def test_second_derivatives(self, vectorized):
        box = jaxfd.blackbox(host_loss, SCALAR, vectorized=vectorized)
        x, v = jnp.asarray(X), jnp.asarray([1.0, 0.5, -2.0])
        exact = hessian_of_loss(x)
        for hessian in (jaxfd.hessian(box), jax.hessian(box), jax.jit(jax.hessian(box))):
            np.testing.assert_allclose(hessian(x), exact, atol=1e-5)
        np.testing.assert_allclose(jaxfd.hvp(box, (x,), (v,)), exact @ v, atol=1e-5)
        np.testing.assert_allclose(jax.jvp(jax.grad(box), (x,), (v,))[1], exact @ v, atol=1e-5)
        batch = jnp.stack([x, x + 0.5])
        truth = jax.vmap(hessian_of_loss)(batch)
        np.testing.assert_allclose(jax.jit(jax.vmap(jaxfd.hessian(box)))(batch), truth, atol=1e-5)

    @pytest.mark.parametrize("method", [Forward(2), Central(), Central(4)], ids=name)
    def test_hessian_converges(self, method):
        box = jaxfd.blackbox(lambda x: np.exp(0.8 * x[0] + 0.5 * x[1]), SCALAR)
        x = jnp.asarray([0.4, 0.7])
        exact = jnp.exp(0.8 * x[0] + 0.5 * x[1]) * jnp.asarray([[0.64, 0.4], [0.4, 0.25]])

        def error(h):
            step = type(method)(order=method.order, step=h)
            return float(jnp.max(jnp.abs(jaxfd.hessian(box, method=step)(x) - exact)))

        steps = np.array([1.0, 0.8, 0.64, 0.5]) * (0.2 if isinstance(method, Central) else 0.05)
        assert rate(steps, [error(h) for h in steps]) == pytest.approx(method.order, abs=0.3)

    def test_derivative(self):
        box = jaxfd.blackbox(lambda t: np.exp(0.5 * t), SCALAR)
        for order in (1, 2, 3):
            found = jaxfd.derivative(box, order)(0.4)
            np.testing.assert_allclose(found, 0.5**order * np.exp(0.2), rtol=1e-3)

    def test_estimate(self):
        result = jax.jit(jaxfd.estimate(jaxfd.blackbox(host_loss, SCALAR)))(X)
        exact = gradient_of_loss(jnp.asarray(X))
        assert result.evaluations == 13
        assert np.all(np.abs(result.grad - exact) <= result.error)
        np.testing.assert_allclose(
            result.step, np.finfo(float).eps ** (1 / 3) * np.maximum(1, abs(X))
        )

    @pytest.mark.parametrize("mode", MODES)
    def test_modes(self, mode):
        host = Host(host_loss, vectorized=False)
        box = jaxfd.blackbox(host, SCALAR, mode=mode)
        x = jnp.asarray(X)
        close(jax.jit(jax.grad(box))(x), gradient_of_loss(x), 1e-8)
        batch = jnp.stack([x, x + 1])
        close(jax.vmap(jax.grad(box))(batch), jax.vmap(gradient_of_loss)(batch), 1e-8)

    @both
    @pytest.mark.parametrize("mode", MODES)
    def test_jacobians_in_every_mode(self, mode, vectorized):
        box = jaxfd.blackbox(host_vector, VECTOR, mode=mode, vectorized=vectorized)
        batch = jnp.stack([X, X + 1])
        exact = jax.vmap(jacobian_of_vector)(batch)
        close(jax.jit(jax.vmap(jax.jacrev(box)))(batch), exact, 1e-8)
        if mode != "recompute":
            close(jax.jit(jax.vmap(jax.jacfwd(box)))(batch), exact, 1e-8)

    @both
    def test_products_over_many_tangents(self, vectorized):
        host = Host(host_loss, vectorized)
        box = jaxfd.blackbox(host, SCALAR, vectorized=vectorized)
        x, tangents = jnp.asarray(X), jnp.eye(3)
        _, slopes = jax.vmap(lambda v: jaxfd.jvp(box, (x,), (v,)))(tangents)
        close(slopes, gradient_of_loss(x), 1e-8)
        assert host.evaluations == 3 * 3
        rows = jax.vmap(lambda v: jaxfd.hvp(box, (x,), (v,)))(tangents)
        np.testing.assert_allclose(rows, hessian_of_loss(x), atol=1e-5)

    def test_recompute_of_a_vector(self):
        box = jaxfd.blackbox(host_vector, VECTOR, mode="recompute", vectorized=True)
        found = jax.grad(lambda x: jnp.sum(box(x) ** 2))(jnp.asarray(X))
        exact = jax.jit(jax.grad(lambda x: jnp.sum(vector(x) ** 2)))(X)
        close(found, exact, 1e-7)

    def test_own_method(self):
        host = Host(host_loss, vectorized=False)
        box = jaxfd.blackbox(host, SCALAR, method=Forward(step=1e-3))
        jax.grad(box)(X)
        assert host.evaluations == 4
        moved = np.concatenate(host.calls) - X
        np.testing.assert_allclose(moved.max(axis=0), 1e-3, rtol=1e-9)
        host.taken()
        jaxfd.grad(box)(X)
        assert host.evaluations == 6


either = pytest.mark.parametrize(
    "transform", [jaxfd.value_and_grad, jax.value_and_grad], ids=["jaxfd", "jax"]
)
outside = pytest.mark.parametrize("outer", [lambda f: f, jax.jit], ids=["eager", "jit"])


class TestOneCall:
    """One host call per estimate, whatever JAX does around it."""

    def boxed(self):
        host = Host(host_loss)
        return host, jaxfd.blackbox(host, SCALAR, vectorized=True)

    @either
    @outside
    def test_value_and_gradient(self, transform, outer):
        host, box = self.boxed()
        outer(transform(box))(jnp.asarray(X))
        assert [len(batch) for batch in host.taken()] == [7]

    @either
    @outside
    def test_under_vmap(self, transform, outer):
        host, box = self.boxed()
        batch = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)))
        value, gradient = outer(jax.vmap(transform(box)))(batch)
        assert [len(points) for points in host.taken()] == [5 * 7]
        close(value, jax.vmap(loss)(batch), 1e-13)
        close(gradient, jax.vmap(gradient_of_loss)(batch), 1e-7)

    def test_under_nested_vmap(self):
        host, box = self.boxed()
        batch = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3)))
        for mapped in (
            jax.vmap(jax.vmap(jaxfd.value_and_grad(box))),
            jax.jit(jax.vmap(jax.vmap(jax.value_and_grad(box)), in_axes=1, out_axes=1)),
        ):
            _, gradient = mapped(batch)
            assert [len(points) for points in host.taken()] == [2 * 4 * 7]
            close(gradient, jax.vmap(jax.vmap(gradient_of_loss))(batch), 1e-7)

    def test_values_under_vmap(self):
        host, box = self.boxed()
        jax.vmap(jax.vmap(box))(jnp.ones((2, 4, 3)))
        assert [batch.shape for batch in host.taken()] == [(8, 3)]

    def test_jacobians_of_jax_are_one_call(self):
        host = Host(host_vector)
        box = jaxfd.blackbox(host, VECTOR, vectorized=True)
        for transform in (jax.jacrev, jax.jacfwd, jaxfd.jacobian):
            jax.jit(transform(box))(X)
            assert len(host.taken()) == 1

    def test_hook_value_alone(self):
        host, box = self.boxed()
        jax.jit(box)(X)
        assert [len(points) for points in host.taken()] == [1]

    def test_not_vectorized_is_a_loop_inside_one_call(self):
        host = Host(host_loss, vectorized=False)
        box = jaxfd.blackbox(host, SCALAR)
        jax.jit(jax.vmap(jax.value_and_grad(box)))(jnp.ones((5, 3)))
        assert host.evaluations == 5 * 7
        assert all(batch.shape == (1, 3) for batch in host.calls)

    def test_chunk_size_is_the_largest_batch(self):
        host, box = self.boxed()
        for chunk_size, sizes in [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (100, [7])]:
            value, gradient = jaxfd.value_and_grad(box, chunk_size=chunk_size)(X)
            assert [len(batch) for batch in host.taken()] == sizes
            np.testing.assert_allclose(value, loss(X), rtol=1e-14)
            np.testing.assert_allclose(gradient, gradient_of_loss(X), rtol=1e-8)

    def test_scan(self):
        host, box = self.boxed()

        def step(x, _):
            value, slope = jax.value_and_grad(box)(x)
            return x - 0.01 * slope, value

        x, _ = jax.jit(lambda x: jax.lax.scan(step, x, length=4))(jnp.asarray(X))
        assert [len(batch) for batch in host.taken()] == [7] * 4
        desired = jnp.asarray(X)
        for _ in range(4):
            desired = desired - 0.01 * gradient_of_loss(desired)
        np.testing.assert_allclose(x, desired, rtol=1e-8)

    def test_while_loop_and_cond(self):
        host, box = self.boxed()

        def step(state):
            i, x = state
            return i + 1, jax.lax.cond(i < 2, lambda x: x - 0.01 * jax.grad(box)(x), lambda x: x, x)

        jax.jit(lambda x: jax.lax.while_loop(lambda s: s[0] < 5, step, (0, x)))(jnp.asarray(X))
        assert [len(batch) for batch in host.taken()] == [7, 7]


class TestArguments:
    @both
    def test_trees_in_and_out(self, vectorized):
        def host(params, other):
            total = params["a"].sum(-1) * other
            return {"total": total, "parts": (params["a"] ** 2, -params["b"])}

        def model(params, other):
            return {
                "total": params["a"].sum() * other,
                "parts": (params["a"] ** 2, -params["b"]),
            }

        out = {
            "total": SCALAR,
            "parts": (
                jax.ShapeDtypeStruct((2,), np.float64),
                jax.ShapeDtypeStruct((1, 3), np.float64),
            ),
        }
        box = jaxfd.blackbox(host, out, vectorized=vectorized)
        params = {"a": jnp.asarray([1.0, 2.0]), "b": jnp.ones((1, 3))}
        args = (params, jnp.asarray(3.0))
        close(box(*args), model(*args), 1e-14)
        for argnums in (0, 1, (0, 1)):
            exact = jax.jit(jax.jacrev(model, argnums))(*args)
            close(jaxfd.jacobian(box, argnums)(*args), exact, 1e-8)
            close(jax.jacrev(box, argnums)(*args), exact, 1e-8)

    def test_data_are_handed_over_and_never_perturbed(self):
        seen = []

        def host(params, data, labels):
            seen.append((len(params), np.array(data), labels.dtype))
            return np.mean((data @ params[:, :, None])[..., 0] * labels, -1)

        data = np.random.default_rng(0).normal(size=(50, 3))
        labels = np.arange(50)
        box = jaxfd.blackbox(host, SCALAR, vectorized=True)
        found = jax.jit(jax.grad(box))(jnp.ones(3), jnp.asarray(data), jnp.asarray(labels))
        np.testing.assert_allclose(found, np.mean(data * labels[:, None], 0), rtol=1e-7)
        assert len(seen) == 1
        count, batch, kind = seen[0]
        assert count == 7
        assert np.issubdtype(kind, np.integer)
        np.testing.assert_array_equal(batch, np.broadcast_to(data, (7, 50, 3)))

    def test_unbatched_data_under_vmap(self):
        seen = []

        def host(x, data):
            seen.append((x.shape, data.shape))
            return np.sum(x * data, -1)

        box = jaxfd.blackbox(host, SCALAR, vectorized=True)
        data = jnp.asarray([1.0, 2.0, 3.0])
        found = jax.jit(jax.vmap(jax.grad(box), in_axes=(0, None)))(jnp.ones((4, 3)), data)
        np.testing.assert_allclose(found, np.tile(data, (4, 1)), rtol=1e-8)
        assert seen == [((28, 3), (28, 3))]

    @both
    def test_kwargs_and_what_is_no_array(self, vectorized):
        def host(x, power, word, *, scale, options):
            assert word == "sum"
            assert options == {"name": "n", "list": [1, None]}
            assert type(power) is int
            return getattr(np, word)(x**power, axis=-1) * scale

        box = jaxfd.blackbox(host, SCALAR, vectorized=vectorized)
        options = {"name": "n", "list": [1, None]}
        for power in (2, 3):
            value, gradient = jax.value_and_grad(box)(
                jnp.asarray(X), power, "sum", scale=2.0, options=options
            )
            np.testing.assert_allclose(value, 2 * np.sum(X**power), rtol=1e-12)
            np.testing.assert_allclose(gradient, 2 * power * X ** (power - 1), rtol=1e-7)
            found = jaxfd.grad(box)(X, power, "sum", scale=2.0, options=options)
            np.testing.assert_allclose(found, gradient, rtol=1e-9)

    def test_gradient_in_a_keyword_through_the_hook(self):
        box = jaxfd.blackbox(lambda x, *, scale: np.sum(x**2) * scale, SCALAR)
        found = jax.grad(lambda s: box(jnp.asarray(X), scale=s))(2.0)
        np.testing.assert_allclose(found, np.sum(X**2), rtol=1e-8)

    def test_out_as_a_function_of_the_shapes(self):
        def out(x, n, *, flag=None):
            assert isinstance(x, jax.ShapeDtypeStruct)
            assert flag == "yes"
            return jax.ShapeDtypeStruct((*x.shape, n), x.dtype)

        box = jaxfd.blackbox(lambda x, n, *, flag=None: np.stack([x] * n, -1) ** 2, out)
        for size, n in [(2, 3), (4, 1)]:
            x = jnp.arange(1.0, size + 1)
            assert box(x, n, flag="yes").shape == (size, n)
            found = jaxfd.jacobian(box)(x, n, flag="yes")
            exact = jax.jacrev(lambda x, n=n: jnp.stack([x] * n, -1) ** 2)(x)
            close(found, exact, 1e-7)

    def test_out_as_arrays(self):
        box = jaxfd.blackbox(lambda x: np.outer(x, x), np.zeros((3, 3)))
        assert box(X).shape == (3, 3)
        box = jaxfd.blackbox(lambda x: np.sum(x), 0.0)
        assert float(box(jnp.ones(3))) == 3.0

    @both
    def test_complex(self, vectorized):
        z = jnp.asarray([0.3 + 0.4j, -1.1 + 0.2j])

        def fun(z):
            return jnp.sum(jnp.abs(z) ** 2) + (z[0] * z[1] ** 2).imag

        def host(z):
            return np.sum(np.abs(z) ** 2, -1) + (z[..., 0] * z[..., 1] ** 2).imag

        box = jaxfd.blackbox(host, SCALAR, vectorized=vectorized)
        close(jax.grad(box)(z), jax.grad(fun)(z), 1e-7)
        close(jaxfd.grad(box)(z), jax.grad(fun)(z), 1e-7)
        batch = jnp.stack([z, 2 * z])
        close(jax.jit(jax.vmap(jaxfd.grad(box)))(batch), jax.vmap(jax.grad(fun))(batch), 1e-7)

    def test_holomorphic(self):
        box = jaxfd.blackbox(
            lambda z: np.prod(z) + z[0] ** 2, jax.ShapeDtypeStruct((), np.complex128)
        )
        z = jnp.asarray([0.3 + 0.4j, -1.1 + 0.2j])
        exact = jax.grad(lambda z: jnp.prod(z) + z[0] ** 2, holomorphic=True)(z)
        close(jaxfd.grad(box, holomorphic=True)(z), exact, 1e-8)

    def test_allow_int(self):
        box = jaxfd.blackbox(lambda t: np.sum(t["x"] ** 2) * t["n"], SCALAR)
        tree = {"x": jnp.asarray([1.0, 2.0]), "n": jnp.asarray(3)}
        found = jaxfd.grad(box, allow_int=True)(tree)
        np.testing.assert_allclose(found["x"], [6.0, 12.0], rtol=1e-8)
        assert found["n"].dtype == jax.dtypes.float0
        found = jax.grad(box, allow_int=True)(tree)
        np.testing.assert_allclose(found["x"], [6.0, 12.0], rtol=1e-8)

    def test_integer_outputs(self):
        out = (SCALAR, jax.ShapeDtypeStruct((), np.int64), jax.ShapeDtypeStruct((3,), np.bool_))
        box = jaxfd.blackbox(lambda x: (np.sum(x**2), np.argmax(x), x > 0), out)
        value, index, mask = jax.jit(box)(X)
        np.testing.assert_allclose(value, np.sum(X**2))
        assert int(index) == 2
        np.testing.assert_array_equal(mask, X > 0)
        found = jax.grad(lambda x: box(x)[0])(jnp.asarray(X))
        np.testing.assert_allclose(found, 2 * X, rtol=1e-8)

    def test_size_zero_and_empty(self):
        box = jaxfd.blackbox(lambda t: np.sum(t["a"]) + np.sum(t["b"]), SCALAR)
        tree = {"a": jnp.zeros((0, 2)), "b": jnp.ones(2), "c": None}
        for found in (jaxfd.grad(box)(tree), jax.grad(box)(tree)):
            assert found["a"].shape == (0, 2)
            np.testing.assert_allclose(found["b"], [1.0, 1.0], rtol=1e-9)
        constant = jaxfd.blackbox(lambda t: np.float64(3.0), SCALAR)
        value, gradient = jaxfd.value_and_grad(constant)({})
        assert (float(value), gradient) == (3.0, {})

    @both
    def test_nothing_but_size_zero(self, vectorized):
        box = jaxfd.blackbox(lambda x: np.sum(x, axis=(-2, -1)), SCALAR, vectorized=vectorized)
        x = jnp.zeros((0, 2))
        for transform in (jaxfd.grad, jax.grad, jaxfd.jacobian):
            assert transform(box)(x).shape == (0, 2)
        value, gradient = jaxfd.value_and_grad(box)(x)
        assert float(value) == 0.0
        assert gradient.shape == (0, 2)

    def test_numbers_of_python(self):
        box = jaxfd.blackbox(lambda x, n: float(x) ** n, SCALAR)
        np.testing.assert_allclose(jax.grad(box)(2.0, 3), 12.0, rtol=1e-8)
        box = jaxfd.blackbox(lambda x: [1, 2], [SCALAR, SCALAR])
        assert [float(v) for v in box(1.0)] == [1.0, 2.0]

    def test_name(self):
        def simulate(x):
            """Runs it."""
            return np.sum(x)

        box = jaxfd.blackbox(simulate, SCALAR)
        assert box.__name__ == "simulate"
        assert "simulate" in repr(box)
        assert box.__doc__ == "Runs it."


class TestMethodsAsValues:
    def test_mapped_steps(self):
        """Each call of a batch may have a step of its own."""
        box = jaxfd.blackbox(lambda x: x**3, SCALAR)

        def gradient(step):
            return jaxfd.grad(box, method=Central(step=step))(2.0)

        found = jax.jit(jax.vmap(gradient))(jnp.asarray([0.5, 0.25]))
        np.testing.assert_allclose(found, [12.25, 12.0625], rtol=1e-12)

    def test_mapped_bounds(self):
        box = jaxfd.blackbox(np.log, SCALAR)

        def gradient(x, lower):
            return jaxfd.grad(box, bounds=(lower, None))(x)

        x = jnp.asarray([0.5, 2.0])
        found = jax.vmap(gradient)(x, x)
        np.testing.assert_allclose(found, 1 / x, rtol=1e-7)

    def test_auxiliary_data_under_vmap(self):
        out = (SCALAR, {"double": jax.ShapeDtypeStruct((3,), np.float64)})
        box = jaxfd.blackbox(lambda x: (host_loss(x), {"double": 2 * x}), out)
        batch = jnp.stack([X, X + 1])
        (value, aux), gradient = jax.vmap(jaxfd.value_and_grad(box, has_aux=True))(batch)
        close(value, jax.vmap(loss)(batch), 1e-13)
        close(aux, {"double": 2 * batch}, 0)
        close(gradient, jax.vmap(gradient_of_loss)(batch), 1e-8)

    def test_two_boxes_of_one_function_do_not_mix(self):
        @dataclasses.dataclass
        class Model:
            factor: float

            def run(self, x):
                return self.factor * np.sum(x)

        one, two = (jaxfd.blackbox(Model(f).run, SCALAR) for f in (1.0, 2.0))
        both = jax.jit(lambda x: (jax.grad(one)(x), jax.grad(two)(x)))(jnp.ones(2))
        np.testing.assert_allclose(both, [[1.0, 1.0], [2.0, 2.0]], rtol=1e-9)
