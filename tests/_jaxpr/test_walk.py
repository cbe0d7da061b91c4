"""Programs inside of programs: nothing that an operation runs stays unseen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec

import jaxfd
from jaxfd._jaxpr import every_eqn, primitives, trace

X = np.ones(3)

box = jaxfd.blackbox(lambda x: np.asarray(2.0 * x), jax.ShapeDtypeStruct((3,), np.float64))


@jax.custom_jvp
def with_jvp(x):
    return box(x)


with_jvp.defjvps(lambda g, out, x: g)


@jax.custom_vjp
def with_vjp(x):
    return box(x)


with_vjp.defvjp(lambda x: (x, None), lambda residual, g: (g,))


@jax.custom_batching.custom_vmap
def with_vmap(x):
    return box(x)


@with_vmap.def_vmap
def _batched(size, batched, x):
    return jax.vmap(box)(x), True


def in_shard_map(x):
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = PartitionSpec()
    return jax.shard_map(box, mesh=mesh, in_specs=spec, out_specs=spec)(x)


def in_condition(x):
    return lax.while_loop(lambda c: jnp.sum(box(c)) < 50, lambda c: 2 * c, x)


HOLDERS = {
    "itself": box,
    "jit": jax.jit(box),
    "jit of jit": jax.jit(lambda x: jax.jit(box)(x) + 1),
    "remat": jax.checkpoint(box),
    "custom_jvp": with_jvp,
    "custom_vjp": with_vjp,
    "custom_vmap": with_vmap,
    "branch": lambda x: lax.cond(x[0] > 0, lambda x: x, box, x),
    "scan": lambda x: lax.scan(lambda c, _: (box(c), None), x, None, length=2)[0],
    "loop": lambda x: lax.fori_loop(0, x.size + jnp.int32(x[0]), lambda i, c: box(c), x),
    "condition of a loop": in_condition,
    "map": lambda x: lax.map(lambda s: jnp.sum(box(s * x)), x),
    "linear solve": lambda x: lax.custom_linear_solve(lambda v: 2 * v, x, lambda mv, b: box(b)),
    "vmap": lambda x: jax.vmap(box)(x[None])[0],
    "shard_map": in_shard_map,
    "branch in a scan in jit": jax.jit(
        lambda x: lax.scan(
            lambda c, _: (lax.cond(c[0] > 0, box, lambda x: x, c), None), x, None, length=2
        )[0]
    ),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_a_host_call_is_found_wherever_it_is(name):
    closed = jax.make_jaxpr(HOLDERS[name])(X)
    assert "jaxfd_host_call" in primitives(closed)
    assert "jaxfd_host_call" in primitives(closed.jaxpr)


def test_a_program_without_one_has_none():
    closed = jax.make_jaxpr(jax.jit(lambda x: lax.map(jnp.sin, x)))(X)
    assert {"sin", "scan"} <= primitives(closed)
    assert "jaxfd_host_call" not in primitives(closed)


def test_a_program_that_is_called_twice_is_read_once():
    """So that calls within calls do not multiply."""

    def nest(f):
        return jax.jit(lambda x: f(f(x)))

    fun = jnp.sin
    for _ in range(30):
        fun = nest(fun)
    names = [eqn.primitive.name for eqn in every_eqn(jax.make_jaxpr(fun)(1.0))]
    assert names.count("sin") <= 4
    assert len(names) < 100


def test_the_largest_value_may_lie_in_a_branch():
    def fun(leaves):
        (x,) = leaves
        return lax.cond(x[0] > 0, lambda x: jnp.sum(jnp.outer(x, x)), jnp.sum, x), None

    assert trace(fun, [jnp.ones(50)]).largest == 50 * 50 * 8
