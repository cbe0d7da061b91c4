"""Compositions: estimates of JAX programs with black boxes inside, in float64.

It exists because a box returns more digits than JAX's float32 carries on, and a difference needs
them. The whole program is widened, points are made in float64, and only the estimate is rounded to
what JAX has: all of it inside the kernel, so that ``jit`` and ``vmap`` work as they do for any
program. This room must not know how a program is widened, nor what a task does.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, tree_util

from jaxfd._arrays import Arguments, finfo
from jaxfd._estimate.needs import Needs
from jaxfd._jaxpr import TracedFunction, every_eqn, holds_float32, in_double, wider
from jaxfd._methods import Method
from jaxfd._primitives import double_call, host_call, host_call_p

_SINGLE = float(np.finfo(np.float32).eps)
_DOUBLE = float(np.finfo(np.float64).eps)


class Boxes:
    """The black boxes that programs were found to call, and what is known of their results.

    Args:
        whole: those of more programs, that learn what these learn.
    """

    def __init__(self, whole: Boxes | None = None) -> None:
        self._whole = whole
        self._found: dict[Any, None] = {}
        self._looked = False
        self._around = _DOUBLE  # the relative spacing of the coarsest numbers around them

    def find(self, program: TracedFunction) -> Boxes:
        """Notes the boxes of a program, and returns them alone."""
        of_program = Boxes(self)
        self._looked = of_program._looked = True
        for eqn in every_eqn(program.closed):
            if eqn.primitive is host_call_p:
                of_program._found[eqn.params["callback"]] = None
        self._found.update(of_program._found)
        return of_program

    @property
    def none(self) -> bool:
        """Whether they were looked for, and there are none."""
        return self._looked and not self._found

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def eps(self) -> float:
        """The relative spacing of the coarsest numbers seen; 0 where all are float64."""
        eps = max((getattr(box, "eps", 0.0) for box in self._found), default=0.0)
        return eps if eps > _DOUBLE else 0.0

    def note(self, dtypes: Iterable[Any], eps: float) -> None:
        """Takes notice of the numbers that a program computes with besides."""
        every = [float(finfo(dtype).eps) for dtype in dtypes if jnp.issubdtype(dtype, np.inexact)]
        self._around = max(self._around, eps, *every)
        if self._whole is not None:
            self._whole._around = max(self._whole._around, self._around)

    @property
    def of_everything(self) -> float:
        """The relative spacing of the coarsest numbers of theirs and around them."""
        return max(self._around, self.eps)

    def spacing(self, least: float) -> float:
        """The relative spacing of the coarsest results, where boxes return that of ``least``.

        A program may use estimates, by ``jax.grad`` of a box say: these have half of the digits,
        and fewer where the box is far from 0.
        """
        return max(
            max(math.sqrt(eps), _SINGLE) if getattr(box, "estimates", False) else eps
            for box in self._found
            for eps in [max(least, getattr(box, "eps", 0.0))]
        )

    @property
    def called(self) -> bool:
        """Whether they are known, and every one has returned something, so that `eps` is known."""
        return self._looked and all(getattr(box, "called", True) for box in self._found)


@dataclasses.dataclass(frozen=True, eq=False)
class _Coarser:
    """A host function that says whether boxes were seen to return less than float64."""

    boxes: Boxes
    name = "a black box"
    of_all = True

    def __call__(
        self, arrays: Sequence[np.ndarray], batched: tuple[bool, ...], size: int | None
    ) -> Sequence[np.ndarray]:
        del arrays, batched, size
        return [np.asarray(self.boxes.eps > 0)]


class Asked(NamedTuple):
    """What an estimate is of, besides the program: a pytree apart from the arguments' structure.

    Attributes:
        arguments: the bound call.
        method: the method.
        needs: what the task needs besides.
    """

    arguments: Arguments
    method: Method
    needs: Needs

    def wider(self) -> Asked:
        """The same in float64."""
        leaves = wider(list(self.arguments.leaves))
        arguments = dataclasses.replace(self.arguments, leaves=leaves)
        return Asked(arguments, wider(self.method), wider(self.needs))


def composed(
    run: Callable[[TracedFunction, Asked], Any],
    program: TracedFunction,
    asked: Asked,
    boxes: Boxes,
    eps: float,
    inside: bool,
    traced: bool,
    shape: Callable[[TracedFunction, Asked], Any] | None = None,
) -> Any:
    """Runs an estimate of a program with black boxes inside.

    Args:
        run: runs a task in a kernel.
        program: the program, as the user's JAX computes it.
        asked: what it is asked for.
        boxes: its boxes.
        eps: the relative spacing of the coarsest numbers that any of them was seen to return.
        inside: whether a program of the user's is being traced, so that nobody can look at what
            the boxes returned and estimate anew.
        traced: whether all this is traced, be it for a program of our own.
        shape: what tells shapes and dtypes of the result; None for ``run``, which JAX can trace.
    """
    if holds_float32(program.closed):
        like = shape(program, asked) if shape else jax.eval_shape(lambda: run(program, asked))
        program = in_double(program)
        with jax.enable_x64(True):
            asked = asked.wider()
    else:
        like = None

    def whole() -> Any:
        result = estimate(boxes.spacing(eps))
        if inside and not boxes.called:
            result = _anew_if_coarser(boxes, result, lambda: estimate(boxes.spacing(_SINGLE)))
        return result

    dtypes = [leaf.dtype for leaf in (*asked.arguments.leaves, *program.out)]
    boxes.note(dtypes, program.eps)

    def estimate(coarsest: float) -> Any:
        found = run(dataclasses.replace(program, eps=max(program.eps, coarsest)), asked)
        return found if like is None else tree_util.tree_map(_as, found, like)

    if like is None:
        return whole()
    if traced:
        return double_call(whole)
    with jax.enable_x64(True):
        return whole()


def _as(value: Any, like: Any) -> Any:
    """A result in the dtype that it would have had."""
    if value.dtype == like.dtype:
        return value
    return lax.convert_element_type(value, like.dtype)


def _anew_if_coarser(boxes: Boxes, result: Any, anew: Callable[[], Any]) -> Any:
    """An estimate made anew where boxes turn out to return less than float64."""
    flat, tree = tree_util.tree_flatten(result)
    numbers = [i for i, leaf in enumerate(flat) if isinstance(leaf, jax.Array)]

    def arrays(every: Sequence[Any]) -> list[Any]:
        return [every[i] for i in numbers]

    # Nobody can tell before the boxes were called: the question waits for the results.
    heads = [
        lax.stop_gradient(leaf).reshape(-1)[:1]
        for leaf in arrays(flat)
        if jnp.issubdtype(leaf.dtype, np.number)
    ]
    (coarser,) = host_call(_Coarser(boxes), [jax.ShapeDtypeStruct((), np.bool_)], heads)
    first = arrays(flat)
    chosen = lax.cond(coarser, lambda: arrays(tree_util.tree_leaves(anew())), lambda: first)
    for i, leaf in zip(numbers, chosen, strict=True):
        flat[i] = leaf
    return tree_util.tree_unflatten(tree, flat)
