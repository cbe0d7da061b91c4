"""Pools like other pools: a process pool that broke is its user's, and cannot be mended.

What they were made with is read from attributes that the pools of the standard library and of
loky have had for years.
"""

from __future__ import annotations

import concurrent.futures
import threading
import weakref
from typing import Any

# Pools that took the place of broken ones, which are their users' and cannot be mended.
_lock = threading.Lock()
_successors: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def current(executor: Any) -> Any:
    """The pool that stands for this one."""
    return _successors.get(executor, executor)


def replace(executor: Any, broken: Any) -> Any:
    """The pool that takes the place of a broken one; another thread may have made it already."""
    with _lock:
        known = current(executor)
        if known is broken:
            known = _successors[executor] = pool_like(executor)
    return known


def pool_like(executor: Any) -> Any:
    """A pool like another one."""
    like = {
        "max_workers": executor._max_workers,
        "initializer": getattr(executor, "_initializer", None),
        "initargs": getattr(executor, "_initargs", ()),
    }
    if isinstance(executor, concurrent.futures.ProcessPoolExecutor):
        per_child = getattr(executor, "_max_tasks_per_child", None)
        return concurrent.futures.ProcessPoolExecutor(
            mp_context=executor._mp_context, max_tasks_per_child=per_child, **like
        )
    import loky

    return loky.ProcessPoolExecutor(
        context=executor._context, timeout=executor._timeout, env=executor._env, **like
    )
