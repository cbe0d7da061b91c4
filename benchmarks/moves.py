"""How many files of jaxfd one call enters, and how often control moves between them.

A room is a file. Control moves when a call or a return takes it from one file of jaxfd to another;
what runs between the two elsewhere (JAX, NumPy, the function itself) does not count. A file asks
another when it calls into it. Functions that JAX traces are traced at the first call, and a black
box is at work from the second one on, so these are the calls that are followed, with three numbers
each. Nothing here knows what the files are called.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxfd
from benchmarks._timing import row

_PACKAGE = str(Path(jaxfd.__file__).parent) + "/"
# Two rooms that ask each other more often than this are one, or have a reason in their heads.
_OFTEN = 10


class Moves:
    """Follows control through the files of jaxfd, in this thread.

    Attributes:
        rooms: the files entered.
        count: how often control moved from one to another.
        asks: how often either of two files called the other.
    """

    def __init__(self) -> None:
        self.rooms: set[str] = set()
        self.count = 0
        self.asks: Counter[tuple[str, str]] = Counter()
        self._callers: list[str] = []
        self._here = ""

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """What `sys.setprofile` calls."""
        path = frame.f_code.co_filename
        if event not in ("call", "return") or not path.startswith(_PACKAGE):
            return
        if event == "call":
            room = path.removeprefix(_PACKAGE).removesuffix(".py")
            self.rooms.add(room)
            if self._callers and self._callers[-1] != room:
                self.asks[min(self._callers[-1], room), max(self._callers[-1], room)] += 1
            self._callers.append(room)
        elif self._callers:
            self._callers.pop()
        self._move()

    def _move(self) -> None:
        there = self._callers[-1] if self._callers else self._here
        self.count += bool(self._here) and there != self._here
        self._here = there


def follow(call: Callable[[], Any]) -> Moves:
    """What one call does."""
    moves = Moves()
    sys.setprofile(moves)
    try:
        call()
    finally:
        sys.setprofile(None)
    return moves


def fun(x: Any) -> Any:
    return jnp.sum(jnp.sin(x))


def host_fun(x: np.ndarray) -> np.ndarray:
    return np.sum(np.sin(x))


def main() -> None:
    print(f"device: {jax.devices()[0].device_kind}, jax {jax.__version__}")
    for name in jaxfd.__all__:
        getattr(jaxfd, name)  # imported now, and not while a call is followed
    x = jnp.array([0.3, 1.2, 0.7])
    box = jaxfd.grad(jaxfd.blackbox(host_fun, jax.ShapeDtypeStruct((), x.dtype)))
    box(x)
    # Beside each, what was counted while most files lay in one folder. Adaptive comes first: its
    # tables are made once in a process. Since then the first call of `grad` also learns what the
    # function reads, so that its program is kept for the second.
    followed = {
        "Adaptive()": (lambda: jaxfd.grad(fun, method=jaxfd.Adaptive())(x), 22, 726),
        "Adaptive(), second call": (lambda: jaxfd.grad(fun, method=jaxfd.Adaptive())(x), 22, 726),
        "grad": (lambda: jaxfd.grad(fun)(x), 17, 145),
        "grad, second call": (lambda: jaxfd.grad(fun)(x), 17, 145),
        "a black box, second call": (lambda: box(x), 20, 218),
    }
    often = []
    for name, (call, files, count) in followed.items():
        moves = follow(call)
        row(f"{name}: files entered", len(moves.rooms), f"< {files}", len(moves.rooms) < files)
        row(f"{name}: moves between files", moves.count, f"< {count}", moves.count < count)
        often += [
            f"{name + ':':<26} {one} and {other}: {asks}"
            for (one, other), asks in moves.asks.most_common()
            if asks > _OFTEN
        ]
    print(f"\nfiles that ask each other more than {_OFTEN} times in one call")
    print("\n".join(often) or "none")


if __name__ == "__main__":
    main()
