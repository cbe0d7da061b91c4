"""Compiled code as steps, and as a text: neither layout nor names of local variables change it."""

from __future__ import annotations

import bisect
import dataclasses
import dis
import types
from collections.abc import Iterable
from typing import Any

LOADS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"}
LOADS_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"}
_LAYOUT = {"EXTENDED_ARG", "NOP"}  # they come and go with line breaks
_HAS_DOCSTRING = 0x4000000


@dataclasses.dataclass(frozen=True)
class Step:
    """An instruction; one that does the work of two counts as two."""

    name: str
    arg: int | None
    value: Any
    line: str  # as text
    source: dis.Instruction
    number: int  # which one it is; two that are one instruction have the same
    jumps: bool = False


def instructions(code: types.CodeType) -> list[dis.Instruction]:
    """The instructions of a function, and of those that are defined inside of it."""
    return [i for part in codes(code) for i in dis.get_instructions(part)]


def code_text(code: types.CodeType) -> str:
    """What compiled code does, without where it stands and how its variables are called."""
    arguments = code.co_argcount + code.co_kwonlyargcount
    flags = code.co_flags & ~_HAS_DOCSTRING
    head = f"{code.co_varnames[:arguments]} {code.co_argcount} {code.co_posonlyargcount} {flags}"
    return "\n".join([head, *(f"{step.name} {step.line}" for step in steps(code))])


def codes(code: types.CodeType) -> Iterable[types.CodeType]:
    """The code of a function, and of those that are defined inside of it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def steps(code: types.CodeType) -> list[Step]:
    """The instructions that do something."""
    kept = [i for i in dis.get_instructions(code) if i.opname not in _LAYOUT]
    pairs = [i.opname.count("_FAST") == 2 and isinstance(i.argval, tuple) for i in kept]
    numbers = [n + sum(pairs[:n]) for n in range(len(kept))]
    offsets = [i.offset for i in kept]
    found = []
    for i, number, pair in zip(kept, numbers, pairs, strict=True):
        if pair and i.arg is not None:
            middle = i.opname.index("_FAST") + len("_FAST")
            if i.opname[middle:].startswith("_BORROW"):
                middle += len("_BORROW")
            names = i.opname[:middle], i.opname[middle + 1 :]
            for name, arg, value in zip(names, (i.arg >> 4, i.arg & 15), i.argval, strict=True):
                found.append(Step(name, arg, value, str(arg), i, number))
            continue
        value = i.argval
        jumps = i.opcode in dis.hasjrel or i.opcode in dis.hasjabs
        if i.opcode in dis.hasconst and i.arg is not None:
            value = code.co_consts[i.arg]
            line = _constant(value)
        elif jumps:
            # Counted in instructions: those of the layout have a length too.
            value = [*numbers, len(kept) + sum(pairs)][bisect.bisect_left(offsets, value)]
            line = f"to {value}"
        elif "FAST" in i.opname:
            line = str(i.arg)  # a local variable, by number
        else:
            line = str(value)
        found.append(Step(i.opname, i.arg, value, line, i, number, jumps))
    return found


def _constant(value: Any) -> str:
    if isinstance(value, types.CodeType):
        return code_text(value)
    if isinstance(value, tuple):
        return f"tuple({', '.join(map(_constant, value))})"
    if isinstance(value, frozenset):
        return f"frozenset({', '.join(sorted(map(_constant, value)))})"
    return f"{type(value).__name__} {value!r}"
