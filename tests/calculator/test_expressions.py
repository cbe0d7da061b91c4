"""Expressions as people write them, and messages where they are none."""

import time

import pytest

from jaxfd.calculator._expressions import expression
from jaxfd.calculator._nodes import ExpressionError


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("100/(x+1)", "100 / (x + 1)"),
        ("w**2", "w^2"),
        ("2x", "2 * x"),
        ("-x^2", "-x^2"),
        ("(-x)^2", "(-x)^2"),
        ("2^-x", "2^(-x)"),
        ("x^2^3", "x^2^3"),
        ("(x^2)^3", "(x^2)^3"),
        ("x-(y-z)", "x - (y - z)"),
        ("1/2x", "1 / 2 * x"),
        ("sin x", "sin(x)"),
        ("sin 2x cos y", "sin(2 * x) * cos(y)"),
        ("sin^2 x", "sin(x)^2"),
        ("sin(x)^2", "sin(x)^2"),
        ("x(x+1)", "x * (x + 1)"),
        ("||x|+|y||", "abs(abs(x) + abs(y))"),
        ("2|x|y|z|", "2 * abs(x) * y * abs(z)"),
        ("2e3x", "2e3 * x"),
        ("e^x", "e^x"),
        ("sec(x)", "1 / cos(x)"),
        ("max(x,2)", "max(x, 2)"),
        ("x² + √y·π", "x^2 + sqrt(y) * pi"),
        ("x¹²", "x^12"),
        ("theta*x1", "theta * x1"),
    ],
)
def test_read(text, read):
    assert str(expression(text)) == read
    assert str(expression(read)) == read


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("log(x)", "jnp.log(x)"),
        ("ln(x)", "jnp.log(x)"),
        ("log10(x)", "jnp.log10(x)"),
        ("-x^2", "-x**2"),
        ("2^0.5 x", "1.4142135623730951 * x"),
        ("lambda^2", "lambda_**2"),
        ("(-3)^x", "(-3)**x"),
    ],
)
def test_python(text, python):
    assert expression(text).python() == python


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Type an expression"),
        ("1,5", "did you mean 1.5?"),
        ("x + 1,5", "did you mean 1.5?"),
        ("foo", "Unknown name foo"),
        ("sinx", "did you mean sin(x)?"),
        ("wx", "Did you mean w*x?"),
        ("sine(x)", "Unknown name sine"),
        ("__import__('os')", "Unknown name __import__"),
        ("x.real", "not understood|belongs to no number|Unknown name"),
        ("x[0]", "not understood"),
        ("lambda x: x", "not understood"),
        ("2 3", "A sign is missing"),
        ("y = x", "right-hand side"),
        ("x +", "ends too early"),
        ("x)", "closes nothing"),
        ("sin(x", "not closed"),
        ("sin()", "Something is missing"),
        ("1/0", "division by zero"),
        ("9**9**9**9", "exponent"),
        ("x^(10^9)", "exponent"),
        ("(-2)^0.5", "not a real number"),
        ("x*1e400", "too large"),
        ("1e200*1e200*x", "too large"),
        ("(" * 100 + "x" + ")" * 100, "too many brackets"),
        ("(" * 1000, "too long"),
        ("-" * 200 + "x", "nested too deeply"),
        ("x" * 10**6, "too long"),
        ("a+b+c+d+f+g+h", "too many variables"),
        ("|x", "ends too early"),
        ("x\x00y", "not understood|Unknown"),
        ("x; y", "not understood"),
    ],
)
def test_refused_in_words_and_at_once(text, message):
    start = time.perf_counter()
    with pytest.raises(ExpressionError, match=message):
        expression(text)
    assert time.perf_counter() - start < 1
