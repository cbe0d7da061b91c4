"""How the error of a difference depends on its step: too long truncates, too short rounds.

A default step is a guess about the function; a sweep shows whether the guess was good. This room
must not know how the result is drawn, nor where the function is run.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxfd._arrays import Column, PyTree, bind, entry_names, realise, register, table
from jaxfd._estimate import program_of
from jaxfd._methods import Adaptive, Central, FiniteDifference, Method, Relative, Stencil
from jaxfd._reports.branches import Branches, branches
from jaxfd._reports.entries import flat, like, unflat
from jaxfd._reports.probe import check_output, concrete, eps_of, leaves_of
from jaxfd._transforms import estimate, grad, samples, schedule_of

_STEPS = 41
# The farthest point of the default sweep stays within this share of max(|x|, 1).
_REACH = 0.5
# The shortest step, as a power of the dtype's spacing: rounding leaves a quarter of the digits.
_SHORTEST = 0.75
# Below this share of the derivative a difference saw one stair: that is no rounding branch.
_MOVES = 0.1
_ROWS = 20
_Grid = Float[np.ndarray, "k n"]


@register
@dataclasses.dataclass(frozen=True)
class StepSweep:
    """Derivatives at many steps, and their errors. A pytree of NumPy arrays.

    Where a leaf of ``x`` has the shape ``shape``, the first three have leaves ``(K, *shape)``, all
    others ``shape``; in float64, but for the derivatives, which have the dtypes of ``x``.

    Attributes:
        steps: the K steps really made, in the units of ``x``.
        derivative: the derivative at each; NaN where the function is, or the step did not move.
        error: the distance from ``reference``.
        reference: what errors are measured against.
        uncertainty: the error bound of the reference: errors below it mean nothing. 0 for one that
            was given, inf where nothing is known.
        default_step: the step that the method would take.
        default_error: the error there.
        best_step: the swept step with the smallest error, where of three neighbours the largest
            counts, as one difference may be right by luck, or the default where that is better;
            NaN where all are NaN.
        best_error: the error there.
        truncation: ``c`` of the branch ``c h^p`` at long steps; NaN where none shows.
        rounding: ``c`` of the branch ``c / h`` at short steps; NaN where none shows.
        order: the method's order of accuracy ``p``.
        evaluations: the number of evaluations.

    Example:
        >>> import jax.numpy as jnp, jaxfd
        >>> sweep = jaxfd.step_sweep(jnp.sin, 1.0, exact=jnp.cos(1.0))
        >>> print(sweep.error.shape, bool(sweep.best_error < 1e-3))
        (41,) True
    """

    steps: PyTree
    derivative: PyTree
    error: PyTree
    reference: PyTree
    uncertainty: PyTree
    default_step: PyTree
    default_error: PyTree
    best_step: PyTree
    best_error: PyTree
    truncation: PyTree
    rounding: PyTree
    order: int = dataclasses.field(metadata={"static": True})
    evaluations: int = dataclasses.field(metadata={"static": True})

    def to_dict(self) -> dict[str, Any]:
        """Every step of every entry as a table: ``pandas.DataFrame(sweep.to_dict())``.

        Returns:
            Columns of equal length: ``entry``, ``step``, ``derivative`` and ``error``, entry by
            entry.
        """
        numbers = {"step": self.steps, "derivative": self.derivative, "error": self.error}
        columns = {name: flat(tree, 1).T.ravel() for name, tree in numbers.items()}
        names = np.repeat(entry_names(self.reference), len(jax.tree.leaves(self.steps)[0]))
        return {"entry": names, **columns}

    def __str__(self) -> str:
        count = len(jax.tree.leaves(self.steps)[0])
        names = entry_names(self.reference)
        columns = [
            Column("reference", 14, ".6g", flat(self.reference)),
            Column("best step", 10, ".1e", flat(self.best_step)),
            Column("error", 9, ".1e", flat(self.best_error)),
            Column("default step", 12, ".1e", flat(self.default_step)),
            Column("error", 9, ".1e", flat(self.default_error)),
        ]
        lines = [f"{count} steps, {self.evaluations} evaluations"]
        lines += table(names[:_ROWS], columns, total=len(names))
        if len(names) == 1:
            lines += ["", *self._branches()]
        return "\n".join(lines)

    def _branches(self) -> list[str]:
        """A line for each step of the only entry, or for as many as fit on a screen."""
        numbers = self.to_dict()
        every = 1 + len(numbers["step"]) // (2 * _ROWS)
        rows = slice(None, None, every)
        columns = [
            Column("derivative", 14, ".6g", numbers["derivative"][rows]),
            Column("error", 9, ".1e", numbers["error"][rows]),
        ]
        names = [f"{h:.1e}" for h in numbers["step"][rows]]
        head = [f"One step in {every}:"] if every > 1 else []
        return head + table(names, columns, total=len(names), of="step")


def step_sweep(
    fun: Callable[..., Any],
    x: PyTree,
    *,
    method: Method = Central(),
    steps: Any = None,
    exact: PyTree | Callable[[Any], PyTree] = None,
    chunk_size: int | None = None,
) -> StepSweep:
    """Shows the trade-off between truncation and rounding: the derivative at many steps.

    All points are one batch, one call of a black box: with all defaults 82 points for each entry
    of ``x``, besides those of the reference and of the method at its own step.

    Args:
        fun: a function of ``x`` that returns one real number: traceable, or a `blackbox`. It is
            evaluated far from ``x`` too; where it raises there, give shorter ``steps``, or wrap it
            with ``blackbox(on_error="nan")``.
        x: where: a pytree of floating numbers and arrays.
        method: `Forward`, `Backward` or `Central`. Its own step is the default that is marked.
        steps: K positive numbers in the units of ``x``, the same for all entries; or a `Relative`
            whose ``rel`` are K numbers. None takes 41, evenly spaced in logarithms and relative to
            ``max(|x|, 1)``, from where most digits are lost to half of that size.
        exact: the true gradient, a pytree like ``x``; or a function of ``x`` that returns it, such
            as ``jax.grad(fun)``. None takes the estimate of `Adaptive`, whose own error bound is
            then in ``uncertainty``.
        chunk_size: how many points of one step are evaluated at once, as for `grad`.

    Returns:
        A `StepSweep`. Print it for a table, of a single entry with its steps, or `plot` it.

    Raises:
        TypeError: ``x`` holds integers, complex or traced numbers, or ``method`` has no step to
            sweep.
        ValueError: ``steps`` are no positive numbers, or ``exact`` does not fit ``x``.

    Example:
        >>> import jax.numpy as jnp, jaxfd
        >>> def fun(x):
        ...     return jnp.round(100 / (x + 1), 1)  # a table with one decimal
        >>> sweep = jaxfd.step_sweep(fun, 5.0, steps=[0.03, 0.3, 3.0], exact=-100 / 36)
        >>> print(sweep.error.round(2), sweep.best_step.round(2))
        [0.56 0.11 0.92] 0.3

    Reference:
        P. Gill, W. Murray, M. Saunders and M. Wright, SIAM J. Sci. Stat. Comput. 4 (1983) 310-321,
        for the two branches.
    """
    leaves = leaves_of("step_sweep", x)
    stencil = _swept(method)
    check_output("step_sweep", fun, x)
    usual = estimate(fun, method=method, chunk_size=chunk_size)(x)
    concrete("step_sweep", usual.value)
    wanted = _steps(x, method, steps, eps_of(fun, [*leaves, usual.value]))
    evaluations = int(usual.evaluations)
    if exact is None:
        truth = estimate(fun, method=Adaptive(), chunk_size=chunk_size)(x)
        reference, uncertainty = flat(truth.grad), flat(truth.error)
        evaluations += int(truth.evaluations)
    else:
        reference = _exact(exact(x) if callable(exact) else exact, x)
        uncertainty = np.zeros_like(reference)
    if not program_of(fun).traced:
        derivative, made = _on_host(fun, x, method, wanted, chunk_size)
        centres = len(reference)
    else:
        derivative, made = _in_kernel(fun, x, method, wanted, chunk_size)
        centres = len(wanted) * stencil.uses_centre
    error = np.abs(derivative - reference)
    moves = np.abs(derivative) > _MOVES * np.abs(reference)
    columns = zip(made.T, error.T, (moves | (reference == 0)).T, strict=True)
    fits = [branches(*column, stencil.accuracy) for column in columns]
    fit = Branches(*np.array(fits).T)
    default_error = np.abs(flat(usual.grad) - reference)
    # The step that everyone takes may be better than all that were tried.
    ahead = default_error < np.where(np.isnan(fit.best_error), np.inf, fit.best_error)
    best_step = np.where(ahead, flat(usual.step), fit.best_step)
    best_error = np.where(ahead, default_error, fit.best_error)
    return StepSweep(
        steps=unflat(made, x),
        derivative=like(unflat(derivative, x), x),
        error=unflat(error, x),
        reference=unflat(reference, x),
        uncertainty=unflat(uncertainty, x),
        default_step=unflat(flat(usual.step), x),
        default_error=unflat(default_error, x),
        best_step=unflat(best_step, x),
        best_error=unflat(best_error, x),
        truncation=unflat(fit.truncation, x),
        rounding=unflat(fit.rounding, x),
        order=stencil.accuracy,
        evaluations=evaluations + wanted.size * len(stencil.moving) + centres,
    )


def _exact(tree: Any, x: PyTree) -> Float[np.ndarray, "n"]:
    def outline(tree: Any) -> Any:
        return jax.tree.structure(tree), [np.shape(leaf) for leaf in jax.tree.leaves(tree)]

    if outline(tree) != outline(x):
        raise ValueError(
            f"exact must be a gradient like x, {outline(x)}, got {outline(tree)}: give such a "
            "pytree, or a function that returns one."
        )
    if any(map(np.iscomplexobj, jax.tree.leaves(tree))):
        raise TypeError(f"exact must be real, as the gradient of a real function is, got {tree!r}.")
    return flat(tree)


@functools.singledispatch
def _swept(method: Any) -> Stencil:
    """The stencil whose step is swept."""
    raise TypeError(
        f"method must be Forward, Backward or Central, got {method!r}: others choose their "
        "steps themselves, or lose nothing by short ones."
    )


@_swept.register
def _(method: FiniteDifference) -> Stencil:
    return method.stencil()


def _steps(x: PyTree, method: Any, steps: Any, eps: float) -> _Grid:
    """The wanted steps of all entries."""
    at = flat(x)
    if steps is not None and not isinstance(steps, Relative):
        return _grid(_positive(steps, "steps"), np.ones_like(at))
    rule = next((r for r in (steps, method.step) if isinstance(r, Relative)), Relative())
    typical = bind("step_sweep", (x,), {}, 0).spread(rule.typical, "typical", 1.0)
    sizes = map(np.broadcast_to, typical, map(np.shape, jax.tree.leaves(x)))
    size = np.maximum(np.abs(at), flat(list(sizes)))
    if isinstance(steps, Relative):
        return _grid(_positive(steps.rel, "steps.rel"), size)
    longest = _REACH / max(map(abs, method.stencil().moving))
    return _grid(np.geomspace(eps**_SHORTEST, longest, _STEPS), size)


def _grid(rows: Float[np.ndarray, "k"], sizes: Float[np.ndarray, "n"]) -> _Grid:
    grid: np.ndarray = rows[:, None] * sizes
    return grid


def _positive(numbers: Any, name: str) -> Float[np.ndarray, "k"]:
    try:
        array = np.asarray(numbers).astype(np.float64, casting="same_kind")
    except (TypeError, ValueError):
        array = np.zeros(())
    if array.ndim != 1 or not array.size or not np.all(np.isfinite(array) & (array > 0)):
        raise ValueError(
            f"{name} must be positive finite numbers in a row, got {numbers!r}: give such as "
            "numpy.geomspace(1e-10, 1e-1, 41), or leave steps out for the default."
        )
    return np.sort(array)


def _in_kernel(
    fun: Any, x: PyTree, method: Any, steps: _Grid, chunk_size: int | None
) -> tuple[_Grid, _Grid]:
    """Derivatives at all steps, and the steps really made: the method's step is a mapped leaf."""
    typed = like(unflat(steps, x), x)
    made = flat(jax.tree.map(lambda a, h: realise(np.asarray(a, h.dtype), h), x, typed), 1)

    def at(step: PyTree) -> PyTree:
        how = dataclasses.replace(method, step=step)
        return grad(fun, method=how, chunk_size=chunk_size)(x)

    # Where a step is lost in the rounding of x the method takes another one.
    return np.where(made == 0, np.nan, flat(jax.vmap(at)(typed), 1)), made


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def _on_host(
    fun: Any, x: PyTree, method: Any, steps: _Grid, chunk_size: int | None
) -> tuple[_Grid, _Grid]:
    """The same for a black box, in one batch: a mapped step would make a batch of each."""
    stencil = method.stencil()
    k, n = steps.shape
    units = like(unflat(np.eye(n), x), x)
    offsets = np.array(stencil.moving, float)[:, None, None]
    distances = jnp.asarray(np.moveaxis(offsets * steps, -1, 0).reshape(n, -1))

    def line(unit: PyTree, row: Any) -> tuple[Any, Any]:
        _, change, moved = samples(fun, x, unit, row, "step_sweep", schedule_of(chunk_size))
        return change, moved

    change, away = (
        np.moveaxis(np.asarray(a, np.float64).reshape(n, -1, k), 0, -1)
        for a in jax.vmap(line)(units, distances)
    )
    made = np.mean(away / offsets, axis=0)
    return stencil.combine(np.zeros_like(made), change, away, made), made
