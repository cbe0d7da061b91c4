"""Random directions against theory, and what they cost: ``python -m benchmarks.directions``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd
from benchmarks._timing import ratios, row

jax.config.update("jax_enable_x64", True)

Make = Callable[[Any, int], Any]


def _theory() -> list[bool]:
    """Relative root-mean-square error on a linear function, n = 64."""
    n, repeats = 64, 4000
    slope = jnp.asarray(np.random.default_rng(0).normal(size=n))
    x = jnp.zeros(n)
    families: dict[str, tuple[Make, Callable[[float], float]]] = {
        "Gaussian": (
            lambda k, m: jaxfd.GaussianSmoothing(k, m, 1.0),
            lambda m: np.sqrt((n + 1) / m),
        ),
        "sphere": (lambda k, m: jaxfd.Sphere(k, m, sigma=1.0), lambda m: np.sqrt((n - 1) / m)),
        "Rademacher": (lambda k, m: jaxfd.SPSA(k, m, sigma=1.0), lambda m: np.sqrt((n - 1) / m)),
        "orthogonal": (
            lambda k, m: jaxfd.Orthogonal(k, m, sigma=1.0),
            lambda m: np.sqrt(n / m - 1),
        ),
        "least squares": (
            lambda k, m: jaxfd.GaussianSmoothing(k, m, 1.0, combine="least_squares"),
            lambda m: np.sqrt(1 - m / n),
        ),
    }
    good = []
    for name, (make, theory) in families.items():
        worst = 0.0
        for samples in (4, 16, 48):

            def error(key: Any, make: Make = make, samples: int = samples) -> Any:
                method = make(key, samples)
                found = jaxfd.grad(lambda x: jnp.vdot(slope, x), method=method)(x)
                return jnp.sum((found - slope) ** 2) / jnp.sum(slope**2)

            keys = jax.random.split(jax.random.key(1), repeats)
            measured = float(jnp.sqrt(jnp.mean(jax.jit(jax.vmap(error))(keys))))
            worst = max(worst, abs(measured / theory(samples) - 1))
        row(f"error on a linear function, {name}: off theory by", worst, "<= 0.03", worst <= 0.03)
        good.append(worst <= 0.03)
    return good


def _families(n: int, sigma: float, key: Any, samples: int) -> dict[str, tuple[Any, float]]:
    """Methods, and the fourth moment of their directions' entries."""
    return {
        "SPSA": (jaxfd.SPSA(key, samples, sigma=sigma), 1.0),
        "GaussianSmoothing": (jaxfd.GaussianSmoothing(key, samples, sigma), 3.0),
        "Sphere": (jaxfd.Sphere(key, samples, sigma=sigma), 3 * n / (n + 2)),
        "LowRank": (jaxfd.LowRank(key, samples, 2, sigma=sigma), 6.0),
        "Orthogonal": (jaxfd.Orthogonal(key, samples, sigma=sigma), 3 * n / (n + 2)),
        "RandomCoordinates": (jaxfd.RandomCoordinates(key, samples, sigma=sigma), 1.0),
    }


def _unbiased() -> list[bool]:
    """The mean of 1e5 samples against the gradient of the smoothed function, in standard errors.

    For a sum of cubes that is ``3 x^2 + m sigma^2``, ``m`` the fourth moment of a direction's
    entries. Families of dependent directions are averaged over keys, four samples each.
    """
    shape, sigma = (8, 8), 0.5
    n = 64
    worst = 0.0
    for dtype in (np.float32, np.float64):
        x = jnp.asarray(np.random.default_rng(2).normal(size=shape), dtype)
        look = jnp.asarray(np.random.default_rng(3).normal(size=shape), np.float64)
        names = list(_families(n, sigma, jax.random.key(0), 4))
        for name in [*names, "Guided"]:

            def project(key: Any, name: str = name, x: Any = x, look: Any = look) -> Any:
                if name == "Guided":
                    past = jnp.stack([x + x[::-1], jnp.ones_like(x)])
                    method: Any = jaxfd.Guided(key, 4, past, sigma=sigma)
                    fun: Any = lambda x: jnp.sum(x**2)  # noqa: E731
                else:
                    method = _families(n, sigma, key, 4)[name][0]
                    fun = lambda x: jnp.sum(x**3)  # noqa: E731
                found = jaxfd.grad(fun, method=method)(x)
                return jnp.vdot(found.astype(np.float64), look)

            keys = jax.random.split(jax.random.key(4), 25_000)
            seen = np.asarray(jax.jit(lambda k, f=project: jax.lax.map(f, k, batch_size=500))(keys))
            wide = np.asarray(x, np.float64)
            if name == "Guided":
                truth = 2 * wide
            else:
                moment = _families(n, sigma, keys[0], 4)[name][1]
                truth = 3 * wide**2 + moment * sigma**2
            off = abs(seen.mean() - np.vdot(truth, look)) / (seen.std() / np.sqrt(len(seen)))
            print(f"    {name:<20} {np.dtype(dtype).name}   {off:5.2f} standard errors")
            worst = max(worst, float(off))
    row("1e5 samples, seven families, f32 and f64: worst bias / error", worst, "<= 3", worst <= 3)
    return [worst <= 3]


