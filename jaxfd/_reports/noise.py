"""The noise of a function, seen in differences of a few values along a line.

It exists because a finite difference cannot be better than the function's noise allows, and few
functions say how noisy they are. The arithmetic is on plain numbers; this room must not know
which method, or which check, wants the answer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax import tree_util
from jaxtyping import Float

from jaxfd._arrays import PyTree, check_number, check_positive
from jaxfd._reports.entries import check_real
from jaxfd._reports.probe import check_output, default_direction, eps_of, leaves_of, probe, size_of
from jaxfd._transforms import schedule_of

# Nine points a table: the tables of Moré and Wild have seven to nine.
_TICKS = np.array([-4, -3, -2, -1, 1, 2, 3, 4])
# Fewer neighbours than this leave too few levels to compare.
_FEWEST = 5
# Spacings are these powers of the dtype's eps. The first is as fine as leaves points distinct by a
# good margin; at the last a smooth function is still almost a polynomial.
_POWERS = (3 / 4, 11 / 24, 1 / 6)
# Three levels in a row within this factor are taken to be one (Moré and Wild, section 6).
_AGREE = 4.0


@dataclasses.dataclass(frozen=True)
class Noise:
    """How noisy a function is near a point. ``float(noise)`` is the level.

    Attributes:
        level: the standard deviation of the noise, in units of the output.
        levels: what the differences of order 1, 2, ... make of it. They fall while the function's
            own variation shows, and stay where noise is left.
        spacing: the distance between neighbouring points that this was seen at, in directions.
        conclusive: whether three levels in a row agree. If not, ``level`` is a stand-in: the
            remainder of the highest differences, the size of the jumps of a function that is
            constant in pieces, or where there is neither, ``eps * |f(x)|``.
        evaluations: the number of evaluations.

    Example:
        >>> import numpy as np, jaxfd
        >>> jaxfd.Noise(1e-6, (3e-6, 1e-6), 1e-4, conclusive=True, evaluations=9).level
        1e-06
    """

    level: float
    levels: tuple[float, ...]
    spacing: float
    conclusive: bool
    evaluations: int

    def __float__(self) -> float:
        return self.level

    def __str__(self) -> str:
        doubt = "" if self.conclusive else ", not conclusive"
        levels = " ".join(f"{level:.2g}" for level in self.levels)
        return (
            f"noise {self.level:.3g} at spacing {self.spacing:.2g} ({self.evaluations} "
            f"evaluations{doubt})\nby order of difference: {levels}"
        )


@dataclasses.dataclass(frozen=True)
class DifferenceTable:
    """What one difference table says: as `Noise`, and what is needed to choose between tables.

    Attributes:
        level: the noise level, or what stands in for it.
        levels: one for each order of difference.
        conclusive: whether three levels in a row agree.
        still: whether half of the neighbouring values are equal.
        drift: the size of the mean change from one value to the next.
    """

    level: float
    levels: tuple[float, ...]
    conclusive: bool
    still: bool
    drift: float


def difference_table(values: Float[np.ndarray, "n"]) -> DifferenceTable:
    """Estimates the noise of equally spaced values from their difference table.

    Differences of order k wear a smooth function down, and multiply the variance of independent
    noise by ``(2k)! / (k!)^2``. So ``sigma_k = sqrt(gamma_k * mean(T_k^2))`` with
    ``gamma_k = (k!)^2 / (2k)!`` falls with k until noise is left, and then stays. The level is the
    first ``sigma_k`` whose differences have both signs and which agrees with the two after it.

    Args:
        values: the values, 5 or more, finite.

    Returns:
        What they say.

    Example:
        >>> smooth, jitter = np.arange(9.0) ** 2, 1e-3 * np.array([1, -1, 0, 1, 1, -1, 0, -1, 1])
        >>> table = difference_table(smooth + jitter)
        >>> print(table.conclusive, round(table.level, 4))
        True 0.0008

    Reference:
        J. Moré and S. Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33 (2011)
        1292-1314, sections 3 and 6.
    """
    # Scaled by a power of two, which rounds nothing, so that no square overflows or vanishes.
    unit = math.ldexp(1.0, math.frexp(float(np.max(np.abs(values))))[1] - 1)
    scaled = np.asarray(values, np.float64) / unit
    first = differences = np.diff(scaled)
    levels, signs = [], []
    for order in range(1, len(values)):
        gamma = math.factorial(order) ** 2 / math.factorial(2 * order)
        levels.append(unit * math.sqrt(gamma * float(np.mean(differences**2))))
        signs.append(bool(differences.min() < 0 < differences.max()))
        differences = np.diff(differences)
    still = 2 * int(np.sum(first == 0)) >= len(first)
    chosen = [
        level
        for k, level in enumerate(levels[:-2])
        if signs[k] and max(levels[k : k + 3]) <= _AGREE * min(levels[k : k + 3])
    ]
    conclusive = bool(chosen) and not still
    stand_in = levels[0] if still else levels[-1]
    level = chosen[0] if conclusive else stand_in
    return DifferenceTable(
        level, tuple(levels), conclusive, still, unit * float(abs(np.mean(first)))
    )


def choose(tables: Sequence[DifferenceTable], spacings: Sequence[float]) -> int:
    """The number of the table to believe, of tables ordered from fine to coarse.

    The finest conclusive one: at wider spacings a function's own waves may look like noise. But a
    table is passed over whose level is too low to explain why values stood still at a finer
    spacing. If none is conclusive: the coarsest of those that stood still but for some jumps, or
    else the one with the lowest remainder.
    """
    for i, table in enumerate(tables):
        unmoved = [s for t, s in zip(tables[:i], spacings[:i], strict=True) if t.still]
        expected = table.drift * max(unmoved, default=0.0) / spacings[i]
        if table.conclusive and table.level >= 0.1 * expected:
            return i
    jumps = [i for i, table in enumerate(tables) if table.still and table.level > 0]
    if jumps:
        return jumps[-1]
    moving = [i for i, table in enumerate(tables) if not table.still]
    return min(moving, key=lambda i: tables[i].level, default=len(tables) - 1)


def _direction(x: PyTree, leaves: list[np.ndarray], direction: PyTree) -> list[np.ndarray]:
    check_real("estimate_noise (direction)", direction)
    given = [np.asarray(v) for v in tree_util.tree_leaves(direction)]
    wanted: Any = tree_util.tree_structure(x)
    found: Any = tree_util.tree_structure(direction)
    shapes = [v.shape for v in given], [z.shape for z in leaves]
    if wanted != found or shapes[0] != shapes[1]:
        raise ValueError(
            f"direction has the structure {found} with shapes {shapes[0]}, but x has {wanted} with "
            f"{shapes[1]}: give one number for each of x."
        )
    if not all(np.isfinite(v).all() for v in given) or not any(v.any() for v in given):
        raise ValueError("direction must be finite and not zero: it says where x is moved.")
    return [v.astype(z.dtype) for v, z in zip(given, leaves, strict=True)]


def _longest_run(values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "m"]:
    """The longest run of neighbours that are finite."""
    runs = np.split(values, np.flatnonzero(~np.isfinite(values)))
    return max((run[np.isfinite(run)] for run in runs), key=len)


def estimate_noise(
    fun: Callable[[PyTree], Any],
    x: PyTree,
    *,
    direction: PyTree | None = None,
    step: float | None = None,
    chunk_size: int | None = None,
) -> Noise:
    """Estimates the standard deviation of a function's noise near ``x``.

    Noise is what a function does from point to point beside its smooth course: rounding, a solver
    that stops early, random numbers, quantisation. It is found in difference tables of nine points
    on a line, at three spacings in one batch: 25 evaluations, whatever the size of ``x``. What
    counts as noise depends on the spacing: a solver may be smooth over 1e-10 and rough over 1e-4.
    Set ``step`` to ask at the scale of the differences to be formed.

    Args:
        fun: a function of one pytree that returns one real number; a `blackbox` too.
        x: a pytree of concrete real floating arrays.
        direction: a pytree like ``x``, the line's direction. By default every entry moves by 1/2
            to 1 times ``max(|x|, 1)``, with fixed signs.
        step: the distance between neighbouring points, in directions; by default it is chosen
            from three, ``eps^(3/4)`` to ``eps^(1/6)`` times ``max(|x|, 1)``. Given, 9 evaluations.
        chunk_size: as for `grad`.

    Returns:
        A `Noise` with the level, whether it is conclusive, and the table it was read from.

    Raises:
        TypeError: ``x`` or ``direction`` is traced or not real, or ``fun`` returns something else
            than one real number.
        ValueError: ``direction`` or ``step`` is out of range, or too few values are finite.

    Example:
        >>> import jax.numpy as jnp, jaxfd
        >>> def rough(x):
        ...     return jnp.sum(x**2) + 1e-3 * jnp.sin(1e8 * x[0])
        >>> noise = jaxfd.estimate_noise(rough, jnp.array([1.0, 2.0]), step=1e-2)
        >>> print(noise.conclusive, 2e-4 < noise.level < 2e-3)
        True True

    Reference:
        J. Moré and S. Wild, "Estimating computational noise", SIAM J. Sci. Comput. 33 (2011)
        1292-1314.
    """
    schedule = schedule_of(chunk_size)
    leaves = leaves_of("estimate_noise", x)
    along = default_direction(leaves)
    if direction is not None:
        along = _direction(x, leaves, direction)
    if step is None:
        pace = max(
            float(np.max(np.abs(v) / size_of(z), initial=0.0))
            for v, z in zip(along, leaves, strict=True)
        )
        eps = eps_of(fun, leaves)
        # Powers of two, so that no point is rounded.
        spacings = [2.0 ** round(math.log2(eps**power / pace)) for power in _POWERS]
    else:
        check_number(step, "step", "one number, the points' distance")
        check_positive(step, "step")
        spacings = [float(step)]
    distances = np.concatenate([spacing * _TICKS for spacing in spacings])
    check_output("estimate_noise", fun, x)
    value, changes, _ = probe("estimate_noise", fun, x, along, distances, schedule)
    centre = 0.0 if np.isfinite(float(value)) else math.nan
    rows = np.insert(changes.reshape(len(spacings), -1), len(_TICKS) // 2, centre, axis=1)
    usable = [
        (difference_table(run), spacing)
        for run, spacing in zip(map(_longest_run, rows), spacings, strict=True)
        if len(run) >= _FEWEST
    ]
    if not usable:
        raise ValueError(
            f"estimate_noise found no {_FEWEST} neighbouring points with finite values, and "
            f"{float(value)} at x: choose an x, a direction or a step inside the domain."
        )
    number = choose([table for table, _ in usable], [spacing for _, spacing in usable])
    table, spacing = usable[number]
    level = table.level
    if not table.conclusive:
        level = max(level, eps_of(fun, [*leaves, value]) * abs(float(value)))
    return Noise(level, table.levels, spacing, table.conclusive, len(distances) + 1)
