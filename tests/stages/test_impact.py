from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest

from pipeline.calc.ols import fit
from pipeline.stages.impact import STAGE

from .tick_tape import MINUTE_US, Trade, assert_any_cutting, at, run, table, ticks_of, walk

NULLS = {"kyle_lambda": None, "kyle_r2": None, "kyle_se": None, "amihud": None}


def test_slope_by_hand() -> None:
    line = fit([-2, -1, 0, 1, 2], [-21, -9, 1, 11, 18])
    assert line is not None
    assert line.slope == 9.8
    assert line.r2 == pytest.approx(0.992149, abs=5e-7)
    assert line.se == pytest.approx(0.503322, abs=5e-7)


def test_slope_where_something_does_not_vary() -> None:
    assert fit([], []) is None
    assert fit([0.1] * 3, [1, 2, 3]) is None
    flat = fit([1, 2, 4], [0.1, 0.1, 0.1])
    assert flat is not None
    assert flat.slope == pytest.approx(0, abs=1e-15)
    assert flat.r2 is None
    two = fit([1, 2], [3, 5])
    assert two is not None
    assert (two.slope, two.r2, two.se) == (2, 1, None)


def minutes(count: int, *, move: float = 1e-4) -> list[Trade]:
    """A minute each: one trade, bought and sold in turn in growing sizes, at a moving price."""
    rng = random.Random(3)
    return [
        (at(0, i), f"{50_000 * (1 + move * rng.uniform(-1, 1)):.2f}", f"{'-' * (i % 2)}{i + 1}")
        for i in range(count)
    ]


def points(trades: list[Trade]) -> tuple[list[float], list[float], list[float]]:
    """Signed millions, bps and bps per million of one-trade minutes, but for the first."""
    x, y, cost = [], [], []
    for (_, before, _), (_, price, size) in pairwise(trades):
        x.append(float(price) * float(size) / 1e6)
        y.append(1e4 * math.log(float(price) / float(before)))
        cost.append(abs(y[-1]) / abs(x[-1]))
    return x, y, cost


def test_no_numbers_before_the_thirtieth_bar_with_a_close_before_it() -> None:
    rows = table(STAGE, run(STAGE, ticks_of(minutes(31)), until_us=at(1)))
    assert [row["n"] for row in rows] == list(range(31))
    for row in rows[:30]:
        assert {key: row[key] for key in NULLS} == NULLS
    assert None not in rows[30].values()


def test_the_window_slides_over_sixty_bars() -> None:
    trades = minutes(75)
    rows = table(STAGE, run(STAGE, ticks_of(trades), until_us=at(2)))
    assert [row["n"] for row in rows] == [*range(60), *[60] * 15]
    for last in (30, 59, 60, 61, 74):
        x, y, cost = points(trades[max(0, last - 60) : last + 1])
        line = fit(x, y)
        assert line is not None
        row = rows[last]
        assert row["kyle_lambda"] == pytest.approx(line.slope, rel=1e-9)
        assert row["kyle_r2"] == pytest.approx(line.r2, rel=1e-9)
        assert row["kyle_se"] == pytest.approx(line.se, rel=1e-9)
        assert row["amihud"] == pytest.approx(sum(cost) / len(cost), rel=1e-9)


def test_a_known_slope_is_found() -> None:
    """Prices that rise by 2 bps per million bought, from bar to bar."""
    rng = random.Random(1)
    price, trades = 50_000.0, [(at(0), "50000", "1")]
    for i in range(1, 61):
        millions = rng.uniform(-5, 5)
        price *= math.exp(2 * millions / 1e4)
        trades.append((at(0, i), f"{price:.9f}", f"{millions * 1e6 / price:.9f}"))
    row = table(STAGE, run(STAGE, ticks_of(trades), until_us=at(2)))[-1]
    assert row["kyle_lambda"] == pytest.approx(2, rel=1e-6)
    assert row["kyle_r2"] == pytest.approx(1, rel=1e-9)
    assert row["kyle_se"] < 1e-6
    assert row["amihud"] == pytest.approx(2, rel=1e-6)


