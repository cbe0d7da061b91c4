"""A linear primitive that can be transposed and batched.

JAX transposes only what is linear in its own eyes. A derivative along a tangent, made
of two evaluations, is linear in truth but not in the making: this primitive carries
the map and its transpose side by side.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxfd._primitives.outputs import Outputs, outputs_of
from jaxfd._primitives.sharding import gathered, vary, varying, whole


class LinearMap(abc.ABC):
    """A map that is linear in its tangents, at given operands. Subclasses are hashable."""

    @abc.abstractmethod
    def apply(self, operands: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        """The image of the tangents.

        Args:
            operands: where the map is taken; for the map they are constants.
            tangents: arrays of the shapes that it maps.

        Returns:
            Arrays of the shapes of its image.
        """

    @abc.abstractmethod
    def transpose(self, operands: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        """The image of the cotangents under the transposed map.

        Args:
            operands: where the map is taken.
            cotangents: arrays of the shapes of the map's image.

        Returns:
            Arrays of the shapes of the map's tangents.
        """

    @abc.abstractmethod
    def refuse(self) -> None:
        """Says that there is no derivative with respect to the operands.

        Raises:
            TypeError: always, with what to do instead.
        """


@dataclasses.dataclass(frozen=True)
class _BatchedMap(LinearMap):
    """A linear map under ``vmap``: it knows the batch axis of each operand and tangent."""

    inner: LinearMap
    operand_axes: tuple[int | None, ...]
    tangent_axes: tuple[int | None, ...]

    def apply(self, operands: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        axes = (list(self.operand_axes), list(self.tangent_axes))
        return jax.vmap(self.inner.apply, in_axes=axes)(list(operands), list(tangents))

    def transpose(self, operands: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        axes = (list(self.operand_axes), [0] * len(cotangents))
        images = jax.vmap(self.inner.transpose, in_axes=axes)(list(operands), list(cotangents))
        return [
            jnp.sum(image, 0) if axis is None else jnp.moveaxis(image, 0, axis)
            for image, axis in zip(images, self.tangent_axes, strict=True)
        ]

    def refuse(self) -> None:
        self.inner.refuse()


linear_p: Any = Primitive("jaxfd_linear")
linear_p.multiple_results = True


def apply_linear(
    linear: LinearMap, operands: Sequence[Any], tangents: Sequence[Any], out: Sequence[Any]
) -> list[Any]:
    """Applies a linear map so that JAX can transpose it.

    Args:
        linear: the map.
        operands: where it is taken.
        tangents: what it is applied to.
        out: arrays of the shapes and dtypes of its image.
    """
    # Inside ``shard_map``: tangents vary along every mesh axis that the operands vary along, so
    # that the transposed map adds up what the devices find.
    axes = frozenset().union(*map(varying, (*operands, *tangents)))
    tangents = [vary(t, axes - varying(t)) for t in tangents]
    images: list[Any] = linear_p.bind(
        *operands,
        *tangents,
        linear=linear,
        count=len(operands),
        out=outputs_of(out),
    )
    return images


def _apply(*values: Any, linear: LinearMap, count: int, out: Outputs) -> list[Any]:
    images = map(gathered, linear.apply(values[:count], values[count:]))
    with jax.enable_x64(True):  # an image may have more bits than JAX is set to
        return [jnp.asarray(image, dtype) for image, (_, dtype) in zip(images, out, strict=True)]


def _abstract(*avals: Any, linear: LinearMap, count: int, out: Outputs) -> list[Any]:
    del linear
    like = avals[count]  # a tangent: what it varies along the image does
    return [
        like.update(shape=shape, dtype=dtype, sharding=whole(like.sharding.mesh, len(shape)))
        for shape, dtype in out
    ]


def _jvp(
    primals: Sequence[Any], tangents: Sequence[Any], *, linear: LinearMap, count: int, out: Outputs
) -> tuple[list[Any], list[Any]]:
    # Outside of jit a tangent may be one of Python's numbers, without a dtype.
    kinds = [getattr(t, "dtype", None) for t in tangents[:count] if not isinstance(t, ad.Zero)]
    if any(kind != jax.dtypes.float0 for kind in kinds):
        linear.refuse()
    with jax.enable_x64(True):
        moved = [
            jnp.zeros(jnp.shape(p), p.dtype) if isinstance(t, ad.Zero) else t
            for p, t in zip(primals[count:], tangents[count:], strict=True)
        ]
    values = linear_p.bind(*primals, linear=linear, count=count, out=out)
    return values, linear_p.bind(*primals[:count], *moved, linear=linear, count=count, out=out)


def _transpose(
    cotangents: Sequence[Any], *values: Any, linear: LinearMap, count: int, out: Outputs
) -> list[Any]:
    with jax.enable_x64(True):
        full = [
            jnp.zeros(shape, dtype) if isinstance(ct, ad.Zero) else ct
            for ct, (shape, dtype) in zip(cotangents, out, strict=True)
        ]
    images = linear.transpose(values[:count], full)
    return [None] * count + images


def _batch(
    values: Sequence[Any], axes: Sequence[Any], *, linear: LinearMap, count: int, out: Outputs
) -> tuple[list[Any], list[int]]:
    known = tuple(a if isinstance(a, int) else None for a in axes)
    size = next(v.shape[a] for v, a in zip(values, known, strict=True) if a is not None)
    mapped = _BatchedMap(linear, known[:count], known[count:])
    wider = tuple(((size, *shape), dtype) for shape, dtype in out)
    return linear_p.bind(*values, linear=mapped, count=count, out=wider), [0] * len(out)


linear_p.def_impl(_apply)
linear_p.def_abstract_eval(_abstract)
mlir.register_lowering(linear_p, mlir.lower_fun(_apply, multiple_results=True))
ad.primitive_jvps[linear_p] = _jvp
ad.primitive_transposes[linear_p] = _transpose
batching.primitive_batchers[linear_p] = _batch
