"""Functions traced in another precision than JAX computes in.

JAX keeps what it made of a NumPy array as long as anything holds that, and hands it out whatever
precision it computes in by then; what ``jax.jit`` traced holds it. So an array that a function
reads would come in the precision of an earlier trace, and after a trace in double precision no
program in single precision would take it. This room must not know what is traced for what.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxfd._functions.shelf import Subject
from jaxfd._functions.survey import state_of

_Jitted: Any = type(jax.jit(lambda: None))


@contextlib.contextmanager
def in_precision(subject: Subject, wide: bool) -> Iterator[None]:
    """While a function is traced in a precision, be it JAX's own or not.

    Traces of what the function reads are forgotten where they stand in the way, before and after.

    Args:
        subject: the function.
        wide: whether in double precision.
    """
    with jax.enable_x64(wide):
        _renew(subject)
        yield
    _renew(subject)


def _renew(subject: Subject) -> None:
    arrays, jitted, known = _read(subject)
    if not known or any(map(_stale, arrays)):
        for each in jitted:
            each.clear_cache()
        if any(map(_stale, arrays)):
            jax.clear_caches()


def _read(subject: Subject) -> tuple[list[np.ndarray], list[Any], bool]:
    """Arrays and functions of ``jax.jit`` that a function reads; whether these are all."""
    fun, known = subject.fun.watched(), subject.state is not None
    read: list[Any] = [fun] if subject.state is None else subject.state.objects(fun)
    jitted = [each for each in read if isinstance(each, _Jitted)]
    for each in jitted:  # what they read in turn comes behind them
        state = state_of(each.__wrapped__)
        more = [] if state is None else state.objects(each.__wrapped__)[1:]
        known = known and state is not None
        read += more
        jitted += [one for one in more if isinstance(one, _Jitted) and one not in jitted]
    return [each for each in read if isinstance(each, np.ndarray)], jitted, known


def _stale(array: np.ndarray) -> bool:
    """Whether JAX knows an array by numbers of another precision than it computes in."""
    if array.dtype.kind not in "fiuc":
        return False
    found: Any = jnp.asarray(array).dtype
    return bool(found != jax.dtypes.canonicalize_dtype(array.dtype))
