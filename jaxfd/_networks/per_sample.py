"""The per-sample trick: differences where they are few, at pre-activations.

The loss of a network is a mean over samples that know nothing of each other, and a layer has
far fewer units than weights. So the pre-activations of all samples are perturbed at once, unit by
unit, and what comes of it is the gradient of every sample's loss with respect to them. From there
to the weights there is one product: the layer itself, which JAX differentiates. Marked layers
(`_layer`) are where the one hands over to the other.

This room knows the door `grad` and nothing of points, steps, or how layers are found.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, tree_util
from jax.custom_derivatives import SymbolicZero

from jaxfd._arrays import Static, freeze, is_array, is_inexact, path_name, positions, promote, thaw
from jaxfd._methods import Central, Method
from jaxfd._networks.network import Network
from jaxfd._places import chunk_bytes, evenly
from jaxfd._random import RandomDirections
from jaxfd._transforms import check, grad

# From so many samples on a loss that is no mean is looked at once more, on either half of them:
# the rounding of a layer takes a sample over the edge of a hard threshold now and then, but hardly
# ever one in each half.
_HALVED = 4


def per_sample(
    loss: Callable[..., Any],
    batch_argnums: int | Sequence[int] | None = None,
    *,
    method: Method = Central(),
    chunk_size: int | None = None,
) -> Callable[..., Any]:
    """Makes ``jax.grad`` differentiate a network's loss by differences at its layers' outputs.

    Mark every layer with `layer`. A gradient then costs as many evaluations as for an argument
    with one entry per unit, not per weight: a network 64-128-10 has 138 units and 9,610
    parameters. They are evaluations of a batch, from the perturbed layer on.

    A sample's loss is ``loss`` of a batch of one, and ``loss`` must be the mean of these: no batch
    normalisation, no penalty on parameters (add it outside), and labels are batch arguments, never
    closed over. Where it is not, the gradient is NaN under ``jit`` and an error elsewhere;
    deviations in the last half of the digits are not seen.

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
    return functools.wraps(loss, updated=())(_PerSample(loss, chosen, method, chunk_size))


class _PerSample:
    """What `per_sample` returns."""

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
        self._chunk_size = chunk_size
        self.kernel = jax.jit(self._estimate, static_argnums=(0, 1))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            raise TypeError(
                f"per_sample was called with the keyword argument {next(iter(kwargs))!r}: pass "
                "arguments by position, or fix options with functools.partial."
            )
        axes = self._axes(args)
        operands, tree = tree_util.tree_flatten((freeze(args), self._method))
        try:
            return _value(_Call(self, tree, axes), *operands)
        except jax.errors.UnexpectedTracerError as error:
            raise TypeError(
                "per_sample: the loss closes over something that is being differentiated: pass it "
                "as an argument."
            ) from error

    def _axes(self, args: tuple[Any, ...]) -> tuple[int | None, ...]:
        """For each array of the arguments its axis of samples, or None."""
        batch = range(1, len(args)) if self._batch is None else self._batch
        if not batch or not all(-len(args) <= p < len(args) for p in batch):
            raise ValueError(
                f"per_sample was called with {len(args)} positional argument(s), but batch_argnums "
                f"is {self._batch} (None: all but the first): pass the samples by position."
            )
        axes: list[int | None] = []
        sizes: dict[int, str] = {}
        for path, leaf in tree_util.tree_flatten_with_path(args)[0]:
            where = f"{path[0].idx}{path_name(path[1:])}"
            if path[0].idx not in {p % len(args) for p in batch}:
                axes += [None] * is_array(leaf)
                continue
            if not is_array(leaf) or not np.ndim(leaf):
                raise ValueError(
                    f"per_sample: batch argument {where} is {leaf!r:.60}, which has no leading "
                    "axis of samples: pass an array, or choose other batch_argnums."
                )
            sizes[np.shape(leaf)[0]] = where
            axes.append(0)
        if len(sizes) != 1:
            found = ", ".join(f"{size} in argument {where}" for size, where in sizes.items())
            raise ValueError(
                f"per_sample: batch arguments have different numbers of samples, {found or 'none'}:"
                " give all of them the same leading axis, or choose other batch_argnums."
            )
        if 0 in sizes:
            raise ValueError(f"per_sample: batch argument {sizes[0]} has no samples: pass one.")
        return tuple(axes)

    def _estimate(self, call: _Call, active: tuple[int, ...], *operands: Any) -> Any:
        """Value, gradients of the active operands, and whether the loss is a mean."""
        axes, inputs = list(call.axes), list(operands[: len(call.axes)])
        method = tree_util.tree_unflatten(call.tree, operands)[1]
        value = call.whole(operands)
        network = call.network(active, operands)

        def layers(leaves: list[Any]) -> tuple[list[Any], Any]:
            moved = dict(zip(active, leaves, strict=True))
            mixed = [moved.get(i, leaf) for i, leaf in enumerate(inputs)]
            return jax.vmap(network.cut, in_axes=(axes,))(mixed)

        at_x, pull, losses = jax.vjp(layers, [inputs[i] for i in active], has_aux=True)
        random = isinstance(method, RandomDirections)
        # Directions of its own for every sample: their noise is averaged too.
        keys = jax.random.split(method.key, losses.size) if random else None

        def slope(z: Any, sample: dict[int, Any], key: Any) -> Any:
            own = dataclasses.replace(method, key=key) if random else method
            mixed = [sample.get(i, leaf) for i, leaf in enumerate(inputs)]
            return grad(network.moved, method=own, chunk_size=self._chunk_size)(z, z, mixed)

        samples = {i: inputs[i] for i in call.batched}
        if self._chunk_size is None:
            every = (at_x, samples, keys)
            slopes = lax.map(lambda one: slope(*one), every, batch_size=_at_once(losses.size, at_x))
        else:
            slopes = jax.vmap(slope)(at_x, samples, keys)
        (gradients,) = pull([s / losses.size for s in slopes])
        fits = self._fits(call, operands, value, losses)
        return value, [jnp.where(fits, g, np.nan) for g in gradients], fits

    def _fits(self, call: _Call, operands: Sequence[Any], value: Any, losses: Any) -> Any:
        """Whether the loss is the mean of its samples' losses."""
        count = losses.size
        fits = _is_mean(value, losses)

        def of_a_half() -> Any:
            found = []
            for part in np.array_split(np.arange(count), 2):
                rows = np.resize(part, count)
                leaves = [
                    leaf[rows] if i in call.batched else leaf for i, leaf in enumerate(operands)
                ]
                found.append(_is_mean(call.whole(leaves), losses[rows]))
            return found[0] | found[1]

        return fits if count < _HALVED else lax.cond(fits, lambda: fits, of_a_half)


