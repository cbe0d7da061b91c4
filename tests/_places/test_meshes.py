"""Searches on the devices of a mesh."""

import json

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

SHARED = (
    HEAD
    + """
mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
data = jnp.linspace(0.1, 3.0, 200)

def loss(d):
    return jnp.sum(jnp.sin(d) ** 2)

def mapped(fun, check):
    return jax.jit(
        jax.shard_map(fun, mesh=mesh, in_specs=P("d"), out_specs=P("d"), check_vma=check)
    )

searched = jaxfd.grad(loss, method=jaxfd.Adaptive())
for check in (True, False):
    for count in (8, 200):
        case(f"searched own {count} {check}", lambda: mapped(searched, check)(data[:count]),
             lambda: mapped(jax.grad(loss), check)(data[:count]), 1e-3)
print(json.dumps(report))
"""
)


def found(script):
    """What a program with four devices reports: what is wrong, case by case."""
    flags = "--xla_force_host_platform_device_count=4"
    report = json.loads(run_python(script, XLA_FLAGS=flags).splitlines()[-1])
    assert report
    return {name: wrong for name, wrong in report.items() if wrong is not None}


def test_like_jax():
    """A search begins alike on all devices, and goes on as the values of each of them say."""
    assert found(SHARED) == {}
