"""Values that a function reads, as texts: two texts differ where the values do."""

from __future__ import annotations

import collections
import dataclasses
import decimal
import enum
import fractions
import functools
import hashlib
import os
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from jaxfd._runs.compiled import code_text

_EXACT = (str, bytes, int, float, complex, bool, type(None), type(...))
_PRINTED = (range, decimal.Decimal, fractions.Fraction, np.dtype)
_DICTS = (dict, collections.OrderedDict, collections.defaultdict, types.MappingProxyType)
_LIBRARIES = tuple(
    {os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "purelib", "platlib")}
    | {os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")}
)
_DEEP = 20


def unwrapped(fun: Any) -> Any:
    """The function inside of what a library's decorator made of it."""
    for _ in range(_DEEP):
        inner = None if isinstance(fun, type) else getattr(fun, "__wrapped__", None)
        if inner is None or (isinstance(fun, types.FunctionType) and not is_library(fun)):
            break
        fun = inner
    return fun


def is_library(fun: Any) -> bool:
    """Whether what is called was installed, not written by the user."""
    code = getattr(fun, "__code__", None)
    if code is None and not isinstance(fun, type):
        code = getattr(type(fun).__call__, "__code__", None)
    return code is None or code.co_filename.startswith((*_LIBRARIES, "<frozen "))


def module_of(fun: Any) -> str | None:
    """The module that something that is called was defined in."""
    inner = unwrapped(fun)
    module = getattr(inner, "__module__", None)
    return module if isinstance(module, str) else None


def inside(value: Any, depth: int = 0) -> Iterator[Any]:
    """A value, and all that lies in it."""
    yield value
    parts: Iterable[Any] = ()
    if isinstance(value, (tuple, list)):
        parts = value
    elif isinstance(value, dict):
        parts = (value[key] for key in sorted(value, key=repr))
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
    mutable = (list, set, collections.deque, np.ndarray, *_DICTS)
    return isinstance(value, mutable) or dataclasses.is_dataclass(value)


def text_of(
    value: Any, changed: set[int], is_own: Callable[[Any], bool], depth: int = 0
) -> str | None:
    """A text that tells a value from others.

    Args:
        value: the value.
        changed: which objects are changed in place, by their `id`.
        is_own: whether a function's own code tells it from others; otherwise its name does.
        depth: how deep inside of another value it lies.

    Returns:
        The text; None where there is none.
    """
    kind = type(value)
    if depth > _DEEP or (id(value) in changed and is_mutable(value)):
        return None

    def text(part: Any) -> str:
        # What has no text must not hide its neighbours.
        found = text_of(part, changed, is_own, depth + 1)
        return "?" if found is None else found

    def joined(*parts: str) -> str:
        return f"{kind.__name__}({', '.join(parts)})"

    if kind in _EXACT:
        return f"{kind.__name__} {value!r}"
    if isinstance(value, enum.Enum):
        return f"{kind.__qualname__}.{value.name}"
    if isinstance(value, _PRINTED):
        return f"{kind.__name__} {value!r}"
    if isinstance(value, slice):
        return joined(*map(text, (value.start, value.stop, value.step)))
    if kind in (list, tuple, collections.deque) or (
        isinstance(value, tuple) and hasattr(kind, "_fields")
    ):
        return joined(*map(text, value))
    if kind in (set, frozenset):
        return joined(*sorted(map(text, value)))
    if kind in _DICTS:
        pairs = [f"({text(key)}, {text(part)})" for key, part in value.items()]
        return joined(*(pairs if kind is collections.OrderedDict else sorted(pairs)))
    if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
        try:
            value = np.asarray(value)
        except Exception:  # keys, deleted arrays, and those that lie on other machines
            return None
    if isinstance(value, np.generic):
        value = np.asarray(value)
    if type(value) is np.ndarray and not value.dtype.hasobject:
        raw = hashlib.blake2b(np.ascontiguousarray(value).tobytes(), digest_size=12).hexdigest()
        return f"array {value.dtype} {value.shape} {raw}"
    if isinstance(value, functools.partial):
        keywords = [f"{name}={text(part)}" for name, part in sorted(value.keywords.items())]
        return joined(*map(text, (value.func, *value.args)), *keywords)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value)]
        return joined(*(f"{name}={text(getattr(value, name, None))}" for name in fields))
    return _text_of_function(value, is_own)


def _text_of_function(value: Any, is_own: Callable[[Any], bool]) -> str | None:
    """The text of something that is called: its code, or of a library its name."""
    if is_own(value) and isinstance(inner := unwrapped(value), types.FunctionType):
        return f"function {code_text(inner.__code__)}"
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not (callable(value) and isinstance(name, str)):
        return None
    if isinstance(value, np.ufunc):
        return f"function {value.__name__}"
    # Where in its library it is defined depends on the library's version.
    module = getattr(value, "__module__", None)
    package = module.partition(".")[0] if isinstance(module, str) else ""
    return f"function {package}.{name}"
