"""First derivatives: `grad`, `value_and_grad`, `jacobian`, `estimate`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
from jax import tree_util

from jaxfd._arrays import PyTree, check_integer, is_inexact
from jaxfd._methods import Central, Method
from jaxfd._transforms.options import Argnums, check, check_order, door, static, with_aux
from jaxfd._transforms.result import Estimate

if TYPE_CHECKING:
    from jaxfd._estimate import Answer, Task


def grad(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    method: Method = Central(),
    chunk_size: int | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
) -> Callable[..., Any]:
    """Makes a function that estimates the gradient of ``fun`` by evaluating it.

    Stands where ``jax.grad`` stood, inside ``jit``, ``vmap``, ``scan`` and eagerly. All points
    are built in one kernel, compiled on the first call and kept with ``fun``: written in a loop,
    ``grad(fun)(x)`` compiles again only where something that ``fun`` reads has changed. The
    returned function reads it at its first call, as ``jax.jit`` does. Python's integers that are
    not differentiated are traced, or fixed where ``fun`` needs their values (``range(n)``); one
    that asks ``isinstance(n, int)`` gets an ``int``. A `blackbox` is run on the host in float64.

    Args:
        fun: a function of arrays, or pytrees of them, that returns one real number.
        argnums: which positional arguments to differentiate.
        has_aux: whether ``fun`` returns ``(value, aux)``.
        holomorphic: whether ``fun`` is promised to be holomorphic.
        allow_int: whether integer leaves are allowed; their gradient is zero (``float0``).
        method: stencil and step. The default step suits smooth functions; for one with jumps or
            noise set a ``step`` that spans many of them. For very many parameters a random one,
            such as `SPSA`.
        chunk_size: how many points are evaluated at once; None lets the library choose, as it
            does for random methods always.
        bounds: a pair ``(lower, upper)`` of numbers or pytrees like the argument. No point lies
            outside; near a wall the stencil becomes one-sided at the same order.

    Returns:
        A function of the same arguments that returns the gradient, of the shapes and dtypes of
        the argument's leaves, or ``(gradient, aux)``. ``Central()`` spends ``2n`` evaluations,
        one more with aux or bounds.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jax.numpy as jnp, numpy as np, jaxfd
        >>> def steps(x):
        ...     return jnp.sum(jnp.floor(x) + x**2)
        >>> print(np.asarray(jaxfd.grad(steps)(jnp.array([1.5, 2.5]))).round(3))
        [3. 5.]

    Reference:
        B. Fornberg, Mathematics of Computation 51 (1988) 699-706, for the weights.
    """
    from jaxfd._estimate import FirstOrder

    schedule = check(method, chunk_size, bounds)
    task = FirstOrder(
        "grad",
        static(argnums),
        has_aux,
        holomorphic,
        allow_int,
        schedule,
        scalar=True,
    )
    return door(fun, task, method, with_aux(has_aux), bounds)


def value_and_grad(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    method: Method = Central(),
    chunk_size: int | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
) -> Callable[..., Any]:
    """Makes a function that returns the value of ``fun`` and estimates its gradient.

    The value is one more point of the same batch: ``2n + 1`` evaluations for ``Central()``.

    Args:
        fun: as for `grad`.
        argnums: as for `grad`.
        has_aux: as for `grad`.
        holomorphic: as for `grad`.
        allow_int: as for `grad`.
        method: as for `grad`.
        chunk_size: as for `grad`.
        bounds: as for `grad`.

    Returns:
        A function that returns ``(value, gradient)``, or ``((value, aux), gradient)``.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jaxfd
        >>> value, slope = jaxfd.value_and_grad(lambda x: x**3)(2.0)
        >>> print(f"{value:.3f} {slope:.3f}")
        8.000 12.000
    """
    from jaxfd._estimate import FirstOrder

    schedule = check(method, chunk_size, bounds)
    task = FirstOrder(
        "value_and_grad",
        static(argnums),
        has_aux,
        holomorphic,
        allow_int,
        schedule,
        scalar=True,
        value=True,
    )

    def finish(answer: Answer) -> Any:
        value = (answer.value, answer.aux) if has_aux else answer.value
        return value, answer.derivative

    return door(fun, task, method, finish, bounds)


def counted(
    fun: Callable[..., Any],
    method: Method,
    chunk_size: int | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
) -> Callable[..., Answer]:
    """`value_and_grad` for loops that count: returns derivative, value and evaluations.

    Args:
        fun: as for `grad`.
        method: as for `grad`.
        chunk_size: as for `grad`.
        bounds: as for `grad`.
    """
    from jaxfd._estimate import FirstOrder

    schedule = check(method, chunk_size, bounds)
    task = FirstOrder("estimate", 0, schedule=schedule, scalar=True, value=True)
    return door(fun, task, method, lambda answer: answer, bounds)


def jacobian(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
    *,
    method: Method = Central(),
    chunk_size: int | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
) -> Callable[..., Any]:
    """Makes a function that estimates the Jacobian of ``fun``, shaped as ``jax.jacrev`` shapes it.

    Args:
        fun: a function that returns an array or a pytree of arrays.
        argnums: as for `grad`.
        has_aux: as for `grad`.
        holomorphic: as for `grad`.
        allow_int: as for `grad`.
        method: as for `grad`.
        chunk_size: as for `grad`.
        bounds: as for `grad`.

    Returns:
        A function that returns the Jacobian: for every output leaf a tree like the argument, with
        leaves of shape ``out.shape + leaf.shape``; or ``(jacobian, aux)``.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jax.numpy as jnp, numpy as np, jaxfd
        >>> print(np.asarray(jaxfd.jacobian(lambda x: x**2)(jnp.array([1.0, 2.0]))).round(3))
        [[2. 0.]
         [0. 4.]]
    """
    from jaxfd._estimate import FirstOrder

    schedule = check(method, chunk_size, bounds)
    task = FirstOrder("jacobian", static(argnums), has_aux, holomorphic, allow_int, schedule)
    return door(fun, task, method, with_aux(has_aux), bounds)


def estimate(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    derivative: int = 1,
    method: Method = Central(),
    chunk_size: int | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
) -> Callable[..., Estimate]:
    """Makes a function that returns a derivative with all that is known about it.

    It is the gradient of a function with one output, the Jacobian of one with more, or the Hessian.

    Args:
        fun: as for `jacobian`; with real outputs.
        argnums: as for `grad`.
        has_aux: as for `grad`.
        derivative: 1, or 2 for the Hessian.
        method: as for `grad`, and for `hessian`.
        chunk_size: as for `grad`.
        bounds: as for `grad`.

    Returns:
        A function that returns an `Estimate` with value, derivative, error bound of each of its
        entries (for random methods the standard error), step, and number of evaluations
        (``2n + 7`` for ``Central()``, six of them for the bound; for second derivatives
        ``2n^2 + 2n + 1``, and the same points with twice the step are what the bound is made of).

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jaxfd
        >>> result = jaxfd.estimate(lambda x: x**3)(2.0)
        >>> print(result.evaluations, abs(result.grad - 12.0) < result.error)
        9 True
        >>> result = jaxfd.estimate(lambda x: x**3, derivative=2, method=jaxfd.Adaptive())(2.0)
        >>> print(abs(result.hessian - 12.0) < result.error)
        True
    """
    from jaxfd._estimate import FirstOrder, Hessian

    schedule = check(method, chunk_size, bounds)
    check_integer(derivative, "derivative")
    if derivative > 2:
        raise ValueError(
            f"derivative must be 1 or 2, got {derivative}: for a function of one number see "
            "jaxfd.derivative."
        )
    options: dict[str, Any] = {"schedule": schedule, "value": True, "error": True}
    task: Task
    if derivative == 1:
        task = FirstOrder("estimate", static(argnums), has_aux, **options)
    else:
        check_order(method, 2)
        task = Hessian("estimate", static(argnums), has_aux, **options)

    def finish(answer: Answer) -> Estimate:
        return Estimate(
            value=answer.value,
            grad=answer.derivative,
            error=tree_util.tree_map(_rounded, answer.error, answer.derivative),
            step=answer.step,
            one_sided=answer.one_sided,
            evaluations=answer.evaluations,
            aux=answer.aux,
            bound=derivative == 2 or not method.random,
            derivative=derivative,
        )

    return door(fun, task, method, finish, bounds)


def _rounded(error: Any, derivative: Any) -> Any:
    """A bound that includes what the result lost when it was rounded to its dtype."""
    if not is_inexact(derivative):
        return error
    size = jnp.abs(derivative).astype(error.dtype)
    lost = size * (float(jnp.finfo(derivative.dtype).eps) / 2)
    return error + jnp.where(jnp.isfinite(size), lost, 0)
