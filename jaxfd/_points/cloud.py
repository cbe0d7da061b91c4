"""Points scattered around ``x`` along random directions.

The counterpart of `jaxfd._points.coordinates` where a point moves all entries at once: a point is
(sample, sign), and becomes an array only where it is evaluated. This room must not know how
the directions come about.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Shaped

from jaxfd._points.box import Box


class CloudDirections(Protocol):
    """The directions that points lie along, as a cloud needs them: N lists of real leaves.

    Attributes:
        even: whether each moves all entries that it moves equally far.
    """

    even: bool

    @property
    def point_bytes(self) -> int:
        """What a point takes besides ``x``."""

    def described(self, count: int) -> Any:
        """What the first ``N`` directions are told by: a pytree of leading axis ``N``."""

    def add(self, leaves: Sequence[Any], i: Any, scales: Sequence[Any], /) -> list[Any]:
        """The leaves plus their scale times direction ``i``, told as `described` does."""

    def points(self, leaves: Sequence[Any], i: Any, scales: Sequence[Any], /) -> list[Any]:
        """The same, in whatever form a program can be run on."""

    def arrays(self, count: int) -> Sequence[Shaped[Any, "n ..."]]:
        """The first ``N`` directions: for each leaf an array of shape ``(N, *shape)``."""

    def sum(
        self,
        coefficients: Sequence[Any],
        squared: bool = False,
        onto: Sequence[Any] | None = None,
    ) -> list[Any]:
        """``sum_i c_i u_i``, for coefficients of shape ``(N, *out)`` of each leaf."""


@dataclasses.dataclass(frozen=True)
class Cloud:
    """The points ``x + sign h u_i``.

    Attributes:
        directions: the directions ``u_i``.
        x: the real leaves, shape ``(*lead, *shape)``.
        lead: the leading batch axes: none in a kernel, one on the host.
        h: for each leaf how far points go, shape ``(*lead,)``.
        signs: the signs of each sample's points.
        count: the number N of samples.
        boxes: for each leaf the box that points are clipped to, or None.
        stretch: for each leaf how many times farther each entry goes, a power of two of the leaf's
            shape and dtype, or None for no entry of it.
    """

    directions: CloudDirections
    x: Sequence[Any]
    lead: tuple[int, ...]
    h: Sequence[Float[Any, "*lead"]]
    signs: tuple[int, ...]
    count: int
    boxes: Sequence[Box] | None = None
    stretch: Sequence[Shaped[Any, "*lead ..."] | None] = ()

    def described(self) -> Any:
        """What the directions are told by, of leading axis ``N``."""
        return self.directions.described(self.count)

    def point(self, i: Any, sign: Any) -> list[Any]:
        """One point, made inside a kernel, in whatever form a program can be run on."""
        if self.boxes is None and not self._stretched:
            return self.directions.points(self.x, i, self._scales(sign))
        return self.array(i, sign)

    def array(self, i: Any, sign: Any) -> list[Any]:
        """One point as arrays, made inside a kernel."""
        # Directions are added where all entries go equally far: powers of two cost no digit.
        shrunk = [x if s is None else x / s for x, s in self._stretches(self.x)]
        moved = self.directions.add(shrunk, i, self._scales(sign))
        moved = [x if s is None else x * s for x, s in self._stretches(moved)]
        if self.boxes is None:
            return moved
        return [box.clip_short(x) for x, box in zip(moved, self.boxes, strict=True)]

    @property
    def _stretched(self) -> bool:
        return any(s is not None for s in self.stretch)

    def _stretches(self, leaves: Sequence[Any]) -> list[tuple[Any, Any]]:
        """Leaves, each with its stretch."""
        return list(zip(leaves, self.stretch or [None] * len(leaves), strict=True))

    def reaches(self) -> list[Any]:
        """For each leaf how far a direction of ones moves every entry."""
        reaches = []
        for (x, s), h in zip(self._stretches(self.x), self.h, strict=True):
            reach = h.reshape(h.shape + (1,) * (x.ndim - h.ndim)).astype(x.dtype)
            reaches.append(reach if s is None else reach * s)
        return reaches

    def _scales(self, sign: Any) -> list[Any]:
        return [sign.astype(h.dtype) * h for h in self.h]

    def rows(self) -> list[np.ndarray]:
        """All points, made on the host: leaves of shape ``(K * N, B, *shape)``."""
        result = []
        for number, (x, reach, u) in enumerate(
            zip(self.x, self.reaches(), self.directions.arrays(self.count), strict=True)
        ):
            step = reach * u[:, None].astype(x.dtype)
            points = np.concatenate([x + np.asarray(sign, x.dtype) * step for sign in self.signs])
            result.append(points if self.boxes is None else self.boxes[number].clip_short(points))
        return result
