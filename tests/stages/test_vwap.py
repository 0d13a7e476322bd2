from __future__ import annotations

import math
from fractions import Fraction

import pytest

from pipeline.stages import vwap
from pipeline.stages.vwap import STAGE

from .tick_tape import (
    DAY_US,
    HOUR_US,
    MINUTE_US,
    Trade,
    assert_any_cutting,
    at,
    random_cuts,
    run,
    table,
    ticks_of,
    walk,
)


def test_hand_table() -> None:
    trades = [
        (at(23, 59), "50", "7"),
        # 1 at 98, 2 at 100, 1 at 102: mean 100, variance (4 + 0 + 4) / 4
        (at(0, 0, 0, day=1), "98", "1"),
        (at(0, 0, 1, day=1), "100", "-2"),
        (at(0, 0, 59.999999, day=1), "102", "1"),
        # then 4 more at 106: mean 103, variance (25 + 2 x 9 + 1 + 4 x 9) / 8
        (at(0, 1, 0, day=1), "106", "-4"),
    ]
    rows = table(STAGE, run(STAGE, ticks_of(trades), until_us=at(0, 2, day=1)))
    assert [row["at"] for row in rows] == [at(23, 59), at(0, 0, day=1), at(0, 1, day=1)]
    sd = math.sqrt(2)
    assert rows[1] == {
        "at": at(0, 0, day=1),
        "session_vwap": 100,
        "session_sd": sd,
        "upper_1": 100 + sd,
        "lower_1": 100 - sd,
        "upper_2": 100 + 2 * sd,
        "lower_2": 100 - 2 * sd,
        "upper_3": 100 + 3 * sd,
        "lower_3": 100 - 3 * sd,
        "rolling_vwap_1h": 750 / 11,
        "rolling_vwap_4h": 750 / 11,
        "rolling_vwap_24h": 750 / 11,
        "deviation_pct": 2,
        "deviation_sd": 2 / sd,
    }
    assert rows[2]["session_vwap"] == 103
    assert rows[2]["session_sd"] == math.sqrt(10)
    assert rows[2]["deviation_pct"] == 300 / 103
    assert rows[2]["deviation_sd"] == 3 / math.sqrt(10)


def test_one_price_has_no_deviation() -> None:
    trades = [(at(12, 0, i), "61837.63", "0.1") for i in range(7)]
    row = table(STAGE, run(STAGE, ticks_of(trades), until_us=at(13)))[0]
    assert row["session_vwap"] == row["upper_3"] == row["lower_3"] == 61837.63
    assert row["session_sd"] == row["deviation_pct"] == 0
    assert row["deviation_sd"] is None


def test_midnight_begins_a_session_but_not_a_window() -> None:
    trades = [(at(23, 59, 59.999999), "10", "1"), (at(0, day=1), "20", "1")]
    rows = table(STAGE, run(STAGE, ticks_of(trades), until_us=at(1, day=1)))
    assert [row["session_vwap"] for row in rows] == [10, 20]
    assert [row["rolling_vwap_1h"] for row in rows] == [10, 15]


@pytest.mark.parametrize(("column", "hours"), [("1h", 1), ("4h", 4), ("24h", 24)])
def test_a_window_begins_with_the_minute_that_fits_whole(column: str, hours: int) -> None:
    start = at(0, 30) + hours * HOUR_US
    trades = [
        (at(0, 30), "10", "1"),  # its minute begins at end - w - 1 min: outside
        (at(0, 31), "20", "1"),  # begins at end - w: inside
        (start, "40", "1"),
    ]
    rows = table(STAGE, run(STAGE, ticks_of(trades), until_us=start + MINUTE_US))
    assert rows[-1][f"rolling_vwap_{column}"] == 30
    trades[0] = (at(0, 30, 59.999999), "10", "1")
    rows = table(STAGE, run(STAGE, ticks_of(trades), cuts=[1, 2], until_us=start + MINUTE_US))
    assert rows[-1][f"rolling_vwap_{column}"] == 30


def test_after_a_long_silence_a_window_holds_the_new_minute_only() -> None:
    trades = [(at(0), "10", "1"), (at(0, day=3), "20", "1")]
    row = table(STAGE, run(STAGE, ticks_of(trades), until_us=at(1, day=3)))[-1]
    assert row["rolling_vwap_1h"] == row["rolling_vwap_24h"] == 20


def test_a_minute_closes_when_the_watermark_reaches_its_end() -> None:
    ticks = ticks_of([(at(12), "10", "1")])
    assert run(STAGE, ticks, until_us=at(12, 1) - 1) == []
    assert len(run(STAGE, ticks, until_us=at(12, 1))) == 1


def test_variance_keeps_its_digits() -> None:
    """A cent around a large price; doubles would be off by thousands in v*p^2."""
    trades = [(at(12, 0, 1), "99999999.99", "123456"), (at(12, 0, 2), "100000000.01", "-123456")]
    row = table(STAGE, run(STAGE, ticks_of(trades), until_us=at(13)))[0]
    assert row["session_sd"] == 0.01
    assert row["deviation_sd"] == 1


