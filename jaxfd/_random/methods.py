"""What all random methods share: along which directions, how far, and how samples are combined.

The same kind of value as other methods: a frozen dataclass and a pytree. Its leaves are the key
and the distance. The families are rooms beside this one.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jaxtyping import PyTree

from jaxfd._arrays import check_positive, count_of, register
from jaxfd._methods import Relative, Stencil, StencilMethod, central, one_sided
from jaxfd._random.directions import Directions, DirectionTable
from jaxfd._random.shaping import SHAPINGS

_BASELINES = ("centre", "leave_one_out")
_COMBINATIONS = ("mean", "least_squares")


# Marks a field as part of the method's structure, not one of its leaves.
STATIC = {"static": True}


def _check_choice(name: str, option: str, value: Any, choices: Sequence[Any]) -> None:
    if value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"{name}: {option} must be one of {listed}, got {value!r}.")


@dataclasses.dataclass(frozen=True, repr=False)
class RandomDirections(StencilMethod):
    """Differences along random directions: the cost does not grow with the parameters.

    With directions ``u_i`` of mean zero and unit variance, ``mean_i (f(x + sigma u_i) -
    f(x - sigma u_i)) / (2 sigma) u_i``. See `SPSA` for what all families have in common.
    """

    key: Any = None
    num_samples: int = dataclasses.field(default=1, metadata=STATIC)
    sigma: Any = dataclasses.field(default=None, kw_only=True)
    antithetic: bool = dataclasses.field(default=True, kw_only=True, metadata=STATIC)
    baseline: str = dataclasses.field(default="centre", kw_only=True, metadata=STATIC)
    shaping: str | None = dataclasses.field(default=None, kw_only=True, metadata=STATIC)
    combine: str = dataclasses.field(default="mean", kw_only=True, metadata=STATIC)

    random = True
    # Whether directions are drawn independently of each other.
    independent = True
    # How many of them, the first ones, are not random.
    fixed = 0
    # Whether each of them moves every entry.
    everywhere = True
    # Whether an entry may go farther than the others of its leaf.
    entrywise = True
    # Whether what rounding does to a direction is little beside what directions scatter.
    coarse = True

    def __post_init__(self) -> None:
        name = type(self).__name__
        count = count_of(self.num_samples, f"{name}: num_samples")
        object.__setattr__(self, "num_samples", count)
        if not isinstance(self.sigma, Relative):
            check_positive(self.sigma, "sigma")
        _check_choice(name, "antithetic", self.antithetic, (True, False))
        _check_choice(name, "baseline", self.baseline, _BASELINES)
        _check_choice(name, "shaping", self.shaping, (None, *SHAPINGS))
        _check_choice(name, "combine", self.combine, _COMBINATIONS)
        if self.baseline == "leave_one_out" and not self.antithetic:
            if not self.independent:
                raise ValueError(
                    f'{name}: baseline="leave_one_out" needs directions that are drawn '
                    'independently of each other: use baseline="centre" or antithetic=True.'
                )
            if self.num_samples < 2:
                raise ValueError(
                    f'{name}: baseline="leave_one_out" needs num_samples of 2 or more, got '
                    f"{self.num_samples}."
                )

    def __repr__(self) -> str:
        """In one line: no arrays, and nothing that is as it would be anyway."""
        shown = [
            f"{field.name}={self._brief(field.name)}"
            for field in dataclasses.fields(self)
            if field.name in ("key", "num_samples") or self._is_set(field)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    def _is_set(self, field: dataclasses.Field[Any]) -> bool:
        value = getattr(self, field.name)
        return bool(value != field.default) if field.metadata.get("static") else value is not None

    def _brief(self, name: str) -> str:
        """The value of a field in a few words."""
        value = getattr(self, name)
        if name == "key" and value is not None:
            return "<key>"
        text = repr(value)
        return text if len(text) <= 60 and "\n" not in text else f"<{type(value).__name__}>"

    @property
    def step(self) -> Any:
        return self.sigma

    @property
    def family(self) -> RandomDirections:
        """The method itself; see `TabledDirections`."""
        return self

    def stencil(self, derivative: int = 1) -> Stencil:
        return central(derivative, 2) if self.antithetic else one_sided(derivative, 1, 1)

    def check(self) -> None:
        name, key = type(self).__name__, self.key
        typed = hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
        raw = hasattr(key, "dtype") and key.dtype == np.uint32 and jnp.shape(key)[-1:] > (1,)
        if key is None:
            raise TypeError(f"{name} needs a PRNG key: set key=jax.random.key(0), say.")
        if not typed and not raw:
            raise TypeError(
                f"{name}: key must be a PRNG key, got {key!r}: make one with jax.random.key(seed)."
            )
        if jnp.ndim(key) > (0 if typed else 1):
            raise TypeError(
                f"{name}: key must be one PRNG key, got an array of shape {jnp.shape(key)}: build "
                "the method inside a function of one key, and jax.vmap that over the keys."
            )
        for leaf in tree_util.tree_leaves(self.sigma):
            if not isinstance(leaf, (int, float)) and not hasattr(leaf, "dtype"):
                raise TypeError(
                    f"{name}: sigma must be a number, a pytree of numbers, a Relative or None, got "
                    f"{leaf!r}."
                )

    def check_size(self, size: int) -> None:
        """Raises ValueError where there are not that many directions of ``size`` entries."""

    @abc.abstractmethod
    def directions(self, like: Sequence[Any]) -> Directions:
        """The directions for leaves of the given shapes and dtypes."""

    def weights(self, xp: Any, good: Any, size: int) -> Any:
        """What each sample counts, for gradients of ``size`` entries.

        Args:
            xp: the array namespace.
            good: 1 for samples that there are, 0 for lost ones, shape ``(N, *rest)``.
            size: the number of entries.
        """
        del size
        return good / xp.maximum(xp.sum(good, axis=0), 1)

    def started(self, params: PyTree) -> RandomDirections:
        """The method of the first step, with all the numbers that it follows gradients with."""
        del params
        return self

    def following(self, key: Any, gradient: PyTree) -> RandomDirections:
        """The method of the next step, after one that estimated ``gradient`` (None: unknown)."""
        del gradient
        return dataclasses.replace(self, key=key)


def is_random(method: object) -> TypeGuard[RandomDirections]:
    """Whether a method draws random directions from a key."""
    return bool(getattr(method, "random", False))


@register
@dataclasses.dataclass(frozen=True)
class TabledDirections(StencilMethod):
    """A random method whose directions are a table: what a host function gets.

    Attributes:
        family: the method, without its key.
        u: for each real leaf the directions, shape ``(N, *shape)``.
    """

    family: RandomDirections
    u: Sequence[Any]

    def stencil(self, derivative: int = 1) -> Stencil:
        return self.family.stencil(derivative)

    def directions(self, like: Sequence[Any]) -> DirectionTable:
        """The directions, for whatever leaves."""
        del like
        return DirectionTable(self.u)
