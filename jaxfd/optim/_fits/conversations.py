"""Several conversations at once: what they ask for is evaluated as one batch.

It exists so that searches from several starts, and profiles of several parameters, fill batches
together. It must not know what is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, "k n"]
Rows = Float[np.ndarray, "k m"]


def converse(
    talks: Sequence[Generator[Points, Rows, Any]], evaluate: Callable[[Points], Rows]
) -> list[Any]:
    """Lets conversations go on side by side until all are over.

    Args:
        talks: the conversations.
        evaluate: what is told of points.

    Returns:
        What each returned.
    """
    if len(talks) == 1:
        return [_alone(talks[0], evaluate)]
    results: list[Any] = [None] * len(talks)
    asked: dict[int, Points] = {}

    def go_on(number: int, rows: Rows | None) -> None:
        try:
            talk = talks[number]
            asked[number] = next(talk) if rows is None else talk.send(rows)
        except StopIteration as end:
            asked.pop(number, None)
            results[number] = end.value

    for number in range(len(talks)):
        go_on(number, None)
    while asked:
        numbers = list(asked)
        parts = [asked[number] for number in numbers]
        found = evaluate(np.concatenate(parts))
        ends = np.cumsum([len(part) for part in parts])[:-1]
        for number, rows in zip(numbers, np.split(found, ends), strict=True):
            go_on(number, rows)
    return results


def _alone(talk: Generator[Points, Rows, Any], evaluate: Callable[[Points], Rows]) -> Any:
    """Lets one conversation go on until it is over; nothing is put together nor cut for it."""
    try:
        asked = next(talk)
        while True:
            asked = talk.send(evaluate(asked))
    except StopIteration as end:
        return end.value
