"""A formula as a function of JAX, and what is compiled of it: kept, so that moving a step is quick.

All that jaxfd does here it does by its public face, as the snippet on the page does. Must not know
of fields, nor of what the page shows.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd
from jaxfd.calculator._nodes import Node

ROWS = 256  # of points in one batch of plain values: the curve, and a stencil for each variable
STEPS = 64  # of steps in one sweep


def precision(wide: bool) -> contextlib.AbstractContextManager[Any]:
    """JAX in float64, or in its default float32."""
    context: contextlib.AbstractContextManager[Any] = jax.enable_x64(wide)
    return context


def named(name: str) -> Callable[..., Any]:
    """What a name such as ``jnp.sin`` means."""
    first, *rest = name.split(".")
    return functools.reduce(getattr, rest, {"jnp": jnp, "jax": jax}[first])  # type: ignore[return-value]


def noise(*point: jax.Array) -> jax.Array:
    """A number from a normal distribution that belongs to this very point: noise that repeats."""
    key = jax.random.key(0)
    for entry in point:
        for bits in jnp.ravel(jax.lax.bitcast_convert_type(entry, jnp.uint32)):
            key = jax.random.fold_in(key, bits)
    return jax.random.normal(key, dtype=point[0].dtype)


class Program:
    """What is compiled of one expression in one precision.

    Args:
        node: the expression.
        names: its variables, in the order of the arguments.
        wide: whether it is computed in float64.
        noisy: whether noise is added.
    """

    def __init__(self, node: Node, names: tuple[str, ...], wide: bool, noisy: bool) -> None:
        self.names, self.wide, self.noisy = names, wide, noisy
        self.argnums = tuple(range(len(names)))

        def plain(*point: Any) -> Any:
            return jnp.asarray(node.evaluate(dict(zip(names, point, strict=True)), named))

        def noised(*point: Any) -> Any:
            *entries, size = point
            return plain(*entries) + size * noise(*map(jnp.asarray, entries))

        self.fun = noised if noisy else plain
        slopes = jax.vmap(jax.value_and_grad(plain, argnums=self.argnums))
        self._batch = jax.jit(lambda rows: slopes(*rows))
        self._sweeps: dict[tuple[str, int], Callable[..., Any]] = {}

    def _arguments(self, point: tuple[float, ...], size: float) -> tuple[float, ...]:
        return (*point, size) if self.noisy else point

    def estimate(self, method: Any, point: tuple[float, ...], size: float) -> Any:
        """What jaxfd says of the gradient there."""
        with precision(self.wide):
            call = jaxfd.estimate(self.fun, argnums=self.argnums, method=method)
            return jax.device_get(call(*self._arguments(point, size)))

    def sweep(
        self, kind: str, order: int, steps: np.ndarray, point: tuple[float, ...], size: float
    ) -> np.ndarray:
        """The gradient at each of many steps, shape ``(len(steps), n)``."""
        with precision(self.wide):
            if (kind, order) not in self._sweeps:
                self._sweeps[kind, order] = self._sweeper(kind, order)
            padded = np.full(STEPS, steps[-1], np.float64 if self.wide else np.float32)
            padded[: len(steps)] = steps
            found = self._sweeps[kind, order](padded, *self._arguments(point, size))
            return np.stack(jax.device_get(found), 1)[: len(steps)].astype(float)

    def _sweeper(self, kind: str, order: int) -> Callable[..., Any]:
        def at(step: Any, *arguments: Any) -> Any:
            method = make_method(kind, order, step)
            return jaxfd.grad(self.fun, argnums=self.argnums, method=method)(*arguments)

        return jax.jit(lambda steps, *arguments: jax.vmap(lambda step: at(step, *arguments))(steps))

    def values(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and exact derivatives, in float64, of the function without noise.

        Args:
            rows: points, shape ``(k, n)``, at most `ROWS` of them.

        Returns:
            Shapes ``(k,)`` and ``(k, n)``.
        """
        padded = np.repeat(rows[:1], ROWS, axis=0)
        padded[: len(rows)] = rows
        with precision(True):
            values, slopes = jax.device_get(self._batch(list(padded.T)))
        return values[: len(rows)], np.stack(slopes, 1)[: len(rows)]


@functools.lru_cache(maxsize=64)
def program(node: Node, names: tuple[str, ...], wide: bool, noisy: bool) -> Program:
    """The program of an expression: the same one as long as it is among the last 64."""
    return Program(node, names, wide, noisy)


def make_method(kind: str, order: int, step: Any) -> Any:
    """jaxfd's method of that name."""
    match kind:
        case "forward":
            return jaxfd.Forward(order, step)
        case "backward":
            return jaxfd.Backward(order, step)
        case "central":
            return jaxfd.Central(order, step)
        case "complex":
            return jaxfd.ComplexStep(step)
    return jaxfd.Adaptive()
