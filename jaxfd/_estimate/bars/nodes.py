"""Weights of a few points on a line, wherever they lie: the polynomial through all of them and 0.

Must not know whose points they are.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float


def node_weights(xp: Any, t: Float[Any, "k *s"]) -> tuple[Float[Any, "k *s"], Float[Any, "k *s"]]:
    """Weights of changes at distances ``t`` in the slope at 0, and in the highest difference."""
    slope, bend = [], []
    for k in range(len(t)):
        w: Any = 1.0 / t[k]
        c: Any = 1.0 / t[k]
        for j in range(len(t)):
            if j != k:
                w = w * (t[j] / (t[j] - t[k]))
                c = c / (t[k] - t[j])
        slope.append(w)
        bend.append(c)
    return xp.stack(slope), xp.stack(bend)


def gain(xp: Any, w: Float[Any, "k *s"]) -> Float[Any, "*s"]:
    """The error of a sum with these weights of changes, for noise of size 1 in every value."""
    return xp.sqrt(xp.sum(w * w, axis=0) + xp.sum(w, axis=0) ** 2)
