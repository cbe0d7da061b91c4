"""The per-sample trick: differences where they are few, at pre-activations.

The loss of a network is a mean over samples that know nothing of each other, and a layer has
far fewer units than weights. So the pre-activations of all samples are perturbed at once, unit by
unit, and what comes of it is the gradient of every sample's loss with respect to them. From there
to the weights there is one product: the layer itself, which JAX differentiates. Marked layers
(`layer`) are where the one hands over to the other.

This room is what users call, and what JAX differentiates. It must not know how gradients are made.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, cast

import jax
import jax.numpy as jnp
from jax import tree_util
from jax.custom_derivatives import SymbolicZero

from jaxfd._arrays import Static, freeze, is_inexact, positions
from jaxfd._methods import Central, Method
from jaxfd._networks.batch import BatchCall, sample_axes
from jaxfd._networks.batch_gradient import batch_gradient
from jaxfd._transforms import check

P = ParamSpec("P")
R = TypeVar("R")


def per_sample(
    loss: Callable[P, R],
    batch_argnums: int | Sequence[int] | None = None,
    *,
    method: Method = Central(),
    chunk_size: int | None = None,
) -> Callable[P, R]:
    """Makes ``jax.grad`` differentiate a network's loss by differences at its layers' outputs.

    Mark every layer with `layer`. A gradient then costs as many evaluations as for an argument
    with one entry per unit, not per weight: a network 64-128-10 has 138 units and 9,610
    parameters. They are evaluations of a batch, from the perturbed layer on.

    A sample's loss is ``loss`` of a batch of one, and ``loss`` must be the mean of these: no batch
    normalisation, no penalty on parameters (add it outside), and labels are batch arguments, never
    closed over. Where it is not, the gradient is NaN under ``jit`` and an error elsewhere;
    deviations in the last half of the digits are not seen. Where parameters are so small, as a
    head, a gain or a branch may begin, or losses so alike that this could hide something, whether
    samples know of each other is looked at with other parameters too: two evaluations more of the
    batch, filled with four of its samples, and of each of the four.

    Args:
        loss: a function that returns one real number, the mean over the samples of its batch
            arguments. JAX must be able to trace it.
        batch_argnums: the positions of the batch arguments; None for all but the first. All their
            leaves have one leading axis of the same length, the samples. They are constants.
        method: stencil and step for the pre-activations; any but ``ComplexStep``. For hard
            thresholds set a ``step`` as large as pre-activations are. Random methods (node
            perturbation) draw directions for every sample.
        chunk_size: how many perturbed entries are evaluated at once, for all samples; None lets
            the library choose.

    Returns:
        A function with the values of ``loss``, of positional arguments, whose derivative under
        ``jax.grad`` and ``jax.value_and_grad``, with respect to any argument that is no batch, is
        that estimate. ``2 u + 2`` evaluations for ``Central()`` and ``u`` numbers that the layers
        return for a sample; layers whose parameters are not differentiated do not count.

    Raises:
        TypeError: a parameter reaches the loss without passing a marked layer, or is rounded or
            compared inside of one; or an argument does not fit. See the message.
        ValueError: batch arguments do not fit together, or ``loss`` is no mean over samples.

    Example:
        >>> import jax, jax.numpy as jnp, jaxfd
        >>> def loss(w, x, y):                         # a perceptron: jax.grad gives zeros
        ...     return jnp.mean((jnp.sign(jaxfd.layer(jnp.matmul)(x, w)) - y) ** 2)
        >>> trained = jaxfd.per_sample(loss, method=jaxfd.Central(step=2.0))
        >>> x, y = jnp.array([[1.0, 0.5], [2.0, 2.0]]), jnp.array([1.0, -1.0])
        >>> print(jax.grad(trained)(jnp.array([0.5, 0.1]), x, y).round(2))
        [0.5  0.75]

    Reference:
        B. Widrow and M. Lehr, "30 years of adaptive neural networks: perceptron, madaline, and
        backpropagation", Proc. IEEE 78 (1990) 1415-1442, Madaline rule III. Node perturbation: N.
        Hiratani, Y. Mehta, T. Lillicrap and P. Latham, "On the stability and scalability of node
        perturbation learning", NeurIPS 2022.
    """
    check(method, chunk_size)
    if method.imaginary:
        raise TypeError(
            "per_sample traces the loss once, with real numbers, and cannot take ComplexStep: use "
            "Central() there."
        )
    chosen = None if batch_argnums is None else positions(batch_argnums)
    result: Callable[..., Any] = _BatchLoss(loss, chosen, method, chunk_size)
    return cast(Callable[P, R], functools.wraps(loss, updated=())(result))


class _BatchLoss:
    """A loss that JAX differentiates by differences: what `per_sample` returns."""

    def __init__(
        self,
        loss: Callable[..., Any],
        batch: tuple[int, ...] | None,
        method: Method,
        chunk_size: int | None,
    ) -> None:
        self.loss = loss
        self._batch = batch
        self._method = method
        self.chunk_size = chunk_size
        # Of its own, so that what is compiled goes with it.
        kernel = functools.partial(batch_gradient)
        self.kernel: Callable[..., Any] = jax.jit(kernel, static_argnums=(0, 1))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            raise TypeError(
                f"per_sample was called with the keyword argument {next(iter(kwargs))!r}: pass "
                "arguments by position, or fix options with functools.partial."
            )
        axes = sample_axes(args, self._batch)
        operands, tree = tree_util.tree_flatten((freeze(args), self._method))
        try:
            return _value(BatchCall(self, tree, axes), *operands)
        except jax.errors.UnexpectedTracerError as error:
            raise TypeError(
                "per_sample: the loss closes over something that is being differentiated: pass it "
                "as an argument."
            ) from error


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _value(call: BatchCall, *operands: Any) -> Any:
    return call.whole(operands)


def _forward(call: BatchCall, *primals: Any) -> tuple[Any, Any]:
    active = tuple(
        i for i, p in enumerate(primals) if p.perturbed and is_inexact(jnp.asarray(p.value))
    )
    for i in active:
        if i >= len(call.axes):
            raise TypeError("per_sample: the step of a method cannot be differentiated.")
        if call.axes[i] is not None:
            raise TypeError(
                f"per_sample: argument {call.name(i)} is a batch argument and cannot be "
                "differentiated: choose other argnums, or other batch_argnums."
            )
    value, gradients, fits = _differences(call, active, *(p.value for p in primals))
    if not isinstance(fits, jax.core.Tracer) and not fits:
        raise ValueError(
            "per_sample: the loss is not the mean of its samples' losses: return a mean, not a "
            "sum, let no sample know of another (batch normalisation), and name with "
            "batch_argnums all arguments that hold samples, and no others."
        )
    return value, (gradients, Static((active, len(primals))))


def _backward(call: BatchCall, residuals: Any, cotangent: Any) -> tuple[Any, ...]:
    del call
    gradients, (active, count) = residuals[0], residuals[1].value
    nothing: tuple[Any, ...] = (None,) * count
    if isinstance(cotangent, SymbolicZero):
        return nothing
    found = {i: g * cotangent.astype(g.dtype) for i, g in zip(active, gradients, strict=True)}
    return tuple(found.get(i) for i in range(count))


_value.defvjp(_forward, _backward, symbolic_zeros=True)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _differences(call: BatchCall, active: tuple[int, ...], *operands: Any) -> Any:
    return call.owner.kernel(call, active, *operands)


@_differences.defjvp
def _differences_jvp(call: BatchCall, active: Any, primals: Any, tangents: Any) -> Any:
    del call, active, primals, tangents
    raise TypeError("per_sample makes first derivatives only: use jaxfd.hessian for second ones.")
