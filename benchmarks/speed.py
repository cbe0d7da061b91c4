"""Speed of gradients: against a good hand-written version, and against peers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd
from benchmarks._timing import ratios, row
from jaxfd._places import kernel


def rosenbrock(x: jax.Array) -> jax.Array:
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def rosenbrock_numpy(x: np.ndarray) -> np.ndarray:
    return np.sum(100.0 * (x[..., 1:] - x[..., :-1] ** 2) ** 2 + (1.0 - x[..., :-1]) ** 2, axis=-1)


def _x(n: int, dtype: type = np.float64) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).normal(size=n), dtype)


def handwritten() -> None:
    """``jit(jaxfd.grad(f))`` over ``jit(vmap(f))`` on the 2n points already made.

    Once as it is, where the changes of a moved entry are followed through the function, and once
    as for functions that cannot be followed, where every point is evaluated whole.
    """
    for whole in (False, True):
        for dtype in (np.float32, np.float64):
            for n, goal in ((10, 1.3), (100, 1.3), (1000, 0.8), (5000, 0.5)):
                ratio = _against_vmap(n, dtype, whole)
                name = f"gradient / vmap on made points, n={n}, {np.dtype(dtype).name}"
                name += ", points whole" if whole else ""
                row(name, ratio, f"<= {goal}", ratio <= goal)


def _against_vmap(n: int, dtype: Any, whole: bool) -> float:
    x = _x(n, dtype)
    h = float(jnp.finfo(x.dtype).eps) ** (1 / 3) * jnp.maximum(jnp.abs(x), 1.0)
    points = jnp.concatenate([x + jnp.diag(h), x - jnp.diag(h)])

    def fun(x: jax.Array) -> jax.Array:  # new each time: programs are kept with their functions
        return rosenbrock(x)

    batched = jax.jit(jax.vmap(fun))
    gradient = jax.jit(jaxfd.grad(fun))
    least = kernel._LEAST_FOLLOWED
    kernel._LEAST_FOLLOWED = 2**62 if whole else least
    try:
        return ratios([lambda: batched(points), lambda: gradient(x)])[1]
    finally:
        kernel._LEAST_FOLLOWED = least


def peers() -> None:
    """The same gradient by other libraries, over jaxfd's time; and ``jax.grad`` for scale."""
    import finitediffx
    import numdifftools
    from scipy.differentiate import jacobian as scipy_jacobian
    from scipy.optimize import approx_fprime
    from scipy.optimize._numdiff import approx_derivative

    x = _x(1000)
    ours = jax.jit(jaxfd.grad(rosenbrock))
    theirs = jax.jit(finitediffx.fgrad(rosenbrock))
    exact = jax.jit(jax.grad(rosenbrock))
    _, slow, scale = ratios([lambda: ours(x), lambda: theirs(x), lambda: exact(x)])
    row("finitediffx fgrad / jaxfd, n=1000", slow, ">= 10", slow >= 10)
    print(f"{'jax.grad / jaxfd, n=1000 (for scale)':<68} {scale:>12.4g}")

    z = np.random.default_rng(0).normal(size=100)
    box = jaxfd.blackbox(rosenbrock_numpy, jax.ShapeDtypeStruct((), jnp.float64), vectorized=True)
    gradient = jax.jit(jaxfd.grad(box))
    point = jnp.asarray(z)
    others = {
        "scipy approx_derivative 3-point": lambda: approx_derivative(
            rosenbrock_numpy, z, method="3-point"
        ),
        "scipy approx_fprime": lambda: approx_fprime(z, rosenbrock_numpy),
        "scipy differentiate.jacobian": lambda: (
            scipy_jacobian(lambda p: rosenbrock_numpy(np.moveaxis(p, 0, -1)), z).df
        ),
        "numdifftools Gradient": lambda: numdifftools.Gradient(rosenbrock_numpy)(z),
    }
    for name, other in others.items():
        ratio = ratios([lambda: gradient(point), other])[1]
        goal = 5 if "3-point" in name else 1
        row(f"{name} / jaxfd of a black box, n=100", ratio, f">= {goal}", ratio >= goal)


def memory() -> None:
    """Temporaries that XLA plans for."""
    x = jax.ShapeDtypeStruct((20000,), np.float32)
    compiled = jax.jit(jaxfd.grad(rosenbrock)).lower(x).compile()
    analysis: Any = compiled.memory_analysis()
    size = analysis.temp_size_in_bytes / 2**20
    row("XLA temporaries in MB, n=20000, float32", size, "<= 32", size <= 32)


def calls() -> None:
    """One host call, over ``jax.pure_callback`` of the same function, batch of 1."""
    out = jax.ShapeDtypeStruct((), jnp.float64)
    box = jax.jit(jaxfd.blackbox(rosenbrock_numpy, out))
    plain = jax.jit(lambda x: jax.pure_callback(_as_numpy, out, x))
    x = _x(4)
    ratio = ratios([lambda: plain(x), lambda: box(x)])[1]
    row("one host call / pure_callback, batch of 1", ratio, "<= 0.5", ratio <= 0.5)


def _as_numpy(x: jax.Array) -> np.ndarray:
    return rosenbrock_numpy(np.asarray(x))


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    print(f"device: {jax.devices()[0].device_kind}, jax {jax.__version__}")
    handwritten()
    peers()
    memory()
    calls()


if __name__ == "__main__":
    main()
