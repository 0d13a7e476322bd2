"""The tick rule against a loop, and the quote rule at its edges."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from pipeline.calc.lee_ready import Last, imbalance, in_force, is_lee_ready, sides, ticks


def plain(days: list[int], prices: list[float], before: Last | None) -> list[int]:
    """One trade after the other."""
    day, price, tick = (None, None, 0) if before is None else before
    found = []
    for own, at in zip(days, prices, strict=True):
        if own != day:
            day, price, tick = own, None, 0
        if price is not None and at != price:
            tick = 1 if at > price else -1
        price = at
        found.append(tick)
    return found


@pytest.mark.parametrize("seed", range(60))
def test_ticks_are_those_of_a_loop(seed: int) -> None:
    """Over days, and from the trade before."""
    rng = random.Random(seed)
    days = sorted(rng.randrange(3) for _ in range(rng.randrange(1, 30)))
    prices = [rng.choice((10.0, 10.0, 10.01, 9.99)) for _ in days]
    before = rng.choice((None, Last(0, 10.0, 0), Last(0, 10.0, -1), Last(-1, 9.0, 1)))
    found = ticks(np.array(days), np.array(prices), before).tolist()
    assert found == plain(days, prices, before)
    cut = rng.randrange(len(days) + 1)
    first = ticks(np.array(days[:cut], np.int64), np.array(prices[:cut]), before).tolist()
    if cut:
        before = Last(days[cut - 1], prices[cut - 1], first[-1])
    rest = ticks(np.array(days[cut:], np.int64), np.array(prices[cut:]), before).tolist()
    assert first + rest == found


def test_the_quote_rule() -> None:
    prices = np.array([10.1, 10.0, 10.05, 10.05 + 2e-9, 10.05 - 5e-10, 10.05, 9.0])
    mids = np.array([10.05] * 6 + [math.nan])
    side, told = sides(prices, mids, np.array([-1, 1, -1, -1, 1, 0, -1]))
    assert side.tolist() == [1, -1, -1, 1, 1, 0, -1]
    assert told.tolist() == [True, True, False, True, False, False, False]


def test_the_quote_in_force_is_strictly_before() -> None:
    assert in_force(np.array([5, 7, 7, 9]), np.array([5, 6, 7, 8, 10])).tolist() == [-1, 0, 0, 2, 3]


def test_shares_and_balances() -> None:
    assert is_lee_ready(800, 1000)
    assert not is_lee_ready(799_999_999, 1_000_000_000)
    assert imbalance(0, 0) is None
    assert imbalance(450, 600) == pytest.approx(-0.142857, abs=1e-6)
