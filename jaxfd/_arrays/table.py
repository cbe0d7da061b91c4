"""The table that results print themselves as: a row for each entry, under the entry's name.

There is one for all of them, from the estimate of a transform to the reports; it lies here because
the former lies below the latter. This room must not know what the numbers say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Column:
    """Numbers under one head, at the right of their column.

    Attributes:
        head: what stands above.
        width: how many characters a number takes at least.
        form: how it is written: ``.3g``.
        values: the numbers, one for each row.
    """

    head: str
    width: int
    form: str
    values: Iterable[Any]


def table(
    names: Sequence[str],
    columns: Sequence[Column],
    *,
    total: int,
    of: str = "entry",
    width: int = 0,
    head: str = "",
    remarks: Iterable[str] | None = None,
) -> list[str]:
    """Writes one row for each name.

    Args:
        names: the entries that are shown, in their order.
        columns: what is said of them, in numbers; what they have beyond the names is not shown.
        total: how many entries there are; how many of them are missing is said at the end.
        of: what the names are names of.
        width: how many characters a name takes at least.
        head: what stands above the remarks.
        remarks: what is said behind the numbers of each row.

    Returns:
        The lines.

    Example:
        >>> lines = table(["x[0]", "x[1]"], [Column("slope", 8, ".3g", [1.0, 2.5])], total=3)
        >>> print("|".join(lines))
        entry    slope|x[0]         1|x[1]       2.5|... 1 more
    """
    width = max([width, len(of), *map(len, names)])
    heads = (f"{column.head:>{column.width}}" for column in columns)
    lines = [_line(f"{of:<{width}}", heads, head)]
    # The names come first: what they do not reach in an endless column is not even asked for.
    behind = [""] * len(names) if remarks is None else remarks
    for name, remark, *numbers in zip(names, behind, *(c.values for c in columns), strict=False):
        cells = (f"{number:>{c.width}{c.form}}" for number, c in zip(numbers, columns, strict=True))
        lines.append(_line(f"{name:<{width}}", cells, remark))
    if total > len(names):
        lines.append(f"... {total - len(names)} more")
    return lines


def _line(name: str, cells: Iterable[str], remark: str) -> str:
    return " ".join([name, *cells]) + (f"  {remark}" if remark else "")
