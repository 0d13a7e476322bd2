from __future__ import annotations

import random
from fractions import Fraction

import pytest

from pipeline.calc.tolerant import above, at_least, same, sign, slack


@pytest.mark.parametrize(
    ("a", "b", "is_above", "is_same"),
    [
        (1.0, 1.0, False, True),
        (0.1 + 0.2, 0.3, False, True),
        (1 + 0.9e-12, 1.0, False, True),
        (1 + 1.1e-12, 1.0, True, False),
        (1.0, 1 + 1.1e-12, False, False),
        (0.9e-12, 0.0, False, True),
        (1.1e-12, 0.0, True, False),
        (5e-13, -4e-13, False, True),
        (1e6 + 0.9e-6, 1e6, False, True),
        (1e6 + 1.1e-6, 1e6, True, False),
        (-1e6, -1e6 - 1.1e-6, True, False),
        (-1.0, -2.0, True, False),
    ],
)
def test_a_limit_holds_up_to_rounding(a: float, b: float, is_above: bool, is_same: bool) -> None:
    assert above(a, b) is is_above
    assert same(a, b) is same(b, a) is is_same
    assert at_least(a, b) is (is_above or is_same)


@pytest.mark.parametrize(
    ("a", "expected"),
    [(0.0, 0), (-0.0, 0), (1e-12, 0), (-1e-12, 0), (2e-12, 1), (-2e-12, -1), (7.0, 1), (-7.0, -1)],
)
def test_sign(a: float, expected: int) -> None:
    assert sign(a) == expected
    assert type(sign(a)) is int


def test_exactly_one_of_three_holds() -> None:
    rng = random.Random(1)
    for _ in range(2000):
        a = rng.choice((1e-9, 1.0, 6e4)) * rng.uniform(-1, 1)
        b = a + slack(a, 0.0) * rng.uniform(-2, 2)
        assert [above(a, b), same(a, b), above(b, a)].count(True) == 1
        assert at_least(a, b) is not above(b, a)
        apart = Fraction(a) - Fraction(b)
        limit = max(Fraction(1), abs(Fraction(a)), abs(Fraction(b))) / 10**12
        if abs(apart - limit) > limit / 100:
            assert above(a, b) is (apart > limit)
