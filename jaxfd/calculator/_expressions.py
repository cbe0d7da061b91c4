"""Text becomes an expression: grammar by lark, messages in words, everything bounded.

Nothing is evaluated here, and no name means anything but what is listed in `_nodes`. Must not know
of JAX, nor what an expression is wanted for.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxfd.calculator._fields import shown
from jaxfd.calculator._nodes import (
    CONSTANTS,
    FUNCTIONS,
    PAIRS,
    Call,
    ExpressionError,
    Negation,
    Node,
    Number,
    Operation,
    Variable,
)

LONGEST = 300
_VARIABLES = 6
_BRACKETS = 30
_GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "kappa", "lambda"),
    *("mu", "nu", "xi", "rho", "sigma", "tau", "phi", "chi", "psi", "omega"),
)
# Signs that a keyboard lacks, but a document that is copied from has.
_SIGNS = {
    **{"−": "-", "×": "*", "·": "*", "⋅": "*", "÷": "/"},
    **{"√": " sqrt ", "π": " pi ", "∣": "|"},
}
_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹"
# Names that are another function's, with what to write.
_INVERSES = {"sec": "cos", "csc": "sin", "cot": "tan"}


def expression(text: str) -> Node:
    """Reads an expression.

    Args:
        text: what was typed.

    Raises:
        ExpressionError: it is not understood; the message says where and why.

    Example:
        >>> print(expression("-x^2 + 2sin x |y|"))
        -x^2 + 2 * sin(x) * abs(y)
    """
    if len(text) > LONGEST:
        raise ExpressionError(f"This is too long: at most {LONGEST} characters.")
    for sign, meaning in _SIGNS.items():
        text = text.replace(sign, meaning)
    text = re.sub(f"[{_RAISED}]+", lambda run: "^" + "".join(map(_lowered, run[0])), text)
    if not text.strip():
        raise ExpressionError("Type an expression, such as 100/(x+1).")
    _check_brackets(text)
    node = _parsed(text)
    if len(node.variables()) > _VARIABLES:
        raise ExpressionError(f"These are too many variables: at most {_VARIABLES}.")
    node.constant()  # raises where a part is no number
    return node


def _lowered(digit: str) -> str:
    return str(_RAISED.index(digit))


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> Node:
    import lark

    try:
        node: Node = _parser().parse(text)
    except lark.exceptions.VisitError as error:
        raise error.orig_exc from None
    except lark.exceptions.UnexpectedCharacters as error:
        raise ExpressionError(_unexpected(text, error.pos_in_stream or 0)) from None
    except lark.exceptions.UnexpectedToken as error:
        place = error.token.start_pos
        end = error.token.type == "$END" or place is None
        raise ExpressionError(_unexpected(text, len(text) if end else place)) from None
    return node


@functools.cache
def _parser() -> Any:
    import lark

    return lark.Lark(
        (Path(__file__).parent / "grammar.lark").read_text(),
        parser="lalr",
        lexer="basic",
        transformer=_Builder(),
        postlex=_Bars(),
        lexer_callbacks={"VARIABLE": _kind},
    )


class _Bars:
    """Tells a bar that opens from one that closes: what opens stands where a value may begin."""

    always_accept = ("BAR",)

    def process(self, stream: Any) -> Iterator[Any]:
        import lark

        open_bars = [0]
        before = None  # the token before, None where a value must begin
        for token in stream:
            kind = token.type
            if kind == "BAR":
                closes = before is not None and open_bars[-1] > 0
                open_bars[-1] += -1 if closes else 1
                token = lark.Token.new_borrow_pos("_CLOSE" if closes else "_OPEN", "|", token)
                before = token if closes else None
            else:
                if kind == "LPAR":
                    open_bars.append(0)
                elif kind == "RPAR" and len(open_bars) > 1:
                    open_bars.pop()
                ends = kind in ("NUMBER", "VARIABLE", "CONSTANT", "RPAR")
                before = token if ends else None
            yield token


def _kind(token: Any) -> Any:
    """What a name is."""
    import lark

    name = str(token)
    if name in FUNCTIONS or name in _INVERSES:
        return lark.Token.new_borrow_pos("FUNCTION", name, token)
    if name in PAIRS:
        return lark.Token.new_borrow_pos("PAIR", name, token)
    if name in CONSTANTS:
        return lark.Token.new_borrow_pos("CONSTANT", name, token)
    if not (re.fullmatch(r"[A-Za-z]\d{0,3}(_[A-Za-z0-9]{1,6})?", name) or name in _GREEK):
        raise ExpressionError(_unknown(name))
    return token


def _unknown(name: str) -> str:
    known = [*FUNCTIONS, *PAIRS, *CONSTANTS, *_INVERSES]
    starts = [k for k in known if name.startswith(k) and len(k) > 1]
    if starts:
        longest = max(starts, key=len)
        return f"Unknown name {shown(name)}: did you mean {longest}({shown(name[len(longest) :])})?"
    close = difflib.get_close_matches(name.lower()[:40], known, n=1, cutoff=0.8)
    if close:
        return f"Unknown name {shown(name)}: did you mean {close[0]}?"
    product = "*".join(name)
    if name.isascii() and name.isalpha() and len(name) == 2:
        return f"Unknown name {name}: variables have one letter. Did you mean {product}?"
    return (
        f"Unknown name {shown(name)}: variables have one letter and perhaps a number, such as x or "
        "w1, and the functions are listed under the field."
    )


def _check_brackets(text: str) -> None:
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth > _BRACKETS:
            raise ExpressionError(
                f"These are too many brackets in one another: at most {_BRACKETS}."
            )
        if depth < 0:
            raise ExpressionError(f"The bracket ) at character {place + 1} closes nothing.")
    if depth:
        raise ExpressionError(
            f"{'A bracket ( is' if depth == 1 else f'{depth} brackets ( are'} not closed."
        )


def _unexpected(text: str, place: int) -> str:
    """What is wrong at a place of the text."""
    comma = re.search(r"\d+,\d+", text)
    if comma and "," in text[max(0, place - 1) : place + 1]:
        return f"{comma[0]} has a comma: did you mean {comma[0].replace(',', '.')}?"
    if "=" in text:
        return "Type the right-hand side alone, without =."
    rest = text[place:].strip()
    if not rest:
        return "The expression ends too early: something is missing at its end."
    if rest[0] == "." and "__" not in rest:
        return f"The point at character {place + 1} belongs to no number."
    if rest[0] == ")":
        return f"Something is missing before the bracket ) at character {place + 1}."
    if rest[0].isdigit():
        return (
            f"A sign is missing before {shown(rest, 8)} at character {place + 1}: "
            "write * to multiply."
        )
    return f"This is not understood from character {place + 1} on: {shown(rest, 12)}"


class _Builder:
    """Makes nodes, called by lark's parser for each rule as it goes."""

    def number(self, children: list[Any]) -> Node:
        text = str(children[0])
        value = float(text)
        if value == float("inf") or abs(value) > 1e300:
            raise ExpressionError(f"{shown(text)} is too large.")
        return Number(value, text)

    def variable(self, children: list[Any]) -> Node:
        return Variable(str(children[0]))

    def constant(self, children: list[Any]) -> Node:
        return Number(CONSTANTS[str(children[0])], str(children[0]))

    def add(self, children: list[Any]) -> Node:
        return Operation("+", *children)

    def subtract(self, children: list[Any]) -> Node:
        return Operation("-", *children)

    def multiply(self, children: list[Any]) -> Node:
        return Operation("*", *children)

    def divide(self, children: list[Any]) -> Node:
        return Operation("/", *children)

    def raise_to(self, children: list[Any]) -> Node:
        return Operation("^", *children)

    def negate(self, children: list[Any]) -> Node:
        return Negation(children[0])

    def magnitude(self, children: list[Any]) -> Node:
        return Call("jnp.abs", "abs", (children[0],))

    def call(self, children: list[Any]) -> Node:
        name, *arguments = children
        if name in _INVERSES:
            inner = _INVERSES[name]
            return Operation("/", Number(1.0, "1"), Call(FUNCTIONS[inner], inner, tuple(arguments)))
        table = PAIRS if name in PAIRS else FUNCTIONS
        return Call(table[name], str(name), tuple(arguments))

    def call_raised(self, children: list[Any]) -> Node:
        name, power, argument = children
        return Operation("^", self.call([name, argument]), self.number([power]))
