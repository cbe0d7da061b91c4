"""A user's script, the ordinary things: strict type checkers find nothing in it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

import jaxfd


def loss(x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.floor(x) + x**2)


def simulate(x: npt.NDArray[np.float64]) -> float:
    return float(np.sum(x**2))


start = jnp.asarray([1.0, 2.0, 3.0])
method: jaxfd.Method = jaxfd.Central(order=4, step=0.1)
slope: jax.Array = jaxfd.grad(loss, method=method)(start)
value, gradient = jaxfd.value_and_grad(loss, bounds=(0, jnp.inf))(start)
hooked = jaxfd.differentiable(loss, method=jaxfd.Forward())
one: jax.Array = hooked(start)
model = jaxfd.blackbox(simulate, np.zeros((), np.float32), retries=1)
found: jaxfd.Estimate = jaxfd.estimate(model, method=jaxfd.Adaptive())(start)
print(found.grad, found.error, found.evaluations, float(found.value), value, gradient)
report: jaxfd.GradCheck = jaxfd.check_grads(loss, start, slope, rtol=1e-3)
sweep: jaxfd.StepSweep = jaxfd.step_sweep(loss, start)
ranks: jaxfd.Sensitivity = jaxfd.sensitivity(loss, start)
for name, elasticity in zip(ranks.names, ranks.elasticities, strict=True):
    print(name, float(elasticity), report.ok, report.worst, sweep.steps)
result: jaxfd.optim.Result = jaxfd.optim.minimize(loss, start, max_steps=10)
print(result.x, result.value, result.converged, jaxfd.__version__)
link = jaxfd.optim.estimate_gradient(jaxfd.SPSA(jax.random.key(0), num_samples=4))
state = link.init(start)
layered = jaxfd.layer(jnp.matmul)
print(jaxfd.estimate_noise(model, start), jaxfd.Journal("runs.sqlite").path, layered)