@dataclasses.dataclass(frozen=True)
class _Call:
    """A call without its numbers: hashable.

    Attributes:
        owner: the function called.
        tree: the structure of ``(args, method)``, frozen.
        axes: for each array of ``args`` its axis of samples, or None.
    """

    owner: _PerSample
    tree: Any
    axes: tuple[int | None, ...]

    @property
    def batched(self) -> list[int]:
        """The numbers of the arrays that hold samples."""
        return [i for i, axis in enumerate(self.axes) if axis is not None]

    def args(self, operands: Sequence[Any]) -> tuple[Any, ...]:
        return thaw(tree_util.tree_unflatten(self.tree, operands)[0])

    def whole(self, operands: Sequence[Any]) -> Any:
        """The loss of the whole batch."""
        with jax.default_matmul_precision("highest"):
            return self.owner.loss(*self.args(operands))

    def network(self, active: Sequence[int], operands: Sequence[Any]) -> Network:
        """The loss of a sample as a program of its arrays."""
        count, batched = len(self.axes), self.batched

        def one(*leaves: Any) -> Any:
            batch = [leaf[None] if i in batched else leaf for i, leaf in enumerate(leaves)]
            return self.whole([*batch, *operands[count:]])

        first = [leaf[0] if i in batched else leaf for i, leaf in enumerate(operands[:count])]
        network = Network(one, first, frozenset(active), frozenset(batched), self.name)
        out = network.out
        if getattr(out, "shape", None) != () or not jnp.issubdtype(out.dtype, np.floating):
            raise TypeError(
                f"per_sample needs a loss that returns one real number, got {out} for a batch of "
                "one sample: return the mean over samples."
            )
        return network

    def name(self, number: int) -> str:
        """What errors call an operand."""
        args, _ = tree_util.tree_unflatten(self.tree, range(self.tree.num_leaves))
        paths = {leaf: path for path, leaf in tree_util.tree_flatten_with_path(args)[0]}
        return f"{paths[number][0].idx}{path_name(paths[number][1:])}"


def _at_once(count: int, values: Sequence[Any]) -> int:
    """How many of so many samples are differenced at once, given the marked values of all."""
    # Bytes of a layer's marked values at all points of a sample.
    sample = max((2 * (v.size // count) ** 2 * v.dtype.itemsize for v in values), default=1)
    return evenly(count, max(chunk_bytes()[0] // max(sample, 1), 1))


def _is_mean(value: Any, losses: Any) -> Any:
    """Whether a loss is the mean of its samples' losses, NaN and half of the digits apart."""
    dtype = promote(losses.dtype, np.float32)
    single, eps = losses.astype(dtype), float(jnp.finfo(losses.dtype).eps)
    bound = eps**0.5 * jnp.mean(jnp.abs(single))
    return ~(jnp.abs(value.astype(dtype) - jnp.mean(single)) > bound)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _value(call: _Call, *operands: Any) -> Any:
    return call.whole(operands)


def _forward(call: _Call, *primals: Any) -> tuple[Any, Any]:
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


def _backward(call: _Call, residuals: Any, cotangent: Any) -> tuple[Any, ...]:
    del call
    gradients, (active, count) = residuals[0], residuals[1].value
    if isinstance(cotangent, SymbolicZero):
        return (None,) * count
    found = {i: g * cotangent.astype(g.dtype) for i, g in zip(active, gradients, strict=True)}
    return tuple(found.get(i) for i in range(count))


_value.defvjp(_forward, _backward, symbolic_zeros=True)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _differences(call: _Call, active: tuple[int, ...], *operands: Any) -> Any:
    return call.owner.kernel(call, active, *operands)


@_differences.defjvp
def _differences_jvp(call: _Call, active: Any, primals: Any, tangents: Any) -> Any:
    del call, active, primals, tangents
    raise TypeError("per_sample makes first derivatives only: use jaxfd.hessian for second ones.")
