"""What a piece of code reads besides its arguments, told from its bytecode.

It exists because source code is not always at hand, and because what is read can then be looked up
in well under the time that tracing takes. This room knows names only; what they stand for is found
out in `survey`.
"""

from __future__ import annotations

import dataclasses
import dis
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
_VALUE = {"LOAD_CONST", "LOAD_SMALL_INT", "LOAD_FAST", "LOAD_FAST_BORROW"}
_ITEM = {"BINARY_SUBSCR", "BINARY_OP"}
_SILENT = {"CACHE", "EXTENDED_ARG", "PRECALL"}


@dataclasses.dataclass(frozen=True)
class Reads:
    """What a code object and those nested in it read.

    Attributes:
        of_globals: chains that begin with a global or builtin name.
        of_cells: chains that begin with a free variable.
        fed: those of both whose objects are only appended to.
        attributes: the names of all attributes that are read of anything.
        imported: modules imported inside.
        known: whether all of it could be understood.
    """

    of_globals: frozenset[Chain]
    of_cells: frozenset[Chain]
    fed: frozenset[str]
    attributes: frozenset[str]
    imported: frozenset[str]
    known: bool


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
    known = True
    for part in _nested(code):
        row = [i for i in dis.get_instructions(part) if i.opname not in _SILENT]
        unread, appended = _unread(row)
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
            elif name in _ATTRIBUTE:
                attributes.add(instruction.argval)
            elif name == "IMPORT_NAME":
                imported.add(instruction.argval)
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
    )


def _following(row: list[dis.Instruction], k: int, unread: set[int]) -> Iterator[str]:
    """The attributes that are read, one of the other, of what instruction ``k`` loads."""
    for j in range(k + 1, len(row)):
        if row[j].opname not in ("LOAD_ATTR", "LOAD_METHOD") or j in unread:
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
    if row[k].opname not in ("LOAD_ATTR", "LOAD_METHOD") or row[k].argval not in ("append", "add"):
        return False
    depth = 0  # of the stack, above what stands for the method and its object
    for j in range(k + 1, len(row) - 1):
        if row[j].opname == "CALL" and depth == row[j].arg:
            return row[j + 1].opname == "POP_TOP"
        if row[j].opcode in dis.hasjrel or row[j].opcode in dis.hasjabs:
            return False
        count = row[j].arg
        depth += dis.stack_effect(row[j].opcode, count)
        if row[j].opname == "CALL" and count is not None:
            # PRECALL, where there is one, takes what CALL is said to leave.
            depth += _precalled(count)
    return False


def _precalled(count: int) -> int:
    op = dis.opmap.get("PRECALL")
    return 0 if op is None else dis.stack_effect(op, count)
