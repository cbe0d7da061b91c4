"""What all transforms share: the checks before a call, and the way in and out.

The pipeline behind the doors is loaded by the first that is made: ``from jaxfd import grad`` would
else take half as long again as JAX's own import.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import tree_util

from jaxfd._arrays import PyTree, check_integer, positions
from jaxfd._methods import Method, stencil_of
from jaxfd._system import ShortTracebacks

if TYPE_CHECKING:
    from jaxfd._estimate import Answer, Task
    from jaxfd._places import Schedule

Argnums = int | Sequence[int]


def check_method(method: Any) -> None:
    """Raises TypeError or ValueError if this is no method value, or one that lacks something."""
    if not isinstance(method, Method):
        hint = f"{method.__name__}()" if isinstance(method, type) else "jaxfd.Central()"
        raise TypeError(f"method must be a method value such as {hint}, got {method!r}.")
    method.check()


def check(method: Any, chunk_size: Any = None, bounds: Any = None) -> Schedule:
    """Checks options, as far as no call could make them right, and returns the schedule.

    Raises:
        TypeError, ValueError: an option is no such thing, or out of range.
    """
    check_method(method)
    check_pair(bounds)
    return schedule_of(chunk_size)


def schedule_of(chunk_size: Any) -> Schedule:
    """The schedule that a user asks for with ``chunk_size``.

    Raises:
        TypeError, ValueError: it is no number of points, nor None.
    """
    from jaxfd._places import Schedule

    if chunk_size is not None:
        why = ": it is the number of points evaluated at once"
        check_integer(chunk_size, "chunk_size", kind="an integer or None", why=why, numpy=True)
    return Schedule(None if chunk_size is None else int(chunk_size))


def check_order(method: Method, order: int) -> None:
    """Raises ValueError for an order of derivative that a method has none for."""
    if order > 1:
        highest = method.highest
        if highest is None:
            stencil_of(method, order)
        elif order > highest:
            raise ValueError(
                f"{type(method).__name__} makes derivatives up to order {highest}, not {order}: "
                "use Central() there."
            )


def check_pair(bounds: Any) -> tuple[PyTree, PyTree] | None:
    """The bounds as a tuple; raises TypeError if they are given and are no pair."""
    if bounds is not None and not (isinstance(bounds, (tuple, list)) and len(bounds) == 2):
        raise TypeError(f"bounds must be a pair (lower, upper), got {bounds!r}.")
    return None if bounds is None else (bounds[0], bounds[1])


def static(argnums: Argnums) -> int | tuple[int, ...]:
    """``argnums`` in a form that can be hashed."""
    chosen = positions(argnums)
    return chosen if isinstance(argnums, Sequence) else chosen[0]


def door(
    fun: Callable[..., Any],
    task: Task,
    method: Method,
    finish: Callable[[Answer], Any],
    bounds: tuple[PyTree, PyTree] | None = None,
) -> Callable[..., Any]:
    """A function of the user's arguments that runs a task and unpacks its result."""
    from jaxfd._estimate import Needs, check_call, program_of

    program = program_of(fun)
    needs = Needs(bounds=check_pair(bounds))

    @functools.wraps(fun, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with ShortTracebacks():
            check_call(task, args, kwargs, needs)
            return finish(program.run(task, args, kwargs, method, needs))

    wrapped.__doc__ = _docstring(fun, task.name, method)
    return wrapped


def _docstring(fun: Callable[..., Any], what: str, method: Method) -> str:
    """What ``help`` says of a function that a transform returns."""
    name = getattr(fun, "__name__", type(fun).__name__)
    own = getattr(fun, "__doc__", None) if hasattr(fun, "__name__") else None
    text = (
        f"``jaxfd.{what}`` of ``{name}``, estimated by {type(method).__name__} from evaluations.\n"
        f"\nTakes the arguments of ``{name}``."
    )
    return f"{text}\n\nWhat ``{name}`` says of itself:\n\n{own}" if own else text


def along(
    fun: Callable[..., Any],
    task: Task,
    primals: Sequence[PyTree],
    method: Method,
    tangents: Sequence[Any],
    bounds: tuple[PyTree, PyTree] | None,
) -> Answer:
    """Runs a task at given arguments, along tangents, once."""
    from jaxfd._estimate import Needs, check_call, program_of

    needs = Needs(check_pair(bounds), tangents=tangents)
    args = tuple(primals)
    with ShortTracebacks():
        check_call(task, args, {}, needs)
        answer: Answer = program_of(fun, compiled=False).run(task, args, {}, method, needs)
        return answer


def with_aux(has_aux: bool) -> Callable[[Answer], Any]:
    """What hands out the derivative, and the auxiliary data where there are any."""
    return lambda answer: (answer.derivative, answer.aux) if has_aux else answer.derivative


def tangent_leaves(name: str, primals: Any, tangents: Any) -> list[Any]:
    """Checks tangents against primals and returns those of the inexact leaves."""
    for what, value in (("primals", primals), ("tangents", tangents)):
        if not isinstance(value, (tuple, list)):
            raise TypeError(
                f"{name}: {what} must be a tuple, one entry per argument, got {value!r}."
            )
    tree: Any
    flat, tree = tree_util.tree_flatten(tuple(primals))
    tangent_flat, tangent_tree = tree_util.tree_flatten(tuple(tangents))
    if tree != tangent_tree:
        raise TypeError(
            f"{name}: tangents have the structure {tangent_tree}, but primals have {tree}: give "
            "one tangent for each."
        )
    result = []
    for x, v in zip(flat, tangent_flat, strict=True):
        if jnp.shape(x) != jnp.shape(v):
            raise ValueError(
                f"{name}: a tangent has the shape {jnp.shape(v)} for a primal of shape "
                f"{jnp.shape(x)}: give the same shape."
            )
        dtype = jnp.result_type(x)
        if not jnp.issubdtype(dtype, jnp.inexact):
            if getattr(v, "dtype", None) == jax.dtypes.float0:
                continue
            raise TypeError(
                f"{name} needs real or complex primals, got {dtype}: convert it to a floating "
                "dtype, or close over it."
            )
        if jnp.result_type(v) != dtype:
            raise TypeError(
                f"{name}: a tangent is {jnp.result_type(v)} for a primal of {dtype}: convert it."
            )
        result.append(jnp.asarray(v, dtype))
    if not result:
        raise TypeError(f"{name} needs at least one floating or complex primal.")
    return result
