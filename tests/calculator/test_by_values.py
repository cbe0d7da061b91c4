"""The gradient of typed values: right to the last digit, and honest about those it has not."""

from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from jaxfd.calculator._fields import FieldError, typed
from jaxfd.calculator._values import by_values, decimal_text

PUBLISHED = {"f0": "16.6667", "f1": "16.6638", "h": "0.001", "x": "5"}


@pytest.mark.parametrize(("f1", "gradient"), [("16.6638", "-2.9"), ("16.6639", "-2.8")])
def test_published_numbers_hold_the_truth(f1, gradient):
    told = by_values(PUBLISHED | {"f1": f1})
    assert told["gradient"] == gradient
    forward = told["differences"][0]
    assert float(forward["low"]) < -100 / 36 < float(forward["high"])
    assert forward["formula"] == f"({f1} - 16.6667) / 0.001 = {gradient}"


def test_both_sides_give_three_differences():
    told = by_values(PUBLISHED | {"fb": "16.66945"})
    assert [one["gradient"] for one in told["differences"]] == ["-2.9", "-2.75", "-2.825"]
    assert [row["at"] for row in told["rows"]] == ["4.999", "5", "5.001"]
    assert "central: (f(x + h) - f(x - h)) / 2h" in told["copy"]


def test_exact_values_have_no_doubt():
    told = by_values({"f0": "4", "f1": "4.00040001", "h": "1e-4", "x": "2", "exact": "yes"})
    only = told["differences"][0]
    assert only["gradient"] == only["low"] == only["high"] == "4.0001"


def test_no_digit_survives_equal_values():
    told = by_values(PUBLISHED | {"f1": "16.6667"})
    assert told["gradient"] == "0"
    assert told["differences"][0]["survived"].startswith("No digit survived")


number = st.decimals(-(10**6), 10**6, places=6)


@given(number, number, st.decimals("0.000001", 1000, places=6))
def test_exact_arithmetic(f0, f1, h):
    told = by_values({"f0": str(f0), "f1": str(f1), "h": str(h), "x": "0"})
    exact = (Fraction(f1) - Fraction(f0)) / Fraction(h)
    assert told["gradient"] == decimal_text(exact)
    assert abs(Fraction(told["gradient"]) - exact) <= abs(exact) / 10**14


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("h", "-1", "h must be positive"),
        ("h", "0", "h must be positive"),
        ("f0", "1,5", "did you mean 1.5?"),
        ("f0", "abc", "abc is not a number"),
        ("f0", "", "Type a number"),
        ("f1", "1e999", "out of range"),
        ("f1", "٣", "not a number"),
        ("x", "nan", "not a number"),
        ("fb", "one", "not a number"),
        ("f0", "9" * 100, "too long"),
    ],
)
def test_each_field_has_its_message(field, text, message):
    with pytest.raises(FieldError) as caught:
        by_values(PUBLISHED | {field: text})
    assert list(caught.value.messages) == [field]
    assert message in caught.value.messages[field]


def test_a_minus_of_a_document_is_a_minus():
    assert typed("\u22122.5").value == typed("-2.5").value
