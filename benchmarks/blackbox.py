"""Precision of black boxes with JAX in float32, as it is by default."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd
from benchmarks._timing import row


def near_thousand(x: np.ndarray) -> np.ndarray:
    """A function near 1000 whose gradient is of order one."""
    return 1000.0 + np.sum(np.sin(x) * x)


def main() -> None:
    print(f"device: {jax.devices()[0].device_kind}, jax {jax.__version__}, x64 off")
    x = jnp.linspace(0.5, 2.0, 8)
    z = np.asarray(x, np.float64)
    exact = np.sin(z) + z * np.cos(z)
    box = jaxfd.blackbox(near_thousand, jax.ShapeDtypeStruct((), jnp.float32))
    for name, gradient in (
        ("jaxfd.grad", jaxfd.grad(box)(x)),
        ("jax.grad through the hook", jax.grad(box)(x)),
        ("jitted", jax.jit(jax.grad(box))(x)),
    ):
        error = float(np.max(np.abs(gradient - exact)) / np.max(np.abs(exact)))
        row(f"x64 off, f near 1000: {name}, relative error", error, "<= 1e-6", error <= 1e-6)


if __name__ == "__main__":
    main()
