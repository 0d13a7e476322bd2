"""Extremes: periods near the session's high and low, and who traded there."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.calc.tick_size import ENOUGH
from pipeline.stages.extremes import STAGE

from .row_tape import DAY, HOUR, MINUTE, SECOND, Trade, named, random_cuts, run, tape, walk

HALF = 30 * MINUTE


def rows(trades: list[Trade], *cuts: int, tick: str | None = "0.1") -> list[dict[str, Any]]:
    """The rows of these trades, closed by one two days later."""
    ended = [*trades, (trades[-1][0] + 2 * DAY, "1", "1", "buy")]
    found = run(STAGE, ended, cuts, tick=tick)["extremes_30m"]
    return [{"at": row[0], **named(STAGE, "extremes_30m", row)} for row in found]


def part(found: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in found]


def test_periods_within_one_tick() -> None:
    trades: list[Trade] = [
        (0, "100", "1", "buy"),
        (SECOND, "110.0", "1", "buy"),
        (HALF, "109.9", "1", "buy"),
        (HALF + SECOND, "100.1", "1", "buy"),
        (2 * HALF, "109.89", "1", "buy"),
        (2 * HALF + 1, "100.11", "1", "buy"),
        (5 * HALF, "110.2", "1", "buy"),
        (5 * HALF + 1, "99.95", "1", "buy"),
    ]
    found = rows(trades)
    assert [row["at"] for row in found] == [0, HALF, 2 * HALF, 5 * HALF]
    assert part(found, "session_high", "high_tpo", "poor_high") == [
        (110.0, 1, False),
        (110.0, 2, True),
        (110.0, 2, True),
        (110.2, 1, False),
    ]
    assert part(found, "session_low", "low_tpo", "poor_low") == [
        (100.0, 1, False),
        (100.0, 2, True),
        (100.0, 2, True),
        (99.95, 2, True),
    ]


def test_two_sides_at_the_extreme() -> None:
    trades: list[Trade] = [
        (0, "100", "1", "sell"),
        (1, "105", "1", "buy"),
        (HALF, "105", "1", "sell"),
        (2 * HALF, "106", "1", "sell"),
        (3 * HALF, "105", "1", "buy"),
        (4 * HALF, "106", "1", "buy"),
        (5 * HALF, "100", "1", "buy"),
    ]
    found = rows(trades)
    # a new high begins anew; the old one's sides do not return
    assert part(found, "unfinished_high") == [(v,) for v in (False, True, False, False, True, True)]
    assert part(found, "unfinished_low") == [(v,) for v in (False,) * 5 + (True,)]


def test_both_sides_in_one_period() -> None:
    trades: list[Trade] = [(0, "105", "1", "buy"), (1, "105.0", "1", "sell")]
    assert part(rows(trades), "unfinished_high", "unfinished_low") == [(True, True)]
    trades.append((2, "106", "1", "sell"))
    assert part(rows(trades), "unfinished_high", "unfinished_low") == [(False, True)]


def test_a_price_row_holds_all_prices_of_a_tick() -> None:
    """105.03 and 105.09 share the row 105.0 of tick 0.1; 104.99 does not."""
    trades: list[Trade] = [(0, "105.09", "1", "buy"), (1, "105.03", "1", "sell")]
    assert part(rows(trades), "session_high", "unfinished_high") == [(105.09, True)]
    assert part(rows(trades, 1), "session_high", "unfinished_high") == [(105.09, True)]
    assert part(rows(trades, tick="0.01"), "unfinished_high") == [(False,)]
    trades[1] = (1, "104.99", "1", "sell")
    assert part(rows(trades), "unfinished_high") == [(False,)]


def test_midnight_begins_a_session() -> None:
    trades: list[Trade] = [
        (0, "110", "1", "buy"),
        (23 * HOUR + HALF, "110", "1", "sell"),
        (DAY, "105", "1", "buy"),
        (DAY + HALF, "105", "1", "buy"),
    ]
    names = ("session_high", "high_tpo", "unfinished_high")
    assert part(rows(trades), *names) == [
        (110, 1, False),
        (110, 2, True),
        (105, 1, False),
        (105, 2, False),
    ]


@pytest.mark.parametrize(("last", "written"), [(HALF - 1, 0), (HALF, 1)])
def test_a_period_is_written_when_the_watermark_reaches_its_end(last: int, written: int) -> None:
    trades: list[Trade] = [(0, "100", "1", "buy"), (last, "100", "1", "buy")]
    assert len(run(STAGE, trades, tick="1")["extremes_30m"]) == written


def test_tick_from_the_first_thousand_trades() -> None:
    trades: list[Trade] = [(i * SECOND, "100.0", "1", "buy") for i in range(ENOUGH - 1)]
    high: list[Trade] = [(HALF, "100.3", "1", "buy"), (2 * HALF, "100.25", "1", "buy")]
    assert run(STAGE, [*trades, (0, "100", "1", "buy")])["extremes_30m"] == []
    for cuts in ((), (1,), (ENOUGH - 1,), (ENOUGH,), tuple(range(ENOUGH))):
        found = rows([*trades, *high], *cuts, tick=None)
        assert part(found, "session_high", "high_tpo") == [(100.0, 1), (100.3, 1), (100.3, 2)]


def test_numbers_longer_than_64_bits() -> None:
    trades: list[Trade] = [
        (0, "999999999999999.999999999999", "1", "buy"),
        (1, "999999999999999.999999999998", "1", "sell"),
        (HALF, "999999999999999.999999999998", "1", "buy"),
    ]
    found = rows(trades, 1, 2, tick="0.000000000001")
    assert part(found, "high_tpo", "unfinished_high", "unfinished_low") == [
        (1, False, False),
        (2, False, True),
    ]


@pytest.mark.parametrize("seed", range(9))
def test_any_cutting_gives_the_same_rows(seed: int) -> None:
    jitter, lateness = ((0, 0), (59 * SECOND, 59 * SECOND), (3 * MINUTE, 4 * MINUTE))[seed % 3]
    trades = tape(walk(seed, 1200, hours=40, jitter=jitter))
    tick = (None, "0.01", "0.25")[seed // 3 % 3]
    wanted = run(STAGE, trades, tick=tick, lateness=lateness)
    assert len(wanted["extremes_30m"]) > 60
    cuts = random_cuts(seed, 1 + 9 * (seed % 4), trades.height)
    assert run(STAGE, trades, cuts, tick=tick, lateness=lateness) == wanted


@pytest.mark.parametrize("seed", range(3))
def test_counts_stay_between_one_and_the_periods_of_the_session(seed: int) -> None:
    count, day = 0, -1
    for row in rows(walk(seed, 600, hours=60)):
        count, day = (count + 1, day) if row["at"] // DAY == day else (1, row["at"] // DAY)
        for side in ("high", "low"):
            assert 1 <= row[f"{side}_tpo"] <= count
            assert row[f"poor_{side}"] is (row[f"{side}_tpo"] >= 2)
        assert row["session_low"] <= row["session_high"]
