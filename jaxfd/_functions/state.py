"""The state of a function: every object that it reads besides its arguments, at one time.

It exists to answer one question fast: would the function, traced now, find what it found then? It
holds no function, instance or array, only how to get to them, and what is told of each. What is to
be looked at, `survey` has found out.
"""

from __future__ import annotations

import abc
import hashlib
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxfd._functions.constants import is_number

# What stands for an attribute, an item or a name that is not there.
ABSENT = type("Absent", (), {"__repr__": lambda self: "<absent>"})()

# Bytes of an array that are remembered as they are, and those that are looked through at all.
_REMEMBERED, _LARGEST = 2**12, 2**26


class Step(NamedTuple):
    """One look from an object to one that it reads.

    Attributes:
        read: gets there.
        parent: the number of the object that is looked at.
        key: under which name, index or the like.
        same: whether what is there now is what was there; None where ``alias`` says it.
        alias: the number of the object that it was, seen before.
    """

    read: Callable[[Any, Any], Any]
    parent: int
    key: Any
    same: Callable[[Any], bool] | None
    alias: int = -1


class State:
    """What a function reads, and how it was.

    Args:
        steps: looks, each from the function or from what an earlier one found.
        asks: whether the function, or one that it calls, asks for the type of something.
    """

    __slots__ = ("_steps", "asks")

    def __init__(self, steps: list[Step], asks: bool) -> None:
        self._steps = [tuple(step) for step in steps]
        self.asks = asks

    def __len__(self) -> int:
        return len(self._steps)

    def objects(self, fun: Any) -> list[Any]:
        """What the function reads, itself first; nothing but that where it is as it was no more."""
        found = [fun]
        try:
            for read, parent, key, *_ in self._steps:
                found.append(read(found[parent], key))
        except Exception:  # see `holds`
            return [fun]
        return found

    def holds(self, fun: Any) -> bool:
        """Whether the function reads the same objects now, and they are as they were."""
        found = [fun]
        try:
            for read, parent, key, same, alias in self._steps:
                value = read(found[parent], key)
                if not (same(value) if same is not None else value is found[alias]):
                    return False
                found.append(value)
        except Exception:  # whatever is in the way of looking: it is not as it was
            return False
        return True


def identity(value: Any) -> Callable[[Any], bool]:
    """Whether another is this very object, which is not held.

    Raises:
        TypeError: it cannot be referred to weakly.
    """
    reference = weakref.ref(value)
    return lambda other: reference() is other


def number(value: Any) -> Callable[[Any], bool]:
    """Whether another is this number, string or the like, to the last bit."""
    kind = type(value)
    if kind in (float, complex) or isinstance(value, np.inexact):
        # Zeros have signs, and NaN is not equal to itself.
        text = repr(value)
        return lambda other: other is value or (type(other) is kind and repr(other) == text)
    return lambda other: other is value or (type(other) is kind and bool(other == value))


def length(value: Any) -> Callable[[Any], bool]:
    """Whether another is a sequence of this type and length."""
    same, count = kind_of(value), value.__len__()
    return lambda other: same(other) and other.__len__() == count


def keys(value: Any) -> Callable[[Any], bool]:
    """Whether another is a mapping of this type with these keys in this order."""
    same, names = kind_of(value), names_in(value)
    return lambda other: same(other) and names_in(other) == names


def members(value: Any) -> Callable[[Any], bool]:
    """Whether another is a set of this type of these numbers, strings and the like.

    Raises:
        TypeError: there are other things in it.
    """
    if not all(map(is_number, value)):
        raise TypeError("a set of objects")

    def told(other: Any) -> Any:
        return type(other), {(type(member), repr(member)) for member in other}

    known = told(value)
    return lambda other: told(other) == known


def registry() -> Callable[[Any], bool]:
    """Whether no class was said to belong to an abstract one meanwhile; see `of_registry`."""
    token = abc.get_cache_token()
    return lambda other: bool(other == token)


