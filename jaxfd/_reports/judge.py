"""From two witnesses to a report: bars, verdicts, and a close look before anything is called wrong.

This room must not know how either witness works, nor how a claim came about.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Shaped

from jaxfd._arrays import PyTree, entry_names, power_of_two
from jaxfd._places import Schedule
from jaxfd._reports.close import Look, look
from jaxfd._reports.columns import Columns
from jaxfd._reports.entries import numbers, unflat
from jaxfd._reports.probe import line_within
from jaxfd._reports.question import Question
from jaxfd._reports.taylor import Taylor, taylor_test, vanishing
from jaxfd._reports.verdicts import (
    AGREES,
    DIFFERS,
    UNCLEAR,
    UNSEEN,
    GradCheck,
    compare,
    order,
    overall,
)

# Roundings that a right gradient may have gathered, in units of eps times its leaf's largest entry.
_ROUNDINGS = 64.0
# An entry is small below this share of the largest of its leaf, and is known well enough if it is
# for that size.
_SMALL = 0.1
# Entries that differ are disowned by a line on which they would show so many times better.
_CONTRADICTS = 2.0
# So many entries that differ are looked at closely, the worst first.
_LOOKED = 4
Verdicts = Callable[[Float[np.ndarray, "N"]], Shaped[np.ndarray, "N"]]
_WHAT = {(1, False): "gradient", (1, True): "Jacobian", (2, False): "Hessian", (2, True): "Hessian"}


@dataclasses.dataclass
class Judge:
    """What is held against a claim.

    Attributes:
        question: what is asked.
        columns: claimed and estimated derivative.
        rooms: how far every entry may go up and down.
        rtol: the relative error that counts as none.
        schedule: how many points are evaluated at once.
        sure: how many error bounds make a bar.
        amplification: what noise becomes in a derivative, times the step, beyond its bound.
        evaluations: how many were spent.
        kink: by how much slopes to both sides of ``x`` were seen to differ in close looks.
    """

    question: Question
    columns: Columns
    rooms: tuple[list[np.ndarray], list[np.ndarray]]
    rtol: float
    schedule: Schedule
    sure: float
    amplification: float
    evaluations: int
    kink: float = 0.0

    def report(self, claim: PyTree) -> GradCheck:
        """Asks the second witness, and writes the report."""
        c = self.columns
        line, room = line_within(self.question.leaves, *self.rooms)
        along = numbers(line)
        weights = np.prod([along[col] for col in c.by], axis=0)
        # Of a complex entry g = df/dx - i df/dy, so that this is what it does on the line.
        terms = np.real(c.claimed * weights)
        rows = [np.flatnonzero(c.out == i) for i in range(int(c.out.max(initial=-1)) + 1)]
        tests, spent = taylor_test(
            self.question,
            line,
            [terms[row] for row in rows],
            room,
            _ROUNDINGS * float(np.max(c.eps)),
            self.rtol,
            self.schedule,
            c.order,
        )
        self.evaluations += spent
        bar, again = self._compared(along, weights, tests)
        verdicts = again(bar)
        excused = self._excused(verdicts, bar, again)
        said = []
        for i, (row, taylor) in enumerate(zip(rows, tests, strict=True)):
            own, kind = verdicts[row], taylor.verdict
            wrong = row[own == DIFFERS]
            gaps = np.real((c.claimed - c.estimated)[wrong] * weights[wrong])
            apart = abs(float(np.sum(gaps))) - float(np.sum(bar[wrong] * np.abs(weights[wrong])))
            if apart > _CONTRADICTS * taylor.miss or (c.order == 2 and taylor.kink):
                # The line would show errors as large as these, and does not: the bars are too
                # short, or the gradient is right on a smaller scale only.
                verdicts[wrong] = UNCLEAR
                said.append(UNCLEAR)
                continue
            if excused[row].any():
                # What holds at x alone, a line that sees farther can neither deny nor confirm.
                kind = UNCLEAR
            elif kind == DIFFERS and DIFFERS not in own:
                slope, step = float(np.sum(terms[row])), float(np.sqrt(np.max(c.eps)))
                found = slope + taylor.error
                seen = self._look(line, i, slope, found, room, step)
                if seen.right or abs(taylor.error) <= seen.unsure:
                    kind = UNCLEAR
            said.append(overall(own, kind, taylor.kink > 0))
        worst = max(tests, key=lambda t: (t.verdict == DIFFERS, t.verdict == UNCLEAR))
        first = order(c.claimed, c.estimated, bar, verdicts)[0]
        return GradCheck(
            claimed=unflat(c.claimed, claim),
            estimated=unflat(c.estimated, claim),
            bar=unflat(bar, claim),
            verdicts=unflat(verdicts, claim),
            verdict=next(v for v in (DIFFERS, UNCLEAR, AGREES) if v in said),
            taylor=worst.verdict,
            slope=worst.slope,
            kink=max(self.kink, *(t.kink for t in tests)),
            worst=entry_names(claim)[first],
            evaluations=self.evaluations,
            what=_WHAT[c.order, len(rows) > 1],
        )

    def _compared(
        self, along: Shaped[np.ndarray, "n"], weights: Shaped[np.ndarray, "N"], tests: list[Taylor]
    ) -> tuple[Float[np.ndarray, "N"], Verdicts]:
        """Bars of the entries, as far as the differences tell, and what follows from bars."""
        c = self.columns
        noise, reach, kinks = (
            np.array([getattr(t, name) for t in tests])[c.out]
            for name in ("noise", "reach", "kink")
        )
        error = c.error
        if c.order == 1:
            # The noise that no dtype tells of, and that some bounds do not hold.
            error = np.maximum(error, self.amplification * noise / c.step)
        bar = self.sure * (error + _ROUNDINGS * c.eps * c.largest)
        # Entries that cannot move say nothing.
        bar = np.where(weights == 0, np.inf, bar)
        sizes = np.maximum(np.abs(numbers(list(self.question.leaves))), 1)
        unit = np.prod([sizes[col] for col in c.by], axis=0)
        zero = vanishing(float(np.max(c.eps))) * reach / unit
        kink = np.divide(kinks, np.abs(weights), where=weights != 0, out=np.zeros_like(bar))
        # A function has no effect where it would show as a change of its own digits.
        idle = np.sqrt(c.eps) * np.abs(c.value)[c.out] / unit
        least = np.maximum(_SMALL * c.largest, zero)

        def verdicts(bar: Float[np.ndarray, "N"]) -> Shaped[np.ndarray, "N"]:
            said = compare(c.claimed, c.estimated, bar, least, kink, self.rtol, idle)
            said[~c.seen] = UNSEEN
            return said

        return bar, verdicts

    def _excused(
        self, verdicts: Shaped[np.ndarray, "N"], bar: Float[np.ndarray, "N"], again: Verdicts
    ) -> Bool[np.ndarray, "N"]:
        """Takes back what a close look at the worst entries does not bear out.

        Where it is the rounding of ``x`` that explains a gap, the bar is widened by it.

        Args:
            verdicts: those of the entries; changed.
            bar: their bars; changed.
            again: the verdicts that follow from bars.

        Returns:
            The entries whose claim may be right at ``x`` alone.
        """
        c = self.columns
        excused = np.zeros(len(verdicts), bool)
        wrong = verdicts == DIFFERS
        # Of a Hessian only the diagonal has a line of its own, and speaks for row and column.
        own = wrong & (c.by[0] == c.by[-1])
        worst = [i for i in order(c.claimed, c.estimated, bar, verdicts) if own[i]]
        for i in worst[:_LOOKED]:
            gap = c.claimed[i] - c.estimated[i]
            unit = 1j if abs(np.imag(gap)) > abs(np.real(gap)) else 1
            line, room = self._unit(int(c.by[0][i]), unit)
            size = float(sum(np.sum(np.abs(leaf)) for leaf in line))
            claim, found = (
                float(np.real(v[i] * unit)) * size**c.order for v in (c.claimed, c.estimated)
            )
            step = c.step[i] / size
            seen = self._look(line, int(c.out[i]), claim, found, room, step)
            if abs(claim - found) <= seen.unsure:
                bar[i] = max(bar[i], seen.unsure / size)
                verdicts[i] = again(bar)[i]
            elif not np.isfinite(claim) or seen.right:
                beside = np.any(c.by == c.by[0][i], axis=0) & (c.out == c.out[i]) & wrong
                excused |= beside & np.isfinite(c.claimed)
        if all(verdicts[i] != DIFFERS or excused[i] for i in worst[:_LOOKED]):
            # None that was looked at is left, so that nothing is known of the others.
            excused[worst[_LOOKED:]] |= np.isfinite(c.claimed[worst[_LOOKED:]])
        verdicts[excused] = UNCLEAR
        return excused

    def _unit(self, entry: int, unit: complex) -> tuple[list[np.ndarray], tuple[float, float]]:
        """A line along one entry, as long as the entry is large, and the room on it."""
        line, room = [], (0.0, 0.0)
        for z, up, down in zip(self.question.leaves, *self.rooms, strict=True):
            leaf = np.zeros(z.size, z.dtype)
            if 0 <= entry < z.size:
                size = float(power_of_two(np, np.abs(np.ravel(z)[entry]).astype(np.float64))) or 1.0
                leaf[entry] = size * (unit if np.iscomplexobj(z) else 1)
                room = (float(np.ravel(up)[entry]) / size, float(np.ravel(down)[entry]) / size)
            entry -= z.size
            line.append(leaf.reshape(z.shape))
        return line, room

    def _look(
        self,
        line: list[np.ndarray],
        row: int,
        claim: float,
        found: float,
        room: tuple[float, float],
        step: float,
    ) -> Look:
        """What a close look shows of a derivative along a line."""
        seen = look(
            self.question, line, row, claim, found, room, step, self.schedule, self.columns.order
        )
        self.evaluations += seen.spent
        self.kink = max(self.kink, seen.kink)
        return seen
