"""Exact decimals: the arithmetic of everything that is added up across runs.

Inside one batch numbers are integers with a scale (value = integer / 10**scale); between batches
they are `Decimal`s handled by a context that raises rather than round. Nothing here is a float
until a row is written, and then it is the double nearest to the exact value.
"""

from __future__ import annotations

import decimal
import re
from decimal import Decimal
from fractions import Fraction

MAX_DECIMALS = 18
MAX_DIGITS = 18
"""Most decimals and most significant digits a price or size carries. No double has more digits;
what is finer is rounded half-even."""

MAX_INTEGER_DIGITS = 15

EXACT = decimal.Context(
    prec=120,
    rounding=decimal.ROUND_HALF_EVEN,
    traps=[decimal.Inexact, decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)
"""Adds and multiplies without ever rounding: an inexact result raises instead."""

ZERO = Decimal(0)

_NUMBER = re.compile(r"\+?(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,3}))?", re.ASCII)


class NotANumberError(ValueError):
    """The text is not a plain non-negative decimal; the message is the quarantine reason."""


def parse_decimal(text: str) -> tuple[int, int]:
    """Read a decimal text as (integer, decimals), keeping the decimals it was written with.

    "61837.63000000" gives (6183763000000, 8), "1e-5" gives (1, 5), "2E3" gives (2000, 0).

    Raises:
        NotANumberError: "number" if the text is not a decimal or negative, "magnitude" if it has
            more than 15 integer digits.
    """
    match = _NUMBER.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        raise NotANumberError("number")
    whole, fraction, exponent = match[1], match[2] or "", int(match[3] or 0)
    digits, decimals = int((whole + fraction) or "0"), len(fraction) - exponent
    if decimals < 0:
        digits, decimals = digits * 10**-decimals, 0
    if digits >= 10 ** (MAX_INTEGER_DIGITS + decimals):
        raise NotANumberError("magnitude")
    surplus = max(decimals - MAX_DECIMALS, len(str(digits)) - MAX_DIGITS)
    if surplus > 0:
        digits, decimals = half_even_quotient(digits, int(10**surplus)), decimals - surplus
        while decimals and digits % 10 == 0:
            digits, decimals = digits // 10, decimals - 1
    return digits, decimals


def decimal_text(value: int, decimals: int) -> str:
    """Write value / 10**decimals in plain digits with exactly that many decimals."""
    if decimals == 0:
        return str(value)
    sign, digits = ("-" if value < 0 else ""), str(abs(value)).rjust(decimals + 1, "0")
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"


def scaled(value: int, scale: int) -> Decimal:
    """value / 10**scale as an exact Decimal."""
    return Decimal(value).scaleb(-scale, EXACT)


def add(a: Decimal, b: Decimal) -> Decimal:
    """a + b, exactly."""
    return EXACT.add(a, b)


def subtract(a: Decimal, b: Decimal) -> Decimal:
    """a - b, exactly."""
    return EXACT.subtract(a, b)


def ratio(a: Decimal, b: Decimal) -> Fraction:
    """a / b as an exact fraction; b must not be zero."""
    return Fraction(a) / Fraction(b)


def nearest(value: Decimal | Fraction) -> float:
    """The double nearest to an exact value (ties to even)."""
    top, bottom = value.as_integer_ratio()
    return top / bottom


def rounded_text(value: Decimal, decimals: int) -> str:
    """Round half-even to at most `decimals` decimals; plain digits, trailing zeros dropped."""
    top, bottom = value.as_integer_ratio()
    text = decimal_text(round(Fraction(top * 10**decimals, bottom)), decimals)
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def signed_text(value: Decimal, decimals: int) -> str:
    """`rounded_text` with an explicit sign; zero is "+0"."""
    text = rounded_text(value, decimals)
    return text if text.startswith("-") else f"+{text}"


def check_positive(**values: Decimal | int) -> None:
    """Refuse parameters that are not positive numbers.

    Raises:
        ValueError: names the first that is not.
    """
    for name, value in values.items():
        if not Decimal(value).is_finite() or value <= 0:
            raise ValueError(f"{name} must be above 0, not {value}")


def half_even_quotient(top: int, bottom: int) -> int:
    """top / bottom rounded half-even to an integer, for positive `bottom`."""
    quotient, remainder = divmod(top, bottom)
    twice = 2 * remainder
    return quotient + (twice > bottom or (twice == bottom and quotient % 2 == 1))