def names_in(mapping: Any) -> list[Any]:
    """The keys of a mapping, whatever its class makes of them."""
    return list(dict.keys(mapping) if isinstance(mapping, dict) else mapping.keys())


def kind_of(value: Any) -> Callable[[Any], bool]:
    """Whether another is of this type, which is not held."""
    kind = weakref.ref(type(value))
    return lambda other: type(other) is kind()


def member(value: Any) -> Callable[[Any], bool]:
    """Whether another is the member of this name of this enumeration."""
    same, name = kind_of(value), value.name
    return lambda other: same(other) and other.name == name


def order(kinds: tuple[type, ...]) -> Callable[[Any], bool]:
    """Whether other classes are these, one by one."""
    references = [weakref.ref(kind) for kind in kinds]
    return lambda other: (
        len(other) == len(references)
        and all(reference() is kind for reference, kind in zip(references, other, strict=True))
    )


def present(names: Any, wanted: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether of the names that are wanted the same ones are there."""
    every = list(names)
    found = set(filter(wanted, every))
    return lambda other: list(other) == every or set(filter(wanted, other)) == found


def contents(array: np.ndarray) -> Callable[[Any], bool] | None:
    """Whether another array holds the same bits; None if there are too many to look at."""
    if array.dtype.hasobject or array.nbytes > _LARGEST:
        return None
    kind, shape, dtype, print_ = type(array), array.shape, array.dtype, _fingerprint(array)

    def same(other: Any) -> bool:
        fits = type(other) is kind and other.shape == shape and other.dtype == dtype
        return fits and _fingerprint(other) == print_

    return same


def _fingerprint(array: np.ndarray) -> bytes:
    if array.nbytes <= _REMEMBERED:
        return array.tobytes()
    # No copy of what lies in a row.
    return hashlib.blake2b(np.ascontiguousarray(array).data.cast("B")).digest()


# --- how to get from an object to one that it reads ---------------------------------------


def of_globals(fun: Any, name: str) -> Any:
    names = fun.__globals__
    if name in names:
        return names[name]
    builtin = names.get("__builtins__", {})
    return (builtin if isinstance(builtin, dict) else vars(builtin)).get(name, ABSENT)


def of_cell(fun: Any, number: int) -> Any:
    try:
        return fun.__closure__[number].cell_contents
    except ValueError:  # it is empty
        return ABSENT


def of_attribute(value: Any, name: str) -> Any:
    return getattr(value, name, ABSENT)


def of_type(value: Any, key: None) -> Any:
    return type(value)


def of_module(module: Any, name: str) -> Any:
    """What a module has under a name, as it is."""
    return module.__dict__.get(name, ABSENT)


def of_variables(value: Any, key: None) -> Any:
    """The dictionary of an instance or a function."""
    return object.__getattribute__(value, "__dict__")


def of_class(kind: type, name: str) -> Any:
    """What a class or one that it inherits from has under a name, as it is."""
    for each in kind.__mro__:
        if name in each.__dict__:
            return each.__dict__[name]
    return ABSENT


def of_order(kind: type, key: None) -> Any:
    """The classes that a class inherits from, itself first."""
    return kind.__mro__


def of_names(kind: type, key: int) -> Any:
    """The names that one of the classes that a class inherits from has itself."""
    return kind.__mro__[key].__dict__


def of_registry(value: Any, key: None) -> Any:
    """What changes whenever any class is said to belong to an abstract one."""
    return abc.get_cache_token()


def of_base(kind: type, key: tuple[int, str]) -> Any:
    """What one of the classes that a class inherits from has itself under a name."""
    return kind.__mro__[key[0]].__dict__.get(key[1], ABSENT)


def of_items(value: Any, key: Any) -> Any:
    return dict.get(value, key, ABSENT) if isinstance(value, dict) else value.get(key, ABSENT)


def of_sequence(value: Any, index: int) -> Any:
    if isinstance(value, tuple):
        return tuple.__getitem__(value, index)
    return list.__getitem__(value, index) if isinstance(value, list) else value[index]


def of_reader(value: Any, key: None) -> Any:
    return value.reads()
