"""Tables that a program looks up by what it is given.

Between the nodes of a table a function is what the table makes of it, and a derivative that is
right there is another one than that of the course the nodes follow. This room must not know who
differentiates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxfd._jaxpr.flow import Flow

# Steps that no table has written down are taken for those of one so long.
_ROUNDED = frozenset({"floor", "ceil", "round"})
_UNWRITTEN = 1000


class _Lookups(Flow[int]):
    """The reader of how long a table is; 1 is what depends on an argument, and on no table."""

    nothing = 0

    def merged(self, facts: Sequence[int]) -> int:
        return max(facts)

    def decided(self, choice: int, facts: list[int]) -> list[int]:
        return [max(choice, fact) for fact in facts]

    def after(self, eqn: Any, facts: Sequence[int]) -> list[int]:
        return [max(*facts, self._length(eqn, facts), 0)] * len(eqn.outvars)

    def _length(self, eqn: Any, facts: Sequence[int]) -> int:
        """The length of the table that an operation looks up; 0 for none."""
        name = eqn.primitive.name
        if name in _ROUNDED:
            return _UNWRITTEN
        if name == "dynamic_slice":
            chosen = [axis for axis, fact in enumerate(facts[1:]) if fact]
        elif name == "gather" and facts[1]:
            chosen = list(eqn.params["dimension_numbers"].start_index_map)
        else:
            return 0
        return max((eqn.invars[0].aval.shape[axis] for axis in chosen), default=0)


def longest_table(closed: Any) -> int:
    """The length of the longest table that outputs look up by an argument; 0 for none.

    Args:
        closed: the jaxpr; all of its arguments count.
    """
    found = _Lookups().follow(closed.jaxpr, [1] * len(closed.jaxpr.invars))
    longest = max(found, default=0)
    return longest if longest > 1 else 0
