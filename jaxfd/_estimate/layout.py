"""Where the points along each coordinate lie, and how their values are weighed.

Step, stencil and box meet here. Written once against the array namespace of the
place; must not know which transform asks.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from jaxfd._arrays import (
    Parts,
    complexify,
    constant,
    flatten,
    over,
    real_of,
    realise,
    stack,
)
from jaxfd._estimate.task import Call
from jaxfd._estimate.walls import shrunk
from jaxfd._methods import Stencil, is_default, mended, shifted, shifted_slopes, steps
from jaxfd._places import Place
from jaxfd._points import Coordinates, own_row

# Entries that are infinite or cannot move divide nothing by nothing: the result says so, and
# NumPy need not warn of it besides.
QUIET = np.errstate(divide="ignore", invalid="ignore", over="ignore")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the points along each coordinate lie, and how their values are weighed.

    Attributes:
        points: the points.
        stencil: the stencil, where nothing stands in its way.
        distances: how far the points really are from ``x``, shape ``(K, *lead, N)``.
        h: the step, shape ``(*lead, N)``.
        row: for a box, which row of points there is; see `jaxfd._points.box.Row`.
        flat: for a box, 1 where it has width, 0 where it has none, NaN where ``x`` is outside.
    """

    points: Coordinates
    stencil: Stencil
    distances: Float[Any, "k *lead n"]
    h: Float[Any, "*lead n"]
    row: Int[Any, "*lead n"] | None = None
    flat: Float[Any, "*lead n"] | None = None

    @property
    def needs_centre(self) -> bool:
        """Whether weighing uses the value at ``x``."""
        return self.stencil.uses_centre or self.row is not None

    @QUIET
    def combine(
        self,
        place: Place,
        centre: Shaped[Any, "*lead *out"] | None,
        outputs: Shaped[Any, "k *lead m *out"],
        d: Int[Any, "m"] | slice,
    ) -> Shaped[Any, "*lead m *out"]:
        """The derivative along directions ``d``.

        Args:
            place: where this runs.
            centre: the output at ``x``, shape ``(*lead, *out)``, or None.
            outputs: the outputs, shape ``(K, *lead, m, *out)``.
            d: which of the directions these are.

        Returns:
            Shape ``(*lead, m, *out)``.
        """
        centre, outputs, distances, h = self._ready(place, centre, outputs, d)
        row = None if self.row is None else self.row[..., d]
        flat = None if self.flat is None else self.flat[..., d]
        return weigh(place, self.stencil, centre, outputs, distances, h, row, flat)

    def sideways(self, place: Place) -> Bool[Any, "*lead n"]:
        """Where a wall made the stencil look to one side."""
        if self.row is None:
            return place.xp.zeros(self.h.shape, bool)
        return (self.row != own_row(self.points.nodes)) & (self.row != self.stencil.below)

    def one_sided(self, place: Place, centre: Any, outputs: Any, d: Any) -> Any:
        """Where a wall or a lost point made the stencil look to one side: ``(*lead, m, *out)``."""
        xp = place.xp
        result = xp.zeros(outputs.shape[1:], bool)
        if self.row is not None:
            result = result | over(self.sideways(place)[..., d], result)
        if place.lossy and _is_mendable(self.stencil) and centre is not None:
            lost = ~np.isfinite(outputs)
            centre = np.expand_dims(centre, len(place.lead))
            result = result | (lost.any(axis=0) & ~lost.all(axis=0) & np.isfinite(centre))
        return result

    def _ready(self, place: Place, centre: Any, outputs: Any, d: Any) -> tuple[Any, Any, Any, Any]:
        """Everything in the dtype that differences are formed in."""
        dtype = place.compute_dtype(outputs.dtype, self.h.dtype)
        # Strict promotion divides complex numbers by complex ones only.
        real = real_of(dtype) if self.stencil.imaginary else dtype
        if centre is not None:
            centre = place.xp.expand_dims(centre.astype(dtype), len(place.lead))
        return (
            centre,
            outputs.astype(dtype),
            self.distances[..., d].astype(real),
            self.h[..., d].astype(real),
        )


def _is_mendable(stencil: Stencil) -> bool:
    return stencil.derivative == 1 and not stencil.imaginary


def rows_of(stencil: Stencil) -> list[tuple[int, ...]]:
    """The offsets of all rows that points may lie in beside a wall, the stencil's own last."""
    count = len(stencil.moving)
    return [*(shifted(count, below) for below in range(count + 1)), stencil.moving]


def offsets_of_row(
    xp: Any, stencil: Stencil, row: Int[Any, "*s"], dtype: Any
) -> list[Float[Any, "*s"]]:
    """For each point of a stencil how many steps it is from ``x``, in the row that there is."""
    table = np.array(rows_of(stencil), dtype).T
    return [xp.asarray(offsets)[row] for offsets in table]


