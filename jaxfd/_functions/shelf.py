"""What is kept of functions, by their identity and as long as they are as they were.

It exists so that what was made of a function, a compiled program above all, serves again where the
same function comes again. Nothing is kept alive by it: an entry goes with its function. It must not
know what is kept.

A function that is still there and is not called again holds on to what its program was compiled
with until others push it out.
"""

from __future__ import annotations

import contextlib
import threading
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from jaxfd._functions.companions import companions
from jaxfd._functions.state import State
from jaxfd._functions.survey import asks_for_types, state_of

# Functions, and things for each of them, that are kept at most.
_FUNCTIONS, _THINGS = 256, 32

_Key = tuple[int, ...]


class Reference:
    """A function that is not held, nor what is watched with it; called, it calls it."""

    __slots__ = ("_beside", "_parts")

    def __init__(
        self, fun: Callable[..., Any], gone: Callable[[Any], None], beside: tuple[Any, ...] = ()
    ) -> None:
        parts = (fun.__func__, fun.__self__) if isinstance(fun, types.MethodType) else (fun,)
        self._parts = tuple(weakref.ref(part, gone) for part in parts)
        self._beside = tuple(weakref.ref(each, gone) for each in beside)

    def get(self) -> Callable[..., Any] | None:
        """The function; None where it is no more."""
        parts: list[Any] = [part() for part in self._parts]
        if any(part is None for part in parts):
            return None
        found: Callable[..., Any] = parts[0] if len(parts) == 1 else types.MethodType(*parts)
        return found

    def watched(self) -> Any:
        """What its state is told of."""
        return _watched(self.get(), tuple(each() for each in self._beside))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        fun = self.get()
        if fun is None:
            raise ReferenceError("the function that this program was made of is no more")
        return fun(*args, **kwargs)


class Holder:
    """A function that is held; called, it calls it."""

    def __init__(self, fun: Callable[..., Any]) -> None:
        self._fun = fun

    def get(self) -> Callable[..., Any] | None:
        """The function."""
        return self._fun

    def watched(self) -> Any:
        """The function, of which nothing is known."""
        return self._fun

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._fun(*args, **kwargs)


class Subject:
    """A function in one state, of which something is made.

    Attributes:
        fun: the function; it is not held where what is made of it lies on a shelf.
        state: its state; None where that cannot be known.
        spoilt: whether something was made in another state, so that none may find it again.
    """

    def __init__(self, fun: Reference | Holder, state: State | None) -> None:
        self.fun, self.state = fun, state
        self.spoilt = False

    @property
    def asks(self) -> bool:
        """Whether the function asks for the type of something, as far as is known."""
        if self.state is not None:
            return self.state.asks
        fun = self.fun.get()
        return fun is not None and asks_for_types(fun)

    @contextlib.contextmanager
    def tracing(self) -> Iterator[None]:
        """While the function is traced: whatever it reads must be as it was, before and after."""
        self._look()
        yield
        self._look()

    def _look(self) -> None:
        if self.state is not None and not self.spoilt:
            self.spoilt = not self.state.holds(self.fun.watched())


class Entry:
    """What was made of one function in one state.

    Things may hold the subject, but not the entry: then they go as soon as the function does, and
    not when Python next looks for circles.

    Attributes:
        subject: the function.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._things: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What is kept under a key, made where it is not there."""
        with self._lock:
            if key in self._things:
                self._things.move_to_end(key)
                return self._things[key]
            thing = self._things[key] = make()
            while len(self._things) > _THINGS:
                self._things.popitem(last=False)
            return thing

    def serves(self, watched: Any) -> bool:
        """Whether it was made of the function, and what is watched with it, as they are now."""
        subject = self.subject
        return not subject.spoilt and subject.state is not None and subject.state.holds(watched)


class Shelf:
    """Entries by the identity of functions: for bound methods by instance and function."""

    def __init__(self) -> None:
        self._entries: OrderedDict[_Key, Entry] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, fun: Callable[..., Any], beside: tuple[Any, ...] = ()) -> Entry:
        """The entry of a function as it is now; one of its own where nothing may be kept of it.

        Args:
            fun: the function.
            beside: classes and functions that it is called with, whose state is watched too.
        """
        bound = isinstance(fun, types.MethodType)
        parts = (fun.__func__, fun.__self__) if bound else (fun,)  # type: ignore[attr-defined]
        key = (len(parts), *map(id, parts), *map(id, beside))
        entry, watched = self._entries.get(key), _watched(fun, beside)
        if entry is not None and entry.serves(watched):
            with self._lock:
                if key in self._entries:
                    self._entries.move_to_end(key)
            return entry
        state = state_of(watched)
        if state is None:
            with self._lock:
                self._entries.pop(key, None)
            return Entry(Subject(Holder(fun), None))
        shelf = weakref.ref(self)

        def gone(_: Any) -> None:
            own = shelf()
            if own is not None:
                own._drop(key, reference())

        try:
            made = Entry(Subject(Reference(fun, gone, beside), state))
        except TypeError:  # it cannot be referred to weakly
            return Entry(Subject(Holder(fun), None))
        reference: Callable[[], Entry | None] = weakref.ref(made)
        with self._lock:
            self._entries[key] = made
            self._entries.move_to_end(key)
            while len(self._entries) > _FUNCTIONS:
                self._entries.popitem(last=False)
        return made

    def _drop(self, key: _Key, entry: Entry | None) -> None:
        with self._lock:
            if entry is not None and self._entries.get(key) is entry:
                del self._entries[key]


_shelf = Shelf()


def entry_of(fun: Callable[..., Any], given: Any = ()) -> Entry:
    """What is kept of a function as it is now; a new entry, kept nowhere, if nothing may be.

    Args:
        fun: the function.
        given: a pytree of arguments that it is called with.
    """
    beside = companions(given)
    return Entry(Subject(Holder(fun), None)) if beside is None else _shelf.find(fun, beside)


def entry_beside(fun: Callable[..., Any], beside: tuple[Any, ...]) -> Entry:
    """The same, where `companions` has told what is watched besides."""
    return _shelf.find(fun, beside)


def _watched(fun: Any, beside: tuple[Any, ...]) -> Any:
    return (fun, *beside) if beside else fun
