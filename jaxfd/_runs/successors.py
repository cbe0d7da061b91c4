"""Successors of process pools that broke: a pool belongs to its user, and cannot be mended.

What a pool was made with is read from attributes that the pools of the standard library and
of loky have had for years. It must not know what the pools run.
"""

from __future__ import annotations

import concurrent.futures
import threading
import weakref
from typing import Any

from jaxfd._system import host_calls


class Successors:
    """Which pool stands for which one that broke.

    There is one instance, `successors`: a pool that broke in one batch is broken in the next.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def current(self, executor: Any) -> Any:
        """The pool that stands for this one."""
        return self._latest.get(executor, executor)

    def replace(self, executor: Any, broken: Any) -> Any:
        """The pool that takes the place of a broken one.

        Args:
            executor: the user's own pool.
            broken: what stood for it; another thread may have replaced that already.
        """
        with self._lock:
            known = self.current(executor)
            if known is broken:
                known = self._latest[executor] = pool_like(executor)
        return known


successors = Successors()


def pool_like(executor: Any) -> Any:
    """A pool like another one."""
    like = {
        "max_workers": executor._max_workers,
        "initializer": getattr(executor, "_initializer", None),
        "initargs": getattr(executor, "_initargs", ()),
    }
    pool: Any
    if isinstance(executor, concurrent.futures.ProcessPoolExecutor):
        per_child = getattr(executor, "_max_tasks_per_child", None)
        pool = concurrent.futures.ProcessPoolExecutor(
            mp_context=executor._mp_context, max_tasks_per_child=per_child, **like
        )
    else:
        import loky

        pool = loky.ProcessPoolExecutor(
            context=executor._context, timeout=executor._timeout, env=executor._env, **like
        )
    host_calls.note_pool(pool)
    return pool
