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
from jaxfd._functions.constants import (
    BY_NAME,
    UNTOLD,
    asks,
    is_constant,
    is_library,
    is_library_function,
    is_number,
    judges,
    reads_by_name,
    tells_settings,
)
from jaxfd._functions.instances import visit_class, visit_instance
from jaxfd._functions.reads import AS_TEXT, Chain, Reads, is_stored, reads_of
from jaxfd._functions.record import (
    Read,
    Record,
    UnknownStateError,
    identity,
    identity_or_itself,
)
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
# What functions are called, and what is written about them.
_SAID = ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__", "__wrapped__")
_TITLES = ("__name__", "__qualname__", "__doc__")
# Builtins that make texts of objects.
_TEXTS = (str, repr, ascii, format)


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
                if survey.judges:
                    survey.look(look.of_registry, 0, None, look.registry)
                return State(survey.steps, survey.asks)
            names = frozenset(survey.names)
    except Exception:  # it is unknown, has no end, or cannot even be looked at
        return None
    return None


def asks_for_types(fun: Callable[..., Any]) -> bool:
    """Whether a function whose state is unknown may treat a traced number otherwise, see `State`.

    What cannot be looked through is taken not to.
    """
    names: frozenset[str] = frozenset()
    try:
        for _ in range(_ROUNDS):
            survey = _Survey(names, lenient=True)
            survey.visit(lambda value, key: value, 0, None, fun)
            if survey.asks or survey.names == names:
                return survey.asks
            names = frozenset(survey.names)
    except Exception:  # it has no end, or cannot even be looked at
        return True
    return True


class _Survey(Record):
    """One round: all that is read if attributes of these names are.

    Attributes:
        asks: whether the code may treat a traced number otherwise than the number.
        judges: whether it asks what classes something belongs to.

    Args:
        names: as for `Record`.
        lenient: whether what is unknown is passed over, and what else there is looked at.
    """

    asks = False
    judges = False

    def __init__(self, names: frozenset[str], lenient: bool = False) -> None:
        super().__init__(names)
        self._lenient = lenient

    def enter(self, step: Step, number: int, value: Any) -> None:
        try:
            self._enter(step, number, value)
        except Exception:
            if not self._lenient:
                raise
            if hasattr(value, "__wrapped__"):
                self.attributes(number, value, ("__wrapped__",))

    def _enter(self, step: Step, number: int, value: Any) -> None:
        kind = type(value)
        self._judge(value)
        if is_constant(value):
            self.note(step, identity(value))
        elif isinstance(value, jax.core.Tracer) or value is jax.config:
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
            if kind is property and any(map(is_stored, self.names)):
                self.attributes(number, value, ("fset", "fdel"))
            if kind is functools.partial:
                self.variables(number, value, self.wanted)
        elif kind in _SEQUENCES:
            self.note(step, look.length(value))
            self.sequence(number, value)
        elif kind in _MAPPINGS:
            self.note(step, look.keys(value))
            self.mapping(number, value, None)
            if kind is collections.defaultdict:
                self.attributes(number, value, ("default_factory",))
        elif kind in (set, frozenset):
            self.note(step, look.members(value))
        elif kind is np.ndarray:
            self.note(step, look.contents(value))
        elif isinstance(value, type):
            self.note(step, identity(value))
            visit_class(self, number, value, made=True)
        else:
            visit_instance(self, step, number, value)

    def _judge(self, value: Any) -> None:
        """Notes what it means that the code gets hold of an object."""
        if not callable(value):
            return
        if tells_settings(value):
            raise UnknownStateError(value)
        self.asks |= asks(value)
        self.judges |= judges(value)
        if reads_by_name(value):
            self.names.add("*")
        if value is type:
            self.names.add("__class__")
        if any(value is each for each in _TEXTS):
            self.names |= AS_TEXT

    def _function(self, number: int, fun: Any) -> None:
        self.attributes(number, fun, ("__code__", "__defaults__", "__kwdefaults__"))
        self.variables(number, fun, self.wanted)
        said = _TITLES if self.wanted is None else self.known.intersection(_SAID)
        self.attributes(number, fun, sorted(said))
        cells = fun.__closure__ or ()
        if is_library_function(fun):
            for k in range(len(cells)):
                self.visit(look.of_cell, number, k, look.of_cell(fun, k))
            return
        reads = reads_of(fun.__code__)
        self.asks |= reads.asks
        known = reads.known and UNTOLD.isdisjoint(reads.attributes)
        if not (self._lenient or (known and all(map(self._is_closed, reads.imported)))):
            raise UnknownStateError(fun)
        self.names |= reads.attributes
        if not BY_NAME.isdisjoint(reads.attributes):
            self.names.add("*")
        for chain in sorted(reads.of_cells):
            k = fun.__code__.co_freevars.index(chain[0])
            self._chain(look.of_cell, number, k, look.of_cell(fun, k), chain, reads)
        for chain in sorted(reads.of_globals):
            value = look.of_globals(fun, chain[0])
            self._chain(look.of_globals, number, chain[0], value, chain, reads)

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
            if not _is_namespace(value):
                break
            if not (isinstance(value, types.ModuleType) and is_library(value.__name__)):
                parent, read, key = self._module(read, parent, key, value), look.of_attribute, name
                value = getattr(value, name, ABSENT)
            else:
                inner = getattr(value, name, ABSENT)
                if not _is_namespace(inner):
                    self._of_library(self._module(read, parent, key, value), value, name, inner)
                    return
                read, key, parent = look.of_attribute, name, self._module(read, parent, key, value)
                value = inner
        if isinstance(value, types.ModuleType):
            self._whole_module(value)
            self._module(read, parent, key, value)
        else:
            self.visit(read, parent, key, value)

    def _of_library(self, number: int, module: types.ModuleType, name: str, value: Any) -> None:
        """Notes what is read of a library's module: nothing changes there but what somebody sets.

        What the module makes as it is asked for is left alone.
        """
        self._judge(value)
        if name not in vars(module):
            return
        own = is_constant(value) or is_library(type(value).__module__)
        if type(value) is types.FunctionType:
            own = is_constant(value) or is_library_function(value)
        if own and not is_number(value):
            self.look(look.of_module, number, name, lambda: identity_or_itself(value))
        else:
            self.visit(look.of_module, number, name, value)

    def _whole_module(self, module: types.ModuleType) -> None:
        """A module that goes somewhere as a whole, where any of its names may be read."""
        if not self._is_closed(module.__name__):
            raise UnknownStateError(module)

    def _is_closed(self, module: str) -> bool:
        """Whether nothing that the code reads of a module ever changes."""
        random = self.wanted is None or "random" in self.wanted
        return is_library(module) and not (random and module.partition(".")[0] == "numpy")

    def _module(self, read: Read, parent: int, key: Any, module: Any) -> int:
        return self.look(read, parent, key, lambda: identity(module))


def _is_namespace(value: Any) -> bool:
    """Whether an object is but a place where names are looked up."""
    return isinstance(value, types.ModuleType) or value is jax.config
