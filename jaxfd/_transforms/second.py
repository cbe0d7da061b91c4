"""Second derivatives: `hessian` and `hvp`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxfd._arrays import PyTree
from jaxfd._methods import Central, Method
from jaxfd._transforms.options import (
    Argnums,
    along,
    check,
    check_order,
    door,
    static,
    tangent_leaves,
    with_aux,
)


def hessian(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    method: Method = Central(),
    chunk_size: int | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
) -> Callable[..., Any]:
    """Makes a function that estimates the Hessian of ``fun``, shaped as ``jax.hessian`` shapes it.

    Symmetry is used: ``n^2 + n + 1`` evaluations for ``Central()``, ``(n + 1)(n + 2) / 2`` for
    ``Forward()``. ``Adaptive()`` finds steps that suit the noise, in 24 evaluations an entry and 32
    a pair for most functions, 60 and 96 at most. Of a `blackbox` whose noise drowns the default
    step (values of one pair that contradict each other show it) the same is done unasked; of a
    function with a `blackbox` inside only outside of ``jit`` and ``vmap``.

    Args:
        fun: a function that returns a real array or a pytree of them.
        argnums: as for `grad`.
        has_aux: as for `grad`.
        method: as for `grad`; the default step suits second derivatives.
        chunk_size: as for `grad`.
        bounds: as for `grad`; ``2n^2 + n + 1`` evaluations for ``Central()``.

    Returns:
        A function that returns the Hessian, or ``(hessian, aux)``. See `estimate` for error bars.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jax.numpy as jnp, numpy as np, jaxfd
        >>> product = lambda x: x[0] * x[1] + x[0] ** 2
        >>> print(np.asarray(jaxfd.hessian(product)(jnp.array([1.0, 2.0]))).round(2))
        [[2. 1.]
         [1. 0.]]
    """
    from jaxfd._estimate import Hessian

    schedule = check(method, chunk_size, bounds)
    task = Hessian("hessian", static(argnums), has_aux, schedule=schedule)
    return door(fun, task, method, with_aux(has_aux), bounds)


def hessian_diagonal(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    method: Method = Central(),
    chunk_size: int | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
) -> Callable[..., Any]:
    """Makes a function that estimates the diagonal of the Hessian of ``fun``, without the rest.

    ``2n + 1`` evaluations for ``Central()``. Its sum is the Laplacian.

    Args:
        fun: a function that returns a real array or a pytree of them.
        argnums: as for `grad`.
        has_aux: as for `grad`.
        method: as for `hessian`. Noise of a `blackbox` that hides everything is noticed here too,
            at two evaluations more; smaller noise is not: give ``Adaptive()``.
        chunk_size: as for `grad`.
        bounds: as for `grad`; ``3n + 1`` evaluations for ``Central()``.

    Returns:
        A function that returns the second derivative by every entry, shaped as `jacobian` shapes
        first ones; or ``(diagonal, aux)``.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jax.numpy as jnp, numpy as np, jaxfd
        >>> diagonal = jaxfd.hessian_diagonal(lambda x: x[0] * x[1] + x[0] ** 2)
        >>> print(np.asarray(diagonal(jnp.array([1.0, 2.0]))).round(2))
        [2. 0.]
    """
    from jaxfd._estimate import FirstOrder

    schedule = check(method, chunk_size, bounds)
    check_order(method, 2)
    task = FirstOrder("hessian_diagonal", static(argnums), has_aux, schedule=schedule, derivative=2)
    return door(fun, task, method, with_aux(has_aux), bounds)


def hvp(
    fun: Callable[..., Any],
    primals: Sequence[PyTree],
    tangents: Sequence[PyTree],
    *,
    method: Method = Central(),
    chunk_size: int | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
) -> Any:
    """Estimates the product of the Hessian of ``fun`` with a vector.

    ``4n`` evaluations for ``Central()``: the gradient's difference along the vector. With
    ``Adaptive()`` the whole Hessian is found, and multiplied.

    Args:
        fun: a function that returns one real number.
        primals: a tuple of arguments.
        tangents: the vector, of the same structure, shapes and dtypes.
        method: as for `grad`; the default step suits second derivatives.
        chunk_size: as for `grad`.
        bounds: a pair ``(lower, upper)`` of numbers or pytrees like the argument (like ``primals``
            where there are several). No point lies outside.

    Returns:
        The product, shaped as the argument if there is one, else a tuple like ``primals``.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jax.numpy as jnp, numpy as np, jaxfd
        >>> x, v = jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0])
        >>> print(np.asarray(jaxfd.hvp(lambda x: jnp.sum(x**2), (x,), (v,))).round(2))
        [2. 0.]
    """
    from jaxfd._estimate import HessianVector

    schedule = check(method, chunk_size, bounds)
    leaves = tangent_leaves("hvp", primals, tangents)
    argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    task = HessianVector("hvp", argnums, schedule=schedule)
    answer = along(fun, task, primals, method, leaves, bounds)
    return answer.derivative
