"""One call for a fit: the parameters for which residuals are least, with their errors.

It checks what it is given, lets searches run, and says how it went. It must not know how a search
finds its way.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import PyTree

from jaxfd._arrays import check_integer, check_number
from jaxfd._methods import Method
from jaxfd._runs import Tally, check_progress
from jaxfd._system import ctrl_c, host_calls
from jaxfd._transforms import schedule_of
from jaxfd.optim._fits.conversations import converse
from jaxfd.optim._fits.experiment import EndError, Experiment
from jaxfd.optim._fits.fit import Fit
from jaxfd.optim._fits.given_differences import stencil_of
from jaxfd.optim._fits.parameters import Parameters
from jaxfd.optim._fits.profile import Limits, no_limits, profiled
from jaxfd.optim._fits.search import Search
from jaxfd.optim._fits.starts import starts_of
from jaxfd.optim._fits.summary import summary
from jaxfd.optim._fits.weighing import Weighing
from jaxfd.optim._rows import Keeper, evaluator_of
from jaxfd.optim._status import Status

# Evaluations that a search may spend where nothing is said, in units of p + 1.
_PATIENCE = 1000


@ctrl_c.noticing()
@host_calls.own_errors()
def least_squares(
    residuals: Callable[[PyTree], PyTree],
    x0: PyTree,
    *,
    data: PyTree = None,
    sigma: Any = None,
    absolute_sigma: bool = False,
    bounds: tuple[PyTree, PyTree] | None = None,
    free: Any = None,
    transform: Any = None,
    loss: str | Callable[[Any], Any] = "linear",
    f_scale: float = 1.0,
    x_scale: Any = "jac",
    method: Method | None = None,
    starts: int | Sequence[PyTree] | None = None,
    key: Any = None,
    profile: bool = False,
    tol: float = 1e-12,
    max_evaluations: int | None = None,
    callback: Callable[[Fit], Any] | None = None,
    progress: bool | Callable[[Any], Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    chunk_size: int | None = None,
) -> Fit:
    """Fits parameters: the least sum of squared residuals, with standard errors.

    A trust-region method for functions that can only be evaluated. It spends little: a Jacobian by
    differences costs a run for each parameter, in one batch; between Jacobians a model of every
    residual learns its slopes and curvature from the points that steps lead to. Where an executor
    or ``vectorized=True`` offers width, steps of several lengths and the next Jacobian share a
    batch. Noise is noticed, and steps, tolerances and acceptance are made to suit it. The last
    Jacobian is one of central differences.

    Everything runs on the host in float64, whatever JAX computes in: a `jaxfd.blackbox` with its
    executor, journal and failures (``on_error="nan"``), or a plain NumPy function, without any
    compilation, and exceptions come out as they are. A function that JAX traces is compiled once,
    and computes in float64 too, with the digits of the boxes inside.

    Args:
        residuals: a function of one pytree that returns an array of residuals or a pytree of them,
            real numbers, at least as many as parameters are fitted. With ``data`` it is a model.
        x0: the start, a pytree of floats. Leaves that are no floats are handed on as they are.
        data: what the function shall return, of that very shape, none of it masked: residuals are
            the function less the data.
        sigma: standard deviations of the residuals, one or each; or their covariance, shape
            ``(m, m)``, in the order of ``jax.tree.leaves``.
        absolute_sigma: whether ``sigma`` is in the residuals' units; else only ratios count, and
            the scatter is taken from the residuals, as in `scipy.optimize.curve_fit`.
        bounds: a pair ``(lower, upper)`` of numbers or pytrees like ``x0``, or dicts of some of its
            keys or fields: nothing is evaluated outside.
        free: what is fitted: a pytree of bools like ``x0``, or a list of names as results print
            them, ``["spring.k", "x[0]"]``. The others stay.
        transform: ``{"k": "log"}``, by keys or fields: the logarithm of such entries is fitted,
            which stay positive. Bounds, results and errors are in the numbers themselves.
        loss: ``"linear"``, ``"soft_l1"``, ``"huber"``, ``"cauchy"``, ``"arctan"``, or a function
            as `scipy.optimize.least_squares` takes it.
        f_scale: from where on residuals are outliers, in units of ``sigma``.
        x_scale: the sizes of the parameters, a pytree like ``x0``; ``"jac"`` takes units from the
            Jacobian, so that results do not depend on them.
        method: how Jacobians are estimated: `Forward`, `Backward` or `Central`, used as it is. None
            for steps on each parameter's own scale that suit the noise.
        starts: how many starts there are, the first of them ``x0``, the others drawn by ``key``
            (within bounds, else around ``x0``); or a sequence of further starts.
        key: a PRNG key or an integer, for ``starts``.
        profile: whether to find 95 % limits of each parameter by fitting the others for it fixed.
        tol: ends where no step promises to lower the sum of squares by more than this share of it.
        max_evaluations: ends once there were so many.
        callback: a function of the `Fit` so far, called after every step; what it returns ends the
            fit if it is true.
        progress: as for `jaxfd.blackbox`; it counts evaluations, of which there are at most
            ``max_evaluations``, and tells the lowest cost, steps and batches.
        checkpoint: a folder, where every point is kept as soon as it is finished. Called again, the
            fit goes the same way to the same end bit for bit, and evaluates none of them again.
        chunk_size: as for `jaxfd.grad`.

    Returns:
        A `Fit`. Ctrl-C ends it with the best by then; before the residuals at ``x0`` are known it
        raises KeyboardInterrupt.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import numpy as np, jaxfd
        >>> t = np.linspace(0.0, 4.0, 20)
        >>> y = 3.0 * np.exp(-0.5 * t) + 0.01 * np.cos(40 * t)
        >>> def model(p):
        ...     return p["a"] * np.exp(-p["k"] * t)
        >>> fit = jaxfd.optim.least_squares(model, {"a": 1.0, "k": 1.0}, data=y)
        >>> print(fit.converged, f"{fit.x['k']:.3f} +- {fit.standard_errors['k']:.3f}")
        True 0.501 +- 0.001

    Reference:
        J. Moré, "The Levenberg-Marquardt algorithm: implementation and theory", Lecture Notes in
        Mathematics 630 (1978) 105-116; S. Wild, "Solving derivative-free nonlinear least squares
        problems with POUNDERS" (2017), for models that learn.
    """
    presses = ctrl_c.noticed()
    _check(absolute_sigma, sigma, profile, tol, max_evaluations, callback)
    check_progress(progress)
    schedule_of(chunk_size)
    parameters = Parameters(x0, bounds, free, transform, x_scale)
    beginnings = starts_of(parameters, starts, key)
    keeper = None if checkpoint is None else Keeper(checkpoint)
    evaluator = evaluator_of(residuals, parameters.layout, "residuals", chunk_size, keeper)
    weighing = Weighing(evaluator.like, data, sigma, loss, f_scale)
    p, m = len(parameters.names), weighing.count
    if m < p:
        raise ValueError(
            f"residuals returns {m} numbers for {p} parameters, which is too few to tell them "
            "apart: give more data, or let fewer be free."
        )
    most = max_evaluations or _PATIENCE * (p + 1) * len(beginnings)
    stencil = stencil_of(method, parameters, evaluator.eps)
    tally = Tally(progress, evaluator.name, most, unit="evaluation")
    experiment = Experiment(
        evaluator, parameters, weighing, most, tally, lambda: ctrl_c.noticed() > presses
    )
    searches = [
        Search(
            u,
            parameters.lower,
            parameters.upper,
            parameters.size,
            parameters.usual,
            np.where(parameters.log[parameters.free], 1.0, 0.0),
            scale=parameters.scale,
            tol=float(tol),
            width=max(1, evaluator.width // len(beginnings)),
            eps=lambda: evaluator.eps,
            coarse=experiment.coarse,
            stencil=stencil,
        )
        for u in beginnings
    ]

    def so_far(limits: Limits | None = None) -> Fit:
        return summary(searches, experiment, absolute_sigma, data, limits)

    def told(search: Search) -> None:
        del search
        experiment.steps += 1
        experiment.forget([point for each in searches for point in each.kept])
        if callback is not None and callback(so_far()):
            raise EndError(Status.INTERRUPTED, "the callback asked for the end")

    for search in searches:
        search.on_step = told
    limits, cut = None, ""
    try:
        converse([search.run() for search in searches], experiment)
        if profile:
            limits = profiled(searches, experiment, absolute_sigma)
    except EndError as end:
        cut = end.message
        _close(searches, end.status, cut)
    except KeyboardInterrupt:
        if all(search.model is None for search in searches):
            raise
        cut = "interrupted"
        _close(searches, Status.INTERRUPTED, cut)
    finally:
        tally.close()
    if searches[0].model is None and len(searches) == 1:
        raise _at_the_start(searches[0], experiment)
    if all(search.model is None for search in searches):
        raise ValueError("starts: residuals are not finite at any of them: choose others.")
    if profile and limits is None:
        limits = no_limits(p, cut)
    return so_far(limits)


def _close(searches: Sequence[Search], status: Status, message: str) -> None:
    for search in searches:
        if search.status is None:
            search.end(status, message)


def _at_the_start(search: Search, experiment: Experiment) -> Exception:
    """What to raise where nothing is known at the start."""
    if search.status is not Status.FAILED:
        return ValueError(f"max_evaluations: {search.message}.")
    return ValueError(
        f"residuals: {experiment.evaluator.name} is not finite at x0: choose another x0, or leave "
        "out what is NaN there."
    )


def _check(
    absolute_sigma: Any, sigma: Any, profile: Any, tol: Any, max_evaluations: Any, callback: Any
) -> None:
    """Raises TypeError or ValueError for options that no function could make right."""
    for name, value in (("absolute_sigma", absolute_sigma), ("profile", profile)):
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name} must be True or False, got {value!r}.")
    if absolute_sigma and sigma is None:
        raise ValueError("absolute_sigma=True needs sigma: give the errors of the residuals.")
    check_number(tol, "tol")
    if not (tol >= 0 and math.isfinite(tol)):
        raise ValueError(f"tol must be 0 or more and finite, got {tol}.")
    if max_evaluations is not None:
        check_integer(max_evaluations, "max_evaluations", numpy=True)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be a function of a Fit, got {callback!r}.")
