"""What a piece of code reads besides its arguments, told from its bytecode.

It exists because source code is not always at hand, and because what is read can then be looked up
in well under the time that tracing takes. This room knows names only; what they stand for is found
out in `survey`.
"""

from __future__ import annotations

import dataclasses
import dis
import itertools
import types
import weakref
from collections.abc import Iterator

# A name and the attributes that are read of it, one of the other: ``("config", "solver", "tol")``.
Chain = tuple[str, ...]

_GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}
_FREE = {"LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"}
_ATTRIBUTE = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"}
_LOAD = _GLOBAL | _FREE | _ATTRIBUTE
_NAMES_WRITTEN = {"STORE_GLOBAL", "STORE_DEREF", "STORE_NAME"}
_HARMLESS = _NAMES_WRITTEN | {"STORE_ATTR", "DELETE_ATTR", "DELETE_GLOBAL", "DELETE_NAME"}
_METHOD = {"LOAD_ATTR", "LOAD_METHOD"}
_VALUE = {"LOAD_CONST", "LOAD_SMALL_INT", "LOAD_FAST", "LOAD_FAST_BORROW"}
_ITEM = {"BINARY_SUBSCR", "BINARY_OP"}
_SILENT = {"CACHE", "EXTENDED_ARG", "PRECALL"}
_FORMAT = {"FORMAT_VALUE", "FORMAT_SIMPLE", "FORMAT_WITH_SPEC", "CONVERT_VALUE"}
_CATCH = {"CHECK_EXC_MATCH", "CHECK_EG_MATCH"}
_LEAVES = ("RETURN", "STORE", "POP_TOP", "JUMP", "POP_JUMP", "FOR_ITER", "YIELD")

# Methods that only take something in, those that only tell something, and what asks for attributes.
_FED, _TOLD = {"append", "add"}, {"print", "debug", "info", "warning", "error", "exception", "log"}
_REACHES, _FORMATS = {"getattr", "hasattr"}, {"format", "format_map"}

# What is read where an object is made a text, gets an attribute or loses one, or a class is made.
AS_TEXT = frozenset({"__str__", "__repr__", "__format__"})
_IMPLIED = {
    "STORE_ATTR": {"__setattr__"},
    "DELETE_ATTR": {"__delattr__"},
    "LOAD_BUILD_CLASS": {"__init_subclass__"},
}


def stored(name: str) -> str:
    """What stands among the names of attributes for one that is written."""
    return f"={name}"


def is_stored(name: str) -> bool:
    """Whether this stands for an attribute that is written."""
    return name.startswith("=")


@dataclasses.dataclass(frozen=True)
class Reads:
    """What a code object and those nested in it read.

    Attributes:
        of_globals: chains that begin with a global or builtin name.
        of_cells: chains that begin with a free variable.
        fed: those of both whose objects are only appended to.
        attributes: the names of all attributes that are read of anything, and of those `stored`.
        imported: modules imported inside.
        known: whether all of it could be understood.
        asks: whether it may treat a traced number otherwise than the number: it catches errors,
            makes texts, or looks at types and attributes.
    """

    of_globals: frozenset[Chain]
    of_cells: frozenset[Chain]
    fed: frozenset[str]
    attributes: frozenset[str]
    imported: frozenset[str]
    known: bool
    asks: bool


_kept: weakref.WeakKeyDictionary[types.CodeType, Reads] = weakref.WeakKeyDictionary()


def reads_of(code: types.CodeType) -> Reads:
    """What code reads; found out once for each code object."""
    found = _kept.get(code)
    if found is None:
        found = _kept[code] = _look(code)
    return found


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def _look(code: types.CodeType) -> Reads:
    names: dict[str, set[Chain]] = {"global": set(), "free": set()}
    fed: set[str] = set()
    read: set[str] = set()
    attributes: set[str] = set()
    imported: set[str] = set()
    known, asks = True, False
    for part in _nested(code):
        row = [i for i in dis.get_instructions(part) if i.opname not in _SILENT]
        unread, appended = _unread(row)
        if _makes_text(row):
            attributes |= AS_TEXT
            asks = True
        asks |= _catches(row) or _looks_at_locals(row)
        for k, instruction in enumerate(row):
            name = instruction.opname
            if k in unread:
                continue
            if name in _GLOBAL or name in _FREE:
                # A free variable of an inner function may be a local of the outer one.
                if name in _FREE and instruction.argval not in code.co_freevars:
                    continue
                # ``super()`` makes no object of its class. Before Python 3.12 it loads none either.
                if instruction.argval == "__class__" and row[k - 1].argval == "super":
                    continue
                where = "global" if name in _GLOBAL else "free"
                (fed if k in appended else read).add(instruction.argval)
                chain = () if k in appended else _following(row, k, unread)
                names[where].add((instruction.argval, *chain))
            elif name in _ATTRIBUTE or name == "IMPORT_FROM":
                attributes.add(instruction.argval)
            elif name == "IMPORT_NAME":
                imported.add(instruction.argval)
            elif name in _IMPLIED:
                attributes |= _IMPLIED[name]
                if name == "STORE_ATTR":
                    attributes.add(stored(instruction.argval))
            elif name in ("MATCH_CLASS", "IMPORT_STAR") or (
                instruction.opcode in dis.hasname and name not in _HARMLESS | {"IMPORT_FROM"}
            ):
                known = False
    return Reads(
        frozenset(names["global"]),
        frozenset(names["free"]),
        frozenset(fed - read),
        frozenset(attributes),
        frozenset(imported),
        known,
        asks,
    )


