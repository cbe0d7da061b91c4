"""How often the function is evaluated, where, and what one bad point spoils."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import METHODS, Host, Points, name

import jaxfd
from jaxfd import Backward, Central, ComplexStep, Forward

N = 4
SCALAR = jax.ShapeDtypeStruct((), np.float64)


def first_order(method, transform):
    """The number of evaluations of a first derivative of N numbers."""
    nodes = {"Forward": 1, "Backward": 1, "Central": 1}.get(type(method).__name__, 0)
    moving = method.order if nodes else 1
    centre = transform != "grad" or isinstance(method, (Forward, Backward))
    return moving * N + int(centre)


# Each case: the number of evaluations, and what spends them at x along a tangent.
SECOND = {
    "hessian": (N * N + N + 1, lambda f, x: jaxfd.hessian(f)(x)),
    "hessian-Forward": (
        (N + 1) * (N + 2) // 2,
        lambda f, x: jaxfd.hessian(f, method=Forward())(x),
    ),
    "hessian-Backward": (
        (N + 1) * (N + 2) // 2,
        lambda f, x: jaxfd.hessian(f, method=Backward())(x),
    ),
    "hvp": (4 * N, lambda f, x: jaxfd.hvp(f, (x,), (x,))),
    "jvp": (3, lambda f, x: jaxfd.jvp(f, (x,), (x,))),
    "jvp-Forward": (2, lambda f, x: jaxfd.jvp(f, (x,), (x,), method=Forward())),
    "jvp-Central4": (5, lambda f, x: jaxfd.jvp(f, (x,), (x,), method=Central(4))),
    "jacobian": (2 * N, lambda f, x: jaxfd.jacobian(f)(x)),
    "estimate": (2 * N + 7, lambda f, x: jaxfd.estimate(f)(x)),
    "estimate-Central4": (4 * N + 7, lambda f, x: jaxfd.estimate(f, method=Central(4))(x)),
    "grad-bounds": (2 * N + 1, lambda f, x: jaxfd.grad(f, bounds=(0.0, 1.0))(x)),
    "grad-bounds-Forward": (
        N + 1,
        lambda f, x: jaxfd.grad(f, bounds=(0.0, 1.0), method=Forward())(x),
    ),
    "grad-chunks": (2 * N, lambda f, x: jaxfd.grad(f, chunk_size=3)(x)),
    "value_and_grad-chunks": (
        2 * N + 1,
        lambda f, x: jaxfd.value_and_grad(f, chunk_size=3)(x),
    ),
    "hessian-chunks": (N * N + N + 1, lambda f, x: jaxfd.hessian(f, chunk_size=3)(x)),
    "hook": (2 * N + 1, lambda f, x: jax.grad(jaxfd.differentiable(f))(x)),
    "hook-value": (1, lambda f, x: jaxfd.differentiable(f)(x)),
    "derivative": (2, lambda f, x: jaxfd.derivative(lambda t: f(x * t))(1.0)),
    "derivative-2": (3, lambda f, x: jaxfd.derivative(lambda t: f(x * t), 2)(1.0)),
    "derivative-3": (4, lambda f, x: jaxfd.derivative(lambda t: f(x * t), 3)(1.0)),
    "derivative-4": (5, lambda f, x: jaxfd.derivative(lambda t: f(x * t), 4)(1.0)),
}

X = np.array([0.5, 0.25, 0.75, 0.4])


@pytest.mark.parametrize("transform", ["grad", "value_and_grad"])
@pytest.mark.parametrize("method", METHODS, ids=name)
def test_traceable_first_order(method, transform):
    points = Points()

    def fun(x):
        points(x, jnp.imag(x))
        return jnp.sum(x**2)

    getattr(jaxfd, transform)(fun, method=method)(jnp.asarray(X))
    taken = points.taken()
    assert len(taken) == first_order(method, transform)
    # None is made twice.
    assert len(np.unique(taken, axis=0)) == len(taken)


@pytest.mark.parametrize("transform", ["grad", "value_and_grad"])
@pytest.mark.parametrize("vectorized", [False, True], ids=["single", "vectorized"])
@pytest.mark.parametrize("method", METHODS[:-1], ids=name)
def test_host_first_order(method, transform, vectorized):
    host = Host(lambda x: np.sum(x**2, axis=-1), vectorized)
    box = jaxfd.blackbox(host, SCALAR, vectorized=vectorized)
    getattr(jaxfd, transform)(box, method=method)(jnp.asarray(X))
    assert host.evaluations == first_order(method, transform)
    assert len(np.unique(np.concatenate(host.calls), axis=0)) == host.evaluations
    if vectorized:
        assert len(host.calls) == 1


@pytest.mark.parametrize("case", SECOND)
def test_traceable(case):
    points = Points()

    def fun(x):
        points(x)
        return jnp.sum(x**2) * x[0]

    count, run = SECOND[case]
    found = jax.block_until_ready(run(fun, jnp.asarray(X)))
    assert len(points.taken()) == count
    if "estimate" in case:
        assert found.evaluations == count


@pytest.mark.parametrize("case", [c for c in SECOND if "derivative" not in c and "hook" not in c])
def test_host(case):
    host = Host(lambda x: np.sum(x**2, axis=-1) * x[:, 0])
    box = jaxfd.blackbox(host, SCALAR, vectorized=True)
    count, run = SECOND[case]
    run(box, jnp.asarray(X))
    assert host.evaluations == count


def test_evaluations_reported_are_those_made():
    # What `Central` reports is seen in `test_traceable`.
    for method in (Forward(), Backward(3), ComplexStep()):
        points = Points()

        def fun(x, points=points):
            points(x, jnp.imag(x))
            return jnp.sum(x**2)

        result = jaxfd.estimate(fun, method=method)(jnp.asarray(X))
        assert result.evaluations == len(points.taken())


def test_auxiliary_data_cost_one_evaluation():
    points = Points()

    def fun(x):
        points(x)
        return jnp.sum(x**2), x

    jaxfd.grad(fun, has_aux=True)(jnp.asarray(X))
    assert len(points.taken()) == 2 * N + 1
    jaxfd.value_and_grad(fun, has_aux=True)(jnp.asarray(X))
    assert len(points.taken()) == 2 * N + 1


def test_complex_leaves_cost_two_directions():
    points = Points()

    def fun(z):
        points(z.real, z.imag)
        return jnp.sum(jnp.abs(z) ** 2)

    z = jnp.asarray(X + 1j)
    jaxfd.grad(fun)(z)
    assert len(points.taken()) == 4 * N
    jaxfd.grad(lambda z: fun(z).astype(np.complex128), holomorphic=True)(z)
    assert len(points.taken()) == 2 * N


def test_under_vmap_every_point_is_evaluated_once():
    points = Points()

    def fun(x):
        points(x)
        return jnp.sum(x**2)

    jax.vmap(jaxfd.value_and_grad(fun))(jnp.stack([X, X + 1, X + 2]))
    assert len(points.taken()) == 3 * (2 * N + 1)


class TestOthersStayPut:
    def test_arguments_outside_argnums(self):
        points = Points()

        def fun(x, y, *, z):
            points(y, z, x)
            return jnp.sum(x * y) + z

        y = jnp.asarray([3.0, 4.0, 5.0, 6.0])
        jaxfd.value_and_grad(fun)(jnp.asarray(X), y, z=jnp.asarray(7.0))
        taken = points.taken()
        assert len(taken) == 2 * N + 1
        np.testing.assert_array_equal(taken[:, :5], np.tile([3.0, 4.0, 5.0, 6.0, 7.0], (9, 1)))

    def test_one_coordinate_at_a_time(self):
        points = Points()

        def fun(tree):
            points(tree["a"], tree["b"])
            return jnp.sum(tree["a"]) + jnp.sum(tree["b"])

        jaxfd.grad(fun)({"a": jnp.asarray([0.5, 0.25]), "b": jnp.asarray([[0.75], [0.4]])})
        moved = points.taken() != X
        assert np.all(moved.sum(axis=1) == 1)
        np.testing.assert_array_equal(moved.sum(axis=0), [2, 2, 2, 2])

    def test_hessian_moves_at_most_two(self):
        points = Points()

        def fun(x):
            points(x)
            return jnp.sum(x**2)

        jaxfd.hessian(fun)(jnp.asarray(X))
        moved = (points.taken() != X).sum(axis=1)
        assert np.bincount(moved).tolist() == [1, 2 * N, N * (N - 1)]

    def test_large_leaves_are_perturbed_apart(self):
        """What depends on the other leaf alone is computed once, not once per point."""
        seen = Points()

        def fun(tree):
            seen(jnp.sum(tree["a"]))
            return jnp.sum(jnp.sin(tree["a"])) * jnp.sum(tree["b"])

        jaxfd.grad(fun)({"a": jnp.ones(70), "b": jnp.ones(80)})
        assert len(seen.taken()) == 2 * 70 + 1


class TestNaN:
    """A NaN stays in the coordinates it belongs to, and only there."""

    x = np.array([1.0, 2.0, 3.0])

    @staticmethod
    def fun(x):
        """NaN wherever the first entry is more than 1."""
        return jnp.sum(x**2) + jnp.where(x[0] > 1.0, jnp.nan, 0.0)

    @staticmethod
    def host(x):
        return np.sum(x**2, axis=-1) + np.where(x[..., 0] > 1.0, np.nan, 0.0)

    @pytest.mark.parametrize("chunk_size", [None, 1, 2, 4])
    @pytest.mark.parametrize("method", [Central(), Central(4), Forward(), Forward(2)], ids=name)
    def test_grad(self, method, chunk_size):
        found = jaxfd.grad(self.fun, method=method, chunk_size=chunk_size)(self.x)
        np.testing.assert_allclose(found, [np.nan, 4.0, 6.0], rtol=1e-6)

    def test_a_method_that_does_not_look_there_sees_none(self):
        found = jaxfd.grad(self.fun, method=Backward())(self.x)
        np.testing.assert_allclose(found, [2.0, 4.0, 6.0], rtol=1e-6)

    def test_with_bounds(self):
        found = jaxfd.grad(self.fun, bounds=(0.0, None))(self.x)
        np.testing.assert_allclose(found, [np.nan, 4.0, 6.0], rtol=1e-6)
        found = jaxfd.grad(self.fun, bounds=(None, self.x))(self.x)
        np.testing.assert_allclose(found, [2.0, 4.0, 6.0], rtol=1e-6)

    @pytest.mark.parametrize("vectorized", [False, True], ids=["single", "vectorized"])
    def test_black_box(self, vectorized):
        box = jaxfd.blackbox(self.host, SCALAR, vectorized=vectorized)
        for found in (jaxfd.grad(box)(self.x), jax.grad(box)(self.x)):
            np.testing.assert_allclose(found, [np.nan, 4.0, 6.0], rtol=1e-6)

    def test_estimate(self):
        result = jaxfd.estimate(self.fun)(self.x)
        np.testing.assert_allclose(result.grad, [np.nan, 4.0, 6.0], rtol=1e-6)
        np.testing.assert_array_equal(np.isnan(result.error), [True, False, False])
        assert float(result.value) == 14.0

    def test_jacobian_rows(self):
        def fun(x):
            return jnp.stack([jnp.where(x[1] > 2.0, jnp.nan, x[1]), jnp.sum(x), x[0]])

        found = jaxfd.jacobian(fun)(self.x)
        exact = [[0.0, np.nan, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
        np.testing.assert_allclose(found, exact, rtol=1e-9)

    def test_hessian(self):
        found = jaxfd.hessian(self.fun)(self.x)
        exact = 2 * np.eye(3)
        exact[0] = exact[:, 0] = np.nan
        np.testing.assert_allclose(found, exact, atol=1e-5)

    @pytest.mark.parametrize("mode", ["reverse", "forward", "recompute"])
    def test_hook(self, mode):
        found = jax.grad(jaxfd.differentiable(self.fun, mode=mode))(jnp.asarray(self.x))
        np.testing.assert_allclose(found, [np.nan, 4.0, 6.0], rtol=1e-6)

    def test_in_one_leaf_of_a_tree(self):
        tree = {"a": jnp.asarray([1.0]), "b": jnp.asarray([2.0, 3.0], np.float32)}

        def fun(tree):
            return self.fun(jnp.concatenate([tree["a"], tree["b"].astype(np.float64)]))

        found = jaxfd.grad(fun)(tree)
        assert np.isnan(found["a"]).all()
        np.testing.assert_allclose(found["b"], [4.0, 6.0], rtol=1e-3)

    def test_one_row_of_a_batch(self):
        batch = jnp.stack([self.x - 1.5, self.x, self.x - 2.0])
        found = jax.vmap(jaxfd.grad(self.fun))(batch)
        assert np.isnan(found).sum() == 1
        box = jaxfd.blackbox(self.host, SCALAR, vectorized=True)
        np.testing.assert_allclose(jax.vmap(jax.grad(box))(batch), found, rtol=1e-6)

    def test_nan_in_the_argument(self):
        found = jaxfd.grad(lambda x: jnp.sum(jnp.where(jnp.isnan(x), 0.0, x**2)))(
            jnp.asarray([np.nan, 2.0])
        )
        assert np.isnan(found[0])
        np.testing.assert_allclose(found[1], 4.0, rtol=1e-9)

    def test_infinity_is_not_hidden(self):
        found = jaxfd.grad(lambda x: jnp.where(x[0] > 1.0, jnp.inf, jnp.sum(x)))(
            jnp.asarray(self.x)
        )
        assert not np.isfinite(found[0])
        np.testing.assert_allclose(found[1:], [1.0, 1.0], rtol=1e-9)
