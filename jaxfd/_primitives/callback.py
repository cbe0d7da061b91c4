"""The one primitive that calls the host.

``jax.pure_callback`` hands its arguments over as JAX arrays, copied by the very thread
pool that the callback occupies; above about 100 KiB that can wait for itself for ever.
This primitive hands plain NumPy arrays to the function and takes plain arrays back. It
brings what ``pure_callback`` would have brought: lowering, a batching rule (every leading
axis flattened into one call), a sharding annotation, and errors.

Nothing else may know the inside of this room, and it knows nothing of derivatives.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from jaxfd._primitives.sharding import vary, varying
from jaxfd._system import ctrl_c, fenv, host_calls


class Callback(Protocol):
    """A host function with a stable identity: equal callbacks share a compiled program.

    Called with plain NumPy arrays. With ``size`` None each array is one operand; otherwise those
    marked in ``batched`` have a leading axis of that length, and so must all results.
    """

    def __call__(
        self, arrays: Sequence[np.ndarray], batched: tuple[bool, ...], size: int | None
    ) -> Sequence[np.ndarray]: ...


host_call_p = Primitive("jaxfd_host_call")
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
        out=tuple((tuple(o.shape), np.dtype(o.dtype)) for o in out),
        batched=(False,) * len(operands),
        size=None,
    )
    axes = frozenset().union(*map(varying, operands))
    return [vary(r, axes) for r in results]


def _name_of(callback: Any) -> str:
    return str(getattr(callback, "name", "the host function"))


def _results(out: Sequence[Any], size: int | None) -> list[tuple[tuple[int, ...], np.dtype]]:
    lead = () if size is None else (size,)
    return [((*lead, *shape), dtype) for shape, dtype in out]


def _run(
    callback: Callback, out: Any, batched: Any, size: int | None, arrays: Sequence[Any]
) -> list[np.ndarray]:
    expected = _results(out, size)
    if size == 0:
        return [np.zeros(shape, dtype) for shape, dtype in expected]
    results = callback([np.asarray(a) for a in arrays], batched, size)
    return [
        np.asarray(r, dtype=dtype).reshape(shape)
        for r, (shape, dtype) in zip(results, expected, strict=True)
    ]


def _run_below(
    callback: Callback, out: Any, batched: Any, size: int | None, arrays: Sequence[Any]
) -> tuple[np.ndarray, ...]:
    """Runs the function for a compiled program.

    JAX keeps only the text of what is raised here, so that the text has to say everything.
    """
    environment = None
    try:
        # An interrupt may come at any line, this one included.
        host_calls.enter(_name_of(callback))
        environment = fenv.enter()
        return tuple(_run(callback, out, batched, size, arrays))
    except BaseException as error:
        host_calls.failed(error)
        notes = getattr(error, "__notes__", None)
        if not notes or not isinstance(error, Exception):
            raise
        kind = type(type(error).__name__, (RuntimeError,), {})
        raise kind("\n".join([str(error), *notes])).with_traceback(error.__traceback__) from None
    finally:
        fenv.leave(environment)
        host_calls.leave()


def _caller(callback: Callback, out: Any, batched: Any, size: int | None) -> Callable[..., Any]:
    """What a compiled program calls, with everything ready for it."""
    _prepare()
    ctrl_c.watch()

    def call(*arrays: Any) -> tuple[np.ndarray, ...]:
        return _run_below(callback, out, batched, size, arrays)

    return call


@functools.cache
def _prepare() -> None:
    """What the first compiled program with a host call needs done once."""
    host_calls.at_exit(jax.effects_barrier, _settle)


def _settle() -> None:
    """Makes every device forget the failure of its last host call.

    At the end JAX waits for the last program with a host call and prints what it raised, though
    it was raised before: a last call that succeeds leaves nothing to print.
    """
    echo: Callable[..., Any] = jax.jit(lambda x: host_call(_Echo(), [x], [x])[0])
    for device in jax.local_devices():
        echo(jax.device_put(np.zeros((), np.float32), device)).block_until_ready()


class _Echo:
    """A host function that returns what it is given."""

    def __call__(
        self, arrays: Sequence[np.ndarray], batched: tuple[bool, ...], size: int | None
    ) -> Sequence[np.ndarray]:
        del batched, size
        return arrays


@host_call_p.def_impl
def _impl(*operands: Any, callback: Callback, out: Any, batched: Any, size: int | None) -> list:
    return [jnp.asarray(r) for r in _run(callback, out, batched, size, operands)]


@host_call_p.def_abstract_eval
def _abstract(*avals: Any, callback: Callback, out: Any, batched: Any, size: int | None) -> list:
    del avals, callback, batched
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return [jax.core.ShapedArray(shape, dtype) for shape, dtype in _results(out, size)]
    # With explicit axes the type of an array says where it lies: these lie whole on every device.
    return [
        jax.core.ShapedArray(
            shape, dtype, sharding=NamedSharding(mesh, PartitionSpec(*[None] * len(shape)))
        )
        for shape, dtype in _results(out, size)
    ]


def _batch(
    operands: Sequence[Any],
    axes: Sequence[Any],
    *,
    callback: Callback,
    out: Any,
    batched: tuple[bool, ...],
    size: int | None,
) -> tuple[list[Any], list[int]]:
    """Merges a new batch axis with those already there."""
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


batching.primitive_batchers[host_call_p] = _batch


def _no_derivative(*args: Any, callback: Any, **params: Any) -> Any:
    del args, params
    name = _name_of(callback)
    raise TypeError(
        f"JAX asked for the derivative of a finished estimate of {name}, which host calls do not "
        "have. For second derivatives use jaxfd.hessian, jaxfd.hvp, or jax.hessian of the black "
        "box itself; for higher ones of a single variable jaxfd.derivative(fun, order=...)."
    )


ad.primitive_jvps[host_call_p] = _no_derivative
ad.primitive_transposes[host_call_p] = _no_derivative


def _shardings(ctx: Any, ranks: Sequence[int]) -> tuple[str, Any] | None:
    """The annotation that keeps a partitioned program from calling once per device.

    Inside ``shard_map`` every device makes its own call; in a program with global arrays the
    first device makes the only one.
    """
    context = ctx.module_context.axis_context
    manual = isinstance(context, mlir.SPMDAxisContext)
    if not manual and not isinstance(context, mlir.ShardingContext):
        return None
    if manual and context.manual_axes != frozenset(context.mesh.axis_names):
        raise NotImplementedError(
            "a black box inside shard_map needs all mesh axes to be manual: drop axis_names, or "
            "call it outside."
        )
    if getattr(jax.config, "jax_use_shardy_partitioner", True):
        if manual:
            each = [f"<mesh<[]>, [{', '.join(['{}'] * rank)}]>" for rank in ranks]
        else:
            each = ["<mesh<[], device_ids=[0]>, []>" for _ in ranks]
        text = f"#sdy.sharding_per_value<[{', '.join(each)}]>"
        return "sdy.sharding", mlir.ir.Attribute.parse(text)
    text = "{manual}" if manual else "{maximal device=0}"
    return "mhlo.sharding", mlir.ir.StringAttr.get(text)


def _lower(
    ctx: Any, *operands: Any, callback: Callback, out: Any, batched: Any, size: int | None
) -> Any:
    call = _caller(callback, out, batched, size)
    results, _, _ = mlir.emit_python_callback(
        ctx,
        call,
        None,
        list(operands),
        ctx.avals_in,
        ctx.avals_out,
        has_side_effect=False,
        **_NO_TOKEN,
    )
    annotation = _shardings(ctx, [aval.ndim for aval in ctx.avals_out])
    if annotation is not None and len(results):
        name, attribute = annotation
        operation: Any = results[0]
        operation.owner.attributes[name] = attribute
        context = ctx.module_context.axis_context
        if isinstance(context, mlir.ShardingContext) and context.num_devices > 1:
            # JAX cannot go on with an array that lies on one of a program's devices.
            spread: Callable[..., Any] = mlir.lower_fun(
                lambda *values: jax.lax.optimization_barrier(values), multiple_results=True
            )
            results = spread(ctx.replace(primitive=None, avals_in=ctx.avals_out), *results)
    return results


def _lower_by_pure_callback(
    ctx: Any, *operands: Any, callback: Callback, out: Any, batched: Any, size: int | None
) -> Any:
    """The way where JAX offers nothing better; see the head of this room for what it costs."""

    call = _caller(callback, out, batched, size)
    shapes = tuple(jax.ShapeDtypeStruct(s, d) for s, d in _results(out, size))
    rule: Callable[..., Any] = mlir.lower_fun(
        lambda *arrays: jax.pure_callback(call, shapes, *arrays), multiple_results=True
    )
    return rule(ctx, *operands)


_emit = getattr(mlir, "emit_python_callback", None)
# Older versions return a token, which is None, whether asked to or not.
_NO_TOKEN: dict[str, Any] = (
    {"returns_token": False}
    if _emit is not None and "returns_token" in inspect.signature(_emit).parameters
    else {}
)
mlir.register_lowering(host_call_p, _lower if _emit is not None else _lower_by_pure_callback)
