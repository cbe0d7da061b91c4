"""Evaluation on the host: points made in NumPy float64, given to a Python function.

The twin of the kernel's evaluation for what JAX cannot trace. Nothing here may
call JAX: these lines run inside a callback, where doing so can deadlock. Pytree
bookkeeping is the one exception, for it computes nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import tree_util

from jaxfd._directions import Moves
from jaxfd._dtype import promote

# Bytes of points that are materialised at once for a vectorised function.
_CHUNK = 2**28

_DOUBLE = float(np.finfo(np.float64).eps)


def widen(array: Any) -> np.ndarray:
    """Turns every floating array into float64 and every complex one into complex128."""
    array = np.asarray(array)
    if jnp.issubdtype(array.dtype, np.complexfloating):
        return array.astype(np.complex128, copy=False)
    if jnp.issubdtype(array.dtype, np.floating):
        return array.astype(np.float64, copy=False)
    return array


def _kind(dtype: Any) -> str:
    for kind in (np.bool_, np.integer, np.floating, np.complexfloating):
        if jnp.issubdtype(dtype, kind):
            return kind.__name__
    return str(dtype)


@dataclasses.dataclass(eq=False)
class HostFunction:
    """A Python function of NumPy arrays, with what is known of its outputs.

    Attributes:
        fun: the function.
        vectorized: whether it takes and returns a leading batch axis.
        name: what errors call it.
        eps: relative spacing of the coarsest output seen so far.
    """

    fun: Callable[..., Any]
    vectorized: bool
    name: str
    eps: float = _DOUBLE

    def outputs(self, result: Any, out: Sequence[Any], out_tree: Any, batch: int | None) -> list:
        """Checks what the function returned against its declaration and widens it.

        Raises:
            TypeError: another structure or kind of dtype than declared.
            ValueError: another shape than declared.
        """
        flat, tree = tree_util.tree_flatten(result)
        if tree != out_tree:
            raise TypeError(
                f"{self.name} returned the structure {tree}, but out declares {out_tree}: return "
                "that, or correct out."
            )
        arrays = []
        for i, (value, declared) in enumerate(zip(flat, out, strict=True)):
            which = self.name if len(flat) == 1 else f"{self.name} (output leaf {i})"
            array = np.asarray(value)
            shape = declared.shape if batch is None else (batch, *declared.shape)
            if array.shape != shape:
                hint = (
                    ""
                    if batch is None
                    else " (vectorized=True: one leading axis, as long as the inputs')"
                )
                raise ValueError(
                    f"{which} returned the shape {array.shape}, but out declares {shape}{hint}: "
                    "return that shape, or correct out."
                )
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            kind, wanted = _kind(array.dtype), _kind(declared.dtype)
            if kind != wanted and not (number and wanted in ("floating", "complexfloating")):
                raise TypeError(
                    f"{which} returned dtype {array.dtype}, but out declares {declared.dtype}: "
                    "return that kind of number, or correct out."
                )
            if wanted in ("floating", "complexfloating") and not number:
                self.eps = max(self.eps, float(jnp.finfo(array.dtype).eps))
            arrays.append(widen(array))
        return arrays


class Host:
    """The place on the host where points are evaluated, for ``B`` calls at once.

    Args:
        function: the user's function.
        out: shapes and dtypes of its outputs, auxiliary ones last.
        out_tree: their structure.
        wanted: how many of them, from the first, are differentiated.
        rebuild: ``(leaves, row) -> (args, kwargs)``, the call's arguments with other leaves.
            The row picks the call among the ``B``: a number, or for a vectorised function an
            array of them.
        size: the number ``B`` of calls.
        chunk_size: points given to a vectorised function at once; None for the default.
        post: applied to the wanted outputs of a row or of rows.
    """

    xp: Any = np

    def __init__(
        self,
        function: HostFunction,
        out: Sequence[Any],
        out_tree: Any,
        wanted: int,
        rebuild: Callable[[Sequence[Any], Any], tuple[tuple, dict]],
        size: int,
        chunk_size: int | None,
        post: Callable[[list, Any], list] | None = None,
    ) -> None:
        self.lead = (size,)
        self._function = function
        self._out = out
        self._out_tree = out_tree
        self._wanted = wanted
        self._rebuild = rebuild
        self._chunk_size = chunk_size
        self._post = post

    def eps(self, dtype: Any) -> float:
        """The relative spacing of the coarser of float64 and what the function returns."""
        del dtype
        return self._function.eps

    def compute_dtype(self, out: Any, x: Any) -> Any:
        """The dtype differences are formed in."""
        return promote(out, x)

    @staticmethod
    def complex(re: np.ndarray, im: np.ndarray) -> np.ndarray:
        """``re + i im``, without the NaN that an infinite part would make."""
        result = np.empty(np.broadcast_shapes(re.shape, im.shape), np.complex128)
        result.real, result.imag = re, im
        return result

    def _call(self, leaves: Sequence[Any], rows: np.ndarray) -> list[np.ndarray]:
        """Runs a run of points: leaves of shape ``(m, *shape)``, outputs of ``(m, *out)``."""
        function, count = self._function, len(rows)
        if function.vectorized:
            args, kwargs = self._rebuild(leaves, rows)
            result = function.fun(*args, **kwargs)
            return self._finish(function.outputs(result, self._out, self._out_tree, count), rows)
        collected: list[list[np.ndarray]] = []
        for m in range(count):
            args, kwargs = self._rebuild([leaf[m] for leaf in leaves], rows[m])
            result = function.fun(*args, **kwargs)
            values = function.outputs(result, self._out, self._out_tree, None)
            collected.append(self._finish(values, rows[m]))
        return [np.stack(column) for column in zip(*collected, strict=True)]

    def _finish(self, outputs: list, row: Any) -> list:
        if self._post is None:
            return outputs
        return self._post(outputs[: self._wanted], row) + outputs[self._wanted :]

    def centre(self, leaves: Sequence[Any]) -> list[np.ndarray]:
        """All outputs, the auxiliary ones too, at ``x`` itself."""
        return self._call(leaves, np.arange(self.lead[0]))

    def line(self, points: Sequence[Any]) -> list[np.ndarray]:
        """Outputs at a few points given whole: leaves of shape ``(P, B, *shape)``."""
        count, size = points[0].shape[:2]
        flat = [p.reshape(count * size, *p.shape[2:]) for p in points]
        outputs = self._call(flat, np.tile(np.arange(size), count))
        return [o.reshape(count, size, *o.shape[1:]) for o in outputs[: self._wanted]]

    def evaluate(
        self,
        moves: Moves,
        reduce: Callable[[Any, Any, Any], Any],
        centre: list[Any] | None,
        ride: bool,
    ) -> tuple[list[Any] | None, Any]:
        """Runs all points as one batch; see `Kernel.evaluate`.

        Outputs are reduced at once: shape ``(K, B, count, *out)``.
        """
        nodes, count, size = moves.nodes, moves.count, self.lead[0]
        ride = ride and centre is None
        directions = np.tile(np.arange(count), nodes)
        at = np.repeat(np.arange(nodes), count)
        if ride:
            directions, at = np.insert(directions, 0, -1), np.insert(at, 0, 0)
        points = len(directions)
        outputs = self._chunks(moves, np.tile(directions, size), np.tile(at, size), points)
        stacked = [o.reshape(size, points, *o.shape[1:]) for o in outputs]
        if ride:
            centre = [o[:, 0] for o in stacked]
            stacked = [o[:, 1:] for o in stacked]
        values = [
            np.moveaxis(o.reshape(size, nodes, count, *o.shape[2:]), 1, 0)
            for o in stacked[: self._wanted]
        ]
        return centre, reduce(centre, values, slice(None))

    def _chunks(
        self, moves: Moves, directions: np.ndarray, nodes: np.ndarray, points: int
    ) -> list[np.ndarray]:
        total = len(directions)
        batch = np.repeat(np.arange(self.lead[0]), points)
        per_point = max(1, sum(x.nbytes // max(1, x.shape[0]) for x in moves.x))
        most = self._chunk_size or max(1, _CHUNK // per_point)
        parts = []
        for first in range(0, total, most):
            part = slice(first, first + most)
            leaves = moves.rows(batch[part], directions[part], nodes[part])
            parts.append(self._call(leaves, batch[part]))
        if not parts:
            return [np.zeros((0, *o.shape), widen(np.zeros((), o.dtype)).dtype) for o in self._out]
        return [p[0] if len(p) == 1 else np.concatenate(p) for p in zip(*parts, strict=True)]
