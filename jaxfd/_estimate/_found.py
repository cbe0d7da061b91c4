"""What was found along the coordinates: the same for fixed stencils and for a search."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Found:
    """Derivatives along every coordinate.

    Attributes:
        centre: the outputs at ``x``, the auxiliary ones too; None where not wanted.
        values: for each output the derivative, shape ``(*lead, N, *out)``.
        errors: for each output a bound of its error, of the same shape; None where not wanted.
        step: how far the points went, shape ``(*lead, N)``.
        one_sided: where they went to one side though the method's do not, shaped as the first
            output's derivative; None where not wanted.
        evaluations: how many points were evaluated, the centre included, shape ``(*lead,)``.
    """

    centre: Any
    values: Any
    errors: Any
    step: Any
    one_sided: Any
    evaluations: Any
