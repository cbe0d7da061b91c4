"""The pictures of a fit: data and model, residuals, correlations, convergence.

A fit is drawn by what it holds, for the room that makes fits lies above this one. This room must
not know how they are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jax import tree_util
from jaxtyping import Float, PyTree

from jaxfd._arrays import leaf_name
from jaxfd._plot.style import BLUE, GREY, RED, ROWS, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# More leaves than this are not told apart by colour.
_LEAVES = 6


@runtime_checkable
class FitLike(Protocol):
    """What is drawn of a fit; see `jaxfd.optim.Fit`."""

    residuals: PyTree
    data: PyTree
    names: tuple[str, ...]
    history: Float[np.ndarray, "steps"]

    @property
    def correlations(self) -> Float[np.ndarray, "p p"]: ...


def fit(result: FitLike, figure: Figure) -> Axes:
    """Draws all pictures of a fit on a figure; returns the axes of the first."""
    grid = figure.subplots(2, 2)
    figure.set_size_inches(10, 7.5)
    curves(result, grid[0, 0])
    _residuals(result, grid[0, 1])
    _correlations(result, grid[1, 0])
    _convergence(result, grid[1, 1])
    first: Axes = grid[0, 0]
    return first


def curves(result: FitLike, ax: Axes) -> None:
    """Draws data against model, where the data are known; else the residuals."""
    if result.data is None:
        _residuals(result, ax)
        return
    leaves = tree_util.tree_leaves(result.residuals)
    parts = [np.broadcast_to(d, np.shape(r)) for d, r in zip(_like(result), leaves, strict=True)]
    for number, (name, data, rest) in enumerate(zip(_names(result), parts, leaves, strict=True)):
        for own, model, label in _columns(name, data, data + rest):
            colour = f"C{number % 10}" if len(parts) > 1 else None
            (line,) = ax.plot(model, "-", color=colour, label=f"{label} model".strip())
            ax.plot(own, "o", ms=4, color=line.get_color(), label=f"{label} data".strip())
    ax.set(xlabel="entry", ylabel="value", title="data and model")
    _legend(ax)


def _residuals(result: FitLike, ax: Axes) -> None:
    ax.axhline(0, color=GREY, lw=0.8)
    leaves = tree_util.tree_leaves(result.residuals)
    for name, rest in zip(_names(result), leaves, strict=True):
        for own, _, label in _columns(name, np.asarray(rest), np.asarray(rest)):
            ax.plot(own, ".", ms=5, label=label)
    ax.set(xlabel="entry", ylabel="residual", title="residuals")
    _legend(ax)


def _correlations(result: FitLike, ax: Axes) -> None:
    table, p = result.correlations, len(result.names)
    image = ax.imshow(table, cmap="RdBu_r", vmin=-1, vmax=1)
    ax.figure.colorbar(image, ax=ax, shrink=0.8)
    names = [short(name) for name in result.names]
    if p <= ROWS:
        ax.set_xticks(range(p), names, rotation=45, ha="right")
        ax.set_yticks(range(p), names)
    ax.set_title("correlations")


def _convergence(result: FitLike, ax: Axes) -> None:
    history = np.asarray(result.history)
    ax.plot(history, ".-", color=BLUE)
    if history.size and history.min() > 0:
        ax.set_yscale("log")
    ax.axhline(history[-1], color=RED, lw=0.8, ls=":")
    ax.set(xlabel="step", ylabel="cost", title="convergence")


def _columns(
    name: str, first: np.ndarray, second: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Two arrays of one shape as rows to draw: one for each column of a table of few."""
    if first.ndim == 2 and first.shape[1] <= _LEAVES:
        pairs = zip(first.T, second.T, strict=True)
        return [(a, b, f"{name}[:,{k}]") for k, (a, b) in enumerate(pairs)]
    return [(first.reshape(-1), second.reshape(-1), name)]


def _names(result: FitLike) -> list[str]:
    paths, _ = tree_util.tree_flatten_with_path(result.residuals)
    return [leaf_name(path)[1:] if not path else leaf_name(path) for path, _ in paths]


def _like(result: FitLike) -> list[Any]:
    """The data, leaf by leaf as the residuals."""
    leaves = tree_util.tree_leaves(result.data)
    count = len(tree_util.tree_leaves(result.residuals))
    return leaves * count if len(leaves) == 1 else leaves


def _legend(ax: Axes) -> None:
    labels = ax.get_legend_handles_labels()[1]
    if any(labels) and len(labels) <= 2 * _LEAVES:
        ax.legend(frameon=False, fontsize="small")
