"""What a reader asks about a formula, read from fields; no more is asked of JAX than that.

Must not know how an estimate is made: this room is quick to import, and answers what is malformed
before JAX has come.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from jaxfd.calculator._expressions import expression
from jaxfd.calculator._fields import FieldError, Fields, plain, shown, typed
from jaxfd.calculator._nodes import ExpressionError, Node

ORDERS = {
    "forward": (1, 2, 3, 4),
    "backward": (1, 2, 3, 4),
    "central": (2, 4, 6, 8),
    "complex": (0,),
    "adaptive": (0,),
}
_FLOAT32 = (1e-37, 3e38)  # the sizes of its numbers


@dataclasses.dataclass(frozen=True)
class Request:
    """A question about a formula.

    Attributes:
        node: the expression.
        names: its variables, sorted.
        point: where; one number for each.
        method: a key of `ORDERS`.
        order: the order of accuracy; 0 where the method has none.
        step: the step in the variables' units; None lets jaxfd choose.
        wide: whether JAX computes in float64.
        noise: the standard deviation of what is added to each value.
        variable: which of the variables is drawn.
        factor: what the step is divided by from row to row.
        near: whether the drawn window is a few steps wide.
    """

    node: Node
    names: tuple[str, ...]
    point: tuple[float, ...]
    method: str
    order: int
    step: float | None
    wide: bool
    noise: float
    variable: int
    factor: int
    near: bool


class RequestError(FieldError):
    """Fields that are wrong, with what was understood all the same.

    Args:
        messages: one for each field.
        variables: the variables of the expression, where it was read.
    """

    def __init__(self, messages: dict[str, str], variables: tuple[str, ...] | None) -> None:
        super().__init__(messages)
        self.variables = variables


def number(text: str) -> float:
    """A number, or arithmetic that makes one: ``pi/4``, ``2^-10``.

    Raises:
        ValueError: it is neither.

    Example:
        >>> number("1e-3"), number("1/4")
        (0.001, 0.25)
    """
    try:
        return float(typed(text).value)
    except ValueError as error:
        if not plain(text) or "," in text or "out of range" in str(error):
            raise
        try:
            value = expression(text).constant()
        except ExpressionError as cause:
            raise ValueError(f"{shown(text)} is not a number. {cause}") from None
        if value is None:
            raise ValueError(f"{shown(text)} is not a number.") from None
        if abs(value) > 1e100:
            raise ValueError(f"{shown(text)} is out of range.") from None
        return value


def request(given: object) -> Request:
    """Reads the fields of a formula's page.

    Args:
        given: ``e`` the expression, ``x.NAME`` the point, ``m`` the method, ``o`` its order, ``h``
            the step (empty lets jaxfd choose, unless ``auto`` is "no"), ``p`` 64 or 32, ``n`` the
            noise, ``v`` the variable that is drawn, ``t`` the table's factor, ``w`` wide or near.

    Raises:
        RequestError: fields are wrong.
    """
    fields = Fields(given)
    problems = fields.problems
    node, names = None, None
    try:
        node = expression(fields.text("e"))
        names = tuple(sorted(node.variables()))
        if not names:
            problems["e"] = "This has no variable, so that its gradient is 0: name one, such as x."
    except ExpressionError as error:
        problems["e"] = str(error)
    points = dict(fields.starting("x."))
    if names is None:  # what stands on the page is read all the same
        for name, text in points.items():
            _number(f"x.{name}", text, problems)
    point = [_number(f"x.{name}", points.get(name, "1"), problems) for name in names or ()]
    method = fields.choice("m", tuple(ORDERS))
    order = _order(fields.text("o"), method, problems)
    step = _number("h", fields.text("h"), problems) if fields.text("h").strip() else None
    if step is not None and "h" not in problems and step <= 0:
        problems["h"] = f"h must be positive, and {shown(fields.text('h'))} is not."
    if step is None and method != "adaptive" and fields.choice("auto", ("yes", "no")) == "no":
        problems["h"] = "Type a step, or let jaxfd choose it."
    noise = _number("n", fields.text("n"), problems) if fields.text("n").strip() else 0.0
    if "n" not in problems and noise < 0:
        problems["n"] = "The size of the noise must not be negative."
    if method == "complex" and noise and "m" not in problems:
        problems["m"] = "A complex step needs a function without noise: take another method."
    if method == "adaptive":
        step = None
    wide = fields.choice("p", ("64", "32")) == "64"
    if not wide:
        lengths = {} if step is None else {"h": step}
        places = {f"x.{name}": value for name, value in zip(names or (), point, strict=True)}
        for field, value in {**places, **lengths, "n": noise}.items():
            if abs(value) > _FLOAT32[1] or 0 < abs(value) < _FLOAT32[0]:
                problems.setdefault(field, "This is beyond float32, which reaches 1e-37 to 3e38.")
    factor = int(fields.choice("t", ("10", "2")))
    near = fields.choice("w", ("wide", "near")) == "near"
    variable = names.index(fields.text("v")) if names and fields.text("v") in names else 0
    if problems:
        raise RequestError(problems, names)
    assert node is not None
    assert names is not None
    return Request(
        node, names, tuple(point), method, order, step, wide, noise, variable, factor, near
    )


def _number(field: str, text: str, problems: dict[str, str]) -> float:
    try:
        value = number(text)
    except ValueError as error:
        problems[field] = str(error)
        return math.nan
    if value and abs(value) < 1e-100:
        problems[field] = f"{shown(text)} is too small: numbers lie between 1e-100 and 1e100."
    return value


def _order(text: str, method: str, problems: dict[str, Any]) -> int:
    orders = ORDERS[method]
    if not text or orders == (0,):
        return orders[0]
    if text not in map(str, orders):
        problems["o"] = f"{method} has the orders {', '.join(map(str, orders))}."
        return orders[0]
    return int(text)
