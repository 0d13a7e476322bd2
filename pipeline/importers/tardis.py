"""Datasets of tardis.dev: trades and incremental_book_L2, of any exchange it records.

Times are microseconds. A file holds the rows that arrived on one UTC day, in the order in which
they arrived, so `local_timestamp` tells the day and `timestamp` is the event's time. Amounts are
in the exchange's own unit.
"""

from __future__ import annotations

import re

from pipeline.importers.form import BUY, NO, SELL, YES, Bare, Format, Seen, Where
from pipeline.importers.records import BOOKS, TRADES

_PLACES = {
    "binance": ("binance", "spot"),
    "binance-futures": ("binance", "perps"),
    "binance-delivery": ("binance", "perps"),
    "okex": ("okx", "spot"),
    "okex-swap": ("okx", "perps"),
    "okex-futures": ("okx", "perps"),
    "coinbase": ("coinbase", "spot"),
}
_IN_CONTRACTS = re.compile(
    r"bitmex|deribit|cryptofacilities|huobi-dm.*|phemex|gate-io-futures|kucoin-futures|ftx-none"
)
_SPOT = re.compile(
    r".*-spot|bitstamp|kraken|gemini|bitfinex|bithumb|upbit|bitflyer|poloniex|gate-io"
)


def _where(seen: Seen) -> Where:
    name, symbol = seen.first.get("exchange", ""), seen.first.get("inst")
    exchange, market = _PLACES.get(name, (name or None, None))
    if market is None and exchange is not None:
        market = "spot" if _SPOT.fullmatch(exchange) else "perps"
        exchange = exchange.removesuffix("-spot")
    return Where(exchange, market, symbol)


def contracts_note(exchange: str, inst_id: str) -> str | None:
    """Why the amounts of an exchange are no base units, which plain records must hold; or None."""
    is_inverse = exchange == "bybit" and inst_id.endswith("USD")
    if _IN_CONTRACTS.fullmatch(exchange) or is_inverse:
        return f"amounts of {exchange} {inst_id} are in contracts, plain records hold base units"
    return None


_TRADE = {
    "exchange": "exchange",
    "symbol": "inst",
    "timestamp": "time",
    "local_timestamp": "arrival",
    "id": "id",
    "side": "side",
    "price": "price",
    "amount": "size",
}
_BOOK = {
    "exchange": "exchange",
    "symbol": "inst",
    "timestamp": "time",
    "local_timestamp": "arrival",
    "is_snapshot": "is_snapshot",
    "side": "side",
    "price": "price",
    "amount": "amount",
}

FORMATS = (
    Format(
        name="tardis-trades",
        text="trades of tardis.dev",
        kind="trades",
        variant=TRADES,
        where=_where,
        header=frozenset(_TRADE),
        roles=_TRADE,
        bare=(Bare(tuple(_TRADE.values())),),
        words={"buy": BUY, "sell": SELL},
        kept=("arrival", "time"),
    ),
    Format(
        name="tardis-book",
        text="incremental_book_L2 of tardis.dev, for Binance, OKX and Coinbase",
        kind="books",
        variant=BOOKS,
        where=_where,
        header=frozenset(_BOOK),
        roles=_BOOK,
        bare=(Bare(tuple(_BOOK.values())),),
        words={"bid": BUY, "ask": SELL, "true": YES, "false": NO},
        kept=("arrival", "time", "is_snapshot", "side"),
    ),
)
