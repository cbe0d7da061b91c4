"""What is known of the values of a program, followed from its arguments to its outputs.

A reader says what an operation makes of the facts about its operands; this room takes it through
calls, branches and loops. It must not know what the facts are.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from jaxfd._jaxpr.walk import called, carried, walk

Fact = TypeVar("Fact")


class Flow(abc.ABC, Generic[Fact]):
    """A reader of programs.

    Attributes:
        nothing: what is known of constants. Where it is all that is known of the operands, it is
            all that is known of the results.
    """

    nothing: Fact

    @abc.abstractmethod
    def merged(self, facts: Sequence[Fact]) -> Fact:
        """What is known of a value that comes by one of several ways."""

    @abc.abstractmethod
    def after(self, eqn: Any, facts: Sequence[Fact]) -> list[Fact]:
        """What is known of the results of a plain operation.

        Args:
            eqn: the operation.
            facts: what is known of its operands.
        """

    def decided(self, choice: Fact, facts: list[Fact]) -> list[Fact]:
        """What is known of values after something decided which way they come, or how often."""
        del choice
        return facts

    def returned(self, name: str | None, facts: Sequence[Fact], found: list[Fact]) -> list[Fact]:
        """What is known of the results of a call.

        Args:
            name: the function's, where it is known.
            facts: what is known of its operands.
            found: what its program made of them.
        """
        del name, facts
        return found

    def follow(self, jaxpr: Any, arguments: Sequence[Fact]) -> list[Fact]:
        """What is known of the outputs of a program, given what is known of its arguments."""

        def apply(eqn: Any, facts: list[Fact]) -> list[Fact]:
            if all(fact == self.nothing for fact in facts):
                return [self.nothing] * len(eqn.outvars)
            return self._results(eqn, facts)

        return walk(jaxpr, jaxpr.constvars, arguments, apply, lambda value: self.nothing)

    def _results(self, eqn: Any, facts: list[Fact]) -> list[Fact]:
        name, params = eqn.primitive.name, eqn.params
        inner = called(eqn)
        if inner is not None:
            return self.returned(params.get("name"), facts, self.follow(inner[0], facts))
        if name == "cond":
            branches = [self.follow(branch.jaxpr, facts[1:]) for branch in params["branches"]]
            return self.decided(facts[0], [self.merged(e) for e in zip(*branches, strict=True)])
        if name == "scan":
            turns = carried(eqn)
            return self._looped(params["jaxpr"].jaxpr, facts, turns.start, turns.stop)
        if name == "while":
            return self._while(params, facts)
        if name == "custom_linear_solve":
            counts = params["const_lengths"]
            first = counts.matvec + counts.vecmat
            held = facts[first : first + counts.solve]
            return self.follow(params["jaxprs"].solve.jaxpr, [*held, *facts[sum(counts) :]])
        return self.after(eqn, facts)

    def _while(self, params: dict[str, Any], facts: list[Fact]) -> list[Fact]:
        count = params["cond_nconsts"]
        held, body = facts[:count], facts[count:]
        first = params["body_nconsts"]
        while True:
            carry = self._looped(params["body_jaxpr"].jaxpr, body, first, len(body))
            (choice,) = self.follow(params["cond_jaxpr"].jaxpr, [*held, *carry])
            after = self.decided(choice, carry)
            if after == body[first:]:
                return after
            body = [*body[:first], *after]

    def _looped(self, body: Any, facts: list[Fact], first: int, stop: int) -> list[Fact]:
        """What comes out of a loop: what it carries, until that changes no more, and the rest."""
        while True:
            found = self.follow(body, facts)
            ends = zip(facts[first:stop], found, strict=False)
            carry = [self.merged(pair) for pair in ends]
            if carry == facts[first:stop]:
                return [*carry, *found[len(carry) :]]
            facts = [*facts[:first], *carry, *facts[stop:]]
