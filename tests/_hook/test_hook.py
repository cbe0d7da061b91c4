"""The hook: JAX's own transforms, fed by differences."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from _tools import Points, close, tolerance

import jaxfd
from jaxfd import Central, ComplexStep, Forward

X = np.array([0.3, -1.2, 2.1])
MODES = ["reverse", "forward", "recompute"]
modes = pytest.mark.parametrize("mode", MODES)
# A custom_vjp has no forward mode.
jvp_modes = pytest.mark.parametrize("mode", MODES[:2])


def loss(x):
    return jnp.sum(jnp.sin(x)) + x[0] * x[1]


gradient_of_loss = jax.jit(jax.grad(loss))
hessian_of_loss = jax.jit(jax.hessian(loss))


def vector(x):
    return jnp.stack([jnp.sin(x[0]) * x[1], jnp.cos(x[2]) + x[0] * x[0]])


jacobian_of_vector = jax.jit(jax.jacrev(vector))


@jax.jit
def jvp_of_vector(x, tangent):
    return jax.jvp(vector, (x,), (tangent,))


def tree_loss(tree, data):
    return jnp.sum(tree["a"] ** 2) * tree["b"] + jnp.sum(jnp.sin(data) * tree["b"])


class TestTransforms:
    @modes
    @pytest.mark.parametrize(
        ("method", "dtype"),
        [
            (Central(), np.float32),
            (Central(), np.float64),
            (Central(4), np.float64),
            (Forward(), np.float64),
            (ComplexStep(), np.float32),
        ],
    )
    def test_grad(self, mode, method, x, dtype):
        hooked = jaxfd.differentiable(loss, method=method, mode=mode)
        tol = 8 * tolerance(method, dtype)
        close(hooked(x), loss(x), 4 * jnp.finfo(dtype).eps)
        close(jax.grad(hooked)(x), gradient_of_loss(x), tol)
        value, gradient = jax.jit(jax.value_and_grad(hooked))(x)
        close(value, loss(x), 4 * jnp.finfo(dtype).eps)
        close(gradient, gradient_of_loss(x), tol)

    @jvp_modes
    def test_jvp(self, mode, x, dtype):
        hooked = jaxfd.differentiable(vector, mode=mode)
        tangent = jnp.asarray([1.0, 0.5, -2.0], dtype)
        exact = jvp_of_vector(x, tangent)
        close(jax.jvp(hooked, (x,), (tangent,)), exact, 8 * tolerance(Central(), dtype))

    @modes
    def test_jacrev_and_vjp(self, mode, x, dtype):
        hooked = jaxfd.differentiable(vector, mode=mode)
        tol = 8 * tolerance(Central(), dtype)
        close(jax.jacrev(hooked)(x), jacobian_of_vector(x), tol)
        value, pull = jax.vjp(hooked, x)
        ct = jnp.asarray([2.0, -1.0], dtype)
        close(value, vector(x), 4 * jnp.finfo(dtype).eps)
        close(pull(ct), (ct @ jacobian_of_vector(x),), 2 * tol)

    @jvp_modes
    def test_jacfwd(self, mode, x, dtype):
        hooked = jaxfd.differentiable(vector, mode=mode)
        close(jax.jacfwd(hooked)(x), jacobian_of_vector(x), 8 * tolerance(Central(), dtype))

    @pytest.mark.parametrize(
        "hessian",
        [
            jax.hessian,
            lambda f: jax.jacfwd(jax.jacrev(f)),
            lambda f: jax.jacfwd(jax.jacfwd(f)),
            lambda f: jax.jacrev(jax.jacrev(f)),
            lambda f: jax.jit(jax.hessian(f)),
        ],
        ids=["hessian", "fwd-rev", "fwd-fwd", "rev-rev", "jit"],
    )
    def test_hessian(self, hessian):
        hooked = jaxfd.differentiable(loss)
        found = hessian(hooked)(jnp.asarray(X))
        np.testing.assert_allclose(found, hessian_of_loss(X), atol=1e-5)

    def test_hessian_vector_product(self):
        hooked = jaxfd.differentiable(loss)
        x, v = jnp.asarray(X), jnp.asarray([1.0, 0.5, -2.0])
        exact = hessian_of_loss(x) @ v
        np.testing.assert_allclose(jax.jvp(jax.grad(hooked), (x,), (v,))[1], exact, atol=1e-5)
        found = jax.grad(lambda x: jnp.vdot(jax.grad(hooked)(x), v))(x)
        np.testing.assert_allclose(found, exact, atol=1e-5)

    @modes
    def test_vmap(self, mode):
        hooked = jaxfd.differentiable(loss, mode=mode)
        batch = jnp.stack([X, X + 0.5])
        exact = jax.vmap(gradient_of_loss)(batch)
        np.testing.assert_allclose(jax.vmap(jax.grad(hooked))(batch), exact, rtol=1e-7)
        np.testing.assert_allclose(
            jax.jit(jax.grad(lambda b: jnp.sum(jax.vmap(hooked)(b))))(batch), exact, rtol=1e-7
        )
        nested = jax.vmap(jax.vmap(jax.grad(hooked)))(jnp.stack([batch, batch + 1]))
        np.testing.assert_allclose(nested[0], exact, rtol=1e-7)

    @modes
    def test_vmap_over_one_of_two_arguments(self, mode):
        def fun(x, scale):
            return scale * loss(x)

        hooked = jaxfd.differentiable(fun, mode=mode)
        x, scales = jnp.asarray(X), jnp.asarray([1.0, 2.0])
        for argnums in (0, 1, (0, 1)):
            found = jax.vmap(jax.grad(hooked, argnums), (None, 0))(x, scales)
            exact = jax.jit(jax.vmap(jax.grad(fun, argnums), (None, 0)))(x, scales)
            close(found, exact, 1e-7)

    @modes
    def test_scan(self, mode):
        def run(step):
            def total(x):
                final, _ = jax.lax.scan(lambda c, _: (step(c), None), x, length=3)
                return jnp.sum(final)

            return total

        def step(x):
            return jnp.sin(x) + 0.5 * x[::-1]

        hooked = jaxfd.differentiable(step, mode=mode)
        x = jnp.asarray(X)
        close(jax.jit(jax.grad(run(hooked)))(x), jax.jit(jax.grad(run(step)))(x), 1e-7)

    @jvp_modes
    def test_linearize(self, mode):
        hooked = jaxfd.differentiable(vector, mode=mode)
        x, v = jnp.asarray(X), jnp.asarray([1.0, 0.5, -2.0])
        value, linear = jax.linearize(hooked, x)
        np.testing.assert_allclose(value, vector(x))
        for tangent in (v, 2 * v):
            exact = jvp_of_vector(x, tangent)[1]
            np.testing.assert_allclose(linear(tangent), exact, rtol=1e-7)
        (row,) = jax.linear_transpose(linear, x)(jnp.asarray([1.0, 0.0]))
        np.testing.assert_allclose(row, jacobian_of_vector(x)[0], atol=1e-8)

    @modes
    def test_checkpoint(self, mode):
        hooked = jax.checkpoint(jaxfd.differentiable(loss, mode=mode))
        close(jax.jit(jax.grad(hooked))(X), gradient_of_loss(X), 1e-7)

    @modes
    def test_amid_other_functions(self, mode):
        """Only the hooked part is differenced; the chain rule does the rest."""

        def model(x, inner):
            return jnp.sum(jnp.exp(inner(jnp.tanh(x)))) * x[0]

        hooked = jaxfd.differentiable(vector, mode=mode)
        x = jnp.asarray(X)
        found = jax.jit(jax.grad(lambda x: model(x, hooked)))(x)
        close(found, jax.jit(jax.grad(lambda x: model(x, vector)))(x), 1e-7)

    @modes
    def test_where_automatic_differentiation_sees_nothing(self, mode):
        def hard(x):
            return jnp.mean((x > jnp.linspace(0.0, 1.0, 101)).astype(np.float64))

        assert jax.grad(hard)(0.505) == 0
        hooked = jaxfd.differentiable(hard, method=Central(step=0.1), mode=mode)
        np.testing.assert_allclose(jax.grad(hooked)(0.505), 100 / 101, rtol=0.02)

    def test_stack_of_hooks(self):
        inner = jaxfd.differentiable(jnp.sin)
        outer = jaxfd.differentiable(lambda x: inner(x) ** 2)
        np.testing.assert_allclose(jax.grad(outer)(0.4), np.sin(0.8), rtol=1e-8)

    def test_jaxfd_of_a_hooked_function(self):
        hooked = jaxfd.differentiable(loss)
        close(jaxfd.grad(hooked)(X), gradient_of_loss(X), 1e-8)
        found = jaxfd.hessian(hooked)(X)
        np.testing.assert_allclose(found, hessian_of_loss(X), atol=1e-5)

    def test_the_function_keeps_its_name(self):
        def wave(x):
            """What it says."""
            return jnp.sin(x)

        hooked = jaxfd.differentiable(wave)
        assert hooked.__name__ == "wave"
        assert hooked.__doc__ == "What it says."


class TestTreesAndArguments:
    @modes
    def test_trees_and_kwargs(self, mode):
        def fun(tree, *, scale):
            return {"total": scale * jnp.sum(tree["a"] ** 2), "b": jnp.sin(tree["b"]) * scale}

        def total(inner):
            def run(tree, scale):
                out = inner(tree, scale=scale)
                return out["total"] + 3 * jnp.sum(out["b"])

            return run

        hooked = jaxfd.differentiable(fun, mode=mode)
        tree = {"a": jnp.asarray([1.0, 2.0]), "b": jnp.asarray(0.5), "c": None}
        for argnums in (0, 1, (0, 1)):
            found = jax.grad(total(hooked), argnums)(tree, 2.0)
            close(found, jax.jit(jax.grad(total(fun), argnums))(tree, 2.0), 1e-7)

    @modes
    def test_mixed_dtypes(self, mode):
        def fun(tree):
            return jnp.sum(tree["low"].astype(np.float64) ** 2) * tree["high"]

        tree = {"low": jnp.asarray([1.0, 2.0], np.float32), "high": jnp.asarray(3.0)}
        hooked = jaxfd.differentiable(fun, mode=mode)
        close(jax.grad(hooked)(tree), jax.jit(jax.grad(fun))(tree), 2e-3)

    @modes
    def test_what_is_no_array(self, mode):
        def fun(x, power, word, act, index):
            return jnp.sum(act(x) ** power) * len(word) + x[index]

        hooked = jaxfd.differentiable(fun, mode=mode)
        rest = (2, "ab", jnp.sin, jnp.asarray(1))
        x = jnp.asarray(X)
        close(jax.grad(hooked)(x, *rest), jax.grad(fun)(x, *rest), 1e-7)
        close(jax.grad(hooked)(x, 3, *rest[1:]), jax.grad(fun)(x, 3, *rest[1:]), 1e-7)

    @modes
    def test_integer_output_beside_a_real_one(self, mode):
        def fun(x):
            return jnp.sum(x**2), jnp.argmax(x)

        hooked = jaxfd.differentiable(fun, mode=mode)
        gradient, index = jax.grad(hooked, has_aux=True)(jnp.asarray(X))
        np.testing.assert_allclose(gradient, 2 * X, rtol=1e-8)
        assert int(index) == 2

    @modes
    def test_scalar_arguments_of_python(self, mode):
        hooked = jaxfd.differentiable(lambda x, y: x * y**2, mode=mode)
        found = jax.grad(hooked, (0, 1))(2.0, 3.0)
        np.testing.assert_allclose(found, (9.0, 12.0), rtol=1e-8)

    @modes
    def test_large_output(self, mode):
        weights = np.random.default_rng(0).normal(size=(500, 3))
        hooked = jaxfd.differentiable(lambda x: jnp.sin(weights @ x), mode=mode)
        x = jnp.asarray(X)
        found = jax.grad(lambda x: jnp.sum(hooked(x) ** 2))(x)
        exact = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(weights @ x) ** 2)))(x)
        close(found, exact, 1e-6)

    @pytest.mark.parametrize(
        "dtype", [np.complex64, np.complex128], ids=["complex64", "complex128"]
    )
    @modes
    def test_complex_leaves(self, mode, dtype):
        z = jnp.asarray([0.3 + 0.4j, -1.1 + 0.2j], dtype)

        def fun(z):
            return jnp.sum(jnp.abs(z) ** 2) + (z[0] * z[1] ** 2).imag

        hooked = jaxfd.differentiable(fun, mode=mode)
        exact = jax.jit(jax.grad(fun))(z)
        close(jax.grad(hooked)(z), exact, 20 * tolerance(Central(), np.finfo(dtype).dtype))

    @modes
    def test_complex_outputs(self, mode):
        def fun(x):
            return jax.lax.complex(x[0] * x[1], jnp.sin(x[2]) * x)

        def total(inner):
            return lambda x: jnp.sum(jnp.abs(inner(x)) ** 2)

        hooked = jaxfd.differentiable(fun, mode=mode)
        x = jnp.asarray(X)
        close(jax.grad(total(hooked))(x), jax.jit(jax.grad(total(fun)))(x), 1e-6)

    @jvp_modes
    def test_complex_jvp(self, mode):
        z, v = jnp.asarray([0.3 + 0.4j, -1.1 + 0.2j]), jnp.asarray([1.0 - 2.0j, 0.5j])

        def fun(z):
            return z * jnp.conj(z[0]) + z**2

        hooked = jaxfd.differentiable(fun, mode=mode)
        exact = jax.jit(lambda z: jax.jvp(fun, (z,), (v,)))(z)
        close(jax.jvp(hooked, (z,), (v,)), exact, 1e-8)

    @modes
    def test_empty_and_size_zero(self, mode):
        def fun(tree):
            return jnp.sum(tree["x"]) ** 2 + jnp.sum(tree["none"])

        tree = {"x": jnp.asarray([1.0, 2.0]), "none": jnp.zeros((0, 2)), "e": ()}
        hooked = jaxfd.differentiable(fun, mode=mode)
        close(jax.grad(hooked)(tree), jax.jit(jax.grad(fun))(tree), 1e-8)

    @modes
    def test_step_as_a_tree_like_the_argument(self, mode):
        method = Central(step={"a": 1e-3, "b": jnp.asarray([1e-2, 1e-4])})
        hooked = jaxfd.differentiable(
            lambda t: t["a"] ** 2 * jnp.sum(t["b"]), method=method, mode=mode
        )
        tree = {"a": jnp.asarray(2.0), "b": jnp.asarray([1.0, 2.0])}
        found = jax.grad(hooked)(tree)
        close(found, {"a": jnp.asarray(12.0), "b": jnp.asarray([4.0, 4.0])}, 1e-7)

    def test_method_built_inside_jit(self):
        @jax.jit
        def run(x, step):
            return jax.grad(jaxfd.differentiable(lambda x: x**3, method=Central(step=step)))(x)

        np.testing.assert_allclose(run(2.0, 0.5), 12.25, rtol=1e-12)


class TestEvaluations:
    DATA = np.random.default_rng(0).normal(size=(100, 3))

    @staticmethod
    def fun(points):
        def run(params, data):
            points(params)
            return jnp.mean((data @ params[:3] + params[3]) ** 2)

        return run

    @pytest.mark.parametrize(("mode", "count"), [("reverse", 9), ("forward", 9), ("recompute", 9)])
    def test_data_are_not_perturbed(self, mode, count):
        """Four parameters beside 300 numbers of data: nine points, not 609."""
        points = Points()
        hooked = jaxfd.differentiable(self.fun(points), mode=mode)
        params = jnp.asarray([0.1, 0.2, 0.3, 0.4])
        for run in (jax.value_and_grad(hooked), jax.jit(jax.value_and_grad(hooked))):
            _, gradient = run(params, jnp.asarray(self.DATA))
            assert len(points.taken()) == count
        exact = jax.jit(jax.grad(self.fun(lambda x: None)))(params, self.DATA)
        np.testing.assert_allclose(gradient, exact, rtol=1e-7)

    @modes
    def test_data_inside_one_tree_with_parameters(self, mode):
        points = Points()

        def fun(batch):
            points(batch["w"])
            return jnp.sum(batch["data"] @ batch["w"])

        hooked = jaxfd.differentiable(fun, mode=mode)
        data = jnp.asarray(self.DATA)
        jax.value_and_grad(lambda w: hooked({"w": w, "data": data}))(jnp.ones(3))
        assert len(points.taken()) == 7

    @modes
    def test_values_cost_one_evaluation(self, mode):
        points = Points()
        hooked = jaxfd.differentiable(self.fun(points), mode=mode)
        params = jnp.ones(4)
        for run in (hooked, jax.jit(hooked)):
            jax.block_until_ready(run(params, jnp.asarray(self.DATA)))
            assert len(points.taken()) == 1

    def test_a_line_search_asks_for_values_only(self):
        points = Points()
        hooked = jaxfd.differentiable(self.fun(points))
        data = jnp.asarray(self.DATA)

        def search(params, slope):
            def unfinished(state):
                return hooked(params - state * slope, data) > hooked(params, data)

            return jax.lax.while_loop(unfinished, lambda t: t / 2, 1e-3)

        params = jnp.ones(4)
        jax.block_until_ready(jax.jit(search)(params, jax.grad(hooked)(params, data)))
        # Eight and the centre for the gradient; two values for the only test of the loop.
        assert len(points.taken()) == 9 + 2

    @pytest.mark.parametrize("count", [1, 2])
    def test_forward_mode_costs_two_points_per_tangent(self, count):
        points = Points()

        def fun(x):
            points(x)
            return jnp.sin(x)

        hooked = jaxfd.differentiable(fun, mode="forward")
        x = jnp.linspace(0.0, 1.0, 20)
        tangents = jnp.eye(20)[:count]
        _, push = jax.linearize(hooked, x)
        points.taken()
        jax.vmap(push)(tangents)
        assert len(points.taken()) == 2 * count

    def test_reverse_mode_is_one_batch_for_any_number_of_tangents(self):
        points = Points()

        def fun(x):
            points(x)
            return jnp.sin(x)

        jax.block_until_ready(jax.jit(jax.jacfwd(jaxfd.differentiable(fun)))(jnp.ones(4)))
        assert len(points.taken()) == 9

    def test_nondiff_argnums(self):
        points = Points()

        def fun(x, data, y):
            points(x, y)
            return jnp.sum(x**2) * jnp.sum(data) + y

        x, data = jnp.asarray([1.0, 2.0]), jnp.ones(3)
        for position in (1, -2):
            hooked = jaxfd.differentiable(fun, nondiff_argnums=(position,))
            gradients = jax.grad(hooked, (0, 1, 2))(x, data, 0.5)
            assert len(points.taken()) == 2 * 3 + 1
            np.testing.assert_allclose(gradients[0], 6 * x, rtol=1e-8)
            np.testing.assert_array_equal(gradients[1], np.zeros(3))
            np.testing.assert_allclose(gradients[2], 1.0, rtol=1e-8)

    @modes
    def test_nothing_to_differentiate(self, mode):
        points = Points()

        def fun(x, y):
            points(x)
            return jnp.sum(x) * y

        hooked = jaxfd.differentiable(fun, mode=mode, nondiff_argnums=(0, 1))
        gradient = jax.grad(hooked)(jnp.ones(3), 2.0)
        np.testing.assert_array_equal(gradient, np.zeros(3))
        assert len(points.taken()) == 1


class TestOptax:
    """Loops as users write them, on a quadratic whose minimum is known."""

    target = np.array([1.0, -2.0, 0.5])

    @pytest.fixture(autouse=True)
    def _promotion(self):
        """Optax counts in 32 bits beside numbers of 64."""
        with jax.numpy_dtype_promotion("standard"):
            yield

    def loss(self, x):
        return jnp.sum((x - self.target) ** 2) + 0.1 * jnp.sum((x - self.target) ** 4)

    @modes
    def test_adam(self, mode):
        hooked = jaxfd.differentiable(self.loss, mode=mode)
        solver = optax.adam(0.1)

        @jax.jit
        def run(x):
            def step(carry, _):
                x, state = carry
                value, slope = jax.value_and_grad(hooked)(x)
                updates, state = solver.update(slope, state, x)
                return (optax.apply_updates(x, updates), state), value

            return jax.lax.scan(step, (x, solver.init(x)), length=300)

        (x, _), values = run(jnp.zeros(3))
        np.testing.assert_allclose(x, self.target, atol=1e-3)
        assert values[-1] < 1e-5 * values[0]

    @pytest.mark.parametrize("make", [jaxfd.differentiable, None], ids=["hook", "black box"])
    def test_lbfgs_with_its_line_search(self, make):
        if make is None:
            fun = jaxfd.blackbox(
                lambda x: np.sum((x - self.target) ** 2) + 0.1 * np.sum((x - self.target) ** 4),
                jax.ShapeDtypeStruct((), np.float64),
            )
        else:
            fun = make(self.loss)
        solver = optax.lbfgs()
        value_and_grad = optax.value_and_grad_from_state(fun)

        @jax.jit
        def step(x, state):
            value, slope = value_and_grad(x, state=state)
            updates, state = solver.update(slope, state, x, value=value, grad=slope, value_fn=fun)
            return optax.apply_updates(x, updates), state

        x = jnp.zeros(3)
        state = solver.init(x)
        for _ in range(12):
            x, state = step(x, state)
        np.testing.assert_allclose(x, self.target, atol=1e-5)


class TestImpossible:
    """What JAX's nesting makes impossible says which call to use instead."""

    hook = r"through jaxfd's hook"

    def test_third_derivative(self):
        hooked = jaxfd.differentiable(lambda x: x**3)
        with pytest.raises(TypeError, match=r"third derivative.*jaxfd\.derivative\(fun, order=3\)"):
            jax.grad(jax.grad(jax.grad(hooked)))(1.0)

    def test_second_derivative_in_forward_mode(self):
        hooked = jaxfd.differentiable(lambda x: x**3, mode="forward")
        for second in (
            jax.grad(jax.grad(hooked)),
            lambda x: jax.jvp(jax.grad(hooked), (x,), (x,)),
            jax.jacfwd(jax.jacfwd(hooked)),
        ):
            with pytest.raises(
                TypeError, match=r'second derivative.*mode="reverse".*jaxfd\.hessian'
            ):
                second(1.0)

    def test_second_derivative_in_recompute_mode(self):
        hooked = jaxfd.differentiable(lambda x: x**3, mode="recompute")
        with pytest.raises(TypeError, match=r'second derivative.*mode="reverse".*jaxfd\.hessian'):
            jax.grad(jax.grad(hooked))(1.0)

    @pytest.mark.parametrize("outer", [jax.grad, jax.jacfwd, lambda f: jax.jit(jax.grad(f))])
    def test_jax_grad_of_an_estimate_of_a_black_box(self, outer):
        box = jaxfd.blackbox(lambda x: np.float64(x**3), jax.ShapeDtypeStruct((), np.float64))
        with pytest.raises(TypeError, match=r"jaxfd\.hessian"):
            outer(jaxfd.grad(box))(1.0)

    def test_third_derivative_of_a_black_box(self):
        box = jaxfd.blackbox(lambda x: np.float64(x**3), jax.ShapeDtypeStruct((), np.float64))
        with pytest.raises(TypeError, match=r"jaxfd\.derivative"):
            jax.grad(jax.grad(jax.grad(box)))(1.0)

    @modes
    def test_complex_step_where_the_imaginary_part_is_dropped(self, mode):
        """And not a gradient of zero."""
        hooked = jaxfd.differentiable(
            lambda x: jnp.sum(jnp.abs(x) ** 2), method=ComplexStep(), mode=mode
        )
        for run in (jax.grad(hooked), jax.jit(jax.grad(hooked))):
            with pytest.raises(TypeError, match=r"ComplexStep.*Central\(\)"):
                run(jnp.asarray(X))

    def test_a_second_derivative_in_forward_mode_is_not_that_of_another_kind(self):
        """Automatic differentiation of the differences would find 0 on every step of a stair."""
        hooked = jaxfd.differentiable(
            lambda x: jnp.floor(1000 * x**2) / 1000, method=Central(step=0.1), mode="forward"
        )
        with pytest.raises(TypeError, match="second derivative"):
            jax.hessian(hooked)(1.0)

    def test_forward_mode_of_recompute(self):
        hooked = jaxfd.differentiable(lambda x: x**2, mode="recompute")
        with pytest.raises(TypeError, match=r"forward-mode"):
            jax.jvp(hooked, (1.0,), (1.0,))
