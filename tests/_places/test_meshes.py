"""Arrays that devices share, and parameters that they have in common."""

import json
import os

import jax
import pytest
from _tools import run_python

HEAD = """
import json
import jax, jax.numpy as jnp, numpy as np, jaxfd
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

report = {}

def types(tree):
    return [str(jax.typeof(leaf)) for leaf in jax.tree.leaves(tree)]

def case(name, fun, want, atol=2e-2, typed=True):
    try:
        got, wanted = fun(), want()
        close = all(
            np.allclose(a, b, atol=atol)
            for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True)
        )
        wrong = None if close else f"got {got}, want {wanted}"
        if typed and not wrong and types(got) != types(wanted):
            wrong = f"got {types(got)}, want {types(wanted)}"
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
    report[name] = wrong
"""

EXPLICIT = (
    HEAD
    + """
mesh = jax.make_mesh((2, 2), ("d", "e"), axis_types=(AxisType.Explicit,) * 2)

def put(values, *axes):
    return jax.device_put(jnp.asarray(values), NamedSharding(mesh, P(*axes)))

def loss(w):
    return jnp.sum(jnp.einsum("ij,kj->ik", w, w, out_sharding=P("d", None)) ** 2)

def of_tree(t):
    return jnp.sum(jnp.sin(t["w"])) * t["c"] + jnp.sum(t["b"] ** 3)

def cosine(w):
    return jnp.sum(jnp.cos(w) ** 2)

with jax.set_mesh(mesh):
    w = put(np.linspace(0.1, 1.0, 8, dtype=np.float32).reshape(4, 2), "d", "e")
    tree = {"w": w, "b": put([0.2, 0.4], "e"), "c": jnp.float32(0.7)}
    long = put(np.linspace(0.0, 1.0, 128, dtype=np.float32), "d")
    slope = lambda: jax.grad(loss)(w)
    case("grad", lambda: jaxfd.grad(loss)(w), slope)
    case("jit", lambda: jax.jit(jaxfd.grad(loss))(w), slope)
    case("chunks", lambda: jaxfd.grad(loss, chunk_size=3)(w), slope)
    case("forward", lambda: jaxfd.grad(loss, method=jaxfd.Forward(2))(w), slope)
    case("adaptive", lambda: jaxfd.grad(loss, method=jaxfd.Adaptive())(w), slope)
    case("bounds", lambda: jaxfd.grad(loss, bounds=(w / 2, w))(w), slope)
    case("steps", lambda: jaxfd.grad(loss, method=jaxfd.Central(step=w / 100))(w), slope)
    case("tree", lambda: jaxfd.value_and_grad(of_tree)(tree),
         lambda: jax.value_and_grad(of_tree)(tree))
    case("aux", lambda: jaxfd.grad(lambda w: (loss(w), w * 2), has_aux=True)(w),
         lambda: (slope(), w * 2))
    case("entries followed", lambda: jaxfd.grad(cosine)(long), lambda: jax.grad(cosine)(long))
    case("vmap", lambda: jax.vmap(jaxfd.grad(cosine))(w), lambda: jax.grad(cosine)(w))
    case("complex", lambda: jaxfd.grad(lambda z: jnp.sum(jnp.abs(z) ** 2))(w + 1j * w),
         lambda: 2 * w - 2j * w)
    case("jacobian", lambda: jaxfd.jacobian(jnp.sin)(w), lambda: jax.jacrev(jnp.sin)(w),
         typed=False)
    case("hessian", lambda: jaxfd.hessian(loss)(w), lambda: jax.hessian(loss)(w), 0.1, typed=False)
    case("jvp", lambda: jaxfd.jvp(jnp.sin, (w,), (w,)), lambda: jax.jvp(jnp.sin, (w,), (w,)))
    case("estimate", lambda: jaxfd.estimate(loss)(w).grad, slope)
    for mode in ("reverse", "forward", "recompute"):
        sine = jaxfd.differentiable(jnp.sin, mode=mode)
        case(f"differentiable {mode}", lambda: jax.grad(lambda w: jnp.sum(sine(w) ** 2))(w),
             lambda: jax.grad(lambda w: jnp.sum(jnp.sin(w) ** 2))(w))
    sine = jaxfd.differentiable(jnp.sin, mode="forward")
    case("differentiable jvp", lambda: jax.jvp(sine, (w,), (w,)),
         lambda: jax.jvp(jnp.sin, (w,), (w,)))
print(json.dumps(report))
"""
)

