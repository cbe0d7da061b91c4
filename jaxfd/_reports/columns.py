"""A claimed derivative beside an estimated one, in columns: one row for each of their entries.

Plain rows of numbers, whatever the pytrees they come from. This room must not know what follows
from them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jaxtyping import Bool, Float, Int, Shaped

from jaxfd._arrays import finfo
from jaxfd._reports.entries import flat, numbers
from jaxfd._reports.question import Question
from jaxfd._transforms import Estimate


@dataclasses.dataclass(frozen=True)
class Columns:
    """What is known of each of N entries of a derivative.

    Attributes:
        out: which output it belongs to, shape ``(N,)``.
        by: by which entries of what moves it is the derivative, shape ``(order, N)``.
        claimed: what is claimed, float64 or complex128.
        estimated: what was found, NaN where nothing was asked.
        error: how far off that may be; infinite where nothing was asked.
        step: how far points went for it, for first derivatives.
        eps: the relative spacing of the coarsest numbers it is made of.
        largest: the size of the largest found of its leaf and output.
        seen: whether it was asked for.
        value: the outputs at ``x``, shape ``(m,)``.
    """

    out: Int[np.ndarray, "N"]
    by: Int[np.ndarray, "order N"]
    claimed: Shaped[np.ndarray, "N"]
    estimated: Shaped[np.ndarray, "N"]
    error: Float[np.ndarray, "N"]
    step: Float[np.ndarray, "N"]
    eps: Float[np.ndarray, "N"]
    largest: Float[np.ndarray, "N"]
    seen: Bool[np.ndarray, "N"]
    value: Float[np.ndarray, "m"]

    @property
    def order(self) -> int:
        """The order of the derivative."""
        return len(self.by)


def columns(
    question: Question,
    order: int,
    claims: Sequence[np.ndarray],
    result: Estimate,
    where: Int[np.ndarray, "k"] | None,
) -> Columns:
    """Puts side by side what is claimed and what was found.

    Args:
        question: what was asked.
        order: the order of the derivative.
        claims: the leaves of the claim.
        result: what was found.
        where: the entries that it was found for; None for all.
    """
    out, *by = question.layout(order)
    size = sum(leaf.size for leaf in question.leaves)
    asked = np.full(size, where is None)
    step = flat(result.step)
    if where is not None:
        asked[where] = True
        at = np.ones(size)
        at[where] = step
        step = at
    seen = np.all([asked[col] for col in by], axis=0)
    estimated, error = numbers(result.grad), flat(result.error)
    sizes = [claim.size for claim in claims]
    found = np.abs(np.where(np.isfinite(estimated), estimated, 0.0))
    # Leaves count alone, and so do outputs: each has units of its own.
    block = np.repeat(np.arange(len(sizes)), sizes)
    group = np.unique(np.stack([out, block]), axis=1, return_inverse=True)[1].ravel()
    largest = np.zeros(int(group.max(initial=0)) + 1)
    np.maximum.at(largest, group[seen], found)
    return Columns(
        out=out,
        by=np.stack(by),
        claimed=numbers(list(claims)),
        estimated=_spread(estimated, seen, np.nan),
        error=_spread(error, seen, np.inf),
        step=step[by[0]],
        eps=np.repeat(_precision(question, order, claims), sizes),
        largest=largest[group],
        seen=seen,
        value=flat(result.value),
    )


def _precision(question: Question, order: int, claims: Sequence[np.ndarray]) -> list[float]:
    """The coarsest spacing of what each leaf of a claim is made of."""
    outs = [leaf.dtype for leaf in tree_util.tree_leaves(question.out)]
    ins = [leaf.dtype for leaf in question.leaves]
    owners = itertools.product(outs, *([ins] * order))
    return [
        max(float(finfo(d).eps) for d in (*dtypes, claim.dtype) if jnp.issubdtype(d, np.inexact))
        for dtypes, claim in zip(owners, claims, strict=True)
    ]


def _spread(values: Any, seen: Bool[np.ndarray, "N"], rest: float) -> np.ndarray:
    """Values where they were asked for, and something else elsewhere."""
    full = np.full(seen.shape, rest, values.dtype)
    full[seen] = values
    return full
