"""Functions that JAX traces, at many points at once, in float64 whatever JAX computes in.

A fit wants the digits: residuals are subtracted and squared. The function is traced once, widened
where it holds float32 (a black box inside keeps its digits), and compiled for batches of few sizes.
What is compiled is kept with the function. This room must not know what the values are for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from jaxfd._arrays import finfo, flatten
from jaxfd._functions import entry_of, in_precision
from jaxfd._jaxpr import TracedFunction, every_eqn, holds_float32, in_double, trace
from jaxfd._places import Schedule
from jaxfd._primitives import host_call_p
from jaxfd._system import host_calls
from jaxfd.optim._checkpoint import identity_of
from jaxfd.optim._rows.host_function import check_real_output
from jaxfd.optim._rows.keeper import Keeper, KeptRows
from jaxfd.optim._rows.layout import Layout

_DOUBLE = float(np.finfo(np.float64).eps)


def _has_float64() -> bool:
    return bool(jax.dtypes.canonicalize_dtype(np.float64) == np.float64)


class _Compiled:
    """A traced function, compiled for batches of points.

    Args:
        program: the function.
        wide: whether it computes in float64 where JAX does not.
    """

    def __init__(self, program: TracedFunction, wide: bool) -> None:
        self.program, self.wide = program, wide
        self.sizes: set[int] = set()
        self.boxes = [
            eqn.params["callback"]
            for eqn in every_eqn(program.closed)
            if eqn.primitive is host_call_p
        ]

        def batch(leaves: list[Any]) -> list[Any]:
            return jax.vmap(lambda *one: program.call(list(one)))(*leaves)

        self.run = jax.jit(batch)


class TracedFunctionOfRows:
    """A traced function at rows of numbers; see `Evaluator`.

    Args:
        name: what errors call it.
        like: what it returns.
        layout: what it is called with.
        compiled: the program.
        schedule: how many points at once.
    """

    hosted = False

    def __init__(
        self, name: str, like: PyTree, layout: Layout, compiled: _Compiled, schedule: Schedule
    ) -> None:
        self.name, self.like = name, like
        self.num_evaluations = self.num_batches = 0
        self._layout, self._compiled, self._schedule = layout, compiled, schedule
        self._kept: KeptRows | None = None
        self.width = max((getattr(box, "width", 1) for box in compiled.boxes), default=1)
        self.lossy = any(getattr(box, "lossy", False) for box in compiled.boxes)

    @classmethod
    def of(
        cls,
        fun: Callable[..., Any],
        layout: Layout,
        role: str,
        chunk_size: int | None,
        keeper: Keeper | None = None,
    ) -> Self | None:
        """The function at rows of numbers; None where JAX cannot trace it."""
        entry = entry_of(fun, layout.build(layout.given))
        subject = entry.subject
        x64, weak = _has_float64(), tuple(isinstance(leaf, float) for leaf in layout.given)
        key = ("rows", layout.tree, tuple(layout.shapes), layout.fixed, x64, weak)

        def of_leaves(leaves: Sequence[Any]) -> tuple[Any, Any]:
            # Not the function itself: what is kept with it would hold it.
            return subject.fun(layout.build(leaves)), None

        def make() -> _Compiled | None:
            # In float64 at first: else NumPy's numbers that the function reads would be rounded.
            # Where promotion is strict, that may not be allowed.
            for wide in (True,) if x64 else (True, False):
                try:
                    with in_precision(subject, wide), subject.tracing():
                        leaves = [jnp.asarray(leaf) for leaf in layout.given]
                        program = trace(of_leaves, leaves)
                        narrow = holds_float32(program.closed)
                except Exception:
                    # Whatever it is, the run on the host tells: there it raises its own.
                    continue
                return _Compiled(in_double(program) if narrow else program, wide or narrow)
            return None

        compiled = make() if layout.fixed is None else entry.get(key, make)
        if compiled is None:
            return None
        program = compiled.program
        like = jax.tree.unflatten(program.out_tree, program.out)
        name = str(getattr(fun, "__name__", type(fun).__name__))
        check_real_output(like, role, name)
        made = cls(name, like, layout, compiled, Schedule(chunk_size))
        if keeper is not None:
            made._keep(keeper)
        return made

    def _keep(self, keeper: Keeper) -> None:
        """Keeps finished batches, and takes what is kept."""
        start = self._layout.start
        with jax.enable_x64(self._compiled.wide or _has_float64()):
            leaves = [jnp.asarray(leaf) for leaf in self._layout.leaves(start)]
            closed = jax.make_jaxpr(self._compiled.program.call)(leaves)
            identity = identity_of(closed, leaves, self.name)
        self._kept = keeper.rows(identity)

    @property
    def eps(self) -> float:
        boxes = [getattr(box, "eps", 0.0) for box in self._compiled.boxes]
        dtypes = [leaf.dtype for leaf in jax.tree.leaves(self.like)]
        own = [float(finfo(d).eps) for d in dtypes if jnp.issubdtype(d, np.floating)]
        return max(_DOUBLE, self._compiled.program.eps, *boxes, *own)

    def __call__(self, points: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m k"]:
        rows = np.ascontiguousarray(points, np.float64)
        count = len(rows)
        self.num_evaluations += count
        self.num_batches += bool(count)
        if self._kept is not None:
            return self._kept(rows, self._chunks)
        return self._chunks(rows)

    def _chunks(self, rows: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m k"]:
        """As many at once as memory holds."""
        count = len(rows)
        most = self._schedule.small(count, self._compiled.program.largest) if count else 1
        parts = [self._run(rows[k : k + most]) for k in range(0, count, most)]
        found: np.ndarray = np.concatenate(parts)
        return found

    def _run(self, rows: Float[np.ndarray, "m n"]) -> Float[np.ndarray, "m k"]:
        """A batch that is filled up with its last point, so that few sizes are compiled."""
        compiled, count = self._compiled, len(rows)
        size = min((s for s in compiled.sizes if count <= s <= 2 * count), default=count)
        if compiled.boxes:  # whose runs are dearer than a compilation
            size = count
        compiled.sizes.add(size)
        rows = rows[np.minimum(np.arange(size), count - 1)]
        leaves = self._layout.leaves(rows)
        x64 = compiled.wide or _has_float64()
        with jax.enable_x64(x64), host_calls.own_errors():
            outputs = jax.device_get(compiled.run([jnp.asarray(leaf) for leaf in leaves]))
        found: np.ndarray = flatten(np, [np.asarray(o) for o in outputs], 1, np.float64)
        return found[:count]
