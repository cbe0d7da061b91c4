"""What a task needs besides the arguments of a call.

It exists so that every such thing has a name and a shape. Bounds are one setting for all calls of a
batch; everything else belongs to each call, like its arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxtyping import Float, PyTree, Shaped


class Needs(NamedTuple):
    """What tasks need besides; a pytree.

    Attributes:
        bounds: the pair of lower and upper bounds, as the user gave them.
        tangents: one for each leaf that is moved, shape ``(*lead, *shape)``.
        cotangents: one for each inexact output, shape ``(*lead, *out)``.
        distances: how far points go along the tangent, in tangents, shape ``(*lead, K)``.
        rate: how far a step goes, in gradients, shape ``(*lead,)``.
        value: the value at ``x`` where it is known already, shape ``(*lead,)``.
    """

    bounds: tuple[PyTree, PyTree] | None = None
    tangents: Sequence[Shaped[Any, "*lead ..."]] | None = None
    cotangents: Sequence[Shaped[Any, "*lead ..."]] | None = None
    distances: Float[Any, "*lead k"] | None = None
    rate: Float[Any, "*lead"] | None = None
    value: Shaped[Any, "*lead"] | None = None

    def of_each_call(self) -> Needs:
        """All that belongs to each call of a batch: everything but the bounds."""
        return self._replace(bounds=None)