def test_several_trades_of_a_minute() -> None:
    trades = [
        (at(0, 0, 1), "100", "1"),
        (at(0, 1, 1), "300", "10"),
        (at(0, 1, 3), "100", "-4"),
        (at(0, 1, 2), "101", "-1"),  # last in the file, so the close
        (at(0, 2, 1), "101", "5"),
        (at(0, 3, 1), "102", "-5"),
    ]
    row = table(STAGE, run(STAGE, ticks_of(trades), min_window=3, until_us=at(1)))[-1]
    x = [(3000 - 400 - 101) / 1e6, 505 / 1e6, -510 / 1e6]
    y = [1e4 * math.log(1.01), 0, 1e4 * math.log(102 / 101)]
    line = fit(x, y)
    assert line is not None
    assert row["n"] == 3
    assert row["kyle_lambda"] == pytest.approx(line.slope, rel=1e-12)
    costs = (y[0] / (3501 / 1e6), 0, y[2] / (510 / 1e6))
    assert row["amihud"] == pytest.approx(sum(costs) / 3, rel=1e-12)


def test_nothing_varies() -> None:
    same = [(at(0, i), "100", "0.1") for i in range(40)]
    row = table(STAGE, run(STAGE, ticks_of(same), until_us=at(1)))[-1]
    assert row == {"at": at(0, 39), "n": 39} | NULLS
    still = [(at(0, i), "100", f"0.{i + 1:03d}") for i in range(40)]
    row = table(STAGE, run(STAGE, ticks_of(still), until_us=at(1)))[-1]
    rest = {"kyle_lambda": 0, "kyle_r2": None, "kyle_se": 0, "amihud": 0, "n": 39}
    assert row == {"at": at(0, 39)} | rest


def test_bars_that_exist_count_however_far_apart() -> None:
    trades = minutes(31)
    spread = [(ts + i * 7 * MINUTE_US, price, size) for i, (ts, price, size) in enumerate(trades)]
    near = table(STAGE, run(STAGE, ticks_of(trades), until_us=at(23)))[-1]
    far = table(STAGE, run(STAGE, ticks_of(spread), until_us=at(23)))[-1]
    assert near | {"at": 0} == far | {"at": 0}


def test_lambda_is_inverse_in_size_and_odd_in_side() -> None:
    trades = minutes(45)
    row = table(STAGE, run(STAGE, ticks_of(trades), until_us=at(1)))[-1]
    tenfold = [(ts, price, size + "0") for ts, price, size in trades]
    large = table(STAGE, run(STAGE, ticks_of(tenfold), until_us=at(1)))[-1]
    assert large["kyle_lambda"] == pytest.approx(row["kyle_lambda"] / 10, rel=1e-9)
    assert large["amihud"] == pytest.approx(row["amihud"] / 10, rel=1e-9)
    turned = [(ts, p, s.removeprefix("-") if "-" in s else f"-{s}") for ts, p, s in trades]
    other = table(STAGE, run(STAGE, ticks_of(turned), until_us=at(1)))[-1]
    assert other["kyle_lambda"] == -row["kyle_lambda"]
    assert other["kyle_r2"] == row["kyle_r2"]


@pytest.mark.parametrize("lateness", [0, 3 * MINUTE_US])
@pytest.mark.parametrize("seed", range(4))
def test_any_cutting_gives_the_same_rows(seed: int, lateness: int) -> None:
    trades = walk(seed, 150, lateness_us=lateness, days=0.1 if lateness else 2)
    rows = assert_any_cutting(STAGE, trades, seed, lateness_us=lateness, window=20, min_window=5)
    for row in table(STAGE, rows):
        assert row["n"] <= 20
        assert row["kyle_r2"] is None or 0 <= row["kyle_r2"] <= 1
        assert row["amihud"] is None or row["amihud"] >= 0
