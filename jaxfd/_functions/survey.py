"""Finds out what a function reads, by going from it to the objects that its code names.

It follows functions into those that they call, methods to their instances, and instances to the
attributes whose names occur in the code; into what is constant it does not look. Where it meets
something whose state cannot be known, there is no state at all: better none than a wrong one.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import types
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from jax import tree_util

from jaxfd._functions import state as look
from jaxfd._functions.constants import (
    ASKING,
    BY_NAME,
    is_constant,
    is_library,
    is_number,
    is_python_class,
)
from jaxfd._functions.reads import Chain, Reads, reads_of
from jaxfd._functions.state import ABSENT, State, Step

# Objects that are looked at, and how often names are gathered, at most.
_MOST, _ROUNDS = 4000, 8

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
_SETS = (set, frozenset)
_FEEDABLE = (list, set, collections.deque)
# Methods that no estimate calls.
_ASIDE = frozenset(
    {
        *("__repr__", "__str__", "__format__", "__del__", "__reduce__", "__reduce_ex__"),
        *("__getstate__", "__setstate__", "__setattr__", "__delattr__", "__copy__"),
        *("__deepcopy__", "__init_subclass__", "__dir__", "__sizeof__", "__class_getitem__"),
    }
)
_MAKING = frozenset({"__init__", "__new__", "__post_init__"})
_HIDING = ("__getattr__", "__getattribute__")
_METHODS = (types.FunctionType, staticmethod, classmethod, property, functools.cached_property)


class Reader:
    """An object that says itself what it reads, because no code of it would tell."""

    def reads(self) -> tuple[Any, ...]:
        """The objects whose state it depends on."""
        raise NotImplementedError


class _UnknownError(Exception):
    """Something whose state cannot be known."""


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
    except (_UnknownError, RecursionError):
        return None
    except Exception:  # an object that cannot even be looked at
        return None
    return None


class _Survey:
    """One round: all that is read if attributes of these names are."""

    def __init__(self, names: frozenset[str]) -> None:
        self.steps: list[Step] = []
        self.names: set[str] = set(names)
        self.asks = False
        # The names of attributes that are looked at; None for all.
        self._wanted = None if "*" in names else names
        self._kinds: set[int] = set()
        self._seen: dict[int, int] = {}
        self._held: list[Any] = []  # so that no number is given anew while this lasts
        self._edges: dict[tuple[Any, int, Any], int] = {}

    # --- steps ---------------------------------------------------------------------------

    def visit(self, read: Callable[[Any, Any], Any], parent: int, key: Any, value: Any) -> int:
        """Notes one look, and all that there is to be seen from what it found."""
        edge = (read, parent, key)
        known = self._edges.get(edge)
        if known is not None:
            return known
        if len(self.steps) >= _MOST:
            raise _UnknownError(value)
        number = len(self.steps) + 1  # the function itself is number 0
        self._edges[edge] = number
        if value is ABSENT:
            self.steps.append(Step(read, parent, key, lambda other: other is ABSENT))
        elif is_number(value):
            self.steps.append(Step(read, parent, key, look.number(value)))
        elif id(value) in self._seen:
            self.steps.append(Step(read, parent, key, None, self._seen[id(value)]))
        else:
            self._seen[id(value)] = number
            self._held.append(value)
            self._enter(Step(read, parent, key, None), number, value)
        return number

    def _note(self, step: Step, same: Callable[[Any], bool] | None) -> None:
        if same is None:
            raise _UnknownError(step)
        self.steps.append(step._replace(same=same))

    def _enter(self, step: Step, number: int, value: Any) -> None:
        kind = type(value)
        if is_constant(value):
            self._note(step, _identity(value))
        elif isinstance(value, types.ModuleType):
            self._whole_module(value)
            self._note(step, _identity(value))
        elif isinstance(value, jax.core.Tracer):
            raise _UnknownError(value)
        elif isinstance(value, Reader):
            self._note(step, _identity(value))
            self.visit(look.of_readers, number, None, value.reads())
        elif kind is types.FunctionType:
            self._note(step, _identity(value))
            self._function(number, value)
        elif kind in _WRAPPERS:
            self._note(step, look.kind_of(value))
            self._attributes(number, value, _WRAPPERS[kind])
        elif kind in _SEQUENCES:
            self._note(step, look.length(value))
            self._sequence(number, value)
        elif kind in _MAPPINGS:
            self._note(step, look.keys(value))
            self._mapping(number, value, None)
        elif kind in _SETS:
            self._note(step, look.members(value) if all(map(is_number, value)) else None)
        elif kind is np.ndarray:
            self._note(step, look.contents(value))
        elif isinstance(value, type):
            self._note(step, _identity(value))
            self._class(number, value, made=True)
        else:
            self._instance(step, number, value)

    def _attributes(self, number: int, value: Any, names: Iterable[str]) -> None:
        for name in names:
            self.visit(look.of_attribute, number, name, getattr(value, name, ABSENT))

    def _sequence(self, number: int, value: Any) -> None:
        for index in range(len(value)):
            self.visit(look.of_sequence, number, index, look.of_sequence(value, index))

    def _mapping(self, number: int, value: Any, names: frozenset[str] | None) -> None:
        for key in look.names_in(value):
            if not is_number(key):
                raise _UnknownError(key)
            if names is None or key in names:
                self.visit(look.of_items, number, key, look.of_items(value, key))

    # --- functions -----------------------------------------------------------------------

    def _function(self, number: int, fun: Any) -> None:
        self._attributes(number, fun, ("__code__", "__defaults__", "__kwdefaults__"))
        if fun.__dict__:
            own = self.visit_variables(number, fun)
            self._mapping(own, fun.__dict__, self._wanted)
        cells = fun.__closure__ or ()
        if is_library(fun.__globals__.get("__name__")):
            for k in range(len(cells)):
                self.visit(look.of_cell, number, k, look.of_cell(fun, k))
            return
        reads = reads_of(fun.__code__)
        if not reads.known or not all(map(self._is_closed, reads.imported)):
            raise _UnknownError(fun)
        self.names |= reads.attributes
        if "__dict__" in reads.attributes:
            self.names.add("*")
        for chain in sorted(reads.of_cells):
            k = fun.__code__.co_freevars.index(chain[0])
            self._chain(look.of_cell, number, k, look.of_cell(fun, k), chain, reads)
        for chain in sorted(reads.of_globals):
            value = look.of_globals(fun, chain[0])
            if chain[0] not in fun.__globals__:
                self._builtin(chain[0])
            self._chain(look.of_globals, number, chain[0], value, chain, reads)

    def visit_variables(self, number: int, value: Any) -> int:
        """Notes the dictionary of an object by its keys, and nothing of what it holds."""
        edge = (look.of_variables, number, None)
        if edge not in self._edges:
            self._edges[edge] = len(self.steps) + 1
            same = look.keys(look.of_variables(value, None))
            self.steps.append(Step(*edge, same))
        return self._edges[edge]

    def _builtin(self, name: str) -> None:
        self.asks |= name in ASKING
        if name in BY_NAME:
            self.names.add("*")

    def _chain(
        self,
        read: Callable[[Any, Any], Any],
        parent: int,
        key: Any,
        value: Any,
        chain: Chain,
        reads: Reads,
    ) -> None:
        """Follows a name, and where it is a module the attributes that are read of it."""
        if chain[0] in reads.fed and type(value) in _FEEDABLE:
            self.steps.append(Step(read, parent, key, look.kind_of(value)))
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
            raise _UnknownError(module)

    def _is_closed(self, module: str) -> bool:
        """Whether nothing that the code reads of a module ever changes."""
        random = self._wanted is None or "random" in self._wanted
        return is_library(module) and not (random and module.partition(".")[0] == "numpy")

    def _module(
        self, read: Callable[[Any, Any], Any], parent: int, key: Any, module: types.ModuleType
    ) -> int:
        edge = (read, parent, key)
        if edge not in self._edges:
            self._edges[edge] = len(self.steps) + 1
            self.steps.append(Step(*edge, _identity(module)))
        return self._edges[edge]

    # --- classes and instances -----------------------------------------------------------

    def _kind(self, number: int, kind: type) -> None:
        """Notes the class of an object, which makes no other one of it."""
        edge = (look.of_type, number, None)
        self._edges[edge] = own = len(self.steps) + 1
        self.steps.append(Step(*edge, _identity(kind)))
        if id(kind) not in self._kinds and not is_constant(kind):
            self._kinds.add(id(kind))
            self._class(own, kind, made=False)

    def _class(self, number: int, kind: type, made: bool) -> None:
        """What is read of a class whose methods may be called, and perhaps the class itself."""
        for each in kind.__mro__:
            if is_constant(each):
                continue
            if not is_python_class(each) or any(name in vars(each) for name in _HIDING):
                raise _UnknownError(each)
            for name, value in list(vars(each).items()):
                wanted = self._wanted is None or name in self._wanted
                if name.startswith("__") and name.endswith("__"):
                    aside = name in _ASIDE or (name in _MAKING and not made)
                    wanted = isinstance(value, _METHODS) and not aside
                if wanted:
                    self.visit(look.of_class, number, name, look.of_class(kind, name))
        if type(kind) is not type:
            self._kind(number, type(kind))

    def _instance(self, step: Step, number: int, value: Any) -> None:
        kind = type(value)
        if not is_python_class(kind):
            raise _UnknownError(value)
        bases = [each for each in kind.__mro__ if not is_python_class(each)]
        if not set(bases) <= {object, tuple, list, dict}:
            raise _UnknownError(value)
        held = next((each for each in bases if each is not object), None)
        if held is None:
            self._note(step, _identity_or_kind(value))
        else:
            self._note(step, look.keys(value) if held is dict else look.length(value))
        self._kind(number, kind)
        # What JAX or a library takes apart is read under names that the code does not mention.
        whole = is_constant(kind) or dataclasses.is_dataclass(kind)
        whole |= not tree_util.all_leaves([value])
        names = None if whole else self._wanted
        if held in (tuple, list):
            for index in range(held.__len__(value)):
                self.visit(look.of_sequence, number, index, held.__getitem__(value, index))
        elif held is dict:
            self._mapping(number, value, None)
        variables = getattr(value, "__dict__", None)
        if variables is not None:
            own = self.visit_variables(number, value)
            self._mapping(own, variables, names)
        for each in kind.__mro__:
            for name, member in vars(each).items():
                slot = isinstance(member, types.MemberDescriptorType)
                if slot and (names is None or name in names):
                    self.visit(look.of_attribute, number, name, getattr(value, name, ABSENT))


def _identity_or_kind(value: Any) -> Callable[[Any], bool]:
    """For what is looked into besides, so that an equal object does as well."""
    try:
        return look.identity(value)
    except TypeError:
        return look.kind_of(value)


def _identity(value: Any) -> Callable[[Any], bool]:
    try:
        return look.identity(value)
    except TypeError:
        # Objects of C that cannot be referred to, such as devices and structures of pytrees.
        if is_constant(value):
            return lambda other: other is value
        raise _UnknownError(value) from None
