"""How a compiled program comes to call the host.

Where JAX offers it, the program calls the function directly. What surrounds such a call lies here
too: it is counted in and out, computes as Python's own threads do, has its errors put into text,
and is made once however many devices the program has. It must not know what is called.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.interpreters import mlir

from jaxfd._primitives.bits import carried, pack, unpack
from jaxfd._primitives.callback import (
    Callback,
    call_host,
    host_call,
    host_call_p,
    name_of,
    with_batch,
)
from jaxfd._primitives.outputs import Outputs
from jaxfd._system import ctrl_c, fenv, host_calls


def _run_below(
    callback: Callback,
    out: Outputs,
    batched: tuple[bool, ...],
    size: int | None,
    arrays: Sequence[Any],
) -> tuple[np.ndarray, ...]:
    """Runs the function for a compiled program.

    JAX keeps only the text of what is raised here, so that the text has to say everything.
    """
    environment, this = None, object()
    try:
        # An interrupt may come at any line, this one included.
        host_calls.enter(this, name_of(callback))
        environment = fenv.enter()
        return tuple(call_host(callback, out, batched, size, arrays))
    except BaseException as error:
        host_calls.failed(error)
        notes = getattr(error, "__notes__", None)
        if not notes or not isinstance(error, Exception):
            raise
        kind = type(type(error).__name__, (RuntimeError,), {})
        raise kind("\n".join([str(error), *notes])).with_traceback(error.__traceback__) from None
    finally:
        try:
            fenv.leave(environment)
            host_calls.leave(this)
        except KeyboardInterrupt:
            host_calls.leave(this)
            raise


def _caller(
    callback: Callback, out: Outputs, batched: tuple[bool, ...], size: int | None
) -> Callable[..., tuple[np.ndarray, ...]]:
    """What a compiled program calls, with everything ready for it."""
    _prepare()
    ctrl_c.watch()
    handed = carried(with_batch(out, size))

    def call(*arrays: Any) -> tuple[np.ndarray, ...]:
        return pack(_run_below(callback, out, batched, size, arrays), handed)

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


def _annotation(ctx: Any, ranks: Sequence[int]) -> tuple[str, Any] | None:
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
    ctx: Any,
    *operands: Any,
    callback: Callback,
    out: Outputs,
    batched: tuple[bool, ...],
    size: int | None,
) -> Any:
    call = _caller(callback, out, batched, size)
    expected = with_batch(out, size)
    handed = [
        aval if aval.dtype == dtype else jax.core.ShapedArray(shape, dtype)
        for aval, (shape, dtype) in zip(ctx.avals_out, carried(expected), strict=True)
    ]
    results, _, _ = mlir.emit_python_callback(
        ctx.replace(avals_out=handed),
        call,
        None,
        list(operands),
        ctx.avals_in,
        handed,
        has_side_effect=False,
        **_NO_TOKEN,
    )
    annotation = _annotation(ctx, [aval.ndim for aval in handed])
    if annotation is not None and len(results):
        name, attribute = annotation
        operation: Any = results[0]
        operation.owner.attributes[name] = attribute
        context = ctx.module_context.axis_context
        if isinstance(context, mlir.ShardingContext) and context.num_devices > 1:
            # JAX cannot go on with an array that lies on one of a program's devices.
            barrier: Callable[..., Any] = jax.lax.optimization_barrier
            spread: Callable[..., Any] = mlir.lower_fun(
                lambda *values: barrier(values), multiple_results=True
            )
            results = spread(
                ctx.replace(primitive=None, avals_in=handed, avals_out=handed), *results
            )
    if handed == list(ctx.avals_out):
        return results
    rule: Callable[..., Any] = mlir.lower_fun(
        lambda *arrays: unpack(arrays, expected), multiple_results=True
    )
    return rule(ctx.replace(primitive=None, avals_in=handed), *results)


def _lower_by_pure_callback(
    ctx: Any,
    *operands: Any,
    callback: Callback,
    out: Outputs,
    batched: tuple[bool, ...],
    size: int | None,
) -> Any:
    """The way where JAX offers nothing better; see the head of `callback` for what it costs."""
    call = _caller(callback, out, batched, size)
    leaf: Callable[..., Any] = jax.ShapeDtypeStruct
    expected = with_batch(out, size)
    shapes = tuple(leaf(s, d) for s, d in carried(expected))
    rule: Callable[..., Any] = mlir.lower_fun(
        lambda *arrays: unpack(jax.pure_callback(call, shapes, *arrays), expected),
        multiple_results=True,
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
