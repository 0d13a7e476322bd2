"""Wicks: what leaves a level, what touches one, what is listed, and how long it lasts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipeline.stages.wicks import STAGE, Params

from .row_tape import DAY, MINUTE, SECOND, Trade, named, random_cuts, run, tape, walk

BAR = 5 * MINUTE
FAR = 300 * DAY
WEEK = 7 * DAY


def bar(start: int, *prices: str) -> list[Trade]:
    """One trade a second at these prices, first to last."""
    return [(start + i * SECOND, price, "1", "buy") for i, price in enumerate(prices)]


def rows(*bars: list[Trade], cuts: tuple[int, ...] = (), **options: Any) -> list[dict[str, Any]]:
    """The rows of these bars, closed by a trade long after them."""
    trades = [trade for each in bars for trade in each]
    found = run(STAGE, [*trades, (FAR, "1", "1", "buy")], cuts, **options)["wicks_5m"]
    return [{"at": row[0], **named(STAGE, "wicks_5m", row)} for row in found]


@pytest.mark.parametrize(
    ("prices", "high", "low"),
    [
        (("100", "110", "100", "107"), 110, None),
        (("100", "110", "100", "107.01"), None, None),
        (("107", "110", "100", "100"), 110, None),
        (("110", "100", "110", "103"), None, 100),
        (("110", "100", "110", "102.99"), None, None),
        (("105", "110", "100", "105"), 110, 100),
        (("100", "110"), None, None),
        (("100", "100"), None, None),
        (("0.1", "0.2", "0.1", "0.17"), 0.2, None),
    ],
)
def test_three_tenths_of_the_range(
    prices: tuple[str, ...], high: float | None, low: float | None
) -> None:
    (row,) = rows(bar(0, *prices))
    assert (row["wick_high"], row["wick_low"]) == (high, low)
    assert (row["nearest_untouched_high"], row["nearest_untouched_low"]) == (high, low)
    assert row["touched"] == []


def test_no_wick_without_length_even_if_no_share_is_asked_for() -> None:
    (row,) = rows(bar(0, "100", "110"), wick_share="0")
    assert (row["wick_high"], row["wick_low"]) == (None, None)


@pytest.mark.parametrize(("high", "touches"), [("109.99", False), ("110", True), ("111", True)])
def test_a_later_high_at_the_level_touches_it(high: str, touches: bool) -> None:
    first, second = rows(bar(0, "100", "110", "100"), bar(BAR, "101", high))
    level = {"price": 110.0, "created_utc": "2024-03-06T00:00:00Z"}
    assert first["untouched_highs"] == [level]
    assert second["touched"] == ([{"side": "high", **level}] if touches else [])
    assert second["untouched_highs"] == ([] if touches else [level])
    assert second["nearest_untouched_high"] == (None if touches else 110)


@pytest.mark.parametrize(("low", "touches"), [("90.01", False), ("90", True), ("89", True)])
def test_a_later_low_at_the_level_touches_it(low: str, touches: bool) -> None:
    first, second = rows(bar(0, "100", "90", "100"), bar(BAR, "99", low))
    level = {"price": 90.0, "created_utc": "2024-03-06T00:00:00Z"}
    assert first["untouched_lows"] == [level]
    assert second["touched"] == ([{"side": "low", **level}] if touches else [])
    assert second["nearest_untouched_low"] == (None if touches else 90)


def test_a_bar_may_touch_and_leave_a_level_at_one_price() -> None:
    _, second = rows(bar(0, "100", "110", "100"), bar(BAR, "100", "110", "100"))
    assert [each["created_utc"] for each in second["touched"]] == ["2024-03-06T00:00:00Z"]
    assert second["untouched_highs"] == [{"price": 110.0, "created_utc": "2024-03-06T00:05:00Z"}]


def test_several_touched_at_once() -> None:
    """Highs before lows, lower price first."""
    bars = [
        bar(0, "100", "130", "70", "100"),
        bar(BAR, "100", "120", "80", "100"),
        bar(2 * BAR, "100", "110", "90", "100"),
        bar(3 * BAR, "100", "125", "75", "100"),
    ]
    found = rows(*bars)
    sides = [(each["side"], each["price"]) for each in found[3]["touched"]]
    assert sides == [("high", 110), ("high", 120), ("low", 80), ("low", 90)]
    assert [each["price"] for each in found[2]["untouched_highs"]] == [110, 120, 130]
    assert [each["price"] for each in found[2]["untouched_lows"]] == [90, 80, 70]
    assert [each["price"] for each in found[3]["untouched_highs"]] == [125, 130]
    assert [each["price"] for each in found[3]["untouched_lows"]] == [75, 70]


def test_ten_are_listed_but_all_are_remembered() -> None:
    bars = [bar(i * BAR, "100", str(150 - i), "100") for i in range(12)]
    found = rows(*bars, bar(12 * BAR, "100", "141"), bar(13 * BAR, "100", "200"))
    assert [each["price"] for each in found[11]["untouched_highs"]] == list(range(139, 149))
    assert [each["price"] for each in found[12]["untouched_highs"]] == list(range(142, 151))
    assert len(found[13]["touched"]) == 9


@pytest.mark.parametrize(
    ("age", "stands"), [(WEEK - BAR, True), (WEEK, False), (WEEK + BAR, False)]
)
def test_a_level_lasts_seven_days(age: int, stands: bool) -> None:
    """It is gone at the first bar that opens seven days after its own, and not touched there."""
    quiet = rows(bar(0, "100", "110", "90", "100"), bar(age, "100"))
    assert bool(quiet[1]["untouched_highs"]) is stands
    assert bool(quiet[1]["untouched_lows"]) is stands
    wild = rows(bar(0, "100", "110", "90", "100"), bar(age, "90", "110"))
    assert len(wild[1]["touched"]) == (2 if stands else 0)


@pytest.mark.parametrize(("last", "written"), [(BAR - 1, 0), (BAR, 1)])
def test_a_bar_is_written_when_the_watermark_reaches_its_end(last: int, written: int) -> None:
    trades: list[Trade] = [(0, "100", "1", "buy"), (last, "100", "1", "buy")]
    assert len(run(STAGE, trades)["wicks_5m"]) == written


def test_length_of_a_bar() -> None:
    trades = bar(0, "100", "110") + bar(14 * MINUTE, "100") + bar(15 * MINUTE, "110")
    assert [row["at"] for row in rows(trades)] == [0, 2 * BAR, 3 * BAR]
    quarter = rows(trades, tf_minutes=15)
    assert [(row["at"], row["wick_high"]) for row in quarter] == [(0, 110), (3 * BAR, None)]
    assert quarter[1]["touched"] == [
        {"side": "high", "price": 110.0, "created_utc": "2024-03-06T00:00:00Z"}
    ]


@pytest.mark.parametrize(
    "settings",
    [{"tf_minutes": 2}, {"wick_share": "nan"}, {"wick_share": "1.1"}, {"expiry_days": 0}],
)
def test_bad_parameters_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(settings, Params, strict=False)


@pytest.mark.parametrize("seed", range(9))
def test_any_cutting_gives_the_same_rows(seed: int) -> None:
    jitter, lateness = ((0, 0), (59 * SECOND, 59 * SECOND), (3 * MINUTE, 4 * MINUTE))[seed % 3]
    trades = tape(walk(seed, 500, hours=24, jitter=jitter))
    wanted = run(STAGE, trades, lateness=lateness)
    assert len(wanted["wicks_5m"]) > 50
    cuts = random_cuts(seed, 1 + 9 * (seed % 4), trades.height)
    assert run(STAGE, trades, cuts, lateness=lateness) == wanted


@pytest.mark.parametrize("seed", range(3))
def test_lists_against_a_search_of_all_bars(seed: int) -> None:
    """A level is untouched if, of all bars behind its own, none reached it."""
    trades = walk(seed, 600, hours=24)
    found = [(row[0], named(STAGE, "wicks_5m", row)) for row in run(STAGE, trades)["wicks_5m"]]
    prices = {
        start: [Decimal(p) for at, p, _, _ in trades if at // BAR * BAR == start]
        for start, _ in found
    }
    for i, (start, row) in enumerate(found):
        close = prices[start][-1]
        highs = [
            made["wick_high"]
            for j, (since, made) in enumerate(found[: i + 1])
            if made["wick_high"] is not None
            and all(max(prices[s]) < max(prices[since]) for s, _ in found[j + 1 : i + 1])
        ]
        nearest = sorted(highs, key=lambda price: abs(price - float(close)))[:10]
        assert [each["price"] for each in row["untouched_highs"]] == nearest
