"""Calls with samples: which arrays hold them, and the loss of one sample as a program.

A call is kept without its numbers, so that it can be compared and compiled for. This room must not
know how a loss is differentiated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax import tree_util

from jaxfd._arrays import is_array, path_name, thaw
from jaxfd._jaxpr import full_precision
from jaxfd._networks.network import Network


class Owner(Protocol):
    """What is called: equal to itself alone, whatever its loss is.

    Attributes:
        loss: the mean over samples.
        kernel: value and gradients of a call, compiled.
        chunk_size: how many perturbed entries are evaluated at once, None for as many as fit.
    """

    loss: Callable[..., Any]
    kernel: Callable[..., Any]
    chunk_size: int | None


@dataclasses.dataclass(frozen=True)
class BatchCall:
    """A call without its numbers: hashable.

    Attributes:
        owner: the function called.
        tree: the structure of ``(args, method)``, frozen.
        axes: for each array of ``args`` its axis of samples, or None.
    """

    owner: Owner
    tree: Any
    axes: tuple[int | None, ...]

    @property
    def batched(self) -> list[int]:
        """The numbers of the arrays that hold samples."""
        return [i for i, axis in enumerate(self.axes) if axis is not None]

    def args(self, operands: Sequence[Any]) -> tuple[Any, ...]:
        args: tuple[Any, ...] = thaw(tree_util.tree_unflatten(self.tree, operands)[0])
        return args

    def whole(self, operands: Sequence[Any]) -> Any:
        """The loss of the whole batch."""
        with full_precision():
            return self.owner.loss(*self.args(operands))

    def network(self, active: Sequence[int], operands: Sequence[Any]) -> Network:
        """The loss of a sample as a program of its arrays."""
        count, batched = len(self.axes), self.batched

        def one(*leaves: Any) -> Any:
            batch = [leaf[None] if i in batched else leaf for i, leaf in enumerate(leaves)]
            return self.whole([*batch, *operands[count:]])

        first = [leaf[0] if i in batched else leaf for i, leaf in enumerate(operands[:count])]
        network = Network(one, first, frozenset(active), frozenset(batched), self.name)
        out = network.out
        if getattr(out, "shape", None) != () or not jnp.issubdtype(out.dtype, np.floating):
            raise TypeError(
                f"per_sample needs a loss that returns one real number, got {out} for a batch of "
                "one sample: return the mean over samples."
            )
        return network

    def name(self, number: int) -> str:
        """What errors call an operand."""
        args, _ = tree_util.tree_unflatten(self.tree, range(self.tree.num_leaves))
        paths = {leaf: path for path, leaf in tree_util.tree_flatten_with_path(args)[0]}
        return f"{paths[number][0].idx}{path_name(paths[number][1:])}"


def sample_axes(args: tuple[Any, ...], argnums: tuple[int, ...] | None) -> tuple[int | None, ...]:
    """For each array of the arguments its axis of samples, or None.

    Args:
        args: the arguments.
        argnums: the positions of those that hold samples; None for all but the first.

    Raises:
        ValueError: they are not there, or differ in their number of samples.
    """
    batch = range(1, len(args)) if argnums is None else argnums
    if not batch or not all(-len(args) <= p < len(args) for p in batch):
        raise ValueError(
            f"per_sample was called with {len(args)} positional argument(s), but batch_argnums "
            f"is {argnums} (None: all but the first): pass the samples by position."
        )
    axes: list[int | None] = []
    sizes: dict[int, str] = {}
    chosen = {p % len(args) for p in batch}
    for path, leaf in tree_util.tree_flatten_with_path(args)[0]:
        if path[0].idx not in chosen:
            axes += [None] * is_array(leaf)
            continue
        where = f"{path[0].idx}{path_name(path[1:])}"
        if not is_array(leaf) or not np.ndim(leaf):
            raise ValueError(
                f"per_sample: batch argument {where} is {leaf!r:.60}, which has no leading "
                "axis of samples: pass an array, or choose other batch_argnums."
            )
        sizes[np.shape(leaf)[0]] = where
        axes.append(0)
    if len(sizes) != 1:
        found = ", ".join(f"{size} in argument {where}" for size, where in sizes.items())
        raise ValueError(
            f"per_sample: batch arguments have different numbers of samples, {found or 'none'}:"
            " give all of them the same leading axis, or choose other batch_argnums."
        )
    if 0 in sizes:
        raise ValueError(f"per_sample: batch argument {sizes[0]} has no samples: pass one.")
    return tuple(axes)
