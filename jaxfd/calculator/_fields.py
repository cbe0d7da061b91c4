"""What is typed into fields: numbers and choices, and messages where they are none.

Everything a reader types arrives as text and is read here. Must not know what is computed of it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation

# A number with more digits or a wilder exponent than these is a slip of the hand, or an attack.
_LONGEST = 60
_EXPONENT = 100


class FieldError(ValueError):
    """What is wrong with fields, in words.

    Args:
        messages: one message for each field, by the field's name.
    """

    def __init__(self, messages: Mapping[str, str]) -> None:
        super().__init__("; ".join(messages.values()))
        self.messages = dict(messages)


@dataclasses.dataclass(frozen=True)
class Typed:
    """A number as it was typed, exactly.

    Attributes:
        value: the number.
        place: the power of ten of its last digit: -4 for ``16.6667``, 0 for ``12``.

    Example:
        >>> typed("16.6667")
        Typed(value=Decimal('16.6667'), place=-4)
    """

    value: Decimal
    place: int


def plain(text: str) -> str:
    """The text with a keyboard's own signs: ``−`` is a minus, outer blanks go."""
    return text.strip().replace("\u2212", "-").replace("\u00a0", "")


def typed(text: str) -> Typed:
    """Reads a decimal number.

    Args:
        text: what was typed.

    Raises:
        ValueError: it is no number; the message says what to do.

    Example:
        >>> typed("1,5")
        Traceback (most recent call last):
        ValueError: 1,5 has a comma: did you mean 1.5?
    """
    text = plain(text)
    if not text:
        raise ValueError("Type a number here.")
    if len(text) > _LONGEST:
        raise ValueError(f"This is too long: at most {_LONGEST} characters.")
    if re.fullmatch(r"[+-]?\d*,\d+", text):
        raise ValueError(f"{text} has a comma: did you mean {text.replace(',', '.')}?")
    try:
        if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII):
            raise InvalidOperation
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{shown(text)} is not a number.") from None
    place = value.as_tuple().exponent
    if not isinstance(place, int) or abs(value.adjusted()) > _EXPONENT or abs(place) > _EXPONENT:
        raise ValueError(
            f"{shown(text)} is out of range: numbers lie between 1e-{_EXPONENT} and 1e{_EXPONENT}."
        )
    return Typed(value, place)


def shown(text: str, most: int = 24) -> str:
    """The text as a message quotes it: not too long, one line."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


class Fields:
    """The fields of one request, read one after the other; what is wrong is gathered.

    Args:
        given: what was sent: texts by the fields' names.

    Raises:
        FieldError: it is no object of texts.

    Example:
        >>> fields = Fields({"h": "-1"})
        >>> fields.number("h", positive=True)
        >>> fields.problems
        {'h': 'h must be positive, and -1 is not.'}
    """

    def __init__(self, given: object) -> None:
        if not isinstance(given, dict):
            raise FieldError({"": "The page sent no fields."})
        wrong = {name: "This is not text." for name, text in given.items() if not _is_text(text)}
        if wrong:
            raise FieldError(wrong)
        self._given: dict[str, str] = given
        self.problems: dict[str, str] = {}

    def text(self, name: str, default: str = "") -> str:
        """What was typed there."""
        return self._given.get(name, default)

    def number(
        self, name: str, label: str = "", *, positive: bool = False, optional: bool = False
    ) -> Typed | None:
        """Reads a number; None where there is none, which is a problem unless ``optional``."""
        text = self.text(name)
        if optional and not text.strip():
            return None
        try:
            found = typed(text)
        except ValueError as error:
            self.problems[name] = str(error)
            return None
        if positive and found.value <= 0:
            self.problems[name] = f"{label or name} must be positive, and {shown(text)} is not."
            return None
        return found

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """One of the choices; the first where nothing was sent."""
        text = self.text(name, choices[0])
        if text not in choices:
            self.problems[name] = f"{shown(text)} is no choice: take one of {', '.join(choices)}."
            return choices[0]
        return text

    def check(self) -> None:
        """Raises what was gathered.

        Raises:
            FieldError: a field was wrong.
        """
        if self.problems:
            raise FieldError(self.problems)

    def starting(self, prefix: str) -> Iterator[tuple[str, str]]:
        """The fields whose names begin so: what follows the prefix, and the text."""
        for name, text in self._given.items():
            if name.startswith(prefix):
                yield name.removeprefix(prefix), text


def _is_text(text: object) -> bool:
    return isinstance(text, str)
