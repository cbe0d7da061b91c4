"""The fingerprint of a function: what tells it from another one of the same name.

It holds what the function's compiled code does, and what that code reads from outside of it:
other functions of its module, numbers, texts and arrays. Comments, layout, docstrings and names of
local variables are no part of it, nor is where the file lies, nor what the function itself changes.
This room must not know what a fingerprint is compared with.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import hashlib
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from jaxfd._runs.compiled import LOADS, LOADS_ATTRIBUTE, code_text, instructions
from jaxfd._runs.effects import Effects, Origin, effects
from jaxfd._runs.origins import defaults, given_name, is_special, things, variable
from jaxfd._runs.values import (
    attribute,
    attributes,
    carries,
    in_library,
    inside,
    is_library,
    is_mutable,
    module_of,
    text_of,
    unwrapped,
)

# Compiled code of one version of Python says nothing about that of another, and fingerprints that
# are made in one way nothing about those made in another: the second number is that of the way.
PYTHON = "{}.{}, 3".format(*sys.version_info)

_Function = types.FunctionType


def fingerprint(fun: Callable[..., Any]) -> dict[str, str]:
    """What tells a function from another one.

    Args:
        fun: a function, a method, a partial, or an object that is called.

    Returns:
        A digest for each part, by what the part is; empty for what has no code to look at.
    """
    reader = _Reader(set(_modules(fun)))
    reader.read_call("", fun)
    reader.settle()  # what the functions change is known only now
    reader.read_call("", fun)
    return {what: _digest(" ".join(found)) for what, found in reader.parts.items()}


def _modules(fun: Any) -> Iterator[str | None]:
    """The modules whose functions are looked at."""
    if isinstance(fun, functools.partial):
        for part in (fun.func, *fun.args, *fun.keywords.values()):
            if isinstance(part, functools.partial) or callable(part):
                yield from _modules(part)
    elif not is_library(unwrapped(fun)):
        yield module_of(fun)
    else:
        for part in carries(unwrapped(fun)).values():
            if isinstance(part, _Function):
                yield from _modules(part)


class _Reader:
    """Reads a function, and those of its module that it calls; twice.

    Args:
        modules: the modules whose functions are read.

    Attributes:
        parts: the digests so far.
    """

    def __init__(self, modules: set[str | None]) -> None:
        self.parts: dict[str, list[str]] = {}
        self._modules = modules
        files = [getattr(sys.modules.get(str(m)), "__file__", None) for m in modules]
        self._homes = [os.path.dirname(os.path.abspath(f)) for f in files if f]
        self._seen: set[tuple[int, Any]] = set()
        self._settled = False
        self._read: list[tuple[_Function, Any, Effects]] = []
        # What the functions change: things, attributes of things, and names.
        self._changed: set[int] = set()
        self._set: set[tuple[int, str]] = set()
        self._loose: set[str] = set()
        self._rebound: set[Any] = set()

    def read_call(self, where: str, fun: Any) -> None:
        """Reads what is called."""
        fun = unwrapped(fun)
        if isinstance(fun, functools.partial):
            if self._is_own(fun.func):
                self.read_call(where, fun.func)
            else:
                self._put(f"the function of the partial{where}", fun.func)
            for name, value in [*enumerate(fun.args), *sorted(fun.keywords.items())]:
                self._note(f"the argument {name} of the partial{where}", value)
        elif isinstance(fun, types.MethodType):
            self._read_method(where, fun.__self__, fun.__func__)
        elif isinstance(fun, _Function):
            self._read_function(where, fun)
        elif parts := carries(fun):
            for name, value in parts.items():
                self._note(f"the attribute {name}{where}", value)
        elif isinstance(call := type(fun).__call__, _Function):
            self._read_method(where, fun, call)

    def settle(self) -> None:
        """Takes together what the functions change, before the second reading."""
        # Functions that change what they are given, and the attributes that they set on it.
        changers: dict[int, set[str]] = {}
        for fun, owner, found in self._read:
            own = given_name(fun) if owner is not None else None
            for origin in found.changed:
                for thing in things(fun, owner, origin):
                    self._changed.update(map(id, inside(thing)))
                if origin[0] == "argument" and origin[1] != own:
                    changers.setdefault(id(fun), set())
            for origin, name in found.sets:
                self._set |= {(id(thing), name) for thing in things(fun, owner, origin)}
                if origin[0] == "argument" and origin[1] != own:
                    changers.setdefault(id(fun), set()).add(name)
            self._rebound |= {variable(fun, name) for name in found.rebound}
            if not found.known:
                self._loose |= found.attributes
        size = -1
        while size != (size := sum(1 + len(names) for names in changers.values())):
            for fun, owner, found in self._read:
                for called, given in found.passed:
                    for thing in [t for o in called for t in things(fun, owner, o)]:
                        names = changers.get(id(unwrapped(thing)))
                        if names is not None:
                            self._pass(fun, owner, given, names, changers)
        self._settled = True
        self._seen.clear()

    def _pass(
        self,
        fun: _Function,
        owner: Any,
        given: frozenset[Origin],
        names: set[str],
        changers: dict[int, set[str]],
    ) -> None:
        """A function gives something to one that changes it."""
        own = given_name(fun) if owner is not None else None
        for origin in given:
            for thing in things(fun, owner, origin):
                self._changed.update(map(id, inside(thing)))
                self._set |= {(id(thing), name) for name in names}
            if origin[0] == "argument" and origin[1] != own:
                changers.setdefault(id(fun), set()).update(names)

    def _read_method(self, where: str, owner: Any, method: Any) -> None:
        """Reads a method, and the attributes of its object."""
        method = unwrapped(method)
        if not isinstance(method, _Function):
            return
        self._read_function(where, method, owner)
        if isinstance(owner, type):
            return
        kind = type(owner)
        for name, value in sorted(attributes(owner).items()):
            member = inspect.getattr_static(kind, name, None)
            if not isinstance(member, functools.cached_property):
                self._note_attribute(name, value, owner)

    def _read_function(self, where: str, fun: _Function, owner: Any = None) -> None:
        if (id(fun), id(owner)) in self._seen:
            return
        self._seen.add((id(fun), id(owner)))
        code = fun.__code__
        found = effects(code)
        if not self._settled:
            self._read.append((fun, owner, found))
        loaded = instructions(code)
        loads = frozenset(i.argval for i in loaded if i.opname in LOADS_ATTRIBUTE)
        if owner is None or fun.__module__ in self._modules or not where:
            self._add(f"the code{where}", code_text(code))
            for name, value in defaults(fun).items():
                self._note(f"the default {name}{where}", value, loose=not found.known)
            names = {i.argval for i in loaded if i.opname in LOADS} - found.rebound
            # Where it sets attributes outside, what it reads there may be part of that state.
            outer = [origin for origin, _ in found.sets if origin[0] == "outer"]
            # What a class made is new.
            stateful = any(
                not isinstance(thing, type) for o in outer for thing in things(fun, None, o)
            )
            for name in sorted(names):
                key = variable(fun, name)
                if not name.startswith("__") and key not in self._rebound:
                    # __file__ and its like say where the file lies.
                    for value in things(fun, None, ("outer", name, "")):
                        self._note(name, value, loose=not found.known, functions=stateful)
                        if not stateful:
                            self._read_object(name, value, loads)
        if owner is not None:
            calls_base = any(i.opname in LOADS and i.argval == "super" for i in loaded)
            for name in sorted(loads):
                self._read_members(name, owner, calls_base, loads)

    def _read_object(self, where: str, value: Any, loads: frozenset[str]) -> None:
        """Reads those attributes that are asked for of a class, an object or a module."""
        if (id(value), loads) in self._seen:
            return
        self._seen.add((id(value), loads))
        if isinstance(value, types.ModuleType):
            file = attribute(value, "__file__")
            if isinstance(file, str) and not in_library(file):
                for name in sorted(loads & vars(value).keys()):
                    self._note(f"{where}.{name}", vars(value)[name])
        elif isinstance(value, type) and value.__module__ in self._modules:
            # What makes an object, and what operators call.
            special = {name for name, member in vars(value).items() if is_special(name, member)}
            for name in sorted(loads | special):
                self._read_members(name, value, True, loads)
        elif self._is_record(value) and not self._is_own(value):
            for name in sorted(loads):
                self._read_members(name, value, True, loads)

    def _is_record(self, value: Any) -> bool:
        """Whether an object is read by the attributes that are asked for."""
        kind = type(value)
        own = kind.__module__ in self._modules and not isinstance(value, (type, enum.Enum))
        return own or kind is types.SimpleNamespace

    def _read_members(self, name: str, owner: Any, all_bases: bool, loads: frozenset[str]) -> None:
        """Reads what an object, or its classes, have under a name."""
        if not isinstance(owner, type) and name in (own := attributes(owner)):
            kind = inspect.getattr_static(type(owner), name, None)
            if not isinstance(kind, (property, functools.cached_property)):
                self._note_attribute(name, own[name], owner)
                self._read_object(name, own[name], loads)
                return
        for base in (owner if isinstance(owner, type) else type(owner)).__mro__:
            if base is object or name not in vars(base):
                continue
            member = vars(base)[name]
            for name_of in ("__func__", "fget", "func"):
                member = getattr(member, name_of, member)
            inner = unwrapped(member)
            if isinstance(inner, _Function):
                self._read_function(f" of {base.__name__}.{name}", inner, owner)
            elif base.__module__ in self._modules and not name.startswith("__"):
                self._note_attribute(name, member, owner, base)
                self._read_object(name, member, loads)
            if not all_bases:
                return

    def _note_attribute(self, name: str, value: Any, *owners: Any) -> None:
        """Reads an attribute, unless it is set by what is read."""
        is_set = any((id(o), n) in self._set for o in owners for n in (name, ""))
        if not is_set and name not in self._loose:
            known = all(found.known for _, owner, found in self._read if owner is owners[0])
            self._note(f"the attribute {name}", value, name, loose=not known)

    def _note(
        self,
        what: str,
        value: Any,
        name: str = "",
        loose: bool = False,
        functions: bool = False,
    ) -> None:
        """Reads something from outside of a function.

        Args:
            what: what it is.
            value: its value.
            name: what it is called; as `what` where that is empty.
            loose: whether the function may have changed it in place.
            functions: whether nothing but functions is read.
        """
        for inner in inside(value):
            if self._is_own(inner):
                self.read_call(f" of {name or what}", inner)
        hidden = type(value) is types.SimpleNamespace or (loose and is_mutable(value))
        if not (functions or hidden or self._is_own(value)):
            self._put(what, value)

    def _put(self, what: str, value: Any) -> None:
        if self._settled:
            text = None
            with contextlib.suppress(Exception):  # an object may raise anything when it is asked
                text = text_of(value, self._changed, self._is_own, self._homes)
            if text is not None:
                self._add(what, text)

    def _add(self, what: str, text: str) -> None:
        if self._settled and (digest := _digest(text)) not in self.parts.setdefault(what, []):
            self.parts[what].append(digest)

    def _is_own(self, value: Any) -> bool:
        """Whether something that is called is read, not only named."""
        inner = unwrapped(value)
        if isinstance(inner, functools.partial):
            return True
        if isinstance(inner, types.MethodType):
            return isinstance(inner.__func__, _Function) and not is_library(inner.__func__)
        if isinstance(inner, _Function):
            return inner.__module__ in self._modules
        call = getattr(type(inner), "__call__", None)  # noqa: B004
        return isinstance(call, _Function) and type(inner).__module__ in self._modules


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()
