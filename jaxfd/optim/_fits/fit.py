"""What a fit hands back: numbers with errors, and when not to trust these.

It exists to be read and printed. It must not compute what it holds.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float, PyTree

from jaxfd.optim._rows import Layout
from jaxfd.optim._state import key_bits
from jaxfd.optim._status import Status

# Correlations below this are not printed, nor more of them than these.
_WORTH, _PAIRS = 0.1, 12


@dataclasses.dataclass(frozen=True)
class Minimum:
    """A minimum that some start led to.

    Attributes:
        x: where it is, shaped as the start.
        cost: half the sum of squares.
        starts: the numbers of the starts that led there; that of ``x0`` is 0.
        status: how the best of these searches ended.
    """

    x: PyTree
    cost: float
    starts: tuple[int, ...]
    status: Status


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fit by least squares. ``print`` shows it, `jaxfd.plot` draws it.

    Errors are those of the free entries, in the order of ``names``. They hold where residuals are
    nearly linear in the parameters for as far as the errors reach; ``warnings`` says where they
    cannot be trusted.

    Attributes:
        x: the best parameters, as far as noise lets tell, shaped as the start.
        residuals: what is left there, shaped as the function returns it; not divided by errors.
        cost: half the sum of the weighed squares, as `scipy.optimize.least_squares` has it.
        names: the free entries.
        jacobian: slopes of the residuals by the free entries, shape ``(m, p)``.
        jacobian_error: an estimate of the error of each, from walls, noise and truncation.
        covariance: of the free entries, shape ``(p, p)``; NaN where unknown.
        standard_errors: shaped as ``x``; 0 for entries that are not fitted, NaN where unknown.
        degrees_of_freedom: residuals less free entries.
        num_evaluations: how many points were evaluated.
        num_batches: in how many batches.
        num_failed: at how many of them a residual was not finite.
        status: why it ended.
        message: the same in words.
        warnings: what is to be known of the errors.
        history: the cost at the start and after every step.
        noise: the standard deviation of a residual from evaluation to evaluation; 0 if none is
            seen.
        intervals: 95 % limits by profiling, shape ``(p, 2)``, if they were asked for; infinite
            where there is no limit, NaN where none was found; ``warnings`` says why.
        minima: the distinct minima that the starts led to, best first.
        start: what ``x`` was at first.
        free: which entries of ``x`` were fitted, a row.
        data: what the residuals are differences from, if it was given.
    """

    x: PyTree
    residuals: PyTree
    cost: float
    names: tuple[str, ...]
    jacobian: Float[np.ndarray, "m p"]
    jacobian_error: Float[np.ndarray, "m p"]
    covariance: Float[np.ndarray, "p p"]
    standard_errors: PyTree
    degrees_of_freedom: int
    num_evaluations: int
    num_batches: int
    num_failed: int
    status: Status
    message: str
    warnings: tuple[str, ...]
    history: Float[np.ndarray, "steps"]
    noise: float
    intervals: Float[np.ndarray, "p 2"] | None
    minima: tuple[Minimum, ...]
    start: PyTree
    free: Bool[np.ndarray, "n"]
    data: PyTree = None

    @property
    def converged(self) -> bool:
        """Whether there is evidence that no step of use is left, or that noise hides it."""
        return self.status in (Status.CONVERGED, Status.NOISE)

    @property
    def correlations(self) -> Float[np.ndarray, "p p"]:
        """The covariance in units of the standard errors."""
        error = np.sqrt(np.diag(self.covariance))
        with np.errstate(all="ignore"):
            found: np.ndarray = self.covariance / np.outer(error, error)
        return found

    @property
    def reduced_chi_square(self) -> float:
        """The sum of the weighed squares over the degrees of freedom."""
        dof = self.degrees_of_freedom
        return 2 * self.cost / dof if dof > 0 else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Numbers, texts and lists, for JSON say; arrays become lists."""

        def plain(value: Any) -> Any:
            if isinstance(value, (np.ndarray, np.generic, jax.Array)):
                return plain(np.asarray(key_bits(value)).tolist())
            if dataclasses.is_dataclass(value) and not isinstance(value, type):
                fields = dataclasses.fields(value)
                return {f.name: plain(getattr(value, f.name)) for f in fields}
            if isinstance(value, dict):
                return {str(key): plain(part) for key, part in value.items()}
            if isinstance(value, (list, tuple)):
                return [plain(part) for part in value]
            number = value is None or isinstance(value, (bool, int, float))
            return value if number else str(value)

        found = {f.name: plain(getattr(self, f.name)) for f in dataclasses.fields(self)}
        more = ("converged", "correlations", "reduced_chi_square")
        return found | {name: plain(getattr(self, name)) for name in more}

    def __str__(self) -> str:
        head = "" if self.converged else "NOT CONVERGED, "
        dof = self.degrees_of_freedom
        failed = f", {self.num_failed} failed" if self.num_failed else ""
        lines = [
            f"{head}{self.status}: {self.message}",
            f"{self.num_evaluations} evaluations in {self.num_batches} batches{failed}; "
            f"{dof + len(self.names)} residuals, {len(self.names)} free parameters",
            f"cost {self.cost:.8g} (half the sum of squares), reduced chi-square "
            f"{self.reduced_chi_square:.6g}",
            *self._table(),
            *self._pairs(),
        ]
        if len(self.minima) > 1:
            lines.append(
                f"{len(self.minima)} distinct minima; the next has cost {self.minima[1].cost:.8g}"
            )
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def _table(self) -> list[str]:
        """A row for each entry, as lmfit has it."""
        layout = Layout(self.x)
        names = layout.names
        trees = (self.x, self.standard_errors, self.start)
        values, errors, starts = map(layout.row, trees)
        width = max(4, *map(len, names))
        limits = self.intervals
        wide = "        95 % by profiling" if limits is not None else ""
        lines = [f"{'':{width}}  {'value':>13} {'+-':>10} {'':>9} {'start':>12}{wide}"]
        number = 0
        for name, value, error, first, free in zip(
            names, values, errors, starts, self.free, strict=True
        ):
            line = f"{name:{width}}  {value:>13.7g} "
            if not free:
                lines.append(f"{line}{'(fixed)':>10}")
                continue
            share = f"({abs(error / value):.2%})" if value and np.isfinite(error) else ""
            shown = f"{error:.4g}" if np.isfinite(error) else "unknown"
            line += f"{shown:>10} {share:>9} {first:>12.6g}"
            if limits is not None:
                low, high = limits[number]
                line += f"  {low:>11.6g} .. {high:<11.6g}"
            lines.append(line.rstrip())
            number += 1
        return lines

    def _pairs(self) -> list[str]:
        """The strongest correlations."""
        c, p = self.correlations, len(self.names)
        pairs = [(i, j) for i in range(p) for j in range(i + 1, p) if abs(c[i, j]) >= _WORTH]
        pairs.sort(key=lambda pair: -abs(c[pair]))
        if not pairs:
            return []
        lines = [f"correlations of {_WORTH} and more:"]
        for i, j in pairs[:_PAIRS]:
            lines.append(f"  {self.names[i]}, {self.names[j]}: {c[i, j]:+.3f}")
        if len(pairs) > _PAIRS:
            lines.append(f"  and {len(pairs) - _PAIRS} more")
        return lines
