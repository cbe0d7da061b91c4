"""Verdicts on the entries of a gradient, and the report that holds them.

Plain arithmetic on four columns: what is claimed, what is estimated, how far the two may be apart,
and what follows. This room must not know where any of them come from.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from jaxfd._arrays import Column, PyTree, entry_names, register, table
from jaxfd._reports.entries import flat, numbers
from jaxfd._reports.taylor import RESOLUTION

AGREES, DIFFERS, UNCLEAR, UNSEEN = "agrees", "differs", "cannot tell", "not looked at"
_RANK = {DIFFERS: 0, UNCLEAR: 1, AGREES: 2, UNSEEN: 3}
# Room for the longest of these words in an array.
_WIDE = f"<U{max(map(len, _RANK))}"
# A kink explains so much of itself.
_SIDES = 2.0
_ROWS = 20
# Of one entry, and of several.
_COUNTED = {
    AGREES: ("agrees", "agree"),
    DIFFERS: ("differs", "differ"),
    UNCLEAR: ("cannot be told", "cannot be told"),
    UNSEEN: ("was not looked at by itself", "were not looked at one by one"),
}
_HEADS = {
    AGREES: "The {} is right.",
    DIFFERS: "The {} is wrong.",
    UNCLEAR: "It cannot be told whether the {} is right.",
}


@register
@dataclasses.dataclass(frozen=True)
class GradCheck:
    """What `check_grads` found. A pytree of NumPy arrays; prints as a table, worst entries first.

    Attributes:
        claimed: the derivative under test, in float64 or complex128, shaped as it came.
        estimated: that by differences; NaN for entries that were not looked at.
        bar: for each entry how far the two may be apart without saying anything: three times the
            error bound of the difference and the rounding of the claimed number.
        verdicts: for each entry ``"agrees"``, ``"differs"``, ``"cannot tell"``, or
            ``"not looked at"`` where ``entries`` leaves it out.
        verdict: the overall one.
        taylor: that of the Taylor test alone; of several outputs the worst.
        slope: the power with which the Taylor remainder falls: near 2 for a right gradient, 1 for
            a wrong one or a kink, NaN where rounding hides it. Of a Hessian 4 and 2.
        worst: the name of the worst entry, leaf and index.
        kink: by how much the slopes to both sides of ``x`` differ on the line; 0 where no kink is
            seen.
        evaluations: the number of evaluations of the function.
        what: what was checked: ``"gradient"``, ``"Jacobian"`` or ``"Hessian"``.

    Example:
        >>> import jax.numpy as jnp, jaxfd
        >>> report = jaxfd.check_grads(jnp.sin, jnp.array(1.0), jnp.array(0.5))
        >>> print(report.ok, report.verdict)
        False differs
    """

    claimed: PyTree
    estimated: PyTree
    bar: PyTree
    verdicts: PyTree
    slope: float
    kink: float
    verdict: str = dataclasses.field(metadata={"static": True})
    taylor: str = dataclasses.field(metadata={"static": True})
    worst: str = dataclasses.field(metadata={"static": True})
    evaluations: int = dataclasses.field(metadata={"static": True})
    what: str = dataclasses.field(default="gradient", metadata={"static": True})

    @property
    def ok(self) -> bool:
        """Whether the gradient was found right; False too where that cannot be told."""
        return self.verdict == AGREES

    def to_dict(self) -> dict[str, Any]:
        """The entries as a table: ``pandas.DataFrame(report.to_dict())``, in their own order.

        Returns:
            Columns of equal length: ``entry``, ``claimed``, ``estimated``, ``bar``, ``verdict``.
        """
        columns = {"claimed": self.claimed, "estimated": self.estimated, "bar": self.bar}
        return {
            "entry": entry_names(self.claimed),
            **{name: numbers(tree) for name, tree in columns.items()},
            "verdict": flat(self.verdicts, dtype=np.str_),
        }

    def __str__(self) -> str:
        names = entry_names(self.claimed)
        claimed, estimated, bar = map(numbers, (self.claimed, self.estimated, self.bar))
        verdicts = flat(self.verdicts, dtype=np.str_)
        counts = {kind: int(np.sum(verdicts == kind)) for kind in _RANK}
        tally = ", ".join(f"{n} {_COUNTED[kind][n > 1]}" for kind, n in counts.items() if n)
        head = _HEADS[self.verdict].format(self.what)
        if self.verdict == AGREES and counts[UNCLEAR] + counts[UNSEEN]:
            head = f"The {self.what} is right along a line, as far as can be told."
        good = 4 if self.what == "Hessian" else 2
        kink = ", a kink at x" if self.kink else ""
        lines = [
            f"{head} Of {len(names)} entries {tally}; the worst is {self.worst}.",
            f"Taylor remainder: slope {self.slope:.2f} ({good} where right, {good // 2} where "
            f"wrong), {self.taylor}{kink}. {self.evaluations} evaluations.",
        ]
        shown = order(claimed, estimated, bar, verdicts)[:_ROWS]
        width = 34 if np.iscomplexobj(claimed) else 17
        columns = [
            Column("claimed", width, ".10g", claimed[shown]),
            Column("estimated", width, ".10g", estimated[shown]),
            Column("bar", 9, ".2g", bar[shown]),
        ]
        lines += table(
            [names[i] for i in shown],
            columns,
            total=len(names),
            width=20,
            head="verdict",
            remarks=verdicts[shown],
        )
        return "\n".join(lines)


def compare(
    claimed: Float[np.ndarray, "n"],
    estimated: Float[np.ndarray, "n"],
    bar: Float[np.ndarray, "n"],
    least: Float[np.ndarray, "n"],
    kink: Float[np.ndarray, "n"],
    rtol: float,
    idle: Float[np.ndarray, "n"],
) -> Shaped[np.ndarray, "n"]:
    """A verdict for each entry.

    Args:
        claimed: the gradient under test.
        estimated: what it is compared with.
        bar: how far the two may be apart.
        least: the size below which an entry is small, and known well enough if it is for this size.
        kink: how far the slopes to both sides may be apart.
        rtol: the relative error that counts as none.
        idle: the size below which an entry has no effect that shows.
    """
    gap, size = np.abs(claimed - estimated), np.maximum(np.abs(claimed), np.abs(estimated))
    # Where nothing moves the function, there is no size to compare with. But a flat step of stairs
    # looks the same to a difference: the bar must be that of rounding.
    nothing = (claimed == 0) & (estimated == 0) & (bar <= idle)
    known = nothing | (bar <= RESOLUTION * rtol * np.maximum(size, least))
    far = np.isfinite(bar) & (gap > bar + rtol * size)
    verdicts = np.where(known & (gap <= bar + rtol * size), AGREES, UNCLEAR).astype(_WIDE)
    verdicts[far & (gap > _SIDES * kink)] = DIFFERS
    verdicts[~np.isfinite(claimed)] = UNCLEAR
    verdicts[~np.isfinite(claimed) & np.isfinite(estimated)] = DIFFERS
    return verdicts


def overall(verdicts: Shaped[np.ndarray, "n"], taylor: str, kink: bool) -> str:
    """One verdict out of those on the entries and that of the Taylor test."""
    if DIFFERS in verdicts:
        return DIFFERS
    if kink:
        return UNCLEAR
    if UNCLEAR in verdicts or UNSEEN in verdicts:
        return taylor
    # Entries that agree beside a line that does not: no gradient makes sense of both.
    return UNCLEAR if taylor == DIFFERS else AGREES


def order(
    claimed: Float[np.ndarray, "n"],
    estimated: Float[np.ndarray, "n"],
    bar: Float[np.ndarray, "n"],
    verdicts: Shaped[np.ndarray, "n"],
) -> list[int]:
    """The entries, worst first: by verdict, then by the gap in bars."""

    def key(i: int) -> tuple[int, float]:
        share = shares[i]
        return _RANK[verdicts[i]], -(math.inf if math.isnan(share) else share)

    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.abs(claimed - estimated)
        shares = np.where(gap == 0, 0.0, gap / bar)
    return sorted(range(len(verdicts)), key=key)
