"""Pictures with one row per entry: a gradient, its check, a tornado chart.

Must not know how the numbers were found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from jaxfd._arrays import entry_names
from jaxfd._plot.style import BLUE, GREY, RED, ROWS, SHADE, ink, short
from jaxfd._reports import (
    AGREES,
    DIFFERS,
    UNCLEAR,
    UNSEEN,
    GradCheck,
    Sensitivity,
    check_real,
    flat,
    numbers,
)
from jaxfd._transforms import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Bars shorter than this share of the axis are hidden by the marker they belong to.
_VISIBLE = 0.006
# Where axes say whose rows they have.
_NAMES = "_jaxfd_names"
# So many wrong entries are named above the picture.
_NAMED = 3
_VERDICTS: dict[str, dict[str, Any]] = {
    AGREES: {"marker": "o", "color": BLUE},
    DIFFERS: {"marker": "X", "color": RED},
    UNCLEAR: {"marker": "s", "color": GREY, "mfc": "none"},
    UNSEEN: {"marker": ".", "color": GREY},
}


def gradient(result: Estimate, ax: Axes) -> int:
    """Draws the entries of a gradient with their error bounds, or standard errors."""
    check_real("plot", result.grad)
    if np.ndim(result.value):
        raise ValueError(
            f"plot draws one gradient, got estimates of shape {np.shape(result.value)}, as vmap "
            "makes them: take one with jax.tree.map(lambda leaf: leaf[0], result)."
        )
    ax.set_xlabel("gradient")
    names = [short(name) for name in entry_names(result.grad)]
    what = "error bound" if result.bound else "standard error"
    return _bars(ax, names, flat(result.grad), flat(result.error), "o", what)


def tornado(result: Sensitivity, ax: Axes) -> int:
    """Draws elasticities as bars to both sides, the largest on top."""
    check_real("plot", result.derivatives)
    names = [f"{short(n)} = {x:.4g}" for n, x in zip(result.names, result.x, strict=True)][:ROWS]
    values, errors = np.asarray(result.elasticities), np.asarray(result.elasticity_errors)
    ax.set_xlabel("elasticity  x/f df/dx")
    if result.value == 0:
        values = np.asarray(result.x * result.derivatives)
        errors = np.asarray(np.abs(result.x) * result.errors)
        ax.set_xlabel("x df/dx  (f is 0, so there is no elasticity)")
    if len(names) < len(values):
        ax.set_title(f"the {ROWS} most important of {len(values)} entries", size="medium", pad=24)
    values, errors = values[:ROWS], errors[:ROWS]
    rows = np.arange(len(names))
    # An elasticity has the sign of the slope only where x and f have the same.
    slopes = np.sign(result.derivatives)[:ROWS]
    for sign, colour, label in ((1, BLUE, "f grows with x"), (-1, RED, "f falls with x")):
        own = np.isfinite(values) & (slopes == sign)
        if own.any():
            ax.barh(rows[own], values[own], color=colour, alpha=0.75, label=label)
    return _bars(ax, names, values, errors, "none")


def check(result: GradCheck, ax: Axes) -> int:
    """Draws what claimed and estimated gradient differ by, beside the bar they may differ by."""
    names = [short(name) for name in entry_names(result.claimed)]
    bar = flat(result.bar)
    gap = np.abs(numbers(result.claimed) - numbers(result.estimated))
    verdicts = flat(result.verdicts, dtype=np.str_)
    rows = np.arange(len(names))
    seen = np.concatenate([part[np.isfinite(part) & (part > 0)] for part in (gap, bar)])
    low, high = (seen.min() / 10, seen.max() * 10) if seen.size else (1e-16, 1.0)
    ax.set_xscale("log")
    # Bars without end, and gaps of nothing, stand on the edges.
    allowed = np.clip(np.nan_to_num(bar, nan=high), low, high)
    height = 0.8 if len(names) <= ROWS else 1.0
    ax.barh(rows, allowed - low, height, left=low, color=ink(), alpha=SHADE, label="bar", zorder=0)
    for verdict, look in _VERDICTS.items():
        own = verdicts == verdict
        if own.any():
            at = np.clip(np.nan_to_num(gap[own], nan=high), low, high)
            ax.plot(at, rows[own], ls="", ms=6, label=verdict, **look)
    ax.set_xlim(low, high)
    ax.set_xlabel("|claimed - estimated|")
    title = f"overall: {result.verdict}"
    wrong = [name for name, verdict in zip(names, verdicts, strict=True) if verdict == DIFFERS]
    if wrong:
        title += f": {', '.join(wrong[:_NAMED])}" + ", ..." * (len(wrong) > _NAMED)
    if np.isfinite(result.slope):
        title += f" (slope of the Taylor remainder {result.slope:.2f})"
    ax.set_title(title, size="medium", pad=24)
    return _label(ax, names)


def _bars(
    ax: Axes,
    names: list[str],
    values: Float[np.ndarray, "n"],
    errors: Float[np.ndarray, "n"],
    marker: str,
    what: str = "error bound",
) -> int:
    """One row per entry: the value, its error bar, and what is to be said of either."""
    rows, size = np.arange(len(names)), 5 if len(names) <= ROWS else 3
    known, bounded = np.isfinite(values), np.isfinite(errors)
    drawn, bare = known & bounded, known & ~bounded
    ax.axvline(0, color=GREY, lw=0.8, zorder=0)
    at, bars = values[drawn], errors[drawn]
    look: dict[str, Any] = {"ms": size, "color": BLUE, "ecolor": ink(), "capsize": 2, "zorder": 3}
    ax.errorbar(at, rows[drawn], xerr=bars, fmt=marker, **look)
    if bare.any():
        look = {"marker": "s", "ls": "", "ms": size, "mfc": "none", "mec": ink(), "zorder": 3}
        ax.plot(values[bare], rows[bare], label=f"{what} unknown", **look)
    if not known.all():
        # At the left edge, whatever the numbers there.
        look = {"marker": "X", "ls": "", "ms": size + 2, "color": ink(), "label": "not finite"}
        edge = np.full(int((~known).sum()), 0.02)
        ax.plot(edge, rows[~known], transform=ax.get_yaxis_transform(), **look)
    left, right = ax.get_xlim()
    largest = bars.max(initial=0.0)
    if 0 < largest < _VISIBLE * (right - left):
        said = f"error bars too short to see: at most {largest:.1g}"
        ax.set_xlabel(f"{ax.get_xlabel()}\n({said})")
    return _label(ax, names)


def _label(ax: Axes, names: list[str]) -> int:
    """Names the rows where there is room, the first on top; returns how much room they want."""
    if not names:
        raise ValueError("plot has nothing to draw: there are no entries.")
    before = getattr(ax, _NAMES, names)
    if before != names:
        raise ValueError(
            f"plot: these axes have rows for {', '.join(before[:_NAMED])}, and the result to be "
            f"drawn has {', '.join(names[:_NAMED])}, or another order: give each its own axes."
        )
    setattr(ax, _NAMES, names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    if len(names) <= ROWS:
        ax.set_yticks(np.arange(len(names)), names)
    else:
        ax.set_ylabel("entry")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, frameon=False)
    return min(len(names), ROWS)
