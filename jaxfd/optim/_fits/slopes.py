"""A Jacobian by differences, and what those who make it ask of a search.

It exists so that differences, noise and rounding can be looked at in rooms of their own. It must
not know how any of them works.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float

from jaxfd.optim._fits.model import ResidualModel
from jaxfd.optim._status import Status

Rows = Float[np.ndarray, "k m"]
Talk = Generator[Float[np.ndarray, "k n"], Rows, None]

# Forward steps of a function without noise, in shares of an entry's size: far from rounding, and
# their bias is harmless.
STEP = 1e-6
# The largest step under noise.
FARTHEST = 0.1


@dataclasses.dataclass(frozen=True)
class Slopes:
    """A Jacobian by differences.

    Attributes:
        u: the point.
        jacobian: shape ``(m, n)``.
        error: an estimate of the error of each entry.
        central: whether both sides were seen.
        steps: how far each entry was moved.
        r: the residuals at the point, where they may still be asked for.
    """

    u: Float[np.ndarray, "n"]
    jacobian: Float[np.ndarray, "m n"]
    error: Float[np.ndarray, "m n"]
    central: bool
    steps: Float[np.ndarray, "n"]
    r: Float[np.ndarray, "m"] | None = None


class Searching(Protocol):
    """What is asked of a search here."""

    model: ResidualModel | None
    slopes: Slopes | None
    status: Status | None
    message: str
    u: Float[np.ndarray, "n"]
    lower: Float[np.ndarray, "n"]
    upper: Float[np.ndarray, "n"]
    lost: Bool[np.ndarray, "n"]
    noise: float
    floor: Float[np.ndarray, "n"]
    extent: Float[np.ndarray, "n"]
    least_sizes: Float[np.ndarray, "n"]
    per_noise: Float[np.ndarray, "n"]
    usual: Float[np.ndarray, "n"]
    scale: Float[np.ndarray, "n"] | None
    width: int
    curved: bool
    known: Float[np.ndarray, "m n"] | None
    walled: bool

    def sizes(self, u: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]: ...

    def spans(self, u: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]: ...

    def heights(self, jacobian: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m"]: ...

    def eps(self) -> float: ...

    def coarse(self) -> float: ...
