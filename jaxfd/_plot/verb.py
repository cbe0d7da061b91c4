"""The verb, and which picture is drawn of which result.

Must not know how any of them is drawn.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxfd._plot.fit import FitLike, curves, fit
from jaxfd._plot.history import histories, history
from jaxfd._plot.rows import check, gradient, tornado
from jaxfd._plot.steps import steps
from jaxfd._reports import GradCheck, Sensitivity, StepSweep
from jaxfd._transforms import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _HEIGHT, _PER_ROW, _TALLEST = 6.6, 4.2, 0.24, 8.0


@functools.singledispatch
def _draw(result: Any, ax: Axes) -> int | None:
    """Draws a result on axes; returns the number of its rows if it has such."""
    raise TypeError(
        f"plot cannot draw a {type(result).__name__}: give it what step_sweep, estimate, "
        "check_grads or sensitivity returned, numbers in a row, or a dict of such."
    )


_draw.register(StepSweep, steps)
_draw.register(Estimate, gradient)
_draw.register(GradCheck, check)
_draw.register(Sensitivity, tornado)
_HISTORIES = (Mapping, np.ndarray, jax.Array, list, tuple)


def plot(
    result: Any,
    ax: Axes | None = None,
    *,
    best: float | None = None,
    title: str | None = None,
) -> Axes:
    """Draws a result of this library.

    What `step_sweep` returned becomes error against step, both logarithmic, for the six worst
    entries, with the two branches, the default step and the best one; of `estimate` the entries
    of the gradient with their error bounds; of `check_grads` what claimed and estimated gradient
    differ by beside what they may; of `sensitivity` a tornado chart. Numbers in a row are a
    history, say the loss at each iteration, and a dict of such one line for each; what
    `jaxfd.optim.minimize` returned is drawn as its history. A `jaxfd.optim.Fit` becomes four
    pictures: data and model, where ``data`` was given, residuals, correlations, and the cost step
    by step; on axes of your own the first of them alone.

    Args:
        result: what one of these functions returned, or numbers of shape ``(iterations,)``, or a
            dict of such.
        ax: the matplotlib axes to draw on; None makes a figure with pyplot.
        best: for histories, the lowest value known: what is drawn is the distance from it.
        title: what stands above, the function and the method say; None for what the picture says
            of itself. The colours suit light and dark styles, and the colour-blind.

    Returns:
        The axes. ``ax.figure.savefig(path)`` saves the picture.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: there is no picture of such a thing.
        ValueError: there is nothing to draw, or a value lies below ``best``.

    Example:
        >>> import jax.numpy as jnp, matplotlib, jaxfd
        >>> matplotlib.use("Agg")
        >>> ax = jaxfd.plot(jaxfd.step_sweep(jnp.sin, 1.0, exact=jnp.cos(1.0)))
        >>> print(ax.get_xscale(), ax.get_yscale())
        log log
        >>> matplotlib.pyplot.close(ax.figure)
    """
    try:
        from matplotlib import pyplot
        from matplotlib.axes import Axes
    except ImportError as error:
        raise ImportError("plot needs matplotlib: pip install 'jaxfd[plot]'.") from error
    if ax is not None and not isinstance(ax, Axes):
        raise TypeError(
            f"ax must be matplotlib axes or None, got {type(ax).__name__}: pass one of those that "
            "pyplot.subplots returns."
        )
    if isinstance(result, FitLike):
        return _fit(result, ax, best, title)
    # What `jaxfd.optim.minimize` returned; this room does not import optax.
    result = getattr(result, "history", result)
    draw: Callable[..., int | None] = _draw
    if isinstance(result, _HISTORIES):
        draw = functools.partial(histories if isinstance(result, Mapping) else history, best=best)
    elif best is not None:
        raise TypeError(f"best is for histories, not for a {type(result).__name__}: leave it out.")
    if ax is not None:
        draw(result, ax)
        _name(ax, title)
        return ax
    figure = pyplot.figure(layout="constrained")
    try:
        ax = figure.add_subplot()
        rows = draw(result, ax)
        _name(ax, title)
    except BaseException:
        pyplot.close(figure)
        raise
    height = _HEIGHT if rows is None else min(max(2.4, 1.6 + _PER_ROW * rows), _TALLEST)
    figure.set_size_inches(_WIDTH, height)
    return ax


def _name(ax: Axes, title: str | None) -> None:
    """Puts a title above, and what the picture says of itself beneath it."""
    if title is not None:
        own = ax.get_title()
        above = ax.get_legend() is not None and not own
        ax.set_title(f"{title}\n{own}" if own else title, size="medium", pad=24 if above else None)


def _fit(result: FitLike, ax: Axes | None, best: float | None, title: str | None) -> Axes:
    """Draws a fit: all its pictures, or on given axes the first."""
    from matplotlib import pyplot

    if best is not None:
        raise TypeError(f"best is for histories, not for a {type(result).__name__}: leave it out.")
    if ax is not None:
        curves(result, ax)
        _name(ax, title)
        return ax
    figure = pyplot.figure(layout="constrained")
    try:
        if title is not None:
            figure.suptitle(title, size="medium")
        return fit(result, figure)
    except BaseException:
        pyplot.close(figure)
        raise
