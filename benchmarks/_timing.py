"""How ratios are measured: in turn, warmed up, blocked on, medians of pairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np


def ratios(calls: Sequence[Callable[[], Any]], seconds: float = 1.5) -> list[float]:
    """Median over rounds of each call's time over the first one's, run in turn.

    Args:
        calls: functions without arguments; their results are blocked on.
        seconds: about how long to measure.
    """
    for call in calls:
        jax.block_until_ready(call())
    start = time.perf_counter()
    for call in calls:
        jax.block_until_ready(call())
    once = time.perf_counter() - start
    rounds = int(np.clip(seconds / max(once, 1e-6), 7, 2000))
    times = np.zeros((rounds, len(calls)))
    for i in range(rounds):
        for k, call in enumerate(calls):
            start = time.perf_counter()
            jax.block_until_ready(call())
            times[i, k] = time.perf_counter() - start
    return [float(r) for r in np.median(times / times[:, :1], axis=0)]


def row(name: str, value: float, goal: str, reached: bool) -> None:
    """Prints one line of a table."""
    print(f"{name:<68} {value:>12.4g}   goal {goal:<10} {'reached' if reached else 'MISSED'}")
