"""What has been seen of a function's surroundings while they are looked through.

It exists so that nothing is looked at twice, and nothing without end. It must not know what objects
are made of: its subclass in `survey` does, so that the two take turns at every object.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from typing import Any

from jaxfd._functions import state as look
from jaxfd._functions.constants import is_constant, is_number
from jaxfd._functions.state import ABSENT, Step

# Objects that are looked at, at most.
_MOST = 4000

Read = Callable[[Any, Any], Any]
Same = Callable[[Any], bool]


class UnknownStateError(Exception):
    """Something whose state cannot be known."""


class Record(abc.ABC):
    """The looks of one round, where attributes of these names are followed.

    Attributes:
        steps: the looks.
        names: the names of all attributes that the code reads, as far as it was seen; ``"*"`` where
            that cannot be told.
        known: those that are followed, as far as they are known by name.
        wanted: the same; None for all.

    Args:
        names: the names that are known from an earlier round.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self.steps: list[Step] = []
        self.names: set[str] = set(names)
        self.known = names
        self.wanted = None if "*" in names else names
        self._seen: dict[int, int] = {}
        self._held: list[Any] = []  # so that no number is given anew while this lasts
        self._edges: dict[tuple[Any, int, Any], int] = {}

    @abc.abstractmethod
    def enter(self, step: Step, number: int, value: Any) -> None:
        """Notes an object that was not seen before, and follows what it holds."""

    def visit(self, read: Read, parent: int, key: Any, value: Any) -> int:
        """Notes one look, and all that there is to be seen from what it found.

        Returns:
            The number of what was found.
        """
        if (read, parent, key) in self._edges:
            return self._edges[read, parent, key]
        number = self._number(read, parent, key)
        if value is ABSENT:
            self.steps.append(Step(read, parent, key, lambda other: other is ABSENT))
        elif is_number(value):
            self.steps.append(Step(read, parent, key, look.number(value)))
        elif id(value) in self._seen:
            self.steps.append(Step(read, parent, key, None, self._seen[id(value)]))
        else:
            self._seen[id(value)] = number
            self._held.append(value)
            self.enter(Step(read, parent, key, None), number, value)
        return number

    def look(self, read: Read, parent: int, key: Any, same: Callable[[], Same]) -> int:
        """Notes one look, and follows nothing.

        Args:
            read: see `Step`.
            parent: see `Step`.
            key: see `Step`.
            same: makes what says whether it is the same another time.
        """
        if (read, parent, key) not in self._edges:
            number = self._number(read, parent, key)
            self.steps.append(Step(read, parent, key, same()))
            return number
        return self._edges[read, parent, key]

    def note(self, step: Step, same: Same | None) -> None:
        """Notes the look that led to an object."""
        if same is None:
            raise UnknownStateError(step)
        self.steps.append(step._replace(same=same))

    def _number(self, read: Read, parent: int, key: Any) -> int:
        number = len(self.steps) + 1  # the function itself is number 0
        if number > _MOST:
            raise UnknownStateError("too much")
        self._edges[read, parent, key] = number
        return number

    # --- what several kinds of objects hold ------------------------------------------------

    def attributes(self, number: int, value: Any, names: Iterable[str]) -> None:
        """Follows attributes of these names."""
        for name in names:
            self.visit(look.of_attribute, number, name, getattr(value, name, ABSENT))

    def sequence(self, number: int, value: Any) -> None:
        """Follows all items."""
        for index in range(value.__len__()):
            self.visit(look.of_sequence, number, index, look.of_sequence(value, index))

    def mapping(self, number: int, value: Any, names: frozenset[str] | None) -> None:
        """Follows the items under these names; under all for None."""
        for key in look.names_in(value):
            if not is_number(key):
                raise UnknownStateError(key)
            if names is None or key in names:
                self.visit(look.of_items, number, key, look.of_items(value, key))

    def variables(self, number: int, value: Any, names: frozenset[str] | None) -> None:
        """Follows the dictionary of an object."""
        own = look.of_variables(value, None)
        self.mapping(self.look(look.of_variables, number, None, lambda: look.keys(own)), own, names)


def identity(value: Any) -> Same:
    """Whether another is this very object.

    Raises:
        UnknownStateError: that cannot be told without holding it.
    """
    try:
        return look.identity(value)
    except TypeError:
        # Objects of C that cannot be referred to, such as devices and structures of pytrees.
        if is_constant(value):
            return lambda other: other is value
        raise UnknownStateError(value) from None


def identity_or_itself(value: Any) -> Same:
    """The same for what is there as long as its library is."""
    try:
        return look.identity(value)
    except TypeError:
        return lambda other: other is value


def identity_or_kind(value: Any) -> Same:
    """For what is looked into besides, so that an equal object does as well."""
    try:
        return look.identity(value)
    except TypeError:
        return look.kind_of(value)
