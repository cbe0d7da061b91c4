"""Values that a function reads, as texts: two texts differ where the values do."""

from __future__ import annotations

import array
import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import operator
import os
import pathlib
import re
import sysconfig
import types
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from jaxfd._runs.compiled import code_text

_EXACT = (str, bytes, int, float, complex, bool, type(None), type(...))
_PRINTED = (
    *(range, decimal.Decimal, fractions.Fraction, np.dtype, uuid.UUID, array.array),
    *(datetime.timedelta, datetime.date, datetime.time, datetime.tzinfo),
)
_DERIVED = (str, bytes, bytearray, int, float, complex)
_REDUCED = (operator.itemgetter, operator.attrgetter, operator.methodcaller)
_DICTS = (dict, collections.OrderedDict, collections.defaultdict, types.MappingProxyType)
_NO_CARRIERS = (
    *(types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType),
    *(np.ufunc, np.ndarray, jax.Array),
)
_LIBRARIES = tuple(
    {os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "purelib", "platlib")}
    | {os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")}
)
_DEEP = 20


def attribute(value: Any, name: str) -> Any:
    """An attribute, None where there is none: an object may raise anything when it is asked."""
    with contextlib.suppress(Exception):
        return getattr(value, name, None)
    return None


def unwrapped(fun: Any) -> Any:
    """The function inside of what a library's decorator made of it."""
    for _ in range(_DEEP):
        inner = None if isinstance(fun, type) else attribute(fun, "__wrapped__")
        if inner is None or (isinstance(fun, types.FunctionType) and not is_library(fun)):
            break
        fun = inner
    return fun


def is_library(fun: Any) -> bool:
    """Whether what is called was installed, not written by the user."""
    code = attribute(fun, "__code__")
    if code is None and not isinstance(fun, type):
        code = getattr(type(fun).__call__, "__code__", None)
    return code is None or in_library(code.co_filename)


def in_library(file: str) -> bool:
    """Whether a file was installed, not written by the user."""
    return file.startswith((*_LIBRARIES, "<frozen "))


def carries(value: Any) -> dict[str, Any]:
    """The attributes of a library's object that is called, as those that carry functions are.

    Not what it keeps for later: lists, sets and dictionaries that are its own.
    """
    kind = type(value)
    if isinstance(value, (type, functools.partial, *_NO_CARRIERS)) or not _is_called(kind):
        return {}
    found = {} if not is_library(value) or unwrapped(value) is not value else attributes(value)
    kept = (list, set, dict)
    return {
        name: part
        for name, part in sorted(found.items())
        if not name.startswith("__") and not (name.startswith("_") and isinstance(part, kept))
    }


def _is_called(kind: type) -> bool:
    return isinstance(getattr(kind, "__call__", None), types.FunctionType)  # noqa: B004


def module_of(fun: Any) -> str | None:
    """The module that something that is called was defined in."""
    inner = unwrapped(fun)
    module = attribute(inner, "__module__")
    return module if isinstance(module, str) else None


def inside(value: Any, depth: int = 0) -> Iterator[Any]:
    """A value, and all that lies in it."""
    yield value
    parts: Iterable[Any] = ()
    if isinstance(value, (tuple, list)):
        parts = value
    elif isinstance(value, dict):
        parts = (value[key] for key in sorted(value, key=repr))
    else:
        parts = carries(value).values()
    if depth < 5:
        for part in parts:
            yield from inside(part, depth + 1)


def attributes(value: Any) -> dict[str, Any]:
    """The attributes of an object itself, in its dictionary or its slots."""
    found: dict[str, Any] = {}
    for base in type(value).__mro__:
        for name, member in vars(base).items():
            if isinstance(member, types.MemberDescriptorType) and base.__module__ != "builtins":
                try:
                    found[name] = member.__get__(value)
                except AttributeError:
                    continue  # not given yet
    return {**found, **getattr(value, "__dict__", {})}


def is_mutable(value: Any) -> bool:
    """Whether a value that has a text can be changed in place."""
    if isinstance(value, (tuple, frozenset)):
        return any(is_mutable(part) for part in value)
    mutable = (list, set, collections.deque, np.ndarray, bytearray, array.array, *_DICTS)
    return isinstance(value, mutable) or dataclasses.is_dataclass(value)


