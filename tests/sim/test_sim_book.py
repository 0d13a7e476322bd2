"""The simulated book, rebuilt by plain dicts, agrees with trades and quotes."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .replay import Market


def test_the_book_is_chained_and_never_crossed(market: Market) -> None:
    assert len(market.book.tops) > 86_400 / 5
    assert market.book.faults == []


def test_trades_are_at_the_touch(market: Market) -> None:
    tops = market.book.tops
    at, off = 0, []
    for trade in market.trades:
        while at + 1 < len(tops) and tops[at + 1][0] <= trade.ts:
            at += 1
        _, _, bid, _, ask, _ = tops[at]
        if float(trade.price) != (ask if trade.is_buy else bid):
            off.append(trade.trade_id)
    assert tops[0][0] <= market.trades[0].ts
    assert off == []


def test_quotes_are_every_change_of_the_top(market: Market) -> None:
    expected = []
    last: tuple[float, str, float, str] | None = None
    for ts, seq, bid, bid_size, ask, ask_size in market.book.tops:
        if (bid, bid_size, ask, ask_size) != last:
            last = (bid, bid_size, ask, ask_size)
            expected.append((ts, seq, *last))
    found = []
    for row in market.quotes:
        (data,) = row["data"]
        (bid_level,), (ask_level,) = data["bids"], data["asks"]
        found.append(
            (
                int(data["ts"]),
                data["seqId"],
                float(bid_level[0]),
                bid_level[1],
                float(ask_level[0]),
                ask_level[1],
            )
        )
    assert found == expected


def test_prices_stay_around_the_anchor(market: Market) -> None:
    assert all(58_000 < trade.price < 67_000 for trade in market.trades)
    assert all(trade.price % Decimal("0.1") == 0 for trade in market.trades)
