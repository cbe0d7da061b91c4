"""Parameters as their user has them, and as a search has them: free ones in a row, perhaps as logs.

It exists so that bounds, starts and results stay in the user's numbers while a search moves others.
It must not know what is fitted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jax import tree_util
from jaxtyping import Bool, Float, PyTree

from jaxfd.optim._rows import Layout, fitted, pair_of, spread

Row = Float[np.ndarray, "n"]


class Parameters:
    """What is fitted, of a pytree of parameters.

    Args:
        x0: the start.
        bounds: a pair of lower and upper walls.
        free: which entries are fitted; None for all.
        transform: ``"log"`` for entries that are fitted as logarithms.
        x_scale: the size of entries; ``"jac"`` to take it from the Jacobian.

    Attributes:
        layout: the pytree as a row.
        free: which entries of the row are fitted.
        names: the names of those.
        lower: their walls in the search's numbers.
        upper: the same above.
        size: how large they are at the start, in the search's numbers.
        usual: how large those of 0 are taken to be.
        scale: fixed units, if there are.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.
    """

    def __init__(
        self,
        x0: PyTree,
        bounds: Any = None,
        free: Any = None,
        transform: Any = None,
        x_scale: Any = "jac",
    ) -> None:
        self.x0 = x0
        layout = self.layout = Layout(x0)
        start, n = layout.start, len(layout.start)
        if not n:
            raise TypeError(
                "x0 holds no floating numbers, so there is nothing to fit: give floats (2.0 in "
                "place of 2), or a pytree with some."
            )
        self._every = layout.names
        if not np.isfinite(start).all():
            bad = self._every[int(np.flatnonzero(~np.isfinite(start))[0])]
            raise ValueError(f"x0 must be finite, but {bad} is not: give another start.")
        self.free: Bool[np.ndarray, "n"] = self._free_of(free)
        self.log = np.zeros(n, bool) if transform is None else self._logs(transform)
        self._logged = bool(self.log.any())
        self._walls(bounds)
        self.names = [name for name, f in zip(self._every, self.free, strict=True) if f]
        self.scale: Row | None = None
        walled = np.isfinite(self.user_lower).any() or np.isfinite(self.user_upper).any()
        self._plain = bool(self.free.all()) and not (self._logged or walled)
        self.size = self._sizes(x_scale)

    def _rows(self, spec: Any, default: Any, what: str, partial: bool, kind: Any = float) -> Any:
        """One value for each entry of the row."""
        if spec is None:
            return np.full(len(self.layout.start), default, kind)
        values = spread(spec, self.x0, default, what, partial)
        parts = []
        for i, shape in zip(self.layout.moving, self.layout.shapes, strict=True):
            whole = fitted(values[i], shape, what, default, kind=kind)
            parts.append(whole.reshape(-1))
        return np.concatenate(parts)

    def values(self, spec: Any, default: float, what: str) -> Row:
        """Numbers for all entries of the row, from a tree like the start, or one for all."""
        found: np.ndarray = self._rows(spec, default, what, partial=True)
        return found

    def _logs(self, transform: Any) -> Bool[np.ndarray, "n"]:
        """Which entries are fitted as logarithms."""
        asked = self._rows(transform, None, "transform", partial=True, kind=object)
        wrong = [t for t in asked if t is not None and t != "log"]
        if wrong:
            raise ValueError(f"transform must be 'log' or None for each entry, got {wrong[0]!r}.")
        logs: np.ndarray = np.array([t == "log" for t in asked], bool) & self.free
        start = self.layout.start
        low = (start <= 0) & logs
        if low.any():
            k = int(np.flatnonzero(low)[0])
            raise ValueError(
                f"transform: {self._every[k]} is fitted as a logarithm, but starts at "
                f"{start[k]:g}: give a positive start, or leave its transform out."
            )
        return logs

    def _free_of(self, free: Any) -> Bool[np.ndarray, "n"]:
        if isinstance(free, (set, frozenset)) or (
            isinstance(free, (list, tuple)) and all(isinstance(f, str) for f in free)
        ):
            found = np.zeros(len(self._every), bool)
            for name in free:
                own = [k for k, e in enumerate(self._every) if e == name or _within(e, str(name))]
                if not own:
                    raise ValueError(
                        f"free names {name!r}, which is no parameter: choose from "
                        f"{', '.join(self._every[:20])}."
                    )
                found[own] = True
            return self._some(found)
        if free is None:
            return np.ones(len(self._every), bool)
        flags = self._rows(free, True, "free", partial=False, kind=object)
        if not all(isinstance(f, (bool, np.bool_)) for f in flags):
            bad = next(f for f in flags if not isinstance(f, (bool, np.bool_)))
            raise TypeError(
                f"free must be True or False for each entry, got {bad!r}: give a tree like x0 of "
                "these, or a list of names."
            )
        return self._some(flags.astype(bool))

    @staticmethod
    def _some(free: Bool[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        if not free.any():
            raise ValueError("free leaves nothing to fit: let an entry be True, or name one.")
        return free

    def _walls(self, bounds: Any) -> None:
        start = self.layout.start
        if bounds is None:
            self.user_lower, self.user_upper = np.full((2, len(start)), [[-np.inf], [np.inf]])
            self.lower, self.upper = self.user_lower[self.free], self.user_upper[self.free]
            return
        lower, upper = pair_of(bounds)
        low = self._rows(lower, -np.inf, "bounds[0]", partial=True)
        high = self._rows(upper, np.inf, "bounds[1]", partial=True)
        for wrong, why in (
            (np.isnan(low) | np.isnan(high), "hold nan: use -inf, inf or None"),
            (low > high, "are crossed: swap them"),
            ((low == high) & self.free, "leave no room: take it out of free"),
        ):
            if wrong.any():
                k = int(np.flatnonzero(wrong)[0])
                raise ValueError(f"bounds of {self._every[k]}, {low[k]:g} and {high[k]:g}, {why}.")
        outside = ((start < low) | (start > high)) & self.free
        if outside.any():
            k = int(np.flatnonzero(outside)[0])
            raise ValueError(
                f"x0 lies outside bounds: {self._every[k]} is {start[k]:g}, not between "
                f"{low[k]:g} and {high[k]:g}: move it into the box, or widen that."
            )
        self.user_lower, self.user_upper = low, high
        logs = self.log[self.free]
        self.lower = _log(low[self.free], logs)
        self.upper = _log(high[self.free], logs)

    def _sizes(self, x_scale: Any) -> Row:
        u, logs = self.start, self.log[self.free]
        width = self.upper - self.lower
        size = np.where(np.isfinite(width) & (width > 0), 0.1 * width, 1.0)
        self.usual: Row = np.where(logs, 1.0, size)
        size = np.where(logs, 1.0, np.where(u != 0, np.abs(u), size))
        if isinstance(x_scale, str):
            if x_scale != "jac":
                raise ValueError(f"x_scale must be 'jac' or sizes of entries, got {x_scale!r}.")
            return size
        given = self._rows(x_scale, np.nan, "x_scale", partial=True)[self.free]
        if np.any(given <= 0) or np.any(np.isinf(given)):
            raise ValueError(f"x_scale must be positive and finite, got {given}.")
        x = self.layout.start[self.free]
        given = np.where(logs, given / np.abs(np.where(x == 0, 1, x)), given)
        self.scale = np.where(np.isnan(given), size, given)
        return self.scale

    @property
    def start(self) -> Row:
        """The start in the search's numbers."""
        return self.inward(self.layout.start)

    def inward(self, row: Float[np.ndarray, "*k n"]) -> Float[np.ndarray, "*k p"]:
        """The free entries of rows, in the search's numbers."""
        part: np.ndarray = row[..., self.free]
        return _log(part, self.log[self.free]) if self._logged else part

    def outward(self, u: Float[np.ndarray, "*k p"]) -> Float[np.ndarray, "*k n"]:
        """Whole rows in the user's numbers."""
        if self._plain:
            return u
        rows: np.ndarray = np.broadcast_to(
            self.layout.start, (*u.shape[:-1], len(self.layout.start))
        ).copy()
        with np.errstate(over="ignore"):
            rows[..., self.free] = np.where(
                self.log[self.free], np.exp(np.where(self.log[self.free], u, 0.0)), u
            )
        # Where a logarithm rounds, a wall stays a wall.
        result: np.ndarray = np.where(
            self.free, np.clip(rows, self.user_lower, self.user_upper), rows
        )
        return result

    def slope(self, u: Row) -> Row:
        """How fast the user's numbers change with the search's."""
        logs = self.log[self.free]
        if not self._logged:
            return np.ones(len(u))
        found: np.ndarray = np.where(logs, np.exp(np.where(logs, u, 0.0)), 1.0)
        return found

    def tree(self, row: Row) -> PyTree:
        """A row as a pytree like the start, of NumPy's float64."""
        return self.layout.build([_plain(leaf) for leaf in self.layout.leaves(row)])

    def errors(self, values: Row) -> PyTree:
        """Errors of the free entries as a pytree like the start: 0 for all that is not free."""
        row = np.zeros(len(self.layout.start))
        row[self.free] = values
        return self.layout.zeros([_plain(leaf) for leaf in self.layout.leaves(row)])

    def start_of(self, x: PyTree, number: int) -> Row:
        """Another start, as the search has it.

        Raises:
            ValueError: it has another structure or lies outside.
        """
        own: Any = tree_util.tree_structure(x)
        if own != self.layout.tree:
            raise ValueError(
                f"starts[{number}] has the structure {tree_util.tree_structure(x)}, but x0 has "
                f"{self.layout.tree}: give trees like x0."
            )
        leaves = tree_util.tree_leaves(x)
        shapes = [np.shape(leaves[i]) for i in self.layout.moving]
        if shapes != self.layout.shapes:
            raise ValueError(
                f"starts[{number}] has leaves of shapes {shapes}, but x0 has "
                f"{self.layout.shapes}: give trees like x0."
            )
        row = self.layout.row(x, f"starts[{number}]")
        good = np.isfinite(row) & (row >= self.user_lower) & (row <= self.user_upper)
        bad = ~(good & ((row > 0) | ~self.log)) & self.free
        if bad.any():
            k = int(np.flatnonzero(bad)[0])
            raise ValueError(
                f"starts[{number}]: {self._every[k]} is {row[k]:g}, not between "
                f"{self.user_lower[k]:g} and {self.user_upper[k]:g}, or not positive where its "
                "logarithm is fitted: move it into the box."
            )
        return self.inward(row)


def _within(entry: str, name: str) -> bool:
    return entry.startswith((f"{name}[", f"{name}."))


def _log(row: Float[np.ndarray, "*k p"], logs: Bool[np.ndarray, "p"]) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(logs, np.log(np.maximum(row, 0)), row)


def _plain(leaf: np.ndarray) -> Any:
    """A number as a number."""
    return float(leaf) if leaf.shape == () else leaf
