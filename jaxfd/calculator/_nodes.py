"""What an expression is once it is read: a tree of a few kinds of nodes, each bounded in depth.

A node says itself as it is written, evaluates itself on whatever numbers it is given, and says
itself in Python. Must not know how text becomes a tree, nor of JAX: functions come from outside.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Protocol

# Beyond these nobody reads an expression any more, and a compiler gets slow.
_DEPTH = 80
_EXPONENT = 1000

CONSTANTS = {"pi": math.pi, "e": math.e}
# What is understood, and what it is called in Python.
FUNCTIONS: dict[str, str] = {
    **{name: f"jnp.{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "exp")},
    **{name: f"jnp.{name}" for name in ("sqrt", "cbrt", "abs", "sign", "floor", "ceil")},
    **{name: f"jnp.{name}" for name in ("log10", "log2", "log1p", "expm1")},
    **{f"a{name}": f"jnp.arc{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    **{f"arc{name}": f"jnp.arc{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "ln": "jnp.log",
    "log": "jnp.log",
    "relu": "jax.nn.relu",
    "sigmoid": "jax.nn.sigmoid",
    "softplus": "jax.nn.softplus",
    "erf": "jax.scipy.special.erf",
}
PAIRS = {
    **{"max": "jnp.maximum", "min": "jnp.minimum", "atan2": "jnp.arctan2", "hypot": "jnp.hypot"},
    "mod": "jnp.mod",
}
_PLACES = {"+": 1, "-": 1, "*": 2, "/": 2, "^": 4}
_SIGN = 3


class ExpressionError(ValueError):
    """An expression that is not understood, or not computed; the message is for its reader."""


class Node(Hashable, Protocol):
    """A part of an expression.

    Attributes:
        depth: how many nodes lie below one another.
        place: how tightly it binds: 1 for sums to 5 for what stands alone.
    """

    @property
    def depth(self) -> int: ...

    @property
    def place(self) -> int: ...

    def variables(self) -> frozenset[str]:
        """The names of its variables."""
        ...

    def constant(self) -> float | None:
        """Its value where it has no variables and no functions.

        Raises:
            ExpressionError: it is none that can be computed.
        """
        ...

    def evaluate(self, at: Mapping[str, Any], function: Callable[[str], Callable[..., Any]]) -> Any:
        """Its value: ``at`` has those of the variables, ``function`` what a Python name means."""
        ...

    def python(self) -> str:
        """The same in Python, with ``jnp`` and ``jax`` at hand."""
        ...


def _deeper(*nodes: Node) -> int:
    depth = 1 + max(node.depth for node in nodes)
    if depth > _DEPTH:
        raise ExpressionError(f"This is nested too deeply: at most {_DEPTH} levels.")
    return depth


def _within(node: Node, place: int, text: str) -> str:
    return text if node.place >= place else f"({text})"


def _number(value: float) -> str:
    """A number as Python writes it; whole ones as integers, so that powers of them are exact."""
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)


def _python_value(value: float) -> Any:
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _checked(value: float, what: str) -> float:
    if math.isnan(value):
        raise ExpressionError(f"{what} is not a real number.")
    if math.isinf(value):
        raise ExpressionError(f"{what} is too large to be computed.")
    return value


@dataclasses.dataclass(frozen=True)
class Number:
    """A number, or one of the constants by its name."""

    value: float
    text: str
    depth: int = 1
    place: int = 5

    def __str__(self) -> str:
        return self.text

    def variables(self) -> frozenset[str]:
        return frozenset()

    def constant(self) -> float | None:
        return self.value

    def evaluate(self, at: Mapping[str, Any], function: Callable[[str], Callable[..., Any]]) -> Any:
        return _python_value(self.value)

    def python(self) -> str:
        return _number(self.value)


@dataclasses.dataclass(frozen=True)
class Variable:
    """A variable."""

    name: str
    depth: int = 1
    place: int = 5

    def __str__(self) -> str:
        return self.name

    def variables(self) -> frozenset[str]:
        return frozenset({self.name})

    def constant(self) -> float | None:
        return None

    def evaluate(self, at: Mapping[str, Any], function: Callable[[str], Callable[..., Any]]) -> Any:
        return at[self.name]

    def python(self) -> str:
        return python_name(self.name)


def python_name(name: str) -> str:
    """A variable's name that means nothing else in Python."""
    return f"{name}_" if name == "lambda" else name


