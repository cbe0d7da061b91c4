"""What is known about the gradient of a formula, as the page shows it.

Estimates are jaxfd's, the exact derivative is `jax.grad`'s in float64. Must not know how a formula
is read, nor of the server.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxfd.calculator._fields import FieldError
from jaxfd.calculator._pictures import curve_rows, finite, pictures
from jaxfd.calculator._programs import Program, make_method, program
from jaxfd.calculator._request import Request
from jaxfd.calculator._snippet import digits, snippet


def by_formula(asked: Request) -> dict[str, Any]:
    """Everything that the page of a formula shows.

    Args:
        asked: the question.

    Raises:
        FieldError: the function is not real where it is needed, or the method does not suit it.
    """
    compiled = program(asked.node, asked.names, asked.wide, bool(asked.noise))
    method = make_method(asked.method, asked.order, asked.step)
    here = np.array(asked.point, float)
    offsets = () if asked.method in ("complex", "adaptive") else method.stencil().offsets
    # What is not real is said before anything is compiled for it.
    if asked.step is not None:
        steps = np.full(len(here), asked.step)
        _check_stencil(asked, *_around(compiled, here, steps, offsets), offsets, steps)
    else:
        _check_stencil(asked, *_around(compiled, here, np.ones(len(here)), ()), (), here)
    try:
        found = compiled.estimate(method, asked.point, asked.noise)
    except (TypeError, ValueError) as error:
        raise FieldError({"m": _reason(asked, error)}) from None
    steps = np.array([float(np.asarray(step)) for step in found.step])
    curve, at = curve_rows(asked, steps[asked.variable])
    near = _near(here)
    values, slopes = compiled.values(np.concatenate([here[None], near, curve]))
    breaks = [
        _break(values[1 + 4 * k : 5 + 4 * k], slopes[1 + 4 * k : 5 + 4 * k, k])
        for k in range(len(here))
    ]
    exact = np.where([bool(what) for what in breaks], np.nan, slopes[0])
    value, around = _around(compiled, here, steps, offsets)
    _check_stencil(asked, value, around, offsets, steps)
    shown = [_row(asked, k, found, steps[k], exact[k], breaks[k]) for k in range(len(asked.names))]
    _check_found(asked, shown)
    return {
        "about": f"{asked.node} at {_place(asked)}",
        "copy": _copied(asked, found, shown),
        "variables": list(asked.names),
        "read": str(asked.node),
        "value": number_text(float(found.value), asked.wide),
        "rows": shown,
        "evaluations": int(found.evaluations),
        "method": method_text(asked),
        "notes": _notes(asked, found, steps, offsets, around, value, breaks),
        "snippet": snippet(asked),
        **pictures(asked, compiled, found, steps, values, exact, at, around, offsets),
    }


def _copied(asked: Request, found: Any, shown: list[dict[str, Any]]) -> str:
    """Values and assumptions, as text to be pasted elsewhere."""
    floats = "float64" if asked.wide else "float32"
    lines = [
        f"f = {asked.node} at {_place(asked)}",
        f"{method_text(asked)} in {floats}, {int(found.evaluations)} evaluations"
        + (f", noise of size {asked.noise:g} added" if asked.noise else ""),
    ]
    for row in shown:
        lines.append(
            f"df/d{row['name']} = {row['estimate']} (step {row['step']}, error bar {row['bar']}); "
            f"exact {row['exact']}, error {row['error']}"
        )
    return "\n".join(lines) + "\n"


def number_text(value: float, wide: bool) -> str:
    """A number in the digits that the page shows."""
    return f"{value:.{digits(wide)}g}"


def method_text(asked: Request) -> str:
    """The method in words."""
    words = {"complex": "complex step", "adaptive": "adaptive"}
    if asked.method in words:
        return words[asked.method]
    return f"{asked.method} difference of order {asked.order}"


def _row(
    asked: Request, k: int, found: Any, step: float, exact: float, broken: str
) -> dict[str, Any]:
    """One partial derivative."""
    slope, bar = float(found.grad[k]), float(found.error[k])
    error = abs(slope - exact)
    full = found.grad[k]
    return {
        "name": asked.names[k],
        "point": f"{asked.point[k]:.12g}",
        "estimate": number_text(slope, asked.wide),
        "full": str(np.asarray(full)[()]) if math.isfinite(slope) else "",
        "exact": number_text(exact, True) if math.isfinite(exact) else broken or "none",
        "error": f"{error:.2g}" if math.isfinite(error) else "unknown",
        "bar": f"{bar:.2g}"
        if math.isfinite(bar)
        else "unknown"
        if math.isnan(bar)
        else "unbounded",
        "step": f"{step:.4g}",
        "within": finite(float(error <= bar)) if math.isfinite(error) and bar == bar else None,
        "slope": finite(slope),
        "tangent": finite(exact),
    }


def _near(here: np.ndarray) -> np.ndarray:
    """Points very close to this one: each entry moved far and less far, to both sides."""
    rows = np.repeat(here[None], 4 * len(here), axis=0)
    for k, entry in enumerate(here):
        distance = 1e-7 * (abs(entry) or 1.0)
        rows[4 * k : 4 * k + 4, k] += distance * np.array([-1, 1, -0.125, 0.125])
    return rows


def _break(values: np.ndarray, slopes: np.ndarray) -> str:
    """Whether the function has a jump or a kink between points of `_near`: what does not shrink.

    At such a point `jax.grad` returns one of the two slopes, or 0, which is no derivative.
    """
    for numbers, what in ((values, "none: a jump"), (slopes, "none: a kink")):
        far, close = abs(numbers[1] - numbers[0]), abs(numbers[3] - numbers[2])
        if far > 1e-5 * np.max(np.abs(numbers)) and close > 0.9 * far:
            return what
    return ""


def _around(
    compiled: Program, here: np.ndarray, steps: np.ndarray, offsets: tuple[int, ...]
) -> tuple[float, np.ndarray]:
    """The function at the point, and at each variable's stencil, shape ``(n, k)``."""
    rows = [here[None]]
    for k, step in enumerate(steps):
        moved = np.repeat(here[None], len(offsets), axis=0)
        moved[:, k] += np.array(offsets, float) * step
        rows.append(moved)
    values = compiled.values(np.concatenate(rows))[0]
    return float(values[0]), values[1:].reshape(len(here), len(offsets))


