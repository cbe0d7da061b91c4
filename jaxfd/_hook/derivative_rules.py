"""Rules of differentiation: what JAX runs instead of tracing a hooked function.

A rule runs a `Task`; differentiating the rule itself runs the next task, up to second
derivatives. This room knows JAX's rules and the tasks' names, and nothing of points.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jax.custom_derivatives import SymbolicZero

from jaxfd._arrays import Static, complexify, is_complex, is_inexact, promote, thaw
from jaxfd._estimate import (
    Hessian,
    JacobianRows,
    Line,
    Needs,
    Program,
    Rows,
    Task,
    Value,
)
from jaxfd._places import Schedule
from jaxfd._primitives import LinearMap, apply_linear, gathered, laid_as, summed

T = TypeVar("T", bound=Task)


@dataclasses.dataclass(frozen=True)
class Hook:
    """A call of a hooked function without its numbers: hashable, passed to every rule.

    Attributes:
        program: the function.
        tree: the structure of ``(args, kwargs, method, bounds)``, frozen.
        inexact: for each leaf of ``(args, kwargs)``, its number among the differentiable leaves,
            or -1.
        fixed: the numbers of the leaves that are never perturbed.
        mode: how derivatives are formed.
        schedule: how many points are evaluated at once.
        frozen: whether objects come along that the program wants as they are.
    """

    program: Program
    tree: Any
    inexact: tuple[int, ...]
    fixed: frozenset[int]
    mode: str
    schedule: Schedule
    frozen: bool = False

    @property
    def name(self) -> str:
        return self.program.name

    def run(self, task: Task, operands: Sequence[Any], needs: Needs = Needs()) -> Any:
        """Runs a task on the call."""
        args, kwargs, method, bounds = tree_util.tree_unflatten(self.tree, operands)
        if self.frozen:
            args, kwargs = thaw((args, kwargs))
        return self.program.run(task, args, kwargs, method, needs._replace(bounds=bounds))

    def active(self, tangents: Sequence[Any]) -> tuple[tuple[int, ...], list[Any]]:
        """The leaves that have a tangent, by number, and those tangents."""
        numbers, values = [], []
        for number, tangent in zip(self.inexact, tangents, strict=False):
            if number < 0 or number in self.fixed or isinstance(tangent, SymbolicZero):
                continue
            numbers.append(number)
            values.append(jnp.asarray(tangent))  # outside of jit JAX hands over Python's numbers
        return tuple(numbers), values

    def task(self, kind: type[T], **options: Any) -> T:
        """A task on all leaves of the call."""
        return kind("differentiable", everything=True, schedule=self.schedule, **options)

    def jacobian(self, active: tuple[int, ...], **options: Any) -> JacobianRows:
        return self.task(JacobianRows, active=active, **options)


def _zero_tangent(y: Any) -> Any:
    return jnp.zeros_like(y) if is_inexact(y) else np.zeros(jnp.shape(y), jax.dtypes.float0)


def _contract(rows: Sequence[Any], tangents: Sequence[Any], like: Any) -> Any:
    """``sum_p rows[p] . tangents[p]``; a complex tangent counts as two real ones."""
    reals = []
    for tangent in tangents:
        reals += [tangent.real, tangent.imag] if is_complex(tangent) else [tangent]
    total: Any = None
    for row, tangent in zip(rows, reals, strict=True):
        dtype = promote(row.dtype, tangent.dtype, np.float32)
        # A complex row meets a real tangent part by part, so that the map stays real-linear.
        flat = gathered(tangent).reshape(-1).astype(dtype)
        matrix = row.astype(dtype).reshape(*row.shape[: row.ndim - tangent.ndim], tangent.size)
        term = jnp.matmul(matrix, flat, precision="highest")
        total = term if total is None else total + term
    total = total.astype(like.dtype) if is_inexact(like) else total
    return laid_as(total, like)


def _push(rows: Sequence[Any], tangents: Sequence[Any], y: Any) -> Any:
    """The output's tangent, from the Jacobian's rows."""
    flat, tree = tree_util.tree_flatten(y)
    dy = [
        _contract(row, tangents, leaf) if is_inexact(leaf) else _zero_tangent(leaf)
        for leaf, row in zip(flat, rows, strict=True)
    ]
    return tree_util.tree_unflatten(tree, dy)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def value(hook: Hook, *operands: Any) -> Any:
    return hook.run(hook.task(Value), operands)


def _value_jvp(hook: Hook, operands: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    active, values = hook.active(tangents)
    if not active:
        y = value(hook, *operands)
        return y, tree_util.tree_map(_zero_tangent, y)
    if hook.mode == "forward":
        y = value(hook, *operands)
        flat, tree = tree_util.tree_flatten(y)
        images = iter(
            apply_linear(
                _Tangent(hook, active),
                operands,
                values,
                [leaf for leaf in flat if is_inexact(leaf)],
            )
        )
        dy = [
            laid_as(next(images), leaf) if is_inexact(leaf) else _zero_tangent(leaf)
            for leaf in flat
        ]
        return y, tree_util.tree_unflatten(tree, dy)
    y, rows = _first(hook, active, *operands)
    return y, _push(rows, values, y)


value.defjvp(_value_jvp, symbolic_zeros=True)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _first(hook: Hook, active: tuple[int, ...], *operands: Any) -> Any:
    """Value and Jacobian from one batch."""
    found: Rows = hook.run(hook.jacobian(active, value=True), operands)
    return found.value, found.rows


def _first_jvp(
    hook: Hook, active: tuple[int, ...], operands: Sequence[Any], tangents: Sequence[Any]
) -> tuple[Any, Any]:
    y, rows = _first(hook, active, *operands)
    moving, values = hook.active(tangents)
    if not moving:
        return (y, rows), tree_util.tree_map(_zero_tangent, (y, rows))
    together = tuple(sorted({*active, *moving}))
    blocks = _second(hook, together, *operands)
    columns = [together.index(number) for number in moving]
    d_rows = [
        [
            _contract([block[together.index(a)][c] for c in columns], values, row)
            for a, row in zip(active, row_of, strict=True)
        ]
        for block, row_of in zip(blocks, rows, strict=True)
    ]
    if set(moving) <= set(active):
        places = [active.index(number) for number in moving]
        moving_rows = [[row[p] for p in places] for row in rows]
    else:
        _, moving_rows = _first(hook, moving, *operands)
    return (y, rows), (_push(moving_rows, values, y), d_rows)


_first.defjvp(_first_jvp, symbolic_zeros=True)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _second(hook: Hook, active: tuple[int, ...], *operands: Any) -> Any:
    """Second derivatives, as blocks ``[output][leaf][leaf]``."""
    task = hook.task(Hessian, active=active, raw=True)
    return hook.run(task, operands)


def _no_more(hook: Hook, order: str, advice: str) -> Any:
    raise TypeError(
        f"JAX asked for the {order} derivative of {hook.name} through jaxfd's hook: {advice}"
    )


@_second.defjvp
def _second_jvp(hook: Hook, active: Any, operands: Any, tangents: Any) -> Any:
    del active, operands, tangents
    _no_more(
        hook,
        "third",
        "it makes second derivatives at most. Use jaxfd.derivative(fun, order=3) for a function "
        "of one variable, or jaxfd.hessian inside a difference of your own.",
    )


def _no_second(hook: Hook) -> Any:
    advice = (
        f'mode="{hook.mode}" makes first derivatives only. Use mode="reverse", or jaxfd.hessian.'
    )
    _no_more(hook, "second", advice)


# --- mode="forward": two evaluations per tangent, and still transposable -----------------


@dataclasses.dataclass(frozen=True)
class _Tangent(LinearMap):
    """The map from tangents to output tangents, and its transpose from cotangents."""

    hook: Hook
    active: tuple[int, ...]

    def apply(self, operands: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        task = self.hook.task(Line, active=self.active, raw=True)
        images: list[Any] = self.hook.run(task, operands, Needs(tangents=list(tangents)))
        return images

    def transpose(self, operands: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        return list(_once(self.hook, self.active, list(operands), list(cotangents)))

    def refuse(self) -> None:
        _no_second(self.hook)


def _pullback(
    hook: Hook, active: tuple[int, ...], operands: Sequence[Any], cotangents: Sequence[Any]
) -> list[Any]:
    """The gradient of ``<cotangents, f>`` with respect to the active leaves."""
    task = hook.jacobian(active, contract=True)
    rows = hook.run(task, operands, Needs(cotangents=list(cotangents))).rows[0]
    leaves = [
        leaf for leaf, number in zip(operands, hook.inexact, strict=False) if number in active
    ]
    result, parts = [], iter(rows)
    for leaf in leaves:
        value = next(parts)
        if is_complex(jnp.asarray(leaf)):
            value = complexify(value) - 1j * complexify(next(parts))
        result.append(laid_as(value.astype(jnp.result_type(leaf)), leaf))
    return result


# --- mode="recompute": nothing stored but the input -------------------------------------


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def recompute(hook: Hook, *operands: Any) -> Any:
    return hook.run(hook.task(Value), operands)


def _recompute_fwd(hook: Hook, *primals: Any) -> tuple[Any, Any]:
    operands = [p.value for p in primals]
    active = tuple(
        number
        for p, number in zip(primals, hook.inexact, strict=False)
        if p.perturbed and number >= 0 and number not in hook.fixed
    )
    return recompute(hook, *operands), (operands, Static(active))


def _recompute_bwd(hook: Hook, residuals: Any, cotangents: Any) -> tuple[Any, ...]:
    operands, active = residuals[0], residuals[1].value
    flat = [
        jnp.zeros(ct.shape, ct.dtype) if isinstance(ct, SymbolicZero) else ct
        for ct in tree_util.tree_leaves(
            cotangents, is_leaf=lambda leaf: isinstance(leaf, SymbolicZero)
        )
        if ct.dtype != jax.dtypes.float0
    ]
    gradients = dict(zip(active, _once(hook, active, operands, flat), strict=True))
    result: list[Any] = []
    numbers = [*hook.inexact, *([-1] * (len(operands) - len(hook.inexact)))]
    for number in numbers:
        found = gradients.get(number)
        result.append(None if found is None else summed(found, operands[len(result)]))
    return tuple(result)


recompute.defvjp(_recompute_fwd, _recompute_bwd, symbolic_zeros=True)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _once(hook: Hook, active: tuple[int, ...], operands: Any, cotangents: Any) -> Any:
    return _pullback(hook, active, operands, cotangents)


@_once.defjvp
def _once_jvp(hook: Hook, active: Any, primals: Any, tangents: Any) -> Any:
    del active, primals, tangents
    _no_second(hook)
