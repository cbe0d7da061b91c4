"""The gradient of values that were typed: exact arithmetic on decimals, and what it is worth.

Values are rational numbers, so that nothing is lost here; what was lost before, when they were
rounded to be typed, is said. Must not know of JAX, nor of the browser.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction
from typing import Any

from jaxfd.calculator._fields import Fields, Typed

_DIGITS = 15


def decimal_text(number: Fraction, digits: int = _DIGITS) -> str:
    """The number in at most so many significant digits, rounded half to even.

    Example:
        >>> decimal_text(Fraction(-29, 10)), decimal_text(Fraction(2, 3), 5)
        ('-2.9', '0.66667')
    """
    with localcontext() as context:
        context.prec, context.rounding = digits, ROUND_HALF_EVEN
        context.Emax, context.Emin = 10**6, -(10**6)
        value = Decimal(number.numerator) / Decimal(number.denominator)
        if not value:
            return "0"
        far = value.adjusted() < -5 or value.adjusted() >= digits
        value = value.normalize()
        return f"{value:e}".replace("e+", "e") if far else f"{value:f}"


def is_whole(number: Fraction, digits: int = _DIGITS) -> bool:
    """Whether so many digits say all of the number."""
    return Fraction(decimal_text(number, digits)) == number


def _unit(value: Typed) -> Fraction:
    return Fraction(10) ** value.place


def _digits_left(numerator: Fraction, doubt: Fraction) -> int:
    """How many significant digits a numerator has whose last one may be off by ``doubt``."""
    if not numerator:
        return 0
    return max(0, math.floor(math.log10(abs(numerator / doubt)) + 1e-12))


def _survived(first: Typed, second: Typed, doubt: Fraction) -> str:
    """What the subtraction left, in a sentence."""
    numerator = Fraction(first.value) - Fraction(second.value)
    typed_digits = max(_significant(first), _significant(second))
    if not numerator:
        return (
            "No digit survived the subtraction: the two values are equal as typed. "
            "Type more digits, or take a larger h."
        )
    left = _digits_left(numerator, doubt / 2)
    kept = f"{left} of {typed_digits} digits" if left else f"none of {typed_digits} digits"
    return (
        f"{kept[0].upper()}{kept[1:]} survived the subtraction: with its last digit off by one "
        f"in each value, the numerator is {decimal_text(numerator)} ± {decimal_text(doubt)}."
    )


def _significant(value: Typed) -> int:
    """How many digits were typed, without leading zeros."""
    return max(len(value.value.as_tuple().digits), 1) if value.value else 1


class Difference:
    """One quotient of typed values.

    Args:
        name: forward, backward or central.
        high: the value at the upper point.
        low: the value at the lower one.
        width: the distance between the points.
        symbols: the formula in letters.
        exact: whether the values are exact, and not rounded to be typed.
    """

    def __init__(
        self, name: str, high: Typed, low: Typed, width: Fraction, symbols: str, exact: bool
    ) -> None:
        self.name, self.high, self.low = name, high, low
        self.numerator = Fraction(high.value) - Fraction(low.value)
        self.denominator = width
        self.gradient = self.numerator / width
        self.symbols = symbols
        # A value that was rounded is off by half a unit of its last digit, one cut off by up to a
        # whole one: who typed it knows which.
        self.doubt = Fraction(0) if exact else _unit(high) + _unit(low)

    def told(self) -> dict[str, Any]:
        """What the page shows of it."""
        reach = self.doubt / self.denominator
        equals = "=" if is_whole(self.gradient) else "≈"
        low = decimal_text(Fraction(self.low.value))
        subtrahend = f"({low})" if low.startswith("-") else low
        high = decimal_text(Fraction(self.high.value))
        gradient = decimal_text(self.gradient)
        return {
            "name": self.name,
            "gradient": gradient,
            "numerator": decimal_text(self.numerator),
            "denominator": decimal_text(self.denominator),
            "symbols": self.symbols,
            "formula": f"({high} - {subtrahend}) / {decimal_text(self.denominator)} "
            f"{equals} {gradient}",
            "low": decimal_text(self.gradient - reach, 6) if self.doubt else gradient,
            "high": decimal_text(self.gradient + reach, 6) if self.doubt else gradient,
            "survived": _survived(self.high, self.low, self.doubt)
            if self.doubt
            else "The values are taken as exact: nothing is lost in their difference.",
        }


def by_values(given: object) -> dict[str, Any]:
    """The gradient of typed values.

    Args:
        given: texts of the fields: ``f0`` is f(x), ``f1`` f(x + h), ``h``, ``x``, ``fb`` f(x - h)
            (may be empty), ``exact`` "yes" where the values are no rounded ones.

    Returns:
        What the page shows.

    Raises:
        FieldError: a field is wrong.

    Example:
        >>> told = by_values({"f0": "16.6667", "f1": "16.6638", "h": "0.001", "x": "5"})
        >>> told["gradient"], told["differences"][0]["low"], told["differences"][0]["high"]
        ('-2.9', '-3.1', '-2.7')
    """
    fields = Fields(given)
    f0, f1 = fields.number("f0"), fields.number("f1")
    h = fields.number("h", positive=True)
    x = fields.number("x")
    fb = fields.number("fb", optional=True)
    exact = fields.choice("exact", ("no", "yes")) == "yes"
    fields.check()
    assert f0 is not None
    assert f1 is not None
    assert h is not None
    assert x is not None
    step, at = Fraction(h.value), Fraction(x.value)
    found = [Difference("forward", f1, f0, step, "(f(x + h) - f(x)) / h", exact)]
    points = [("x", at, f0), ("x + h", at + step, f1)]
    if fb is not None:
        found += [
            Difference("backward", f0, fb, step, "(f(x) - f(x - h)) / h", exact),
            Difference("central", f1, fb, 2 * step, "(f(x + h) - f(x - h)) / 2h", exact),
        ]
        points.insert(0, ("x - h", at - step, fb))
    differences = [one.told() for one in found]
    estimates = {"x + h": differences[0]["gradient"]}
    if fb is not None:
        estimates |= {"x - h": differences[1]["gradient"], "x": differences[2]["gradient"]}
    which = {"x + h": "forward", "x - h": "backward", "x": "central"}
    rows = [
        {
            "point": name,
            "at": decimal_text(place),
            "f": decimal_text(Fraction(value.value), 60),
            "estimate": estimates.get(name, ""),
            "kind": which[name] if name in estimates else "",
        }
        for name, place, value in points
    ]
    return {
        "gradient": differences[0]["gradient"],
        "differences": differences,
        "rows": rows,
        "points": [
            {"x": float(place), "y": float(value.value), "name": name}
            for name, place, value in points
        ],
        "slope": float(found[0].gradient),
        "step": decimal_text(step),
        "copy": _copied(differences, rows, decimal_text(step), exact),
    }


def _copied(
    differences: list[dict[str, Any]], rows: list[dict[str, Any]], step: str, exact: bool
) -> str:
    """Values and assumptions, as text to be pasted elsewhere."""
    lines = ["Gradient by finite differences, of values"]
    lines += [f"f({row['point']}) = {row['f']} at {row['at']}" for row in rows]
    lines += [f"h = {step}"]
    for one in differences:
        lines += [f"{one['name']}: {one['symbols']} = {one['formula']}"]
        if not exact:
            lines += [f"  between {one['low']} and {one['high']}"]
    assumed = "exact" if exact else "rounded or cut off: each may be off by one in its last digit"
    lines += [f"Assumed: h is exact, and the values are {assumed}."]
    return "\n".join(lines) + "\n"
