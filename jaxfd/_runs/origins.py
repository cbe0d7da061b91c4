"""Where the things come from that a function reads: its arguments, its closure, its module.

This room must not know what is read of them.
"""

from __future__ import annotations

import inspect
import types
from typing import Any

from jaxfd._runs.effects import Origin
from jaxfd._runs.values import attributes


def is_special(name: str, member: Any) -> bool:
    """Whether a class has this as a method that is called without its name."""
    return (
        name.startswith("__")
        and isinstance(member, types.FunctionType)
        and not member.__code__.co_filename.startswith("<")  # made by a library's decorator
    )


def defaults(fun: types.FunctionType) -> dict[str, Any]:
    """The arguments of a function that have a value where none is given."""
    code, given = fun.__code__, fun.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(given) : code.co_argcount]
    return {**dict(zip(names, given, strict=True)), **(fun.__kwdefaults__ or {})}


def given_name(fun: types.FunctionType) -> str | None:
    """The name of a method's object."""
    return fun.__code__.co_varnames[0] if fun.__code__.co_argcount else None


def variable(fun: types.FunctionType, name: str) -> Any:
    """What tells a variable outside of a function from others."""
    cells = dict(zip(fun.__code__.co_freevars, fun.__closure__ or (), strict=True))
    return id(cells[name]) if name in cells else (id(fun.__globals__), name)


def things(fun: types.FunctionType, owner: Any, origin: Origin) -> list[Any]:
    """What comes from an origin: one thing, or nothing that is known."""
    kind, name, attribute = origin
    cells = dict(zip(fun.__code__.co_freevars, fun.__closure__ or (), strict=True))
    values: dict[str, Any] = {}
    if kind == "argument":
        values = defaults(fun)
        if owner is not None and name == given_name(fun):
            values = {name: owner}
    elif kind == "outer" and name in cells:
        try:
            values = {name: cells[name].cell_contents}
        except ValueError:  # not given yet
            return []
    elif kind == "outer":
        values = fun.__globals__
    if name not in values:
        return []
    if not attribute:
        return [values[name]]
    found = attributes(values[name]).get(attribute)
    if found is None:
        found = inspect.getattr_static(values[name], attribute, None)
    return [getattr(found, "__func__", found)]
