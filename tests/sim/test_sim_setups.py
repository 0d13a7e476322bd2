"""The planted setups: the truth's figures are those of the data, and other draws stay as they are.

That the rules that ship find them is told in tests/blackbox/test_setups.py.
"""

from __future__ import annotations

import datetime as dt
import statistics
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.sim import write_market

from .replay import DAY, Market, Trade, path_of, read_market, rows_of, to_ms

if TYPE_CHECKING:
    from pathlib import Path

MINUTE_MS = 60_000
BAR_MS, HOUR_MS = 5 * MINUTE_MS, 60 * MINUTE_MS
START = int(dt.datetime.combine(DAY, dt.time(), dt.UTC).timestamp() * 1000)
FEEDS = ("open_interest", "liquidations", "ratio", "whale_alerts")
SHORT = "maximum_conviction_short"

Row = dict[str, Any]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Market:
    """Three hours of a market with setups."""
    vault: Path = tmp_path_factory.mktemp("planted")
    write_market(vault, hours=3, seed=5, setups=True)
    return read_market(vault, 5)


def tip_of(trades: list[Trade], way: int) -> float:
    """The highest price (way 1) or the lowest."""
    return float((max if way > 0 else min)(trade.price for trade in trades))


def span(market: Market, start: int, end: int) -> list[Trade]:
    return [trade for trade in market.trades if start <= trade.ts < end]


