"""Functions of NumPy arrays at many points at once: nothing is compiled, and JAX computes nothing.

A black box brings its executor, journal and what becomes of its failures; a plain function is
simply called. This room must not know what the values are for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import tree_util
from jaxtyping import Float, PyTree

from jaxfd._arrays import flatten, leaf_name
from jaxfd._estimate import HostProgram
from jaxfd._places import Declaration, Host, HostFunction, Schedule
from jaxfd._runs import Runner, fingerprint
from jaxfd._system import host_calls
from jaxfd.optim._rows.keeper import Keeper
from jaxfd.optim._rows.layout import Layout

# A vectorised function is given so many trial points at once.
_VECTORIZED = 16


class _Calls:
    """The arguments of calls of one pytree; see `Calls` in `jaxfd._places`."""

    def __init__(self, build: Callable[[Sequence[Any]], PyTree]) -> None:
        self._build = build

    def __call__(self, real: Sequence[Any], row: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        del row
        return (self._build(real),), {}

    def each(
        self, real: Sequence[np.ndarray], rows: np.ndarray
    ) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        for k in range(len(rows)):
            yield (self._build([leaf[k] for leaf in real]),), {}


class HostFunctionOfRows:
    """A host function at rows of numbers; see `Evaluator`.

    Args:
        function: the function.
        declared: what it returns.
        like: the same as a pytree.
        layout: what it is called with.
        role: what errors call the argument.
        chunk_size: how many points a vectorised function is given at once.
        first: the output at the layout's start, where it is known.
    """

    hosted = True

    def __init__(
        self,
        function: HostFunction,
        declared: Declaration,
        like: PyTree,
        layout: Layout,
        role: str,
        chunk_size: int | None = None,
        first: Float[np.ndarray, "k"] | None = None,
    ) -> None:
        check_real_output(like, role, function.name)
        self.name, self.like = function.name, like
        self.lossy = function.runner.lossy
        runner = function.runner
        self.width = max(_VECTORIZED if runner.vectorized else 1, runner.width)
        self.num_evaluations = self.num_batches = 0
        self._function, self._layout, self._first = function, layout, first
        self._host = Host(function, declared, _Calls(layout.build), 1, Schedule(chunk_size))
        self._declared = declared

    def _call(self, row: Float[np.ndarray, "n"]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of one call, in arrays of its own."""
        return (self._layout.build([leaf[()] for leaf in self._layout.leaves(row.copy())]),), {}

    @property
    def eps(self) -> float:
        return self._function.eps

    def __call__(self, points: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m k"]:
        rows = np.ascontiguousarray(points, np.float64)
        self.num_evaluations += len(rows)
        self.num_batches += bool(len(rows))
        if self._first is not None:
            known = (rows == self._layout.start).all(1)
            first, self._first = self._first, None
            if known.any():
                found = np.tile(first, (len(rows), 1))
                if not known.all():
                    found[~known] = self._run(rows[~known])
                return found
        return self._run(rows)

    def _one(self, rows: Float[np.ndarray, "m n"], number: int) -> Float[np.ndarray, "k"]:
        """The output at one of a few points."""
        host_calls.check()
        outputs = self._function(
            lambda: self._call(rows[number]), self._declared, number, len(rows)
        )
        found: np.ndarray = flatten(np, outputs, 0, np.float64)
        return found

    def _run(self, rows: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m k"]:
        runner = self._function.runner
        if len(rows) and runner.plain and not runner.vectorized:
            # A place costs more than a few calls of a function of microseconds.
            return np.array([self._one(rows, number) for number in range(len(rows))])
        leaves = [leaf[:, None] for leaf in self._layout.leaves(rows)]
        _, outputs = self._host.line([leaf[0] for leaf in leaves], leaves, ride=False)
        found: np.ndarray = flatten(np, [o[:, 0] for o in outputs], 1, np.float64)
        return found


def of_box(
    program: HostProgram,
    layout: Layout,
    role: str,
    chunk_size: int | None = None,
    keeper: Keeper | None = None,
) -> HostFunctionOfRows:
    """A black box at rows of numbers.

    Args:
        program: the box's program.
        layout: what it is called with.
        role: what errors call the argument.
        chunk_size: how many points a vectorised function is given at once.
        keeper: keeps finished points.
    """
    function = program.function
    if keeper is not None:
        function = HostFunction(keeper.runner(function.runner, function.runner.parts))
    like = program.declared((layout.build(layout.leaves(layout.start)),), {})
    declared = Declaration(like, len(tree_util.tree_leaves(like)))
    return HostFunctionOfRows(function, declared, like, layout, role, chunk_size)


class _Learnt:
    """A plain function whose output must stay what it was at first.

    Args:
        fun: the function.
        role: what errors call the argument.

    Attributes:
        like: what it returned at first, a pytree of shapes; None before.
    """

    def __init__(self, fun: Callable[..., Any], role: str) -> None:
        self._fun, self._role = fun, role
        self.__name__ = str(getattr(fun, "__name__", type(fun).__name__))
        self.like: PyTree = None
        self._tree: Any = None
        self._shapes: list[tuple[int, ...]] = []

    def __call__(self, x: PyTree) -> PyTree:
        return self.take(self._fun(x))

    def take(self, value: Any) -> PyTree:
        """What the function returned, if it is what it returned at first."""
        plain = type(value) is np.ndarray and value.dtype == np.float64
        if plain and self._tree is not None and self._shapes == [value.shape]:
            return value
        leaves, tree = tree_util.tree_flatten(value)
        arrays = [_floating(leaf) for leaf in leaves]
        shapes = [np.shape(array) for array in arrays]
        if self._tree is None:
            self._tree, self._shapes = tree, shapes
            self.like = _structs(tree, arrays)
        elif tree != self._tree or shapes != self._shapes:
            was, came = (", ".join(map(str, s)) if s else "nothing" for s in (self._shapes, shapes))
            raise ValueError(
                f"{self._role}: {self.__name__} returned the shape {came} ({tree}), but "
                f"{was} ({self._tree}) at its first call: return the same at every point (NaN for "
                "what cannot be computed)."
            )
        if any(np.asarray(array).dtype.kind not in "fV" for array in arrays):
            check_real_output(_structs(tree, arrays), self._role, self.__name__)
        return tree_util.tree_unflatten(tree, arrays)


def _structs(tree: Any, arrays: Sequence[Any]) -> PyTree:
    structs = [jax.ShapeDtypeStruct(np.shape(a), np.asarray(a).dtype) for a in arrays]
    return tree_util.tree_unflatten(tree, structs)


def _floating(leaf: Any) -> Any:
    """Integers and bools as floats; masked arrays and narrower floats as they are."""
    if isinstance(leaf, np.ma.MaskedArray):
        return leaf if leaf.dtype.kind == "f" else leaf.astype(np.float64)
    array = np.asarray(leaf)
    return array.astype(np.float64) if array.dtype.kind in "biu" else array


def learnt(
    fun: Callable[..., Any], layout: Layout, role: str, keeper: Keeper | None = None
) -> HostFunctionOfRows:
    """A plain function at rows of numbers. It is run once, at the layout's start.

    Raises:
        Exception: what the function raised.
        TypeError: it returned no real numbers.
    """
    plain = _Learnt(fun, role)
    runner = Runner(plain, plain.__name__, False)
    if keeper is not None:
        runner = keeper.runner(runner, fingerprint(fun))
    args = layout.build([leaf[()] for leaf in layout.leaves(layout.start.copy())])
    call = "" if keeper is None else _told_apart(runner, args)
    try:
        if keeper is None:
            value = plain(args)
        else:
            value = keeper.first(call, lambda: plain(args), plain.take)
    except Exception as error:
        start = layout.build([leaf[()] for leaf in layout.leaves(layout.start)])
        raise runner.explain(error, (start,), {}) from error.__cause__
    like = plain.like
    check_real_output(like, role, plain.__name__)
    function = HostFunction(runner)
    declared = Declaration(like, len(tree_util.tree_leaves(like)))
    flat = function.widen(function.accept(value, declared, None))
    first: np.ndarray = flatten(np, flat, 0, np.float64) if flat else np.zeros(0)
    return HostFunctionOfRows(function, declared, like, layout, role, first=first)


def _told_apart(runner: Runner, args: PyTree) -> str:
    """What tells the call at the start from others."""
    try:
        return runner.key((args,), {})
    except TypeError as error:
        raise TypeError(
            "checkpoint: x0 holds something that no file can tell from others of its kind: give "
            "numbers, texts or arrays, or let the function read it from elsewhere."
        ) from error


def check_real_output(like: PyTree, role: str, name: str) -> None:
    """Raises TypeError for what is no real number, ValueError for nothing at all."""
    leaves, _ = tree_util.tree_flatten_with_path(like)
    if not sum(int(np.prod(leaf.shape)) for _, leaf in leaves):
        raise ValueError(f"{role}: {name} returns no numbers: return an array with some.")
    for path, leaf in leaves:
        kind = np.dtype(leaf.dtype).kind
        if kind == "c":
            where = leaf_name(path) if path else "it"
            raise TypeError(
                f"{role}: {name} returns complex numbers ({where} is {leaf.dtype}): return real "
                "and imaginary parts side by side, np.stack([z.real, z.imag])."
            )
        if kind not in "fiubV":
            raise TypeError(f"{role}: {name} returns {leaf.dtype}: return real numbers.")
