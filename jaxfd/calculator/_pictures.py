"""What is drawn of a formula and its step: the curve, the V of error against step, the table.

A sweep computes all steps at once. Must not know how an estimate is shown in words.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxfd.calculator._programs import Program
from jaxfd.calculator._request import Request
from jaxfd.calculator._snippet import digits

_CURVE = 161
_SWEPT = 49
_TABLE = 14
# The fewest digits that anything but rounding leaves: below this a difference is all noise.
_SHORTEST = 1e-20


def finite(value: float) -> float | None:
    """The number, or None where JSON has none for it."""
    return float(value) if math.isfinite(value) else None


def curve_rows(asked: Request, step: float) -> tuple[np.ndarray, np.ndarray]:
    """The points at which the curve is drawn: whole points, and the moved entry of each."""
    centre = asked.point[asked.variable]
    reach = 3 * step if asked.near else max(abs(centre), 1.0, 1.5 * step)
    at = centre + np.linspace(-reach, reach, _CURVE)
    rows = np.repeat(np.array(asked.point, float)[None], _CURVE, axis=0)
    rows[:, asked.variable] = at
    return rows, at


def pictures(
    asked: Request,
    compiled: Program,
    found: Any,
    steps: np.ndarray,
    values: np.ndarray,
    exact: np.ndarray,
    at: np.ndarray,
    around: np.ndarray,
    offsets: tuple[int, ...],
) -> dict[str, Any]:
    """Curve, V and table of the drawn variable.

    Args:
        asked: the question.
        compiled: the program of its expression.
        found: jaxfd's estimate.
        steps: the step of each variable, shape ``(n,)``.
        values: the function at the point first, and along the curve at the end.
        exact: exact derivatives, shape ``(n,)``; NaN where there is none.
        at: the moved entry along the curve.
        around: the function at each variable's stencil, shape ``(n, k)``.
        offsets: the stencil's offsets, k of them.
    """
    v, step = asked.variable, float(steps[asked.variable])
    centre, truth = asked.point[v], float(exact[v])
    searched = asked.method == "adaptive"
    kind, order = ("central", 2) if searched else (asked.method, asked.order)
    grid = _grid(asked, kind, step)
    halved = step / float(asked.factor) ** np.arange(_TABLE)
    estimates = compiled.sweep(
        kind, order, np.concatenate([grid, halved]), asked.point, asked.noise
    )[:, v]
    errors = np.abs(estimates - truth)
    table = [
        _line(asked, h, e, truth, kind, float(values[0]))
        for h, e in zip(halved, estimates[len(grid) :], strict=True)
    ]
    if not searched:  # the first line is the result itself, to the last bit
        table[0] = _line(asked, step, float(found.grad[v]), truth, kind, float(values[0]))
    return {
        "shown": asked.names[v],
        "curve": {
            "x": at.tolist(),
            "y": [finite(y) for y in values[len(values) - len(at) :]],
            "at": centre,
            "value": finite(float(values[0])),
            "step": step,
            "points": [
                {"x": centre + s * step, "y": finite(float(y)), "offset": s}
                for s, y in zip(offsets, around[v], strict=True)
            ],
            "slope": finite(float(found.grad[v])),
            "tangent": finite(truth),
        },
        "vee": {
            "h": grid.tolist(),
            "error": [finite(e) for e in errors[: len(grid)]],
            "step": step,
            "at": finite(abs(float(found.grad[v]) - truth)),
            "floor": max(abs(truth) if math.isfinite(truth) else 0.0, 1e-8)
            * (1e-16 if asked.wide else 3e-8),
            "method": "central difference of order 2" if searched else "this method",
        },
        "table": table,
        "answer": _answer(table, truth),
    }


def _grid(asked: Request, kind: str, step: float) -> np.ndarray:
    """The steps of the V: from where they are lost in rounding to the size of the point."""
    centre = abs(asked.point[asked.variable])
    spacing = float(np.spacing(centre if asked.wide else np.float32(centre)))
    low = max(4 * spacing, _SHORTEST) if kind != "complex" else _SHORTEST
    if not asked.wide and kind != "complex":
        low = max(low, 1e-12)
    high = max(1.0, centre)
    low, high = min(low, step), max(high, step)
    return np.logspace(math.log10(low), math.log10(high), _SWEPT)


def _line(
    asked: Request, h: float, estimate: float, exact: float, kind: str, value: float
) -> dict[str, Any]:
    """One line of the table: a step, and what becomes of the derivative."""
    dtype = np.float64 if asked.wide else np.float32
    centre = dtype(asked.point[asked.variable])
    told: dict[str, Any] = {"h": f"{h:.4g}", "step": h}
    if kind != "complex" and centre + dtype(h) == centre:
        return told | {"estimate": "", "error": "", "lost": "all: x + h is x", "e": None}
    error = abs(estimate - exact)
    width = h * (2 if kind == "central" else 1)
    return told | {
        "estimate": f"{estimate:.{digits(asked.wide)}g}" if math.isfinite(estimate) else "none",
        "error": f"{error:.2g}" if math.isfinite(error) else "unknown",
        "lost": "0" if kind == "complex" else _lost(value, estimate * width, asked.wide),
        "e": finite(error),
    }


def _lost(value: float, numerator: float, wide: bool) -> str:
    """How many digits the subtraction lost: as many as the values have in common."""
    most = 16 if wide else 7
    if not numerator:
        return "all" if value else "0"
    if not value or not math.isfinite(numerator):
        return "0"
    shared = math.log10(abs(value)) - math.log10(abs(numerator))
    return str(min(most, max(0, round(shared))))


def _best(table: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The line with the smallest error, where of three neighbours the largest counts.

    One difference may be right by luck.
    """
    known = [line for line in table if line["e"] is not None]
    if not known:
        return None
    worst = [max(one["e"] for one in known[max(0, k - 1) : k + 2]) for k in range(len(known))]
    return known[worst.index(min(worst))]


def _answer(table: list[dict[str, Any]], exact: float) -> str:
    """Is a smaller h better? In a sentence, by the table."""
    known = [line for line in table if line["e"] is not None]
    best = _best(table)
    if best is None or not math.isfinite(exact):
        return "There is no exact derivative here, so that errors are not known either."
    if len(known) < 2:
        return "Is a smaller h better? Not from here: every smaller step is lost in rounding."
    best["best"] = True
    first, last = known[0], known[-1]
    if max(line["e"] for line in known) <= 4e-15 * max(abs(exact), 1e-300):
        return "Here it makes no difference: the error is rounding's at every step."
    if best["e"] == last["e"] == first["e"]:
        return "Here it makes no difference: the error is the same at every step."
    if best is first:
        return (
            f"Is a smaller h better? Not from here: at h = {first['h']} the error is "
            f"{first['error']}, at h = {last['h']} it is {last['error']}."
        )
    if best is last or last["e"] <= 2 * best["e"]:
        return (
            f"Is a smaller h better? As far as this table goes: the error falls from "
            f"{first['error']} to {last['error']} at h = {last['h']}."
        )
    return (
        f"Is a smaller h better? Only down to about h = {best['h']}, where the error is "
        f"{best['error']}; below that rounding takes over, and at h = {last['h']} it is "
        f"{last['error']}."
    )
