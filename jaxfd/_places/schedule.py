"""How many points are evaluated at once.

Measured with ``python -m benchmarks speed``. This room must not know what the points are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax import lax

# Bytes of one chunk and of the largest batch that is run in one shot. On a CPU a chunk shall stay
# in the second-level cache; on an accelerator it shall fill the device. Measured with
# ``python -m benchmarks speed``.
_CPU_CHUNK, _CPU_ONE_SHOT = 2**20, 2**21
_GPU_CHUNK, _GPU_ONE_SHOT = 2**28, 2**28
_LEAST_POINTS = 16
# Coordinates that are looked at once more are run so many at once.
_CPU_FEW, _GPU_FEW = 16, 4096


def chunk_bytes() -> tuple[int, int]:
    """Bytes of one chunk, and of the largest batch in one shot."""
    if jax.default_backend() == "cpu":
        return _CPU_CHUNK, _CPU_ONE_SHOT
    return _GPU_CHUNK, _GPU_ONE_SHOT


def evenly(count: int, most: int) -> int:
    """How many of so many to run at once: a divisor leaves no remainder to compile besides."""
    most = min(count, most)
    return next((m for m in range(most, most // 2, -1) if count % m == 0), most)


def _each(fun: Callable[[Any], Any], items: Any, count: int, at_once: int) -> Any:
    """A function of each of so many items, of which so many are computed at once."""
    if at_once >= count:
        return jax.vmap(fun)(items)
    return lax.map(fun, items, batch_size=at_once)
