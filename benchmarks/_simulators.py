"""Host functions for worker processes: this module imports no JAX."""

from __future__ import annotations

import time

import numpy as np


def quadratic(x: np.ndarray, data: np.ndarray) -> np.ndarray:
    """A function whose gradient is ``2 x (1 + mean(data^2))``, of data that takes reading."""
    return np.sum(x**2, axis=-1) * (1.0 + np.mean(data**2, axis=-1))


def busy(x: np.ndarray) -> float:
    """About 20 ms of Python on one core."""
    total = 0
    for i in range(290_000):
        total += i * i % 7
    return float(np.sum(x**2)) + 0 * total


def asleep(x: np.ndarray) -> float:
    """50 ms in which the processor is free."""
    time.sleep(0.05)
    return float(np.sum(x**2))


def rosenbrock(x: np.ndarray) -> np.ndarray:
    """The function of many points at once."""
    a, b = x[..., :-1], x[..., 1:]
    return np.sum(100.0 * (b - a * a) ** 2 + (1.0 - a) ** 2, axis=-1)
