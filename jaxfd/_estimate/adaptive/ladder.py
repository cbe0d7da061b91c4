"""How far a function may be followed: the radius at which to fit it, from a ladder of steps.

What a polynomial of low degree leaves of a smooth function falls fast from rung to rung; what it
leaves of noise does not. Where it stands out of the noise it tells the scale of the function, and
with it the radius where truncation meets noise. Numbers only, as in `fits`: this room must not
know who evaluates the points.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxfd._arrays import apply, column
from jaxfd._estimate.adaptive.fits import orthonormal

# What is left by the polynomials and is this many times the noise is the function's own.
_SIGNIFICANT = 4.0
# The noise on the ladder may be larger than that close to x by this factor; what is larger still
# is structure that the ladder does not resolve.
LIFT = 10.0
# A bar is this many standard errors: a few points know their own noise badly.
_CAUTION = 4.0
# From the top of a ladder to its bottom.
SPAN = 256.0
# Scales that a smooth function claims from rung to rung differ by less than this factor.
CLAIMS = 4.0
# A bottom rung this close to the function's scale leaves it unresolved.
_CLOSE = 1.2
# A fit to one side that misses the value at x by this share of the change has not seen its scale.
_ASTRAY = 1 / 8
# A gradient is worth a wider ladder where its bar is larger than this share of it.
_FINE = 1e-9


@dataclasses.dataclass(frozen=True)
class Ladder:
    """A row of steps, and how to read what the function does on them.

    Windows of neighbouring rungs are looked at one by one; each part of the data (odd and even, or
    all in one) has polynomials of its own.

    Attributes:
        offsets: the points in units of the top step.
        steps: the top rung of each window, shape ``(W,)``.
        top: the row of that rung, for each window and part, shape ``(W, B)``.
        uses: which rows a window uses, shape ``(W, P)``.
        left: what the last polynomial of each window and part makes of the data, ``(W * B, P)``.
        next: what it makes of the first power not among the others, for a top rung of 1, ``(B,)``.
        power: the power of the scale in the ratio of what is left to the whole.
        slope: weights of the derivative, for each estimate, in units of its top rung, ``(E, P)``.
        rest: the polynomials left by each estimate, ``(R, P)``.
        sums: which of these belong to it, over their number, ``(E, R)``.
        gain: its error for noise of size 1, shape ``(E,)``.
        window: its window, shape ``(E,)``.
        curves: polynomials of the first window that show curvature, ``(V, P)``.
        most: how large they may be for a straight line, ``(V,)``.
        origin: weights of what the lowest window makes of the change at ``x`` itself, which is 0;
            ``(P,)``.
        origin_gain: its error for noise of size 1.
        share: the radius for noise as large as the function, in units of its scale.
        order: the order of the fits to come.
    """

    offsets: np.ndarray
    steps: np.ndarray
    top: np.ndarray
    uses: np.ndarray
    left: np.ndarray
    next: np.ndarray
    power: int
    slope: np.ndarray
    rest: np.ndarray
    sums: np.ndarray
    gain: np.ndarray
    window: np.ndarray
    curves: np.ndarray
    most: np.ndarray
    origin: np.ndarray
    origin_gain: float
    share: float
    order: int

    @property
    def points(self) -> int:
        """The number of points."""
        return len(self.offsets)


def _ladder(
    offsets: np.ndarray,
    ratio: int,
    count: int,
    width: int,
    kinds: dict[str, int],
    curves: dict[tuple[int, int], float],
    **rest: Any,
) -> Ladder:
    """Lays windows on ``count`` rungs.

    Args:
        offsets: as in `Ladder`.
        ratio: the ratio of a rung to the next.
        count: the number of rungs.
        width: the number of rungs in a window.
        kinds: the polynomials of each part, and the first power not among them.
        curves: part and number of polynomials that show curvature, and their largest size.
        rest: the other attributes.
    """
    nodes = [Fraction(1, ratio**i) for i in range(width)]
    bases = [orthonormal(nodes, kind) for kind in kinds]
    size, windows = count * len(kinds), count - width + 1

    def row(part: int, window: int, values: np.ndarray) -> np.ndarray:
        result = np.zeros(size)
        start = part * count + window
        result[start : start + width] = values
        return result

    every = [(j, part) for j in range(windows) for part in range(len(kinds))]
    slope, sums, gain, window = [], [], [], []
    remain: list[np.ndarray] = []
    lead = bases[0]
    for j in range(windows):
        for kept in (width - 2, width - 1):
            slope.append(row(0, j, lead.slopes[:kept] @ lead.values[:kept]))
            gain.append(math.sqrt(float(np.sum(lead.slopes[:kept] ** 2))))
            window.append(j)
            sums.append((len(remain), width - kept))
            remain += [row(0, j, values) for values in lead.values[kept:]]
    share = np.zeros((len(sums), len(remain)))
    for estimate, (start, number) in enumerate(sums):
        share[estimate, start : start + number] = 1 / number
    powers = list(kinds.values())
    return Ladder(
        offsets=offsets,
        steps=float(ratio) ** -np.arange(windows),
        top=np.array(
            [[part * count + j for part in range(len(kinds))] for j in range(windows)], np.int32
        ),
        uses=np.array(
            [sum(row(p, j, np.ones(width)) for p in range(len(kinds))) for j in range(windows)]
        ),
        left=np.array([row(part, j, bases[part].values[-1]) for j, part in every]),
        next=np.array(
            [
                abs(float(base.values[-1] @ np.array([float(t**power) for t in nodes])))
                for base, power in zip(bases, powers, strict=True)
            ]
        ),
        slope=np.array(slope),
        rest=np.array(remain),
        sums=share,
        gain=np.array(gain),
        window=np.array(window, np.int32),
        curves=np.array([row(part, 0, bases[part].values[i]) for part, i in curves]),
        most=np.array(list(curves.values())),
        origin=row(0, windows - 1, lead.origins[: width - 1] @ lead.values[: width - 1]),
        origin_gain=math.sqrt(float(np.sum(lead.origins[: width - 1] ** 2))),
        **rest,
    )


@functools.cache
def two_sided_ladder() -> Ladder:
    """Five rungs to both sides, each a quarter of the one above."""
    shares = 4.0 ** -np.arange(5)
    return _ladder(
        np.concatenate([shares, -shares]),
        ratio=4,
        count=5,
        width=3,
        kinds={"odd": 5, "square": 6},
        curves={(0, 1): 1 / 256, (1, 0): 1 / 8},
        power=4,
        share=6.2,
        order=9,
    )


@functools.cache
def one_sided_ladder() -> Ladder:
    """Ten rungs to one side, each half of the one above."""
    return _ladder(
        2.0 ** -np.arange(10),
        ratio=2,
        count=10,
        width=5,
        kinds={"all": 4},
        curves={(0, 2): 1 / 32},
        power=3,
        share=2.5,
        order=11,
    )


class Reading(NamedTuple):
    """What a ladder told, entry by entry.

    Attributes:
        radius: how far the fits shall reach.
        slope: a first estimate of the derivative.
        bar: a bound of its error.
        unresolved: whether the function's scale lies below the ladder.
        straight: whether nothing but a straight line is seen above the noise, and a longer ladder
            would tell more.
        moves: whether the function changes at all.
        any: whether any window has finite values only.
        claim: the largest scale that a window claims at least.
        least: the smallest one of windows that show more than noise.
        rough: the derivative as windows see it that show more than noise: all of them where the
            scale lies below the ladder, else those that others below them contradict.
        rough_bar: a bound of the error of that; infinite without one.
        tooth: what the derivative may be off by where such windows see jumps: their height over
            the largest step without one.
    """

    radius: Float[Any, "*s"]
    slope: Float[Any, "*s"]
    bar: Float[Any, "*s"]
    unresolved: Bool[Any, "*s"]
    straight: Bool[Any, "*s"]
    moves: Bool[Any, "*s"]
    any: Bool[Any, "*s"]
    claim: Float[Any, "*s"]
    least: Float[Any, "*s"]
    rough: Float[Any, "*s"]
    rough_bar: Float[Any, "*s"]
    tooth: Float[Any, "*s"]


def read(xp: Any, ladder: Ladder, data: Any, top: Any, noise: Any, lift: Any) -> Reading:
    """Reads a ladder.

    Args:
        xp: the array namespace.
        ladder: its shape.
        data: what the function did, shape ``(P, *s)``.
        top: the top step, broadcastable to ``(*s)``.
        noise: the least noise, as seen close to ``x``, shape ``(*s)``.
        lift: by how much the noise may be larger than that.
    """
    finite = xp.isfinite(data)
    clean = xp.where(finite, data, 0)
    dtype, entry = clean.dtype, clean[0]
    windows, kinds = ladder.top.shape
    steps = column(ladder.steps, entry) * top
    fine = apply(xp, ladder.uses, xp.where(finite, 0.0, 1.0).astype(dtype)) == 0
    whole = functools.reduce(xp.maximum, [xp.abs(clean[rows]) for rows in ladder.top.T])
    left = xp.abs(apply(xp, ladder.left, clean))
    left = left.reshape(windows, kinds, *clean.shape[1:])
    spread = xp.sqrt(apply(xp, ladder.sums, apply(xp, ladder.rest, clean) ** 2))
    reach = steps[ladder.window]
    bars = _CAUTION * column(ladder.gain, entry) * xp.maximum(spread, noise) / reach
    bars = xp.where(fine[ladder.window], bars, np.inf)
    slopes = apply(xp, ladder.slope, clean) / reach
    best = xp.argmin(bars, axis=0)[None]
    bar = xp.take_along_axis(bars, best, axis=0)[0]
    slope = xp.take_along_axis(slopes, best, axis=0)[0]
    # The noise: as close to x, but what the lowest window leaves, if that is not much more.
    low = xp.max(left[-1], axis=0)
    seen = xp.where(fine[-1], low, 0)
    noise = xp.maximum(noise, xp.where(noise > 0, xp.minimum(seen, lift * noise), seen))
    threshold = _SIGNIFICANT * noise
    own = fine[:, None] & (left > threshold)

    def ratio_of(left: Any, least: Any) -> Any:
        size = xp.maximum(left, least)
        return whole[:, None] * column(ladder.next, entry)[None] / xp.where(size > 0, size, 1)

    ratio = ratio_of(left, 0.0)
    scale = xp.where(own, steps[:, None] * ratio ** (1 / ladder.power), np.inf)
    scale = xp.min(scale, axis=(0, 1))
    least = np.finfo(dtype).tiny
    largest = xp.max(xp.where(fine, whole, 0), axis=0)
    quiet = noise / xp.maximum(xp.maximum(largest, noise), least)
    radius = ladder.share * scale * xp.maximum(quiet, least) ** (1 / ladder.order)
    unresolved = ~fine[-1] | ((low > threshold) & (scale < _CLOSE * steps[-1]))
    if ladder.origin_gain:
        # Where all rungs agree on another value at x than it has, something happens before them.
        miss = xp.abs(apply(xp, ladder.origin[None], clean))[0]
        unresolved = unresolved | (
            (miss > ladder.origin_gain * threshold) & (miss > _ASTRAY * whole[-1])
        )
    curved = xp.abs(apply(xp, ladder.curves, clean))
    still = fine[0] & xp.all(left[0] <= threshold, axis=0)
    still = still & xp.all(
        curved <= xp.maximum(threshold, column(ladder.most, entry) * whole[0]), axis=0
    )
    moves = largest > 0
    straight = still & moves & (bar > _FINE * xp.abs(slope))
    claims = steps[:, None] * (ratio_of(left, threshold) ** (1 / ladder.power))
    claims = xp.min(claims, axis=1)
    claims = xp.where(fine, claims, 0)
    shows = xp.any(own, axis=1)
    shown = xp.where(shows, claims, np.inf)
    # What the function follows to a larger scale close by than farther away jumps in between.
    below = [xp.max(claims[k + 1 :], axis=0, initial=0) for k in range(windows)]
    jumps = (CLAIMS * shown < xp.stack(below)) | (shows & unresolved)
    leaves = xp.where(own, left, 0)
    lowest = xp.max(leaves[-1], axis=0)
    tall = xp.max(xp.where(jumps[:, None], leaves, 0), axis=(0, 1))
    tall = xp.where(unresolved, lowest, tall)
    # The top rung of a window has little weight in what polynomials leave: the next one is clean.
    following = steps / 16
    clean = xp.min(xp.where(jumps, following, np.inf), axis=0)
    clean = xp.where(unresolved, steps[0] / SPAN, clean)
    tooth = xp.where(xp.any(jumps, axis=0), tall / xp.where(xp.isfinite(clean), clean, 1), 0)
    rough_bars = xp.where(jumps[ladder.window], bars, np.inf)
    worst = xp.argmin(rough_bars, axis=0)[None]
    return Reading(
        radius,
        slope,
        bar,
        unresolved,
        straight,
        moves,
        xp.any(fine, axis=0),
        claim=xp.max(claims, axis=0),
        least=xp.min(shown, axis=0),
        rough=xp.take_along_axis(slopes, worst, axis=0)[0],
        rough_bar=xp.take_along_axis(rough_bars, worst, axis=0)[0],
        tooth=tooth,
    )
