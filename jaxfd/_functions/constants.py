"""What is taken never to change: numbers, names, and the libraries JAX programs are made of.

It exists because a function that calls ``jax.numpy.sum`` is not to be followed into JAX. What it
does not know is nobody's constant, and a function that reads such a thing is not kept.
"""

from __future__ import annotations

import builtins
import collections
import contextlib
import enum
import functools
import inspect
import operator
import sys
import types
from typing import Any

import jax
import numpy as np

# Their functions depend on their arguments alone, or on what `jax.jit` itself watches.
_LIBRARIES = frozenset(
    {
        *("jax", "jaxlib", "jaxfd", "numpy", "ml_dtypes", "math", "cmath", "operator"),
        *("_operator", "functools", "_functools", "itertools", "collections", "_collections"),
        *("contextlib", "dataclasses", "typing", "types", "abc", "_abc", "enum", "numbers"),
        *("fractions", "jaxtyping", "typing_extensions", "optax", "chex", "equinox", "einops"),
        *("lineax", "optimistix", "diffrax", "jaxopt"),
    }
)
_STATEFUL = ("numpy.random", "numpy.ctypeslib", "numpy.testing", "jax.experimental.io_callback")
# Functions of libraries that tell how the library is set.
_SETTINGS = frozenset({"geterr", "geterrcall", "getbufsize", "get_printoptions"})
# Builtins that reach what no name tells of, or the world.
_UNKNOWN = frozenset(
    {
        *("open", "input", "eval", "exec", "compile", "globals", "locals", "id", "__import__"),
        *("breakpoint", "help", "exit", "quit", "__build_class__", "memoryview"),
    }
)
# Attributes that give, or take apart, what has attributes of names that nobody knows.
BY_NAME = frozenset(
    {
        *("vars", "dir", "__dict__", "attrgetter", "methodcaller", "getattr_static"),
        *("getmembers", "__getattribute__", "__getattr__", "format", "format_map"),
    }
)
# Attributes that reach what no name in the code tells of.
UNTOLD = frozenset(
    {
        *("__subclasses__", "__globals__", "__closure__", "cell_contents", "__builtins__"),
        *("f_locals", "f_globals", "f_builtins", "f_back", "gi_frame", "tb_frame"),
    }
)
# Functions that read or write attributes by names that are known only as the program runs.
_BY_NAME_TOO = (
    *(getattr, hasattr, setattr, delattr, vars, dir, object.__getattribute__),
    *(object.__setattr__, type.__getattribute__, operator.attrgetter, operator.methodcaller),
    *(inspect.getattr_static, inspect.getmembers),
)
# Functions that tell a number from an array, or what went wrong from what did not.
_JUDGES = (isinstance, issubclass)
_ASKING = (
    *(*_JUDGES, type, str, repr, ascii, format),
    *(np.isscalar, contextlib.suppress),
)
_ASKING_NAMES = frozenset(
    {"is_array", "is_array_like", "is_inexact_array", "is_inexact_array_like", "filter"}
    | {"partition"}
)
# A generic function looks at the type of what it is called with.
_GENERIC: Any = functools.singledispatch(lambda _: None)

_PLAIN = (int, float, complex, str, bytes, bool, type(None), type(...), type(NotImplemented), range)
_OF_C = (types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType)
# What is compiled watches its state as little as it did before.
_ALWAYS = (
    *(types.CodeType, types.MemberDescriptorType, types.GetSetDescriptorType, object),
    *(type(jax.jit(lambda: 0)), type(vars(collections.namedtuple("Pair", "first"))["first"])),
)


def is_library(module: str | None) -> bool:
    """Whether a module of this name is taken never to change."""
    if not module or module.startswith(_STATEFUL):
        return False
    return module.partition(".")[0] in _LIBRARIES


def is_number(value: Any) -> bool:
    """Whether a value is small, cannot be changed, and is compared by what it is."""
    if isinstance(value, np.generic):
        return not isinstance(value, (np.void, np.object_))
    return type(value) in _PLAIN or isinstance(value, np.dtype)


def is_constant(value: Any) -> bool:
    """Whether an object is always the same as long as it is the same object."""
    kind = type(value)
    if isinstance(value, jax.Array):
        return not isinstance(value, jax.core.Tracer)
    if kind in _ALWAYS:
        return True
    if isinstance(value, enum.Enum):
        return is_constant(kind)
    if isinstance(value, np.ufunc):
        return not all(each.strip("O") == "->" for each in value.types)  # else made of Python's
    if isinstance(value, type):
        inside = value.__module__ == "builtins" or is_library(value.__module__)
        # A class that is made by a function has its name from there.
        return inside and ("<locals>" in value.__qualname__ or is_importable(value))
    if kind is types.BuiltinFunctionType:
        return _is_constant_builtin(value)
    if kind in _OF_C:
        return True
    if is_library(getattr(value, "__module__", None)) and is_importable(value):
        return True
    return kind.__module__.partition(".")[0] in ("jaxlib", "jax") and not is_python_class(kind)


def _is_constant_builtin(value: Any) -> bool:
    owner = value.__self__
    if owner is builtins:
        return value.__name__ not in _UNKNOWN
    if isinstance(owner, type) and owner.__module__ == "builtins":
        return True  # ``tuple.__new__``, say
    inside = is_library(value.__module__)
    return inside and (owner is None or isinstance(owner, (types.ModuleType, type)))


def is_importable(value: Any) -> bool:
    """Whether it is found in its module by its name."""
    found: Any = sys.modules.get(value.__module__)
    for name in getattr(value, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    return found is value


def is_library_function(fun: types.FunctionType) -> bool:
    """Whether a function was defined in a module that is taken never to change."""
    name = fun.__globals__.get("__name__")
    module = sys.modules.get(str(name)) if is_library(name) else None
    return module is not None and vars(module) is fun.__globals__


def tells_settings(value: Any) -> bool:
    """Whether a function of a library tells how that is set."""
    return getattr(value, "__name__", None) in _SETTINGS and is_library(value.__module__)


def reads_by_name(value: Any) -> bool:
    """Whether a function reads attributes by names that are known only as the program runs."""
    return any(value is each for each in _BY_NAME_TOO)


def judges(value: Any) -> bool:
    """Whether a function tells what classes something belongs to."""
    return any(value is each for each in _JUDGES)


def asks(value: Any) -> bool:
    """Whether a function may treat a traced number otherwise than the number."""
    if any(value is each for each in _ASKING):
        return True
    if isinstance(value, types.FunctionType):
        if value.__code__ is _GENERIC.__code__:
            return True
        own = str(value.__module__).partition(".")[0] in ("equinox", "chex")
        return own and value.__name__ in _ASKING_NAMES
    return False


def is_python_class(kind: type) -> bool:
    """Whether a class is written in Python, so that its dictionaries tell all of its state."""
    if not kind.__flags__ & (1 << 9):  # not made at run time
        return False
    for name, value in vars(kind).items():
        if isinstance(value, types.GetSetDescriptorType) and name not in (
            "__dict__",
            "__weakref__",
        ):
            return False
        if isinstance(value, _OF_C) or (
            name == "__new__" and type(value) is types.BuiltinFunctionType
        ):
            return False
    return True
