"""Is a gradient right? Two witnesses, and a report that says what each of them saw.

The entries are compared with differences and their error bounds, and the whole with values along a
line. This room must not know how either witness works.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import tree_util

from jaxfd._arrays import PyTree, check_number
from jaxfd._estimate import ProgramHolder
from jaxfd._methods import Adaptive, Method, StencilMethod
from jaxfd._random import RandomCoordinates
from jaxfd._reports.columns import columns
from jaxfd._reports.judge import Judge
from jaxfd._reports.part import part
from jaxfd._reports.probe import concrete, rooms
from jaxfd._reports.question import Question, ask
from jaxfd._reports.verdicts import GradCheck
from jaxfd._transforms import Argnums, check, estimate, static

# A bar in error bounds: few errors exceed their bound, and hardly one this many times.
_SURE = 3.0


def check_grads(
    fun: Callable[..., Any],
    x: PyTree,
    grad: Callable[..., PyTree] | PyTree | None = None,
    *,
    argnums: Argnums | None = None,
    derivative: int = 1,
    entries: int | Sequence[str] | None = None,
    method: Method = Adaptive(),
    bounds: tuple[PyTree, PyTree] | None = None,
    rtol: float = 1e-4,
    raises: bool = False,
    chunk_size: int | None = None,
) -> GradCheck:
    """Checks a gradient, Jacobian or Hessian of ``fun`` at ``x``, entry by entry and along a line.

    The bar of an entry is three times the error bound of the difference and of what the claimed
    number may have lost to rounding. The entry *differs* if claimed and estimated gradient are more
    than the bar and ``rtol`` of it apart. It *agrees* if not, and if the bar is below ``5 * rtol``
    of the entry, or of a tenth of its leaf's largest; otherwise it *cannot be told*. So by default
    an error of 1e-3 is found, or said to be out of sight, as it is behind noise. float16 and
    bfloat16 find gross errors at best. At a kink there is no gradient to be right: nothing that the
    kink may explain is called wrong. Nor is what values at much shorter distances, down to the
    spacing of ``x``, show to be right, or may hide: a slope between the ripples of a table, or on
    a feature narrower than 1,000 spacings. They are looked at before an entry is said to differ.

    The gradient is wrong if an entry differs, or if entries cannot be told and the Taylor test
    says so. It is right if all entries agree, or if a Taylor test that agrees makes up for those
    that cannot be told: along its line, that is. Where the two contradict each other, as where a
    function is smooth only on a smaller scale than the differences, it cannot be told.

    Args:
        fun: a function that returns one real number, or a pytree of arrays of them; a `blackbox`
            too.
        x: its argument, a pytree of concrete real or complex floating arrays; with ``argnums`` the
            tuple of all its arguments.
        grad: the derivative under test: a function of the same arguments, a pytree of numbers, or
            None for ``jax.grad(fun)``, ``jax.jacrev(fun)`` or ``jax.hessian(fun)``, whose structure
            and convention for complex numbers count.
        argnums: which arguments are differentiated, as for `grad`; None where ``x`` is the only
            one.
        derivative: 1, or 2 for the Hessian.
        entries: which entries of ``x`` are looked at one by one, for functions of very many: a
            number of them, chosen at random and alike in every call, or a list of names as the
            report writes them (``["w[0,3]", "b[2]"]``). The others are seen along the line alone,
            which shows no small error of one among thousands. None for all.
        method: how the gradient is estimated, with an error bound. `Adaptive` takes longer
            in its first call; ``Central(order=4)`` sees less. Of a random method the standard error
            is taken for no bound: it finds gross errors. `RandomCoordinates` stands for
            ``entries``, as many as it has samples.
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
    if derivative not in (1, 2):
        raise ValueError(f"derivative must be 1 or 2, got {derivative!r}.")
    if grad is None and isinstance(fun, ProgramHolder):
        raise ValueError(
            f"jax.grad of {fun!r} is a difference itself, so nothing would be checked: give grad, "
            "a function of x or a pytree of numbers."
        )
    chosen = None if argnums is None else static(argnums)
    question = ask("check_grads", fun, x, chosen)
    if isinstance(method, RandomCoordinates) and entries is None:
        entries, method = method.num_samples, Adaptive()
    asked, box, where = question, bounds, None
    if entries is not None:
        where = question.numbers_of(entries)
        asked, box = part(question, where, bounds)
    result = estimate(
        asked.fun,
        asked.positions,
        derivative=derivative,
        method=method,
        chunk_size=chunk_size,
        bounds=box,
    )(*asked.args)
    jax.tree.map(lambda leaf: concrete(question.name, leaf), result.value)
    # Only now: what is wrong with fun itself has been said.
    claim = _claim(question, grad, derivative)
    sides = columns(question, derivative, question.derivative(claim, derivative), result, where)
    judge = Judge(
        question,
        sides,
        rooms(question.name, question.args, question.positions, question.leaves, bounds),
        rtol,
        schedule,
        _SURE if result.bound else _sure_of_samples(method, sides.claimed.size),
        _amplification(method),
        int(result.evaluations),
    )
    report = judge.report(claim)
    if raises and not report.ok:
        raise AssertionError(str(report))
    return report


def _claim(question: Question, grad: Any, order: int) -> PyTree:
    """The claimed derivative, as it was given or as JAX makes it."""
    if callable(grad):
        return grad(*question.args)
    if grad is not None:
        return grad
    scalar = tree_util.all_leaves([question.out]) and question.out.shape == ()
    make = jax.hessian if order == 2 else jax.grad if scalar else jax.jacrev
    return make(question.fun, question.positions)(*question.args)


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
