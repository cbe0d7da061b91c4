"""Black boxes: host functions brought into JAX.

NumPy in, NumPy out, and behind it whatever the user has. Points are made on the host in
float64, one host call per estimate. This room holds the door; the call itself is in
`_callback`, the evaluation in `_host`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jaxtyping import PyTree

from jaxfd._differentiable import Hooked
from jaxfd._estimate import HostProgram
from jaxfd._host import HostFunction
from jaxfd._methods import Central, Method


class BlackBox(Hooked):
    """What `blackbox` returns: a function of JAX arrays with a host function behind it."""

    def __repr__(self) -> str:
        return f"<jaxfd.blackbox {self.program.name}>"


def blackbox(
    fun: Callable[..., Any],
    out: PyTree | Callable[..., PyTree],
    *,
    vectorized: bool = False,
    method: Method = Central(),
    mode: str = "reverse",
) -> BlackBox:
    """Brings a host function into JAX, differentiable by differences.

    The result can be called anywhere in a JAX program, under ``jit`` and ``vmap`` too, and
    ``jax.grad``, ``jaxfd.grad`` and their kin differentiate it. Points are made on the host in
    float64 even where JAX computes in float32: floating arguments always arrive as float64 (or
    complex128) NumPy arrays. One host call serves a whole estimate, also under ``vmap``. The step
    is chosen for float64 results; a function that returns float32 arrays is recognised by their
    dtype and stepped for that (its first estimate is made twice). One that computes in less
    without its results telling wants a ``step``.

    Args:
        fun: a function of NumPy arrays (and pytrees of them, and any Python object) that returns
            NumPy arrays or numbers. It should be smooth on the scale of the step: run an integrator
            inside it with a relative tolerance of 1e-8, say, or set ``step``.
            JAX may call it more or less often than the program says.
        out: a pytree of ``jax.ShapeDtypeStruct`` or arrays that describes what one call returns,
            or a function of the arguments' shapes that returns one.
        vectorized: whether ``fun`` takes and returns one more leading axis on every array, and
            computes all points at once.
        method: stencil and step that the hook uses; ``jaxfd.grad`` brings its own.
        mode: as for `differentiable`.

    Returns:
        A function of JAX arrays.

    Raises:
        TypeError, ValueError: where an argument does not fit; at the call, where ``fun`` returns
            another shape, kind of dtype or structure than ``out`` declares. What ``fun`` itself
            raises is raised as it is; from inside a user's own ``jit``, JAX wraps it in an error
            whose text holds its type, message and traceback.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, jaxfd
        >>> def simulate(x):
        ...     return np.sum(np.cumsum(x) ** 2)
        >>> model = jaxfd.blackbox(simulate, jax.ShapeDtypeStruct((), jnp.float32))
        >>> print(jax.grad(model)(jnp.array([1.0, 2.0])))
        [8. 6.]
    """
    if not callable(fun):
        raise TypeError(f"fun must be callable, got {type(fun).__name__}.")
    name = getattr(fun, "__name__", type(fun).__name__)
    program = HostProgram(HostFunction(fun, bool(vectorized), name), out)
    box = BlackBox(program, method, mode)
    functools.update_wrapper(box, fun, updated=())
    return box
