"""Calls of the host from programs on several devices."""

import json

import pytest
from _tools import run_python

DEVICES = """
import json
import jax, jax.numpy as jnp, numpy as np, jaxfd
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

calls, report = [], {}

def cube(x):
    calls.append(x.shape)
    return np.sum(x**3, axis=-1)

def scaled(x, data):
    calls.append(x.shape)
    return np.sum(x**3, axis=-1) * np.sum(data, axis=-1)

out = jax.ShapeDtypeStruct((), jnp.float32)
box = jaxfd.blackbox(cube, out, vectorized=True)
model = jaxfd.blackbox(scaled, out, vectorized=True)
mesh = jax.make_mesh((2,), ("i",), axis_types=(AxisType.Auto,))
explicit = jax.make_mesh((2,), ("i",), axis_types=(AxisType.Explicit,))
rows, full = NamedSharding(mesh, P("i")), NamedSharding(mesh, P())
x = jax.device_put(jnp.arange(1.0, 9.0), rows)
xs = jax.device_put(jnp.arange(16.0).reshape(4, 4), rows)
weights, data = jax.device_put(jnp.array([1.0, 2.0]), full), jax.device_put(jnp.arange(4.0), rows)
slope = 3 * np.arange(1.0, 9.0) ** 2
slopes = 3 * np.arange(16.0).reshape(4, 4) ** 2

def case(name, fun, want):
    calls.clear()
    try:
        got = np.asarray(fun())
        wrong = None if np.allclose(got, want, rtol=1e-5) else f"got {got}, want {want}"
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
    report[name] = {"wrong": wrong, "calls": len(calls)}

def mapped(fun, into, out, check):
    return jax.jit(jax.shard_map(fun, mesh=mesh, in_specs=into, out_specs=out, check_vma=check))

case("global grad", lambda: jax.jit(jax.grad(box))(x), slope)
case("global jaxfd.grad", lambda: jax.jit(jaxfd.grad(box))(x), slope)
case("global vmap", lambda: jax.jit(jax.vmap(jax.grad(box)))(xs), slopes)
case("global eager", lambda: jax.grad(box)(x), slope)
case("global and on", lambda: jax.jit(box)(x) + 1, 1297.0)
for check in (False, True):
    tag = "checked" if check else "unchecked"
    case(f"{tag} value", lambda: mapped(lambda x: box(x)[None], P("i"), P("i"), check)(x),
         [100.0, 1196.0])
    case(f"{tag} grad", lambda: mapped(jax.grad(box), P("i"), P("i"), check)(x), slope)
    total = mapped(lambda w, d: jax.lax.psum(model(w, d), "i"), (P(), P("i")), P(), check)
    case(f"{tag} outer grad", lambda: jax.grad(total)(weights, data), [18.0, 72.0])
case("checked inner grad", lambda: mapped(jax.grad(model), (P(), P("i")), P(), True)(weights, data),
     [18.0, 72.0])
try:
    mapped(box, P("i"), P(), True)(x)
    report["unequal"] = {"wrong": "one result for two devices that differ"}
except ValueError:
    report["unequal"] = {"wrong": None}
with jax.set_mesh(explicit):
    spread = jax.device_put(xs, NamedSharding(explicit, P("i")))
    case("explicit vmap", lambda: jax.jit(jax.vmap(jax.grad(box)))(spread), slopes)
    row = jax.device_put(np.arange(1.0, 9.0, dtype=np.float32), NamedSharding(explicit, P("i")))
    case("explicit grad", lambda: jax.jit(jax.grad(box))(row), slope)
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def devices():
    """What a program with two devices reports."""
    flags = "--xla_force_host_platform_device_count=2"
    return json.loads(run_python(DEVICES, XLA_FLAGS=flags).splitlines()[-1])


class TestDevices:
    @pytest.mark.parametrize(
        "case", ["global grad", "global jaxfd.grad", "global vmap", "global eager"]
    )
    def test_a_global_program_calls_once(self, devices, case):
        assert devices[case] == {"wrong": None, "calls": 1}

    def test_results_of_a_global_program_go_on(self, devices):
        assert devices["global and on"] == {"wrong": None, "calls": 1}

    @pytest.mark.parametrize(
        "case",
        [
            "unchecked value",
            "unchecked grad",
            "unchecked outer grad",
            "checked value",
            "checked grad",
            "checked outer grad",
        ],
    )
    def test_shard_map_calls_once_per_device(self, devices, case):
        assert devices[case] == {"wrong": None, "calls": 2}

    def test_gradient_of_shared_parameters_sums_over_devices(self, devices):
        assert devices["checked inner grad"] == {"wrong": None, "calls": 2}

    def test_results_that_differ_are_known_to_differ(self, devices):
        assert devices["unequal"]["wrong"] is None

    @pytest.mark.parametrize("case", ["explicit grad", "explicit vmap"])
    def test_explicit_axes(self, devices, case):
        assert devices[case] == {"wrong": None, "calls": 1}
