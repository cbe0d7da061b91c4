"""Black boxes: host functions brought into JAX.

NumPy in, NumPy out, and behind it whatever the user has. Points are made on the host in
float64, one host call per estimate. This room holds the door; the call itself is in
`jaxfd._primitives`, the evaluation in `jaxfd._places`.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from typing import Any

from jax import tree_util

from jaxfd._arrays import PyTree
from jaxfd._estimate import HostProgram
from jaxfd._hook.differentiable import Hooked
from jaxfd._methods import Central, Method
from jaxfd._places import HostFunction
from jaxfd._runs import Journal, Runner


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
    executor: Any = None,
    chunk_size: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
    on_error: str | Callable[[Any, BaseException], Any] = "raise",
    journal: Journal | str | os.PathLike[str] | None = None,
    progress: bool | Callable[[Any], Any] | None = None,
    name: str | None = None,
    chunksize: int | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
) -> BlackBox:
    """Brings a host function into JAX, differentiable by differences.

    The result can be called anywhere in a JAX program, under ``jit`` and ``vmap`` too, and
    ``jax.grad``, ``jaxfd.grad`` and their kin differentiate it. Points are made on the host in
    float64 even where JAX computes in float32: floating arguments always arrive as float64 (or
    complex128) NumPy arrays. One host call serves a whole estimate, also under ``vmap``. The step
    is chosen for float64 results; a function that returns float32 arrays is recognised by their
    dtype and stepped for that (its first estimate is made twice). One that computes in less
    without its results telling wants a ``step``.

    ``jaxfd``'s estimates of ``jax.numpy`` code around the result compute that code in float64 too,
    even where JAX is set to float32, and make one host call for each box in it. What the code
    rounds on purpose, to bfloat16 say, and loops and branches over boxes stay as they are. Where
    the first call of a box is compiled into a program of your own, its estimate is compiled twice:
    for results in float64, and for results in less.

    Args:
        fun: a function of NumPy arrays (and pytrees of them, and any Python object) that returns
            NumPy arrays or numbers. It should be smooth on the scale of the step: run an integrator
            inside it with a relative tolerance of 1e-8, say, or set ``step``.
            JAX may call it more or less often than the program says. What it returns is copied at
            once, so that it may return the same buffer each time, and it may write to its
            arguments. What is masked in a masked array is NaN.
        out: a pytree of ``jax.ShapeDtypeStruct`` or arrays that describes what one call returns,
            or a function of the arguments' shapes that returns one.
        vectorized: whether ``fun`` takes and returns one more leading axis on every array, and
            computes all points at once.
        method: stencil and step that the hook uses; ``jaxfd.grad`` brings its own.
        mode: as for `differentiable`.
        executor: runs the points of a batch side by side: a ``ThreadPoolExecutor``, a
            ``ProcessPoolExecutor`` (started by spawn or forkserver), or any other object with the
            same ``submit``: of loky, mpi4py, dask (``client.get_executor()``). It is used, never
            shut down. A process pool that broke is replaced by one like it. None runs the
            points one after the other. On a thread pool ``fun`` itself must be thread-safe: no
            buffer that two points share. Worker processes import no JAX unless ``fun`` does.
        chunk_size: points that are handed to a worker at once, by default one, or for a vectorised
            function an equal share for each worker. Without an executor, the points of one call of
            a vectorised function, by default as many as 256 MiB hold.
        timeout: seconds that a point may take (for a vectorised function a call), with a process
            pool of the standard library or of loky. A point that hangs is interrupted, and if that
            does not help, its process is killed; the other points go on.
        retries: how often a point that failed is tried again.
        on_error: what becomes of a point that raised, returned something else than declared, took
            too long, or killed its worker. ``"raise"`` raises. ``"nan"`` lets it count as
            NaN (integers as 0) and warns; a difference that lost one side, to a failure or to a
            NaN that ``fun`` returned, is then formed from the other side and the centre. A function
            ``(x, exception) -> value`` stands in for ``fun``; its ``x`` is the only argument, or
            the tuple of all. A penalty that jumps makes huge slopes: differences see the jump.
        journal: a file, or a `Journal`: points that are finished are written there, and are not
            evaluated again. The key is every bit of the arguments, the name and the version; that
            the function changed is noticed, see `Journal`.
        progress: True for a bar on a terminal or in a notebook, and lines in the log ``jaxfd``
            elsewhere; or a function of a named tuple ``(name, done, planned, failed, seconds,
            left, unit, ...)``, a `Progress`, called as points finish. Inside of a fit it is the
            fit that shows a bar, not each batch.
        name: what errors, progress and the journal call the function; by default its own name.
        chunksize: the old name of ``chunk_size``.
        bounds: as for `differentiable`: the box that the hook's differences stay in, say
            ``(0, jnp.inf)`` for a rate or a log-density's domain. ``jaxfd.grad`` brings its own.

    Returns:
        A function of JAX arrays.

    Raises:
        TypeError, ValueError: where an argument does not fit; at the call, where ``fun`` returns
            another shape, kind of dtype or structure than ``out`` declares. What ``fun`` itself
            raises is raised as it is, with a note that says at which point; from inside a user's
            own ``jit``, JAX wraps it in an error whose text holds all that.
        TimeoutError: a point took longer than ``timeout``.
        concurrent.futures.BrokenExecutor: a worker process died.

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
    _check_out(out)
    if chunksize is not None:
        if chunk_size is not None:
            raise TypeError("chunksize is the old name of chunk_size: give chunk_size alone.")
        warnings.warn(
            "chunksize is now called chunk_size, as everywhere: pass blackbox(chunk_size=...).",
            DeprecationWarning,
            stacklevel=2,
        )
        chunk_size = chunksize
    runner = Runner(
        fun,
        name,
        bool(vectorized),
        executor=executor,
        chunk_size=chunk_size,
        timeout=timeout,
        retries=retries,
        on_error=on_error,
        journal=journal,
        progress=progress,
    )
    program = HostProgram(HostFunction(runner), out)
    box = BlackBox(program, method, mode, bounds=bounds)
    functools.update_wrapper(box, fun, updated=())
    return box


def _check_out(out: Any) -> None:
    """Raises TypeError where something in ``out`` is no shape with a dtype, and no example.

    Integers are refused: ``(3,)`` is meant to be a shape.
    """
    if callable(out) and not isinstance(out, type):
        return
    for leaf in tree_util.tree_leaves(out):
        shaped = hasattr(leaf, "shape") and hasattr(leaf, "dtype") and not isinstance(leaf, type)
        if not shaped and not isinstance(leaf, (float, complex)):
            raise TypeError(
                f"out must be made of jax.ShapeDtypeStruct or arrays, got {leaf!r}: for one number "
                "say jax.ShapeDtypeStruct((), jnp.float32), for three ones (3,) in place of ()."
            )
