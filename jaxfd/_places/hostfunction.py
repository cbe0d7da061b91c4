"""Python functions of NumPy arrays, and what they declare to return.

This room must not know which points a function is called at.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import tree_util

from jaxfd._runs import Runner

_DOUBLE = float(np.finfo(np.float64).eps)
_INEXACT = ("floating", "complexfloating")
# What is certainly no masked array.
_PLAIN = {np.ndarray, np.float64, float, int}
_NARROW = {np.dtype(np.float64): False, np.dtype(np.complex128): False}


def widen(array: Any) -> np.ndarray:
    """Turns every floating array into float64 and every complex one into complex128."""
    numbers: np.ndarray = np.asarray(array)
    if numbers.dtype in _NARROW:
        return numbers
    kind = _kind(numbers.dtype)
    if kind == "complexfloating":
        return numbers.astype(np.complex128)
    return numbers.astype(np.float64) if kind == "floating" else numbers


@functools.cache
def _kind(dtype: np.dtype) -> str:
    for kind in (np.bool_, np.integer, np.floating, np.complexfloating):
        if jnp.issubdtype(dtype, kind):
            return kind.__name__
    return str(dtype)


class Declaration:
    """What one call of a host function returns.

    Args:
        out: a pytree of shapes and dtypes, the auxiliary output included.
        wanted: how many of its leaves, from the first, are differentiated.

    Attributes:
        named: its leaves with their names.
        bare: whether it is one array, and no tree of some.
        point_bytes: what the outputs of a point take.
    """

    def __init__(self, out: Any, wanted: int) -> None:
        self.leaves, tree = tree_util.tree_flatten(out)
        self.tree: Any = tree
        self.bare = tree_util.treedef_is_leaf(tree)
        self.kinds = [_kind(np.dtype(leaf.dtype)) for leaf in self.leaves]
        self.wanted = wanted
        self.point_bytes = sum(
            math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in self.leaves
        )
        paths, _ = tree_util.tree_flatten_with_path(out)
        self.named = [("out" + tree_util.keystr(path), leaf) for path, leaf in paths]


class HostFunction:
    """A Python function of NumPy arrays.

    Args:
        runner: the function, and how its points are run.

    Attributes:
        vectorized: whether it takes and returns a leading batch axis.
        name: what errors call it.
        eps: relative spacing of the coarsest output seen so far.
        called: whether any was seen.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.vectorized = runner.vectorized
        self.name = runner.name
        self.eps = _DOUBLE
        self.called = False

    def __call__(
        self,
        make: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]],
        declared: Declaration,
        number: int = 0,
        planned: int = 1,
    ) -> list[np.ndarray]:
        """Calls the function at one point and returns its outputs, checked and widened.

        Args:
            make: makes the arguments; once more for an error, for the function may write to them.
            declared: what it returns.
            number: which of the planned points this is.
            planned: how many there are.
        """
        args, kwargs = make()
        try:
            return self.widen(self.accept(self.runner.fun(*args, **kwargs), declared, None))
        except Exception as error:
            raise self.runner.explain(error, *make(), number, planned)  # noqa: B904

    def narrowed(self, arguments: Callable[..., Any]) -> HostFunction | None:
        """The same function of fewer numbers; None where its points are run in a way of their own.

        Args:
            arguments: makes the function's arguments of those numbers and their leading axes.
        """
        runner = self.runner
        if not runner.plain:
            return None

        def fun(numbers: Any) -> Any:
            lead = numbers[0].shape[:1] if runner.vectorized else ()
            return runner.fun(*arguments(numbers, lead))

        return HostFunction(
            Runner(fun, runner.name, runner.vectorized, chunk_size=runner.chunk_size)
        )

    def accept(self, value: Any, declared: Declaration, batch: int | None) -> list[np.ndarray]:
        """Checks what the function returned against its declaration; returns copies, flat.

        Raises:
            TypeError: another structure or kind of dtype than declared.
            ValueError: another shape than declared.
        """
        if type(value) is np.ndarray and declared.bare and batch is None:
            return [self._output(0, value, declared.leaves[0], declared.kinds[0], None)]
        flat, tree = tree_util.tree_flatten(value)
        if declared.tree != tree:
            raise TypeError(
                f"{self.name} returned the structure {tree}, but out declares {declared.tree}: "
                "return that, or correct out."
            )
        return [
            self._output(i, value, leaf, kind, batch)
            for i, (value, leaf, kind) in enumerate(
                zip(flat, declared.leaves, declared.kinds, strict=True)
            )
        ]

    def widen(self, outputs: list[np.ndarray]) -> list[np.ndarray]:
        """The outputs in double precision, remembering how coarse they were."""
        self.called = True
        for array in outputs:
            if array.dtype not in _NARROW and _kind(array.dtype) in _INEXACT:
                self.eps = max(self.eps, float(jnp.finfo(array.dtype).eps))
        return [widen(array) for array in outputs]

    def _output(self, i: int, value: Any, declared: Any, wanted: str, batch: int | None) -> Any:
        # A copy: the function may return the same buffer, or part of its argument, each time.
        array = np.array(value) if type(value) in _PLAIN else self._unmasked(i, value)
        shape = declared.shape if batch is None else (batch, *declared.shape)
        if array.shape != shape:
            hint = "" if batch is None else " (vectorized=True: one leading axis for the points)"
            raise ValueError(
                f"{self.name} returned the shape {array.shape} in output leaf {i}, but out "
                f"declares {shape}{hint}: return that shape, or correct out."
            )
        kind = _kind(array.dtype)
        if kind == wanted:
            if kind == "integer" and array.dtype != declared.dtype:
                self._check_range(i, array, declared.dtype)
            return array
        if isinstance(value, (int, float)) and not isinstance(value, bool) and wanted in _INEXACT:
            return array.astype(np.float64)
        raise TypeError(
            f"{self.name} returned dtype {array.dtype} in output leaf {i}, but out declares "
            f"{declared.dtype}: return that kind of number, or correct out."
        )

    def _unmasked(self, i: int, value: Any) -> np.ndarray:
        """A copy of an output; what is masked in it is not known, NaN."""
        if not isinstance(value, np.ma.MaskedArray) or not np.ma.is_masked(value):
            return np.array(value)
        if _kind(value.dtype) not in _INEXACT:
            raise TypeError(
                f"{self.name} returned a masked array of {value.dtype} in output leaf {i}, where "
                "what is masked cannot be NaN: return its method filled(...), or floats."
            )
        filled: np.ndarray = value.filled(np.nan)
        return filled

    def _check_range(self, i: int, array: np.ndarray, dtype: Any) -> None:
        """Raises ValueError for integers that the declared dtype would wrap around."""
        info = jnp.iinfo(dtype)
        for number in (array.min(), array.max()) if array.size else ():
            if not info.min <= number <= info.max:
                raise ValueError(
                    f"{self.name} returned {number} in output leaf {i}, which {dtype}, as out "
                    "declares, does not hold: declare a wider dtype (int64 needs jax_enable_x64), "
                    "or floats."
                )
