"""Which things from outside of it a function may change.

A thing is known by where it comes from: its origin. The stack is followed from instruction to
instruction; where that does not succeed, everything counts as changed. Must know no values.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import types
from typing import Any

from jaxfd._runs.compiled import LOADS_ATTRIBUTE, Step, codes, instructions, steps

_REBINDS = {"STORE_GLOBAL", "STORE_NAME", "STORE_DEREF", "DELETE_GLOBAL", "DELETE_DEREF"}
# Where in the stack lies what is changed in place.
_WRITES = {"STORE_SUBSCR": 2, "DELETE_SUBSCR": 2, "STORE_SLICE": 3}
_SETS = {"STORE_ATTR", "DELETE_ATTR"}
_METHODS = {
    *("add", "append", "appendleft", "clear", "discard", "extend", "fill", "insert", "itemset"),
    *("pop", "popitem", "popleft", "put", "remove", "reverse", "setdefault", "sort", "update"),
}
# Functions of libraries that change what they are given, and those that return something new.
_CHANGERS = {
    *("copyto", "fill_diagonal", "heappop", "heappush", "heapreplace", "place", "putmask"),
    *("put_along_axis", "shuffle"),
}
_SETTERS = {"setattr", "delattr", "__setattr__", "vars"}
_MAKERS = {
    *("<dictcomp>", "<listcomp>", "<setcomp>"),
    *("abs", "arange", "array", "bool", "complex", "copy", "deepcopy", "dict", "empty", "eye"),
    *("empty_like", "float", "frozenset", "full", "full_like", "int", "len", "linspace", "list"),
    *("ones", "ones_like", "range", "set", "sorted", "str", "sum", "tolist", "tuple", "zeros"),
    "zeros_like",
}
_ENDS = {
    *("INTERPRETER_EXIT", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_FORWARD"),
    *("RAISE_VARARGS", "RERAISE", "RETURN_CONST", "RETURN_VALUE"),
}
_INTO = {
    *("DICT_MERGE", "DICT_UPDATE", "LIST_APPEND", "LIST_EXTEND", "MAP_ADD", "SET_ADD"),
    "SET_UPDATE",
}
_NEW = ("BINARY_OP", "BUILD_STRING", "COMPARE_OP", "CONTAINS_OP", "FORMAT_", "IS_OP", "UNARY_")

# An argument ("argument"), or what has this name outside of the function ("outer"); the name; the
# attribute of it, empty for the thing itself.
Origin = tuple[str, str, str]
_Slot = frozenset[Origin]
_NOTHING: _Slot = frozenset()
_Stack = list[_Slot]


@dataclasses.dataclass
class Effects:
    """What a function may change.

    Attributes:
        changed: what may be changed in place.
        sets: attributes that are set, of what; an empty name for any.
        rebound: names outside of the function that it gives to something else.
        passed: for each call, what may be called, and what may be an argument.
        known: whether this is all.
        attributes: names of all attributes that are set on anything.
    """

    changed: set[Origin] = dataclasses.field(default_factory=set)
    sets: set[tuple[Origin, str]] = dataclasses.field(default_factory=set)
    rebound: set[str] = dataclasses.field(default_factory=set)
    passed: set[tuple[_Slot, _Slot]] = dataclasses.field(default_factory=set)
    known: bool = True
    attributes: set[str] = dataclasses.field(default_factory=set)


@functools.lru_cache(maxsize=256)
def effects(code: types.CodeType) -> Effects:
    """What a function may change outside of itself."""
    found = Effects()
    # Variables of functions inside are taken together by name.
    variables: dict[str, _Slot] = {}
    for name in code.co_freevars:
        variables[name] = frozenset({("outer", name, "")})
    outermost = True
    for part in codes(code):
        count = part.co_argcount + part.co_kwonlyargcount
        count += bool(part.co_flags & 4) + bool(part.co_flags & 8)
        for name in part.co_varnames[:count]:
            kind = "argument" if outermost else "inner"
            variables[name] = variables.get(name, _NOTHING) | {(kind, name, "")}
        outermost = False
    try:
        for _ in range(20):
            before = dict(variables)
            for part in codes(code):
                _Walk(part, variables, found).run()
            if variables == before:
                break
        else:
            found.known = False
    except (IndexError, ValueError):
        found.known = False
    free = set(code.co_freevars)
    for i in instructions(code):
        if i.opname in _REBINDS and (i.opname.endswith(("GLOBAL", "NAME")) or i.argval in free):
            found.rebound.add(i.argval)
        if i.opname in _SETS:
            found.attributes.add(i.argval)
    # What functions inside are given is not followed.
    if any(kind == "inner" for kind, *_ in found.changed):
        found.known = False
    if not found.known:
        found.known = not any(
            i.opname in _WRITES
            or i.opname in _SETS
            or (i.opname in LOADS_ATTRIBUTE and i.argval in _METHODS)
            for i in instructions(code)
        )
    return found


class _Walk:
    """One walk through compiled code, from its first instruction to its last."""

    def __init__(self, code: types.CodeType, variables: dict[str, _Slot], found: Effects) -> None:
        self._code = code
        self._variables = variables
        self._found = found
        self._stack: _Stack | None = []
        self._waiting: dict[int, _Stack] = {}  # the stack at where a jump goes
        self._words: tuple[Any, ...] = ()  # names of arguments, for the next call

    def run(self) -> None:
        """Follows the stack.

        Raises:
            ValueError: it cannot be followed.
        """
        walk = steps(self._code)
        offsets: dict[int, int] = {}
        for step in walk:
            offsets.setdefault(step.source.offset, step.number)
        guarded: dict[int, list[Any]] = {}
        for entry in dis.Bytecode(self._code).exception_entries:  # type: ignore[attr-defined]
            numbers = [n for offset, n in offsets.items() if offset >= entry.start]
            target = min(n for offset, n in offsets.items() if offset >= entry.target)
            guarded.setdefault(min(numbers), []).append((target, entry.depth, entry.lasti))
        done = -1
        for step in walk:
            if step.number != done:
                self._arrive(step.number)
                for target, depth, lasti in guarded.get(step.number, ()):
                    self._expect(target, [*self._now[:depth], *[_NOTHING] * (1 + lasti)])
            done = step.number
            self._take(step)

    @property
    def _now(self) -> _Stack:
        if self._stack is None:
            raise ValueError("nothing comes here.")
        return self._stack

    def _arrive(self, number: int) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            self._stack = waiting if self._stack is None else _merged(self._stack, waiting)

    def _expect(self, number: int, stack: _Stack) -> None:
        before = self._waiting.get(number)
        self._waiting[number] = list(stack) if before is None else _merged(before, stack)

    def _pop(self, count: int) -> _Slot:
        stack = self._now
        if count > len(stack):
            raise ValueError("the stack is too short.")
        taken = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return _NOTHING.union(*taken)

    def _take(self, step: Step) -> None:
        stack, name = self._now, step.name
        operation = step.source.opcode
        before = list(stack)
        if name == "COPY":
            stack.append(stack[-(step.arg or 1)])
        elif name == "SWAP":
            at = -(step.arg or 1)
            stack[-1], stack[at] = stack[at], stack[-1]
        elif name == "KW_NAMES" or (name == "LOAD_CONST" and isinstance(step.value, tuple)):
            self._words = step.value
            stack += [_NOTHING] * (name == "LOAD_CONST")
        elif name == "LOAD_CONST" and isinstance(step.value, types.CodeType):
            stack.append(frozenset({("inside", step.value.co_name, "")}))
        elif name.startswith("LOAD_FAST") or name in ("LOAD_DEREF", "LOAD_CLOSURE"):
            stack.append(self._variables.get(step.value, _NOTHING))
        elif name.startswith("STORE_FAST") or name == "STORE_DEREF":
            slot = self._pop(1)
            self._variables[step.value] = self._variables.get(step.value, _NOTHING) | slot
        else:
            self._take_other(step, dis.stack_effect(operation, step.source.arg, jump=False))
        if step.jumps and step.value > step.number:
            height = len(before) + dis.stack_effect(operation, step.source.arg, jump=True)
            there = before[:height]
            self._expect(step.value, there + [_NOTHING] * (height - len(there)))
        if name in _ENDS:
            self._stack = None

    def _take_other(self, step: Step, effect: int) -> None:
        stack, name, found = self._now, step.name, self._found
        if name in _WRITES:
            found.changed |= stack[-_WRITES[name]]
        if name in _SETS:
            found.sets |= {(origin, step.value) for origin in stack[-1]}
        if name == "LOAD_GLOBAL":
            thing = frozenset({("outer", str(step.value), "")})
            stack += [thing] + [_NOTHING] * (effect - 1)
        elif name in LOADS_ATTRIBUTE:
            slot = self._pop(1 if effect >= 0 else 1 - effect)
            if step.value in _METHODS:
                found.changed |= slot
            slot = frozenset((k, n, a or str(step.value)) for k, n, a in slot)
            stack += [slot] * (effect + 1 if effect >= 0 else 1)
        elif name.startswith("CALL") and not name.startswith("CALL_INTRINSIC"):
            self._call(1 - effect if name != "CALL" else 2 + (step.arg or 0))
        elif name == "PRECALL":
            pass  # what it takes away is the call's
        elif name == "RETURN_GENERATOR":
            stack.append(_NOTHING)
        elif name == "BINARY_OP" and step.source.argrepr.endswith("="):
            self._pop(1)
            found.changed |= stack[-1]
        elif name in ("BINARY_SUBSCR", "BINARY_SLICE") or step.source.argrepr == "[]":
            self._pop(-effect)
        elif name in _INTO:
            slot = self._pop(-effect)
            stack[-(step.arg or 1)] |= slot
        elif name.startswith(_NEW):
            self._pop(1 - effect)
            stack.append(_NOTHING)
        elif name.startswith("UNPACK_"):
            stack += [self._pop(1)] * (effect + 1)
        elif name == "FOR_ITER":
            stack.append(stack[-1])
        elif name.startswith(("STORE_", "DELETE_", "POP_", "END_", "JUMP_")) or name in _ENDS:
            self._pop(-effect)
        elif effect > 0:
            stack += [stack[-1] if name == "BEFORE_WITH" else _NOTHING] * effect
        elif effect < 0:
            stack.append(self._pop(1 - effect))

    def _call(self, count: int) -> None:
        stack, found = self._now, self._found
        called = _NOTHING.union(*stack[len(stack) - count :][:2])
        given = self._pop(count)
        names = {attribute or name for _, name, attribute in called}
        if names & _CHANGERS or "out" in self._words:
            found.changed |= given
        if names & _SETTERS:
            found.changed |= given
            found.sets |= {(origin, "") for origin in given}
        found.passed.add((called, given))
        stack.append(_NOTHING if names & _MAKERS else given)
        self._words = ()


def _merged(one: _Stack, other: _Stack) -> _Stack:
    if len(one) != len(other):
        raise ValueError("the stack has two heights.")
    return [a | b for a, b in zip(one, other, strict=True)]
