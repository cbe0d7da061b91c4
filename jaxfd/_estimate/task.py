"""What is asked of the pipeline, and the call it is asked for.

A `Task` is a transform without its arguments: small, frozen, hashable. This room
must not know where a task runs, nor how any one of them works.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import tree_util
from jaxtyping import PyTree

from jaxfd._arrays import (
    Arguments,
    Parts,
    bind,
    bind_all,
    complex_of,
    complexify,
    is_complex,
    is_inexact,
    split,
    weakened,
)
from jaxfd._estimate.needs import Needs
from jaxfd._methods import Method
from jaxfd._places import Place, Schedule
from jaxfd._points import Box
from jaxfd._primitives import laid_as

_BY_MEMORY = Schedule()
# Which transforms have the options that errors advise.
_WITH_ALLOW_INT = _WITH_HOLOMORPHIC = ("grad", "value_and_grad", "jacobian")
_WITH_AUX = (*_WITH_HOLOMORPHIC, "hessian", "hessian_diagonal", "jvp", "estimate")

LEAF = tree_util.tree_structure(0)


@dataclasses.dataclass(frozen=True)
class Call:
    """One call as a place sees it.

    Attributes:
        arguments: the bound call (on the host: of the first of the batched calls).
        parts: those that are moved, as real leaves.
        boxes: for each of these the box that its points stay in; None without bounds.
        method: the method.
        needs: what the task needs besides.
        out: shapes and dtypes of the outputs.
        out_tree: their structure.
        aux_tree: the structure of the frozen auxiliary output.
        checked: whether the output has been found fit already.
        lost: the operation in which a complex step loses its imaginary part; None for none.
        remade: whether the function puts complex numbers together itself, of parts.
        axes: the axes whose members take one step together, because the function mixes them.
    """

    arguments: Arguments
    parts: Parts
    boxes: Sequence[Box] | None
    method: Method
    needs: Needs
    out: Sequence[Any]
    out_tree: Any
    aux_tree: Any
    checked: bool = False
    lost: str | None = None
    remade: bool = False
    axes: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True)
class Task(abc.ABC):
    """What is asked of the pipeline; hashable, so that kernels are kept by it.

    Attributes:
        name: the transform, for errors.
        argnums: which positional arguments are differentiated.
        has_aux: whether the function returns auxiliary data besides.
        holomorphic: whether the function is promised to be holomorphic.
        allow_int: whether integer leaves may be among the differentiated arguments.
        schedule: how many points are evaluated at once.
        active: the numbers of the leaves that are perturbed; None for all.
        everything: whether every inexact leaf of the call is differentiated, whatever argnums.
    """

    name: str
    argnums: int | tuple[int, ...] = 0
    has_aux: bool = False
    holomorphic: bool = False
    allow_int: bool = False
    schedule: Schedule = _BY_MEMORY
    active: tuple[int, ...] | None = None
    everything: bool = False

    @property
    def barred(self) -> bool:
        """Whether a bound of the error is wanted."""
        return False

    @property
    def higher(self) -> bool:
        """Whether second derivatives or higher ones are made, which noise drowns first."""
        return False

    @property
    def contracted(self) -> bool:
        """Whether outputs are contracted with the cotangents in `Needs`."""
        return False

    @property
    def fills(self) -> bool:
        """Whether there are so many points that they fill what memory there is for them."""
        return True

    @property
    def together(self) -> bool:
        """Whether all members of an axis are to move at once, each along its own tangent."""
        return False

    @property
    def sampled(self) -> bool:
        """Whether a method's random directions are used."""
        return False

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Splits a call's arguments."""
        if self.everything:
            return bind_all(self.name, args, kwargs)
        return bind(
            self.name,
            args,
            kwargs,
            self.argnums,
            allow_int=self.allow_int,
            holomorphic=self.holomorphic,
            offer_int=self.name in _WITH_ALLOW_INT,
        )

    def split(self, leaves: Sequence[Any], method: Method) -> Parts:
        """The real leaves this task perturbs."""
        imaginary = method.imaginary
        if imaginary and any(is_complex(leaf) for leaf in leaves):
            raise TypeError(
                f"{self.name}: ComplexStep needs real arguments, got a complex one: use "
                "Central() there."
            )
        return split(leaves, self.active, self.holomorphic)

    @abc.abstractmethod
    def run(self, place: Place, call: Call) -> Any:
        """Evaluates, weighs and returns a pytree: an `Answer`, or a dataclass of the task's own."""

    def check_output(self, call: Call, scalar: bool, real: bool = False) -> None:
        """Raises TypeError for an output that this task cannot differentiate.

        Args:
            call: the call.
            scalar: whether the output must be one number.
            real: whether outputs must be real.
        """
        if call.checked:
            return
        if scalar:
            self._check_scalar(call)
        if real and not call.out:
            raise TypeError(f"{self.name} needs a function that returns a number, got None.")
        self.check_imaginary(call)
        for declared in call.out:
            self._check_dtype(call, declared, scalar or real)

    def check_imaginary(self, call: Call) -> None:
        """Raises TypeError where a complex step would find no imaginary part, or a wrong one."""
        if call.checked or not call.method.imaginary:
            return
        for declared in call.out:
            if jnp.issubdtype(declared.dtype, np.floating):
                raise TypeError(
                    f"{self.name}: ComplexStep got a real output ({declared.dtype}) for a complex "
                    "argument: the function drops the imaginary part (abs, real, a cast, or a "
                    "black box declared real: where it can compute in complex numbers, declare "
                    "jax.ShapeDtypeStruct(shape, complex) as its out). Use Central(), or keep it "
                    "complex throughout."
                )
        if call.lost is not None:
            raise TypeError(
                f"{self.name}: ComplexStep needs an analytic function, but this one applies "
                f"{call.lost} to what depends on the argument, and so loses the imaginary part, "
                "which carries the derivative. Use Central(), or do without (sum(x * x) for vdot, "
                "norm or var, which conjugate)."
            )

    def check_real(self, call: Call) -> None:
        """Raises TypeError for complex arguments, of which second derivatives are not made."""
        if any(is_complex(call.arguments.leaves[owner]) for owner in call.parts.owner):
            raise TypeError(
                f"{self.name} needs real arguments, got a complex one: split it into real and "
                "imaginary parts."
            )

    def _check_scalar(self, call: Call) -> None:
        if call.out_tree == LEAF and call.out[0].shape == ():
            return
        got = f"the shape {call.out[0].shape}" if call.out_tree == LEAF else f"a {call.out_tree}"
        offered = self.name in _WITH_AUX and not self.has_aux
        advice = ", or set has_aux=True if it returns (value, aux)." if offered else "."
        raise TypeError(
            f"{self.name} needs a function with a scalar output, got {got}: reduce it to one "
            f"number, use jaxfd.jacobian{advice}"
        )

    def _check_dtype(self, call: Call, declared: Any, real: bool) -> None:
        imaginary = call.method.imaginary
        if not is_inexact(declared):
            raise TypeError(
                f"{self.name} needs real or complex outputs, got {declared.dtype}: return a "
                "floating dtype."
            )
        if self.holomorphic and not is_complex(declared):
            raise TypeError(
                f"{self.name} with holomorphic=True needs complex outputs, got "
                f"{declared.dtype}: drop holomorphic, or return a complex value."
            )
        one_by_one = real or any(is_complex(leaf) for leaf in call.arguments.leaves)
        if is_complex(declared) and one_by_one and not imaginary and not self.holomorphic:
            offered = self.name in _WITH_HOLOMORPHIC
            advice = ", or set holomorphic=True if the function is holomorphic." if offered else "."
            raise TypeError(
                f"{self.name} needs real outputs, got {declared.dtype}: differentiate the real and "
                f"imaginary parts of the function one by one{advice}"
            )


