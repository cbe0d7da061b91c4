"""Derivatives along one direction, or of one variable: `jvp` and `derivative`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jaxtyping import Float

from jaxfd._arrays import PyTree, check_integer, promote, real_of
from jaxfd._methods import Central, Method
from jaxfd._system import ShortTracebacks
from jaxfd._transforms.options import (
    along,
    check,
    check_order,
    door,
    schedule_of,
    tangent_leaves,
    with_aux,
)

if TYPE_CHECKING:
    from jaxfd._places import Schedule


def jvp(
    fun: Callable[..., Any],
    primals: Sequence[PyTree],
    tangents: Sequence[PyTree],
    *,
    method: Method = Central(),
    has_aux: bool = False,
    chunk_size: int | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
) -> tuple[Any, ...]:
    """Evaluates ``fun`` and estimates its derivative along one tangent.

    Three evaluations for ``Central()``, whatever the number of parameters.

    Args:
        fun: a function that returns an array or a pytree of arrays.
        primals: a tuple of arguments.
        tangents: a tuple of the same structure, shapes and dtypes.
        method: as for `grad`.
        has_aux: whether ``fun`` returns ``(value, aux)``.
        chunk_size: as for `grad`.
        bounds: a pair ``(lower, upper)`` of numbers or pytrees like the argument (like ``primals``
            where there are several). No point lies outside; near a wall the stencil becomes
            one-sided at the same order, and where walls stop one entry forwards and another
            backwards the tangent is parted: up to five evaluations for ``Central()``.

    Returns:
        ``(value, tangent)`` or ``(value, tangent, aux)``, as ``jax.jvp`` returns them.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jax.numpy as jnp, jaxfd
        >>> x, v = jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0])
        >>> value, slope = jaxfd.jvp(lambda x: jnp.sum(x**2), (x,), (v,))
        >>> print(f"{value:.3f} {slope:.3f}")
        5.000 6.000

    Reference:
        P. Brown and Y. Saad, SIAM J. Sci. Stat. Comput. 11 (1990) 450-481, for the step.
    """
    from jaxfd._estimate import Line

    schedule = check(method, chunk_size, bounds)
    leaves = tangent_leaves("jvp", primals, tangents)
    argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    task = Line("jvp", argnums, has_aux, allow_int=True, schedule=schedule)
    answer = along(fun, task, primals, method, leaves, bounds)
    pair = (answer.value, answer.derivative)
    return (*pair, answer.aux) if has_aux else pair


def samples(
    fun: Callable[..., Any],
    x: PyTree,
    tangent: PyTree,
    distances: Float[Any, "k"],
    name: str,
    schedule: Schedule | None = None,
    argnums: int | tuple[int, ...] | None = None,
) -> tuple[PyTree, PyTree, Float[Any, "k"]]:
    """Evaluates ``fun`` at ``x`` and at points ``x + t * tangent``, all in one batch.

    Args:
        fun: a function that returns an array or a pytree of arrays.
        x: its argument; with ``argnums`` the tuple of its arguments.
        tangent: of the structure, shapes and dtypes of what moves.
        distances: the ``t`` of the K points.
        name: who asks, for errors.
        schedule: how many points are evaluated at once; None lets the library choose.
        argnums: which of the arguments move; None where ``x`` is the only one.

    Returns:
        The value at ``x``; the changes from it, with a leading axis of K, formed in float64 for a
        black box; and the distances really stepped.
    """
    from jaxfd._estimate import Needs, Sampling, program_of

    args = (x,) if argnums is None else tuple(x)
    chosen = argnums if isinstance(argnums, tuple) else (argnums or 0,)
    moved = tuple(tangent) if isinstance(argnums, tuple) else (tangent,)
    leaves = tangent_leaves(name, tuple(args[i] for i in chosen), moved)
    distances = jnp.asarray(
        distances, promote(np.float32, *(real_of(leaf.dtype) for leaf in leaves))
    )
    program = program_of(fun, compiled=False)
    needs = Needs(tangents=leaves, distances=distances)
    task = Sampling(name, argnums or 0, schedule=schedule or schedule_of(None))
    with ShortTracebacks():
        found = program.run(task, args, {}, Central(), needs)
    return found.value, found.change, found.distances


def derivative(
    fun: Callable[..., Any],
    order: int = 1,
    *,
    method: Method = Central(),
    chunk_size: int | None = None,
    bounds: tuple[Any, Any] | None = None,
) -> Callable[..., Any]:
    """Makes a function that estimates a derivative of any order of a function of one number.

    Args:
        fun: a function of a real scalar (further arguments are passed on) that returns an array or
            a pytree of arrays.
        order: the order of the derivative, 1 or more.
        method: stencil and step; the default step suits the order. ``Adaptive()`` finds steps that
            suit the noise, for orders up to six. From the second order on two evaluations more tell
            whether noise drowns the default step of a `blackbox`, and where it does the same is
            done unasked.
        chunk_size: as for `grad`.
        bounds: a pair ``(lower, upper)`` of numbers. No point lies outside; near a wall the stencil
            becomes one-sided at the same order.

    Returns:
        A function that returns the derivative, of the shape of ``fun``'s output.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jax.numpy as jnp, jaxfd
        >>> print(f"{jaxfd.derivative(jnp.exp, order=2)(0.0):.2f}")
        1.00
    """
    from jaxfd._estimate import FirstOrder

    schedule = check(method, chunk_size, bounds)
    check_integer(order, "order")
    check_order(method, order)
    task = FirstOrder("derivative", schedule=schedule, derivative=order)
    inner = door(fun, task, method, with_aux(False), bounds)

    @functools.wraps(fun, updated=())
    def wrapped(x: Any, *args: Any, **kwargs: Any) -> Any:
        if not tree_util.all_leaves([x]) or jnp.ndim(x) != 0:
            shapes = [jnp.shape(leaf) for leaf in tree_util.tree_leaves(x)]
            raise TypeError(
                f"derivative needs a scalar as first argument, got arrays of shape {shapes}: use "
                "jax.vmap over several points, or jaxfd.grad and jaxfd.jacobian."
            )
        return inner(x, *args, **kwargs)

    wrapped.__doc__ = inner.__doc__
    return wrapped
