"""The transforms: thin doors onto the pipeline, with the signatures of JAX's own.

Each door checks what does not depend on the call, names a `Task`, and unpacks the
result. None of them owns a loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import tree_util
from jaxtyping import PyTree

from jaxfd._dtype import is_complex
from jaxfd._estimate import (
    FirstOrder,
    Hessian,
    HessianVector,
    Line,
    Task,
    check_call,
    program_of,
)
from jaxfd._methods import Central, Method
from jaxfd._result import Estimate
from jaxfd._tree import positions

Argnums = int | Sequence[int]


def check_method(method: Any) -> None:
    """Raises TypeError if this is no method value."""
    if not isinstance(method, Method):
        hint = f"{method.__name__}()" if isinstance(method, type) else "jaxfd.Central()"
        raise TypeError(f"method must be a method value such as {hint}, got {method!r}.")


def _check(method: Any, chunk_size: Any = None, bounds: Any = None) -> None:
    check_method(method)
    if chunk_size is not None:
        if isinstance(chunk_size, bool) or not isinstance(chunk_size, int):
            raise TypeError(f"chunk_size must be an integer or None, got {chunk_size!r}.")
        if chunk_size < 1:
            raise ValueError(
                f"chunk_size must be 1 or more, got {chunk_size}: it is the number of points "
                "evaluated at once."
            )
    if bounds is not None and not (isinstance(bounds, (tuple, list)) and len(bounds) == 2):
        raise TypeError(f"bounds must be a pair (lower, upper), got {bounds!r}.")


def _static(argnums: Argnums) -> int | tuple[int, ...]:
    chosen = positions(argnums)
    return chosen if isinstance(argnums, Sequence) else chosen[0]


def _door(
    fun: Callable[..., Any],
    task: Task,
    method: Method,
    finish: Callable[[Any], Any],
    bounds: tuple[PyTree, PyTree] | None = None,
) -> Callable[..., Any]:
    """A function of the user's arguments that runs a task and unpacks its result."""
    program = program_of(fun)
    extra = None if bounds is None else tuple(bounds)

    @functools.wraps(fun, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        check_call(task, args, kwargs, extra)
        return finish(program.run(task, args, kwargs, method, extra))

    return wrapped


def _with_aux(result: Any) -> Any:
    return (result["derivative"], result["aux"]) if "aux" in result else result["derivative"]


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
    are built in one kernel, compiled on the first call and kept by the returned function, so
    keep that, as you would keep a ``jax.jit``. A `blackbox` is run on the host in float64.

    Args:
        fun: a function of arrays, or pytrees of them, that returns one real number.
        argnums: which positional arguments to differentiate.
        has_aux: whether ``fun`` returns ``(value, aux)``.
        holomorphic: whether ``fun`` is promised to be holomorphic.
        allow_int: whether integer leaves are allowed; their gradient is zero (``float0``).
        method: stencil and step.
        chunk_size: how many points are evaluated at once; None lets the library choose.
        bounds: a pair ``(lower, upper)`` of numbers or pytrees like the argument. No point lies
            outside; near a wall the stencil becomes one-sided at the same order.

    Returns:
        A function of the same arguments that returns the gradient, of the shapes and dtypes of
        the argument's leaves, or ``(gradient, aux)``. ``Central()`` spends ``2n`` evaluations,
        one more with aux or bounds.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jax.numpy as jnp, jaxfd
        >>> def steps(x):
        ...     return jnp.sum(jnp.floor(x) + x**2)
        >>> print(jaxfd.grad(steps)(jnp.array([1.5, 2.5])).round(3))
        [3. 5.]

    Reference:
        B. Fornberg, Mathematics of Computation 51 (1988) 699-706, for the weights.
    """
    _check(method, chunk_size, bounds)
    task = FirstOrder(
        "grad",
        _static(argnums),
        has_aux,
        holomorphic,
        allow_int,
        chunk_size,
        scalar=True,
    )
    return _door(fun, task, method, _with_aux, bounds)


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
        >>> print(value, slope.round(3))
        8.0 12.0
    """
    _check(method, chunk_size, bounds)
    task = FirstOrder(
        "value_and_grad",
        _static(argnums),
        has_aux,
        holomorphic,
        allow_int,
        chunk_size,
        scalar=True,
        value=True,
    )

    def finish(result: Any) -> Any:
        value = (result["value"], result["aux"]) if has_aux else result["value"]
        return value, result["derivative"]

    return _door(fun, task, method, finish, bounds)


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
        >>> import jax.numpy as jnp, jaxfd
        >>> print(jaxfd.jacobian(lambda x: x**2)(jnp.array([1.0, 2.0])).round(3))
        [[2. 0.]
         [0. 4.]]
    """
    _check(method, chunk_size, bounds)
    task = FirstOrder("jacobian", _static(argnums), has_aux, holomorphic, allow_int, chunk_size)
    return _door(fun, task, method, _with_aux, bounds)


def estimate(
    fun: Callable[..., Any],
    argnums: Argnums = 0,
    has_aux: bool = False,
    *,
    method: Method = Central(),
    chunk_size: int | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
) -> Callable[..., Estimate]:
    """Makes a function that returns a gradient with all that is known about it.

    Args:
        fun: as for `grad`.
        argnums: as for `grad`.
        has_aux: as for `grad`.
        method: as for `grad`.
        chunk_size: as for `grad`.
        bounds: as for `grad`.

    Returns:
        A function that returns an `Estimate` with value, gradient, error bound, step, and number
        of evaluations (``2n + 1`` for ``Central()``).

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jaxfd
        >>> result = jaxfd.estimate(lambda x: x**3)(2.0)
        >>> print(result.evaluations, abs(result.grad - 12.0) < result.error)
        3 True
    """
    _check(method, chunk_size, bounds)
    task = FirstOrder(
        "estimate",
        _static(argnums),
        has_aux,
        chunk_size=chunk_size,
        scalar=True,
        value=True,
        error=True,
    )
    nodes = len(method.stencil().moving)

    def finish(result: Any) -> Estimate:
        count = sum(
            jnp.size(leaf) * (2 if is_complex(leaf) else 1)
            for leaf in tree_util.tree_leaves(result["derivative"])
        )
        return Estimate(
            value=result["value"],
            grad=result["derivative"],
            error=result["error"],
            step=result["step"],
            evaluations=nodes * count + 1,
            aux=result.get("aux"),
        )

    return _door(fun, task, method, finish, bounds)


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
        >>> import jax.numpy as jnp, jaxfd
        >>> product = lambda x: x[0] * x[1] + x[0] ** 2
        >>> print(jaxfd.hessian(product)(jnp.array([1.0, 2.0])).round(2))
        [[2. 1.]
         [1. 0.]]
    """
    _check(method, chunk_size)
    task = Hessian("hessian", _static(argnums), has_aux, chunk_size=chunk_size)
    return _door(fun, task, method, _with_aux)


def derivative(
    fun: Callable[..., Any], order: int = 1, *, method: Method = Central()
) -> Callable[..., Any]:
    """Makes a function that estimates a derivative of any order of a function of one number.

    Args:
        fun: a function of a real scalar (further arguments are passed on) that returns an array or
            a pytree of arrays.
        order: the order of the derivative, 1 or more.
        method: stencil and step; the default step suits the order.

    Returns:
        A function that returns the derivative, of the shape of ``fun``'s output.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jax.numpy as jnp, jaxfd
        >>> print(jaxfd.derivative(jnp.exp, order=2)(0.0).round(2))
        1.0
    """
    _check(method)
    if isinstance(order, bool) or not isinstance(order, int):
        raise TypeError(f"order must be an integer, got {order!r}.")
    if order < 1:
        raise ValueError(f"order must be 1 or more, got {order}.")
    method.stencil(order)
    task = FirstOrder("derivative", derivative=order)
    inner = _door(fun, task, method, _with_aux)

    @functools.wraps(fun, updated=())
    def wrapped(x: Any, *args: Any, **kwargs: Any) -> Any:
        if not tree_util.all_leaves([x]) or jnp.ndim(x) != 0:
            shapes = [jnp.shape(leaf) for leaf in tree_util.tree_leaves(x)]
            raise TypeError(
                f"derivative needs a scalar as first argument, got arrays of shape {shapes}: use "
                "jax.vmap over several points, or jaxfd.grad and jaxfd.jacobian."
            )
        return inner(x, *args, **kwargs)

    return wrapped


def _tangent_leaves(name: str, primals: Any, tangents: Any) -> list[Any]:
    """Checks tangents against primals and returns those of the inexact leaves."""
    for what, value in (("primals", primals), ("tangents", tangents)):
        if not isinstance(value, (tuple, list)):
            raise TypeError(
                f"{name}: {what} must be a tuple, one entry per argument, got {value!r}."
            )
    tree: Any
    flat, tree = tree_util.tree_flatten(tuple(primals))
    tangent_flat, tangent_tree = tree_util.tree_flatten(tuple(tangents))
    if tree != tangent_tree:
        raise TypeError(
            f"{name}: tangents have the structure {tangent_tree}, but primals have {tree}: give "
            "one tangent for each."
        )
    result = []
    for x, v in zip(flat, tangent_flat, strict=True):
        if jnp.shape(x) != jnp.shape(v):
            raise ValueError(
                f"{name}: a tangent has the shape {jnp.shape(v)} for a primal of shape "
                f"{jnp.shape(x)}: give the same shape."
            )
        dtype = jnp.result_type(x)
        if not jnp.issubdtype(dtype, jnp.inexact):
            if getattr(v, "dtype", None) == jax.dtypes.float0:
                continue
            raise TypeError(
                f"{name} needs real or complex primals, got {dtype}: convert it to a floating "
                "dtype, or close over it."
            )
        if jnp.result_type(v) != dtype:
            raise TypeError(
                f"{name}: a tangent is {jnp.result_type(v)} for a primal of {dtype}: convert it."
            )
        result.append(jnp.asarray(v, dtype))
    if not result:
        raise TypeError(f"{name} needs at least one floating or complex primal.")
    return result


def jvp(
    fun: Callable[..., Any],
    primals: Sequence[PyTree],
    tangents: Sequence[PyTree],
    *,
    method: Method = Central(),
    has_aux: bool = False,
) -> tuple[Any, ...]:
    """Evaluates ``fun`` and estimates its derivative along one tangent.

    Three evaluations for ``Central()``, whatever the number of parameters.

    Args:
        fun: a function that returns an array or a pytree of arrays.
        primals: a tuple of arguments.
        tangents: a tuple of the same structure, shapes and dtypes.
        method: as for `grad`.
        has_aux: whether ``fun`` returns ``(value, aux)``.

    Returns:
        ``(value, tangent)`` or ``(value, tangent, aux)``, as ``jax.jvp`` returns them.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jax.numpy as jnp, jaxfd
        >>> x, v = jnp.array([1.0, 2.0]), jnp.array([1.0, 1.0])
        >>> value, slope = jaxfd.jvp(lambda x: jnp.sum(x**2), (x,), (v,))
        >>> print(value, slope.round(3))
        5.0 6.0

    Reference:
        P. Brown and Y. Saad, SIAM J. Sci. Stat. Comput. 11 (1990) 450-481, for the step.
    """
    _check(method)
    leaves = _tangent_leaves("jvp", primals, tangents)
    task = Line("jvp", tuple(range(len(primals))), has_aux, allow_int=True)
    program = program_of(fun, compiled=False)
    result = program.run(task, tuple(primals), {}, method, leaves)
    pair = (result["value"], result["derivative"])
    return (*pair, result["aux"]) if has_aux else pair


def hvp(
    fun: Callable[..., Any],
    primals: Sequence[PyTree],
    tangents: Sequence[PyTree],
    *,
    method: Method = Central(),
) -> Any:
    """Estimates the product of the Hessian of ``fun`` with a vector.

    ``4n`` evaluations for ``Central()``: the gradient's difference along the vector.

    Args:
        fun: a function that returns one real number.
        primals: a tuple of arguments.
        tangents: the vector, of the same structure, shapes and dtypes.
        method: as for `grad`; the default step suits second derivatives.

    Returns:
        The product, shaped as the argument if there is one, else a tuple like ``primals``.

    Raises:
        TypeError, ValueError: where an argument does not fit; see the message.

    Example:
        >>> import jax.numpy as jnp, jaxfd
        >>> x, v = jnp.array([1.0, 2.0]), jnp.array([1.0, 0.0])
        >>> print(jaxfd.hvp(lambda x: jnp.sum(x**2), (x,), (v,)).round(2))
        [2. 0.]
    """
    _check(method)
    leaves = _tangent_leaves("hvp", primals, tangents)
    argnums = 0 if len(primals) == 1 else tuple(range(len(primals)))
    task = HessianVector("hvp", argnums)
    program = program_of(fun, compiled=False)
    return program.run(task, tuple(primals), {}, method, leaves)["derivative"]
