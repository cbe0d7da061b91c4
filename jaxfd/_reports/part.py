"""A question of some entries alone, the others held where they are.

It exists so that a function of very many numbers can be asked about a few. This room must not know
what is asked.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jaxtyping import Int

from jaxfd._arrays import PyTree, bind, is_array
from jaxfd._estimate import ProgramHolder
from jaxfd._points import walls_of
from jaxfd._reports.question import Question

Bounds = tuple[PyTree, PyTree] | None


def part(
    question: Question, entries: Int[np.ndarray, "k"], bounds: Bounds
) -> tuple[Question, Bounds]:
    """The same question of some entries.

    Args:
        question: the question of all.
        entries: which, in ascending order.
        bounds: the user's bounds.

    Returns:
        The question, whose ``x`` is a list of rows of entries, and its bounds.
    """
    leaves = question.leaves
    ends = np.cumsum([0, *(z.size for z in leaves)])
    rows = [entries[(a <= entries) & (entries < b)] - a for a, b in itertools.pairwise(ends)]
    used = [(i, row) for i, row in enumerate(rows) if row.size]
    x = [np.ravel(leaves[i])[row] for i, row in used]
    if bounds is not None:
        walls = walls_of(bind(question.name, question.args, {}, question.positions), bounds)
        lower, upper = (
            [np.broadcast_to(wall[i], leaves[i].shape).ravel()[row] for i, row in used]
            for wall in walls
        )
        bounds = (lower, upper)
    hosted = _hosted(question, used)
    fun = _traced(question, used) if hosted is None else hosted
    return Question(question.name, fun, x, None, x, question.out), bounds


def _traced(question: Question, used: Sequence[tuple[int, Any]]) -> Callable[..., Any]:
    """The function of those entries, as JAX traces it."""
    leaves, tree = tree_util.tree_flatten(question.moved)

    def fun(numbers: Sequence[Any]) -> Any:
        new = list(leaves)
        for (i, row), values in zip(used, numbers, strict=True):
            whole = jnp.asarray(leaves[i])
            new[i] = whole.reshape(-1).at[row].set(values).reshape(whole.shape)
        return question.call(tree_util.tree_unflatten(tree, new))

    return fun


class _Host(ProgramHolder):
    """A black box of some entries."""

    def __init__(self, program: Any) -> None:
        self.program = program


def _hosted(question: Question, used: Sequence[tuple[int, Any]]) -> Any:
    """A black box of those entries; None where its points are run in a way of their own."""
    fun = question.fun
    narrowed = getattr(fun.program, "narrowed", None) if isinstance(fun, ProgramHolder) else None
    leaves, tree = tree_util.tree_flatten(question.moved)
    if narrowed is None or not all(map(_plain, jax.tree.leaves(question.args))):
        return None

    fixed = [np.asarray(leaf) for leaf in leaves]

    def arguments(numbers: Sequence[np.ndarray], lead: tuple[int, ...]) -> Sequence[Any]:
        new = [np.broadcast_to(leaf, (*lead, *leaf.shape)) for leaf in fixed]
        for (i, row), values in zip(used, numbers, strict=True):
            whole = new[i].reshape(*lead, -1).astype(values.dtype)
            whole[..., row] = values
            new[i] = whole.reshape(new[i].shape)
        return question.placed(tree_util.tree_unflatten(tree, new), lead)

    program = narrowed(arguments, question.out)
    return None if program is None else _Host(program)


def _plain(leaf: Any) -> bool:
    """Whether a leaf is a number or an array that NumPy knows."""
    return is_array(leaf) and not jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.extended)
