"""The picture of a step sweep: error against step, with what explains it.

Must not know how the sweep was made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jaxfd._arrays import entry_names
from jaxfd._plot.style import BESIDE, CURVES, GREY, SHADE, ink, short
from jaxfd._reports import StepSweep, flat

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LINES = 6
# One for each sweep that is drawn on the same axes.
_MARKERS = (".-", "x-", "+-", "1-")


# Marks the line of an entry, so that a second sweep sees the first.
_CURVE = "sweep"


def steps(result: StepSweep, ax: Axes) -> None:
    """Draws error against step for the entries with the largest errors at the default step."""
    names = entry_names(result.reference)
    default_error = flat(result.default_error)
    worst = np.argsort(-np.nan_to_num(default_error, nan=np.inf), kind="stable")
    chosen = sorted(worst[:_LINES])
    step, error = flat(result.steps, 1)[:, chosen], flat(result.error, 1)[:, chosen]
    truncation, rounding = flat(result.truncation), flat(result.rounding)
    known = np.isfinite(flat(result.uncertainty))
    marks = {
        "default step": (flat(result.default_step), default_error, "D", 6),
        "best step": (flat(result.best_step), flat(result.best_error), "*", 12),
    }
    seen = np.concatenate([error.ravel(), default_error[chosen]])
    seen = seen[np.isfinite(seen) & (seen > 0)]
    low, high = (seen.min(), seen.max()) if seen.size else (1e-16, 1e-15)
    # Errors of zero have no place on a logarithmic axis: they stand on the floor.
    floor, bottom = low / 2, low / 4
    ax.set(xscale="log", yscale="log", xlabel="step h", ylabel="|derivative at h - reference|")
    # Another sweep may be drawn here already: this one goes on in colours and widens the view.
    before = [line for line in ax.lines if str(line.get_gid()).startswith(_CURVE)]
    view = (ax.get_xlim(), ax.get_ylim()) if before else None
    again = f", order {result.order}" if before else ""
    sweeps = {str(line.get_gid()) for line in before}
    for line in before if len(sweeps) == 1 else []:
        # Alone it needed no more than the entry's name.
        line.set_label(f"{line.get_label()}, order {str(line.get_gid()).rpartition(' ')[2]}")
    marker = _MARKERS[len(sweeps) % len(_MARKERS)]
    curve_id = f"{_CURVE} {len(sweeps)} of order {result.order}"
    for number, (i, h, e) in enumerate(zip(chosen, step.T, error.T, strict=True), len(before)):
        look: dict[str, Any] = {"color": CURVES[number % len(CURVES)]}
        label = short(names[i]) + ("" if known[i] else " (reference unsure)") + again
        curve = np.where(e > 0, e, np.nan)
        ax.plot(h, curve, marker, lw=1, ms=4, label=label, gid=curve_id, **look)
        ax.plot(h[e == 0], np.full((e == 0).sum(), floor), "v", ms=5, mfc="none", **look)
        ax.plot(h, truncation[i] * h**result.order, "--", lw=1, alpha=0.7, **look)
        ax.plot(h, rounding[i] / h, ":", lw=1, alpha=0.7, **look)
        for at, there, mark, size in marks.values():
            top = np.clip(there[i], floor, high)
            ax.vlines(at[i], bottom, top, lw=0.8, alpha=0.5, **look)
            ax.plot(at[i], top, mark, ms=size, mec=ink(), mew=0.6, zorder=3, **look)
    proxies: list[tuple[str, dict[str, Any]]] = [
        (label, {"marker": marker, "ls": "", "mec": ink()})
        for label, (_, _, marker, _) in marks.items()
    ]
    if np.any(np.isfinite(truncation[chosen])):
        proxies.append((f"$c\\,h^{result.order}$, truncation", {"ls": "--"}))
    if np.any(np.isfinite(rounding[chosen])):
        proxies.append(("$c/h$, rounding", {"ls": ":"}))
    if np.any(error == 0):
        proxies.append(("error is 0", {"marker": "v", "ls": "", "mfc": "none"}))
    uncertain = np.where(known, flat(result.uncertainty), 0)[chosen].max()
    if uncertain > bottom:
        ax.axhspan(bottom, uncertain, color=ink(), alpha=SHADE, zorder=0)
        proxies.append(("reference's own error", {"color": ink(), "alpha": SHADE, "lw": 7}))
    explained = ax.get_legend_handles_labels()[1]
    for label, proxy in proxies:
        if label not in explained:
            ax.plot([], [], **{"color": GREY, "label": label, **proxy})
    shown = np.concatenate([step[step > 0], flat(result.default_step)[chosen]])
    limits = (shown.min() / 1.5, shown.max() * 1.5), (bottom, high * 3)
    (left, right), (bottom, top) = (
        (min(own[0], old[0]), max(own[1], old[1]))
        for own, old in zip(limits, view or limits, strict=True)
    )
    ax.set_xlim(left, right)
    ax.set_ylim(bottom, top)
    if len(chosen) < len(names):
        ax.set_title(f"the {_LINES} of {len(names)} entries with the largest errors", size="medium")
    ax.legend(**BESIDE)
