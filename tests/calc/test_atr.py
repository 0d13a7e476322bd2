from __future__ import annotations

import math
import random
from itertools import pairwise

import msgspec
import pytest

from pipeline.calc.atr import Atr, true_range

Bars = list[tuple[float, float, float]]


def averages(bars: Bars, period: int = 14) -> list[float | None]:
    """The average at each bar; the struct goes through JSON in between."""
    atr, found = Atr(), []
    for high, low, close in bars:
        atr = msgspec.json.decode(msgspec.json.encode(atr.then(high, low, close, period)), type=Atr)
        found.append(atr.value)
    return found


@pytest.mark.parametrize(
    ("high", "low", "before", "expected"),
    [
        (12.0, 10.0, None, 2.0),
        (12.0, 10.0, 11.0, 2.0),
        (12.0, 10.0, 7.0, 5.0),
        (12.0, 10.0, 16.0, 6.0),
        (10.0, 10.0, 10.0, 0.0),
    ],
)
def test_true_range(high: float, low: float, before: float | None, expected: float) -> None:
    assert true_range(high, low, before) == expected


def test_by_hand() -> None:
    bars = [(10.0, 8.0, 9.0), (11.0, 9.0, 10.0), (15.0, 14.0, 14.0), (14.0, 14.0, 14.0)]
    # ranges 2, 2, 5 (from 10 to 15), 0
    assert averages(bars, 3) == [None, None, 3.0, 2.0]
    assert averages(bars, 1) == [2.0, 2.0, 5.0, 0.0]


def test_fourteen_ranges_are_needed() -> None:
    bars = [(100.0 + i, 100.0, 100.0) for i in range(16)]
    found = averages(bars)
    assert found[:13] == [None] * 13
    assert found[13] == 6.5
    assert found[14] == (13 * 6.5 + 14) / 14
    assert found[15] == (13 * (13 * 6.5 + 14) / 14 + 15) / 14


def test_against_a_plain_loop() -> None:
    rng = random.Random(2)
    close, bars = 100.0, []
    for _ in range(300):
        low, high = sorted(close * rng.uniform(0.97, 1.03) for _ in range(2))
        close = rng.uniform(low, high)
        bars.append((high, low, close))
    ranges = [bars[0][0] - bars[0][1]]
    for (_, _, before), (high, low, _) in pairwise(bars):
        ranges.append(max(high, before) - min(low, before))
    expected = math.fsum(ranges[:14]) / 14
    found = averages(bars)
    assert found[13] == pytest.approx(expected, rel=1e-13)
    for i in range(14, 300):
        expected += (ranges[i] - expected) / 14
        assert found[i] == pytest.approx(expected, rel=1e-12)


def test_a_struct_is_left_alone() -> None:
    first = Atr().then(2.0, 1.0, 1.0, 14)
    first.then(3.0, 1.0, 1.0, 14)
    assert first == Atr(None, 1.0, [1.0])


def test_ranges_are_forgotten_once_there_is_an_average() -> None:
    atr = Atr()
    for _ in range(100):
        atr = atr.then(2.0, 1.0, 1.0, 14)
    assert atr == Atr(1.0, 1.0, [])
