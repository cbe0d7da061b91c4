"""Leaves as the pipeline perturbs them: real arrays, complex ones in two parts.

A complex leaf of a function that is not holomorphic is two real leaves. From here
on everything is real, and only `Parts.join` and `Parts.gather` know otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxfd._arrays.dtype import complexify, is_complex


@dataclasses.dataclass(frozen=True)
class Parts:
    """The real leaves to be perturbed, and the way back.

    Attributes:
        real: the leaves, shape ``(*lead, *shape)``.
        owner: for each of them, the number of the argument leaf it is a part of.
        imaginary: for each of them, whether it is the imaginary part.
        whole: all argument leaves, perturbed or not.
    """

    real: list[Any]
    owner: tuple[int, ...]
    imaginary: tuple[bool, ...]
    whole: Sequence[Any]

    def join(
        self,
        together: Callable[[Any, Any], Any],
        real: Sequence[Any],
        pick: Callable[[Any], Any] = lambda leaf: leaf,
    ) -> list[Any]:
        """The argument leaves with other real parts.

        Args:
            together: makes a complex array of its two parts.
            real: the real leaves.
            pick: selects rows of the constants.
        """
        found: dict[int, list[Any]] = {}
        for leaf, owner, imaginary in zip(real, self.owner, self.imaginary, strict=True):
            found.setdefault(owner, [None, None])[int(imaginary)] = leaf
        result = []
        for number, leaf in enumerate(self.whole):
            if number not in found:
                result.append(pick(leaf))
                continue
            re, im = found[number]
            if is_complex(leaf) and not is_complex(re):
                re = together(re, pick(leaf).imag if im is None else im)
            result.append(re)
        return result

    def gather(self, derivatives: Sequence[Any]) -> list[Any]:
        """One derivative per perturbed argument leaf, ``d/d(re) - i d/d(im)`` for complex ones.

        This is the convention of ``jax.grad``.
        """
        found: dict[int, Any] = {}
        for value, owner, imaginary in zip(derivatives, self.owner, self.imaginary, strict=True):
            found[owner] = complexify(found[owner]) - 1j * complexify(value) if imaginary else value
        return [found[owner] for owner in sorted(found)]


def split(leaves: Sequence[Any], active: Sequence[int] | None, holomorphic: bool) -> Parts:
    """Splits argument leaves into the real leaves that are perturbed.

    Args:
        leaves: the argument leaves.
        active: the numbers of those that are perturbed; None for all.
        holomorphic: whether perturbing the real part alone says everything.
    """
    real, owner, imaginary = [], [], []
    for number, leaf in enumerate(leaves):
        if active is not None and number not in active:
            continue
        two = jnp.issubdtype(leaf.dtype, np.complexfloating)
        real.append(leaf.real if two else leaf)
        owner.append(number)
        imaginary.append(False)
        if two and not holomorphic:
            real.append(leaf.imag)
            owner.append(number)
            imaginary.append(True)
    return Parts(real, tuple(owner), tuple(imaginary), leaves)


def whole(leaves: Sequence[Any], active: Sequence[int] | None) -> Parts:
    """The argument leaves as they are, complex ones unsplit."""
    chosen = [i for i in range(len(leaves)) if active is None or i in active]
    return Parts([leaves[i] for i in chosen], tuple(chosen), (False,) * len(chosen), leaves)
