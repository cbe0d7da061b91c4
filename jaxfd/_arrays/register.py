"""Dataclasses as pytrees whose structures know their class."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

from jax import tree_util

T = TypeVar("T")


def register(cls: type[T]) -> type[T]:
    """Makes a dataclass a pytree whose structure knows the class.

    To ``tree_util.register_dataclass`` classes with the same fields have equal structures, so that
    ``jax.jit`` now and then runs what it has compiled for another family. And a pytree may hold
    anything, as in ``in_axes``: what is put together again is not checked again.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    data = [f.name for f in fields if not f.metadata.get("static")]
    meta = [f.name for f in fields if f.metadata.get("static")]

    def flatten(value: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(value, n) for n in data), tuple(getattr(value, n) for n in meta)

    def flatten_with_keys(value: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children, rest = flatten(value)
        keys = map(tree_util.GetAttrKey, data)
        return tuple(zip(keys, children, strict=True)), rest

    def unflatten(rest: tuple[Any, ...], children: Iterable[Any]) -> Any:
        value: Any = object.__new__(cls)
        for name, child in zip((*data, *meta), (*children, *rest), strict=True):
            object.__setattr__(value, name, child)
        return value

    tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