def test_one_of_either_side_is_planted(planted: Market) -> None:
    rows = planted.events("setup")
    assert {row["rule"] for row in rows} == {SHORT, SHORT.replace("short", "long")}
    assert [(to_ms(row["start"]) - START) // HOUR_MS for row in rows] == [1, 2]


def test_the_price_leaves_a_level_and_comes_back_to_it_untouched(planted: Market) -> None:
    for row in planted.events("setup"):
        way = 1 if row["rule"] == SHORT else -1
        start, wick_at = to_ms(row["start"]), to_ms(row["wick_at"])
        bar = span(planted, wick_at, wick_at + BAR_MS)
        assert tip_of(bar, way) == row["wick_price"]
        ends = [float(bar[0].price) * way, float(bar[-1].price) * way]
        length = tip_of(bar, 1) - tip_of(bar, -1)
        assert row["wick_price"] * way - max(ends) > 0.35 * length
        later = span(planted, wick_at + BAR_MS, start + MINUTE_MS)
        assert tip_of(later, way) * way < row["wick_price"] * way
        own = span(planted, start, start + MINUTE_MS)
        assert float(own[-1].price) == row["price"]
        assert abs(row["price"] - row["wick_price"]) <= row["price"] / 10_000


def test_much_is_traded_and_nothing_moves(planted: Market) -> None:
    for row in planted.events("setup"):
        start = to_ms(row["start"])
        own = span(planted, start, start + MINUTE_MS)
        total = float(sum(trade.notional for trade in own))
        assert total == pytest.approx(row["notional"])
        by_minute: dict[int, float] = {}
        for trade in span(planted, start - 100 * MINUTE_MS, start):
            minute = trade.ts // MINUTE_MS
            by_minute[minute] = by_minute.get(minute, 0.0) + float(trade.notional)
        if len(by_minute) == 100:
            assert total / statistics.median(by_minute.values()) == pytest.approx(row["ratio"])
        assert row["ratio"] > 2
        assert abs(float(own[-1].price / own[0].price) - 1) < 0.0005
        signed = float(sum(trade.signed for trade in own))
        assert signed == pytest.approx(row["delta_notional"])
        assert (signed > 0) == (row["rule"] == SHORT) == (row["side"] == "buy")


def test_a_young_wall_stands_at_the_end_of_the_minute(planted: Market) -> None:
    """And at no other minute's end."""
    levels: dict[str, dict[float, float]] = {"asks": {}, "bids": {}}
    setups = {to_ms(row["end"]): row for row in planted.events("setup")}
    minute, shares = 0, {}
    for record in rows_of(path_of(planted.vault, "books")):
        (data,) = record["data"]
        now = int(data["ts"]) // MINUTE_MS
        if now > minute and minute:
            shares[now * MINUTE_MS] = share_within(levels, 25)
            walls = [
                (side, price, price * size / 100)
                for side, known in levels.items()
                for price, size in known.items()
                if price * size / 100 > 6e6
            ]
            if (row := setups.get(now * MINUTE_MS)) is None:
                assert walls == []
            else:
                side = "asks" if row["rule"] == SHORT else "bids"
                assert [each[:2] for each in walls] == [(side, row["wall_price"])]
                assert walls[0][2] == pytest.approx(row["wall_notional"])
                assert 0 < now * MINUTE_MS - to_ms(row["wall_start"]) < 60_000
                share = shares[now * MINUTE_MS]
                assert (share if side == "asks" else 1 - share) > 0.72
        minute = now
        for name, known in levels.items():
            for price, size, *_ in data[name]:
                known[float(price)] = float(size)
                if size == "0":
                    del known[float(price)]
    assert set(setups) <= set(shares)


def share_within(levels: dict[str, dict[float, float]], bps: float) -> float:
    """The asks' share of the notional near the mid."""
    mid = (max(levels["bids"]) + min(levels["asks"])) / 2
    sums = {
        side: sum(p * s for p, s in known.items() if abs(p / mid - 1) <= bps / 10_000)
        for side, known in levels.items()
    }
    return sums["asks"] / (sums["asks"] + sums["bids"])


def test_the_feeds_beside_it_tell_of_it(planted: Market) -> None:
    read = {kind: rows_of(path_of(planted.vault, kind)) for kind in FEEDS}
    interest = [(int(r["data"][0]["ts"]), float(r["data"][0]["oi"])) for r in read["open_interest"]]
    bars = {
        kind: {bar["t"] * 1000: bar for row in read[kind] for bar in row["history"]}
        for kind in ("liquidations", "ratio")
    }
    for row in planted.events("setup"):
        start, end = to_ms(row["start"]), to_ms(row["end"])
        before, after = ([v for ts, v in interest if ts < edge][-1] for edge in (start, end))
        change = 100 * (after / before - 1)
        assert change == pytest.approx(row["open_interest_change_pct"], abs=1e-6)
        assert change > 0.2
        forced, crowd = bars["liquidations"][start], bars["ratio"][start]
        assert (forced["l"], forced["s"]) == (row["long_liquidations"], row["short_liquidations"])
        assert crowd["l"] == row["long_pct"]
        hour = start // HOUR_MS * 3600 - 3600
        moved = [each for each in read["whale_alerts"] if hour <= each["timestamp"] < hour + 3600]
        net = sum(
            each["amount_usd"] * sign
            for each in moved
            for party, sign in (("to", 1), ("from", -1))
            if each[party]["owner_type"] == "exchange"
        )
        assert net == row["exchange_net_usd"]
        is_short = row["rule"] == SHORT
        assert (crowd["r"] > 2) == is_short == (forced["s"] > forced["l"]) == (net > 0)


def test_setups_are_only_there_if_asked_for(planted: Market, tmp_path: Path) -> None:
    write_market(tmp_path / "plain", hours=0.2, seed=5)
    assert {path.parts[-3] for path in (tmp_path / "plain").rglob("*.jsonl")} == {
        f"{kind}_perps" for kind in ("trades", "books", "quotes", "truth")
    }
    write_market(tmp_path / "again", hours=0.2, seed=5, setups=True)
    for kind in (*FEEDS, "trades", "books", "quotes"):
        begun = path_of(tmp_path / "again", kind).read_bytes()
        assert begun
        assert path_of(planted.vault, kind).read_bytes().startswith(begun)
    with pytest.raises(ValueError, match="order books"):
        write_market(tmp_path / "blind", setups=True, books=False)


def test_other_markets_carry_them(tmp_path: Path) -> None:
    name = "ETH-USDT-SWAP"
    write_market(tmp_path, inst_id=name, hours=3, seed=2, speed=3.0, setups=True, quotes=False)
    truth = rows_of(path_of(tmp_path, "truth", DAY, name))
    assert [row["event"] for row in truth].count("setup") == 2


def test_the_second_day_has_its_own(tmp_path: Path) -> None:
    write_market(
        tmp_path, days=2, hours=3, seed=3, speed=0.5, book_ms=60_000, setups=True, quotes=False
    )
    for day in (DAY, DAY + dt.timedelta(days=1)):
        names = [row["event"] for row in rows_of(path_of(tmp_path, "truth", day))]
        assert names.count("setup") == 2
    told = [
        int(row["id"])
        for day in (DAY, DAY + dt.timedelta(days=1))
        for row in rows_of(path_of(tmp_path, "whale_alerts", day))
    ]
    assert told == sorted(set(told))
