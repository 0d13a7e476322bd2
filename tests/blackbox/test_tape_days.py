"""Hand-made days of a tape: who took each trade, what a day's rows say, when a day closes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from pipeline import stages
from pipeline.calc.day_measures import slope
from pipeline.calc.ols import correlation
from pipeline.engine.runner import run_stages
from pipeline.engine.vault import Vault
from pipeline.errors import DataError, FlowvaultError
from tests.laws.tape import TAPE
from tests.laws.world import World, unsynced

from .tape_days import (
    MONDAY,
    Days,
    Quote,
    Trade,
    daily,
    put,
    quote_lines,
    rows,
    signs,
    trade_lines,
    world_of,
)


@pytest.fixture(autouse=True)
def _unsynced() -> Iterator[None]:
    with unsynced():
        yield


def run(root: Path, days: Days, settings: str = "", *, packed: bool = True) -> World:
    world = world_of(root, days, settings, packed=packed)
    world.run()
    return world


def one_day(
    root: Path, trades: list[Trade], quotes: list[Quote] | None, settings: str = ""
) -> World:
    return run(root, {MONDAY: (trades, quotes)}, settings)


LEE_READY: list[Trade] = [
    ("10:00:01", 10.10, 100),
    ("10:00:02", 10.00, 200),
    ("10:00:03", 10.05, 300),
    ("10:00:04", 10.05, 50),
    ("10:00:06", 10.04, 400),
]
QUOTES: list[Quote] = [("10:00:00", 10.00, 10.10), ("10:00:05", 10.05, 10.05)]


def test_lee_ready_by_hand(tmp_path: Path) -> None:
    """At the mid and under a lock the tick tells; an older quote is not looked for."""
    (row,) = daily(one_day(tmp_path / "a", LEE_READY, QUOTES))
    assert (row["total_buy_volume"], row["total_sell_volume"]) == (450, 600)
    assert row["order_imbalance"] == pytest.approx(-0.142857, abs=5e-7)
    assert (row["buy_trades"], row["sell_trades"], row["neutral_trades"]) == (3, 2, 0)
    assert row["trade_direction"] == "sell"
    assert row["avg_trade_size"] == 210
    assert (row["classification_method"], row["quality_flag"]) == ("TICK_TEST", "MEDIUM")
    world = one_day(tmp_path / "b", [*LEE_READY, ("10:00:07", 10.045, 70)], QUOTES)
    (row,) = daily(world)
    assert (row["total_buy_volume"], row["total_sell_volume"]) == (520, 600)
    quote, tick = "quote", "tick"
    wanted = [(1, quote), (-1, quote), (1, tick), (1, tick), (-1, tick), (1, tick)]
    assert signs(world) == wanted


def test_lambda_by_hand() -> None:
    found = slope([-2, -1, 0, 1, 2], [-21, -9, 1, 11, 18], 3)
    assert found is not None
    assert found.r2 is not None
    assert found.se is not None
    assert found.slope == pytest.approx(9.8)
    assert found.r2 == pytest.approx(0.992149, abs=5e-7)
    assert found.se == pytest.approx(0.503322, abs=5e-7)
    assert slope([-2, -1, 0, 1, 2], [-21, -9, 1, 11, 18], 6) is None
    assert slope([1.0] * 30, [float(n) for n in range(30)], 30) is None


def test_lambda_is_clipped_from_a_hundred_bars_on() -> None:
    """One wild bar of 99 moves it, one of 100 hardly."""
    flow, change = [float(n % 7) for n in range(98)], [2.0 * (n % 7) for n in range(98)]
    few, many = (
        slope([*flow, 900], [*change, -900], 30),
        slope([*flow, 3, 900], [*change, 6, -900], 30),
    )
    assert few is not None
    assert many is not None
    assert few.slope == pytest.approx(-1, abs=0.1)
    assert many.slope > 1


def test_correlation() -> None:
    assert correlation([1, 2, 3], [2, 4, 6]) == 1
    assert correlation([1, 2, 3], [3, 2, 1]) == -1
    assert correlation([1, 1, 1], [1, 2, 3]) is None
    assert correlation([], []) is None


# -- which trades count ----------------------------------------------------


def test_the_session_and_the_quote_in_force(tmp_path: Path) -> None:
    """09:30:00 is in it and 16:00:00 is not; a quote must be strictly before the trade."""
    trades: list[Trade] = [
        ("09:29:59.999", 9.00, 1),
        ("09:30:00", 10.08, 10),  # the quote of 08:00 is in force
        ("11:00:00", 10.08, 20),  # not the one of the same moment
        ("11:00:00.000001", 10.08, 40),
        ("15:59:59.999", 10.08, 80),
        ("16:00:00", 10.08, 1),
    ]
    quotes: list[Quote] = [
        ("08:00:00", 10.00, 10.10),
        ("11:00:00", 10.10, 10.20),
    ]
    world = one_day(tmp_path, trades, quotes)
    assert [row["size"] for row in rows(world, "classified")] == [10, 20, 40, 80]
    assert signs(world) == [(1, "quote"), (1, "quote"), (-1, "quote"), (-1, "quote")]
    mids = [row["mid"] for row in rows(world, "classified")]
    assert mids == pytest.approx([10.05, 10.05, 10.15, 10.15])


def test_a_quote_may_lag(tmp_path: Path) -> None:
    """With a lag the quote in force is strictly before the trade less the lag."""
    trades: list[Trade] = [("11:00:05", 10.12, 1), ("11:00:05.000001", 10.12, 2)]
    quotes: list[Quote] = [("10:00:00", 10.00, 10.10), ("11:00:00", 10.10, 10.20)]
    assert signs(one_day(tmp_path / "a", trades, quotes)) == [(-1, "quote")] * 2
    world = one_day(tmp_path / "b", trades, quotes, "[classify]\nlag_ms = 5000\n")
    assert signs(world) == [(1, "quote"), (-1, "quote")]


def test_a_quote_of_the_day_before_is_not_in_force(tmp_path: Path) -> None:
    days: Days = {
        MONDAY: ([("15:00:00", 10.08, 1)], [("10:00:00", 10.00, 10.10)]),
        "2013-10-08": ([("09:30:00", 10.08, 1), ("09:31:00", 10.09, 1)], []),
    }
    world = run(tmp_path, days)
    assert signs(world) == [(1, "quote"), (0, None), (1, "tick")]
    second = daily(world)[1]
    assert second["quoted_spread_bps"] is None
    assert second["data_completeness"] == 0


def test_auctions_make_ticks_and_have_no_side(tmp_path: Path) -> None:
    trades: list[Trade] = [
        ("09:30:00", 10.00, 100),
        ("09:30:01", 10.05, 5000, "40"),
        ("09:30:02", 10.05, 100),
        ("09:30:03", 10.04, 100, "200040"),
        ("09:30:04", 10.04, 100),
    ]
    world = one_day(tmp_path, trades, None)
    assert signs(world) == [(0, None), (0, "auction"), (1, "tick"), (0, "auction"), (-1, "tick")]
    (row,) = daily(world)
    assert row["total_neutral_volume"] == 5200
    assert row["total_volume"] == 5400


def test_excluded_trades_make_no_ticks(tmp_path: Path) -> None:
    trades: list[Trade] = [
        ("09:30:00", 10.00, 100),
        ("09:30:01", 9.00, 100, "2000"),
        ("09:30:02", 9.50, 100, "", 1),
        ("09:30:03", 10.01, 100),
    ]
    assert signs(one_day(tmp_path / "flags", trades, None)) == [(0, None), (1, "tick")]
    letters: list[Trade] = [
        *(("09:30:00", 10.00, 100, "@"), ("09:30:01", 9.00, 100, "@  T")),
        *(("09:30:02", 10.02, 100, "O X"), ("09:30:03", 10.01, 100, "@F I")),
    ]
    world = one_day(tmp_path / "letters", letters, None, '[classify]\ncond_format = "letters"\n')
    assert signs(world) == [(0, None), (0, "auction"), (-1, "tick")]


def test_conditions_in_another_format_stop_the_day_and_say_what_to_do(tmp_path: Path) -> None:
    """One unreadable condition leaves its trade out; if there are many, it is an error."""
    trades: list[Trade] = [(f"10:{n // 60:02d}:{n % 60:02d}", 10.0, 1, "1") for n in range(99)]
    world = one_day(tmp_path / "one", [*trades, ("11:00:00", 10, 1, "@")], None)
    assert daily(world)[0]["total_volume"] == 99
    many = world_of(
        tmp_path / "many", {MONDAY: ([*trades[:98], *[("11:00:00", 10, 1, "@")] * 2], None)}
    )
    with pytest.raises(DataError, match="hexadecimal") as caught:
        many.run()
    assert 'cond_format = "letters"' in str(caught.value)
    assert caught.value.status == 65
    assert rows(many, "classified") == []


# -- sensible rows ---------------------------------------------------------


def test_a_day_with_one_trade(tmp_path: Path) -> None:
    (row,) = daily(one_day(tmp_path, [("12:00:00", 10.10, 100)], [("11:00:00", 10.00, 10.10)]))
    assert row["total_buy_volume"] == row["total_volume"] == 100
    assert row["order_imbalance"] == 1
    assert row["classification_method"] == "LEE_READY"
    assert row["vpin"] is None
    assert row["kyles_lambda"] == 0  # one bar with a flow, and a mid that never moved
    assert row["kyles_lambda_r2"] is None
    assert row["imbalance_persistence"] is None
    assert row["effective_spread_bps"] == pytest.approx(2e4 * 0.05 / 10.05)
    assert row["realized_spread_bps"] == pytest.approx(2e4 * 0.05 / 10.05)
    assert row["adverse_selection_component"] == 0
    assert row["data_completeness"] == pytest.approx(1 / 78)
    assert row["available_date"] == row["trade_date"] == date(2013, 10, 7)


def test_days_without_counted_trades_have_no_row(tmp_path: Path) -> None:
    days: Days = {
        MONDAY: ([("10:00:00", 10.0, 1)], [("09:45:00", 9.9, 10.1)]),
        "2013-10-08": ([("08:00:00", 10.0, 1), ("10:00:00", 10.0, 1, "2000")], []),
        "2013-10-09": ([("10:00:00", 10.0, 1)], [("09:45:00", 9.9, 10.1)]),
    }
    assert [row["trade_date"].day for row in daily(run(tmp_path, days))] == [7, 9]


def test_quotes_that_are_never_valid(tmp_path: Path) -> None:
    """Locked, crossed and one-sided all day."""
    trades: list[Trade] = [("10:00:00", 10.0, 100), ("10:10:00", 10.1, 100), ("10:20:00", 10.0, 50)]
    quotes: list[Quote] = [
        *(("09:40:00", 10.0, 10.0), ("10:05:00", 10.2, 10.1), ("10:15:00", None, 10.1)),
        ("10:16:00", 0, 0),
    ]
    (row,) = daily(one_day(tmp_path, trades, quotes))
    assert (row["total_buy_volume"], row["total_sell_volume"]) == (100, 50)
    assert row["total_neutral_volume"] == 100
    assert row["classification_method"] == "TICK_TEST"
    for name in ("quoted_spread_bps", "effective_spread_bps", "realized_spread_bps"):
        assert row[name] is None
    assert row["adverse_selection_component"] is None
    assert row["kyles_lambda"] is None
    assert row["data_completeness"] == 0


def test_spreads_by_hand(tmp_path: Path) -> None:
    """Quoted by time, the others by notional; the last five minutes look no further than 16:00."""
    trades: list[Trade] = [("10:00:30", 10.10, 1000), ("15:58:00", 20.0, 500)]
    quotes: list[Quote] = [
        ("09:30:00", 10.00, 10.10),
        ("10:02:00", 10.05, 10.15),
        ("10:03:00", 10.10, 10.10),  # locked: the last valid one is that before
        ("15:56:00", 20.00, 20.20),
        ("15:59:59.5", 20.30, 20.50),
        ("16:00:00", 30.00, 30.20),
    ]
    (row,) = daily(one_day(tmp_path, trades, quotes))
    first, second = 10.10 * 1000, 20.0 * 500
    effective = (first * 2 * 0.05 / 10.05 + second * 2 * 0.1 / 20.1) / (first + second) * 1e4
    realized = (first * 0 / 10.05 + second * 2 * 0.4 / 20.1) / (first + second) * 1e4
    assert row["effective_spread_bps"] == pytest.approx(effective)
    assert row["realized_spread_bps"] == pytest.approx(realized)
    assert row["price_impact_bps"] == pytest.approx(effective - realized)
    standing = [(1920, 0.1 / 10.05), (60, 0.1 / 10.1), (239.5, 0.2 / 20.1), (0.5, 0.2 / 20.4)]
    quoted = 1e4 * sum(s * share for s, share in standing) / sum(s for s, _ in standing)
    assert row["quoted_spread_bps"] == pytest.approx(quoted)


def test_blocks(tmp_path: Path) -> None:
    """By shares or by dollars, both edges included."""
    trades: list[Trade] = [
        *(("10:00:00", 1.0, 10_000), ("10:00:01", 1.0, 9_999)),
        *(("10:00:02", 2000.0, 100), ("10:00:03", 1999.99, 100)),
    ]
    (row,) = daily(one_day(tmp_path, trades, None))
    assert row["block_trade_volume"] == 10_100
    assert row["block_trade_ratio"] == pytest.approx(10_100 / 20_199)


def test_fractions_of_shares_add_up(tmp_path: Path) -> None:
    trades: list[Trade] = [(f"10:00:{n:02d}", 10.0, 0.1) for n in range(30)]
    (row,) = daily(one_day(tmp_path, trades, None))
    assert row["total_volume"] == row["total_neutral_volume"] == 3


def test_vpin_needs_five_days(tmp_path: Path) -> None:
    """Null on four, a mean over fifty buckets on the fifth."""
    days: dict[str, Any] = {
        f"2013-10-{day:02d}": (
            [("10:00:00", 10.0, 100), ("11:00:00", 10.1, 60), ("12:00:00", 10.0, 40)],
            None,
        )
        for day in (7, 8, 9, 10, 11, 14, 15, 16)
    }
    found = daily(run(tmp_path, days))
    assert [row["vpin"] is None for row in found] == [True] * 4 + [False] * 4
    assert [row["vpin_quality_flag"] for row in found] == [None] * 4 + ["LOW"] * 3 + ["MEDIUM"]
    assert all(row["vpin_window_bars"] == 50 for row in found)
    # buckets of 4 shares: 10 sold, 15 bought and 25 of the first trade, which has no side
    assert found[4]["vpin"] == pytest.approx(25 / 50)
    assert found[4]["informed_trading_probability"] == found[4]["vpin"]


def test_an_early_close_is_a_long_silence(tmp_path: Path) -> None:
    """On 2013-11-29 the exchanges closed at 13:00: the day ends at 16:00 all the same."""
    day = "2013-11-29"
    trades: list[Trade] = [
        (f"{9 + (30 + 5 * n) // 60:02d}:{(30 + 5 * n) % 60:02d}:01", 10.0 + n % 2 / 10, 100)
        for n in range(42)
    ]
    quotes: list[Quote] = [("09:30:00", 10.0, 10.1), ("12:59:59", 10.0, 10.2)]
    (row,) = daily(run(tmp_path, {day: (trades, quotes)}))
    assert row["total_volume"] == 4200
    assert row["data_completeness"] == pytest.approx(42 / 78)
    first, last = 1e4 * 0.1 / 10.05, 1e4 * 0.2 / 10.1
    shares = (12_599 * first + 10_801 * last) / 23_400
    assert row["quoted_spread_bps"] == pytest.approx(shares)
    assert row["kyles_lambda"] is not None


@pytest.mark.parametrize(
    "days",
    [
        ("2013-03-07", "2013-03-08", "2013-03-11", "2013-03-12"),
        ("2013-10-31", "2013-11-01", "2013-11-04", "2013-11-05"),
    ],
)
def test_weeks_in_which_the_clocks_change(days: tuple[str, ...], tmp_path: Path) -> None:
    """The session follows New York: all days give the same numbers."""
    trades: list[Trade] = [("09:30:00", 10.1, 100), ("15:59:59", 10.0, 300), ("16:00:01", 1.0, 9)]
    quotes: list[Quote] = [("09:29:59", 10.0, 10.1), ("12:00:00", 10.0, 10.2)]
    found = daily(run(tmp_path, dict.fromkeys(days, (trades, quotes))))
    assert [row["trade_date"].isoformat() for row in found] == list(days)
    for row in found:
        assert (row["total_buy_volume"], row["total_sell_volume"]) == (100, 300)
        assert row["data_completeness"] == pytest.approx(2 / 78)
        assert row["quoted_spread_bps"] == found[0]["quoted_spread_bps"]


# -- when a day closes -----------------------------------------------------

PLAIN: Days = {
    MONDAY: (
        [
            ("10:00:00", 10.1, 100),
            ("15:59:00", 10.0, 50),
            ("16:02:00", 10.0, 9),
            ("16:05:00", 9, 1),
        ],
        [("09:30:00", 10.0, 10.1), ("15:58:00", 10.0, 10.2), ("15:59:59.9", 10.0, 10.1)],
    )
}


def test_a_plain_file_is_waited_for_until_a_later_day_is_there(tmp_path: Path) -> None:
    """Quotes that end just before the close do not hide that more may come."""
    world = run(tmp_path, PLAIN, packed=False)
    assert daily(world) == []
    put(
        world,
        "quotes/2013-10-08",
        quote_lines("2013-10-08", [("09:30:00", 10, 10.1)]),
        packed=False,
    )
    world.run()
    (row,) = daily(world)
    assert (row["total_buy_volume"], row["total_sell_volume"]) == (100, 50)


def test_a_quote_at_the_close_closes_the_day(tmp_path: Path) -> None:
    trades, quotes = PLAIN[MONDAY]
    assert quotes is not None
    world = run(tmp_path, {MONDAY: (trades, [*quotes, ("16:00:00", 10.0, 10.1)])}, packed=False)
    assert len(daily(world)) == 1


def test_compressing_a_file_closes_its_day(tmp_path: Path) -> None:
    world = run(tmp_path, PLAIN, packed=False)
    assert daily(world) == []
    for kind, lines in (
        ("trades", trade_lines(MONDAY, PLAIN[MONDAY][0])),
        ("quotes", quote_lines(MONDAY, PLAIN[MONDAY][1] or [])),
    ):
        world.file(f"{kind}/{MONDAY}").unlink()
        put(world, f"{kind}/{MONDAY}", lines, packed=True)
    world.run()
    batch = run(tmp_path / "batch", PLAIN)
    assert daily(world) == daily(batch) != []


def test_giving_up_quotes_costs_the_last_minutes(tmp_path: Path) -> None:
    """The day closes without the minute, or bar, that is not complete; the state says so."""
    world = run(tmp_path, PLAIN, packed=False)
    for done in run_stages(Vault.open(world.root), world.chain, TAPE, give_up_us=60_000_000):
        assert not isinstance(done, FlowvaultError)
    (row,) = daily(world)
    assert signs(world) == [(1, "quote"), (-1, "tick")]
    assert row["quoted_spread_bps"] == pytest.approx(1e4 * 0.1 / 10.05)  # without 15:55 to 16:00
    assert world.state(stages.load("classify")).given_up["bbo"]


def test_a_trade_far_from_the_last_one_waits_no_longer_than_its_day(tmp_path: Path) -> None:
    """A stock that hardly trades: a record waits for the next one, the last for its file's end."""
    trades: list[Trade] = [("10:00:00", 10.0, 1), ("12:00:00", 10.1, 2), ("15:30:00", 10.0, 4)]
    world = run(tmp_path / "plain", {MONDAY: (trades, None)}, packed=False)
    assert [row["size"] for row in rows(world, "tape")] == [1, 2]
    world = run(tmp_path / "packed", {MONDAY: (trades, None)})
    assert [row["size"] for row in rows(world, "tape")] == [1, 2, 4]
    (row,) = daily(world)
    assert (row["total_buy_volume"], row["total_sell_volume"]) == (2, 4)
    assert math.isclose(row["order_imbalance"], -1 / 3)


def test_late_trades_are_set_aside_and_a_rebuild_puts_them_in_place(tmp_path: Path) -> None:
    """A trade of a minute that has closed; copies of it stay copies."""
    trades: list[Trade] = [
        *(("10:00:00", 10.0, 1), ("10:01:30", 10.1, 2), ("10:02:10", 10.3, 8)),
        *(("10:01:40", 10.2, 4), ("10:03:00", 10.0, 16)),
    ]
    world = world_of(tmp_path, {MONDAY: (trades, None)})
    path = next(world.raw.glob("*.gz"))
    path.unlink()
    lines = trade_lines(MONDAY, trades).splitlines(keepends=True)
    put(world, f"trades/{MONDAY}", b"".join([*lines[:4], lines[3], *lines[4:]]), packed=True)
    counts = world.run()["tape"].counts
    assert (counts.late, counts.duplicate, counts.bad) == (2, 0, 0)
    assert [row["size"] for row in rows(world, "classified")] == [1, 2, 8, 16]
    world.rebuild()
    assert [row["size"] for row in rows(world, "tape")] == [1, 2, 4, 8, 16]
    assert [row["size"] for row in rows(world, "classified")] == [1, 2, 4, 8, 16]
    assert not world.tree("quarantine")
