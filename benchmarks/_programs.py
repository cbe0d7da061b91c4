"""Random programs of JAX with black boxes inside, and the same ones without.

Each is made from a seed: a scalar function of a vector, of some ten operations on vectors. Up to
three of them are black boxes, near 0 or near 10^5. Run in float32 with boxes it is what users
write; run in float64 with the boxes written in JAX it tells what is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxfd

_UNARY: Sequence[Callable[[Any], Any]] = (
    jnp.sin,
    jnp.tanh,
    lambda z: jnp.exp(-(z * z)),
    lambda z: jnp.sqrt(1.0 + z * z),
    lambda z: jnp.log1p(z * z),
    lambda z: z * z,
    jax.nn.softplus,
    jax.nn.softmax,
    jnp.cumsum,
    lambda z: z[::-1] - jnp.mean(z),
    lambda z: jnp.where(z > 0, z, jnp.expm1(z)),
    lambda z: lax.scan(lambda c, y: (0.5 * c + y, c * y), jnp.sum(z) * 0.1, z)[1],
    lambda z: lax.fori_loop(0, 3, lambda _, y: jnp.sin(y) + 0.5 * z, z),
    lambda z: lax.cond(jnp.sum(z) > 0, lambda y: y + 1.0, lambda y: 0.5 * y + 1.0, z),
)
_BINARY: Sequence[Callable[[Any, Any], Any]] = (
    jnp.add,
    jnp.subtract,
    jnp.multiply,
    lambda a, b: a / (1.0 + b * b),
    lambda a, b: jnp.stack([a, b]).mean(0) + jnp.dot(a, b),
)


class Box:
    """A function of NumPy arrays, and the same one in JAX."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self._weights = rng.normal(size=(size, size)) / size
        self._phase = rng.normal(size=size)
        self._offset = rng.choice([0.0, 1.0, 1e3, 1e5])
        self.calls = 0
        self._size = size

    def in_jax(self, z: Any) -> Any:
        return self._offset + jnp.sin(jnp.asarray(self._weights) @ z + jnp.asarray(self._phase))

    def _on_host(self, z: np.ndarray) -> np.ndarray:
        self.calls += 1
        return self._offset + np.sin(z @ self._weights.T + self._phase)

    def in_box(self) -> Callable[[Any], Any]:
        out = jax.ShapeDtypeStruct((self._size,), jnp.float32)
        box = jaxfd.blackbox(self._on_host, out, vectorized=True)
        # What is near 10^5 is compared with data, as in a fit; both are of float32.
        return lambda z: box(z) - np.float32(self._offset)


class Program:
    """A random program.

    Args:
        seed: which.

    Attributes:
        x: where it is differentiated, in float32.
        boxes: its black boxes.
    """

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        size = int(rng.integers(1, 7))
        self.x = rng.normal(size=size).astype(np.float32)
        self.boxes: list[Box] = []
        self._steps: list[tuple[Any, ...]] = []
        places = set(rng.choice(9, size=rng.integers(1, 4), replace=False).tolist())
        for number in range(9):
            if number in places:
                self.boxes.append(Box(rng, size))
                self._steps.append(("box", len(self.boxes) - 1, int(rng.integers(0, 3))))
            elif rng.random() < 0.4:
                first, second = rng.integers(0, 4, 2)
                self._steps.append(("binary", rng.integers(len(_BINARY)), int(first), int(second)))
            elif rng.random() < 0.3:
                data = rng.normal(size=(size, size)).astype(np.float32) / np.float32(size)
                self._steps.append(("matrix", data, int(rng.integers(0, 3))))
            else:
                self._steps.append(("unary", rng.integers(len(_UNARY)), int(rng.integers(0, 3))))
        self._data = rng.normal(size=size).astype(np.float32)

    def with_boxes(self) -> Callable[[Any], Any]:
        """The program with black boxes."""
        boxes = [box.in_box() for box in self.boxes]
        return lambda x: self._run(x, boxes, np.float32)

    def exact(self) -> tuple[float, np.ndarray]:
        """Value and gradient in float64, without boxes."""
        with jax.enable_x64(True):
            plain = [lambda z, b=b: b.in_jax(z) - b._offset for b in self.boxes]
            both = jax.value_and_grad(lambda x: self._run(x, plain, np.float64))
            value, gradient = both(jnp.asarray(self.x, np.float64))
            return float(value), np.asarray(gradient)

    def _run(self, x: Any, boxes: Sequence[Callable[[Any], Any]], dtype: Any) -> Any:
        values = [x]
        for kind, which, *of in self._steps:
            operands = [values[-1 - min(i, len(values) - 1)] for i in of]
            if kind == "box":
                value = boxes[which](*operands)
            elif kind == "matrix":
                value = jnp.asarray(which, dtype) @ operands[0]
            else:
                value = (_UNARY if kind == "unary" else _BINARY)[which](*operands)
            values.append(value)
        misfit = values[-1] - jnp.asarray(self._data, dtype) + 0.1 * values[-2]
        return jnp.mean(misfit**2)
