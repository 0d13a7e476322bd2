"""Point of control and value area beside MarketProfile 0.2.0 (PyPI, BSD).

It takes a bar as one price, its close; closes on whole rows and one bar a row make that the same
as trades. Where it differs from the stage, and what the cases do about it:

- it rounds prices up to a row, the stage down: prices here are whole rows;
- its rows are the prices that traded, the stage's `bins` are equal parts of [low, high]: prices
  here are 0..n-1 without a hole (it takes a row without volume for the end of the profile, and
  fails where the rows on both sides have none), and n bins of width (n-1)/n hold one price each;
- it grows the value area while it holds <= 70 %, the stage while it holds < 70 %: cases where 70 %
  is met exactly are left out, and counted, so that leaving out stays the exception;
- it breaks ties of the point of control by the distance to n/2 instead of (n-1)/2, and then takes
  the lower: cases with two largest rows are left out likewise;
- it only adds one row at a time (`one_row`), and on equal sides the upper, as the stage does.
"""

from __future__ import annotations

import random

import pandas as pd
import pytest
from market_profile import MarketProfile

from pipeline.stages.profile import STAGE
from tests.stages.row_tape import DAY, SECOND, Trade, named, run

FIXTURE = [10, 30, 60, 100, 80, 40, 20, 5]
"""At prices 100 to 107."""


def of_the_peer(volumes: list[int], low: int) -> tuple[float, float, float]:
    """POC, value area low and high."""
    times = pd.date_range("2024-03-06", periods=len(volumes), freq="s")
    closes = [float(low + i) for i in range(len(volumes))]
    bars = pd.DataFrame({"Close": closes, "Low": closes, "High": closes, "Volume": volumes}, times)
    profile = MarketProfile(bars, tick_size=1)[times[0] : times[-1]]
    val, vah = profile.value_area
    return float(profile.poc_price), float(val), float(vah)


def of_the_stage(volumes: list[int], low: int, seed: int = 0) -> tuple[float, float, float]:
    """The same from the stage's row, each bin's centre as the one price that lies in it."""
    count = len(volumes)
    prices = list(range(count))
    random.Random(seed).shuffle(prices)
    trades: list[Trade] = [
        (i * SECOND // 100, str(low + p), str(volumes[p]), ("buy", "sell")[i % 2])
        for i, p in enumerate(prices)
    ]
    trades.append((5 * DAY, "1", "1", "buy"))
    found = run(STAGE, trades, tick="1", bins=count, value_area="one_row")
    row = named(STAGE, "profile_session", found["profile_session"][0])
    assert row["total_volume"] == sum(volumes)
    assert (row["low"], row["high"]) == (low, low + count - 1)
    width = (count - 1) / count
    assert row["bin_size"] == pytest.approx(width, rel=1e-12)
    places = [(row[name] - low) / width - 0.5 for name in ("poc", "val", "vah")]
    assert places == pytest.approx([round(each) for each in places], abs=1e-9)
    poc, val, vah = (float(low + round(each)) for each in places)
    return poc, val, vah


def comparable(volumes: list[int]) -> bool:
    """One largest row, and no value area on the way holds exactly 70 %."""
    if volumes.count(max(volumes)) > 1:
        return False
    total = sum(volumes)
    sums = [0]
    for volume in volumes:
        sums.append(sums[-1] + volume)
    return not any(10 * (high - low) == 7 * total for low in sums for high in sums if high > low)


def test_the_fixture() -> None:
    assert comparable(FIXTURE)
    assert of_the_stage(FIXTURE, 100) == of_the_peer(FIXTURE, 100)


@pytest.mark.parametrize("top", [9, 1000, 10**6])
def test_random_histograms(top: int) -> None:
    """Rough ones, many of them with rows that are equal, and smooth ones."""
    rng = random.Random(top)
    compared = uneven = 0
    for case in range(250):
        count = rng.randrange(2, 70)
        volumes = [rng.randrange(1, top) for _ in range(count)]
        if case % 3 == 0:
            peak = rng.randrange(count)
            volumes = [1 + top * v // (top + abs(i - peak) ** 2) for i, v in enumerate(volumes)]
            volumes[peak] += top
        if case % 3 == 1:
            volumes[rng.randrange(count)] = top
        if not comparable(volumes):
            continue
        low = rng.randrange(1, 90_000)
        poc, val, vah = of_the_peer(volumes, low)
        assert of_the_stage(volumes, low, case) == (poc, val, vah), volumes
        compared += 1
        uneven += poc - val != vah - poc
    assert compared > 100
    assert uneven > 50


def test_equal_neighbours_go_up() -> None:
    """Of two equal rows beside the point of control both take the upper, and it is enough."""
    volumes = [1, 5, 12, 5]
    assert comparable(volumes)
    assert of_the_peer(volumes, 50) == (52, 52, 53)
    assert of_the_stage(volumes, 50) == (52, 52, 53)
