"""Finds out what a function reads, by going from it to the objects that its code names.

It follows functions into those that they call, methods to their instances, and instances to the
attributes whose names occur in the code; into what is constant it does not look. Where it meets
something whose state cannot be known, there is no state at all: better none than a wrong one.
"""

from __future__ import annotations

import collections
import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxfd._functions import state as look
from jaxfd._functions.constants import ASKING, BY_NAME, is_constant, is_library
from jaxfd._functions.instances import visit_class, visit_instance
from jaxfd._functions.reads import Chain, Reads, reads_of
from jaxfd._functions.record import Read, Record, UnknownStateError, identity
from jaxfd._functions.state import ABSENT, State, Step

# How often names are gathered at most.
_ROUNDS = 8

# Objects that are no more than what they hold under these names.
_WRAPPERS: dict[type, tuple[str, ...]] = {
    types.MethodType: ("__func__", "__self__"),
    functools.partial: ("func", "args", "keywords"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget",),
    functools.cached_property: ("func",),
}
_SEQUENCES = (list, tuple, collections.deque)
_MAPPINGS = (dict, collections.OrderedDict, collections.defaultdict, types.MappingProxyType)
_FEEDABLE = (list, set, collections.deque)


class Reader:
    """An object that says itself what it reads, because no code of it would tell."""

    def reads(self) -> tuple[Any, ...]:
        """The objects whose state it depends on."""
        raise NotImplementedError


def state_of(fun: Callable[..., Any]) -> State | None:
    """The state of a function as it is now; None where it cannot be known."""
    names: frozenset[str] = frozenset()
    try:
        for _ in range(_ROUNDS):
            survey = _Survey(names)
            survey.visit(lambda value, key: value, 0, None, fun)
            if survey.names == names:
                return State(survey.steps, survey.asks)
            names = frozenset(survey.names)
    except Exception:  # it is unknown, has no end, or cannot even be looked at
        return None
    return None


class _Survey(Record):
    """One round: all that is read if attributes of these names are.

    Attributes:
        asks: whether the code asks for the type of something.
    """

    asks = False

    def enter(self, step: Step, number: int, value: Any) -> None:
        kind = type(value)
        if is_constant(value):
            self.note(step, identity(value))
        elif isinstance(value, jax.core.Tracer):
            raise UnknownStateError(value)
        elif isinstance(value, types.ModuleType):
            self._whole_module(value)
            self.note(step, identity(value))
        elif isinstance(value, Reader):
            self.note(step, identity(value))
            self.visit(look.of_reader, number, None, value.reads())
        elif kind is types.FunctionType:
            self.note(step, identity(value))
            self._function(number, value)
        elif kind in _WRAPPERS:
            self.note(step, look.kind_of(value))
            self.attributes(number, value, _WRAPPERS[kind])
        elif kind in _SEQUENCES:
            self.note(step, look.length(value))
            self.sequence(number, value)
        elif kind in _MAPPINGS:
            self.note(step, look.keys(value))
            self.mapping(number, value, None)
        elif kind in (set, frozenset):
            self.note(step, look.members(value))
        elif kind is np.ndarray:
            self.note(step, look.contents(value))
        elif isinstance(value, type):
            self.note(step, identity(value))
            visit_class(self, number, value, made=True)
        else:
            visit_instance(self, step, number, value)

    def _function(self, number: int, fun: Any) -> None:
        self.attributes(number, fun, ("__code__", "__defaults__", "__kwdefaults__"))
        if fun.__dict__:
            self.variables(number, fun, self.wanted)
        cells = fun.__closure__ or ()
        if is_library(fun.__globals__.get("__name__")):
            for k in range(len(cells)):
                self.visit(look.of_cell, number, k, look.of_cell(fun, k))
            return
        reads = reads_of(fun.__code__)
        if not reads.known or not all(map(self._is_closed, reads.imported)):
            raise UnknownStateError(fun)
        self.names |= reads.attributes
        if not BY_NAME.isdisjoint(reads.attributes):
            self.names.add("*")
        for chain in sorted(reads.of_cells):
            k = fun.__code__.co_freevars.index(chain[0])
            self._chain(look.of_cell, number, k, look.of_cell(fun, k), chain, reads)
        for chain in sorted(reads.of_globals):
            value = look.of_globals(fun, chain[0])
            if chain[0] not in fun.__globals__:
                self._builtin(chain[0])
            self._chain(look.of_globals, number, chain[0], value, chain, reads)

    def _builtin(self, name: str) -> None:
        self.asks |= name in ASKING
        if name in BY_NAME:
            self.names.add("*")

    def _chain(
        self,
        read: Read,
        parent: int,
        key: Any,
        value: Any,
        chain: Chain,
        reads: Reads,
    ) -> None:
        """Follows a name, and where it is a module the attributes that are read of it."""
        if chain[0] in reads.fed and type(value) in _FEEDABLE:
            self.look(read, parent, key, lambda: look.kind_of(value))
            return
        for name in chain[1:]:
            if not isinstance(value, types.ModuleType):
                break
            if not is_library(value.__name__):
                parent, read, key = self._module(read, parent, key, value), look.of_attribute, name
                value = getattr(value, name, ABSENT)
            else:
                inner = getattr(value, name, ABSENT)
                if not isinstance(inner, types.ModuleType):
                    self._module(read, parent, key, value)
                    return  # of a library's module nothing changes
                read, key, parent = look.of_attribute, name, self._module(read, parent, key, value)
                value = inner
        if isinstance(value, types.ModuleType):
            self._whole_module(value)
            self._module(read, parent, key, value)
        else:
            self.visit(read, parent, key, value)

    def _whole_module(self, module: types.ModuleType) -> None:
        """A module that goes somewhere as a whole, where any of its names may be read."""
        if not self._is_closed(module.__name__):
            raise UnknownStateError(module)

    def _is_closed(self, module: str) -> bool:
        """Whether nothing that the code reads of a module ever changes."""
        random = self.wanted is None or "random" in self.wanted
        return is_library(module) and not (random and module.partition(".")[0] == "numpy")

    def _module(self, read: Read, parent: int, key: Any, module: types.ModuleType) -> int:
        return self.look(read, parent, key, lambda: identity(module))