def weigh(
    place: Place,
    stencil: Stencil,
    centre: Shaped[Any, "*s *out"] | None,
    outputs: Shaped[Any, "k *s *out"],
    distances: Float[Any, "k *s"],
    h: Float[Any, "*s"],
    row: Int[Any, "*s"] | None,
    flat: Float[Any, "*s"] | None,
) -> Shaped[Any, "*s *out"]:
    """A derivative from the values at a row of points, those that were lost left out.

    Args:
        place: where this runs.
        stencil: the stencil, where nothing stands in its way.
        centre: the output at ``x``, or None.
        outputs: the outputs at the points.
        distances: how far the points really are.
        h: the step.
        row: for a box, which row of points there is.
        flat: for a box, 1 where it has width, 0 where it has none, NaN where ``x`` is outside.
    """
    xp, lossy = place.xp, place.lossy and _is_mendable(stencil)
    plain = stencil.combine(centre, outputs, distances, h)
    if lossy:
        plain = mended(plain, centre, outputs, distances)
    if row is None or flat is None:
        return plain
    total = _beside_wall(xp, stencil.derivative, row, outputs - centre, distances, h)
    if lossy:
        total = mended(total, centre, outputs, distances)
    flat = over(flat.astype(distances.dtype), plain)
    chosen = xp.where(over(row == own_row(len(outputs)), plain), plain, total)
    return xp.where(flat == 0, 0, chosen * flat)


def _beside_wall(
    xp: Any,
    derivative: int,
    row: Int[Any, "*s"],
    changes: Shaped[Any, "k *s *out"],
    distances: Float[Any, "k *s"],
    h: Float[Any, "*s"],
) -> Shaped[Any, "*s *out"]:
    """A derivative from a row of neighbouring points, moved sideways; 0 for one that is not.

    Args:
        xp: the array namespace.
        derivative: its order.
        row: which row there is; see `jaxfd._points.box.Row`.
        changes: the changes of the function.
        distances: how far the points really are.
        h: the step.
    """
    nodes = len(changes)
    every = [shifted_slopes(nodes, below, derivative) for below in range(nodes + 1)]
    table = np.array([*every, [0.0] * nodes]).T
    slopes = changes / over(distances, changes)
    total = sum(
        over(xp.asarray(table[k], dtype=distances.dtype)[row], slopes[k]) * slopes[k]
        for k in range(nodes)
    )
    if derivative > 1:
        total = total / over(h, total) ** (derivative - 1)
    return total


@QUIET
def lay(
    place: Place,
    call: Call,
    stencil: Stencil,
    parts: Parts | None = None,
    derivative: int | None = None,
    stretch: float = 1.0,
    beside: float = 0.0,
) -> Layout:
    """Lays a stencil along every coordinate: the step, the points, the distances.

    Args:
        place: where the points will be evaluated.
        call: the call, with its method and boxes.
        stencil: the stencil.
        parts: real leaves in place of those of the call, in the same boxes.
        derivative: the order of derivative that the step is to suit; None for the stencil's.
        stretch: what steps are multiplied by.
        beside: how many times the step beside a near wall is that which suits a function whose
            scale is the way to it, for a second look; 0 for the usual step. See
            `jaxfd._estimate.walls`.
    """
    xp, axis = place.xp, len(place.lead)
    boxes = call.boxes
    parts = call.parts if parts is None else parts
    if boxes is not None and not stencil.imaginary:
        stencil = stencil.beside_walls()
    order = derivative or stencil.derivative
    power = 2.0 if stencil.imaginary else 1.0 / (stencil.accuracy + order)
    # A smaller step costs higher derivatives more than it gains where the scale is the usual one:
    # they are looked at a second time there.
    shrinks = is_default(call.method.step) and order == 1
    eps = [place.eps(x.dtype) for x in parts.real]
    sizes = steps(xp, call.arguments, call.method.step, parts.real, parts.owner, eps, power)
    if stretch != 1:
        sizes = [stretch * h for h in sizes]
    values, distances, widths = [], [], []
    rows: list[Any] = []
    flat: list[Any] = []
    for number, (x, h) in enumerate(zip(parts.real, sizes, strict=True)):
        still, h = constant(xp, x), constant(xp, h)
        if stencil.imaginary:
            nodes = [complexify(x) + 1j * complexify(h)]
            away = [h]
        elif boxes is None:
            h = realise(still, h)
            steps_of = [s * h for s in stencil.moving]
            nodes = [x + a for a in steps_of]
            away = [(still + a) - still for a in steps_of]
        else:
            box = dataclasses.replace(boxes[number], x=still)
            if shrinks:
                h = box.near(h, stencil.moving, 1 - order * power)
            elif beside:
                h = shrunk(box, h, stencil.moving, eps[number] ** power, beside)
            row = box.fit(h, stencil.moving)
            h = realise(still, row.h)
            steps_of = [s * h for s in offsets_of_row(xp, stencil, row.which, x.dtype)]
            nodes = [box.clip(x + a) for a in steps_of]
            away = [box.clip(still + a) - still for a in steps_of]
            rows.append(row.which)
            flat.append(box.flat(row.wide))
        values.append(stack(xp, nodes))
        distances.append(stack(xp, away))
        widths.append(h)
    if not values:
        nothing = np.zeros((len(stencil.moving), *place.lead, 0), np.float32)
        values, distances, widths = [nothing], [nothing], [nothing[0]]
        if boxes is not None:
            rows, flat = [nothing[0].astype(np.int32)], [nothing[0]]
    return Layout(
        points=Coordinates(parts.real, place.lead, flatten(xp, values, axis + 1)),
        stencil=stencil,
        distances=flatten(xp, distances, axis + 1),
        h=flatten(xp, widths, axis),
        row=flatten(xp, rows, axis) if rows else None,
        flat=flatten(xp, flat, axis) if flat else None,
    )
