"""Where the points along each coordinate lie, and how their values are weighed.

Step, stencil and box meet here. Written once against the array namespace of the
place; must not know which transform asks.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxfd._arrays import Parts, complexify, constant, flatten, over, real_of, realise
from jaxfd._estimate.task import Call
from jaxfd._methods import Stencil, mended, shifted, shifted_slopes, step as _step
from jaxfd._points import Moves, fit, walls_of

# Entries that are infinite or cannot move divide nothing by nothing: the result says so, and
# NumPy need not warn of it besides.
_QUIET = np.errstate(divide="ignore", invalid="ignore", over="ignore")


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the points along each coordinate lie, and how their values are weighed.

    Attributes:
        moves: the points.
        stencil: the stencil, where nothing stands in its way.
        moved: the distances really stepped, shape ``(K, *lead, N)``.
        h: the step, shape ``(*lead, N)``.
        below: for a box, the number of points below ``x``, shape ``(*lead, N)``.
        flat: for a box, 1 where it has width, 0 where it has none, NaN where ``x`` is outside.
    """

    moves: Moves
    stencil: Stencil
    moved: Float[Any, "k *lead n"]
    h: Float[Any, "*lead n"]
    below: Any = None
    flat: Any = None

    @property
    def needs_centre(self) -> bool:
        """Whether weighing uses the value at ``x``."""
        return self.stencil.uses_centre or self.below is not None

    @_QUIET
    def combine(
        self,
        place: Any,
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
        xp = place.xp
        centre, outputs, moved, h = self._ready(place, centre, outputs, d)
        plain = self.stencil.combine(centre, outputs, moved, h)
        if place.lossy and self._mendable:
            plain = mended(plain, centre, outputs, moved)
        if self.below is None:
            return plain
        nodes = self.moves.nodes
        table = np.array([shifted_slopes(nodes, q) for q in range(nodes + 1)]).T
        below = self.below[..., d]
        slopes = (outputs - centre) / over(moved, outputs)
        total = sum(
            over(xp.asarray(table[k], dtype=moved.dtype)[below], plain) * slopes[k]
            for k in range(nodes)
        )
        if place.lossy and self._mendable:
            total = mended(total, centre, outputs, moved)
        flat = over(self.flat[..., d].astype(moved.dtype), plain)
        chosen = xp.where(over(below == _home(self.stencil), plain), plain, total)
        return xp.where(flat == 0, 0, chosen * flat)

    def error(self, place: Any, centre: Any, outputs: Any, d: Any, value: Any, eps: float) -> Any:
        """A cautious bound of the error: what lower orders differ by, and rounding.

        NaN where the method has no lower order to compare with.
        """
        xp = place.xp
        lower = self.stencil.embedded()
        if not lower:
            return xp.full_like(xp.abs(value), np.nan)
        centre, outputs, moved, h = self._ready(place, centre, outputs, d)
        size = xp.maximum(xp.max(xp.abs(outputs), axis=0), xp.abs(centre))
        rounding = sum(abs(float(w)) for w in self.stencil.weights) * eps * size / over(h, size)
        if self.below is not None:
            slopes = (outputs - centre) / over(moved, outputs)
            truncation = xp.max(xp.abs(slopes - value), axis=0)
            return xp.where(over(self.flat[..., d] == 0, value), 0, truncation + rounding)
        index = {s: k for k, s in enumerate(self.stencil.moving)}
        truncation = xp.zeros_like(rounding)
        for stencil in lower:
            kept = np.array([index[s] for s in stencil.moving])
            coarse = stencil.combine(centre, outputs[kept], moved[kept], h)
            truncation = xp.maximum(truncation, xp.abs(coarse - value))
        return truncation + rounding

    def one_sided(self, place: Any, centre: Any, outputs: Any, d: Any) -> Any:
        """Where a wall or a lost point made the stencil look to one side: ``(*lead, m, *out)``."""
        xp = place.xp
        result = xp.zeros(outputs.shape[1:], bool)
        if self.below is not None:
            result = result | over(self.below[..., d] != _home(self.stencil), result)
        if place.lossy and self._mendable and centre is not None:
            lost = np.isnan(outputs)
            centre = np.expand_dims(centre, len(place.lead))
            result = result | (lost.any(axis=0) & ~lost.all(axis=0) & ~np.isnan(centre))
        return result

    @property
    def _mendable(self) -> bool:
        return self.stencil.derivative == 1 and not self.stencil.imaginary

    def _ready(self, place: Any, centre: Any, outputs: Any, d: Any) -> tuple[Any, Any, Any, Any]:
        """Everything in the dtype that differences are formed in."""
        dtype = place.compute_dtype(outputs.dtype, self.h.dtype)
        # Strict promotion divides complex numbers by complex ones only.
        real = real_of(dtype) if self.stencil.imaginary else dtype
        if centre is not None:
            centre = place.xp.expand_dims(centre.astype(dtype), len(place.lead))
        return (
            centre,
            outputs.astype(dtype),
            self.moved[..., d].astype(real),
            self.h[..., d].astype(real),
        )


def _home(stencil: Stencil) -> int:
    """How many points of a stencil lie below ``x``."""
    return sum(1 for s in stencil.moving if s < 0)


@_QUIET
def lay(
    place: Any,
    call: Call,
    parts: Parts,
    stencil: Stencil,
    bounds: Any = None,
    derivative: int | None = None,
) -> Layout:
    """Lays a stencil along every coordinate: the step, the points, the distances.

    Args:
        place: where the points will be evaluated.
        call: the call, with its method.
        parts: the real leaves to perturb.
        stencil: the stencil.
        bounds: a pair of lower and upper bounds, or None.
        derivative: the order of derivative that the step is to suit; None for the stencil's.
    """
    xp, axis = place.xp, len(place.lead)
    if stencil.imaginary:
        power = 2.0
    else:
        power = 1.0 / (stencil.accuracy + (derivative or stencil.derivative))
    eps = [place.eps(x.dtype) for x in parts.real]
    sizes = _step.steps(xp, call.arguments, call.method.step, parts.real, parts.owner, eps, power)
    values, moved, steps, below, flat = [], [], [], [], []
    walls = None if bounds is None else walls_of(call.arguments, bounds)
    for number, (x, h) in enumerate(zip(parts.real, sizes, strict=True)):
        x, h = constant(xp, x), constant(xp, h)
        nodes: Any
        if stencil.imaginary:
            nodes = [complexify(parts.real[number]) + 1j * complexify(h)]
            away = [h]
        elif walls is None:
            h = realise(x, h)
            away = [s * h for s in stencil.moving]
            nodes = [parts.real[number] + a for a in away]
            away = [(x + a) - x for a in away]
        else:
            lower, upper = (
                xp.broadcast_to(xp.asarray(w[parts.owner[number]], dtype=x.dtype), x.shape)
                for w in walls
            )
            count = len(stencil.moving)
            h, q, wide = fit(xp, x, h, lower, upper, count, _home(stencil))
            h = realise(x, h)
            table = np.array([shifted(count, s) for s in range(count + 1)]).T
            away = [xp.asarray(table[k], dtype=x.dtype)[q] * h for k in range(count)]
            nodes = [xp.clip(parts.real[number] + a, lower, upper) for a in away]
            away = [xp.clip(x + a, lower, upper) - x for a in away]
            outside = (x < lower) | (x > upper)
            below.append(q)
            flat.append(xp.where(outside, np.nan, xp.where(wide, 1.0, 0.0)).astype(x.dtype))
        values.append(xp.stack(nodes))
        moved.append(xp.stack(away))
        steps.append(h)
    if not values:
        nothing = np.zeros((len(stencil.moving), *place.lead, 0), np.float32)
        values, moved, steps = [nothing], [nothing], [nothing[0]]
        if walls is not None:
            below, flat = [nothing[0].astype(np.int32)], [nothing[0]]
    return Layout(
        moves=Moves(parts.real, place.lead, flatten(xp, values, axis + 1)),
        stencil=stencil,
        moved=flatten(xp, moved, axis + 1),
        h=flatten(xp, steps, axis),
        below=flatten(xp, below, axis) if below else None,
        flat=flatten(xp, flat, axis) if flat else None,
    )
