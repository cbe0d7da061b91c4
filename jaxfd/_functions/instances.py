"""Instances and their classes: which of their attributes a function may read.

Those whose names occur in the code, those of syntax (``__getitem__``), and all of them where a
library takes the instance apart. This room must not know how the code was read.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable
from typing import Any

from jax import tree_util

from jaxfd._functions import state as look
from jaxfd._functions.constants import is_constant, is_python_class
from jaxfd._functions.reads import stored
from jaxfd._functions.record import Record, UnknownStateError, identity, identity_or_kind
from jaxfd._functions.state import ABSENT, Step

# Methods that no estimate calls.
_ASIDE = frozenset(
    {
        *("__repr__", "__str__", "__format__", "__del__", "__reduce__", "__reduce_ex__"),
        *("__getstate__", "__setstate__", "__setattr__", "__delattr__", "__copy__"),
        *("__deepcopy__", "__init_subclass__", "__dir__", "__sizeof__"),
    }
)
# What says something of a class, and is called by nobody.
_SAID = frozenset(
    {
        *("__annotations__", "__doc__", "__module__", "__qualname__", "__name__", "__dict__"),
        *("__weakref__", "__abstractmethods__", "__signature__", "__parameters__"),
        *("__orig_bases__", "__match_args__", "__static_attributes__", "__firstlineno__"),
        *("__annotations_cache__", "__annotate__", "__annotate_func__", "__slots__"),
        *("__dataclass_fields__", "__dataclass_params__", "__objclass__"),
    }
)
_TITLES = ("__name__", "__qualname__")
# Where one of these is read, objects may be made of the class that an object has.
_MAKERS = frozenset({"__class__", "replace", "_replace", "__replace__"})
# Classes of libraries that look at no attribute of what inherits from them.
_BLIND = frozenset({"typing", "typing_extensions", "abc", "builtins"})
_MAKING = frozenset({"__init__", "__new__", "__post_init__"})
_HIDING = ("__getattr__", "__getattribute__")

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
    made = made or not _MAKERS.isdisjoint(record.known)
    record.look(look.of_order, number, None, lambda: look.order(kind.__mro__))
    titles = _TITLES if record.wanted is None else record.known.intersection(_TITLES)
    record.attributes(number, kind, sorted(titles))
    if issubclass(kind, enum.Enum):
        record.visit(look.of_attribute, number, "_member_map_", kind._member_map_)
    if getattr(kind, "_is_protocol", False):  # what belongs to it is told by these
        record.names |= set(filter(lambda name: not name.startswith("_"), vars(kind)))
    wanted = _wanted(record, made)
    for place, each in enumerate(kind.__mro__):
        if is_constant(each):
            continue
        if not is_python_class(each) or any(name in vars(each) for name in _HIDING):
            raise UnknownStateError(each)
        # Others may come to stand before them, or where there is nothing yet.
        names = vars(each)
        record.look(look.of_names, number, place, functools.partial(look.present, names, wanted))
        for name, value in list(names.items()):
            if wanted(name) and _matters(record, name, value):
                # What is found first, and what ``super()`` finds.
                record.visit(look.of_class, number, name, look.of_class(kind, name))
                record.visit(look.of_base, number, (place, name), value)
    if type(kind) is not type:
        _visit_kind(record, number, type(kind))


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _wanted(record: Record, made: bool) -> Callable[[str], bool]:
    """Which names of a class the function may look for."""
    known, everything = record.known, record.wanted is None

    def wanted(name: str) -> bool:
        if name in known:
            return True
        if _is_special(name):
            return name not in _ASIDE | _SAID and (made or name not in _MAKING)
        return everything or stored(name) in known

    return wanted


def _matters(record: Record, name: str, value: Any) -> bool:
    """Whether it makes a difference what a class has under a name that the function looks for."""
    if name in record.known:
        return True
    if _is_special(name):
        return callable(value) or hasattr(type(value), "__get__")
    # What is only written is asked only where it takes what is written.
    return record.wanted is None or hasattr(type(value), "__set__")


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
    bases = {each for each in kind.__mro__ if not is_python_class(each)} - set(_BARE)
    if not bases <= {tuple, list, dict} or len(bases) > 1:
        raise UnknownStateError(value)
    held = next(iter(bases), None)
    if isinstance(value, enum.Enum):
        record.note(step, look.member(value))
    elif held is None:
        record.note(step, identity_or_kind(value))
    else:
        record.note(step, look.keys(value) if held is dict else look.length(value))
    _visit_kind(record, number, kind)
    # What JAX or a library takes apart is read under names that the code does not mention.
    whole = any(map(_takes_apart, kind.__mro__)) or dataclasses.is_dataclass(kind)
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


def _takes_apart(kind: type) -> bool:
    """Whether a class of a library may look at attributes of an instance."""
    inside = is_constant(kind) and is_python_class(kind)
    return inside and kind.__module__ not in _BLIND
