"""Scales at their limits, and values as the nearest doubles whatever the scale."""

from __future__ import annotations

import random
from decimal import Decimal

import numpy as np
import pytest

from pipeline.calc.scales import Numbers, Scale


def numbers(*values: str) -> Numbers:
    """Decimals as digits and decimals."""
    parts = [Decimal(value).as_tuple() for value in values]
    digits = [int("".join(map(str, part.digits))) for part in parts]
    decimals = [-int(part.exponent) for part in parts]
    return Numbers(np.array(digits, np.int64), np.array(decimals, np.int8))


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ("9007199254740991", True),
        ("576460752303423", True),
        ("576460752303423.4", True),
        ("576460752303423000", True),
        ("576460752303423489", False),
        ("9007199254740.993", True),
        ("0.000000000001", True),
        ("0.0000000000001", False),
        ("0.000000000000001", False),
        ("576460.752303423", True),
        ("576461.752303423487", False),
        ("999999999999999999", False),
    ],
)
def test_limits(value: str, fits: bool) -> None:
    """Below 2**59 steps of the scale, at most twelve decimals."""
    grown = Scale().with_values(numbers(value))
    assert (grown is not None) is fits
    if grown is not None:
        found = grown.floats(grown.integers(numbers(value))).tolist()
        assert found == pytest.approx([float(value)], rel=2e-16)


@pytest.mark.parametrize("value", ["60000.1", "0.5", "12345.678", "99999", "7"])
@pytest.mark.parametrize("finer", range(11))
def test_a_value_is_the_same_double_at_every_scale(value: str, finer: int) -> None:
    """So that rows do not depend on when the scale grew."""
    own = Scale().with_values(numbers(value))
    assert own is not None
    fine = Scale(min(12, own.decimals + finer), own.largest)
    assert fine.floats(fine.integers(numbers(value))).tolist() == [float(value)]


def test_a_price_too_fine_does_not_keep_ordinary_ones_out() -> None:
    """It is refused itself."""
    ordinary = Scale().with_values(numbers("60000.1"))
    assert ordinary is not None
    assert ordinary.with_values(numbers("0.000000000000001")) is None
    finest = Scale().with_values(numbers("0.000000000001"))
    assert finest is not None
    assert finest.with_values(numbers("60000.1")) is not None


@pytest.mark.parametrize("decimals", [19, 20, 30])
def test_more_decimals_than_there_are_powers(decimals: int) -> None:
    """A size of 18 decimals in contracts of 0.01: refused or held, never an error."""
    tiny = Numbers(np.array([1], np.int64), np.array([decimals], np.int8))
    assert Scale().with_values(tiny) is None
    assert Scale(2, 5.0).with_values(tiny) is None


def test_a_finer_value_among_large_ones_does_not_fit() -> None:
    """It is the product of both that is limited."""
    large = Scale().with_values(numbers("57646075230342"))
    assert large is not None
    assert large.with_values(numbers("0.0001")) is not None
    assert large.with_values(numbers("0.00001")) is None
    assert large.with_values(numbers()) is large


@pytest.mark.parametrize("seed", range(20))
def test_what_fits_does_not_depend_on_the_order_within_a_piece(seed: int) -> None:
    """Piece by piece or at once: the same scale, and the nearest doubles."""
    rng = random.Random(seed)
    values = [
        f"{rng.randrange(10 ** rng.randrange(1, 7))}.{rng.randrange(10**4):04d}" for _ in range(30)
    ]
    whole = Scale().with_values(numbers(*values))
    each: Scale | None = Scale()
    for value in values:
        assert each is not None
        each = each.with_values(numbers(value))
    assert each == whole
    assert whole is not None
    assert whole.floats(whole.integers(numbers(*values))).tolist() == [float(v) for v in values]


def test_factor() -> None:
    """How integers grow on the way to a finer scale."""
    coarse, fine = Scale(2, 7.0), Scale(5, 7.0)
    assert coarse.factor_to(fine) == 1000
    assert (coarse.integers(numbers("1.25")) * 1000 == fine.integers(numbers("1.25"))).all()
