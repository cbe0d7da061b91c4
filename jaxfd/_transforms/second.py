"""Second derivatives: `hessian` and `hvp`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import PyTree

from jaxfd._estimate import Answer, Hessian, HessianVector, Needs, program_of
from jaxfd._methods import Central, Method
from jaxfd._transforms.options import Argnums, check, door, static, tangent_leaves, with_aux


def hessian(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    method: Method = Central(),
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Makes a function that estimates the Hessian of ``fun``, shaped as ``jax.hessian`` shapes it.

    Symmetry is used: ``n^2 + n + 1`` evaluations for ``Central()``, ``(n + 1)(n + 2) / 2`` for
    ``Forward()``.

    Args:
        fun: a function that returns a real array or a pytree of them.
        argnums: as for `grad`.
        has_aux: as for `grad`.
        method: as for `grad`; the default step suits second derivatives.
        chunk_size: as for `grad`.

    Returns:
        A function that returns the Hessian, or ``(hessian, aux)``.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jax.numpy as jnp, numpy as np, jaxfd
        >>> product = lambda x: x[0] * x[1] + x[0] ** 2
        >>> print(np.asarray(jaxfd.hessian(product)(jnp.array([1.0, 2.0]))).round(2))
        [[2. 1.]
         [1. 0.]]
    """
    schedule = check(method, chunk_size)
    task = Hessian("hessian", static(argnums), has_aux, schedule=schedule)
    return door(fun, task, method, with_aux(has_aux))


def hvp(
    fun: Callable[..., Any],
    primals: Sequence[PyTree],
    tangents: Sequence[PyTree],
    *,
    method: Method = Central(),
    chunk_size: int | None = None,
) -> Any:
    """Estimates the product of the Hessian of ``fun`` with a vector.

    ``4n`` evaluations for ``Central()``: the gradient's difference along the vector.

    Args:
        fun: a function that returns one real number.
        primals: a tuple of arguments.
        tangents: the vector, of the same structure, shapes and dtypes.
        method: as for `grad`; the default step suits second derivatives.
        chunk_size: as for `grad`.

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
    schedule = check(method, chunk_size)
    leaves = tangent_leaves("hvp", primals, tangents)
    argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    task = HessianVector("hvp", argnums, schedule=schedule)
    program = program_of(fun, compiled=False)
    answer: Answer = program.run(task, tuple(primals), {}, method, Needs(tangents=leaves))
    return answer.derivative
