"""What is taken never to change: numbers, names, and the libraries JAX programs are made of.

It exists because a function that calls ``jax.numpy.sum`` is not to be followed into JAX. What it
does not know is nobody's constant, and a function that reads such a thing is not kept.
"""

from __future__ import annotations

import builtins
import enum
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
# Builtins that reach what no name tells of, or the world.
_UNKNOWN = frozenset(
    {
        *("open", "input", "eval", "exec", "compile", "globals", "locals", "id", "__import__"),
        *("breakpoint", "help", "exit", "quit", "__build_class__", "memoryview"),
    }
)
# What reads attributes by names that are known only as the program runs.
BY_NAME = frozenset(
    {
        *("getattr", "hasattr", "vars", "dir", "__dict__", "attrgetter", "methodcaller"),
        *("getattr_static", "getmembers"),
    }
)
# Builtins that tell a number from an array.
ASKING = frozenset({"isinstance", "type", "issubclass"})

_PLAIN = (int, float, complex, str, bytes, bool, type(None), type(...), type(NotImplemented), range)
_OF_C = (types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType)
# What is compiled watches its state as little as it did before.
_ALWAYS = (
    *(types.CodeType, types.MemberDescriptorType, types.GetSetDescriptorType, object),
    type(jax.jit(lambda: 0)),
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
    if isinstance(value, (enum.Enum, np.ufunc)) or kind in _ALWAYS:
        return True
    if isinstance(value, type):
        return value.__module__ == "builtins" or is_library(value.__module__)
    if kind is types.BuiltinFunctionType:
        return _is_constant_builtin(value)
    if kind in _OF_C:
        return True
    if is_library(getattr(value, "__module__", None)) and _is_importable(value):
        return True
    return kind.__module__.partition(".")[0] in ("jaxlib", "jax") and not is_python_class(kind)


def _is_constant_builtin(value: Any) -> bool:
    owner = value.__self__
    if owner is builtins:
        return value.__name__ not in _UNKNOWN
    inside = is_library(value.__module__)
    return inside and (owner is None or isinstance(owner, (types.ModuleType, type)))


def _is_importable(value: Any) -> bool:
    """Whether it is found in its module by its name."""
    found: Any = sys.modules.get(value.__module__)
    for name in getattr(value, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    return found is value


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