def test_rounded_base_sizes_are_not_variance() -> None:
    """An inverse contract: 100 USD at 60 000 is 0.001666666667; one price has no deviation."""
    trades = [(at(12, 0, 1), "60000", "0.001666666667"), (at(12, 0, 2), "60000", "-0.003333333333")]
    ticks = ticks_of(trades, notionals=["100", "200"])
    row = table(STAGE, run(STAGE, ticks, until_us=at(13)))[0]
    assert row["session_vwap"] == float(Fraction(300) / Fraction("0.005"))
    assert row["session_sd"] == 0
    assert row["deviation_sd"] is None


def test_prices_beyond_128_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [(at(12, 0, i), f"{1000 + i}.{i:012d}", "1234.567890123456") for i in range(1, 9)]
    last = [*many, (at(12, 0, 9), "123456789.123456789012", "9999.123456789012")]
    row = table(STAGE, run(STAGE, ticks_of(last), until_us=at(13)))[0]
    volume = sum(Fraction(size) for _, _, size in last)
    mean = sum(Fraction(price) * Fraction(size) for _, price, size in last) / volume
    variance = sum(Fraction(size) * (Fraction(p) - mean) ** 2 for _, p, size in last) / volume
    assert row["session_vwap"] == float(mean)
    assert row["session_sd"] == math.sqrt(float(variance))
    narrow = ticks_of(walk(1, 60, days=0.1))
    usual = run(STAGE, narrow, until_us=at(0, day=9))
    monkeypatch.setattr(vwap, "_INT128_SAFE", 0)
    assert run(STAGE, narrow, until_us=at(0, day=9)) == usual


@pytest.mark.parametrize("lateness", [0, 3 * MINUTE_US])
@pytest.mark.parametrize("seed", range(4))
def test_any_cutting_gives_the_same_rows(seed: int, lateness: int) -> None:
    trades = walk(seed, 150, lateness_us=lateness, days=0.1 if lateness else 2.5)
    assert assert_any_cutting(STAGE, trades, seed, lateness_us=lateness)


def naive(trades: list[Trade], start: int, since: int) -> tuple[Fraction, Fraction]:
    """Mean and variance of the trades from `since` to the end of the minute, one by one."""
    end = start + MINUTE_US
    own = [(Fraction(p), abs(Fraction(v))) for ts, p, v in trades if since <= ts < end]
    volume = sum(v for _, v in own)
    mean = Fraction(sum(p * v for p, v in own)) / volume
    return mean, Fraction(sum(v * (p - mean) ** 2 for p, v in own)) / volume


@pytest.mark.parametrize("seed", range(2))
def test_against_trade_by_trade(seed: int) -> None:
    trades = walk(seed, 200, lateness_us=2 * MINUTE_US)
    rows = table(STAGE, run(STAGE, ticks_of(trades), cuts=[50, 51, 120], until_us=at(0, day=9)))
    assert len(rows) > 100
    for row in rows:
        start = row["at"]
        mean, variance = naive(trades, start, start // DAY_US * DAY_US)
        assert row["session_vwap"] == float(mean)
        assert row["session_sd"] == math.sqrt(float(variance))
        for hours in (1, 4, 24):
            since = start + MINUTE_US - hours * HOUR_US
            assert row[f"rolling_vwap_{hours}h"] == float(naive(trades, start, since)[0])


def test_a_scale_of_prices_scales_the_row() -> None:
    trades = walk(5, 80, days=0.1)
    tenfold = [(ts, p.replace(".", "") + "0", size) for ts, p, size in trades]
    rows = table(STAGE, run(STAGE, ticks_of(trades), until_us=at(0, day=9)))
    scaled = table(STAGE, run(STAGE, ticks_of(tenfold), until_us=at(0, day=9)))
    for row, large in zip(rows, scaled, strict=True):
        assert large["session_sd"] == pytest.approx(1000 * row["session_sd"], rel=1e-12)
        if row["deviation_sd"] is not None:
            assert large["deviation_sd"] == pytest.approx(row["deviation_sd"], rel=1e-12)
        assert large["deviation_pct"] == pytest.approx(row["deviation_pct"], rel=1e-12)


def test_the_carry_stays_small() -> None:
    """Two days with a trade each minute: a day of marks stays."""
    import random

    import msgspec

    from pipeline.instrument import BASE, Instrument
    from pipeline.stage import Context

    trades = [(at(0) + i * MINUTE_US, "61837.63", "1.2345") for i in range(2880)]
    ticks = ticks_of(trades)
    context = Context(Instrument("okx", "perps", "X"), BASE, vwap.Params())
    carry, before = vwap.Carry(), 0
    for cut in [*sorted(random_cuts(random.Random(1), 100)), ticks.height]:
        piece = ticks.slice(before, cut - before)
        context.watermark_us = at(0) + cut * MINUTE_US
        carry, before = STAGE.fold(piece, carry, context).carry, cut
    assert len(carry.marks) == 1440
    assert len(msgspec.json.format(msgspec.json.encode(carry), indent=1)) < 200_000