@dataclasses.dataclass(frozen=True)
class Call:
    """A function of one or two expressions.

    Args:
        name: what it is called in Python.
        written: what it is called here.
        arguments: of what.
    """

    name: str
    written: str
    arguments: tuple[Node, ...]
    place: int = 5
    depth: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", _deeper(*self.arguments))

    def __str__(self) -> str:
        return f"{self.written}({', '.join(map(str, self.arguments))})"

    def variables(self) -> frozenset[str]:
        return frozenset().union(*(node.variables() for node in self.arguments))

    def constant(self) -> float | None:
        for node in self.arguments:
            node.constant()
        return None

    def evaluate(self, at: Mapping[str, Any], function: Callable[[str], Callable[..., Any]]) -> Any:
        values = [node.evaluate(at, function) for node in self.arguments]
        return function(self.name)(*values)

    def python(self) -> str:
        return f"{self.name}({', '.join(node.python() for node in self.arguments)})"


@dataclasses.dataclass(frozen=True)
class Negation:
    """Minus an expression."""

    of: Node
    place: int = _SIGN
    depth: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", _deeper(self.of))

    def __str__(self) -> str:
        return f"-{_within(self.of, _SIGN + 1, str(self.of))}"

    def variables(self) -> frozenset[str]:
        return self.of.variables()

    def constant(self) -> float | None:
        value = self.of.constant()
        return None if value is None else -value

    def evaluate(self, at: Mapping[str, Any], function: Callable[[str], Callable[..., Any]]) -> Any:
        return -self.of.evaluate(at, function)

    def python(self) -> str:
        value = self.constant()
        if value is not None:
            return _number(value)
        return f"-{_within(self.of, _SIGN + 1, self.of.python())}"


@dataclasses.dataclass(frozen=True)
class Operation:
    """Two expressions and a sign between them: one of ``+ - * / ^``.

    Raises:
        ExpressionError: an exponent is out of bounds.
    """

    sign: str
    left: Node
    right: Node
    depth: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", _deeper(self.left, self.right))
        exponent = self.right.constant() if self.sign == "^" else None
        if exponent is not None and abs(exponent) > _EXPONENT:
            raise ExpressionError(
                f"The exponent {shortened(self.right)} is too large: at most {_EXPONENT} in size."
            )

    @property
    def place(self) -> int:
        return _PLACES[self.sign]

    def _sides(self, left: str, right: str, sign: str) -> str:
        own = self.place
        power = self.sign == "^"
        # Sums and products lean to the left, powers to the right; a sign in an exponent stands.
        first = _within(self.left, own + power, left)
        second = _within(self.right, own if power else own + 1, right)
        return f"{first}{sign}{second}"

    def __str__(self) -> str:
        sign = self.sign if self.sign == "^" else f" {self.sign} "
        return self._sides(str(self.left), str(self.right), sign)

    def variables(self) -> frozenset[str]:
        return self.left.variables() | self.right.variables()

    def constant(self) -> float | None:
        left, right = self.left.constant(), self.right.constant()
        if left is None or right is None:
            return None
        return _checked(_arithmetic(self.sign, left, right), shortened(self))

    def evaluate(self, at: Mapping[str, Any], function: Callable[[str], Callable[..., Any]]) -> Any:
        value = self.constant()
        if value is not None:
            return _python_value(value)
        left, right = self.left.evaluate(at, function), self.right.evaluate(at, function)
        match self.sign:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "/":
                return left / right
        return left**right

    def python(self) -> str:
        value = self.constant()
        if value is not None:
            return _number(value)
        sign = "**" if self.sign == "^" else f" {self.sign} "
        return self._sides(self.left.python(), self.right.python(), sign)


def shortened(node: Node) -> str:
    """An expression as a message quotes it."""
    text = str(node)
    return text if len(text) <= 24 else text[:23] + "…"


def _arithmetic(sign: str, left: float, right: float) -> float:
    """The result; infinite where it is too large, NaN where it is not real."""
    try:
        match sign:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "/":
                return left / right
        return math.pow(left, right)
    except ZeroDivisionError:
        raise ExpressionError(f"{left:g} / 0: division by zero.") from None
    except OverflowError:
        return math.inf
    except ValueError:  # a root of a negative number, or 0^-1
        return math.nan
