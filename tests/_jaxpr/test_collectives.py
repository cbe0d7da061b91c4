"""Collectives: refused where they mix what moves, let pass where they do no harm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from _tools import run_python
from jax import lax

import jaxfd

XS = np.array([[1.0, 2.0], [3.0, 7.0]])


def mapped(fun, transform=jaxfd.grad, dtype=np.float64):
    return jax.vmap(transform(fun), axis_name="i")(jnp.asarray(XS, dtype))


MIXED = {
    "pmean": ("psum (or pmean)", lambda w: jnp.sum((w - lax.pmean(w, "i")) ** 2)),
    "pmax": ("pmax", lambda w: jnp.sum(lax.pmax(w, "i"))),
    "all_gather": ("all_gather", lambda w: jnp.sum(lax.all_gather(w, "i"))),
    "ppermute": ("ppermute", lambda w: lax.ppermute(w, "i", [(0, 1), (1, 0)])[0]),
    "psum_scatter": ("psum_scatter", lambda w: lax.psum_scatter(w, "i")),
    "all_to_all": ("all_to_all", lambda w: jnp.sum(lax.all_to_all(w, "i", 0, 0) ** 2)),
    "behind a stop": ("psum", lambda w: jnp.sum(w * lax.psum(lax.stop_gradient(w), "i"))),
    "in a call": ("psum", lambda w: jnp.sum(jax.jit(lambda v: lax.psum(v, "i"))(w))),
    "in remat": ("psum", lambda w: jnp.sum(jax.checkpoint(lambda v: lax.psum(v, "i"))(w))),
    "in a scan": (
        "psum",
        lambda w: lax.scan(lambda c, _: (lax.pmean(c, "i"), 0), w, length=2)[0][0],
    ),
    "in a branch": (
        "psum",
        lambda w: lax.cond(w[0] > 0, lambda v: lax.psum(v, "i"), lambda v: v, w)[0],
    ),
    "decides a loop": (
        "pmax",
        lambda w: lax.while_loop(lambda c: lax.pmax(c, "i") < 9.0, lambda c: c * 2, w[0]),
    ),
}


class TestRefused:
    @pytest.mark.parametrize("case", MIXED)
    def test_what_moves_is_mixed(self, case):
        name, fun = MIXED[case]
        with pytest.raises(TypeError, match=r"along the axis 'i'") as raised:
            mapped(fun)
        assert f"applies {name}" in str(raised.value)

    @pytest.mark.parametrize(
        "transform",
        [
            jaxfd.hessian,
            jaxfd.estimate,
            lambda f: jax.grad(jaxfd.differentiable(f)),
            lambda f: jax.grad(jaxfd.differentiable(f, mode="recompute")),
            lambda f: lambda w: jaxfd.jvp(f, (w,), (w,), bounds=(0.0, 9.0)),
            lambda f: jaxfd.grad(f, method=jaxfd.SPSA(jax.random.key(0), 4)),
            lambda f: jax.jit(jaxfd.grad(f, method=jaxfd.Adaptive())),
            lambda f: jaxfd.grad(f, method=jaxfd.ComplexStep()),
        ],
    )
    def test_by_every_transform(self, transform):
        with pytest.raises(TypeError, match="axis 'i'"):
            mapped(lambda w: jnp.sum((w - lax.pmean(w, "i")) ** 2), transform)

    def test_by_per_sample(self):
        matmul = jaxfd.layer(jnp.matmul)
        loss = jaxfd.per_sample(lambda w, x: jnp.mean(lax.pmean(matmul(x, w), "i") ** 2))
        with pytest.raises(TypeError, match="axis 'i'"):
            jax.vmap(jax.grad(loss), (0, None), axis_name="i")(jnp.asarray(XS), jnp.ones((3, 2)))

    def test_around_a_black_box(self):
        box = jaxfd.blackbox(lambda w: np.sum(w**2), jax.ShapeDtypeStruct((), np.float64))
        with pytest.raises(TypeError, match="axis 'i'"):
            mapped(lambda w: box(lax.pmean(w, "i")))


def number(w):
    """Which member it is."""
    return lax.axis_index("i").astype(w.dtype)


HARMLESS = {
    "index": (lambda w: jnp.sum(w**2) * (number(w) + 1), [[2, 4], [12, 28]]),
    "size": (lambda w: jnp.sum(w**2) / lax.psum(1, "i"), [[1, 2], [3, 7]]),
    "of another": (
        lambda w: jnp.sum(w**2) * lax.pmean(number(w), "i"),
        [[1, 2], [3, 7]],
    ),
    "inside": (
        lambda w: jnp.sum(jax.vmap(lambda v: v - lax.pmean(v, "j"), axis_name="j")(w) ** 2),
        [[-1, 1], [-4, 4]],
    ),
}


class TestLetPass:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("case", HARMLESS)
    def test_what_mixes_nothing_that_moves(self, case, dtype):
        fun, expected = HARMLESS[case]
        atol = 1e-2 if dtype == np.float32 else 1e-6
        np.testing.assert_allclose(mapped(fun, dtype=dtype), expected, atol=atol)

    def test_auxiliary_data(self):
        def fun(w):
            return jnp.sum(w**2), lax.pmean(w, "i")

        found, mean = mapped(fun, lambda f: jaxfd.grad(f, has_aux=True))
        np.testing.assert_allclose(found, 2 * XS, rtol=1e-6)
        np.testing.assert_allclose(mean, [[2.0, 4.5]] * 2)

    def test_the_value_of_a_hook(self):
        def fun(w):
            return jnp.sum(lax.psum(w, "i"))

        np.testing.assert_allclose(mapped(fun, jaxfd.differentiable), [13.0, 13.0])

    def test_a_mean_outside(self):
        def step(w):
            return lax.pmean(jaxfd.grad(lambda w: jnp.sum(w**2))(w), "i")

        found = jax.vmap(step, axis_name="i")(jnp.asarray(XS))
        np.testing.assert_allclose(found, [[4.0, 9.0]] * 2, rtol=1e-6)


PASSED_ON = [(0, 1), (1, 0)]


@pytest.mark.parametrize(
    "transform",
    [
        jaxfd.grad,
        jaxfd.hessian,
        lambda f: jax.grad(jaxfd.differentiable(f)),
        lambda f: jaxfd.grad(f, method=jaxfd.Adaptive()),
    ],
)
def test_data_that_members_pass_on(transform):
    """Members may be run side by side only, whatever they are passed."""

    def fun(w, x):
        return jnp.sum(w**2) * jnp.sum(lax.ppermute(x, "i", PASSED_ON))

    w, xs = jnp.array([0.5, 1.0]), jnp.asarray(XS)
    found = jax.vmap(transform(fun), in_axes=(None, 0), axis_name="i")(w, xs)
    other = np.array([10.0, 3.0])
    slope = np.eye(2) * 2 if transform is jaxfd.hessian else np.array([1.0, 2.0])
    np.testing.assert_allclose(found, np.multiply.outer(other, slope), atol=1e-4)


class TestAlongTangents:
    """All members move at once, each along its own tangent: as a JVP wants it."""

    x, v = np.array([0.1, 30.0, -2.0, 0.0]), np.array([1.0, 50.0, 0.01, 0.0])

    @pytest.mark.parametrize("method", [jaxfd.Central(), jaxfd.Forward(2), jaxfd.ComplexStep()])
    @pytest.mark.parametrize(
        "fun",
        [
            lambda x: lax.pmean(jnp.sin(x), "i"),
            lambda x: (x - lax.pmean(x, "i")) ** 2,
            lambda x: jnp.prod(lax.all_gather(jnp.cos(x), "i")),
            lambda x: lax.ppermute(x**2, "i", [(0, 1), (1, 2), (2, 3), (3, 0)]),
        ],
    )
    def test_jvp(self, fun, method):
        def run(jvp):
            return jax.vmap(lambda x, v: jvp(fun, (x,), (v,))[1], axis_name="i")(self.x, self.v)

        found = run(lambda *args: jaxfd.jvp(*args, method=method))
        np.testing.assert_allclose(found, run(jax.jvp), rtol=1e-5, atol=1e-3)


DEVICES = """
import jax, jax.numpy as jnp, numpy as np, jaxfd
from jax.sharding import AxisType, PartitionSpec as P

