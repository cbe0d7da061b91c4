"""Primitives that move entries and compute nothing: what changes keeps its value.

Where they go is integer arithmetic on the indices of patches; entries that are dropped make a patch
that is not valid.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxfd._jaxpr.patch import Patch, PatchedValue, Refusal
from jaxfd._jaxpr.rules.registry import Patching, rule


def _first_only(patches: Callable[[Any, PatchedValue, Any], list[Patch]]) -> Patching:
    """The rule of a primitive that moves its first operand; others say where to, at most."""

    @functools.wraps(patches)
    def of(eqn: Any, operands: Sequence[PatchedValue], at_x: Any) -> list[Patch]:
        if any(v.patches for v in operands[1:]):
            raise Refusal("more operands")
        return patches(eqn, operands[0], at_x)

    return of


@rule("slice")
@_first_only
def _slice(eqn: Any, operand: PatchedValue, at_x: Any) -> list[Patch]:
    del at_x
    starts, stops = eqn.params["start_indices"], eqn.params["limit_indices"]
    steps = eqn.params["strides"] or (1,) * len(starts)

    def moved(patch: Patch) -> Patch:
        index, valid, cut = [], patch.valid, []
        for i, size, start, stop, step in zip(
            patch.index, operand.shape, starts, stops, steps, strict=True
        ):
            if i is None:
                cut.append(slice(start, stop, step))
            elif start or stop < size or step != 1:
                valid = valid & (i >= start) & (i < stop) & ((i - start) % step == 0)
                i = (i - start) // step if step != 1 else i - start if start else i
            index.append(i)
        return Patch(tuple(index), valid, patch.value[tuple(cut)])

    return [moved(patch) for patch in operand.patches]


@rule("rev")
@_first_only
def _rev(eqn: Any, operand: PatchedValue, at_x: Any) -> list[Patch]:
    del at_x
    turned = eqn.params["dimensions"]

    def moved(patch: Patch) -> Patch:
        index = tuple(
            size - 1 - i if a in turned and i is not None else i
            for a, (i, size) in enumerate(zip(patch.index, operand.shape, strict=True))
        )
        flip = [k for k, a in enumerate(patch.axes) if a in turned]
        return dataclasses.replace(patch, index=index, value=jnp.flip(patch.value, flip))

    return [moved(patch) for patch in operand.patches]


@rule("transpose")
@_first_only
def _transpose(eqn: Any, operand: PatchedValue, at_x: Any) -> list[Patch]:
    del at_x
    order = eqn.params["permutation"]

    def moved(patch: Patch) -> Patch:
        axes = patch.axes
        turned = jnp.transpose(patch.value, [axes.index(a) for a in order if a in axes])
        return dataclasses.replace(patch, index=tuple(patch.index[a] for a in order), value=turned)

    return [moved(patch) for patch in operand.patches]


@rule("squeeze")
@_first_only
def _squeeze(eqn: Any, operand: PatchedValue, at_x: Any) -> list[Patch]:
    del at_x
    drop = {a % len(operand.shape) for a in eqn.params["dimensions"]}

    def moved(patch: Patch) -> Patch:
        index = tuple(i for a, i in enumerate(patch.index) if a not in drop)
        gone = tuple(k for k, a in enumerate(patch.axes) if a in drop)
        return dataclasses.replace(patch, index=index, value=jnp.squeeze(patch.value, gone))

    return [moved(patch) for patch in operand.patches]


@rule("broadcast_in_dim")
@_first_only
def _broadcast_in_dim(eqn: Any, operand: PatchedValue, at_x: Any) -> list[Patch]:
    where, shape = eqn.params["broadcast_dimensions"], jnp.shape(at_x)

    def moved(patch: Patch) -> Patch:
        index: list[Any] = [None if size != 1 else np.int32(0) for size in shape]
        for a, (i, size) in enumerate(zip(patch.index, operand.shape, strict=True)):
            # An axis of length one is read at its one entry, unless it is stretched.
            if size == shape[where[a]]:
                index[where[a]] = i
        left = [a for a, i in enumerate(index) if i is None]
        own = [left.index(where[a]) for a in patch.axes]
        spread = lax.broadcast_in_dim(patch.value, [shape[a] for a in left], own)
        return Patch(tuple(index), patch.valid, spread)

    return [moved(patch) for patch in operand.patches]


@rule("reshape")
@_first_only
def _reshape(eqn: Any, operand: PatchedValue, at_x: Any) -> list[Patch]:
    if eqn.params.get("dimensions") is not None:
        raise Refusal("reshape")
    shape = jnp.shape(at_x)

    def moved(patch: Patch) -> Patch:
        if patch.axes:
            return _same_axes(patch, operand.shape, shape)
        flat = np.int32(0)
        for i, size in zip(patch.index, operand.shape, strict=True):
            flat = flat * np.int32(size) + i
        index = tuple(jnp.unravel_index(flat, shape)) if shape else ()
        return dataclasses.replace(patch, index=index)

    return [moved(patch) for patch in operand.patches]


def _same_axes(patch: Patch, old: Sequence[int], new: Sequence[int]) -> Patch:
    """A patch where only axes of length one come and go."""
    if [size for size in old if size != 1] != [size for size in new if size != 1]:
        raise Refusal("reshape")
    kept = iter([i for i, size in zip(patch.index, old, strict=True) if size != 1])
    index = tuple(next(kept) if size != 1 else np.int32(0) for size in new)
    shape = [size for i, size in zip(index, new, strict=True) if i is None]
    return Patch(index, patch.valid, patch.value.reshape(shape))


@rule("concatenate")
def _concatenate(eqn: Any, operands: Sequence[PatchedValue], at_x: Any) -> list[Patch]:
    del at_x
    axis, start, patches = eqn.params["dimension"], 0, []
    for operand in operands:
        for patch in operand.patches:
            index = list(patch.index)
            if index[axis] is None:
                raise Refusal("concatenate")
            index[axis] = index[axis] + np.int32(start)
            patches.append(dataclasses.replace(patch, index=tuple(index)))
        start += operand.shape[axis]
    return patches


@rule("pad")
def _pad(eqn: Any, operands: Sequence[PatchedValue], at_x: Any) -> list[Patch]:
    operand, filler = operands
    if filler.patches:
        raise Refusal("pad")
    config = eqn.params["padding_config"]

    def moved(patch: Patch) -> Patch:
        index, valid = [], patch.valid
        for i, (low, _, inner), size in zip(patch.index, config, jnp.shape(at_x), strict=True):
            if i is not None:
                i = np.int32(low) + i * np.int32(inner + 1)
                valid = valid & (i >= 0) & (i < size)
            index.append(i)
        padded = lax.pad(patch.value, filler.at_x, [config[a] for a in patch.axes])
        return Patch(tuple(index), valid, padded)

    return [moved(patch) for patch in operand.patches]