def _following(row: list[dis.Instruction], k: int, unread: set[int]) -> Iterator[str]:
    """The attributes that are read, one of the other, of what instruction ``k`` loads."""
    for j in range(k + 1, len(row)):
        if row[j].opname not in _METHOD or j in unread:
            return
        yield row[j].argval


def _unread(row: list[dis.Instruction]) -> tuple[set[int], set[int]]:
    """Instructions that load something of which nothing comes back but what is stored again.

    Functions that count their calls are as common as debugging: ``count += 1``, ``n[0] += 1``,
    ``self.calls += 1``, ``seen.append(x)``. Nothing that they return depends on it.

    Returns:
        Those that are no reading at all, and those that are none if their object is a list.
    """
    unread: set[int] = set()
    appended: set[int] = set()
    names = [i.opname for i in row]
    for k, name in enumerate(names):
        if name not in _LOAD:
            continue
        after = names[k + 1 : k + 10]
        plain = len(after) > 3 and after[0] in _VALUE and after[1] == "BINARY_OP"
        if plain and row[k + 2].argrepr.endswith("="):
            store = row[k + 3]
            if store.opname in _NAMES_WRITTEN and store.argval == row[k].argval:
                unread.add(k)  # name += 1
            swapped = store.opname == "SWAP" and names[k - 1] == "COPY" and row[k - 1].arg == 1
            last = row[k + 4] if swapped and k + 4 < len(row) else None
            if last and last.opname == "STORE_ATTR" and last.argval == row[k].argval:
                unread.add(k)  # x.name += 1
        if len(after) == 9 and after[0] in _VALUE and after[1:3] == ["COPY", "COPY"]:
            item = after[3] in _ITEM and after[4] in _VALUE and after[5] == "BINARY_OP"
            if item and after[6:] == ["SWAP", "SWAP", "STORE_SUBSCR"]:
                unread.add(k)  # x[key] += 1
        if name not in _ATTRIBUTE and k + 1 < len(row) and _is_fed(row, k + 1):
            appended.add(k)
    return unread, appended


def _is_fed(row: list[dis.Instruction], k: int) -> bool:
    """Whether ``k`` loads a method that is called with something, and whose result is dropped."""
    fed = row[k].opname in _METHOD and row[k].argval in _FED
    return fed and _dropped(row, k) > 0


def _dropped(row: list[dis.Instruction], k: int) -> int:
    """Where what ``k`` loads is called and the result is dropped; 0 where it is not."""
    depth = 0  # of the stack, above what stands for the method and its object
    for j in range(k + 1, len(row) - 1):
        if row[j].opname == "CALL" and depth == row[j].arg:
            return j if row[j + 1].opname == "POP_TOP" else 0
        if row[j].opcode in dis.hasjrel or row[j].opcode in dis.hasjabs:
            return 0
        count = row[j].arg
        depth += dis.stack_effect(row[j].opcode, count)
        if row[j].opname == "CALL" and count is not None:
            # PRECALL, where there is one, takes what CALL is said to leave.
            depth += _precalled(count)
    return 0


def _makes_text(row: list[dis.Instruction]) -> bool:
    """Whether texts are made of objects, but for those that are printed, logged or raised."""
    told: set[int] = set()
    for k, instruction in enumerate(row):
        if instruction.opname in _GLOBAL | _METHOD and instruction.argval in _TOLD:
            told |= set(range(k, _dropped(row, k)))
    # A remainder, or a text with what stands behind it put in.
    constants = [i.argval for i in row if "CONST" in i.opname]
    put_in = any(isinstance(constant, str) and "%" in constant for constant in constants)
    for k, instruction in enumerate(row):
        name = instruction.opname
        made = name in _FORMAT or (name in _METHOD and instruction.argval in _FORMATS)
        made |= put_in and name == "BINARY_OP" and instruction.argrepr.startswith("%")
        if made and k not in told and not _is_raised(row, k):
            return True
    return False


def _is_raised(row: list[dis.Instruction], k: int) -> bool:
    """Whether what ``k`` makes ends in an error."""
    for instruction in row[k + 1 :]:
        if instruction.opname == "RAISE_VARARGS":
            return True
        if instruction.opname.startswith(_LEAVES):
            return False
    return False


def _catches(row: list[dis.Instruction]) -> bool:
    """Whether errors are caught, so that one that a traced number raises is not seen."""
    names = [i.opname for i in row]
    bare = any(pair == ("PUSH_EXC_INFO", "POP_TOP") for pair in itertools.pairwise(names))
    return bare or not _CATCH.isdisjoint(names)


def _looks_at_locals(row: list[dis.Instruction]) -> bool:
    """Whether attributes of a local variable, which may be a number, are asked for by name."""
    for k, instruction in enumerate(row[:-1]):
        name, after = instruction.argval, row[k + 1]
        if instruction.opname == "MATCH_CLASS":
            return True
        if instruction.opname in _ATTRIBUTE and name == "__class__" and not _is_self(row[k - 1]):
            return True
        asked = instruction.opname in _LOAD and name in _REACHES
        if asked and "FAST" in after.opname and not _is_self(after):
            return True
    return False


def _is_self(instruction: dis.Instruction) -> bool:
    return instruction.argval in ("self", "cls")


def _precalled(count: int) -> int:
    op = dis.opmap.get("PRECALL")
    return 0 if op is None else dis.stack_effect(op, count)
