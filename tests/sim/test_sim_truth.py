"""Every planted event the truth file names is there in the written data."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from pipeline.sim import write_market

from .replay import path_of, rows_of, to_ms

if TYPE_CHECKING:
    from pathlib import Path

    from .replay import Market, Row, Trade

MINUTE_MS = 60_000


@dataclass(slots=True)
class Bar:
    """Trades of a stretch of time, added up."""

    trades: list[Trade] = field(default_factory=list)

    @property
    def total(self) -> Decimal:
        """Notional, quote currency."""
        return sum((trade.notional for trade in self.trades), Decimal(0))

    @property
    def delta(self) -> Decimal:
        """Bought less sold notional, quote currency."""
        return sum((trade.signed for trade in self.trades), Decimal(0))

    @property
    def change_pct(self) -> float:
        """Last price over the first, less one, in per cent."""
        return float(self.trades[-1].price / self.trades[0].price - 1) * 100


def window(market: Market, start: int, end: int) -> Bar:
    """Return the trades of [start, end), ms since the epoch."""
    return Bar([trade for trade in market.trades if start <= trade.ts < end])


def window_of(market: Market, row: Row) -> Bar:
    """Return the trades of an event and check the figures the truth gives."""
    bar = window(market, to_ms(row["start"]), to_ms(row["end"]))
    assert float(bar.total) == pytest.approx(row["notional"], abs=1e-6)
    assert float(bar.delta) == pytest.approx(row["delta_notional"], abs=1e-6)
    assert bar.change_pct == pytest.approx(row["change_pct"], abs=1e-6)
    assert len(bar.trades) == row["trades"]
    assert float(bar.trades[0].price) == row["open"]
    assert float(bar.trades[-1].price) == row["price"]
    return bar


def ratio_of(market: Market, row: Row) -> float:
    """Return a minute's notional over the median of the 100 minutes before it."""
    start = to_ms(row["start"])
    totals: dict[int, Decimal] = {}
    for trade in market.trades:
        if trade.ts < start:
            minute = trade.ts // MINUTE_MS
            totals[minute] = totals.get(minute, Decimal(0)) + trade.notional
    prior = [totals[minute] for minute in sorted(totals)[-100:]]
    assert len(prior) == 100
    ratio = float(window_of(market, row).total / statistics.median(prior))
    assert ratio == pytest.approx(row["ratio"], abs=1e-6)
    return ratio


def sign(row: Row) -> int:
    """Return +1 where the row's takers buy."""
    return {"buy": 1, "sell": -1}[row["side"]]


def test_every_kind_of_event_is_planted(market: Market) -> None:
    assert Counter(row["event"] for row in market.truth) == {
        "burst": 2,
        "absorption": 2,
        "divergence": 2,
        "wall_stands": 2,
        "wall_pulled": 2,
        "whale": 5,
        "trend": 1,
        "exhaustion": 1,
        "quiet_hour": 1,
    }
    assert all(row["simulated"] is True for row in market.truth)
    starts = [row["start"] for row in market.truth]
    assert starts == sorted(starts)


def test_events_are_well_apart(market: Market) -> None:
    for before, after in itertools.pairwise(market.truth):
        if after["event"] != "exhaustion":
            assert to_ms(after["start"]) - to_ms(before["end"]) >= 10 * MINUTE_MS


def test_bursts(market: Market) -> None:
    for row in market.events("burst"):
        assert ratio_of(market, row) > 4
        assert window_of(market, row).delta * sign(row) > 0


def test_absorptions(market: Market) -> None:
    rows = market.events("absorption")
    for row in rows:
        bar = window_of(market, row)
        assert ratio_of(market, row) > 2
        assert abs(bar.change_pct) < 0.1
        assert bar.delta * sign(row) >= bar.total / 2
        assert {row["side"], row["absorbed_by"]} == {"buy", "sell"}
    assert {row["side"] for row in rows} == {"buy", "sell"}


def test_divergences(market: Market) -> None:
    rows = market.events("divergence")
    for row in rows:
        bar = window_of(market, row)
        assert -bar.change_pct * sign(row) >= 0.05
        assert bar.delta * sign(row) >= bar.total / 5
        assert row["type"] == ("bearish" if bar.change_pct > 0 else "bullish")
    assert {row["type"] for row in rows} == {"bearish", "bullish"}