SHARED = (
    HEAD
    + """
mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
w, data = jnp.array([0.3, 0.5]), jnp.arange(1.0, 9.0)
adaptive = jaxfd.Adaptive()

def loss(w, d):
    return jnp.sum(jnp.sin(w[0] * d + w[1]))

def mapped(fun, out=P(), check=True):
    into = (P(), P("d"))
    return jax.jit(jax.shard_map(fun, mesh=mesh, in_specs=into, out_specs=out, check_vma=check))(
        w, data
    )

def same(name, ours, jaxs, out=P(), check=True, atol=2e-2):
    case(name, lambda: mapped(ours, out, check), lambda: mapped(jaxs, out, check), atol)

slope = jax.grad(loss)
same("mean of gradients", lambda w, d: lax.pmean(jaxfd.grad(loss)(w, d), "d"),
     lambda w, d: lax.pmean(slope(w, d), "d"))
same("grad", jaxfd.grad(loss), slope)
same("chunks", jaxfd.grad(loss, chunk_size=1), slope)
same("unchecked", jaxfd.grad(loss), slope, P("d"), False)
same("mean inside", jaxfd.grad(lambda w, d: lax.pmean(loss(w, d), "d")),
     jax.grad(lambda w, d: lax.pmean(loss(w, d), "d")))
same("jacobian", jaxfd.jacobian(lambda w, d: jnp.sin(w[0] * d + w[1])),
     jax.jacrev(lambda w, d: jnp.sin(w[0] * d + w[1])))
same("hessian", jaxfd.hessian(loss), jax.hessian(loss), atol=2.0)
same("hvp", lambda w, d: jaxfd.hvp(lambda w: loss(w, d), (w,), (w,)),
     lambda w, d: jax.jvp(lambda w: slope(w, d), (w,), (w,))[1], atol=2.0)
same("both", jaxfd.grad(loss, (0, 1)), jax.grad(loss, (0, 1)), (P(), P("d")))
same("estimate", lambda w, d: jaxfd.estimate(loss)(w, d).grad, slope)
same("searched own", jaxfd.grad(loss, 1, method=adaptive), jax.grad(loss, 1), P("d"))
same("searched shared", jaxfd.grad(loss, method=adaptive), slope)
same("searched both", jaxfd.grad(loss, (0, 1), method=adaptive), jax.grad(loss, (0, 1)),
     (P(), P("d")))
for mode in ("reverse", "forward", "recompute"):
    same(f"differentiable {mode}", jax.grad(jaxfd.differentiable(loss, mode=mode)), slope)

long = jnp.linspace(0.1, 3.0, 200)

def alone(d):
    return jnp.sum(jnp.sin(d) ** 2)

for check in (True, False):
    for count in (8, 200):
        own = lambda g: jax.jit(jax.shard_map(
            g, mesh=mesh, in_specs=P("d"), out_specs=P("d"), check_vma=check))(long[:count])
        case(f"searched {count} {check}", lambda: own(jaxfd.grad(alone, method=adaptive)),
             lambda: own(jax.grad(alone)), 1e-3)

def mixed(w, d):
    return loss(w, d) + lax.psum(jnp.sum(jnp.cos(w)), "d")

try:
    mapped(jaxfd.grad(mixed, method=adaptive))
    report["searched and mixed"] = "not refused"
except TypeError as error:
    report["searched and mixed"] = None if "axis 'd'" in str(error) else str(error)
mean = lambda x: lax.pmean(jnp.sin(x), "d")
for check in (True, False):
    same(f"jvp {check}", lambda w, d: jaxfd.jvp(mean, (d,), (d,))[1],
         lambda w, d: jax.jvp(mean, (d,), (d,))[1], P() if check else P("d"), check)
same("jvp of what is the same", lambda w, d: jaxfd.jvp(mean, (w,), (w,))[1],
     lambda w, d: jax.jvp(mean, (w,), (w,))[1])
print(json.dumps(report))
"""
)


def found(script):
    """What a program with four devices reports: what is wrong, case by case.

    It compiles as this process does, and keeps what it compiled in the same place.
    """
    environment = {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    }
    if jax.config.jax_compilation_cache_dir:
        environment["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    report = json.loads(run_python(script, **environment).splitlines()[-1])
    assert report
    return {name: wrong for name, wrong in report.items() if wrong is not None}


@pytest.mark.parametrize("script", [EXPLICIT, SHARED], ids=["explicit", "shared"])
def test_like_jax(script):
    """Derivatives of shared arrays, in their types; of common parameters, summed over devices."""
    assert found(script) == {}
