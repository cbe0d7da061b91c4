"""The one primitive that calls the host.

``jax.pure_callback`` hands its arguments over as JAX arrays, copied by the very thread
pool that the callback occupies; above about 100 KiB that can wait for itself for ever.
This primitive hands plain NumPy arrays to the function and takes plain arrays back. It
brings what ``pure_callback`` would have brought: a batching rule (every leading axis
flattened into one call), types on a mesh, errors, and in `lowering` how it is compiled.

No other folder may know the inside of these rooms, and they know nothing of derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from jaxfd._primitives.outputs import Outputs, outputs_of
from jaxfd._primitives.sharding import vary, varying, whole


class Callback(Protocol):
    """A host function with a stable identity: equal callbacks share a compiled program.

    It may have an attribute ``name``, by which errors call it; ``parts``, digests that tell it from
    another one; and ``of_all``, true where one call without a batch axis answers for all calls of a
    batch, whatever the arrays are.
    """

    def __call__(
        self, arrays: Sequence[np.ndarray], batched: tuple[bool, ...], size: int | None
    ) -> Sequence[np.ndarray]:
        """Calls the function.

        Args:
            arrays: plain NumPy arrays, one for each operand: of its own shape, or where a batch of
                calls is made, ``(size, *shape)`` for those that differ between them.
            batched: which arrays have that leading axis.
            size: how many calls are made at once; None for one alone, without the axis.

        Returns:
            The results: each of its own shape, or ``(size, *shape)``.
        """
        ...


host_call_p: Any = Primitive("jaxfd_host_call")
host_call_p.multiple_results = True


def host_call(
    callback: Callback, out: Sequence[jax.ShapeDtypeStruct], operands: Sequence[Any]
) -> list[Any]:
    """Calls the host from anywhere in a JAX program.

    Args:
        callback: the host function.
        out: shapes and dtypes of its results, without any batch axis.
        operands: arrays or tracers.

    Returns:
        The results as JAX arrays. Outside any transformation the function is called directly, and
        what it raises is raised here.
    """
    results = host_call_p.bind(
        *operands,
        callback=callback,
        out=outputs_of(out),
        batched=(False,) * len(operands),
        size=None,
    )
    axes = frozenset().union(*map(varying, operands))
    return [vary(r, axes) for r in results]


def name_of(callback: Callback) -> str:
    """What errors call a host function."""
    return str(getattr(callback, "name", "the host function"))


def with_batch(out: Outputs, size: int | None) -> list[tuple[tuple[int, ...], np.dtype]]:
    """Shapes and dtypes of the results of so many calls; of one alone where ``size`` is None."""
    lead = () if size is None else (size,)
    return [((*lead, *shape), dtype) for shape, dtype in out]


def call_host(
    callback: Callback,
    out: Outputs,
    batched: tuple[bool, ...],
    size: int | None,
    arrays: Sequence[Any],
) -> list[np.ndarray]:
    """Calls a host function here and now; see `Callback` for the arguments."""
    expected = with_batch(out, size)
    if size == 0:
        return [np.zeros(shape, dtype) for shape, dtype in expected]
    results = callback([np.asarray(a) for a in arrays], batched, size)
    return [
        _as(r, dtype).reshape(shape) for r, (shape, dtype) in zip(results, expected, strict=True)
    ]


def _as(result: Any, dtype: np.dtype) -> np.ndarray:
    """A result as an array of a dtype; infinite, without a word, where it is too large for that."""
    if isinstance(result, np.ndarray) and result.dtype == dtype:
        return result
    with np.errstate(over="ignore"):
        return np.asarray(result, dtype)


def _impl(
    *operands: Any, callback: Callback, out: Outputs, batched: tuple[bool, ...], size: int | None
) -> list[jax.Array]:
    # A compiled program hands over the bits of a PRNG key; so does this.
    bits = [
        jax.random.key_data(o) if jnp.issubdtype(o.dtype, jax.dtypes.prng_key) else o
        for o in operands
    ]
    found: list[jax.Array] = _as_jax(call_host(callback, out, batched, size, bits))
    return found


@jax.jit
def _as_jax(arrays: list[np.ndarray]) -> list[jax.Array]:
    """NumPy arrays as JAX's, in a third of the time that `jax.numpy.asarray` takes."""
    return arrays  # type: ignore[return-value]


def _abstract(
    *avals: Any, callback: Callback, out: Outputs, batched: tuple[bool, ...], size: int | None
) -> list[jax.core.ShapedArray]:
    del avals, callback, batched
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return [jax.core.ShapedArray(shape, dtype) for shape, dtype in with_batch(out, size)]
    # With explicit axes the type of an array says where it lies: these lie whole on every device.
    return [
        jax.core.ShapedArray(shape, dtype, sharding=whole(mesh, len(shape)))
        for shape, dtype in with_batch(out, size)
    ]


def _batch(
    operands: Sequence[Any],
    axes: Sequence[Any],
    *,
    callback: Callback,
    out: Outputs,
    batched: tuple[bool, ...],
    size: int | None,
) -> tuple[list[Any], list[Any]]:
    """Merges a new batch axis with those already there."""
    if getattr(callback, "of_all", False):
        results = host_call_p.bind(
            *operands, callback=callback, out=out, batched=batched, size=size
        )
        return results, [None] * len(results)
    new = next(
        operand.shape[axis]
        for operand, axis in zip(operands, axes, strict=True)
        if isinstance(axis, int)
    )
    merged, flags = [], []
    for operand, axis, before in zip(operands, axes, batched, strict=True):
        mapped = isinstance(axis, int)
        flags.append(mapped or before)
        if mapped:
            operand = jnp.moveaxis(operand, axis, 0)
        if size is not None and flags[-1]:
            inner = operand.shape[int(mapped) + int(before) :]
            if not mapped:
                operand = operand[None]
            if not before:
                operand = operand[:, None]
            operand = jnp.broadcast_to(operand, (new, size, *inner))
            operand = operand.reshape(new * size, *inner)
        merged.append(operand)
    results = host_call_p.bind(
        *merged,
        callback=callback,
        out=out,
        batched=tuple(flags),
        size=new if size is None else new * size,
    )
    if size is not None:
        results = [r.reshape(new, size, *r.shape[1:]) for r in results]
    return results, [0] * len(results)


def _no_derivative(*args: Any, callback: Callback, **params: Any) -> NoReturn:
    del args, params
    name = name_of(callback)
    raise TypeError(
        f"JAX asked for the derivative of a finished estimate of {name}, which host calls do not "
        "have. For second derivatives use jaxfd.hessian, jaxfd.hvp, or jax.hessian of the black "
        "box itself; for higher ones of a single variable jaxfd.derivative(fun, order=...)."
    )


def _no_transpose(*args: Any, callback: Callback, **params: Any) -> NoReturn:
    del args, params
    name = name_of(callback)
    raise TypeError(
        f"JAX asked for the transpose of {name}, a host function, of which it cannot know that it "
        "is linear (jax.linear_transpose, and the solvers of jax.scipy.sparse.linalg, transpose "
        f"their operator). Hand over a linear map made of it: linear = jax.linearize({name}, x)[1]."
    )


host_call_p.def_impl(_impl)
host_call_p.def_abstract_eval(_abstract)
batching.primitive_batchers[host_call_p] = _batch
ad.primitive_jvps[host_call_p] = _no_derivative
ad.primitive_transposes[host_call_p] = _no_transpose
