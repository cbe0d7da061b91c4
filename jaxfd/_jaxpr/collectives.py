"""Collectives in a program: operations that put together what the members of an axis have.

Members of an axis of ``vmap`` or ``shard_map`` run one program side by side, so that an entry that
is moved in one is moved in all. What a collective makes of moved values then differs by what all of
the moves bring, and no difference tells them apart. This room finds such operations; it must not
know what an entry is moved for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxfd._jaxpr.flow import Flow
from jaxfd._jaxpr.walk import every_eqn, subprograms
from jaxfd._primitives import varying_of

# What is named by an axis, and brings nothing from one member to another.
_APART = {"axis_index", "axis_size", "pcast", "pvary"}
# As users call them, where the program does not.
_NAMES = {
    "psum": "psum (or pmean)",
    "psum_invariant": "psum (or pmean)",
    "reduce_scatter": "psum_scatter",
    "all_gather_invariant": "all_gather",
}


class _Origin(NamedTuple):
    """Where a value comes from.

    Attributes:
        moved: the numbers of the arguments that it depends on.
        through: the collective that what depends on them went through; empty for none.
    """

    moved: frozenset[int] = frozenset()
    through: str = ""


class _Origins(Flow[_Origin]):
    """The reader that knows where values come from.

    Args:
        axes: for each argument the mesh axes that it is known to differ along.
    """

    nothing = _Origin()

    def __init__(self, axes: Sequence[frozenset[Any]]) -> None:
        self._axes = axes

    def merged(self, facts: Sequence[_Origin]) -> _Origin:
        through = next((fact.through for fact in facts if fact.through), "")
        return _Origin(frozenset().union(*(fact.moved for fact in facts)), through)

    def decided(self, choice: _Origin, facts: list[_Origin]) -> list[_Origin]:
        return [self.merged([fact, choice]) for fact in facts]

    def after(self, eqn: Any, facts: Sequence[_Origin]) -> list[_Origin]:
        origin = self.merged(facts)
        if not origin.through:
            origin = origin._replace(through=self._collective(eqn, facts))
        return [origin] * len(eqn.outvars)

    def _collective(self, eqn: Any, facts: Sequence[_Origin]) -> str:
        """The collective that an operation is, or that is somewhere inside of it."""
        inside = [e for program in subprograms(eqn) for e in every_eqn(program)]
        # An operation that runs programs along an axis of its own: that one is no member of ours.
        own = _own_axes(eqn) if inside else set()
        for each in inside or [eqn]:
            for axis in _axes_of(each):
                if axis not in own and (inside or self._mixes(eqn, facts, axis)):
                    name = each.primitive.name
                    return f"{_NAMES.get(name, name)} along the axis {axis!r}"
        return ""

    def _mixes(self, eqn: Any, facts: Sequence[_Origin], axis: Any) -> bool:
        """Whether members move different entries, as far as types tell."""
        moved = frozenset().union(*(fact.moved for fact in facts))
        # Where types say what differs along an axis, every operand of a collective does; elsewhere
        # they say nothing of the arguments either.
        told = all(axis in varying_of(atom.aval) for atom in eqn.invars)
        return not told or any(axis in self._axes[number] for number in moved)


def _named(eqn: Any, key: str) -> tuple[Any, ...]:
    """Names of axes in a parameter of an operation; numbers are axes of an array."""
    found = eqn.params.get(key, ())
    names = found if isinstance(found, (tuple, list, set, frozenset)) else (found,)
    return tuple(
        name for name in names if not isinstance(name, (int, np.integer)) and name is not None
    )


def _own_axes(eqn: Any) -> set[Any]:
    """The axes along which an operation runs its programs, as versions of JAX name them."""
    keys = ("axis_name", "manual_axes", "newly_manual_axes")
    return {name for key in keys for name in _named(eqn, key)}


def _axes_of(eqn: Any) -> tuple[Any, ...]:
    """The axes along which an operation puts members together."""
    if eqn.primitive.name in _APART or subprograms(eqn):
        return ()
    return (*_named(eqn, "axes"), *_named(eqn, "axis_name"))


def axes_in(jaxpr: Any) -> set[Any]:
    """The names of the axes along which a program puts members together, its own apart."""
    found: set[Any] = set()
    for eqn in jaxpr.eqns:
        found |= set(_axes_of(eqn))
        inside = [axis for program in subprograms(eqn) for axis in axes_in(program)]
        if inside:
            found |= set(inside) - _own_axes(eqn)
    return found


def collective_in(closed: Any, count: int) -> str | None:
    """The collective that what depends on a program's arguments goes through.

    One along an axis that the arguments it depends on are known not to differ along does no harm:
    then all members move the same entry.

    Args:
        closed: the jaxpr.
        count: how many outputs are looked at, from the first.

    Returns:
        Its name and the axis; None where there is none.
    """
    if not any(map(_axes_of, every_eqn(closed.jaxpr))):
        return None
    arguments = closed.jaxpr.invars
    origins = _Origins([varying_of(var.aval) for var in arguments])
    moved = [_Origin(frozenset([number])) for number in range(len(arguments))]
    found = origins.follow(closed.jaxpr, moved)
    return next((origin.through for origin in found[:count] if origin.through), None)