def test_whales_are_all_planted_and_one_is_exact(market: Market) -> None:
    whales = [trade for trade in market.trades if trade.notional >= 100_000]
    told = [int(row["trade_id"]) for row in market.events("whale")]
    assert [trade.trade_id for trade in whales] == told
    for trade, row in zip(whales, market.events("whale"), strict=True):
        assert (trade.ts, float(trade.price)) == (to_ms(row["start"]), row["price"])
        assert float(trade.notional) == row["notional"]
        assert trade.is_buy == (row["side"] == "buy")
    assert [trade.notional for trade in whales].count(Decimal(100_000)) == 1


def test_standing_walls_hold_and_turn_the_price(market: Market) -> None:
    rows = market.events("wall_stands")
    for row in rows:
        start, end = to_ms(row["start"]), to_ms(row["end"])
        standing = market.book.walls[row["side"], row["price"]]
        assert (standing.first_ts, standing.gone_ts, standing.breaks) == (start, end, 0)
        assert standing.sizes == {row["contracts"]}
        assert end - start >= 10 * MINUTE_MS
        assert row["notional"] >= max(250_000, 5 * standing.median_notional)
        tops = [top for top in market.book.tops if start <= top[0] < end]
        best = [ask if row["side"] == "ask" else bid for _, _, bid, _, ask, _ in tops]
        away = [(row["price"] - price) * (1 if row["side"] == "ask" else -1) for price in best]
        assert min(away) == 0
        assert 8 < away[-1] / row["price"] * 10_000 < 50
        assert max(away) / row["price"] * 10_000 < 50
        later = window(market, end, end + MINUTE_MS)
        assert all(abs(float(trade.price) - row["price"]) > 10 for trade in later.trades)
    assert {row["side"] for row in rows} == {"bid", "ask"}


def test_pulled_walls_go_before_the_price_comes(market: Market) -> None:
    rows = market.events("wall_pulled")
    for row in rows:
        start, end = to_ms(row["start"]), to_ms(row["end"])
        standing = market.book.walls[row["side"], row["price"]]
        assert (standing.first_ts, standing.gone_ts, standing.breaks) == (start, end, 0)
        assert MINUTE_MS < end - start < 5 * MINUTE_MS
        assert row["notional"] > max(2_000_000, 5 * standing.median_notional)
        is_ask = row["side"] == "ask"
        during = window(market, start, end)
        assert all((float(trade.price) < row["price"]) == is_ask for trade in during.trades)
        after = window(market, end, end + 6 * MINUTE_MS)
        reached = [(float(trade.price) >= row["price"]) == is_ask for trade in after.trades]
        assert any(reached)
    assert {row["side"] for row in rows} == {"bid", "ask"}


def test_trend_and_its_exhaustion(market: Market) -> None:
    (trend,) = market.events("trend")
    (tired,) = market.events("exhaustion")
    side = sign(trend)
    bar = window_of(market, trend)
    assert trend["end"] == tired["start"]
    assert to_ms(trend["end"]) - to_ms(trend["start"]) == 60 * MINUTE_MS
    assert bar.change_pct * side >= 0.8
    assert bar.delta * side >= bar.total / 10
    assert abs(window_of(market, tired).change_pct) < 0.1

    first = to_ms(tired["start"])
    bars = [
        window(market, first + bar * 5 * MINUTE_MS, first + (bar + 1) * 5 * MINUTE_MS)
        for bar in range(-1, 4)
    ]
    for before, after in itertools.pairwise(bars):
        assert after.total < before.total * 7 / 10
        prices = [trade.price for trade in after.trades]
        low, high, ends = min(prices), max(prices), (prices[0], prices[-1])
        wick = high - max(ends) if side > 0 else min(ends) - low
        assert wick > (high - low) * 4 / 10
    told = tired["bar_notionals"]
    assert told == pytest.approx([float(after.total) for after in bars[1:]], abs=1e-6)


def test_quiet_hour(market: Market) -> None:
    (row,) = market.events("quiet_hour")
    start, end = to_ms(row["start"]), to_ms(row["end"])
    bar = window(market, start, end)
    traded = {trade.ts // MINUTE_MS for trade in bar.trades}
    before = window(market, start - 60 * MINUTE_MS, start)
    assert end - start == 60 * MINUTE_MS
    assert len(bar.trades) == row["trades"] < len(before.trades) / 10
    assert 60 - len(traded) == row["empty_minutes"] >= 5


@pytest.mark.parametrize("speed", [0.4, 12.0])
def test_other_speeds_carry_the_same_events(tmp_path: Path, speed: float) -> None:
    write_market(tmp_path, speed=speed, books=False, quotes=False)
    names = {row["event"] for row in rows_of(path_of(tmp_path, "truth"))}
    assert names == {
        "burst",
        "absorption",
        "divergence",
        "whale",
        "trend",
        "exhaustion",
        "quiet_hour",
    }
