"""Steps: how far each coordinate is moved, made exact, and kept inside a box.

Written once against the array namespace ``xp`` (``numpy`` or ``jax.numpy``), so
that the same rule serves in a kernel and on the host. This room must not know
which stencil the step is for, nor who evaluates the points.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxtyping import Float

from jaxfd._arrays import check_positive, moving, register


@register
@dataclasses.dataclass(frozen=True)
class Relative:
    """The step rule ``h = rel * max(|x|, typical)``.

    Args:
        rel: relative step; None takes ``eps^(1/(p+d))``, with ``p`` the accuracy order, ``d`` the
            derivative order and ``eps`` the spacing of the coarser of the argument's and the
            output's dtype. This balances truncation against rounding. One so small that ``x`` does
            not move gives NaN.
        typical: the size below which an entry counts as small, in the argument's units: a
            number, or a pytree like the argument. The step never falls below
            ``rel * typical``.

    Raises:
        ValueError: ``rel`` or ``typical`` is not positive and finite.

    Example:
        >>> import jax.numpy as jnp, jaxfd
        >>> method = jaxfd.Central(step=jaxfd.Relative(rel=1e-2))
        >>> print(f"{jaxfd.grad(lambda x: x**2, method=method)(3.0):.3f}")
        6.000

    Reference:
        J. Nocedal and S. Wright, "Numerical Optimization", 2nd ed., section 8.1.
    """

    rel: Any = None
    typical: Any = 1.0

    def __post_init__(self) -> None:
        check_positive(self.rel, "rel")
        check_positive(self.typical, "typical")

    def size(
        self, xp: Any, x: Float[Any, "*n"], typical: Any, eps: float, power: float
    ) -> Float[Any, "*n"]:
        """The step of every entry of one leaf, before it is made exact."""
        rel = eps**power if self.rel is None else self.rel
        return xp.asarray(rel, dtype=x.dtype) * xp.maximum(
            xp.abs(x), xp.asarray(typical, dtype=x.dtype)
        )


_DEFAULT = Relative()


def is_default(step: Any) -> bool:
    """Whether a step is in proportion to the entry by the default share."""
    return step is None or (isinstance(step, Relative) and step.rel is None)


def steps(
    xp: Any,
    arguments: Any,
    step: Any,
    leaves: Sequence[Any],
    parts: Sequence[int],
    eps: Sequence[float],
    power: float,
    together: bool = False,
) -> list[Any]:
    """The step ``h > 0`` of every entry of every leaf, as the method asks for it.

    Args:
        xp: the array namespace.
        arguments: the bound call, which knows how a pytree of steps lines up.
        step: None, a positive number, a pytree of them, or a `Relative`.
        leaves: the real leaves to be perturbed.
        parts: for each of them, the number of the argument leaf it is a part of.
        eps: for each of them, the relative spacing of the coarser dtype.
        power: the exponent of the default step, ``1 / (p + d)``.
        together: whether one distance moves all entries, so that the smallest that moves one may
            move no other: a step that is lost in rounding is then the default one.

    Returns:
        One array per leaf, of its shape and dtype.
    """

    def relative(rule: Relative) -> list[Any]:
        typical = arguments.spread(rule.typical, "typical", 1.0)
        return [
            rule.size(xp, x, typical[part], e, power)
            for x, part, e in zip(leaves, parts, eps, strict=True)
        ]

    if step is None or isinstance(step, Relative):
        return relative(step or _DEFAULT)
    fixed = arguments.spread(step, "step", None)
    # A step that is lost in the rounding of x: the smallest that moves it instead.
    instead = relative(_DEFAULT) if together else [moving(xp, x) for x in leaves]
    result = []
    for x, part, other in zip(leaves, parts, instead, strict=True):
        h = xp.broadcast_to(xp.asarray(fixed[part], dtype=x.dtype), x.shape)
        result.append(xp.where((x + h) - x == 0, other, h))
    return result
