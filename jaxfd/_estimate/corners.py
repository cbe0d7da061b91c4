"""Corners: points that move two entries, and how their values become a mixed derivative.

Without walls a pair has the points ``x + s (h_i e_i + h_j e_j)`` for the offsets ``s`` of a first
derivative. With walls each entry has a row of points of its own, and the pair has all products of
both. It must not know which pairs there are, nor who asks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxfd._arrays import over
from jaxfd._estimate.layout import QUIET, Layout, rows_of
from jaxfd._methods import Stencil, slopes_on
from jaxfd._places import Place
from jaxfd._points import Coordinates


@dataclasses.dataclass(frozen=True)
class Corners:
    """The corners of pairs of entries.

    Node ``k`` moves the first entry as node ``first[k]`` of its axis does, the second as
    ``second[k]`` of its own.

    Attributes:
        points: the points.
        layout: those along the axes.
        first: the node of the first entry's axis, one number for all pairs or an array of shape
            ``(*lead, N)``, for each of the K nodes.
        second: that of the second's.
        slopes: for either the coefficient of the slope along the axis, shape ``(K, *lead, N)``.
        weight: what every node counts besides, shape ``(K,)``.
        opposite: two nodes that tell the same, None where there are none.
    """

    points: Coordinates
    layout: Layout
    first: Sequence[Int[Any, "*lead n"] | int]
    second: Sequence[Int[Any, "*lead n"] | int]
    slopes: tuple[Float[Any, "k *lead n"], Float[Any, "k *lead n"]] | None
    weight: tuple[float, ...]
    opposite: tuple[int, int] | None

    @QUIET
    def weigh(
        self,
        place: Place,
        centre: Shaped[Any, "*lead *out"],
        along: Shaped[Any, "k *lead n *out"],
        corners: Shaped[Any, "k *lead m *out"],
        i: Int[Any, "m"],
        j: Int[Any, "m"],
    ) -> tuple[Shaped[Any, "*lead m *out"], Shaped[Any, "*lead m *out"] | None]:
        """The mixed derivatives of some pairs, and by how much opposite corners differ in them.

        Args:
            place: where this runs.
            centre: an output at ``x``.
            along: the same along the axes.
            corners: the same at the corners.
            i: the first entries of the pairs.
            j: the second ones.
        """
        xp, axis = place.xp, len(place.lead)
        dtype = place.compute_dtype(corners.dtype, self.layout.h.dtype)
        base = xp.expand_dims(centre.astype(dtype), axis)
        along, away = along.astype(dtype), self.layout.distances.astype(dtype)
        total: Any = 0.0
        told = []
        for k, weight in enumerate(self.weight):
            ways = (self.first[k], i), (self.second[k], j)
            one, two = (_picked(xp, along, which, entry, axis) for which, entry in ways)
            width, height = (_picked(xp, away, which, entry, axis) for which, entry in ways)
            change = (corners[k].astype(dtype) - one) - (two - base)
            told.append(change / over(width * height, change))
            share: Any = weight
            if self.slopes is not None:
                share = self.slopes[0][k][..., i] * self.slopes[1][k][..., j]
                share = over(share.astype(dtype), change)
            total = total + share * told[-1]
        flat = self.layout.flat
        if flat is not None:
            known = over((flat[..., i] * flat[..., j]).astype(dtype), total)
            total = xp.where(known == 0, 0, total * known)
        if self.opposite is None:
            return total, None
        return total, xp.abs(told[self.opposite[0]] - told[self.opposite[1]])


def _picked(xp: Any, rows: Any, which: Any, entries: Any, axis: int) -> Any:
    """Of some entries one of several rows each: shape ``(*lead, m, *out)``."""
    if isinstance(which, int):
        return xp.take(rows[which], entries, axis=axis)
    rows, which = xp.take(rows, entries, axis=axis + 1), which[..., entries]
    which = which.reshape(1, *which.shape, *(1,) * (rows.ndim - which.ndim - 1))
    return xp.take_along_axis(rows, which, axis=0)[0]


def corners(
    place: Place, layout: Layout, stencil: Stencil, pairs: tuple[np.ndarray, np.ndarray]
) -> Corners:
    """Lays the corners of pairs.

    Args:
        place: where they will be evaluated.
        layout: the points along the axes.
        stencil: that of first derivatives.
        pairs: the entries of every pair.
    """
    if layout.row is None:
        return _plain(place, layout, stencil, pairs)
    return _products(place, layout, stencil, pairs)


def _plain(
    place: Place, layout: Layout, stencil: Stencil, pairs: tuple[np.ndarray, np.ndarray]
) -> Corners:
    moving = stencil.moving
    index = [layout.stencil.moving.index(s) for s in moving]
    values = layout.points.values[np.array(index)]
    both = [(k, moving.index(-s)) for k, s in enumerate(moving) if s > 0 and -s in moving]
    weight = [float(w * s) for s, w in zip(stencil.offsets, stencil.weights, strict=True) if s != 0]
    return Corners(
        points=Coordinates(
            layout.points.x, place.lead, values, tuple(p.astype(np.int32) for p in pairs)
        ),
        layout=layout,
        first=index,
        second=index,
        slopes=None,
        weight=tuple(weight),
        opposite=both[0] if both else None,
    )


def _products(
    place: Place, layout: Layout, stencil: Stencil, pairs: tuple[np.ndarray, np.ndarray]
) -> Corners:
    xp = place.xp
    wanted = len(stencil.moving)
    own, every = layout.stencil.moving, rows_of(layout.stencil)
    kept = [_nearest(row, wanted) for row in every]
    kept[-1] = [own.index(s) for s in stencil.moving]
    slopes = [
        slopes_on(tuple(sorted((0, *(row[k] for k in chosen)))))
        for row, chosen in zip(every, kept, strict=True)
    ]
    where = xp.asarray(np.array(kept, np.int32).T)[:, layout.row]
    table = xp.asarray(np.array(slopes).T.astype(layout.distances.dtype))[:, layout.row]
    m, n = (grid.reshape(-1) for grid in np.meshgrid(range(wanted), range(wanted), indexing="ij"))
    values = xp.take_along_axis(layout.points.values, where, axis=0)
    apart = tuple(values[k][..., entry] for k, entry in zip((m, n), pairs, strict=True))
    return Corners(
        points=Coordinates(
            layout.points.x,
            place.lead,
            apart[0],
            tuple(p.astype(np.int32) for p in pairs),
            apart,
        ),
        layout=layout,
        first=[where[k] for k in m],
        second=[where[k] for k in n],
        slopes=(table[m], table[n]),
        weight=(1.0,) * len(m),
        opposite=(0, len(m) - 1) if len(m) > 1 else None,
    )


def _nearest(row: tuple[int, ...], wanted: int) -> list[int]:
    """The positions of the points of a row that are nearest to ``x``, on both sides where it is."""
    chosen = list(range(len(row)))
    while len(chosen) > wanted:
        chosen = chosen[:-1] if row[chosen[-1]] >= -row[chosen[0]] else chosen[1:]
    return chosen
