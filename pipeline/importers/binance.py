"""Archives of data.binance.vision: trades, aggTrades and bookTicker, of days or months.

Spot files have no header, carry `is_best_match` and, since 2025, microseconds; futures files have
a header since 2022 and milliseconds. The archive's name tells the instrument, but not the market:
its columns do, or the folders it was stored in (`spot`, `futures/um`, `futures/cm`).
"""

from __future__ import annotations

import re

from pipeline.importers.form import BUYER_IS_MAKER, Bare, Format, Seen, Where
from pipeline.importers.records import AGGREGATES, QUOTES, TRADES

EXCHANGE = "binance"
_NAME = re.compile(r"([^-]+)-(?:trades|aggTrades|bookTicker)-\d{4}-\d\d(-\d\d)?")
_FUTURES = {"um", "cm", "futures", "option"}
_SPOT_ONLY = {"is_best_match", "isbestmatch"}


def _where(seen: Seen) -> Where:
    name = _NAME.match(seen.file)
    return Where(EXCHANGE, _market(seen), name[1] if name else None)


def _market(seen: Seen) -> str:
    if seen.folders & _FUTURES:
        return "perps"
    if "spot" in seen.folders or _SPOT_ONLY & set(seen.names):
        return "spot"
    return "perps"


_TRADE = {
    "id": "id",
    "price": "price",
    "qty": "size",
    "time": "time",
    "is_buyer_maker": "side",
}
_AGGREGATE = {
    "agg_trade_id": "id",
    "price": "price",
    "quantity": "size",
    "first_trade_id": "first_id",
    "last_trade_id": "last_id",
    "transact_time": "time",
    "is_buyer_maker": "side",
}
_TICKER = {
    "update_id": "id",
    "best_bid_price": "bid",
    "best_bid_qty": "bid_size",
    "best_ask_price": "ask",
    "best_ask_qty": "ask_size",
    "transaction_time": "time",
}
_TRADE_COLUMNS = ("id", "price", "size", "", "time", "side")
_AGGREGATE_COLUMNS = ("id", "price", "size", "first_id", "last_id", "time", "side")

FORMATS = (
    Format(
        name="binance-trades",
        text="trades of data.binance.vision, spot and futures",
        kind="trades",
        variant=TRADES,
        where=_where,
        header=frozenset(_TRADE),
        roles=_TRADE,
        bare=(Bare(_TRADE_COLUMNS, "perps"), Bare((*_TRADE_COLUMNS, ""), "spot")),
        words=BUYER_IS_MAKER,
    ),
    Format(
        name="binance-aggtrades",
        text="aggTrades of data.binance.vision, spot and futures",
        kind="trades",
        variant=AGGREGATES,
        where=_where,
        header=frozenset(_AGGREGATE),
        roles=_AGGREGATE,
        bare=(Bare(_AGGREGATE_COLUMNS, "perps"), Bare((*_AGGREGATE_COLUMNS, ""), "spot")),
        words=BUYER_IS_MAKER,
    ),
    Format(
        name="binance-bookticker",
        text="bookTicker of data.binance.vision, futures",
        kind="quotes",
        variant=QUOTES,
        where=_where,
        header=frozenset(_TICKER),
        roles=_TICKER,
    ),
)
