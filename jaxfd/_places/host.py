"""Evaluation on the host: points made in NumPy float64, given to a Python function.

The twin of the kernel's evaluation for what JAX cannot trace. Nothing here may
call JAX: these lines run inside a callback, where doing so can deadlock. Pytree
bookkeeping is the one exception, for it computes nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Shaped

from jaxfd._arrays import is_inexact
from jaxfd._places.hostfunction import Declaration, HostFunction, widen
from jaxfd._places.numbers import AtHand, joined
from jaxfd._places.place import Reduce
from jaxfd._places.schedule import Schedule
from jaxfd._places.sheet import Sheet
from jaxfd._points import Cloud, Coordinates
from jaxfd._runs import Evaluation, Points

# Positional and keyword arguments of a call.
Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class Calls(Protocol):
    """The arguments of calls, with other leaves in place of those that are moved."""

    def __call__(self, real: Sequence[Any], row: Any, /) -> Arguments:
        """The arguments of one call, its number among the ``B`` given; or of an array of them."""

    def each(self, real: Sequence[np.ndarray], rows: np.ndarray, /) -> Iterator[Arguments]:
        """The same for one after the other: leaves of shape ``(m, *shape)``, ``m`` numbers."""


class _HostPoints(Points):
    """A run of points, each belonging to a call.

    Args:
        host: the place.
        make: makes the points' leaves, arrays of their own of shape ``(m, *shape)``.
        rows: the call of each point.
    """

    def __init__(
        self, host: Host, make: Callable[[], Sequence[np.ndarray]], rows: np.ndarray
    ) -> None:
        self.count = len(rows)
        self.declared = host.declared.named
        self._host = host
        self._make = make
        self._leaves = make()
        self._rows = rows

    def call(self, which: Any) -> Arguments:
        return self._host.calls([leaf[which] for leaf in self._leaves], self._rows[which])

    def each(self) -> Iterator[Arguments]:
        return self._host.calls.each(self._leaves, self._rows)

    def renew(self) -> None:
        self._leaves = self._make()

    def sheet(self) -> Sheet:
        return Sheet(self._host.function, self._host.declared, self.count)

    def accept(self, value: Any, size: int | None) -> list[np.ndarray]:
        return self._host.function.accept(value, self._host.declared, size)

    def finish(self, outputs: list[np.ndarray], which: Any) -> list[np.ndarray]:
        return self._host.finish(self._host.function.widen(outputs), self._rows[which])


class Host(AtHand):
    """The place on the host where points are evaluated, for ``B`` calls at once.

    Args:
        function: the user's function.
        declared: what it returns.
        calls: the arguments of calls, with other leaves.
        size: the number ``B`` of calls.
        schedule: how many points a vectorised function is given at once.
        post: applied to the wanted outputs of a row or of rows.
    """

    rounded = True
    opaque = True

    def __init__(
        self,
        function: HostFunction,
        declared: Declaration,
        calls: Calls,
        size: int,
        schedule: Schedule,
        post: Callable[[list[Any], Any], list[Any]] | None = None,
    ) -> None:
        self.lead: tuple[int, ...] = (size,)
        self.lossy = function.runner.lossy
        self.function = function
        self.declared = declared
        self.calls = calls
        self._schedule = schedule
        self._post = post

    def eps(self, dtype: Any) -> float:
        """The relative spacing of the coarser of float64 and what the function returns."""
        del dtype
        return self.function.eps

    def compute_dtype(self, out: Any, x: Any) -> Any:
        """The dtype differences are formed in."""
        return out if out == x else np.promote_types(out, x)

    @staticmethod
    def complex(re: np.ndarray, im: np.ndarray) -> np.ndarray:
        """``re + i im``, without the NaN that an infinite part would make."""
        result = np.empty(np.broadcast_shapes(re.shape, im.shape), np.complex128)
        result.real, result.imag = re, im
        return result

    def finish(self, outputs: list[Any], row: Any) -> list[Any]:
        if self._post is None:
            return outputs
        return self._post(outputs[: self.declared.wanted], row) + outputs[self.declared.wanted :]

    def _run(self, leaves: Sequence[Any], rows: np.ndarray) -> list[np.ndarray]:
        """Runs points given whole: leaves of shape ``(m, *shape)``, outputs of ``(m, *out)``."""
        most = self._most(leaves)
        with Evaluation(self.function.runner, len(rows)) as evaluation:
            parts = []
            for k in range(0, len(rows), most):
                part = slice(k, k + most)
                make = functools.partial(_copies, leaves, part)
                parts.append(evaluation.run(_HostPoints(self, make, rows[part])))
        return joined(parts)

    def _most(self, leaves: Sequence[np.ndarray]) -> int:
        """How many points are made at once, and given to a vectorised function."""
        moved = sum(x.nbytes // max(1, x.shape[0]) for x in leaves)
        most = self._schedule.rows(moved + self.declared.point_bytes)
        return min(most, self.function.runner.pieces or most)

    def centre(self, leaves: Sequence[Any]) -> list[np.ndarray]:
        """All outputs, the auxiliary ones too, at ``x`` itself."""
        return self._run(leaves, np.arange(self.lead[0]))

    def line(
        self,
        x: Sequence[Any],
        points: Sequence[Shaped[np.ndarray, "k b ..."]],
        ride: bool,
    ) -> tuple[list[Any] | None, list[Shaped[np.ndarray, "k b ..."]]]:
        """Outputs at a few points given whole: leaves of shape ``(K, B, *shape)``."""
        if ride:
            points = [np.concatenate([z[None], p]) for z, p in zip(x, points, strict=True)]
        count, size = points[0].shape[:2]
        flat = [p.reshape(count * size, *p.shape[2:]) for p in points]
        found = self._run(flat, np.tile(np.arange(size), count))
        outputs = [o.reshape(count, size, *o.shape[1:]) for o in found]
        centre = [o[0] for o in outputs] if ride else None
        return centre, [o[int(ride) :] for o in outputs[: self.declared.wanted]]

    def scatter(
        self, cloud: Cloud, ride: bool
    ) -> tuple[list[Any] | None, list[Shaped[np.ndarray, "k b n *out"]]]:
        """Outputs at the points of a cloud, and at ``x`` where that is wanted (``ride``)."""
        centre, outputs = self.line(cloud.x, cloud.rows(), ride)
        shape = (len(cloud.signs), cloud.count, self.lead[0])
        samples = [o.reshape(*shape, *o.shape[2:]) for o in outputs]
        return centre, [np.moveaxis(o, 1, 2) for o in samples]

    def evaluate(
        self, moves: Coordinates, reduce: Reduce, centre: list[Any] | None, ride: bool
    ) -> tuple[list[Any] | None, Any]:
        """Runs all points as one batch; see `Place.evaluate`.

        Outputs are reduced at once: shape ``(K, B, count, *out)``.
        """
        nodes, count, size = moves.nodes, moves.count, self.lead[0]
        ride = ride and centre is None
        points = nodes * count + int(ride)
        found = self._points(moves, _ids(size, nodes, count, ride), every=True, ride=ride)
        outputs = [o.reshape(size, points, *o.shape[1:]) for o in found]
        if ride:
            centre = [o[:, 0] for o in outputs]
            outputs = [o[:, 1:] for o in outputs]
        elif centre is None and self.lossy and not all(np.isfinite(o).all() for o in outputs):
            # What lost one side is differenced with the centre.
            centre = self.centre(moves.x)
        return centre, self._reduced(reduce, centre, outputs, nodes, count)

    def _reduced(
        self, reduce: Reduce, centre: list[Any] | None, outputs: list[Any], nodes: int, count: int
    ) -> Any:
        """What becomes of outputs of shape ``(B, K * count, *out)``."""
        values = [
            o.reshape(len(o), nodes, count, *o.shape[2:]).swapaxes(0, 1)
            for o in outputs[: self.declared.wanted]
        ]
        return reduce(centre, values, slice(None))

    def evaluate_beside(
        self, moves: Coordinates, reduce: Reduce, beside: Sequence[Shaped[np.ndarray, "p b ..."]]
    ) -> tuple[list[Any], Any, list[Shaped[np.ndarray, "p b *out"]]]:
        """Runs all points, ``x`` and a few others as one batch; see `Place.evaluate_beside`."""
        nodes, count, size = moves.nodes, moves.count, self.lead[0]
        points = nodes * count + 1
        others = beside[0].shape[0] if beside else 0
        flat = [leaf.reshape(others * size, *leaf.shape[2:]) for leaf in beside]
        ids = _ids(size, nodes, count, True)
        found = self._points(moves, ids, every=True, ride=True, beside=flat)
        rows = size * points
        outputs = [o[:rows].reshape(size, points, *o.shape[1:]) for o in found]
        centre = [o[:, 0] for o in outputs]
        wanted = self.declared.wanted
        reduced = self._reduced(reduce, centre, [o[:, 1:] for o in outputs], nodes, count)
        return (
            centre,
            reduced,
            [o[rows:].reshape(others, size, *o.shape[1:]) for o in found[:wanted]],
        )

    def some(
        self, moves: Coordinates, wanted: Bool[np.ndarray, "b n"]
    ) -> list[Shaped[np.ndarray, "k b n *out"]]:
        """Outputs along those coordinates that are wanted, NaN along the others."""
        nodes = moves.nodes
        batch, directions = np.nonzero(wanted)
        ids = np.tile(batch, nodes), np.tile(directions, nodes), np.repeat(range(nodes), len(batch))
        results = []
        for output in self._points(moves, ids, every=False)[: self.declared.wanted]:
            shape = (nodes, *wanted.shape, *output.shape[1:])
            result = np.full(shape, np.nan if is_inexact(output) else 0, output.dtype)
            result[:, batch, directions] = output.reshape(nodes, len(batch), *output.shape[1:])
            results.append(result)
        return results

    def _points(
        self,
        moves: Coordinates,
        ids: tuple[np.ndarray, ...],
        every: bool,
        ride: bool = False,
        beside: Sequence[np.ndarray] = (),
    ) -> list[np.ndarray]:
        """Outputs of points, as many at once as memory or the user allows.

        Args:
            moves: the points.
            ids: for each point the call, the direction, and the node.
            every: whether these are all points of all calls, in order.
            ride: whether the centre is one of them.
            beside: the leaves of further points, given whole, that come last: as many for each
                call, shape ``(P * B, *shape)``.
        """
        batch, directions, nodes = ids
        most = self._most(moves.x)
        parts = []
        further = len(beside[0]) if beside else 0
        rest = np.tile(np.arange(self.lead[0]), further // self.lead[0])
        total = len(batch) + further
        with Evaluation(self.function.runner, total) as evaluation:
            if every and total <= most and not moves.entries and total:

                def whole() -> list[Any]:
                    leaves = moves.every_row(ride)
                    if not further:
                        return leaves
                    return [np.concatenate(pair) for pair in zip(leaves, beside, strict=True)]

                rows = np.concatenate([batch, rest]) if further else batch
                return evaluation.run(_HostPoints(self, whole, rows))
            for first in range(0, len(batch), most):
                part = slice(first, first + most)
                make = functools.partial(moves.rows, batch[part], directions[part], nodes[part])
                parts.append(evaluation.run(_HostPoints(self, make, batch[part])))
            for first in range(0, further, most):
                part = slice(first, first + most)
                make = functools.partial(_copies, beside, part)
                parts.append(evaluation.run(_HostPoints(self, make, rest[part])))
        if not parts:
            return [
                np.zeros((0, *o.shape), widen(np.zeros((), o.dtype)).dtype)
                for o in self.declared.leaves
            ]
        return joined(parts)


def _copies(leaves: Sequence[np.ndarray], part: slice) -> list[np.ndarray]:
    """Some points of their own: a function may write to what it is given."""
    return [np.array(leaf[part]) for leaf in leaves]


@functools.lru_cache(maxsize=16)
def _ids(size: int, nodes: int, count: int, ride: bool) -> tuple[np.ndarray, ...]:
    """For every point of every call: the call, the direction (-1 for the centre), the node."""
    directions = np.tile(np.arange(count), nodes)
    node = np.repeat(np.arange(nodes), count)
    if ride:
        directions, node = np.insert(directions, 0, -1), np.insert(node, 0, 0)
    batch = np.repeat(np.arange(size), len(directions))
    return batch, np.tile(directions, size), np.tile(node, size)
