from __future__ import annotations

import math
from fractions import Fraction

import pytest

from pipeline.stages.cvd import STAGE

from .tick_tape import MINUTE_US, assert_any_cutting, at, run, table, ticks_of, walk

TRADES = [
    (at(23, 58, 0), "100", "2"),
    (at(23, 58, 30), "101", "-5"),
    (at(23, 58, 59.999999), "100", "4"),
    # nothing in 23:59
    (at(0, 0, 0, day=1), "10", "-0.5"),
    (at(0, 0, 1, day=1), "10", "-0.25"),
    (at(0, 1, 0, day=1), "20", "1"),
]


def test_hand_table() -> None:
    rows = table(STAGE, run(STAGE, ticks_of(TRADES), until_us=at(0, 2, day=1)))
    first = {"delta": 1, "cvd": 1, "session_cvd": 1, "delta_notional": 95, "cvd_notional": 95}
    second = {"delta": -0.75, "cvd": 0.25, "session_cvd": -0.75}
    second |= {"delta_notional": -7.5, "cvd_notional": 87.5}
    third = {"delta": 1, "cvd": 1.25, "session_cvd": 0.25}
    third |= {"delta_notional": 20, "cvd_notional": 107.5}
    assert rows == [
        {"at": at(23, 58)} | first | {"cvd_high": 2, "cvd_low": -3},
        # the opening value counts: the minute only sold, and began at 1
        {"at": at(0, 0, day=1)} | second | {"cvd_high": 1, "cvd_low": 0.25},
        {"at": at(0, 1, day=1)} | third | {"cvd_high": 1.25, "cvd_low": 0.25},
    ]


@pytest.mark.parametrize(("until", "count"), [(at(0, 2, day=1), 3), (at(0, 2, day=1) - 1, 2)])
def test_a_minute_closes_when_the_watermark_reaches_its_end(until: int, count: int) -> None:
    assert len(run(STAGE, ticks_of(TRADES), until_us=until)) == count


def test_nothing_closes_before_there_is_a_watermark() -> None:
    assert run(STAGE, ticks_of([])) == []


def test_minutes_that_interleave_keep_their_own_order() -> None:
    trades = [
        (at(12, 0, 1), "10", "3"),
        (at(12, 1, 1), "10", "-7"),
        (at(12, 0, 2), "10", "-4"),
        (at(12, 1, 2), "10", "8"),
        (at(12, 0, 0), "10", "2"),
    ]
    rows = table(STAGE, run(STAGE, ticks_of(trades), lateness_us=MINUTE_US, until_us=at(12, 2)))
    found = [(r["at"], r["cvd"], r["cvd_high"], r["cvd_low"]) for r in rows]
    assert found == [(at(12, 0), 1, 3, -1), (at(12, 1), 2, 2, -6)]


def test_sums_beyond_64_bits() -> None:
    trades = [
        (at(12, 0, 1), "99999999.123456789012", "99999.123456789012"),
        (at(12, 0, 2), "99999999.123456789012", "99999.123456789013"),
        (at(12, 0, 3), "99999999.123456789012", "-199998.246913578024"),
    ]
    rows = table(STAGE, run(STAGE, ticks_of(trades), until_us=at(12, 1)))
    assert rows[0]["delta"] == 1e-12
    assert rows[0]["delta_notional"] == float(Fraction("99999999.123456789012") / 10**12)
    assert rows[0]["cvd_high"] == 199998.246913578025


def test_tenths_add_up() -> None:
    """Ten times 0.1 less 1 is nothing, in any number of runs."""
    trades = [(at(12, i), "1", "0.1") for i in range(10)] + [(at(12, 10), "1", "-1.0")]
    rows = table(STAGE, run(STAGE, ticks_of(trades), cuts=range(11), until_us=at(13)))
    assert [row["cvd"] for row in rows] == [i / 10 for i in range(1, 11)] + [0]


@pytest.mark.parametrize("lateness", [0, 3 * MINUTE_US])
@pytest.mark.parametrize("seed", range(4))
def test_any_cutting_gives_the_same_rows(seed: int, lateness: int) -> None:
    trades = walk(seed, 150, lateness_us=lateness, days=0.1 if lateness else 2)
    assert assert_any_cutting(STAGE, trades, seed, lateness_us=lateness)


@pytest.mark.parametrize("seed", range(3))
def test_bounds_and_sums(seed: int) -> None:
    rows = table(STAGE, run(STAGE, ticks_of(walk(seed, 400, days=0.3)), until_us=at(0, day=9)))
    opened = 0.0
    for row in rows:
        assert row["cvd_low"] <= min(opened, row["cvd"])
        assert row["cvd_high"] >= max(opened, row["cvd"])
        opened = row["cvd"]
    assert math.isclose(rows[-1]["cvd"], math.fsum(row["delta"] for row in rows), abs_tol=1e-9)
    by_day: dict[int, float] = {}
    for row in rows:
        day = row["at"] // 86_400_000_000
        by_day[day] = by_day.get(day, 0) + row["delta"]
        assert math.isclose(row["session_cvd"], by_day[day], abs_tol=1e-9)
