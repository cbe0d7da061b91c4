"""What `minimize` is asked for, checked before anything is evaluated.

It must not know what the options do.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import optax

from jaxfd._arrays import check_integer, check_number
from jaxfd._random import is_random
from jaxfd._transforms import check_method
from jaxfd.optim._loop import Limits

# What counters hold.
_MOST = np.iinfo(np.int32).max - 1


def limits_of(
    optimizer: Any,
    method: Any,
    max_steps: Any,
    tol: Any,
    callback: Any,
    max_evaluations: Any,
    max_seconds: Any,
) -> Limits:
    """Raises TypeError or ValueError for options that no function could make right."""
    if optimizer is not None and not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            f"optimizer must be an optax optimiser such as optax.adam(1e-2), got {optimizer!r}."
        )
    if method is not None and (isinstance(method, type) or not callable(method)):
        check_method(method)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of a Result, got {callback!r}.")
    for name, value in (("max_steps", max_steps), ("max_evaluations", max_evaluations)):
        if value is None and name == "max_evaluations":
            continue
        wanted = "from 1 to two thousand million"
        check_integer(value, name, most=_MOST, numpy=True, wanted=wanted)
    for name, value in (("tol", tol), ("max_seconds", max_seconds)):
        if value is None and name == "max_seconds":
            continue
        check_number(value, name)
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be 0 or more and finite, got {value}.")
    return Limits(int(max_steps), float(tol), max_evaluations, max_seconds)


def keyed(method: Any, key: Any) -> Any:
    """The method with the key it is given."""
    if key is None:
        return method
    if not is_random(method):
        raise ValueError(
            f"key is for random methods such as jaxfd.SPSA(), but method is {method!r}: leave key "
            "out, or give such a method."
        )
    return dataclasses.replace(method, key=key)
