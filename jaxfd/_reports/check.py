"""Is a gradient right? Two witnesses, and a report that says what each of them saw.

The entries are compared with differences and their error bounds, and the whole with values along a
line. This room must not know how either witness works.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util

from jaxfd._arrays import PyTree, check_number, cut, entry_names, finfo, path_name
from jaxfd._estimate import ProgramHolder
from jaxfd._methods import Adaptive, Method, StencilMethod
from jaxfd._reports.entries import flat, unflat
from jaxfd._reports.probe import check_output, concrete, leaves_of, line_within
from jaxfd._reports.taylor import taylor_test, vanishing
from jaxfd._reports.verdicts import (
    DIFFERS,
    UNCLEAR,
    GradCheck,
    compare,
    order,
    overall,
)
from jaxfd._transforms import check, estimate

# A bar in error bounds: few errors exceed their bound, and hardly one this many times.
_SURE = 3.0
# Roundings that a right gradient may have gathered, in units of eps times its leaf's largest entry.
_ROUNDINGS = 64.0
# An entry is small below this share of the largest of its leaf, and is known well enough if it is
# for that size.
_SMALL = 0.1
# Entries that differ are disowned by a line on which they would show so many times better.
_CONTRADICTS = 2.0


def check_grads(
    fun: Callable[[PyTree], Any],
    x: PyTree,
    grad: Callable[[PyTree], PyTree] | PyTree | None = None,
    *,
    method: Method = Adaptive(),
    bounds: tuple[PyTree, PyTree] | None = None,
    rtol: float = 1e-4,
    raises: bool = False,
    chunk_size: int | None = None,
) -> GradCheck:
    """Checks a gradient of ``fun`` at ``x``, entry by entry and along a line.

    The bar of an entry is three times the error bound of the difference and of what the claimed
    number may have lost to rounding. The entry *differs* if claimed and estimated gradient are more
    than the bar and ``rtol`` of it apart. It *agrees* if not, and if the bar is below ``5 * rtol``
    of the entry, or of a tenth of its leaf's largest; otherwise it *cannot be told*. So by default
    an error of 1e-3 is found, or said to be out of sight, as it is behind noise. float16 and
    bfloat16 find gross errors at best. At a kink there is no gradient to be right: nothing that the
    kink may explain is called wrong.

    The gradient is wrong if an entry differs, or if entries cannot be told and the Taylor test
    says so. It is right if all entries agree, or if a Taylor test that agrees makes up for those
    that cannot be told: along its line, that is. Where the two contradict each other, as where a
    function is smooth only on a smaller scale than the differences, it cannot be told.

    Args:
        fun: a function of one pytree that returns one real number; a `blackbox` too.
        x: a pytree of concrete real floating arrays.
        grad: the gradient under test: a function of ``x``, a pytree of numbers like ``x``, or None
            for ``jax.grad(fun)``.
        method: how the gradient is estimated, with an error bound. `Adaptive` takes longer
            in its first call; ``Central(order=4)`` sees less.
        bounds: as for `grad`; no point lies outside. Entries that cannot move cannot be told.
        rtol: the relative error of an entry that counts as none.
        raises: whether to raise AssertionError unless the gradient was found right.
        chunk_size: as for `grad`.

    Returns:
        A `GradCheck`: what was found for each entry and overall. ``report.ok`` says whether it is
        right, ``print(report)`` shows the worst entries.

    Raises:
        AssertionError: with ``raises``, for a gradient not found right; the message is the table.
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jax.numpy as jnp, jaxfd
        >>> def energy(x):
        ...     return jnp.sum(x**4)
        >>> report = jaxfd.check_grads(energy, jnp.array([1.0, 2.0]), lambda x: 3 * x**3)
        >>> print(report.verdict, report.worst)
        differs x[1]

    Reference:
        J. Nocedal and S. Wright, "Numerical Optimization", 2nd ed., section 8.1, for differences.
    """
    schedule = check(method, chunk_size)
    check_number(rtol, "rtol")
    if not 0 < rtol < 1:
        raise ValueError(f"rtol must lie between 0 and 1, got {rtol}: it is a relative error.")
    if grad is None and isinstance(fun, ProgramHolder):
        raise ValueError(
            f"jax.grad of {fun!r} is a difference itself, so nothing would be checked: give grad, "
            "a function of x or a pytree of numbers."
        )
    leaves = leaves_of("check_grads", x)
    check_output("check_grads", fun, x)
    result = estimate(fun, method=method, chunk_size=chunk_size, bounds=bounds)(x)
    concrete("check_grads", result.value)
    # Only now: what is wrong with fun itself has been said.
    claim = jax.grad(fun)(x) if grad is None else grad(x) if callable(grad) else grad
    claims = _claims(x, leaves, claim)
    claimed, estimated, error = flat(claims), flat(result.grad), flat(result.error)
    eps = [
        max(float(finfo(d).eps) for d in (result.value.dtype, z.dtype, g.dtype) if _floats(d))
        for z, g in zip(leaves, claims, strict=True)
    ]
    line, room = line_within("check_grads", x, leaves, bounds)
    along = flat(line)
    rounding = _ROUNDINGS * max(eps)
    taylor = taylor_test(
        "check_grads", fun, x, line, claimed * along, room, rounding, rtol, schedule
    )
    # The noise that no dtype tells of, and that the bound of a fixed stencil does not hold.
    error = np.maximum(error, _amplification(method) * taylor.noise / flat(result.step))
    sizes = [z.size for z in leaves]
    found = np.where(np.isfinite(estimated), np.abs(estimated), 0.0)
    parts = cut(found, [z.shape for z in leaves])
    largest = np.repeat([np.max(part, initial=0.0) for part in parts], sizes)
    # Entries that cannot move say nothing.
    sure = _SURE if result.bound else _sure_of_samples(method, claimed.size)
    bar = sure * (error + _ROUNDINGS * np.repeat(eps, sizes) * largest)
    bar = np.where(along == 0, np.inf, bar)
    zero = vanishing(max(eps)) * taylor.reach / np.maximum(np.abs(flat(leaves)), 1)
    kink = np.divide(taylor.kink, np.abs(along), where=along != 0, out=np.zeros_like(bar))
    least = np.maximum(_SMALL * largest, zero)
    verdicts = compare(claimed, estimated, bar, least, kink, rtol)
    verdict = overall(verdicts, taylor.verdict, taylor.kink > 0)
    wrong = verdicts == DIFFERS
    apart = abs(float(np.sum((claimed - estimated)[wrong] * along[wrong])))
    apart -= float(np.sum(bar[wrong] * np.abs(along[wrong])))
    if apart > _CONTRADICTS * taylor.miss:
        # The line would show errors as large as these, and does not: the bars are too short, or
        # the gradient is right on a smaller scale only.
        verdicts[wrong] = verdict = UNCLEAR
    report = GradCheck(
        claimed=unflat(claimed, x),
        estimated=unflat(estimated, x),
        bar=unflat(bar, x),
        verdicts=unflat(verdicts, x),
        verdict=verdict,
        taylor=taylor.verdict,
        slope=taylor.slope,
        kink=taylor.kink,
        worst=entry_names(x)[order(claimed, estimated, bar, verdicts)[0]],
        evaluations=int(result.evaluations) + taylor.evaluations,
    )
    if raises and not report.ok:
        raise AssertionError(str(report))
    return report


def _sure_of_samples(method: Any, count: int) -> float:
    """How many standard errors the mean of a few samples may be off, in any of so many entries.

    Student's quantile for one error in a million checks, by the approximation of Wallace (1959).
    """
    freedom = method.num_samples - 1
    if freedom < 1:
        return math.inf
    normal = math.sqrt(2 * math.log(1e6 * max(count, 1)))
    return math.sqrt(freedom * math.expm1(min(normal**2 / freedom, 700.0)))


@functools.singledispatch
def _amplification(method: Method) -> float:
    """How large noise becomes in a derivative, times the step, where its bound holds none."""
    return 0.0


@_amplification.register
def _(method: StencilMethod) -> float:
    stencil = method.stencil()
    # A complex step subtracts nothing.
    return 0.0 if stencil.imaginary else float(sum(abs(w) for w in stencil.weights))


def _floats(dtype: Any) -> bool:
    return bool(jnp.issubdtype(dtype, np.floating))


def _claims(x: PyTree, leaves: list[np.ndarray], claim: Any) -> list[np.ndarray]:
    """The leaves of the claimed gradient, checked against ``x``."""
    wanted: Any = tree_util.tree_structure(x)
    found: Any = tree_util.tree_structure(claim)
    if found != wanted:
        raise ValueError(
            f"grad has the structure {found}, but x has {wanted}: give one array for each of x."
        )
    claims = []
    paths = tree_util.tree_flatten_with_path(claim)[0]
    for (path, leaf), z in zip(paths, leaves, strict=True):
        where = f"grad{path_name(path)}"
        if isinstance(leaf, jax.core.Tracer):
            raise TypeError(f"{where} is traced: call check_grads outside of jit, vmap and grad.")
        array = np.asarray(leaf)
        if not (_floats(array.dtype) or jnp.issubdtype(array.dtype, np.integer)):
            raise TypeError(f"{where} is {array.dtype}: give real numbers, as x has them.")
        if array.shape != z.shape:
            raise ValueError(
                f"{where} has the shape {array.shape}, but x has {z.shape} there: give the "
                "derivative by each entry of x."
            )
        claims.append(array)
    return claims
