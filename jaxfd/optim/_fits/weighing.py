"""What is squared and summed: residuals divided by their errors, and bent by a robust loss.

A robust loss is a least-squares problem of other residuals, ``sign(f) C sqrt(rho((f/C)^2))``; so a
search needs to know of none. This room must not know where residuals come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from jax import tree_util
from jaxtyping import Float, PyTree

from jaxfd._arrays import check_positive
from jaxfd.optim._rows import real_array, spread

Rows = Float[np.ndarray, "*k m"]

# ``rho(z)`` of `scipy.optimize.least_squares`, with ``z = (f / C)^2``.
_LOSSES: dict[str, Callable[[Any], Any]] = {
    "soft_l1": lambda z: 2 * z / (np.sqrt(1 + z) + 1),  # as 2 (sqrt(1 + z) - 1), for any z
    "huber": lambda z: np.where(z <= 1, z, 2 * np.sqrt(z) - 1),
    "cauchy": np.log1p,
    "arctan": np.arctan,
}


# A user's loss is made of its slope below this.
_SMALL = 1e-5


class Weighing:
    """How residuals count.

    Args:
        like: what the function returns, a pytree of shapes.
        data: what is subtracted from it, if anything.
        sigma: standard deviations of the residuals, or their covariance, in the order of their
            leaves; None for ones.
        loss: the robust loss.
        f_scale: where residuals begin to be outliers.

    Attributes:
        robust: whether the loss is not that of least squares.
        known: whether errors of the residuals were given.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.
    """

    def __init__(self, like: PyTree, data: Any, sigma: Any, loss: Any, f_scale: Any) -> None:
        self.like = like
        self._leaves, self._tree = tree_util.tree_flatten(like)
        self._shapes = [tuple(leaf.shape) for leaf in self._leaves]
        self.count = sum(map(math.prod, self._shapes))
        self.data = None if data is None else self._data(data)
        self.known = sigma is not None
        self._sigma: Float[np.ndarray, "m"] | None = None
        self._root: Float[np.ndarray, "m m"] | None = None
        if sigma is not None:
            self._errors(sigma)
        named = isinstance(loss, str) and (loss == "linear" or loss in _LOSSES)
        if not (callable(loss) or named):
            raise ValueError(
                f"loss must be 'linear', {', '.join(map(repr, _LOSSES))} or a function, got "
                f"{loss!r}."
            )
        check_positive(f_scale, "f_scale")
        if np.ndim(f_scale):
            raise ValueError(
                f"f_scale must be one number, got the shape {np.shape(f_scale)}: give residuals "
                "errors of their own by sigma."
            )
        self.robust = not named or loss != "linear"
        self._scale = float(f_scale)
        own = _rho_of(loss) if callable(loss) else None
        self._rho = own or _LOSSES.get(loss if isinstance(loss, str) else "")

    def _row(self, spec: Any, what: str, exact: bool = False) -> Float[np.ndarray, "m"]:
        """One number for each residual."""
        if exact and len(self._shapes) > 1 and tree_util.all_leaves([spec]):
            raise ValueError(
                f"{what} is one array, but residuals returns {self._tree}: give a tree like that."
            )
        leaves = spread(spec, self.like, np.nan, what, whose="residuals")
        parts = []
        for value, shape in zip(leaves, self._shapes, strict=True):
            array = real_array(value, what)
            if array.shape not in (shape, *(() if exact else ((),))):
                give = (
                    "an array of that shape" if exact else "one number, or an array of that shape"
                )
                raise ValueError(
                    f"{what} has the shape {array.shape} for residuals of shape {shape}: give "
                    f"{give}."
                )
            parts.append(np.broadcast_to(array, shape).reshape(-1))
        return np.concatenate(parts)

    def _data(self, data: Any) -> Float[np.ndarray, "m"]:
        row = self._row(data, "data", exact=True)
        if not np.isfinite(row).all():
            raise ValueError(
                "data must be finite: leave missing values out of data and model alike."
            )
        return row

    def _errors(self, sigma: Any) -> None:
        m = self.count
        if _is_array(sigma, (m, m)) and (m, m) not in self._shapes:
            matrix = real_array(sigma, "sigma")
            try:
                far = 1e-8 * float(np.max(np.abs(matrix), initial=0.0))
                if not np.allclose(matrix, matrix.T, rtol=1e-5, atol=far):
                    raise np.linalg.LinAlgError
                self._root = np.linalg.cholesky(matrix)
            except np.linalg.LinAlgError:
                raise ValueError(
                    "sigma is a matrix, but no covariance: it must be symmetric and positive "
                    "definite."
                ) from None
            return
        row = self._row(sigma, "sigma")
        if not (np.isfinite(row) & (row > 0)).all():
            raise ValueError(
                f"sigma must be positive and finite, got {row[~(row > 0) | ~np.isfinite(row)][0]}: "
                "leave out what has no error of its own, or give it one."
            )
        self._sigma = row

    def residuals(self, values: Rows) -> Rows:
        """What is left of what the function returned: the data subtracted."""
        found: np.ndarray = values if self.data is None else values - self.data
        return found

    def __call__(self, values: Rows) -> Rows:
        """What is squared and summed, from what the function returned."""
        f = self.weighted(values)
        if self._rho is None:
            return f
        c = self._scale
        with np.errstate(all="ignore"):
            root: np.ndarray = np.sign(f) * c * np.sqrt(self._rho((f / c) ** 2))
        return root

    def weighted(self, values: Rows) -> Rows:
        """Residuals in units of their errors."""
        f = self.residuals(values)
        if self._sigma is not None:
            f = f / self._sigma
        if self._root is None:
            return f
        flat = f.reshape(-1, self.count).T
        solved = np.full(flat.shape, np.nan)
        good = np.isfinite(flat).all(0)
        solved[:, good] = np.linalg.solve(self._root, flat[:, good])
        found: np.ndarray = solved.T.reshape(f.shape)
        return found

    def unweighted(
        self, slopes: Float[np.ndarray, "m p"], values: Float[np.ndarray, "m"]
    ) -> Float[np.ndarray, "m p"]:
        """Slopes of the residuals themselves, from slopes of what is squared."""
        if self._rho is not None:
            f = self.weighted(values)
            h = 1e-6 * np.maximum(np.abs(f), self._scale)
            c = self._scale

            def bent(f: Any) -> Any:
                return np.sign(f) * c * np.sqrt(self._rho((f / c) ** 2))  # type: ignore[misc]

            slopes = slopes / ((bent(f + h) - bent(f - h)) / (2 * h))[:, None]
        if self._sigma is not None:
            slopes = slopes * self._sigma[:, None]
        found: np.ndarray = slopes if self._root is None else self._root @ slopes
        return found

    def tree(self, row: Float[np.ndarray, "m"]) -> PyTree:
        """A row of residuals as the function returns them."""
        parts, start = [], 0
        for shape in self._shapes:
            stop = start + math.prod(shape)
            parts.append(row[start:stop].reshape(shape))
            start = stop
        return tree_util.tree_unflatten(self._tree, parts)


def _is_array(value: Any, shape: tuple[int, ...]) -> bool:
    try:
        return bool(np.shape(value) == shape)
    except ValueError:  # lists of several lengths
        return False


def _rho_of(loss: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The user's ``rho``, without the rounding that most formulas for it have near 0."""

    def rows(z: Any) -> Any:
        found = np.asarray(loss(z), float)
        if found.shape != (3, *np.shape(z)):
            raise ValueError(
                f"loss returned the shape {found.shape} for {np.shape(z)} numbers: it must return "
                "rho(z) and its first and second derivative as three rows, as in "
                "scipy.optimize.least_squares."
            )
        return found

    def of_point(z: Any) -> Any:
        value = rows(z)[0]
        small = z < _SMALL
        if small.any():
            # As scipy, which asks the slopes alone: z times the slope half-way, exact to z^2 / 24.
            value = np.where(small, z * rows(z / 2)[1], value)
        return value

    def rho(z: Any) -> Any:
        points = np.asarray(z, float).reshape(-1, np.shape(z)[-1])
        return np.array([of_point(point) for point in points]).reshape(np.shape(z))

    return rho
