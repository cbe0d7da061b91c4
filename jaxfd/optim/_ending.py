"""Why a minimisation ended, in words that name entries and say what may help.

It must not know how steps are made, nor how they are repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from jaxfd.optim._status import Status
from jaxfd.optim._steps import ENDLESS, FAILED, FLAT, FOUND, JUMPS, NOISY, STALLED, STUCK

_STATUS = {
    STUCK: Status.STUCK,
    FLAT: Status.STUCK,
    ENDLESS: Status.UNBOUNDED,
    FAILED: Status.FAILED,
    JUMPS: Status.STUCK,
    STALLED: Status.STUCK,
    FOUND: Status.CONVERGED,
    NOISY: Status.NOISE,
}
_WHY = {
    FOUND: "no step promises to lower the value by more than the tolerance, and none that was "
    "tried did",
    NOISY: "what steps promise to lower the value by is hidden by its noise{noise}",
    STALLED: "{patience} steps lowered the value by no more than the tolerance, which is no "
    "evidence of a minimum",
    STUCK: "no lower value could be found along the gradient, which is not 0",
    FLAT: "no point near x0 has another value than x0: fun is flat there, or x0 far too small or "
    "large in its units; start elsewhere, or give a method with a step",
    ENDLESS: "the value fell without end: fun seems to have no minimum; set bounds that keep "
    "away from there",
    FAILED: "lower values seem to lie where fun is not finite: no way to go on along {entries}; "
    "move the start, set bounds, or let fun grow smoothly towards that region",
    JUMPS: "fun jumps along {entries} and is flat in between, so that no slope says where to go: "
    "give a method with a step as wide as several jumps",
}
# So many entries are named.
_NAMED = 4


class Ending(NamedTuple):
    """How a run ended.

    Attributes:
        status: in one word.
        message: in a sentence.
    """

    status: Status
    message: str


def stopped(why: str) -> Ending:
    """A run that was stopped from outside, by a budget or a request."""
    asked = why == "interrupted" or why.startswith("the callback")
    return Ending(Status.INTERRUPTED if asked else Status.LIMIT, why)


def ended(
    code: int,
    *,
    patience: int,
    odd: Bool[np.ndarray, "n"],
    flat: Bool[np.ndarray, "n"],
    names: Sequence[str],
    noise: float,
) -> Ending:
    """A run that ended by itself.

    Args:
        code: why, see `_steps`.
        patience: after how many steps without progress it stalls.
        odd: the entries that this is about.
        flat: entries whose moves changed nothing.
        names: the names of all entries.
        noise: the standard deviation of the noise found; 0 for none.
    """
    message = _WHY[code].format(
        patience=patience,
        entries=_listed(odd, names),
        noise=f", {noise:.2g}" if noise else "",
    )
    if code in (FOUND, NOISY) and flat.any() and not flat.all():
        message += f"; moves of {_listed(flat, names)} change nothing"
    return Ending(_STATUS[code], message)


def _listed(which: Bool[np.ndarray, "n"], names: Sequence[str]) -> str:
    """Names of entries, the first few of them."""
    found = np.flatnonzero(which)
    text = ", ".join(names[i] for i in found[:_NAMED])
    more = len(found) - _NAMED
    return f"{text} and {more} more" if more > 0 else text or "the gradient"
