"""Failures: what becomes of a point that raised, and how errors say which point it was.

Must not know how points are run.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxfd._system import JaxfdWarning
from jaxfd._worker import Failure

_IN_WORKER = "In the worker it was:\n"


def check_on_error(on_error: object) -> None:
    """Raises ValueError where it is no policy."""
    if on_error not in ("raise", "nan") and not callable(on_error):
        raise ValueError(
            f"on_error must be 'raise', 'nan' or a function (x, exception) -> value, got "
            f"{on_error!r}."
        )


def plain(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call as a handler sees it: the only argument, or all of them."""
    if kwargs:
        return (*args, kwargs)
    return args[0] if len(args) == 1 else args


def describe(
    job: Sequence[int],
    planned: int,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    names: Sequence[str],
) -> str:
    """Which point it was, and its values."""
    with np.printoptions(
        threshold=20, edgeitems=3, precision=17, floatmode="unique", linewidth=10**6
    ):
        values = [f"{name} = {value!r}" for name, value in zip(names, args, strict=False)]
        values += [f"{name} = {value!r}" for name, value in kwargs.items()]
    at = f"point {job[0]}" if len(job) == 1 else f"points {job[0]} to {job[-1]}"
    text = ", ".join(values)
    return f"{at} of {planned} (counted from 0), {text[:2000]}{'...' * (len(text) > 2000)}"


def error_of(failure: Failure, name: str, where: str) -> BaseException:
    """The exception to raise: the user's own, which says where it came from."""
    error = failure.error
    if failure.lost:
        lost = type(error)(f"{name}: {error}. It ran {where}.")
        lost.__cause__ = error.__cause__
        return lost
    if isinstance(error, SystemExit) and failure.text:
        # It would have ended the worker, not this program.
        error = RuntimeError(f"{name} called sys.exit({error.code!r})")
        error.__cause__ = failure.error
    mine = f"{name} raised this at "
    notes = [f"{mine}{where}."]
    if failure.text:
        notes.append(f"{_IN_WORKER}{failure.text.rstrip()}")
    # A function may raise one and the same object again and again.
    others = [n for n in getattr(error, "__notes__", []) if not n.startswith((mine, _IN_WORKER))]
    error.__notes__ = [*others, *notes]
    return error


def warn(
    name: str, count: int, planned: int, first: BaseException, where: str, *, more: bool
) -> None:
    """Warns of points that count as NaN.

    Args:
        name: the function's name.
        count: how many they are.
        planned: of how many.
        first: what the first of them raised.
        where: which it was.
        more: whether others may follow without a word.
    """
    warnings.warn(
        f"{name}: {count} of {planned} points failed and count as NaN; the first was {where}: "
        f"{type(first).__name__}: {first}"
        + ". No other warning comes of failures in later batches of this fit."
        * more,
        JaxfdWarning,
        stacklevel=2,
    )
