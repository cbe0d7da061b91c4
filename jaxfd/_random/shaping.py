"""What becomes of values before they weigh directions: shaping and baselines.

Written once against the array namespace of the place. This room knows values alone: no
directions, no method.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Shaped


def _standardized(xp: Any, values: Any, good: Any) -> Any:
    """Values less their mean, over their standard deviation."""
    # Neither squares nor sums may leave the range of the dtype.
    size = xp.max(xp.where(good, xp.abs(values), 0), axis=-1, keepdims=True)
    values = xp.where(good, values, 0) / xp.where(size > 0, size, 1)
    count = xp.maximum(xp.sum(good, axis=-1, keepdims=True), 1).astype(values.dtype)
    mean = xp.sum(xp.where(good, values, 0), axis=-1, keepdims=True) / count
    away = xp.where(good, values - mean, 0)
    deviation = xp.sqrt(xp.sum(away * away, axis=-1, keepdims=True) / count)
    return away / xp.where(deviation > 0, deviation, 1)


def _ranks(xp: Any, values: Any, good: Any) -> Any:
    """Ranks from -1/2 to 1/2; equal values share theirs."""
    # Imported here because scipy.stats takes long.
    found = (
        importlib.import_module("scipy.stats" if xp is np else "jax.scipy.stats")
        .rankdata(xp.where(good, values, np.inf), axis=-1)
        .astype(values.dtype)
    )
    last = xp.sum(good, axis=-1, keepdims=True).astype(values.dtype) - 1
    return (found - 1) / xp.where(last > 0, last, 1) - np.asarray(0.5, values.dtype)


SHAPINGS: dict[str, Callable[..., Any]] = {"rank": _ranks, "standardized": _standardized}


def shaped(
    xp: Any, shaping: str | None, values: Shaped[Any, "k n *rest"], centre: Any
) -> tuple[Any, Any]:
    """Values and centre as a shaping has them: it sees all of them together.

    Args:
        xp: the array namespace.
        shaping: a name in `SHAPINGS`, or None.
        values: shape ``(K, N, *rest)``.
        centre: the value at ``x``, shape ``(*rest,)``, where it is the baseline; or None.
    """
    if shaping is None:
        return values, centre
    k, n, *rest = values.shape
    flat = xp.moveaxis(values.reshape(k * n, *rest), 0, -1)
    if centre is not None:
        flat = xp.concatenate([flat, centre[..., None].astype(flat.dtype)], axis=-1)
    found = SHAPINGS[shaping](xp, flat, xp.isfinite(flat))
    found = xp.where(xp.isfinite(flat), found, np.nan)
    found = xp.moveaxis(found, -1, 0)
    return found[: k * n].reshape(k, n, *rest), found[-1] if centre is not None else None


def differences(xp: Any, values: Shaped[Any, "k n *rest"], centre: Any) -> Shaped[Any, "n *rest"]:
    """What each sample says of the slope along its direction, times the distance.

    Half the difference of two values; of one value and the centre; or, without a centre, of one
    value and the mean of all the others.
    """
    # inf - inf would warn on the host.
    values = xp.where(xp.isfinite(values), values, np.nan)
    if values.shape[0] == 2:
        return (values[0] - values[1]) / 2
    if centre is not None:
        return values[0] - centre
    good = xp.isfinite(values[0])
    others = xp.sum(good, axis=0).astype(values.dtype) - 1
    total = xp.sum(xp.where(good, values[0], 0), axis=0)
    return values[0] - (total - values[0]) / xp.where(others > 0, others, np.nan)