mesh = jax.make_mesh((2,), ("i",), axis_types=(AxisType.Auto,))
xs = jnp.array([[1.0, 2.0], [3.0, 7.0]])

def mapped(fun, into, out, check):
    return jax.jit(jax.shard_map(fun, mesh=mesh, in_specs=into, out_specs=out, check_vma=check))

def own(w):
    return jaxfd.grad(lambda w: jnp.sum((w - jax.lax.pmean(w, "i")) ** 2))(w)

def shared(w, x):
    return jaxfd.grad(lambda w: jax.lax.pmean(jnp.sum((w - x) ** 2), "i"))(w)

for check in (True, False):
    try:
        mapped(own, P("i"), P("i"), check)(xs)
    except TypeError as error:
        assert "along the axis 'i'" in str(error)
    else:
        raise AssertionError
found = mapped(shared, (P(), P("i")), P(), True)(xs[:1], xs)
assert np.allclose(found, [[-2.0, -5.0]], atol=1e-2), found
whole = mapped(lambda x: jax.lax.pmean(x, "i"), P("i"), P(), True)
found = jaxfd.grad(lambda w: jnp.sum(whole(w) ** 2), chunk_size=1)(xs)
assert np.allclose(found, [[2.0, 4.5]] * 2, atol=1e-2), found
"""


def test_axes_of_a_mesh():
    """What lies whole on every device may be summed up: all members move the same entry."""
    run_python(DEVICES, XLA_FLAGS="--xla_force_host_platform_device_count=2")
