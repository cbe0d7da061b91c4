"""The fingerprint of a function: what tells it from another one of the same name.

It holds what the function's compiled code does, and what that code reads from outside of it:
other functions of its module, numbers, texts and arrays. Comments, layout, docstrings and names of
local variables are no part of it, nor is where the file lies. This room must not know what a
fingerprint is compared with.
"""

from __future__ import annotations

import dis
import enum
import functools
import hashlib
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

# Compiled code of one version of Python says nothing about that of another.
PYTHON = "{}.{}".format(*sys.version_info)

_EXACT = (str, bytes, int, float, complex, bool, type(None), type(...))
_LOADS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"}
_STORES = {"STORE_GLOBAL", "STORE_NAME", "STORE_DEREF", "DELETE_GLOBAL", "DELETE_DEREF"}
# What changes an object in place, and may change one from outside.
_WRITES = {"STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE", "STORE_ATTR", "DELETE_ATTR"}
_METHODS = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "fill", "insert", "itemset"),
    *("pop", "popitem", "popleft", "put", "remove", "reverse", "setdefault", "sort", "update"),
}
_HAS_DOCSTRING = 0x4000000


def fingerprint(fun: Callable[..., Any]) -> dict[str, str]:
    """What tells a function from another one.

    Args:
        fun: a function, a method, a partial, or an object that is called.

    Returns:
        A digest for each part, by what the part is; empty for what has no code to look at.
    """
    reader = _Reader(getattr(fun, "__module__", None))
    reader.read_call("", fun)
    return reader.parts


class _Reader:
    """Reads a function, and those of its module that it calls.

    Attributes:
        parts: the digests so far.
    """

    def __init__(self, module: str | None) -> None:
        self.parts: dict[str, str] = {}
        self._module = module
        self._seen: set[int] = set()

    def read_call(self, where: str, fun: Any) -> None:
        """Reads what is called."""
        while hasattr(fun, "__wrapped__") and not isinstance(fun, types.FunctionType):
            fun = fun.__wrapped__  # what a decorator made an object of
        if isinstance(fun, functools.partial):
            self.read_call(where, fun.func)
            self._put(f"the arguments of the partial{where}", (fun.args, fun.keywords))
        elif isinstance(fun, types.MethodType):
            self._read_state(where, fun.__self__, fun.__func__)
        elif isinstance(fun, types.FunctionType):
            self._read_function(where, fun)
        elif isinstance(call := type(fun).__call__, types.FunctionType):
            self._read_state(where, fun, call)

    def _read_state(self, where: str, owner: Any, method: Any) -> None:
        """Reads a method, and the attributes of its object."""
        if not isinstance(method, types.FunctionType):
            return
        self._read_function(where, method)
        if isinstance(owner, type) or _writes(_instructions(method.__code__)):
            return
        for name, value in getattr(owner, "__dict__", {}).items():
            self._put(f"the attribute {name}", value)

    def _read_function(self, where: str, fun: types.FunctionType) -> None:
        if id(fun) in self._seen:
            return
        self._seen.add(id(fun))
        code = fun.__code__
        self.parts[f"the code{where}"] = _digest(_code_text(code))
        self._put(f"the defaults{where}", (fun.__defaults__, fun.__kwdefaults__))
        instructions = _instructions(code)
        written = {i.argval for i in instructions if i.opname in _STORES}
        steady = not _writes(instructions)
        cells = dict(zip(code.co_freevars, fun.__closure__ or (), strict=True))
        for name in sorted({i.argval for i in instructions if i.opname in _LOADS} - written):
            if name in cells:
                try:
                    value = cells[name].cell_contents
                except ValueError:  # not given yet
                    continue
            elif name in fun.__globals__:
                value = fun.__globals__[name]
            else:
                continue
            if name.startswith("__"):
                continue  # __file__ and its like say where the file lies
            self._read_value(name, value, steady)

    def _read_value(self, name: str, value: Any, steady: bool) -> None:
        """Reads something from outside of a function.

        Args:
            name: what it is called there.
            value: what it is.
            steady: whether the function leaves containers as they are.
        """
        inner = getattr(value, "__wrapped__", value)
        if isinstance(inner, types.FunctionType):
            if inner.__module__ == self._module:
                self._read_function(f" of {name}", inner)
        elif isinstance(value, functools.partial | types.MethodType):
            self.read_call(f" of {name}", value)
        elif steady or isinstance(value, (*_EXACT, np.generic, enum.Enum)):
            self._put(name, value)

    def _put(self, what: str, value: Any) -> None:
        text = _text(value)
        if text is not None:
            self.parts[what] = _digest(text)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()


def _instructions(code: types.CodeType) -> list[dis.Instruction]:
    """The instructions of a function, and of those that are defined inside of it."""
    found = list(dis.get_instructions(code))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found += _instructions(constant)
    return found


def _writes(instructions: Iterable[dis.Instruction]) -> bool:
    """Whether something may be changed in place."""
    return any(
        i.opname in _WRITES or (i.opname in ("LOAD_ATTR", "LOAD_METHOD") and i.argval in _METHODS)
        for i in instructions
    )


def _code_text(code: types.CodeType) -> str:
    """What compiled code does, without where it stands and how its variables are called."""
    arguments = code.co_argcount + code.co_kwonlyargcount
    flags = code.co_flags & ~_HAS_DOCSTRING
    lines = [f"{code.co_varnames[:arguments]} {code.co_argcount} {code.co_posonlyargcount} {flags}"]
    for i in dis.get_instructions(code):
        value = i.argval
        if isinstance(value, types.CodeType):
            value = _code_text(value)
        elif i.opcode in dis.hasconst:
            value = _text(value)
        elif "FAST" in i.opname:
            value = i.arg  # a local variable, by number
        lines.append(f"{i.opname} {value}")
    return "\n".join(lines)


def _text(value: Any) -> str | None:
    """A text that tells a value from others; None where there is none."""
    kind = type(value)
    if kind in _EXACT:
        return f"{kind.__name__} {value!r}"
    if isinstance(value, enum.Enum):
        return f"{kind.__qualname__}.{value.name}"
    if kind in (tuple, list):
        return _joined(kind, [_text(part) for part in value])
    if kind in (set, frozenset):
        parts = [_text(part) for part in value]
        return None if None in parts else _joined(kind, sorted(p for p in parts if p is not None))
    if kind is dict:
        return _joined(kind, [_text(pair) for pair in value.items()])
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if type(value) is np.ndarray and not value.dtype.hasobject:
        raw = hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=12).hexdigest()
        return f"array {value.dtype} {value.shape} {raw}"
    return None


def _joined(kind: type, parts: Sequence[str | None]) -> str | None:
    known = [part for part in parts if part is not None]
    return f"{kind.__name__}({', '.join(known)})" if len(known) == len(parts) else None
