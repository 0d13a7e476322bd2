"""Exact decimals: what is read, what is refused, and how results are rounded and written."""

from __future__ import annotations

import decimal
import random
from decimal import Decimal
from fractions import Fraction

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from pipeline import exact
from pipeline.exact import NotANumberError

FAST = settings(derandomize=True, deadline=None, max_examples=200, database=None)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1", (1, 0)),
        ("0", (0, 0)),
        ("0.0", (0, 1)),
        ("+1.5", (15, 1)),
        ("1.", (1, 0)),
        (".5", (5, 1)),
        ("007", (7, 0)),
        ("100.50", (10050, 2)),
        ("61837.63000000", (6183763000000, 8)),
        ("1e-5", (1, 5)),
        ("2E3", (2000, 0)),
        ("1.25e1", (125, 1)),
        ("1.5e+1", (15, 0)),
        ("0.000000000001", (1, 12)),
        ("1.000000000000", (1000000000000, 12)),
        ("1.00000000000000000", (100000000000000000, 17)),
        ("1.000000000000000000", (1, 0)),
        ("1.23456789012345678", (123456789012345678, 17)),
        ("1.234567890123456785", (123456789012345678, 17)),
        ("1.234567890123456775", (123456789012345678, 17)),
        ("1.2345678901234567851", (123456789012345679, 17)),
        ("999999999999.9999999", (1000000000000, 0)),
        ("1e-18", (1, 18)),
        ("1e-19", (0, 0)),
        ("0.0000000000000000005", (0, 0)),
        ("0.0000000000000000015", (2, 18)),
        ("0.0000000000000000025", (2, 18)),
        ("100000000000000000000e-20", (1, 0)),
        ("999999999999999", (999999999999999, 0)),
        ("999999999999999.999", (999999999999999999, 3)),
        ("123456789012345.67850", (123456789012345678, 3)),
        ("0e999", (0, 0)),
        ("0.0000000000000000", (0, 16)),
        ("0.0000000000000000000", (0, 0)),
    ],
)
def test_what_is_a_number(text: str, wanted: tuple[int, int]) -> None:
    """The integer and its decimals as written; beyond 18 digits or decimals, half-even."""
    assert exact.parse_decimal(text) == wanted


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((text, "number") for text in ("", ".", "-1", "-0", " 1", "1 ", "1,5", "1.2.3", "NaN")),
        *(
            (text, "number")
            for text in ("inf", "0x1", "1e", "e1", "1e1000", "1_0", "\u0661", "++1")
        ),
        *((text, "number") for text in ("1\n", "+", "+.", "1e+-1", "--1")),
        *((text, "magnitude") for text in ("1000000000000000", "1e15", "1e999")),
        ("1000000000000000.5", "magnitude"),
    ],
)
def test_what_is_no_number(text: str, reason: str) -> None:
    """Negative, malformed, or larger than the pipeline carries."""
    with pytest.raises(NotANumberError) as caught:
        exact.parse_decimal(text)
    assert str(caught.value) == reason


@FAST
@given(st.integers(0, 10**18 - 1), st.integers(0, 18))
def test_text_and_back(value: int, decimals: int) -> None:
    """`decimal_text` writes exactly what `parse_decimal` reads, with the same decimals."""
    if value >= 10 ** (15 + decimals):
        value %= 10 ** (15 + decimals)
    text = exact.decimal_text(value, decimals)
    assert exact.parse_decimal(text) == (value, decimals)
    assert Decimal(text) == exact.scaled(value, decimals)
    assert exact.decimal_text(-value, decimals) == ("-" + text if value else text)


@pytest.mark.parametrize(
    ("text", "decimals", "wanted"),
    [
        *(("0.5", 0, "0"), ("1.5", 0, "2"), ("2.5", 0, "2"), ("0.125", 2, "0.12")),
        *(("0.135", 2, "0.14"), ("0.1250000001", 2, "0.13"), ("-0.125", 2, "-0.12")),
        *(("-0.004", 2, "0"), ("1.10", 2, "1.1"), ("100", 2, "100"), ("1000", 0, "1000")),
        *(("0.000000005", 8, "0"), ("0.000000015", 8, "0.00000002"), ("0", 8, "0")),
        ("9.999999995", 8, "10"),
        ("123456789012345678901234567890.5", 0, "123456789012345678901234567890"),
        *(("-1.5", 0, "-2"), ("1E+3", 2, "1000"), ("-0", 2, "0")),
    ],
)
def test_rounding_is_half_even_and_zeros_go(text: str, decimals: int, wanted: str) -> None:
    """At most `decimals` decimals, plain digits, no negative zero; `signed_text` adds a sign."""
    assert exact.rounded_text(Decimal(text), decimals) == wanted
    assert exact.signed_text(Decimal(text), decimals) == (
        wanted if wanted.startswith("-") else f"+{wanted}"
    )


@FAST
@given(st.integers(-(10**30), 10**30), st.integers(1, 10**20))
def test_half_even_quotient_is_round_of_a_fraction(top: int, bottom: int) -> None:
    """Python rounds fractions half-even; the integer way gives the same."""
    assert exact.half_even_quotient(top, bottom) == round(Fraction(top, bottom))
    assert exact.half_even_quotient(top * 2 + 1, 2) == round(Fraction(top * 2 + 1, 2))


@FAST
@given(st.lists(st.tuples(st.integers(0, 10**37), st.integers(0, 24)), min_size=1, max_size=30))
def test_sums_do_not_depend_on_their_order(parts: list[tuple[int, int]]) -> None:
    """Adding never rounds, so any order gives the sum of the fractions."""
    numbers = [exact.scaled(value, scale) for value, scale in parts]
    wanted = sum((Fraction(value, 10**scale) for value, scale in parts), Fraction(0))
    for seed in range(3):
        random.Random(seed).shuffle(numbers)
        total = exact.ZERO
        for number in numbers:
            total = exact.add(total, number)
        assert Fraction(total) == wanted
        assert exact.subtract(total, total) == 0


def test_an_inexact_result_raises_instead_of_rounding() -> None:
    """The context of all sums has traps where the usual one rounds."""
    with pytest.raises(decimal.Inexact):
        exact.EXACT.divide(Decimal(1), Decimal(3))
    with pytest.raises(decimal.Inexact):
        exact.add(Decimal("1e100"), Decimal("1e-100"))
    with pytest.raises(decimal.InvalidOperation):
        exact.add(Decimal("sNaN"), Decimal(1))


@FAST
@given(st.integers(-(10**40), 10**40), st.integers(1, 10**30))
def test_nearest_is_the_nearest_double(top: int, bottom: int) -> None:
    """No other double is nearer to the exact value."""
    import math

    value = Fraction(top, bottom)
    found = exact.nearest(value)
    miss = abs(Fraction(found) - value)
    for other in (math.nextafter(found, math.inf), math.nextafter(found, -math.inf)):
        assert miss <= abs(Fraction(other) - value)


def test_ratio_is_exact() -> None:
    """A fraction, so that thresholds compare without rounding."""
    assert exact.ratio(Decimal("0.3"), Decimal("0.1")) == 3
    assert exact.ratio(Decimal(1), Decimal(3)) == Fraction(1, 3)
    with pytest.raises(ZeroDivisionError):
        exact.ratio(Decimal(1), Decimal(0))
