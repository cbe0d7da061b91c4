"""Second looks beside walls, with steps that suit a function whose scale is the way to the wall.

A logarithm varies on the scale of that way, most functions on that of the entry, and one estimate
does not tell which: for second derivatives a step that suits the one is a wrong one for the other.
Two more estimates with steps far smaller than the way do tell, and are made only where a wall is
near. Must not know what is estimated, nor who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Bool, Float, Shaped

from jaxfd._arrays import finfo, has_tracers
from jaxfd._places import Place
from jaxfd._points import Box

State = TypeVar("State")

# A wall that many steps away is not near: a step is off by less than 1e-3 there, at order 2.
_NEAR = 64
# Two looks, in units of the step that suits: what rounding and noise do differs between them.
LOOKS = (1.0, 2.0)
# The share of the way to the wall that points of a look may use.
_SHARE = 0.375
# No step is smaller than so many spacings of the entry.
_SPACINGS = 4.0
# Two looks that differ by more than such a share of what they are to mend tell nothing.
_AGREE = 1 / 32
# A difference smaller than this share of a derivative is not looked at.
_LEAST = 1e-6


def shrunk(
    box: Box, h: Float[Any, "*n"], offsets: Sequence[Any], rel: float, times: float
) -> Float[Any, "*n"]:
    """Steps in proportion to the way to the wall, where one is near; as they were elsewhere.

    Args:
        box: the box.
        h: the usual step.
        offsets: the points in units of the step.
        rel: the relative step.
        times: the look, one of `LOOKS`.
    """
    xp, x = box.xp, box.x
    reach = max(abs(s) for s in offsets)
    way = xp.minimum(x - box.lower, box.upper - x)
    step = xp.maximum(rel * way, _SPACINGS * float(finfo(x.dtype).eps) * xp.abs(x))
    largest = LOOKS[-1] * step
    near = (way > 0) & (way < _NEAR * reach * h)
    near = near & (2 * largest < h) & (largest * reach < _SHARE * way)
    # Where its square is no number any more a step is of no use.
    near = near & (step > 2 * float(np.sqrt(finfo(x.dtype).tiny)))
    return xp.where(near, times * step, h)


def differs(
    xp: Any, usual: Shaped[Any, "*s"], near: Shaped[Any, "*s"], lost: Float[Any, "*s"]
) -> Bool[Any, "*s"]:
    """Whether a look says something else than the usual estimate, rounding apart.

    Args:
        xp: the array namespace.
        usual: the usual estimate.
        near: that of the look.
        lost: what rounding may do to the look.
    """
    apart = xp.abs(usual - near)
    least = _LEAST * xp.maximum(xp.abs(usual), xp.abs(near))
    return (xp.isfinite(near) & ~xp.isfinite(usual)) | (apart > xp.maximum(lost, least))


def mends(
    xp: Any,
    usual: Shaped[Any, "*s"],
    near: Shaped[Any, "*s"],
    wider: Shaped[Any, "*s"],
    lost: Float[Any, "*s"],
) -> Bool[Any, "*s"]:
    """Whether two looks that agree say something else; see `differs`.

    Args:
        xp: the array namespace.
        usual: the usual estimate.
        near: that of the first look.
        wider: that of the second, with larger steps.
        lost: what rounding may do to the first.
    """
    agree = xp.abs(near - wider) < _AGREE * xp.abs(usual - near)
    agree = agree | ~xp.isfinite(usual)
    return differs(xp, usual, near, lost) & agree & xp.isfinite(wider)


def where_any(
    place: Place, flag: Bool[Any, "..."], look: Callable[[State], State], state: State
) -> State:
    """What becomes of a state by a look, which is not made where no flag is set."""
    anywhere = place.xp.any(flag)
    if not has_tracers(anywhere):
        return look(state) if anywhere else state
    found: State = jax.lax.cond(_anywhere(anywhere), look, lambda state: state, state)
    return found


@jax.custom_batching.custom_vmap
def _anywhere(flag: Bool[Any, ""]) -> Bool[Any, ""]:
    """A flag; for a batch of calls whether it is set for any of them, so that none looks else."""
    return flag


@_anywhere.def_vmap
def _(size: int, batched: list[bool], flag: Bool[Any, "n"]) -> tuple[Bool[Any, ""], bool]:
    del size, batched
    return _anywhere(flag.any()), False