def _place(asked: Request) -> str:
    return ", ".join(f"{n} = {p:.6g}" for n, p in zip(asked.names, asked.point, strict=True))


def _check_stencil(
    asked: Request,
    value: float,
    around: np.ndarray,
    offsets: tuple[int, ...],
    steps: np.ndarray,
) -> None:
    """Raises where the function is no number at the point, or at one that is moved."""
    if not math.isfinite(value):
        what = "not real" if math.isnan(value) else "infinite"
        message = f"The function is {what} at {_place(asked)}: take another point."
        raise FieldError({f"x.{asked.names[asked.variable]}": message})
    for k, s in zip(*np.nonzero(~np.isfinite(around)), strict=True):
        offset, name = offsets[s], asked.names[k]
        times = "" if abs(offset) == 1 else str(abs(offset))
        place = f"{name} {'-' if offset < 0 else '+'} {times}h"
        at = asked.point[k] + offset * steps[k]
        what = "not real" if math.isnan(around[k, s]) else "infinite"
        other = "forward" if offset < 0 else "backward"
        raise FieldError(
            {
                "h": f"The function is {what} at {place} = {at:.6g}: "
                f"take a smaller step, or a {other} difference."
            }
        )


def _check_found(asked: Request, shown: list[dict[str, Any]]) -> None:
    for row in shown:
        if row["slope"] is None:
            narrow = "" if asked.wide else " Float32 ends at 3e38: try float64."
            raise FieldError({"m": f"No estimate is found for {row['name']} here.{narrow}"})


def _reason(asked: Request, error: Exception) -> str:
    if asked.method == "complex":
        return (
            "A complex step needs a function that keeps the imaginary part: this one has a part "
            "that loses it, or does not take complex numbers (|x|, max, floor, sign, erf). "
            "Take another method."
        )
    return str(error)


def _notes(
    asked: Request,
    found: Any,
    steps: np.ndarray,
    offsets: tuple[int, ...],
    around: np.ndarray,
    value: float,
    breaks: list[str],
) -> list[str]:
    """What a reader should know before believing the number."""
    notes = []
    for k, name in enumerate(asked.names):
        step = steps[k]
        if asked.step is not None and not math.isclose(step, asked.step, rel_tol=0.02):
            notes.append(
                f"h = {asked.step:.4g} is lost in rounding beside {name} = {asked.point[k]:.6g}: "
                f"jaxfd stepped {step:.4g} instead."
            )
        if bool(np.any(found.one_sided[k])):
            notes.append(f"The points of {name} lie to one side.")
        if {-1, 0, 1} <= {*offsets, 0} and -1 in offsets and 1 in offsets:
            ahead = (around[k, offsets.index(1)] - value) / step
            behind = (value - around[k, offsets.index(-1)]) / step
            apart = abs(ahead - behind)
            if apart > 0.5 * max(abs(ahead), abs(behind)) and apart * step > 1e-6 * abs(value):
                why = breaks[k].removeprefix("none: ") or "the function bends within h"
                notes.append(
                    f"To the right of {name} = {asked.point[k]:.6g} the slope is {ahead:.6g}, "
                    f"to the left {behind:.6g}: {why}."
                )
    return notes