class Answer(NamedTuple):
    """What most tasks return; a pytree, None where something was not asked for.

    Attributes:
        derivative: shaped as the user sees it.
        value: the function's value at ``x``.
        aux: its auxiliary data, frozen.
        error: for each entry what is known of the derivative's error.
        step: for each entry how far the points went.
        one_sided: for each entry whether they went to one side, though the method's do not.
        evaluations: how many points were evaluated, shape ``(*lead,)``.
    """

    derivative: PyTree
    value: PyTree = None
    aux: PyTree = None
    error: PyTree = None
    step: PyTree = None
    one_sided: PyTree = None
    evaluations: Any = None


def cast(value: Any, leaf: Any) -> Any:
    """The derivative in the dtype and weak type of the argument's leaf; complex stays complex.

    Devices share it as they share the leaf.
    """
    dtype = leaf.dtype
    if is_complex(value) and not is_complex(leaf):
        dtype = complex_of(dtype)
    value = laid_as(value.astype(dtype), leaf)
    weak = isinstance(leaf, jax.Array) and jax.typeof(leaf).weak_type
    return weakened(jnp.asarray(value)) if weak else value


def as_output(value: Any, output: Any) -> Any:
    """What a function returns, or its tangent, in the weak type that JAX gives it."""
    value = laid_as(value, output)
    weak = isinstance(value, jax.Array) and getattr(output, "weak_type", False)
    return weakened(value) if weak else value


def float0(leaf: Any) -> np.ndarray:
    return np.zeros(jnp.shape(leaf), jax.dtypes.float0)


def complexified(leaves: Sequence[Any], imaginary: bool) -> list[Any]:
    """The leaves as a complex step wants them."""
    return [complexify(x) for x in leaves] if imaginary else list(leaves)