def _place(path: pathlib.PurePath, homes: Iterable[str]) -> str:
    """A path, seen from the folder that the function's file lies in."""
    for home in homes:
        with contextlib.suppress(ValueError):
            return f"./{path.relative_to(home).as_posix()}"
    return path.as_posix()


def text_of(
    value: Any,
    changed: set[int],
    is_own: Callable[[Any], bool],
    homes: Iterable[str] = (),
    depth: int = 0,
) -> str | None:
    """A text that tells a value from others.

    Args:
        value: the value.
        changed: which objects are changed in place, by their `id`.
        is_own: whether a function's own code tells it from others; otherwise its name does.
        homes: the folders that the function's files lie in: they may be moved.
        depth: how deep inside of another value it lies.

    Returns:
        The text; None where there is none.
    """
    kind = type(value)
    if depth > _DEEP or (id(value) in changed and is_mutable(value)):
        return None

    def text(part: Any) -> str:
        # What has no text must not hide its neighbours.
        found = text_of(part, changed, is_own, homes, depth + 1)
        return "?" if found is None else found

    def joined(*parts: str) -> str:
        return f"{kind.__name__}({', '.join(parts)})"

    if kind in _EXACT:
        return f"{kind.__name__} {value!r}"
    if isinstance(value, enum.Enum):
        return f"{kind.__qualname__}.{value.name} = {text(value.value)}"
    if isinstance(value, enum.EnumMeta):
        return joined(value.__qualname__, *map(text, value))
    if isinstance(value, pathlib.PurePath):
        return f"path {_place(value, homes)}"
    if isinstance(value, re.Pattern):
        return joined(text(value.pattern), text(value.flags))
    if isinstance(value, _REDUCED):
        return joined(text(value.__reduce__()[1]))
    if kind is types.SimpleNamespace:
        return joined(text(vars(value)))
    if isinstance(value, _PRINTED):
        return f"{kind.__name__} {value!r}"
    if isinstance(value, slice):
        return joined(*map(text, (value.start, value.stop, value.step)))
    if isinstance(value, (list, tuple, collections.deque)):
        return joined(*map(text, value))
    if isinstance(value, (set, frozenset)):
        return joined(*sorted(map(text, value)))
    if isinstance(value, _DICTS):
        pairs = [f"({text(key)}, {text(part)})" for key, part in value.items()]
        in_order = isinstance(value, collections.OrderedDict)
        return joined(*(pairs if in_order else sorted(pairs)))
    if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
        try:
            value = np.asarray(value)
        except Exception:  # keys, deleted arrays, and those that lie on other machines
            return None
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if isinstance(value, np.ma.MaskedArray):
        return joined(text(np.ma.getdata(value)), text(np.ma.getmaskarray(value)))
    if isinstance(value, np.ndarray) and not isinstance(value, np.memmap):
        if value.dtype.hasobject:
            return joined(f"{value.dtype} {value.shape}", *map(text, value.ravel().tolist()))
        raw = hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=12).hexdigest()
        return f"array {value.dtype} {value.shape} {raw}"
    for base in _DERIVED:
        if isinstance(value, base):
            return f"{kind.__name__} {base.__repr__(value)}"
    if isinstance(value, functools.partial):
        keywords = [f"{name}={text(part)}" for name, part in sorted(value.keywords.items())]
        return joined(*map(text, (value.func, *value.args)), *keywords)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value)]
        return joined(*(f"{name}={text(getattr(value, name, None))}" for name in fields))
    found = _text_of_function(value, is_own)
    parts = {} if found is None and callable(value) and is_own(value) else carries(value)
    return (
        joined(str(found), *(f"{n}={text(part)}" for n, part in parts.items())) if parts else found
    )


def _text_of_function(value: Any, is_own: Callable[[Any], bool]) -> str | None:
    """The text of something that is called: its code, or of a library its name."""
    if is_own(value) and isinstance(inner := unwrapped(value), types.FunctionType):
        return f"function {code_text(inner.__code__)}"
    name = attribute(value, "__qualname__") or attribute(value, "__name__")
    if not (callable(value) and isinstance(name, str)):
        return None
    if isinstance(value, np.ufunc):
        return f"function {value.__name__}"
    # Where in its library it is defined depends on the library's version.
    module = attribute(value, "__module__")
    package = module.partition(".")[0] if isinstance(module, str) else ""
    return f"function {package}.{name}"
