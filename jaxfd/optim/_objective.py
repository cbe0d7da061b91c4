"""The function that an optax update is handed, as ``value_fn``, in the form that is estimated.

Extra arguments are picked by its signature, masked parameters are filled in, and its program is
kept from one update to the next. This room must not know how its gradient is estimated.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jax
import optax
from jaxtyping import PyTree

from jaxfd._estimate import ProgramHolder, program_of
from jaxfd._reports import check_one_number

_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
# What goes along every chain for optax's line searches.
_OF_LINE_SEARCHES = {"value", "grad"}


def check_loss(name: str, fun: Callable[..., Any], *args: PyTree) -> None:
    """Raises TypeError if a ``value_fn`` returns something else than one number."""
    advice = "; of a pair (loss, aux) return the loss"
    check_one_number(f"{name} needs a value_fn", jax.eval_shape(fun, *args), advice)


def with_extra(value_fn: Callable[..., Any], extra: dict[str, Any]) -> Callable[[PyTree], Any]:
    """``value_fn`` with the extra arguments that it takes."""
    named = accepted(value_fn, extra)
    # A black box must arrive as it is: it is evaluated on the host.
    return (lambda params: value_fn(params, **named)) if named else value_fn


def accepted(value_fn: Callable[..., Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Those of the extra arguments that the function takes."""
    try:
        parameters = list(inspect.signature(value_fn).parameters.values())[1:]
    except (TypeError, ValueError):
        return {}
    names = {p.name for p in parameters if p.kind not in _VARIABLE}
    if any(p.kind == inspect.Parameter.VAR_KEYWORD for p in parameters):
        names |= extra.keys() - _OF_LINE_SEARCHES
    return {name: value for name, value in extra.items() if name in names}


def is_masked(node: Any) -> bool:
    """Whether a node of the parameters stands for one that is not ours."""
    return isinstance(node, optax.MaskedNode)


def unmasked(fun: Callable[..., Any]) -> Callable[..., Any]:
    """The function of those parameters that are not masked, and of all."""

    def whole(ours: PyTree, full: PyTree, **named: Any) -> Any:
        params = jax.tree.map(
            lambda own, other: other if is_masked(own) else own, ours, full, is_leaf=is_masked
        )
        return fun(params, **named)

    return whole


class Objective(ProgramHolder):
    """A function with its program.

    Args:
        fun: the function.
    """

    def __init__(self, fun: Callable[..., Any]) -> None:
        self.program = program_of(fun)


class ObjectiveCache:
    """The last function, so that updates outside of jit compile its program once."""

    def __init__(self) -> None:
        self._of: tuple[Any, bool] = (None, False)
        self._last: Any = None

    def __call__(self, fun: Callable[..., Any], masked: bool) -> Any:
        """The function as it is estimated, the same for the same function.

        Args:
            fun: the function of all parameters.
            masked: whether only some of the parameters are ours; see `unmasked`.
        """
        if self._of[0] is not fun or self._of[1] != masked:
            self._last = Objective(unmasked(fun) if masked else fun)
            self._of = (fun, masked)
        return self._last