def _memory() -> list[bool]:
    """Temporaries of SPSA, 10 million float32 parameters, one point at a time."""
    width = 3162
    weights = jax.ShapeDtypeStruct((width, width), np.float32)
    inputs = jnp.ones((8, width), np.float32)

    def loss(w: Any) -> Any:
        return jnp.mean(jnp.tanh(inputs @ w) ** 2)

    def forward(key: Any, w: Any) -> Any:
        signs = jaxfd.SPSA(key).directions([w])
        return loss(*signs.add([w], jnp.int32(0), [jnp.float32(0.01)]))

    def temporaries(fun: Any) -> int:
        compiled = jax.jit(fun).lower(jax.random.key(0), weights).compile()
        analysis: Any = compiled.memory_analysis()
        return analysis.temp_size_in_bytes

    base = temporaries(forward)
    good = []
    for samples, goal in ((1, 1.2), (1000, 1.3)):

        def estimate(key: Any, w: Any, samples: int = samples) -> Any:
            method = jaxfd.SPSA(key, samples, sigma=0.01)
            return jaxfd.grad(loss, method=method, chunk_size=1)(w)

        ratio = temporaries(estimate) / base
        name = f"temporaries of SPSA, {samples} samples, over one forward evaluation"
        row(name, ratio, f"<= {goal}", ratio <= goal)
        good.append(ratio <= goal)
    return good


def _hadamard() -> list[bool]:
    """What making Hadamard directions adds to evaluating a cheap quadratic, n = 65,536."""
    n, samples = 65_536, 64
    rng = np.random.default_rng(0)
    factor = jnp.asarray(rng.normal(size=(n, 8)), np.float32)
    scale = jnp.asarray(rng.uniform(1, 2, size=n), np.float32)
    x = jnp.asarray(rng.normal(size=n), np.float32)

    def quadratic(x: Any) -> Any:
        return jnp.sum(scale * x * x) + jnp.sum((x @ factor) ** 2)

    directions = jaxfd.Orthogonal(jax.random.key(0), samples, sigma=0.1).directions([x])
    stored = jnp.stack([directions.one(jnp.int32(i))[0] for i in range(samples)])
    ids = np.arange(samples, dtype=np.int32)
    made = jax.jit(
        lambda x: jax.lax.map(
            lambda i: quadratic(directions.add([x], i, [jnp.float32(0.1)])[0]), ids
        )
    )
    given = jax.jit(lambda x, s: jax.lax.map(lambda u: quadratic(x + 0.1 * u), s))
    more = ratios([lambda: given(x, stored), lambda: made(x)], seconds=5.0)[1] - 1
    row("Hadamard directions, n = 65,536: making over evaluating", more, "<= 0.1", more <= 0.1)
    return [more <= 0.1]


def _population() -> list[bool]:
    """Forward passes of a population of 128 through a dense layer of 512 x 512."""
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.normal(size=(512, 512)) / 22, np.float32)
    good = []
    for batch in (1, 32):
        inputs = jnp.asarray(rng.normal(size=(batch, 512)), np.float32)

        def layer(w: Any, inputs: Any = inputs) -> Any:
            return jnp.mean(jnp.maximum(inputs @ w, 0.0))

        def forward(method: Any, layer: Any = layer) -> Callable[[], Any]:
            gradient = jax.jit(lambda w: jaxfd.grad(layer, method=method)(w))
            return lambda: gradient(w)

        key = jax.random.key(0)
        calls = [
            forward(jaxfd.LowRank(key, 128, 1, sigma=0.01, antithetic=False)),
            forward(jaxfd.GaussianSmoothing(key, 128, 0.01, antithetic=False)),
        ]
        ratio = ratios(calls, seconds=15.0)[1]
        row(f"low rank over full, 512 x 512, batch {batch}", ratio, ">= 80", ratio >= 80)
        good.append(ratio >= 80)
    return good


def main() -> int:
    start = time.perf_counter()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}")
    good = [*_theory(), *_unbiased(), *_memory(), *_hadamard(), *_population()]
    print(f"{time.perf_counter() - start:.0f} s")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
