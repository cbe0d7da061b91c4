"""Instances and their classes: which of their attributes a function may read.

Those whose names occur in the code, those of syntax (``__getitem__``), and all of them where a
library takes the instance apart. This room must not know how the code was read.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any

from jax import tree_util

from jaxfd._functions import state as look
from jaxfd._functions.constants import is_constant, is_python_class
from jaxfd._functions.record import Record, UnknownStateError, identity, identity_or_kind
from jaxfd._functions.state import ABSENT, Step

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

# Classes that hold nothing; Python 3.12 has written the second one in C.
_BARE = (object, typing.Generic)


def visit_class(record: Record, number: int, kind: type, made: bool) -> None:
    """Follows a class.

    Args:
        record: what was seen.
        number: the number of the class.
        kind: the class.
        made: whether the function may make objects of it.
    """
    for place, each in enumerate(kind.__mro__):
        if is_constant(each):
            continue
        if not is_python_class(each) or any(name in vars(each) for name in _HIDING):
            raise UnknownStateError(each)
        for name, value in list(vars(each).items()):
            wanted = record.wanted is None or name in record.wanted
            if name.startswith("__") and name.endswith("__"):
                aside = name in _ASIDE or (name in _MAKING and not made)
                wanted = isinstance(value, _METHODS) and not aside
            if wanted:
                # What is found first, and what ``super()`` finds.
                record.visit(look.of_class, number, name, look.of_class(kind, name))
                record.visit(look.of_base, number, (place, name), value)
    if type(kind) is not type:
        _visit_kind(record, number, type(kind))


def _visit_kind(record: Record, number: int, kind: type) -> None:
    """Follows the class of an object, of which no other objects are made."""
    own = record.look(look.of_type, number, None, lambda: identity(kind))
    if not is_constant(kind):
        visit_class(record, own, kind, made=False)


def visit_instance(record: Record, step: Step, number: int, value: Any) -> None:
    """Notes an instance of a class that is written in Python, and follows it.

    Raises:
        UnknownStateError: it is none, or its class answers for attributes that it does not have.
    """
    kind = type(value)
    if not is_python_class(kind):
        raise UnknownStateError(value)
    bases = [each for each in kind.__mro__ if not is_python_class(each)]
    if not set(bases) <= {*_BARE, tuple, list, dict}:
        raise UnknownStateError(value)
    held = next((each for each in bases if each not in _BARE), None)
    if held is None:
        record.note(step, identity_or_kind(value))
    else:
        record.note(step, look.keys(value) if held is dict else look.length(value))
    _visit_kind(record, number, kind)
    # What JAX or a library takes apart is read under names that the code does not mention.
    whole = is_constant(kind) or dataclasses.is_dataclass(kind)
    whole |= not tree_util.all_leaves([value])
    names = None if whole else record.wanted
    if held in (tuple, list):
        record.sequence(number, value)
    elif held is dict:
        record.mapping(number, value, None)
    if getattr(value, "__dict__", None) is not None:
        record.variables(number, value, names)
    for each in kind.__mro__:
        for name, member in vars(each).items():
            slot = isinstance(member, types.MemberDescriptorType)
            if slot and (names is None or name in names):
                record.visit(look.of_attribute, number, name, getattr(value, name, ABSENT))
