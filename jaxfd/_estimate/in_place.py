"""A step against an estimated gradient that is never formed.

Directions are added to the parameters themselves, one after the other.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxfd._arrays import Parts
from jaxfd._estimate.sampled import weigh
from jaxfd._estimate.task import Call, Task, float0
from jaxfd._methods import Method


@dataclasses.dataclass(frozen=True)
class InPlace(Task):
    """Moves the argument by ``-rate`` times its gradient; ``extra`` holds the rate.

    Nothing is moved where no sample is finite.
    """

    def draws(self, method: Method) -> bool:
        return True

    @property
    def extra_per_call(self) -> bool:
        return True

    def run(self, place: Any, call: Call, parts: Parts) -> Any:
        self.check_output(call, scalar=True)
        xp = place.xp
        found = weigh(place, call, parts)
        shares = found.shares[0]
        known = [xp.isfinite(share) for share in shares]
        values = found.values.reshape(-1, *found.values.shape[2:])
        moves = [
            xp.where(good, -call.extra.astype(share.dtype) * share, 0)
            for good, share in zip(known, shares, strict=True)
        ]
        moved = found.cloud.directions.sum(moves, onto=parts.real)
        leaves = parts.join(place, moved)
        return {
            "moved": call.arguments.restore(leaves, float0),
            "lost": ~(xp.all(xp.isfinite(values), axis=0) & xp.all(known[0], axis=0)),
            "value": found.mean(xp),
        }
