"""Which parameters a result hangs on: derivatives and elasticities under the parameters' names.

One estimate, told as engineers tell it. This room must not know how derivatives are formed, nor
how they are drawn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from jaxfd._arrays import Column, PyTree, entry_names, finfo, has_tracers, register, table
from jaxfd._methods import Adaptive, Method
from jaxfd._reports.entries import flat
from jaxfd._reports.probe import check_output, concrete, leaves_of
from jaxfd._transforms import estimate

_ROWS = 30


def _default_method(x: PyTree) -> Method:
    """Parameters come in all units, 1e-5 in one and 1e11 in another: each is its own scale."""
    sizes = jax.tree.map(lambda leaf: np.where(np.asarray(leaf) == 0, 1.0, np.abs(leaf)), x)
    return Adaptive(typical=sizes)


@register
@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """How a number depends on named parameters. Entries are sorted, the most important first.

    The elasticity ``x/f df/dx`` is the relative change of ``f`` per relative change of ``x``: with
    an elasticity of 2, one per cent more ``x`` makes two per cent more ``f``.

    Attributes:
        names: the name of each of the n entries.
        x: the values of the entries, shape ``(n,)``, float64 like all that follow.
        derivatives: ``df/dx`` of each, shape ``(n,)``, in units of ``f`` per unit of the entry.
        errors: the method's error bound of each derivative, shape ``(n,)``; inf where it cannot
            tell, NaN where it has none.
        elasticities: ``x/f df/dx``, shape ``(n,)``, a pure number; NaN where ``f`` is 0.
        elasticity_errors: what follows from ``errors`` and the rounding of ``f``, shape ``(n,)``.
        value: ``f`` at ``x``.
        evaluations: the number of evaluations.

    Example:
        >>> import jaxfd
        >>> print(jaxfd.sensitivity(lambda p: p["m"] * p["v"] ** 2 / 2, {"m": 2.0, "v": 3.0}).names)
        ('v', 'm')
    """

    names: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    x: Float[Any, "n"]
    derivatives: Float[Any, "n"]
    errors: Float[Any, "n"]
    elasticities: Float[Any, "n"]
    elasticity_errors: Float[Any, "n"]
    value: Float[Any, ""]
    evaluations: int = dataclasses.field(metadata={"static": True})

    def to_dict(self) -> dict[str, Any]:
        """The entries as a table: ``pandas.DataFrame(result.to_dict())``.

        Returns:
            Columns of equal length: ``entry``, ``x``, ``derivative``, ``error_bound``,
            ``elasticity`` and ``elasticity_error``.
        """
        columns = {
            **{"x": self.x, "derivative": self.derivatives, "error_bound": self.errors},
            **{"elasticity": self.elasticities, "elasticity_error": self.elasticity_errors},
        }
        return {"entry": list(self.names), **columns}

    def __str__(self) -> str:
        if has_tracers(self):
            return f"Sensitivity(traced, {len(self.names)} entries)"
        columns = [
            Column("x", 12, ".6g", self.x),
            Column("df/dx", 14, ".6g", self.derivatives),
            Column("+-", 9, ".1e", self.errors),
            Column("x/f df/dx", 12, ".4f", self.elasticities),
            Column("+-", 9, ".1e", self.elasticity_errors),
        ]
        head = f"value {self.value:.10g}   ({self.evaluations} evaluations)"
        return "\n".join([head, *table(self.names[:_ROWS], columns, total=len(self.names))])


def sensitivity(
    fun: Callable[..., Any],
    x: PyTree,
    *,
    method: Method | None = None,
    bounds: tuple[PyTree, PyTree] | None = None,
    chunk_size: int | None = None,
) -> Sensitivity:
    """Ranks parameters by how much a result depends on them.

    Args:
        fun: a function of ``x`` that returns one real number: traceable, or a `blackbox`.
        x: the parameters: a pytree of floating numbers and arrays, in any units. A nested dict
            gives names such as ``spring.k`` and ``gain[2]``; a bare array gives ``x[0]``, ``x[1]``.
        method: as for `grad`. None takes `Adaptive` with each entry as its own scale, however
            small it is; entries that are 0 count as 1.
        bounds: a pair ``(lower, upper)`` of numbers or pytrees like ``x``, as for `grad`.
        chunk_size: as for `grad`.

    Returns:
        A `Sensitivity`, sorted by ``|x df/dx|``, that is by the size of the elasticity wherever
        there is one; among equals by ``|df/dx|``. Print it for a table, or `plot` it.

    Raises:
        TypeError: ``x`` holds integers, complex or traced numbers, or ``fun`` returns more than
            one number.
        ValueError: ``x`` is empty or not finite, or ``bounds`` do not fit.

    Example:
        >>> import jaxfd
        >>> def sag(p):
        ...     return p["load"] * p["length"] ** 3
        >>> result = jaxfd.sensitivity(sag, {"load": 2.0, "length": 1.5})
        >>> for name, elasticity in zip(result.names, result.elasticities):
        ...     print(f"{name:>6} {elasticity:+.3f}")
        length +3.000
          load +1.000

    Reference:
        A. Saltelli et al., "Sensitivity Analysis in Practice" (2004), for derivatives
        scaled by their parameters.
    """
    leaves_of("sensitivity", x)
    chosen = _default_method(x) if method is None else method
    check_output("sensitivity", fun, x)
    result = estimate(fun, method=chosen, chunk_size=chunk_size, bounds=bounds)(x)
    value = float(concrete("sensitivity", result.value))
    eps = finfo(result.value.dtype).eps
    at, slope, error = flat(x), flat(result.grad), flat(result.error)
    with np.errstate(over="ignore", invalid="ignore"):
        scale = at / value if value else np.full(at.shape, np.nan)
        weight = np.abs(at * slope)
        elasticities = scale * slope
        elasticity_errors = np.abs(scale) * (error + np.abs(slope) * float(eps))
    # What is not a number comes last.
    order = np.lexsort((-np.nan_to_num(np.abs(slope), nan=-1.0), -np.nan_to_num(weight, nan=-1.0)))
    names = entry_names(x)
    return Sensitivity(
        names=tuple(names[i] for i in order),
        x=at[order],
        derivatives=slope[order],
        errors=error[order],
        elasticities=elasticities[order],
        elasticity_errors=elasticity_errors[order],
        value=np.float64(value),
        evaluations=int(result.evaluations),
    )
