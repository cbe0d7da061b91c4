"""The picture of a history: a value for each iteration of an optimisation.

Must not know what was optimised, nor how.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from jaxfd._plot.style import BESIDE, CURVES, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def history(result: Any, ax: Axes, best: float | None) -> None:
    """Draws one history."""
    histories({"": result}, ax, best)


def histories(result: Mapping[Any, Any], ax: Axes, best: float | None) -> None:
    """Draws value against iteration, logarithmic where all values are positive.

    Args:
        result: for each label the values.
        ax: the axes.
        best: the lowest value known, which is subtracted; then always logarithmic.
    """
    lines = {str(label): _numbers(str(label), values) for label, values in result.items()}
    if not lines:
        raise ValueError("plot has nothing to draw: the dict is empty.")
    ax.set(xlabel="iteration", ylabel="value")
    if best is not None:
        for label, values in lines.items():
            if np.any(values < best):
                raise ValueError(
                    f"best is {best}, but {label or 'the history'} gets down to "
                    f"{np.nanmin(values)}: give the lowest value known."
                )
        lines = {label: values - best for label, values in lines.items()}
        ax.set_ylabel(f"value - ({best:.6g})" if best < 0 else f"value - {best:.6g}")
    every = np.concatenate(list(lines.values()))
    every = every[np.isfinite(every)]
    if every.size and (every.min() > 0 or (best is not None and every.max() > 0)):
        ax.set_yscale("log", nonpositive="mask")
    styles = itertools.cycle(("-", "--", "-.", ":"))
    colours = itertools.cycle(CURVES)
    for label, values in lines.items():
        lost = np.count_nonzero(~np.isfinite(values))
        shown = short(label) + f" ({lost} not finite)" * bool(lost)
        # A value without neighbours makes no line.
        marker = "." if lost or len(values) == 1 else ""
        drawn = np.where(np.isfinite(values), values, np.nan)
        look: dict[str, Any] = {"color": next(colours), "marker": marker, "label": shown}
        ax.plot(np.arange(len(values)), drawn, next(styles), **look)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(**BESIDE)


def _numbers(label: str, values: Any) -> Float[np.ndarray, "k"]:
    name = repr(label) if label else "the history"
    try:
        array = np.asarray(values).astype(np.float64, casting="same_kind")
    except (TypeError, ValueError):
        raise TypeError(
            f"{name} must be numbers in a row, got {values!r:.60}: give one number per iteration, "
            "or a dict of such for several lines."
        ) from None
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"{name} must be numbers in a row, got the shape {array.shape}: give one number per "
            "iteration, or a dict of such for several lines."
        )
    return array
